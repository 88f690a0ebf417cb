//! Google, a database, and nodes with the ingress and the sync on it.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_backend::{postgres::PostgresLog, sqlite::SqliteLog};
use fanfare_bench::local::{Postgres, TempDir};
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::AbsentBus, state::MemoryState},
    port::{
        Direction, Log, ReadRange, Tables, Transaction,
        tables::{Row, Step},
    },
};
use fanfare_gateway::metrics::{Family, Samples};
use fanfare_ingress::{
    Ingress, Source, SourceName, Terms,
    https::{Client, Url},
    verify::{
        GoogleVerifier, Verify,
        jwks::{HttpIssuer, Jwks},
        token::Expected,
    },
};
use fanfare_mail::{
    account::{Account, AccountState},
    google::{Google, GoogleConfig, Grant, Secret},
    seal::Sealer,
    sync::{MessagesQuery, Sync, SyncConfig},
    user::User,
};
use fanfare_stand_in::{Google as StandIn, mailbox::Mailbox, pubsub::PushConfig};
use fanfare_wire::Seq;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};
use uuid::Uuid;

use crate::client::{Mailboxful, ReadAll};

/// The mailbox of most tests.
pub(crate) const ANN: &str = "ann@example.com";
/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(120);
const AUDIENCE: &str = "https://fanfare.example.com/webhooks/gmail";
const ACCOUNT: &str = "push@stand-in.iam.gserviceaccount.com";
const REDIRECT: &str = "http://127.0.0.1:1/mail/callback";

/// Google, and what nodes stand on.
pub(crate) struct World {
    pub(crate) google: StandIn,
    database: Database,
}

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

    async fn open(&self, node: &str) -> (Arc<dyn Log>, Arc<dyn Tables>) {
        match self {
            Self::Sqlite { log, .. } => (Arc::clone(log) as _, Arc::clone(log) as _),
            Self::Postgres { url, .. } => {
                let log = Arc::new(PostgresLog::connect(url, node).await.unwrap());
                (Arc::clone(&log) as _, log)
            }
        }
    }
}

/// How the nodes of a test are.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) keep_messages: usize,
    pub(crate) poll_after: Duration,
    pub(crate) lease: Duration,
    pub(crate) units_per_minute: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            keep_messages: 1000,
            // Only what is told, and what is asked for.
            poll_after: Duration::from_secs(3600),
            lease: Duration::from_secs(1),
            // The stand-in has no quota of its own.
            units_per_minute: 10_000_000,
        }
    }
}

/// One node.
pub(crate) struct Node {
    runtime: Option<Runtime>,
    log: Arc<dyn Log>,
    engine: Arc<Engine>,
    ingress: Ingress,
    pub(crate) sync: Sync,
    pub(crate) google: Google,
    url: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Database::sqlite())
    }

    pub(crate) fn on(database: Database) -> Self {
        Self {
            google: StandIn::start("127.0.0.1:0".parse().unwrap()).unwrap(),
            database,
        }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.node_with(name, &Setup::default())
    }

    pub(crate) fn node_with(&self, name: &str, setup: &Setup) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (log, engine, sync, ingress, google, url) = runtime.block_on(async {
            let (log, tables) = self.database.open(name).await;
            let engine = engine(&log, tables);
            let google = google(&self.google, setup.units_per_minute);
            let source = SourceName::parse("gmail").unwrap();
            let config = SyncConfig {
                source: source.clone(),
                keep_messages: setup.keep_messages,
                poll_after: setup.poll_after,
            };
            let sync = Sync::new(Arc::clone(&engine), google.clone(), config);
            let source = Source {
                name: source,
                verify: Verify::Google(verifier(&self.google)),
                handler: sync.handler(),
                terms: Terms {
                    backoff_min: Duration::from_millis(5),
                    backoff_max: Duration::from_millis(1500),
                    lease: setup.lease,
                    ..Sync::terms()
                },
            };
            let ingress = Ingress::start(&engine, name, vec![source]).unwrap();
            sync.start(&ingress);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let router = ingress.router();
            tokio::spawn(async move { axum::serve(listener, router).await });
            (log, engine, sync, ingress, google, url)
        });
        let node = Node {
            runtime: Some(runtime),
            log,
            engine,
            ingress,
            sync,
            google,
            url,
        };
        let nobody = User::parse("nobody").unwrap();
        eventually("the tables are made", || {
            node.block_on(node.sync.account(&nobody)).ok()
        });
        node
    }

    /// Lets Google push to a node.
    pub(crate) fn push_to(&self, node: &Node) {
        self.google.set_push(push(node));
    }

    /// As [`push_to`](Self::push_to), with duplicates and in any order.
    pub(crate) fn push_wildly_to(&self, node: &Node) {
        self.google.set_push(PushConfig {
            duplicates_percent: 50,
            reorder: true,
            ..push(node)
        });
    }

    /// Lets pushes get lost.
    pub(crate) fn lose_pushes(&self) {
        // Nobody listens there.
        self.google.set_push(PushConfig {
            endpoint: "http://127.0.0.1:9/".to_owned(),
            ..PushConfig::default()
        });
    }

    pub(crate) fn control(&self, what: &str, request: &Value) -> Value {
        self.google.control(what, request).unwrap()
    }

    /// Messages come; their ids.
    pub(crate) fn receive(&self, count: usize) -> Vec<String> {
        let request = json!({"address": ANN, "from": "Bob <bob@example.com>", "subject": "Hello",
            "snippet": "How are you?", "count": count});
        let ids = self.control("message", &request)["ids"].clone();
        serde_json::from_value(ids).unwrap()
    }

    pub(crate) fn modify(&self, id: &str, add: &[&str], remove: &[&str]) {
        let request = json!({"address": ANN, "id": id, "add": add, "remove": remove});
        self.control("modify", &request);
    }

    pub(crate) fn delete(&self, id: &str) {
        self.control("delete", &json!({"address": ANN, "id": id}));
    }

    pub(crate) fn fail(&self, place: &str, count: u64, status: u16, reason: &str) {
        let request = json!({"place": place, "count": count, "status": status, "reason": reason});
        self.control("fail", &request);
    }

    pub(crate) fn slow(&self, place: &str, millis: u64) {
        self.control("latency", &json!({"place": place, "millis": millis}));
    }

    /// What Gmail has, as a client is to have it.
    pub(crate) fn messages(&self) -> Mailboxful {
        let of = |mailbox: &mut Mailbox| {
            let each = mailbox.messages();
            each.map(|it| (it.id.clone(), it.labels.clone())).collect()
        };
        self.google.mailbox(ANN, of)
    }

    /// Waits until a client that reads all events has what Gmail has, and the rows are the same.
    #[track_caller]
    pub(crate) fn agree(&self, node: &Node, user: &User) {
        let mut last = None;
        eventually("the client has what Gmail has", || {
            let client = node.client(user);
            let gmail = self.messages();
            let rows = node.rows(user);
            let is_same = client.messages() == gmail && rows == gmail;
            last = Some((client, gmail, rows));
            is_same.then_some(())
        });
    }
}

impl Node {
    /// Connects a mailbox, as its owner does in the browser.
    pub(crate) fn connect(&self, address: &str) -> User {
        let grant = self.sign_in(address);
        self.block_on(self.sync.connect(&grant, address)).unwrap();
        grant.user
    }

    pub(crate) fn sign_in(&self, address: &str) -> Grant {
        self.block_on(async {
            let consent = self.google.consent(Some(address));
            let request = Request::builder()
                .method(Method::GET)
                .uri(&consent.url)
                .body(Full::new(Bytes::new()))
                .unwrap();
            let answer = Client::new().ask(request).await.unwrap();
            let location = answer.headers["location"].to_str().unwrap();
            let code = location.split_once("code=").unwrap().1;
            let code = code.split('&').next().unwrap();
            let signed = self.google.exchange(code, &consent.verifier).await.unwrap();
            let user = User::of_google(&signed.sub).unwrap();
            self.google.grant(&user, &signed.refresh_token)
        })
    }

    /// Connects, and waits until all is told that there is.
    pub(crate) fn connect_to_end(&self, world: &World) -> User {
        let user = self.connect(ANN);
        self.is_live(&user);
        eventually("Google watches", || {
            self.account(&user).watch_expires.map(|_| ())
        });
        world.agree(self, &user);
        user
    }

    pub(crate) fn is_live(&self, user: &User) {
        eventually("the mailbox is in sync", || {
            let account = self.account(user);
            let is_live = account.state == AccountState::Live && account.last_sync.is_some();
            is_live.then_some(())
        });
    }

    pub(crate) fn account(&self, user: &User) -> Account {
        let account = self.block_on(self.sync.account(user)).unwrap();
        account.expect("a connected mailbox")
    }

    pub(crate) fn sync_now(&self, user: &User) {
        assert!(self.block_on(self.sync.sync_now(user)).unwrap());
    }

    /// All events of a mailbox.
    pub(crate) fn events(&self, user: &User) -> Vec<Value> {
        let range = ReadRange {
            from: Seq::ZERO,
            limit: usize::MAX,
            direction: Direction::Forward,
        };
        let channel = user.channel().unwrap();
        let publications = self.block_on(self.log.read(&channel, range)).unwrap();
        let data = publications.iter().map(|it| it.data.as_bytes());
        data.map(|data| serde_json::from_slice(data).unwrap())
            .collect()
    }

    pub(crate) fn count_events(&self, user: &User, kind: &str) -> usize {
        let events = self.events(user);
        events.iter().filter(|event| event["type"] == kind).count()
    }

    /// A client that has read all events, each of which must have told it something.
    pub(crate) fn client(&self, user: &User) -> ReadAll {
        let mut client = ReadAll::default();
        for event in self.events(user) {
            client.hear(&event);
        }
        client
    }

    /// All rows of a mailbox.
    pub(crate) fn rows(&self, user: &User) -> Mailboxful {
        let mut rows = Mailboxful::new();
        let mut before: Option<String> = None;
        loop {
            let query = MessagesQuery {
                before: before.as_deref(),
                limit: 100,
                ..MessagesQuery::default()
            };
            let page = self.block_on(self.sync.messages(user, query)).unwrap();
            rows.extend(page.messages.into_iter().map(|it| (it.id, it.labels)));
            before = page.next;
            if before.is_none() {
                return rows;
            }
        }
    }

    /// A number that the node counts, summed over its labels except those that are given.
    pub(crate) fn metric(&self, name: &str, label: Option<(&str, &str)>) -> u64 {
        let mut families = (self.sync.families())();
        families.extend((self.google.families())());
        families.extend((self.ingress.families())());
        let family = families.into_iter().find(|family| family.name == name);
        sum(
            family.unwrap_or_else(|| panic!("nobody counts {name}")),
            label,
        )
    }

    /// How often Gmail was asked.
    pub(crate) fn asked(&self, call: &str) -> u64 {
        self.metric("mail_google_requests", Some(("call", call)))
    }

    /// Changes rows behind the back of the sync.
    pub(crate) fn sql(&self, sql: &'static str) {
        let transaction = Transaction {
            steps: vec![Step::new(sql, Vec::new())],
            ..Transaction::default()
        };
        self.block_on(self.engine.transact(transaction)).unwrap();
    }

    pub(crate) fn query(&self, sql: &'static str) -> Vec<Row> {
        self.block_on(self.engine.query(sql, Vec::new())).unwrap()
    }

    pub(crate) fn transact(&self, transaction: Transaction) -> bool {
        self.block_on(self.engine.transact(transaction)).is_ok()
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// Posts what is not Google's to post otherwise, with a token of Google's.
    pub(crate) fn post(&self, world: &World, body: &Value) -> u16 {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let token = world.google.token(&json!({
            "iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT,
            "email_verified": true, "iat": now, "exp": now + 3600, "sub": "1",
        }));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/webhooks/gmail", self.url))
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.block_on(async { Client::new().ask(request).await.unwrap().status })
    }

    /// Nothing of the source waits any more.
    pub(crate) fn settled(&self) {
        eventually("nothing waits", || {
            let rows = self.query("SELECT count(*) FROM ingress_deliveries");
            (rows[0].int(0) == Some(0)).then_some(())
        });
    }

    pub(crate) fn dead_letters(&self) -> i64 {
        let rows = self.query("SELECT count(*) FROM ingress_dead");
        rows[0].int(0).unwrap()
    }

    /// Ends everything at once, wherever it is.
    pub(crate) fn die(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn sum(family: Family, label: Option<(&str, &str)>) -> u64 {
    let (Samples::Counter(samples) | Samples::Gauge(samples)) = family.samples else {
        panic!("{} is a distribution", family.name);
    };
    let wanted = |labels: &[(&'static str, String)]| {
        label.is_none_or(|(name, value)| labels.iter().any(|(n, v)| *n == name && v == value))
    };
    let samples = samples.iter().filter(|(labels, _)| wanted(labels));
    samples.map(|(_, count)| count).sum()
}

fn push(node: &Node) -> PushConfig {
    PushConfig {
        endpoint: format!("{}/webhooks/gmail", node.url),
        audience: AUDIENCE.to_owned(),
        service_account: ACCOUNT.to_owned(),
        ..PushConfig::default()
    }
}

fn verifier(google: &StandIn) -> GoogleVerifier {
    let url = Url::parse(&google.jwks_url()).unwrap();
    let keys = Jwks::new(Box::new(HttpIssuer::new(Client::new(), url)));
    let expected = Expected {
        audience: AUDIENCE.to_owned(),
        service_account: ACCOUNT.to_owned(),
    };
    GoogleVerifier::new(keys, expected)
}

fn google(stand_in: &StandIn, units_per_minute: u32) -> Google {
    let url = |path: &str| Url::parse(&format!("{}{path}", stand_in.url())).unwrap();
    let config = GoogleConfig {
        client_id: "client".to_owned(),
        client_secret: Secret::new("secret".to_owned()),
        auth_url: url("/o/oauth2/v2/auth"),
        token_url: url("/token"),
        revoke_url: url("/revoke"),
        gmail_url: url(""),
        jwks_url: url("/certs"),
        redirect_url: Url::parse(REDIRECT).unwrap(),
        topic: "projects/test/topics/gmail".to_owned(),
        units_per_minute,
    };
    let sealer = Sealer::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", &[]).unwrap();
    Google::new(config, Client::new(), Arc::new(sealer)).unwrap()
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
