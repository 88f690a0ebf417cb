//! What goes in and comes out, and the limits.

use bytes::Bytes;

use crate::port::{
    TablesError, TransactError, Transaction,
    tables::{BYTES_MAX, DRAFTS_MAX, Dialect, ROWS_MAX, STEPS_MAX, Step, Value},
};

use super::{ADD_MEMBER, Nodes, Room, VERSION};

pub(super) async fn they_come_back_as_they_were(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let read =
        "SELECT room, name, number, data FROM contract_members WHERE room = $1 AND name = $2";
    let long = "ü".repeat(100_000);
    let rows = [
        ("", Value::Null, Value::Null),
        ("plain", 0.into(), Bytes::new().into()),
        (
            "Ünïcödé 🎉 \u{202e}'\"\\ $1",
            i64::MAX.into(),
            Bytes::from_static(b"\0\xff\0").into(),
        ),
        (
            &*long,
            i64::MIN.into(),
            Bytes::from(vec![7; 100_000]).into(),
        ),
    ];
    for (name, number, data) in rows {
        let row = vec![room.id().into(), name.into(), number, data];
        let back = Step::some(read, vec![room.id().into(), name.into()]);
        let steps = vec![Step::some(ADD_MEMBER, row.clone()), back.clone()];
        let (returned, _) = nodes.a.commit(steps, Vec::new()).await;
        assert_eq!(returned[1][0].0, row);
        let found = nodes.b.tables.query(read, back.params).await.unwrap();
        assert_eq!((found.len(), &found[0].0), (1, &row));
    }
}

pub(super) async fn the_dialect_is_the_one_that_is_spoken(nodes: &Nodes) {
    const FTS5: &str = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'";
    const TSEARCH: &str =
        "SELECT 1 WHERE to_tsvector('simple', 'one two') @@ to_tsquery('simple', 'two')";
    for node in [&nodes.a, &nodes.b] {
        let (spoken, other) = match node.tables.dialect() {
            Dialect::Sqlite => (FTS5, TSEARCH),
            Dialect::Postgres => (TSEARCH, FTS5),
        };
        assert_eq!(
            node.tables.query(spoken, Vec::new()).await.unwrap().len(),
            1
        );
        let refused = node.tables.query(other, Vec::new()).await;
        assert!(
            matches!(refused, Err(TablesError::Statement(_))),
            "{refused:?}"
        );
    }
}

pub(super) async fn parameters_stand_where_they_are_named(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let sql =
        "SELECT CAST($2 AS TEXT), CAST($1 AS BIGINT), CAST($2 AS TEXT), '$1 $3', version /* $9 */
               FROM contract_rooms WHERE id = $3";
    let params = vec![5.into(), "two".into(), room.id().into()];
    let (rows, _) = nodes
        .a
        .commit(vec![Step::some(sql, params.clone())], Vec::new())
        .await;
    let expected = [
        "two".into(),
        5.into(),
        "two".into(),
        "$1 $3".into(),
        Value::Int(0),
    ];
    assert_eq!(rows[0][0].0, expected);
    assert_eq!(nodes.b.tables.query(sql, params).await.unwrap(), rows[0]);
}

pub(super) async fn what_cannot_be_served_is_refused(nodes: &Nodes) {
    let room = Room::new();
    let nul = vec![room.id().into(), "a\0b".into(), Value::Null, Value::Null];
    let steps = vec![
        Step::new(ADD_MEMBER, nul),
        Step::new("COMMIT", Vec::new()),
        Step::new("CREATE TABLE contract_more (a BIGINT)", Vec::new()),
        Step::new("SELECT 1.5", Vec::new()),
    ];
    for step in steps {
        let sql = step.sql;
        let refusal = nodes.a.refusal(vec![room.add(), step], Vec::new()).await;
        assert!(
            matches!(refusal, TransactError::Statement(_)),
            "{sql}: {refusal}"
        );
    }
    let refusal = nodes.a.tables.query(VERSION, vec!["\0".into()]).await;
    assert!(matches!(refusal, Err(TablesError::Statement(_))));
    let rooms = nodes.a.tables.query(VERSION, vec![room.id().into()]).await;
    assert!(rooms.unwrap().is_empty());
}

pub(super) async fn limits_are_kept(nodes: &Nodes) {
    let room = Room::made(&nodes.a).await;
    let select = || Step::some(VERSION, vec![room.id().into()]);
    let most = Transaction {
        steps: vec![select(); STEPS_MAX],
        drafts: (0..DRAFTS_MAX).map(|it| room.draft(it)).collect(),
        ..Transaction::default()
    };
    nodes.a.tables.transact(&most).await.unwrap();
    let mut steps = most.clone();
    steps.steps.push(select());
    let mut drafts = most.clone();
    drafts.drafts.push(room.draft(0));
    let large = Bytes::from(vec![0; BYTES_MAX]);
    let params = vec![room.id().into(), "large".into(), Value::Null, large.into()];
    let bytes = Transaction {
        steps: vec![Step::new(ADD_MEMBER, params)],
        ..Transaction::default()
    };
    for too_much in [steps, drafts, bytes] {
        let refusal = nodes.a.tables.transact(&too_much).await.unwrap_err();
        assert!(matches!(refusal, TransactError::Statement(_)), "{refusal}");
    }
    let head = nodes.b.log.heads(std::slice::from_ref(&room.channel)).await;
    assert_eq!(head.unwrap()[0].seq.0, DRAFTS_MAX as u64);

    let names: Vec<_> = (0..=ROWS_MAX.isqrt()).map(|it| it.to_string()).collect();
    for names in names.chunks(STEPS_MAX) {
        let steps = names.iter().map(|name| room.member(name)).collect();
        nodes.a.commit(steps, Vec::new()).await;
    }
    let pairs = "SELECT one.name FROM contract_members one, contract_members other
                 WHERE one.room = $1 AND other.room = $1";
    let refusal = nodes.a.tables.query(pairs, vec![room.id().into()]).await;
    assert!(matches!(refusal, Err(TablesError::Statement(_))));
    let large = "UPDATE contract_members SET data = $2 WHERE room = $1 AND name = '7'";
    let half = Value::from(Bytes::from(vec![7; BYTES_MAX / 2]));
    let many = "SELECT one.data FROM contract_members one, contract_members other
                  WHERE one.room = $1 AND other.room = $1 AND one.name = '7' AND other.name < '5'";
    let steps = vec![
        Step::some(large, vec![room.id().into(), half]),
        Step::new(many, vec![room.id().into()]),
    ];
    let refusal = nodes.a.refusal(steps, Vec::new()).await;
    assert!(matches!(refusal, TransactError::Statement(_)), "{refusal}");
    let step = Step::new(pairs, vec![room.id().into()]);
    let refusal = nodes.a.refusal(vec![step], Vec::new()).await;
    assert!(matches!(refusal, TransactError::Statement(_)), "{refusal}");
    nodes.a.commit(vec![select()], Vec::new()).await;
}
