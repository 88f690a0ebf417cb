//! Channels with an owner: whoever takes a draft, it is committed once, in order, and acknowledged with its number.

use std::sync::atomic::Ordering::SeqCst;

use fanfare_engine::{Metrics, PublishError, port::AppendError};
use fanfare_wire::Seq;

use crate::{
    line::From,
    nodes::{Answer, Cluster, draft, wait_for},
};

/// A cluster in which "room" is contended, and what its nodes are to this channel: the owner, and another one.
fn contended(nodes: usize) -> (Cluster, usize, usize) {
    let cluster = Cluster::start(nodes);
    cluster.join();
    cluster.gates.contended.store(true, SeqCst);
    // Who is who is heard at the first heartbeats; until then everybody commits what it takes.
    let mut tries = 0;
    let taken = |node| metrics(&cluster, node).taken.value();
    while (0..nodes).all(|node| taken(node) == 0) {
        cluster.publish(tries % nodes, "room", 10);
        tries += 1;
        assert!(tries < 1_000_000, "nothing is handed on");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let owner = (0..nodes).find(|node| taken(*node) > 0).unwrap();
    let other = (owner + 1) % nodes;
    wait_for(|| {
        let before = metrics(&cluster, other).forwarded.value();
        cluster.publish(other, "room", 10);
        metrics(&cluster, other).forwarded.value() > before
    });
    (cluster, owner, other)
}

fn metrics(cluster: &Cluster, node: usize) -> &Metrics {
    cluster.engine(node).metrics()
}

fn number(answer: &Answer) -> Seq {
    answer.as_ref().unwrap().seq
}

#[test]
fn what_is_handed_to_the_owner_is_shown_everywhere_in_order() {
    let (cluster, owner, _) = contended(3);
    let mut clients: Vec<_> = (0..3).map(|node| cluster.client(node)).collect();
    let first = cluster.publish(owner, "room", 10);
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    let answers: Vec<_> = (0..300)
        .map(|number| cluster.begin(number % 3, draft("room", 10)))
        .collect();
    let mut numbers: Vec<u64> = answers
        .into_iter()
        .map(|answer| number(&cluster.block_on(answer).unwrap()).0)
        .collect();
    numbers.sort_unstable();
    let due: Vec<u64> = (first.0 + 1..=first.0 + 300).collect();
    assert_eq!(numbers, due);
    for client in &mut clients {
        client.expect("room", first.next(), Seq(first.0 + 300));
    }
}

#[test]
fn an_owner_that_does_not_answer_costs_time_only() {
    let (cluster, owner, other) = contended(2);
    let ids: Vec<_> = (1..=2).map(fanfare_engine::port::peers::PeerId).collect();
    cluster.links.block(ids[owner], true);
    let before = cluster.publish(owner, "room", 10);
    let answers: Vec<_> = (0..20)
        .map(|_| cluster.begin(other, draft("room", 10)))
        .collect();
    for (answer, at) in answers.into_iter().zip(1..) {
        let published = cluster.block_on(answer).unwrap().unwrap();
        assert_eq!(
            (published.seq, published.duplicate),
            (Seq(before.0 + at), false)
        );
    }
    assert!(metrics(&cluster, other).fallbacks.value() > 0);
}

/// The owner has committed, and says so too late: the node commits again, meets its own draft, and says where it is.
#[test]
fn what_was_committed_by_both_is_there_once_and_no_duplicate() {
    let (cluster, owner, other) = contended(2);
    let fallbacks = metrics(&cluster, other).fallbacks.value();
    let before = cluster.publish(owner, "room", 10);
    cluster.gates.appends.close();
    let mut keyed = draft("room", 10);
    keyed.idempotency_key = Some("mine".to_owned());
    let again = keyed.clone();
    let answers = [
        cluster.begin(other, draft("room", 10)),
        cluster.begin(other, keyed),
    ];
    wait_for(|| metrics(&cluster, other).fallbacks.value() >= fallbacks + 2);
    cluster.gates.appends.open();
    for (answer, at) in answers.into_iter().zip(1..) {
        let published = cluster.block_on(answer).unwrap().unwrap();
        assert_eq!(
            (published.seq, published.duplicate),
            (Seq(before.0 + at), false)
        );
    }
    let mut again_elsewhere = again;
    again_elsewhere.id = uuid::Uuid::now_v7();
    let answer = cluster.begin(owner, again_elsewhere);
    let published = cluster.block_on(answer).unwrap().unwrap();
    assert_eq!(
        (published.seq, published.duplicate),
        (Seq(before.0 + 2), true)
    );
    assert_eq!(cluster.publish(owner, "room", 10), Seq(before.0 + 3));
}

/// Sends of one publisher are committed in their order, though its node changes its mind about who commits them.
#[test]
fn nothing_overtakes_while_a_channel_changes_hands() {
    let (cluster, owner, other) = contended(2);
    let ids: Vec<_> = (1..=2).map(fanfare_engine::port::peers::PeerId).collect();
    let mut answers = Vec::new();
    for round in 0..10 {
        cluster.links.block(ids[owner], round % 2 == 0);
        for _ in 0..20 {
            answers.push(cluster.begin(other, draft("room", 10)));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let numbers: Vec<Seq> = answers
        .into_iter()
        .map(|answer| number(&cluster.block_on(answer).unwrap()))
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

/// "Nothing was committed" is no longer true of a draft that another node may have committed.
#[test]
fn a_draft_that_was_handed_on_fails_with_an_unknown_outcome() {
    let (cluster, owner, other) = contended(2);
    let ids: Vec<_> = (1..=2).map(fanfare_engine::port::peers::PeerId).collect();
    cluster.links.block(ids[owner], true);
    cluster.set_available(false);
    let answer = cluster
        .block_on(cluster.begin(other, draft("room", 10)))
        .unwrap();
    let error = answer.unwrap_err();
    assert!(
        matches!(error, PublishError::Append(AppendError::Unknown(_))),
        "{error}"
    );
    cluster.set_available(true);
}

#[test]
fn a_node_that_parts_owns_nothing_and_takes_nothing() {
    let (cluster, owner, other) = contended(2);
    cluster.engine(owner).part();
    let taken = metrics(&cluster, owner).taken.value();
    let before = cluster.publish(owner, "room", 10);
    for at in 1..=10 {
        assert_eq!(cluster.publish(other, "room", 10), Seq(before.0 + at));
    }
    assert_eq!(metrics(&cluster, owner).taken.value(), taken);
}

#[test]
fn a_channel_without_contention_is_committed_where_it_is_taken() {
    let (cluster, _, other) = contended(2);
    cluster.gates.contended.store(false, SeqCst);
    let forwarded = metrics(&cluster, other).forwarded.value();
    for _ in 0..50 {
        cluster.publish(other, "hall", 10);
    }
    assert_eq!(metrics(&cluster, other).forwarded.value(), forwarded);
    let answer = cluster.begin(other, draft("hall", 10));
    cluster.block_on(async {
        cluster.engine(other).flushed().await;
        answer.await.unwrap().unwrap();
    });
}
