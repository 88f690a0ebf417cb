//! The servers that the tests run against: one PostgreSQL for the whole run with a database for each test, a Redis
//! for each test that needs one, and nodes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use fanfare_bench::local::{Node, NodeOptions, Postgres, Redis};

/// The `fanfare` program under test: `FANFARE_BIN`, or the one that cargo built beside this test.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn binary() -> PathBuf {
    let binary = match std::env::var_os("FANFARE_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let mut path = std::env::current_exe().unwrap_or_default();
            // target/<profile>/deps/<this test>
            path.pop();
            path.pop();
            path.join("fanfare")
        }
    };
    assert!(
        binary.is_file(),
        "no program at {}: build it with `cargo build -p fanfare-server`, or set FANFARE_BIN",
        binary.display()
    );
    binary
}

/// The program with faults built in: `FANFARE_SABOTAGED_BIN`, or the one that cargo built beside this test.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn sabotaged() -> PathBuf {
    let binary = std::env::var_os("FANFARE_SABOTAGED_BIN").map_or_else(
        || binary().with_file_name("fanfare-sabotaged"),
        PathBuf::from,
    );
    assert!(
        binary.is_file(),
        "no program at {}: build it with `cargo build -p fanfare-server --features sabotage --bin \
         fanfare-sabotaged`, or set FANFARE_SABOTAGED_BIN",
        binary.display()
    );
    binary
}

/// Options of a node that is open to everybody, alone on SQLite.
#[track_caller]
pub fn dev() -> NodeOptions {
    NodeOptions {
        binary: binary(),
        dev: true,
        ..NodeOptions::default()
    }
}

/// Options of a node that grants nothing by itself, alone on SQLite.
#[track_caller]
pub fn closed(api_key: &str, token_secret: &str) -> NodeOptions {
    NodeOptions {
        binary: binary(),
        api_key: Some(api_key.to_owned()),
        token_secret: Some(token_secret.to_owned()),
        ..NodeOptions::default()
    }
}

/// Starts a node.
///
/// # Panics
/// When it does not start, with what it said.
#[track_caller]
pub fn start(options: NodeOptions) -> Node {
    match Node::start(options) {
        Ok(node) => node,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a Redis.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn redis() -> Redis {
    match Redis::start() {
        Ok(redis) => redis,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a PostgreSQL of the caller's own, for tests that stop it.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn postgres() -> Postgres {
    match Postgres::start() {
        Ok(postgres) => postgres,
        Err(error) => panic!("{error}"),
    }
}

/// URL of a new empty database in the PostgreSQL that the tests of this run share.
///
/// # Panics
/// When PostgreSQL does not start.
#[track_caller]
pub fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let shared = shared_postgres();
    match shared
        .as_ref()
        .map(|postgres| postgres.create_database(&name))
    {
        Some(Ok(url)) => url,
        Some(Err(error)) => panic!("{error}"),
        None => panic!("the shared PostgreSQL has ended"),
    }
}

/// Memory of a process in RAM that is its own, not a file's.
///
/// # Panics
/// When there is no such process.
#[track_caller]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    match kibibytes {
        Some(kibibytes) => kibibytes * 1024,
        None => panic!("no process {pid}"),
    }
}

/// Nodes on one database and one Redis, open to everybody.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their start.
    pub nodes: Vec<Node>,
    /// The bus between them.
    pub redis: Redis,
    /// Their database.
    pub database: String,
}

impl Cluster {
    /// Starts `size` nodes on a new database and a new Redis.
    ///
    /// # Panics
    /// When one does not start.
    #[track_caller]
    pub fn start(size: usize) -> Self {
        let redis = redis();
        let database = database();
        let nodes = (1..=size)
            .map(|number| {
                start(NodeOptions {
                    postgres: Some(database.clone()),
                    redis: Some(redis.url()),
                    name: Some(format!("node-{number}")),
                    ..dev()
                })
            })
            .collect();
        Self {
            nodes,
            redis,
            database,
        }
    }
}

static SHARED: OnceLock<Mutex<Option<Postgres>>> = OnceLock::new();

/// A static is never dropped, so the end of the process is told to end the server; should the process be killed, the
/// system does (see `fanfare_bench::local`).
fn shared_postgres() -> MutexGuard<'static, Option<Postgres>> {
    static AT_EXIT: Once = Once::new();
    let shared = SHARED.get_or_init(|| Mutex::new(Some(postgres())));
    AT_EXIT.call_once(|| {
        // SAFETY: registers a function without arguments that does not unwind.
        unsafe { libc::atexit(end_shared_postgres) };
    });
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn end_shared_postgres() {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(shared) = SHARED.get() {
            drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }));
}
