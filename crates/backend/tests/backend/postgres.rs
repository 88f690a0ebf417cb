//! The log in PostgreSQL: the contract, and what only a database server can do to a log.

mod epoch;
mod faults;
mod few;
mod pace;
mod proxy;
mod publish;
mod schema;
mod tables;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use fanfare_backend::postgres::PostgresLog;
use fanfare_bench::local::Postgres;
use fanfare_engine::port::{Direction, Log, ReadRange};
use fanfare_wire::{ChannelName, Draft, Json, Publication, Seq};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// How long a test waits for what must come by itself.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let database = TestDatabase::new();
    fanfare_engine::contract::log::all(|| async {
        let log: Arc<dyn Log> = Arc::new(database.open().await);
        log
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_epoch_changes_for_all_nodes() {
    let database = TestDatabase::new();
    let open = || async {
        let log: Arc<dyn Log> = Arc::new(database.open().await);
        log
    };
    let change = async || {
        let client = database.client().await;
        client.batch_execute(NEW_EPOCH).await.unwrap();
    };
    fanfare_engine::contract::log::epoch_change(open, change).await;
}

/// What an operator runs after a restore that the nodes cannot notice by themselves; docs/postgres.md has it.
const NEW_EPOCH: &str = "
    SELECT fanfare.claim_epoch(md5(random()::text), (SELECT value FROM fanfare.meta WHERE key = 'epoch'))";

/// Whoever waits for a lock.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
                       WHERE wait_event_type = 'Lock' AND datname = current_database()";

/// An empty database on the server that the tests share.
struct TestDatabase {
    url: String,
    /// The server ends with the last test that uses it.
    server: Arc<Postgres>,
}

impl TestDatabase {
    fn new() -> Self {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start().unwrap());
            *shared = Arc::downgrade(&server);
            server
        });
        let name = format!("test_{}", Uuid::now_v7().simple());
        let url = server.create_database(&name).unwrap();
        Self { url, server }
    }

    async fn open(&self) -> PostgresLog {
        PostgresLog::connect(&self.url, "test").await.unwrap()
    }

    fn make_clone(&self, name: &str, clone: &str) {
        let sql = format!("CREATE DATABASE {clone} TEMPLATE {name}");
        self.server.execute("postgres", &sql).unwrap();
    }

    async fn client(&self) -> Client {
        client(&self.url).await
    }
}

/// A session beside the log's own.
async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until a query gives a number greater than 0.
async fn wait_for(client: &Client, sql: &str) {
    let patience = Instant::now() + PATIENCE;
    while count(client, sql).await <= 0 {
        assert!(Instant::now() < patience, "never came true: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn draft(name: &str, key: Option<&str>) -> Draft {
    let mut draft = Draft::new(channel(name), Uuid::now_v7(), Json::parse(b"{}").unwrap());
    draft.idempotency_key = key.map(str::to_owned);
    draft
}

async fn read_all(log: &PostgresLog, name: &str) -> Vec<Publication> {
    let range = ReadRange {
        from: Seq::ZERO,
        limit: usize::MAX,
        direction: Direction::Forward,
    };
    log.read(&channel(name), range).await.unwrap()
}
