//! Notifications that are repeated, out of order, early, late, wrong, or of nobody.

use fanfare_mail::{account::AccountState, message::HistoryId};
use serde_json::json;

use crate::scene::{ANN, World, eventually};

fn data(id: u64) -> Vec<u8> {
    json!({"emailAddress": ANN, "historyId": id})
        .to_string()
        .into_bytes()
}

#[test]
fn a_thousand_repeated_and_reordered_notifications_are_few_walks() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    node.settled();
    let walks = node.asked("history");
    let notified = node.metric("webhooks_accepted", None);
    world.push_wildly_to(&node);
    // Google takes its time, so that notifications gather.
    world.slow("history", 30);
    let start = node.account(&user).history_id.0;
    for number in 0..940 {
        world.google.publish(&data(start + number % 90));
        if number % 16 == 0 {
            world.receive(1);
        }
    }
    eventually("all are acknowledged", || {
        let state = world.control("state", &json!({}));
        (state["waiting"] == 0).then_some(())
    });
    world.slow("history", 0);
    world.agree(&node, &user);
    node.settled();
    let walks = node.asked("history") - walks;
    let notified = node.metric("webhooks_accepted", None) - notified;
    assert!(notified >= 990, "{notified} notifications");
    assert!(
        walks * 4 < notified,
        "{walks} walks for {notified} notifications"
    );
    assert_eq!(node.count_events(&user, "new_email"), 59);
    assert_eq!(node.dead_letters(), 0);
}

#[test]
fn a_notification_during_a_walk_is_not_dropped() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    node.settled();
    world.slow("messages", 400);
    let walks = node.asked("history");
    world.receive(1);
    eventually("a walk has read the history", || {
        (node.asked("history") > walks).then_some(())
    });
    // It has its history already, and is asking for the first message.
    world.receive(1);
    eventually("both are told", || {
        (node.count_events(&user, "new_email") == 2).then_some(())
    });
    world.agree(&node, &user);
}

#[test]
fn an_id_from_the_past_asks_nothing_of_google() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    world.receive(1);
    world.agree(&node, &user);
    node.settled();
    let place = node.account(&user).history_id;
    let (asked, told) = (
        node.metric("mail_google_requests", None),
        node.events(&user),
    );
    for id in [0, 1, place.0 - 1, place.0] {
        world.google.publish(&data(id));
    }
    eventually("they are known", || {
        let waiting = world.control("state", &json!({}))["waiting"] == 0;
        let known = node.metric("mail_notifications", Some(("outcome", "known")));
        (waiting && known > 0).then_some(())
    });
    node.settled();
    assert_eq!(node.metric("mail_google_requests", None), asked);
    assert_eq!(node.account(&user).history_id, place);
    assert_eq!(node.events(&user), told);
}

#[test]
fn an_id_that_the_history_does_not_reach_is_waited_for_and_then_left_to_a_later_look() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    node.settled();
    let place = node.account(&user).history_id;
    world.google.publish(&data(place.0 + 500));
    eventually("it is waited for", || {
        (node.metric("mail_walks", Some(("end", "behind"))) > 0).then_some(())
    });
    // Meanwhile something happens, and is told all the same.
    world.receive(1);
    world.agree(&node, &user);
    node.settled();
    assert_eq!(node.dead_letters(), 0);
    assert_eq!(node.account(&user).state, AccountState::Live);
    assert!(node.account(&user).history_id > place);
    assert!(node.account(&user).history_id < HistoryId(place.0 + 500));
}

#[test]
fn notifications_of_nobody_and_of_nothing_are_answered_as_documented() {
    let world = World::new();
    let node = world.node("a");
    world.push_to(&node);
    let unknown = json!({"emailAddress": "eve@example.com", "historyId": 7}).to_string();
    world.google.publish(unknown.as_bytes());
    eventually("it is counted", || {
        (node.metric("mail_notifications", Some(("outcome", "unknown"))) == 1).then_some(())
    });
    node.settled();
    assert_eq!(world.control("state", &json!({}))["lastStatus"], 200);
    let envelope = |id: &str, data: &str| json!({"message": {"data": data, "messageId": id}});
    // {"a":1}, and `{"emailAddress":"a@b","historyId":"x"}`.
    for (id, data, status) in [
        ("1", "eyJhIjoxfQ==", 400),
        (
            "2",
            "eyJlbWFpbEFkZHJlc3MiOiJhQGIiLCJoaXN0b3J5SWQiOiJ4In0=",
            400,
        ),
        ("3", "%%%", 400),
    ] {
        assert_eq!(node.post(&world, &envelope(id, data)), status, "{data}");
    }
    let large = "A".repeat(100_000);
    assert_eq!(node.post(&world, &envelope("4", &large)), 413);
    assert_eq!(node.dead_letters(), 0);
}
