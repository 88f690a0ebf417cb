//! The tables of apps in a file: the contract, and what a crash leaves.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use fanfare_backend::sqlite::SqliteLog;
use fanfare_bench::local::TempDir;
use fanfare_engine::port::{
    Log, Tables, TablesError, TransactError, Transacted, Transaction,
    tables::{Migration, Step},
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{all, channel, draft};

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: "CREATE TABLE app_counters (id TEXT PRIMARY KEY, version BIGINT NOT NULL);
             INSERT INTO app_counters VALUES ('a', 0);",
    postgres: "",
}];

const TOUCH: &str = "UPDATE app_counters SET version = version + 1 WHERE id = 'a'";
const VERSION: &str = "SELECT version FROM app_counters WHERE id = 'a'";

async fn open(dir: &Path) -> SqliteLog {
    let log = SqliteLog::open(dir).unwrap();
    log.migrate("app", MIGRATIONS).await.unwrap();
    log
}

async fn version(log: &SqliteLog) -> i64 {
    let rows = log.query(VERSION, Vec::new()).await.unwrap();
    rows[0].int(0).unwrap()
}

/// Moves the counter, and publishes in the channel `a`.
fn touch() -> Transaction {
    Transaction {
        steps: vec![Step::some(TOUCH, Vec::new())],
        drafts: vec![draft("a", None)],
        ..Transaction::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_keep_the_contract() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(SqliteLog::open(dir.path()).unwrap());
    fanfare_engine::contract::tables::all(|| std::future::ready(log.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_rows_and_publications_that_agree() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(open(dir.path()).await);
    let acknowledged = Arc::new(AtomicI64::new(0));
    // Closed until the first crash, so that there is one in the middle.
    let gate = Arc::new(Semaphore::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (log, acknowledged, gate) = (log.clone(), acknowledged.clone(), gate.clone());
        writers.spawn(async move {
            for number in 0..60 {
                if number == 20 {
                    gate.acquire().await.unwrap().forget();
                }
                let done = log.transact(&touch()).await.unwrap();
                assert!(matches!(done, Transacted::Now { .. }));
                acknowledged.fetch_add(1, SeqCst);
                log.append(&[draft("b", None)]).await.unwrap();
            }
        });
    }
    // What is in the files in the middle of it is what a crash at that moment leaves.
    let mut crashes = Vec::new();
    while crashes.len() < 20 {
        let crash = TempDir::new().unwrap();
        let told = acknowledged.load(SeqCst);
        if told == 0 {
            tokio::task::yield_now().await;
            continue;
        }
        for file in ["fanfare.db", "fanfare.db-wal"] {
            fs::copy(dir.path().join(file), crash.path().join(file)).unwrap();
        }
        crashes.push((crash, told));
        if crashes.len() == 1 {
            gate.add_permits(8);
        }
        tokio::task::yield_now().await;
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    assert!(crashes[0].1 < 480);
    for (crash, told) in crashes {
        let log = open(crash.path()).await;
        let version = version(&log).await;
        assert!(version >= told, "acknowledged: {told}, there: {version}");
        let read = log.read(&channel("a"), all()).await.unwrap();
        assert_eq!(read.len() as i64, version);
        log.transact(&touch()).await.unwrap();
    }
    assert_eq!(version(&log).await, 480);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_refused_disturb_nobody_beside_them() {
    let dir = TempDir::new().unwrap();
    let log = Arc::new(open(dir.path()).await);
    let wrong = [
        Step::none(VERSION, Vec::new()),
        Step::some("INSERT INTO app_counters VALUES ('a', 0)", Vec::new()),
        Step::some("INSERT INTO app_counters VALUES ('c', NULL)", Vec::new()),
        Step::some("INSERT OR ABORT INTO app_nowhere VALUES (1)", Vec::new()),
    ];
    let mut work = JoinSet::new();
    for number in 0..200 {
        let (log, wrong) = (log.clone(), wrong[number % 4].clone());
        work.spawn(async move {
            match number % 3 {
                0 => {
                    let mut transaction = touch();
                    transaction.steps.push(wrong);
                    log.transact(&transaction).await.map(drop)
                }
                1 => log.transact(&touch()).await.map(drop),
                _ => {
                    let appended = log.append(&[draft("b", None)]).await;
                    appended.map(drop).map_err(|error| panic!("{error}"))
                }
            }
        });
    }
    let results = work.join_all().await;
    let mut refused = 0;
    for error in results.into_iter().filter_map(Result::err) {
        refused += 1;
        assert!(
            matches!(
                error,
                TransactError::Refused { step: 1 }
                    | TransactError::Exists { step: 1 }
                    | TransactError::Statement(_)
            ),
            "{error}"
        );
    }
    assert_eq!(refused, 67);
    assert_eq!(version(&log).await, 67);
    let heads = log.heads(&[channel("a"), channel("b")]).await.unwrap();
    assert_eq!((heads[0].seq.0, heads[1].seq.0), (67, 66));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_tables_begin_with_the_name_of_their_app() {
    const STRANGER: &[Migration] = &[Migration {
        version: 1,
        sqlite: "CREATE TABLE marks (a TEXT)",
        postgres: "",
    }];
    let dir = TempDir::new().unwrap();
    let log = open(dir.path()).await;
    let refusal = log.migrate("other", STRANGER).await.unwrap_err();
    assert!(
        matches!(&refusal, TablesError::Schema(text) if text.contains("`marks`")),
        "{refusal}"
    );
    drop(log);
    let log = open(dir.path()).await;
    assert!(log.query("SELECT a FROM marks", Vec::new()).await.is_err());
    assert_eq!(version(&log).await, 0);
}
