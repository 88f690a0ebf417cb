//! Google that refuses, rests, is away, or lets us in no more.

use std::time::Duration;

use fanfare_mail::account::AccountState;
use serde_json::json;

use crate::{
    on_both,
    scene::{ANN, Setup, World, eventually},
};

on_both!(
    a_grant_that_is_revoked_is_told_once_and_a_new_one_goes_on,
    a_mailbox_that_is_disconnected_leaves_nothing,
);

#[test]
fn quota_and_errors_of_the_server_are_waited_out() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    for (place, status, reason) in [
        ("history", 429, ""),
        ("history", 403, "userRateLimitExceeded"),
        ("messages", 429, ""),
        ("messages", 503, ""),
        ("history", 500, ""),
    ] {
        world.fail(place, 2, status, reason);
        world.receive(2);
        world.agree(&node, &user);
    }
    node.settled();
    assert!(node.metric("mail_walks", Some(("end", "slow"))) > 0);
    assert_eq!(node.count_events(&user, "new_email"), 10);
    assert_eq!(node.account(&user).state, AccountState::Live);
    assert_eq!(node.dead_letters(), 0);
}

#[test]
fn while_google_is_away_notifications_end_and_the_keeper_looks_later() {
    let world = World::new();
    let node = world.node_with(
        "a",
        &Setup {
            poll_after: Duration::from_secs(2),
            ..Setup::default()
        },
    );
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    world.fail("history", 1_000_000, 500, "");
    world.receive(3);
    eventually("it is left to a later look", || {
        (node.metric("mail_notifications", Some(("outcome", "postponed"))) > 0).then_some(())
    });
    world.lose_pushes();
    node.settled();
    assert_eq!(node.dead_letters(), 0);
    assert_eq!(node.count_events(&user, "new_email"), 0);
    world.fail("history", 0, 500, "");
    world.agree(&node, &user);
    assert_eq!(node.count_events(&user, "new_email"), 3);
    assert_eq!(node.dead_letters(), 0);
}

fn a_grant_that_is_revoked_is_told_once_and_a_new_one_goes_on(world: &World) {
    let ids = world.receive(5);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(world);
    world.control("revoke", &json!({"address": ANN}));
    world.receive(1);
    eventually("it is told", || {
        (node.count_events(&user, "error") == 1).then_some(())
    });
    assert_eq!(node.account(&user).state, AccountState::Reconnect);
    let errors = node.events(&user);
    let error = errors
        .iter()
        .find(|event| event["type"] == "error")
        .unwrap();
    assert_eq!(error["data"]["code"], "reconnect");
    // Nothing is due of it, so that many of those cost nothing.
    let due = node.query(
        "SELECT count(*) FROM mail_accounts WHERE poll_at < 9000000000000000000 OR watch_renew_at < 9000000000000000000",
    );
    assert_eq!(due[0].int(0), Some(0));
    // Meanwhile the notifications come to nothing.
    let parked = || node.metric("mail_notifications", Some(("outcome", "parked")));
    let before = parked();
    world.modify(&ids[0], &["STARRED"], &[]);
    eventually("it is parked", || (parked() > before).then_some(()));
    assert!(!node.block_on(node.sync.sync_now(&user)).unwrap());
    node.settled();

    assert_eq!(node.connect(ANN), user);
    world.agree(&node, &user);
    assert_eq!(node.account(&user).state, AccountState::Live);
    // Where it was: not everything again.
    assert_eq!(node.metric("mail_resyncs", None), 1);
    assert_eq!(node.count_events(&user, "new_email"), 6);
    assert_eq!(node.count_events(&user, "error"), 1);
}

fn a_mailbox_that_is_disconnected_leaves_nothing(world: &World) {
    world.receive(5);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(world);
    let grant = node.block_on(node.sync.grant(&user)).unwrap().unwrap();
    assert!(node.block_on(node.sync.disconnect(&user)).unwrap());
    assert_eq!(node.block_on(node.sync.account(&user)).unwrap(), None);
    assert!(node.rows(&user).is_empty());
    assert!(
        node.block_on(node.google.profile(&grant)).is_err(),
        "revoked"
    );
    assert!(!node.block_on(node.sync.disconnect(&user)).unwrap());
    assert!(!node.block_on(node.sync.sync_now(&user)).unwrap());
    let told = node.events(&user).len();
    let notification = json!({"emailAddress": ANN, "historyId": u32::MAX}).to_string();
    world.google.publish(notification.as_bytes());
    eventually("nobody knows it", || {
        (node.metric("mail_notifications", Some(("outcome", "unknown"))) > 0).then_some(())
    });
    assert_eq!(node.events(&user).len(), told);
    // A mailbox that Google does not let us leave is left all the same.
    assert_eq!(node.connect(ANN), user);
    node.is_live(&user);
    world.fail("any", 1_000_000, 500, "");
    assert!(node.block_on(node.sync.disconnect(&user)).unwrap());
    assert_eq!(node.block_on(node.sync.account(&user)).unwrap(), None);
}
