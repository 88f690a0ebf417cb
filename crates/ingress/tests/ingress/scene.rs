//! Nodes of a test: an engine and an ingress each, on one database, in a runtime of their own that can die.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Bytes,
    http::{Method, Request},
};
use fanfare_backend::{postgres::PostgresLog, sqlite::SqliteLog};
use fanfare_bench::local::{Postgres, TempDir};
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::AbsentBus, state::MemoryState},
    port::{Direction, Log, ReadRange, Tables},
};
use fanfare_ingress::{
    Handler, Ingress, Source, SourceName, Terms,
    https::{Answer, Client, ClientError},
    verify::{HmacVerifier, Verify, hmac::HmacHeaders},
};
use fanfare_wire::{ChannelName, Seq};
use http_body_util::Full;
use ring::hmac;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};
use uuid::Uuid;

/// The secret of every source here.
pub(crate) const SECRET: &str = "a secret of the tests";
/// The name of the source.
pub(crate) const SOURCE: &str = "test";
/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What nodes stand on.
pub(crate) enum Database {
    Sqlite { log: Arc<SqliteLog>, _dir: TempDir },
    Postgres { url: String, _server: Arc<Postgres> },
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self::Sqlite {
            log: Arc::new(SqliteLog::open(dir.path()).unwrap()),
            _dir: dir,
        }
    }

    pub(crate) fn postgres() -> Self {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Postgres::start().unwrap());
            *shared = Arc::downgrade(&server);
            server
        });
        let name = format!("test_{}", Uuid::now_v7().simple());
        Self::Postgres {
            url: server.create_database(&name).unwrap(),
            _server: server,
        }
    }
}

/// One node.
pub(crate) struct Node {
    runtime: Option<Runtime>,
    log: Arc<dyn Log>,
    pub(crate) ingress: Arc<Ingress>,
    url: String,
    client: Client,
}

/// A source with this handler, that is quick to try again.
pub(crate) fn source(handler: Arc<dyn Handler>) -> Source {
    Source {
        name: SourceName::parse(SOURCE).unwrap(),
        verify: Verify::Hmac(Box::new(HmacVerifier::new(
            SECRET.as_bytes(),
            HmacHeaders::default(),
        ))),
        handler,
        terms: quick(),
    }
}

/// Bounds for tests.
pub(crate) fn quick() -> Terms {
    Terms {
        backoff_min: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        lease: Duration::from_secs(1),
        attempts_max: 1000,
        ..Terms::default()
    }
}

impl Node {
    pub(crate) fn start(database: &Database, name: &str, source: Source) -> Self {
        Self::start_with(database, name, || source)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Starts a node whose source needs its runtime to be made.
    pub(crate) fn start_with(
        database: &Database,
        name: &str,
        source: impl FnOnce() -> Source,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (log, ingress, url) = runtime.block_on(async {
            let (log, tables): (Arc<dyn Log>, Arc<dyn Tables>) = match database {
                Database::Sqlite { log, .. } => {
                    (Arc::clone(log) as Arc<dyn Log>, Arc::clone(log) as _)
                }
                Database::Postgres { url, .. } => {
                    let log = Arc::new(PostgresLog::connect(url, name).await.unwrap());
                    (Arc::clone(&log) as Arc<dyn Log>, log)
                }
            };
            let engine = engine(&log, tables);
            let ingress = Arc::new(Ingress::start(&engine, name, vec![source()]).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let router = ingress.router().merge(ingress.operator_router());
            tokio::spawn(async move { axum::serve(listener, router).await });
            (log, ingress, url)
        });
        let client = runtime.block_on(async { Client::new() });
        let node = Self {
            runtime: Some(runtime),
            log,
            ingress,
            url,
            client,
        };
        // Until the tables are there, everything is refused.
        eventually("the tables are made", || {
            (node.post_json("webhooks_dead", &json!({}))["result"].is_object()).then_some(())
        });
        node
    }

    /// Ends everything at once, wherever it is.
    pub(crate) fn die(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// Delivers a body, signed now. What differs only in `salt` is another delivery.
    pub(crate) fn deliver(&self, body: &Value, salt: i64) -> Result<Answer, ClientError> {
        let body = body.to_string();
        let timestamp = unix_seconds() - salt.rem_euclid(100);
        self.send(
            Method::POST,
            SOURCE,
            body.as_bytes(),
            &signed(timestamp, body.as_bytes()),
        )
    }

    /// Delivers, and must be told that it was kept.
    pub(crate) fn keep(&self, body: &Value) {
        let answer = self.deliver(body, 0).unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(json_of(&answer), json!({"accepted": true}));
    }

    pub(crate) fn send(
        &self,
        method: Method,
        source: &str,
        body: &[u8],
        headers: &[(&str, String)],
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/webhooks/{source}", self.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        self.block_on(self.client.ask(request))
    }

    /// Where the source delivers to.
    pub(crate) fn webhook_url(&self) -> String {
        format!("{}/webhooks/{SOURCE}", self.url)
    }

    /// Calls a method for operators.
    pub(crate) fn post_json(&self, what: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/api/{what}", self.url))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        json_of(&self.block_on(self.client.ask(request)).unwrap())
    }

    /// The data of all publications of a channel.
    pub(crate) fn published(&self, channel: &str) -> Vec<Value> {
        let range = ReadRange {
            from: Seq::ZERO,
            limit: usize::MAX,
            direction: Direction::Forward,
        };
        let channel = ChannelName::parse(channel).unwrap();
        let publications = self.block_on(self.log.read(&channel, range)).unwrap();
        let data = publications.iter().map(|it| it.data.as_bytes());
        data.map(|data| serde_json::from_slice(data).unwrap())
            .collect()
    }

    /// A number that the node counts, summed over its labels except those that are given.
    pub(crate) fn metric(&self, name: &str, label: Option<(&str, &str)>) -> u64 {
        use fanfare_gateway::metrics::Samples;
        let families = (self.ingress.families())();
        let family = families.into_iter().find(|family| family.name == name);
        let (Samples::Counter(samples) | Samples::Gauge(samples)) = family.unwrap().samples else {
            panic!("{name} is a distribution");
        };
        let wanted = |labels: &[(&'static str, String)]| {
            label.is_none_or(|(name, value)| labels.iter().any(|(n, v)| *n == name && v == value))
        };
        let samples = samples.iter().filter(|(labels, _)| wanted(labels));
        samples.map(|(_, count)| count).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn engine(log: &Arc<dyn Log>, tables: Arc<dyn Tables>) -> Arc<Engine> {
    let config = EngineConfig {
        shards: 1,
        retention: Vec::new(),
        retention_interval: Duration::from_secs(3600),
        stall_seconds: 60,
        about: Arc::new(|| Bytes::from_static(b"{}")),
        metrics: Arc::new(Metrics::default()),
    };
    let state = Arc::new(MemoryState::alone());
    Engine::start(
        config,
        Arc::clone(log),
        Arc::new(AbsentBus),
        tables,
        state,
        fanfare_gateway::forms(&[], false),
    )
    .unwrap()
}

/// The headers of a signature.
pub(crate) fn signed(timestamp: i64, body: &[u8]) -> Vec<(&'static str, String)> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut text = format!("{timestamp}.").into_bytes();
    text.extend_from_slice(body);
    let mut digits = String::new();
    for byte in hmac::sign(&key, &text).as_ref() {
        write!(digits, "{byte:02x}").unwrap();
    }
    vec![
        ("x-signature", digits),
        ("x-timestamp", timestamp.to_string()),
    ]
}

pub(crate) fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs() as i64
}

/// Looks again and again until there is a value.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
