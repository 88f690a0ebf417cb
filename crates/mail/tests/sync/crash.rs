//! Nodes that die in the middle, and nodes that do the same at the same time.

use std::{collections::BTreeMap, time::Duration};

use fanfare_engine::port::Transaction;
use fanfare_ingress::{Delivery, SourceName};
use serde_json::json;
use uuid::Uuid;

use crate::{
    on_both,
    scene::{ANN, World, eventually},
};

on_both!(of_two_who_walk_the_same_history_one_commits,);

fn delivery(history_id: u64) -> Delivery {
    let body = json!({"emailAddress": ANN, "historyId": history_id}).to_string();
    Delivery {
        id: Uuid::now_v7(),
        source: SourceName::parse("gmail").unwrap(),
        received: 0,
        attributes: BTreeMap::new(),
        body: body.into(),
        attempt: 1,
    }
}

#[test]
fn a_walk_that_dies_between_its_parts_is_finished_by_another_node() {
    let world = World::new();
    let ids = world.receive(10);
    let first = world.node("a");
    world.lose_pushes();
    let user = first.connect_to_end(&world);
    world.receive(300);
    for id in &ids {
        world.modify(id, &["STARRED"], &["UNREAD"]);
        world.delete(id);
    }
    world.slow("messages", 30);
    first.sync_now(&user);
    eventually("some of it is told", || {
        (first.count_events(&user, "new_email") >= 110).then_some(())
    });
    first.die();
    world.slow("messages", 0);
    let second = world.node("b");
    world.agree(&second, &user);
    assert_eq!(second.count_events(&user, "new_email"), 310);
    assert_eq!(second.count_events(&user, "email_delete"), 10);
}

fn of_two_who_walk_the_same_history_one_commits(world: &World) {
    let (first, second) = (world.node("a"), world.node("b"));
    world.lose_pushes();
    let user = first.connect_to_end(world);
    first.settled();
    let ids = world.receive(130);
    world.modify(&ids[0], &["STARRED"], &["UNREAD"]);
    world.delete(&ids[1]);
    // As if the one's claim had ended, and it did not know.
    let end = world.google.mailbox(ANN, |mailbox| mailbox.history_id());
    let told = delivery(end);
    let handlers = [first.sync.handler(), second.sync.handler()];
    let [one, other] = [&handlers[0], &handlers[1]];
    let both = first.block_on(async { tokio::join!(one.handle(&told), other.handle(&told)) });
    let commit = |rest: Transaction| usize::from(first.transact(rest));
    let outcomes = [both.0, both.1];
    let walked = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let committed: usize = outcomes.into_iter().flatten().map(commit).sum();
    assert!(
        committed <= 1 && walked >= 1,
        "{walked} walked, {committed} committed"
    );
    second.sync_now(&user);
    world.agree(&second, &user);
    assert_eq!(second.count_events(&user, "new_email"), 129);
}

#[test]
fn two_nodes_and_many_changes_at_once() {
    let world = World::new();
    world.receive(20);
    let (first, second) = (world.node("a"), world.node("b"));
    world.push_wildly_to(&first);
    let user = first.connect_to_end(&world);
    for round in 0..15 {
        let new = world.receive(4);
        world.modify(&new[0], &["STARRED"], &["UNREAD"]);
        world.delete(&new[1]);
        match round % 3 {
            0 => world.push_wildly_to(&second),
            1 => world.push_wildly_to(&first),
            _ => second.sync_now(&user),
        }
        first.sync_now(&user);
        std::thread::sleep(Duration::from_millis(20));
    }
    world.agree(&first, &user);
    first.settled();
    assert_eq!(first.dead_letters(), 0);
}
