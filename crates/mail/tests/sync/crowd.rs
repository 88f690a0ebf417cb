//! Many mailboxes that take long, and one that does not; a quota that is used up again and again.

use std::time::Duration;

use fanfare_mail::account::AccountState;
use serde_json::json;

use crate::scene::{ANN, Setup, World, eventually};

/// More than a node walks at the same time.
const CROWD: usize = 40;

#[test]
fn a_change_is_told_at_once_while_many_others_are_read_for_the_first_time() {
    let world = World::new();
    let ids = world.receive(3);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(&world);
    node.settled();
    // None of them ends in the time that a test is given.
    world.slow("messages", 8_000);
    let others: Vec<_> = (0..CROWD)
        .map(|number| {
            let address = format!("user{number}@example.com");
            let mail = json!({"address": address, "from": "Bob <bob@example.com>", "subject": "Hello",
                "snippet": "", "count": 200});
            world.control("message", &mail);
            node.connect(&address)
        })
        .collect();
    eventually("those that find no room wait", || {
        (node.metric("mail_walks", Some(("end", "paused"))) > 0).then_some(())
    });
    world.modify(&ids[0], &["STARRED"], &[]);
    eventually("it is told", || {
        (node.count_events(&user, "email_update") == 1).then_some(())
    });
    let is_syncing = |user| node.account(user).state == AccountState::Syncing;
    assert!(others.iter().all(is_syncing), "they are still being read");
    assert_eq!(node.dead_letters(), 0);
}

#[test]
fn a_mailbox_with_more_messages_than_the_quota_of_a_moment_is_read_in_the_end() {
    let world = World::new();
    let node = world.node_with(
        "a",
        &Setup {
            // Of 26 messages fewer than 24 may be asked for in a row.
            units_per_minute: 1_500,
            poll_after: Duration::from_secs(2),
            ..Setup::default()
        },
    );
    world.push_to(&node);
    world.receive(26);
    let user = node.connect(ANN);
    node.is_live(&user);
    world.agree(&node, &user);
    assert_eq!(node.count_events(&user, "new_email"), 26);
    // The same, of the history.
    world.receive(26);
    world.agree(&node, &user);
    assert_eq!(node.dead_letters(), 0);
}
