//! Together or not at all.

use crate::port::{
    TablesError, TransactError, Transacted, Transaction,
    tables::{Migration, Step, Value},
};

use super::{APP, MEMBERS, MIGRATIONS, Nodes, Room, VERSION, numbers};

pub(super) async fn rows_and_publications_are_there_on_all_nodes(nodes: &Nodes) {
    let (room, other) = (Room::new(), Room::new());
    let transaction = Transaction {
        steps: vec![room.add(), room.member("ann")],
        drafts: vec![room.draft(1), other.draft(2), room.draft(3)],
        ..Transaction::default()
    };
    let done = nodes.a.tables.transact(&transaction).await.unwrap();
    let Transacted::Now {
        rows,
        completed: None,
        committed,
        time,
    } = done
    else {
        panic!("not as it was given: {done:?}");
    };
    assert_eq!(rows, [vec![], vec![]]);
    assert_eq!(numbers(&committed), [1, 1, 2]);
    assert_eq!(committed.epoch, nodes.a.log.epoch());
    assert!(committed.n > 0 && time > 0);
    assert!(committed.outcomes.iter().all(|it| it.time == time));
    for node in nodes.both() {
        assert_eq!(node.number(VERSION, &room.id).await, 0);
        assert_eq!(node.number(MEMBERS, &room.id).await, 1);
        assert_eq!(node.read(&room.channel).await, ["1", "3"]);
        assert_eq!(node.read(&other.channel).await, ["2"]);
    }
}

pub(super) async fn a_guard_that_fails_leaves_nothing(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let steps = vec![room.member("ann"), room.step_from(7), room.member("bob")];
    let refusal = nodes.a.refusal(steps, vec![room.draft(1)]).await;
    assert!(
        matches!(refusal, TransactError::Refused { step: 1 }),
        "{refusal}"
    );
    for node in nodes.both() {
        assert_eq!(node.number(MEMBERS, &room.id).await, 0);
        assert!(node.read(&room.channel).await.is_empty());
    }
    // The nodes go on, and nothing holds the rows.
    nodes.a.commit(vec![room.member("ann")], Vec::new()).await;
    nodes.b.commit(vec![room.step_from(0)], Vec::new()).await;
}

pub(super) async fn guards_count_what_was_changed_or_returned(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let none = "none".to_owned() + &room.id;
    let select = "SELECT id FROM contract_rooms WHERE id = $1";
    let update = "UPDATE contract_rooms SET version = version + 1 WHERE id = $1";
    let returning =
        "UPDATE contract_rooms SET version = version + 1 WHERE id = $1 RETURNING version";
    let delete = "DELETE FROM contract_members WHERE room = $1";
    for (sql, found) in [
        (select, &room.id),
        (update, &room.id),
        (returning, &room.id),
        (select, &none),
        (update, &none),
        (returning, &none),
        (delete, &room.id),
    ] {
        let there = found == &room.id && sql != delete;
        let run = async |step: Step| nodes.a.transact(vec![step], Vec::new()).await;
        let params = || vec![Value::from(found.as_str())];
        run(Step::new(sql, params())).await.unwrap();
        let some = run(Step::some(sql, params())).await;
        let none = run(Step::none(sql, params())).await;
        assert_eq!((some.is_ok(), none.is_ok()), (there, !there), "{sql}");
        for refused in [some, none].into_iter().filter_map(Result::err) {
            assert!(matches!(refused, TransactError::Refused { step: 0 }));
        }
    }
    assert_eq!(nodes.b.number(VERSION, &room.id).await, 4);
}

pub(super) async fn a_key_that_is_there_leaves_nothing(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    nodes.a.commit(vec![room.member("ann")], Vec::new()).await;
    let steps = vec![room.step_from(0), room.member("ann"), room.member("bob")];
    let refusal = nodes.b.refusal(steps, vec![room.draft(1)]).await;
    assert!(
        matches!(refusal, TransactError::Exists { step: 1 }),
        "{refusal}"
    );
    for node in nodes.both() {
        assert_eq!(node.number(VERSION, &room.id).await, 0);
        assert_eq!(node.number(MEMBERS, &room.id).await, 1);
        assert!(node.read(&room.channel).await.is_empty());
    }
    let moved = vec![room.step_from(0), room.member("bob")];
    nodes.b.commit(moved, vec![room.draft(1)]).await;
}

pub(super) async fn a_mistake_leaves_nothing(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let id = || Value::from(room.id());
    let member = |number: i64| {
        let params = vec![id(), "x".into(), number.into(), Value::Null];
        Step::new(super::ADD_MEMBER, params)
    };
    let mistakes = [
        Step::new("SELECT 1 FROM contract_nowhere", Vec::new()),
        Step::new("SELECT FROM WHERE", Vec::new()),
        Step::new(super::ADD_ROOM, vec![id()]),
        Step::new(VERSION, vec![id(), id()]),
        // A CHECK, a NOT NULL, a foreign key.
        member(13),
        Step::new(super::ADD_ROOM, vec!["y".into(), Value::Null]),
        Step::new(
            "INSERT INTO contract_members (room, name) VALUES ($1, 'x')",
            vec!["nowhere".into()],
        ),
    ];
    for mistake in mistakes {
        let sql = mistake.sql;
        let steps = vec![room.step_from(0), mistake];
        let refusal = nodes.a.refusal(steps, vec![room.draft(1)]).await;
        assert!(
            matches!(refusal, TransactError::Statement(_)),
            "{sql}: {refusal}"
        );
        assert_eq!(nodes.b.number(VERSION, &room.id).await, 0);
    }
    let queries = [
        ("SELECT 1 FROM contract_nowhere", Vec::new()),
        (VERSION, Vec::new()),
        ("DELETE FROM contract_rooms", Vec::new()),
    ];
    for (sql, params) in queries {
        let refusal = nodes.a.tables.query(sql, params).await.unwrap_err();
        assert!(matches!(refusal, TablesError::Statement(_)), "{refusal}");
    }
    assert!(nodes.a.read(&room.channel).await.is_empty());
    nodes
        .a
        .commit(vec![room.step_from(0), member(12)], vec![room.draft(1)])
        .await;
}

pub(super) async fn rows_alone_and_publications_alone(nodes: &Nodes) {
    let room = Room::new();
    let (_, committed) = nodes.a.commit(vec![room.add()], Vec::new()).await;
    assert!(committed.outcomes.is_empty());
    assert_eq!(nodes.b.number(VERSION, &room.id).await, 0);
    let (rows, committed) = nodes.a.commit(Vec::new(), vec![room.draft(1)]).await;
    assert_eq!((rows.len(), numbers(&committed)), (0, vec![1]));
    let (rows, committed) = nodes.a.commit(Vec::new(), Vec::new()).await;
    assert!(rows.is_empty() && committed.outcomes.is_empty());
    let read = Step::some(VERSION, vec![room.id().into()]);
    let (rows, _) = nodes.b.commit(vec![read], Vec::new()).await;
    assert_eq!(rows[0][0].int(0), Some(0));
}

pub(super) async fn migrations_run_once(nodes: &Nodes) {
    let all = nodes.both().into_iter().cycle().take(6);
    let migrating = all.map(|node| {
        let tables = node.tables.clone();
        tokio::spawn(async move {
            tables.migrate(APP, MIGRATIONS).await.unwrap();
            tables.migrate("other", OTHER).await.unwrap();
        })
    });
    for one in migrating.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    for node in nodes.both() {
        let marks = "SELECT count(*) FROM other_marks WHERE mark = $1";
        assert_eq!(node.number(marks, "made").await, 1);
        // The tables of several apps are found side by side.
        let beside = "SELECT count(*) FROM other_marks, contract_rooms WHERE mark <> $1";
        assert_eq!(node.number(beside, "made").await, 0);
    }
}

const OTHER: &[Migration] = &[Migration {
    version: 1,
    sqlite: "CREATE TABLE other_marks (mark TEXT); INSERT INTO other_marks VALUES ('made');",
    postgres: "CREATE TABLE other_marks (mark TEXT); INSERT INTO other_marks VALUES ('made');",
}];

/// What an earlier program of the app knows.
const OLDER: &[Migration] = MIGRATIONS.split_at(1).0;

const CHANGED: &[Migration] = &[Migration {
    version: 1,
    sqlite: "CREATE TABLE other_marks (mark TEXT);",
    postgres: "CREATE TABLE other_marks (mark TEXT);",
}];

const WRONG: &[Migration] = &[Migration {
    version: 1,
    sqlite: "CREATE TABLE wrong_one (mark TEXT); CREATE NONSENSE;",
    postgres: "CREATE TABLE wrong_one (mark TEXT); CREATE NONSENSE;",
}];

const RIGHT: &[Migration] = &[Migration {
    version: 1,
    sqlite: "CREATE TABLE wrong_one (mark TEXT);",
    postgres: "CREATE TABLE wrong_one (mark TEXT);",
}];

pub(super) async fn migrations_that_do_not_fit_are_refused(nodes: &Nodes) {
    let refused = [
        (APP, OLDER, "newer"),
        ("other", CHANGED, "unreleased"),
        ("wrong", WRONG, "version 1 of wrong"),
        ("Not A Name", OTHER, "not a name"),
    ];
    for (app, migrations, words) in refused {
        let refusal = nodes.a.tables.migrate(app, migrations).await.unwrap_err();
        let fits = matches!(&refusal, TablesError::Schema(text) if text.contains(words));
        assert!(fits, "{app}: {refusal}");
    }
    // Nothing of the one that failed is left.
    nodes.a.tables.migrate("wrong", RIGHT).await.unwrap();
}
