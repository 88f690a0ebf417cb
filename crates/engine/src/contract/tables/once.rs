//! Idempotency keys of drafts in transactions.

use tokio::task::JoinSet;

use crate::port::{Outcome, TransactError, Transacted};

use super::{MEMBERS, Nodes, Room, VERSION, numbers};

/// The places and numbers of what was committed before.
fn before(answer: Result<Transacted, TransactError>) -> Vec<Option<Outcome>> {
    match answer {
        Ok(Transacted::Before { firsts, .. }) => {
            assert!(firsts.iter().flatten().all(|first| first.duplicate));
            firsts
        }
        other => panic!("not a duplicate: {other:?}"),
    }
}

pub(super) async fn a_command_that_is_sent_again_has_no_second_effect(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let command = || (vec![room.step_from(0)], vec![room.keyed(1, "first")]);
    let (steps, drafts) = command();
    let (_, committed) = nodes.a.commit(steps, drafts).await;
    for node in [&nodes.b, &nodes.a] {
        // Its guard no longer holds, but that is its own doing.
        let (steps, drafts) = command();
        let firsts = before(node.transact(steps, drafts).await);
        assert_eq!(firsts.len(), 1);
        let first = firsts[0].unwrap();
        assert_eq!(
            (first.seq, first.time),
            (committed.outcomes[0].seq, committed.outcomes[0].time)
        );
        // Nor does a row that it made itself stand in its way, nor would a guard that holds let it through.
        for steps in [vec![room.add()], vec![room.step_from(1)], Vec::new()] {
            let drafts = vec![room.draft(2), room.keyed(1, "first"), room.keyed(3, "new")];
            let firsts = before(node.transact(steps, drafts).await);
            let told: Vec<_> = firsts.iter().map(|it| it.map(|it| it.seq)).collect();
            assert_eq!(told, [None, Some(first.seq), None]);
        }
    }
    assert_eq!(nodes.a.number(VERSION, &room.id).await, 1);
    assert_eq!(nodes.b.read(&room.channel).await, ["1"]);
    // A key of its own is new, and the one beside it in the refused ones was not kept.
    let again = vec![room.keyed(4, "new")];
    nodes.b.commit(vec![room.step_from(1)], again).await;
}

pub(super) async fn a_command_raced_by_all_nodes_is_done_once(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    for round in 0..10 {
        let mut racers = JoinSet::new();
        for number in 0..6 {
            let node = nodes.both()[number % 2].clone();
            let steps = vec![room.step_from(round)];
            let drafts = vec![room.keyed(round, &format!("key-{round}"))];
            racers.spawn(async move { node.transact(steps, drafts).await });
        }
        let mut won = 0;
        for answer in racers.join_all().await {
            match answer {
                Ok(Transacted::Now { .. }) => won += 1,
                answer => assert!(before(answer)[0].is_some()),
            }
        }
        assert_eq!(won, 1);
    }
    assert_eq!(nodes.a.number(VERSION, &room.id).await, 10);
    assert_eq!(nodes.b.read(&room.channel).await.len(), 10);
}

pub(super) async fn keys_are_those_of_the_log(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let appended = nodes.a.log.append(&[room.keyed(1, "appended")]).await;
    assert_eq!(numbers(&appended.unwrap()), [1]);
    let again = nodes
        .b
        .transact(vec![room.step_from(0)], vec![room.keyed(2, "appended")]);
    assert_eq!(before(again.await)[0].unwrap().seq.0, 1);
    let steps = vec![room.step_from(0)];
    nodes
        .b
        .commit(steps, vec![room.keyed(2, "transacted")])
        .await;
    let again = nodes.a.log.append(&[room.keyed(3, "transacted")]).await;
    let again = again.unwrap().outcomes[0];
    assert_eq!((again.seq.0, again.duplicate), (2, true));
    // A key counts in its channel only.
    let other = Room::new();
    let steps = vec![room.step_from(1)];
    let (_, committed) = nodes
        .a
        .commit(steps, vec![other.keyed(1, "appended")])
        .await;
    assert!(!committed.outcomes[0].duplicate);
}

pub(super) async fn a_refused_command_is_not_remembered(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let drafts = || vec![room.keyed(1, "key")];
    let refusal = nodes.a.refusal(vec![room.step_from(3)], drafts()).await;
    assert!(matches!(refusal, TransactError::Refused { step: 0 }));
    let refusal = nodes.a.refusal(vec![room.add()], drafts()).await;
    assert!(matches!(refusal, TransactError::Exists { step: 0 }));
    let (_, committed) = nodes.b.commit(vec![room.member("x")], drafts()).await;
    assert_eq!(numbers(&committed), [1]);
    assert_eq!(nodes.b.number(MEMBERS, &room.id).await, 1);
}

pub(super) async fn a_key_twice_in_one_transaction(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let drafts = vec![room.keyed(1, "k"), room.keyed(2, "k"), room.draft(3)];
    let (_, committed) = nodes.a.commit(vec![room.step_from(0)], drafts).await;
    let told: Vec<_> = committed
        .outcomes
        .iter()
        .map(|it| (it.seq.0, it.duplicate))
        .collect();
    assert_eq!(told, [(1, false), (1, true), (2, false)]);
    assert_eq!(nodes.b.read(&room.channel).await, ["1", "3"]);
    let again = vec![room.keyed(1, "k"), room.keyed(2, "k")];
    let firsts = before(nodes.b.transact(Vec::new(), again).await);
    assert!(firsts.iter().all(|first| first.unwrap().seq.0 == 1));
}
