//! Transactions that meet.

use tokio::task::JoinSet;

use crate::port::{
    TransactError, Transacted,
    tables::{Step, Value},
};

use super::{MEMBERS, Node, Nodes, Room, VERSION};

pub(super) async fn steps_see_what_those_before_did(nodes: &Nodes) {
    let room = Room::new();
    let id = || vec![Value::from(room.id())];
    let returning =
        "UPDATE contract_rooms SET version = version + 10 WHERE id = $1 RETURNING version, id";
    let steps = vec![
        room.add(),
        room.step_from(0),
        room.step_from(1),
        Step::some(VERSION, id()),
        Step::some(returning, id()),
        Step::some("DELETE FROM contract_rooms WHERE id = $1", id()),
        Step::none(VERSION, id()),
    ];
    let (rows, _) = nodes.a.commit(steps, Vec::new()).await;
    let counts: Vec<_> = rows.iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 0, 0, 1, 1, 0, 0]);
    assert_eq!(rows[3][0].int(0), Some(2));
    assert_eq!(
        (rows[4][0].int(0), rows[4][0].text(1)),
        (Some(12), Some(room.id()))
    );
}

/// How many versions are won.
const VERSIONS: i64 = 60;

pub(super) async fn one_winner_for_each_version(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let mut writers = JoinSet::new();
    for number in 0..16 {
        let node = nodes.both()[number % 2].clone();
        let room = Room {
            id: room.id.clone(),
            channel: room.channel.clone(),
        };
        writers.spawn(async move { win(&node, &room).await });
    }
    let mut won: Vec<i64> = writers.join_all().await.concat();
    won.sort_unstable();
    let all: Vec<i64> = (0..VERSIONS).collect();
    assert_eq!(won, all, "each version has one winner");
    assert_eq!(nodes.b.number(VERSION, &room.id).await, VERSIONS);
    // The order of the rows is the order of the publications.
    let told: Vec<String> = all.iter().map(i64::to_string).collect();
    assert_eq!(nodes.b.read(&room.channel).await, told);
}

/// Tries to win versions, and gives those it won.
async fn win(node: &Node, room: &Room) -> Vec<i64> {
    let mut won = Vec::new();
    loop {
        let version = node.number(VERSION, &room.id).await;
        if version == VERSIONS {
            return won;
        }
        let steps = vec![room.step_from(version)];
        match node.transact(steps, vec![room.draft(version)]).await {
            Ok(Transacted::Now { .. }) => won.push(version),
            Err(TransactError::Refused { step: 0 }) => {}
            other => panic!("{other:?}"),
        }
    }
}

const CAPACITY: i64 = 7;

pub(super) async fn a_capacity_is_never_exceeded(nodes: &Nodes) {
    let take = "UPDATE contract_rooms SET members = members + 1 WHERE id = $1 AND members < $2";
    let room = Room::made(&nodes.a).await;
    let take = Step::some(take, vec![room.id().into(), CAPACITY.into()]);
    let join = |name: &str| vec![take.clone(), room.member(name)];
    let refused = crowd(nodes, &room, join).await;
    assert!(refused.iter().all(|step| *step == 0), "{refused:?}");
}

pub(super) async fn a_count_is_exact_behind_the_row_of_the_whole(nodes: &Nodes) {
    let touch = "UPDATE contract_rooms SET members = members + 1 WHERE id = $1";
    let add = "INSERT INTO contract_members (room, name) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT)
               WHERE (SELECT count(*) FROM contract_members WHERE room = $1) < $3";
    let room = Room::made(&nodes.a).await;
    let join = |name: &str| {
        let params = vec![room.id().into(), name.into(), CAPACITY.into()];
        vec![
            Step::some(touch, vec![room.id().into()]),
            Step::some(add, params),
        ]
    };
    let refused = crowd(nodes, &room, join).await;
    assert!(refused.iter().all(|step| *step == 1), "{refused:?}");
}

/// More than fit join at once; gives the steps that the others were refused at.
async fn crowd(nodes: &Nodes, room: &Room, join: impl Fn(&str) -> Vec<Step>) -> Vec<usize> {
    let mut joining = JoinSet::new();
    for number in 0..40 {
        let node = nodes.both()[number % 2].clone();
        let (steps, draft) = (join(&number.to_string()), room.draft(number));
        joining.spawn(async move { node.transact(steps, vec![draft]).await });
    }
    let mut refused = Vec::new();
    let mut joined = 0;
    for result in joining.join_all().await {
        match result {
            Ok(Transacted::Now { .. }) => joined += 1,
            Err(TransactError::Refused { step }) => refused.push(step),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(joined, CAPACITY);
    assert_eq!(nodes.a.number(MEMBERS, &room.id).await, CAPACITY);
    assert_eq!(nodes.b.read(&room.channel).await.len() as i64, CAPACITY);
    refused
}

pub(super) async fn opposite_orders_do_not_refuse_anybody(nodes: &Nodes) {
    let (one, other) = (Room::made(&nodes.a).await, Room::made(&nodes.a).await);
    let touch = "UPDATE contract_rooms SET members = members + 1 WHERE id = $1";
    let touch = |room: &Room| Step::some(touch, vec![room.id().into()]);
    let rounds = 4;
    for round in 0..rounds {
        let there = nodes.a.transact(
            vec![touch(&one), touch(&other)],
            vec![one.draft(round), other.draft(round)],
        );
        let back = nodes.b.transact(
            vec![touch(&other), touch(&one)],
            vec![other.draft(round), one.draft(round)],
        );
        let (there, back) = tokio::join!(there, back);
        there.unwrap();
        back.unwrap();
    }
    for room in [one, other] {
        assert_eq!(nodes.a.read(&room.channel).await.len(), 2 * rounds);
        let members = "SELECT members FROM contract_rooms WHERE id = $1";
        assert_eq!(nodes.a.number(members, &room.id).await, 2 * rounds as i64);
    }
}

pub(super) async fn publishes_beside_transactions_share_the_numbers(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let mut writers = JoinSet::new();
    for number in 0..8 {
        let node = nodes.both()[number % 2].clone();
        let drafts: Vec<_> = (0..15).map(|it| room.draft(it)).collect();
        let touch = "UPDATE contract_rooms SET version = version + 1 WHERE id = $1";
        let touch = Step::some(touch, vec![room.id().into()]);
        writers.spawn(async move {
            let mut seqs = Vec::new();
            for draft in drafts {
                let committed = if number < 4 {
                    node.log.append(&[draft]).await.unwrap()
                } else {
                    node.commit(vec![touch.clone()], vec![draft]).await.1
                };
                seqs.extend(super::numbers(&committed));
            }
            seqs
        });
    }
    let mut seqs = writers.join_all().await.concat();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(1..=120), "{seqs:?}");
    assert_eq!(nodes.a.read(&room.channel).await.len(), 120);
    assert_eq!(nodes.a.number(VERSION, &room.id).await, 60);
}
