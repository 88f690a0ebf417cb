//! Drafts that are completed with what the steps returned.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use fanfare_wire::{Draft, Json};
use tokio::task::JoinSet;

use crate::port::{
    TransactError, Transacted, Transaction,
    tables::{BYTES_MAX, DRAFTS_MAX, Finish, Row, Step},
};

use super::{MEMBERS, Nodes, Room, VERSION};

const COUNT: &str =
    "UPDATE contract_rooms SET version = version + 1 WHERE id = $1 RETURNING version";

/// The number that the first step returned becomes the payload of the first draft.
fn counted(rows: &[Vec<Row>], drafts: &mut [Draft]) -> Result<(), String> {
    let number = rows.first().and_then(|rows| rows.first()?.int(0));
    let number = number.ok_or("no number")?;
    drafts[0].data = json(&number.to_string());
    Ok(())
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

fn count(room: &Room) -> Step {
    Step::some(COUNT, vec![room.id().into()])
}

pub(super) async fn numbers_of_rows_are_in_the_order_of_the_channel(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let mut writers = JoinSet::new();
    for number in 0..50 {
        let node = nodes.both()[number % 2].clone();
        let transaction = Transaction {
            steps: vec![count(&room)],
            drafts: vec![room.draft(0)],
            finish: Some(Finish::new(|rows, drafts| counted(rows, drafts))),
        };
        writers.spawn(async move {
            match node.tables.transact(&transaction).await.unwrap() {
                Transacted::Now {
                    rows,
                    completed: Some(completed),
                    committed,
                    ..
                } => {
                    let number = rows[0][0].int(0).unwrap();
                    assert_eq!(completed[0].data, json(&number.to_string()));
                    assert_eq!(completed[0].id, transaction.drafts[0].id);
                    assert_eq!(committed.outcomes[0].seq.0, number as u64);
                }
                other => panic!("{other:?}"),
            }
        });
    }
    writers.join_all().await;
    let all: Vec<_> = (1..=50).map(|number| number.to_string()).collect();
    for node in nodes.both() {
        assert_eq!(node.read(&room.channel).await, all);
    }
}

pub(super) async fn what_is_added_is_committed_with_the_rest(nodes: &Nodes) {
    let (room, other) = (Room::made(&nodes.a).await, Room::new());
    let added = other.draft("\"added\"");
    // A key that stands twice makes the second draft a duplicate, completed or not.
    let drafts = vec![
        room.keyed(0, "k"),
        room.keyed(0, "k"),
        room.draft("\"as it was\""),
    ];
    let transaction = Transaction {
        steps: vec![count(&room)],
        drafts,
        finish: Some(Finish::new(move |rows, drafts| {
            drafts[2].tags = Some(json(r#"{"a":"b"}"#));
            drafts.push(added.clone());
            counted(rows, drafts)
        })),
    };
    let done = nodes.a.tables.transact(&transaction).await.unwrap();
    let Transacted::Now {
        completed: Some(completed),
        committed,
        ..
    } = done
    else {
        panic!("{done:?}");
    };
    assert_eq!(completed.len(), 4);
    let outcomes = committed.outcomes.iter();
    let outcomes: Vec<_> = outcomes.map(|it| (it.seq.0, it.duplicate)).collect();
    assert_eq!(outcomes, [(1, false), (1, true), (2, false), (1, false)]);
    assert_eq!(nodes.b.read(&room.channel).await, ["1", "\"as it was\""]);
    assert_eq!(nodes.b.read(&other.channel).await, ["\"added\""]);
    // Without any draft to begin with.
    let added = other.draft(2);
    let alone = Transaction {
        finish: Some(Finish::new(move |_, drafts| {
            drafts.push(added.clone());
            Ok(())
        })),
        ..Transaction::default()
    };
    let done = nodes.b.tables.transact(&alone).await.unwrap();
    let Transacted::Now { committed, .. } = done else {
        panic!("{done:?}");
    };
    assert_eq!(committed.outcomes[0].seq.0, 2);
    assert_eq!(nodes.a.read(&other.channel).await, ["\"added\"", "2"]);
}

pub(super) async fn what_may_not_be_leaves_nothing(nodes: &Nodes) {
    type Complete = Box<dyn Fn(&[Vec<Row>], &mut Vec<Draft>) -> Result<(), String> + Send + Sync>;
    let room = Room::made(&nodes.a).await;
    let (other, added) = (Room::new(), room.draft(1));
    let keyed = room.keyed(1, "late");
    let large = json(&"1".repeat(BYTES_MAX));
    let unlawful: [Complete; 7] = [
        Box::new(|_, _| Err("not today".to_owned())),
        Box::new(move |_, drafts| {
            drafts[0].channel = other.channel.clone();
            Ok(())
        }),
        Box::new(|_, drafts| {
            drafts.clear();
            Ok(())
        }),
        Box::new(move |_, drafts| {
            drafts.push(keyed.clone());
            Ok(())
        }),
        Box::new(move |_, drafts| {
            drafts.resize(DRAFTS_MAX + 1, added.clone());
            Ok(())
        }),
        Box::new(move |_, drafts| {
            drafts[0].data = large.clone();
            Ok(())
        }),
        Box::new(|_, _| panic!("a mistake of the app, made on purpose")),
    ];
    for (at, complete) in unlawful.into_iter().enumerate() {
        let transaction = Transaction {
            steps: vec![count(&room), room.member("ann")],
            drafts: vec![room.draft(1)],
            finish: Some(Finish::new(complete)),
        };
        let node = nodes.both()[at % 2];
        let refusal = node.tables.transact(&transaction).await.unwrap_err();
        assert!(
            matches!(refusal, TransactError::Finish(_)),
            "{at}: {refusal}"
        );
    }
    for node in nodes.both() {
        assert_eq!(node.number(VERSION, &room.id).await, 0);
        assert_eq!(node.number(MEMBERS, &room.id).await, 0);
        assert!(node.read(&room.channel).await.is_empty());
    }
    // The nodes go on, and nothing holds the rows.
    for node in nodes.both() {
        node.commit(vec![count(&room)], Vec::new()).await;
    }
}

pub(super) async fn nothing_is_completed_that_was_refused_or_before(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let completed = Arc::new(AtomicUsize::new(0));
    let transaction = |steps| {
        let completed = Arc::clone(&completed);
        Transaction {
            steps,
            drafts: vec![room.keyed(0, "k")],
            finish: Some(Finish::new(move |rows, drafts| {
                completed.fetch_add(1, SeqCst);
                counted(rows, drafts)
            })),
        }
    };
    let refused = transaction(vec![count(&room), room.step_from(7)]);
    let refusal = nodes.a.tables.transact(&refused).await.unwrap_err();
    assert!(matches!(refusal, TransactError::Refused { step: 1 }));
    assert_eq!(completed.load(SeqCst), 0);
    let first = transaction(vec![count(&room)]);
    let done = nodes.a.tables.transact(&first).await;
    assert!(matches!(done, Ok(Transacted::Now { .. })), "{done:?}");
    assert!(completed.load(SeqCst) > 0);
    // Whatever it would come to, what was committed before is told as it was.
    let failing = Finish::new(|_, _| Err("not again".to_owned()));
    for node in nodes.both() {
        for finish in [None, Some(failing.clone())] {
            let again = transaction(vec![count(&room)]);
            let finish = finish.or(again.finish);
            let again = Transaction { finish, ..again };
            match node.tables.transact(&again).await {
                Ok(Transacted::Before { firsts, .. }) => {
                    assert_eq!(firsts.len(), 1);
                    assert_eq!(firsts[0].map(|first| first.seq.0), Some(1));
                }
                other => panic!("not a duplicate: {other:?}"),
            }
        }
    }
    assert_eq!(nodes.b.read(&room.channel).await, ["1"]);
    assert_eq!(nodes.b.number(VERSION, &room.id).await, 1);
}
