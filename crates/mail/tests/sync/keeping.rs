//! What happens by itself: looks after silence, and watches that are renewed.

use std::time::Duration;

use fanfare_mail::google::GoogleError;

use crate::{
    on_both,
    scene::{ANN, Setup, World, eventually},
};

on_both!(
    what_no_push_has_told_is_found_after_silence,
    a_watch_is_renewed_by_one_node_when_its_time_comes,
);

fn what_no_push_has_told_is_found_after_silence(world: &World) {
    let setup = Setup {
        poll_after: Duration::from_secs(1),
        ..Setup::default()
    };
    let nodes = [world.node_with("a", &setup), world.node_with("b", &setup)];
    world.lose_pushes();
    let user = nodes[0].connect_to_end(world);
    for _ in 0..3 {
        let new = world.receive(2);
        world.modify(&new[0], &["STARRED"], &["UNREAD"]);
        world.agree(&nodes[1], &user);
    }
    let looks = nodes.iter().map(|node| node.metric("mail_looks", None));
    assert!(looks.sum::<u64>() >= 3);
    assert_eq!(nodes[0].dead_letters(), 0);
}

fn a_watch_is_renewed_by_one_node_when_its_time_comes(world: &World) {
    let nodes = [world.node("a"), world.node("b")];
    world.push_to(&nodes[0]);
    let user = nodes[0].connect_to_end(world);
    let renewed = || {
        let count =
            |node: &crate::scene::Node| node.metric("mail_watches", Some(("outcome", "renewed")));
        nodes.iter().map(count).sum::<u64>()
    };
    let before = renewed();
    // Google has forgotten it, and something happens that nobody tells.
    world.google.mailbox(ANN, |mailbox| mailbox.stop());
    world.receive(2);
    nodes[0].sql("UPDATE mail_accounts SET watch_renew_at = 0, watch_expires = 1");
    eventually("it is renewed", || (renewed() > before).then_some(()));
    let account = eventually("it is written down", || {
        let account = nodes[1].account(&user);
        account.watch_expires.filter(|until| *until > 1)
    });
    assert!(account > 0);
    // What happened meanwhile, and what happens from now on.
    world.agree(&nodes[1], &user);
    world.receive(1);
    world.agree(&nodes[1], &user);
    let due = nodes[0].query("SELECT watch_renew_at, watch_expires FROM mail_accounts");
    let (renew_at, expires) = (due[0].int(0).unwrap(), due[0].int(1).unwrap());
    let day = 24 * 3600 * 1000;
    assert!(renew_at < expires - 5 * day && renew_at > expires - 7 * day + day / 2);
}

#[test]
fn a_watch_that_google_refuses_is_tried_again_and_the_mailbox_is_polled() {
    let world = World::new();
    let node = world.node_with(
        "a",
        &Setup {
            poll_after: Duration::from_secs(1),
            ..Setup::default()
        },
    );
    world.push_to(&node);
    world.fail("watch", 1, 503, "");
    let user = node.connect(ANN);
    node.is_live(&user);
    eventually("the watch has failed", || {
        (node.metric("mail_watches", Some(("outcome", "failed"))) == 1).then_some(())
    });
    eventually("it shows", || {
        (node.metric("mail_accounts_unwatched", None) == 1).then_some(())
    });
    world.receive(2);
    world.agree(&node, &user);
    // A minute later; a test does not wait for it.
    node.sql("UPDATE mail_accounts SET watch_renew_at = 0");
    eventually("it is tried again", || node.account(&user).watch_expires);
    eventually("it shows too", || {
        let live = node.metric("mail_accounts", Some(("state", "live")));
        (live == 1 && node.metric("mail_accounts_unwatched", None) == 0).then_some(())
    });
}

#[test]
fn an_address_belongs_to_whoever_has_connected_it_last() {
    let world = World::new();
    world.receive(3);
    let node = world.node("a");
    world.push_to(&node);
    let before = node.connect_to_end(&world);
    let old_grant = node.block_on(node.sync.grant(&before)).unwrap().unwrap();
    // The same address, of another account at Google.
    let grant = node.sign_in("bob@example.com");
    let after = grant.user.clone();
    node.block_on(node.sync.connect(&grant, &ANN.to_uppercase()))
        .unwrap();
    eventually("the grant of before is taken back", || {
        let asked = node.block_on(node.google.profile(&old_grant));
        matches!(asked, Err(GoogleError::Unauthorised(_))).then_some(())
    });
    node.block_on(node.google.profile(&grant)).unwrap();
    assert_eq!(node.block_on(node.sync.account(&before)).unwrap(), None);
    assert!(node.rows(&before).is_empty());
    assert_eq!(node.account(&after).address, ANN);
    for bad in [
        "",
        "a",
        "ann.example.com",
        &format!("{}@x", "a".repeat(320)),
    ] {
        assert!(
            node.block_on(node.sync.connect(&grant, bad)).is_err(),
            "{bad}"
        );
    }
}
