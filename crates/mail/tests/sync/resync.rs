//! Full syncs: the first one, and those after Gmail has forgotten the history.

use std::collections::BTreeSet;

use fanfare_mail::account::AccountState;

use crate::{
    on_both,
    scene::{Setup, World, eventually},
};

on_both!(
    a_history_that_is_forgotten_is_replaced_by_what_differs,
    a_first_sync_that_is_cut_off_goes_on_on_another_node_where_it_was,
    what_is_kept_is_the_newest_and_what_changed_last,
);

fn a_history_that_is_forgotten_is_replaced_by_what_differs(world: &World) {
    let ids = world.receive(120);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(world);
    node.settled();
    let told = node.events(&user).len();
    world.lose_pushes();
    world.modify(&ids[0], &["STARRED"], &["UNREAD"]);
    world.modify(&ids[1], &["TRASH"], &["INBOX"]);
    world.delete(&ids[2]);
    let new = world.receive(2);
    world
        .google
        .mailbox(crate::scene::ANN, |mailbox| mailbox.expire());
    node.sync_now(&user);
    world.agree(&node, &user);
    node.settled();
    let events = node.events(&user).split_off(told);
    let told: Vec<(String, String)> = events
        .iter()
        .filter(|event| event["data"]["id"].is_string())
        .map(|event| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&event["type"]), text(&event["data"]["id"]))
        })
        .collect();
    let expected: BTreeSet<(String, String)> = [
        ("email_update", &ids[0]),
        ("email_update", &ids[1]),
        ("email_delete", &ids[2]),
        ("new_email", &new[0]),
        ("new_email", &new[1]),
    ]
    .map(|(kind, id)| (kind.to_owned(), id.clone()))
    .into();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(events.last().unwrap()["type"], "sync_complete");
    assert_eq!(node.metric("mail_resyncs", None), 2);
    assert_eq!(node.account(&user).state, AccountState::Live);
    // Afterwards the history goes on.
    world.push_to(&node);
    world.modify(&ids[3], &["STARRED"], &[]);
    world.agree(&node, &user);
    assert_eq!(node.metric("mail_resyncs", None), 2);
}

#[test]
fn what_happens_during_a_full_sync_is_told_once() {
    let world = World::new();
    let ids = world.receive(150);
    let node = world.node("a");
    world.push_to(&node);
    world.slow("messages", 20);
    let user = node.connect(crate::scene::ANN);
    for number in 0..25 {
        eventually("it goes on", || {
            (node.count_events(&user, "new_email") >= number * 4).then_some(())
        });
        world.modify(&ids[number], &["STARRED"], &["UNREAD"]);
        world.modify(&ids[149 - number], &[], &["UNREAD"]);
        world.delete(&ids[50 + number]);
        world.receive(1);
    }
    world.slow("messages", 0);
    node.is_live(&user);
    world.agree(&node, &user);
}

fn a_first_sync_that_is_cut_off_goes_on_on_another_node_where_it_was(world: &World) {
    world.receive(400);
    let first = world.node("a");
    world.lose_pushes();
    // What is left after half of them takes longer than it takes to see that.
    world.slow("messages", 50);
    let user = first.connect(crate::scene::ANN);
    eventually("some of it is told", || {
        (first.count_events(&user, "new_email") >= 200).then_some(())
    });
    assert_eq!(first.account(&user).state, AccountState::Syncing);
    first.die();
    world.slow("messages", 0);
    let second = world.node("b");
    second.is_live(&user);
    world.agree(&second, &user);
    assert_eq!(second.count_events(&user, "new_email"), 400);
    // What the first one has committed was not asked for again.
    assert!(
        second.asked("message") <= 200,
        "{}",
        second.asked("message")
    );
}

fn what_is_kept_is_the_newest_and_what_changed_last(world: &World) {
    let ids = world.receive(40);
    let node = world.node_with(
        "a",
        &Setup {
            keep_messages: 10,
            ..Setup::default()
        },
    );
    world.push_to(&node);
    let user = node.connect(crate::scene::ANN);
    node.is_live(&user);
    let kept = || node.rows(&user).into_keys().collect::<BTreeSet<String>>();
    let newest = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<String>>();
    assert_eq!(kept(), newest(&ids[30..]));
    // Something old is told with what it is now, and followed from then on.
    world.modify(&ids[0], &["STARRED"], &[]);
    eventually("it is told", || {
        (node.count_events(&user, "email_update") == 1).then_some(())
    });
    world.delete(&ids[0]);
    eventually("its end too", || {
        (node.count_events(&user, "email_delete") == 1).then_some(())
    });
    // Nobody was told of this one.
    world.delete(&ids[1]);
    let new = world.receive(30);
    eventually("the newest are kept", || {
        let kept = kept();
        (newest(&new[20..]).is_subset(&kept) && kept.len() <= 20).then_some(())
    });
    node.settled();
    assert_eq!(node.count_events(&user, "email_delete"), 1);
    assert_eq!(node.count_events(&user, "new_email"), 40);
}
