//! The tables of apps in PostgreSQL: the contract, and what only a database server can do to a transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fanfare_backend::postgres::{APP_LANES, PostgresLog};
use fanfare_engine::port::{
    LaneCursors, Log, Tables, TablesError, TransactError, Transacted, Transaction,
    tables::{Finish, Migration, Row, Step},
};
use fanfare_wire::{Draft, Json};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    NEW_EPOCH, TestDatabase, WAITING, channel, count, draft, pace::Pace, proxy::Proxy, read_all,
    wait_for,
};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: "",
    postgres: "CREATE TABLE counters (id TEXT PRIMARY KEY, version BIGINT NOT NULL);
               INSERT INTO counters VALUES ('a', 0), ('b', 0);",
}];

const VERSION: &str = "SELECT version FROM counters WHERE id = 'a'";
const MOVE: &str = "UPDATE counters SET version = version + 1 WHERE id = 'a' AND version = $1";
const TOUCH: &str = "UPDATE counters SET version = version + 1 WHERE id = 'a' RETURNING version";

/// Changes with each move.
const MOVES: &str = "SELECT version FROM app.counters WHERE id = 'a'";

async fn open(database: &TestDatabase) -> Arc<PostgresLog> {
    open_at(&database.url).await
}

async fn open_at(url: &str) -> Arc<PostgresLog> {
    let log = PostgresLog::connect(url, "test").await.unwrap();
    log.migrate("app", MIGRATIONS).await.unwrap();
    Arc::new(log)
}

/// A transaction of one step, which publishes a number in the channel `a`.
fn one(step: Step, number: i64) -> Transaction {
    Transaction {
        steps: vec![step],
        drafts: vec![numbered(number)],
        ..Transaction::default()
    }
}

fn numbered(number: i64) -> Draft {
    let data = Json::parse(number.to_string().as_bytes()).unwrap();
    Draft::new(channel("a"), Uuid::now_v7(), data)
}

fn touch() -> Step {
    Step::some(TOUCH, Vec::new())
}

async fn version(log: &PostgresLog) -> i64 {
    log.query(VERSION, Vec::new()).await.unwrap()[0]
        .int(0)
        .unwrap()
}

fn committed(answer: Result<Transacted, TransactError>) -> (Vec<Vec<Row>>, i64, u64) {
    match answer.unwrap() {
        Transacted::Now {
            rows, committed, ..
        } => (rows, committed.lane.0, committed.n),
        before => panic!("a duplicate: {before:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_keep_the_contract() {
    let database = TestDatabase::new();
    fanfare_engine::contract::tables::all(|| async { Arc::new(database.open().await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn their_epoch_changes_for_all_nodes() {
    let database = TestDatabase::new();
    let open = || async { Arc::new(database.open().await) };
    let change = async || {
        let client = database.client().await;
        client.batch_execute(NEW_EPOCH).await.unwrap();
    };
    fanfare_engine::contract::tables::epoch_change(open, change).await;
}

/// Tries to move the counter, with a publication for each move, and counts those that were told to be committed.
async fn count_up(log: Arc<PostgresLog>, moves: usize) -> usize {
    let mut moved = 0;
    for _ in 0..moves {
        let Ok(rows) = log.query(VERSION, Vec::new()).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let version = rows[0].int(0).unwrap();
        let transaction = one(Step::some(MOVE, vec![version.into()]), version);
        match log.transact(&transaction).await {
            Ok(Transacted::Now { rows, .. }) => {
                assert_eq!(rows.len(), 1);
                moved += 1;
            }
            Err(TransactError::Refused { step: 0 }) => {}
            Err(TransactError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => panic!("the server was always there to be asked: {other:?}"),
        }
    }
    moved
}

/// Rows and publications agree with each other and with what was told.
async fn check(log: &PostgresLog, moved: usize) {
    assert_eq!(version(log).await, moved as i64);
    let read = read_all(log, "a").await;
    let told: Vec<_> = read
        .iter()
        .map(|one| one.data.as_bytes().to_vec())
        .collect();
    let all: Vec<_> = (0..moved).map(|it| it.to_string().into_bytes()).collect();
    assert_eq!(told, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sessions_lose_and_double_nothing() {
    let database = TestDatabase::new();
    let logs = [open(&database).await, open(&database).await];
    let mut writers = JoinSet::new();
    for number in 0..6 {
        writers.spawn(count_up(logs[number % 2].clone(), 120));
    }
    let (mut pace, done) = Pace::of(&database, MOVES).await;
    let killer = tokio::spawn(async move {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                      AND (query LIKE '%append_all%' OR query LIKE 'UPDATE counters%' OR query = 'COMMIT')";
        let mut killed = 0;
        while pace.next().await {
            tokio::time::sleep(Duration::from_millis(15)).await;
            killed += count(&pace.client, kill).await;
        }
        killed
    });
    let moved: usize = writers.join_all().await.into_iter().sum();
    done.store(true, Ordering::Release);
    assert!(killer.await.unwrap() > 0);
    assert!(moved > 20, "only {moved} moves were committed");
    check(&logs[0], moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_anywhere_lose_and_double_nothing() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let logs = [open_at(&url).await, open_at(&url).await];
    let mut writers = JoinSet::new();
    for number in 0..4 {
        writers.spawn(count_up(logs[number % 2].clone(), 60));
    }
    let (pace, done) = Pace::of(&database, MOVES).await;
    let cutter = tokio::spawn(proxy.cut_again_and_again(pace));
    let moved: usize = writers.join_all().await.into_iter().sum();
    done.store(true, Ordering::Release);
    assert!(cutter.await.unwrap() > 5);
    check(&*open(&database).await, moved).await;
}

/// Holds a lock until it is dropped or rolled back.
async fn hold<'a>(client: &'a mut Client, sql: &str) -> tokio_postgres::Transaction<'a> {
    let holding = client.transaction().await.unwrap();
    holding.batch_execute(sql).await.unwrap();
    holding
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let log = open_at(&url).await;
    let (_, lane, n) = committed(log.transact(&one(touch(), 0)).await);
    let (mut holder, beside) = (database.client().await, database.client().await);
    let only_rows = Transaction {
        steps: vec![touch()],
        ..Transaction::default()
    };
    // The entry is that of what the drafts were completed to.
    let completed = Transaction {
        finish: Some(Finish::new(|rows, drafts| {
            let version = rows[0][0].int(0).ok_or("no version")?;
            drafts.push(numbered(version + 1));
            drafts.push(draft("b", None));
            Ok(())
        })),
        ..one(touch(), 4)
    };
    let (mut lane, mut n) = (lane, n);
    let all = [(one(touch(), 1), 2), (only_rows, 3), (completed, 4)];
    for (transaction, expected) in all {
        // The fence keeps the second round trip waiting; its answer, and nothing else, is lost.
        let holding = hold(&mut holder, "SELECT FROM fanfare.lanes FOR UPDATE").await;
        let entry = format!(
            "SELECT count(*) FROM fanfare.lane_log WHERE lane = {lane} AND n = {}",
            n + 1
        );
        let (answer, ()) = tokio::join!(log.transact(&transaction), async {
            wait_for(&beside, WAITING).await;
            proxy.deafen();
            holding.rollback().await.unwrap();
            wait_for(&beside, &entry).await;
            proxy.cut();
        });
        let (rows, found_in, found) = committed(answer);
        assert_eq!((found_in, found), (lane, n + 1), "told as what it was");
        assert_eq!(rows[0][0].int(0), Some(expected));
        // The next one is in a lane of its own.
        (_, lane, n) = committed(log.transact(&Transaction::default()).await);
        assert!(lane > found_in && n == 1);
    }
    assert_eq!(version(&log).await, 4);
    let read = read_all(&log, "a").await;
    let read: Vec<_> = read.iter().map(|one| one.data.as_bytes()).collect();
    assert_eq!(read, [b"0", b"1", b"4", b"5"]);
    assert_eq!(read_all(&log, "b").await.len(), 1);
    let entries = log.sweep(&LaneCursors::new(), 100).await.unwrap();
    let channels: usize = entries.iter().map(|entry| entry.channels.len()).sum();
    assert_eq!((entries.len(), channels), (7, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_before_its_commit_is_tried_again() {
    let database = TestDatabase::new();
    let log = open(&database).await;
    let (_, lane, _) = committed(log.transact(&one(touch(), 0)).await);
    let (mut holder, beside) = (database.client().await, database.client().await);
    // Once in the middle of its steps, once at the fence.
    for (lock, again) in [
        ("SELECT FROM app.counters FOR UPDATE", 2),
        ("SELECT FROM fanfare.channels FOR UPDATE", 3),
    ] {
        let holding = hold(&mut holder, lock).await;
        let transaction = one(touch(), again);
        let (answer, ()) = tokio::join!(log.transact(&transaction), async {
            wait_for(&beside, WAITING).await;
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                        WHERE wait_event_type = 'Lock' AND datname = current_database()";
            assert_eq!(count(&beside, kill).await, 1);
            wait_for(&beside, "SELECT count(*) FROM fanfare.lanes WHERE retired").await;
            wait_for(&beside, WAITING).await;
            holding.rollback().await.unwrap();
        });
        let (rows, next, _) = committed(answer);
        assert!(next > lane);
        assert_eq!(rows[0][0].int(0), Some(again));
        beside
            .batch_execute("DELETE FROM fanfare.lanes WHERE retired")
            .await
            .unwrap();
    }
    assert_eq!(read_all(&log, "a").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_given_up_holds_nothing() {
    let database = TestDatabase::new();
    let log = open(&database).await;
    let (mut holder, beside) = (database.client().await, database.client().await);
    let holding = hold(
        &mut holder,
        "SELECT FROM app.counters WHERE id = 'b' FOR UPDATE",
    )
    .await;
    let other = "UPDATE counters SET version = version + 1 WHERE id = 'b'";
    let transaction = Transaction {
        steps: vec![touch(), Step::some(other, Vec::new())],
        drafts: vec![numbered(0)],
        ..Transaction::default()
    };
    tokio::select! {
        _ = log.transact(&transaction) => panic!("the row is locked"),
        () = wait_for(&beside, WAITING) => {}
    }
    holding.rollback().await.unwrap();
    committed(log.transact(&transaction).await);
    assert_eq!(version(&log).await, 1);
    assert_eq!(read_all(&log, "a").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_in_the_middle_holds_rows_for_a_moment_only() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let (stops, other) = (open_at(&url).await, open(&database).await);
    committed(stops.transact(&one(touch(), 0)).await);
    let beside = database.client().await;
    // It never hears what its steps came to, so it sends nothing more.
    proxy.deafen();
    let stopped = one(touch(), 2);
    let (answer, ()) = tokio::join!(stops.transact(&stopped), async {
        let idle = "SELECT count(*) FROM pg_stat_activity
                    WHERE state = 'idle in transaction' AND datname = current_database()";
        wait_for(&beside, idle).await;
        committed(other.transact(&one(touch(), 1)).await);
        proxy.cut();
    });
    // Its second attempt may have met the silence too; either way it is told what is so.
    let expected = match answer {
        Ok(Transacted::Now { .. }) => vec!["0", "1", "2"],
        Err(TransactError::Unavailable(_)) => vec!["0", "1"],
        other => panic!("{other:?}"),
    };
    assert_eq!(version(&other).await, expected.len() as i64);
    let read = read_all(&other, "a").await;
    let read: Vec<_> = read.iter().map(|one| one.data.as_bytes()).collect();
    let expected: Vec<_> = expected.into_iter().map(str::as_bytes).collect();
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_do_not_wait_for_transactions() {
    let database = TestDatabase::new();
    let log = open(&database).await;
    let (mut holder, beside) = (database.client().await, database.client().await);
    let holding = hold(&mut holder, "SELECT FROM app.counters FOR UPDATE").await;
    let mut waiting = JoinSet::new();
    for number in 0..2 * APP_LANES as i64 {
        let log = log.clone();
        waiting.spawn(async move { log.transact(&one(touch(), number)).await });
    }
    let all =
        format!("SELECT sum(count)::bigint / {APP_LANES} FROM ({WAITING}) AS waiting (count)");
    wait_for(&beside, &all).await;
    log.append(&[draft("a", None), draft("b", None)])
        .await
        .unwrap();
    assert_eq!(version(&log).await, 0, "reads do not wait either");
    holding.rollback().await.unwrap();
    for answer in waiting.join_all().await {
        committed(answer);
    }
    assert_eq!(version(&log).await, 2 * APP_LANES as i64);
    let read = read_all(&log, "a").await;
    assert_eq!(read.len(), 1 + 2 * APP_LANES);
    assert_eq!(read[0].data.as_bytes(), b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_live_with_their_node() {
    let database = TestDatabase::new();
    let log = open(&database).await;
    let beside = database.client().await;
    let (_, first, _) = committed(log.transact(&one(touch(), 0)).await);
    let lanes = "SELECT count(*) FROM fanfare.lanes WHERE NOT retired";
    assert_eq!(
        count(&beside, lanes).await,
        2,
        "opened when they are needed"
    );
    // They are old, and not silent.
    log.heartbeat("{}".into()).await.unwrap();
    let age = "UPDATE fanfare.lanes SET opened_at = 0";
    beside.batch_execute(age).await.unwrap();
    let nodes = log.heartbeat("{}".into()).await.unwrap();
    assert_eq!(nodes.len(), 1, "a lane of apps is no node");
    assert_eq!(count(&beside, lanes).await, 2);
    assert_eq!(committed(log.transact(&one(touch(), 0)).await).1, first);
    // A node that was silent is fenced, and goes on in other lanes.
    let retire = "UPDATE fanfare.lanes SET retired = true";
    beside.batch_execute(retire).await.unwrap();
    let (_, second, n) = committed(log.transact(&one(touch(), 0)).await);
    assert!(second > first && n == 1);
    assert_eq!(version(&log).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_meanwhile_are_seen_as_they_are() {
    let database = TestDatabase::new();
    let log = open(&database).await;
    let all = "SELECT * FROM counters WHERE id = 'a'";
    let transaction = one(Step::some(all, Vec::new()), 0);
    let widths = async || {
        let (rows, ..) = committed(log.transact(&transaction).await);
        let asked = log.query(all, Vec::new()).await.unwrap();
        (rows[0][0].0.len(), asked[0].0.len())
    };
    assert_eq!(widths().await, (2, 2));
    let add = "ALTER TABLE app.counters ADD COLUMN more TEXT";
    database.client().await.batch_execute(add).await.unwrap();
    assert_eq!(widths().await, (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_uses_what_was_made() {
    let database = TestDatabase::new();
    open(&database).await;
    let client = database.client().await;
    let role = format!("role_{}", Uuid::now_v7().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA fanfare, app TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA fanfare TO {role};
         GRANT INSERT, UPDATE, DELETE ON fanfare.channels, fanfare.publications,
             fanfare.idempotency_keys, fanfare.lanes, fanfare.lane_log TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO {role}"
    );
    client.batch_execute(&grants).await.unwrap();
    let log = open_at(&database.url.replace("//fanfare@", &format!("//{role}@"))).await;
    committed(log.transact(&one(touch(), 0)).await);
    log.heartbeat("{}".into()).await.unwrap();
    assert_eq!(version(&log).await, 1);
    let refusal = log.migrate("another", MIGRATIONS).await.unwrap_err();
    assert!(
        matches!(&refusal, TablesError::Schema(text) if text.contains("CREATE")),
        "{refusal}"
    );
}
