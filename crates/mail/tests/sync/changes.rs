//! What happens at Gmail is told, whatever it is and however much.

use std::collections::BTreeSet;

use fanfare_mail::sync::MessagesQuery;
use serde_json::json;

use crate::{
    on_both,
    scene::{ANN, World, eventually},
};

on_both!(
    all_four_kinds_of_change_are_told_with_the_message_as_it_is_then,
    messages_are_listed_by_label_in_pages_and_counted,
);

fn all_four_kinds_of_change_are_told_with_the_message_as_it_is_then(world: &World) {
    let old = world.receive(3);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(world);
    assert_eq!(node.count_events(&user, "new_email"), 3);

    let new = world.receive(1).remove(0);
    world.agree(&node, &user);
    world.modify(&new, &["STARRED"], &["UNREAD"]);
    world.agree(&node, &user);
    world.modify(&old[0], &["TRASH"], &["INBOX"]);
    world.delete(&old[1]);
    world.agree(&node, &user);

    let events = node.events(&user);
    let of_new: Vec<_> = events
        .iter()
        .filter(|it| it["data"]["id"] == *new)
        .collect();
    assert_eq!(of_new[0]["type"], "new_email");
    assert_eq!(of_new[0]["data"]["from"], "Bob <bob@example.com>");
    assert_eq!(of_new[0]["data"]["subject"], "Hello");
    assert_eq!(of_new[0]["data"]["snippet"], "How are you?");
    let added: BTreeSet<&str> = of_new[1..]
        .iter()
        .flat_map(|it| it["data"]["changes"]["added"].as_array().unwrap())
        .map(|label| label.as_str().unwrap())
        .collect();
    assert_eq!(added, BTreeSet::from(["STARRED"]));
    assert_eq!(node.count_events(&user, "email_delete"), 1);
    // Each walk that told something ends with the word that all is told.
    assert_eq!(events.last().unwrap()["type"], "sync_complete");
    let account = node.account(&user);
    let end = events.last().unwrap()["data"]["historyId"].clone();
    assert_eq!(end, json!(account.history_id));
    assert_eq!(
        node.metric("mail_changes", Some(("kind", "email_delete"))),
        1
    );
    assert_eq!(node.dead_letters(), 0);
}

#[test]
fn a_history_of_many_pages_is_told_to_its_end() {
    let world = World::new();
    let ids = world.receive(5);
    let node = world.node("a");
    world.lose_pushes();
    let user = node.connect_to_end(&world);
    let pages = node.asked("history");
    for round in 0..150 {
        for (number, id) in ids.iter().enumerate() {
            match (round + number) % 2 {
                0 => world.modify(id, &["STARRED"], &["UNREAD"]),
                _ => world.modify(id, &["UNREAD"], &["STARRED"]),
            }
        }
    }
    world.receive(60);
    node.sync_now(&user);
    world.agree(&node, &user);
    node.settled();
    // 500 records to a page.
    assert_eq!(node.asked("history") - pages, 4);
    assert!(node.count_events(&user, "email_update") > 1400);
    assert_eq!(node.count_events(&user, "new_email"), 65);
}

fn messages_are_listed_by_label_in_pages_and_counted(world: &World) {
    let ids = world.receive(25);
    for id in &ids[..10] {
        world.modify(id, &["STARRED"], &["UNREAD"]);
    }
    let odd = world.control("label", &json!({"address": ANN, "name": "50%_odd"}));
    let odd = odd["id"].as_str().unwrap();
    world.modify(&ids[24], &[odd], &[]);
    let node = world.node("a");
    world.push_to(&node);
    let user = node.connect_to_end(world);
    let ask = |label, before: Option<&str>, limit| {
        let query = MessagesQuery {
            label,
            visible: false,
            before,
            limit,
        };
        node.block_on(node.sync.messages(&user, query))
    };
    let all = ask(None, None, 10).unwrap();
    assert_eq!((all.total, all.unread, all.messages.len()), (25, 15, 10));
    let dates: Vec<_> = all
        .messages
        .iter()
        .map(|it| (it.date, it.id.clone()))
        .collect();
    assert!(
        dates.windows(2).all(|pair| pair[0] > pair[1]),
        "newest first"
    );

    let first = ask(Some("STARRED"), None, 7).unwrap();
    assert_eq!(
        (first.total, first.unread, first.messages.len()),
        (10, 0, 7)
    );
    let second = ask(Some("STARRED"), first.next.as_deref(), 7).unwrap();
    assert_eq!((second.messages.len(), second.next.as_deref()), (3, None));
    let both = first.messages.iter().chain(&second.messages);
    let seen: BTreeSet<_> = both.map(|it| it.id.clone()).collect();
    assert_eq!(seen, ids[..10].iter().cloned().collect());

    assert_eq!(ask(Some(odd), None, 7).unwrap().total, 1);
    for none in ["starred", "STAR", "%", "Label_", "\"", "STARRED\",\"INBOX"] {
        assert_eq!(ask(Some(none), None, 7).unwrap().total, 0, "{none}");
    }
    assert_eq!(ask(None, None, 0).unwrap().messages.len(), 1);
    for bad in ["x", "", "1", "x.y", "1."] {
        assert!(ask(None, Some(bad), 7).is_err(), "{bad}");
    }
    assert_eq!(ask(None, Some("0.a"), 7).unwrap().messages.len(), 0);
}

#[test]
fn long_texts_are_cut_and_large_changes_are_told_in_parts() {
    let world = World::new();
    let node = world.node("a");
    world.lose_pushes();
    let user = node.connect(ANN);
    node.is_live(&user);
    let long = "ä".repeat(50_000);
    let labels: Vec<String> = (0..150)
        .map(|number| format!("{}{number}", "L".repeat(100)))
        .collect();
    let request = json!({"address": ANN, "from": long, "subject": long, "snippet": long,
        "labels": labels, "count": 40});
    world.control("message", &request);
    node.sync_now(&user);
    world.agree(&node, &user);
    let page = node.block_on(node.sync.messages(&user, MessagesQuery::default()));
    let message = page.unwrap().messages.remove(0);
    assert!(
        message.subject.len() <= 1024 && message.from.len() <= 512 && message.snippet.len() <= 1024
    );
    assert!(message.subject.chars().all(|it| it == 'ä'));
    eventually("it is told at its end", || {
        let events = node.events(&user);
        (events.last()?["type"] == "sync_complete").then_some(())
    });
}
