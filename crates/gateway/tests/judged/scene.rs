//! Nodes on a log in memory, joined by a bus that can be cut, and the app that judges `chat`.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{
        bus::{MemoryBus, MemoryNetwork},
        log::MemoryLog,
        state::MemoryStates,
        tables::NoTables,
    },
    port::BoxFuture,
};
use fanfare_gateway::{
    AllowedOrigins, Gateway, GatewayConfig, NodeIdentity,
    access::{Access, ChannelOptions, ChannelRules},
    commands, forms,
    judge::{Asked, Judge, Verdict},
    listener,
    token::{ConnectionClaims, TokenSigner, TokenVerifier},
};
use fanfare_wire::{ChannelName, Draft, Epoch, Json, Seq};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use uuid::Uuid;

use crate::client::Client;

/// Longer than anything here takes; only a failure waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const KEY: &str = "the key of the server API";
const SECRET: &[u8] = b"a secret of the tests of judges";

/// The app: who is a member of which channel, as it is committed.
pub(crate) struct Members {
    rows: Mutex<HashSet<(String, String)>>,
    /// Answers come while it is open.
    gate: watch::Sender<bool>,
    /// What it was asked about, in order.
    asked: Mutex<Vec<String>>,
    /// For how long a yes holds.
    pub(crate) seconds: AtomicU32,
    away: watch::Sender<bool>,
}

impl Members {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            gate: watch::Sender::new(true),
            asked: Mutex::default(),
            seconds: AtomicU32::new(600),
            away: watch::Sender::new(false),
        })
    }

    pub(crate) fn add(&self, user: &str, channel: &str) {
        self.rows().insert((user.to_owned(), channel.to_owned()));
    }

    pub(crate) fn remove(&self, user: &str, channel: &str) {
        self.rows().remove(&(user.to_owned(), channel.to_owned()));
    }

    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    pub(crate) fn away(&self, away: bool) {
        self.away.send_replace(away);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn asked_about(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn rows(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.rows.lock().unwrap()
    }
}

impl Judge for Members {
    fn namespaces(&self) -> &[&str] {
        &["chat"]
    }

    /// Reads what is committed now, and says it later.
    fn may_subscribe(&self, asked: Asked) -> BoxFuture<'static, Verdict> {
        let row = (asked.user.clone(), asked.channel.as_str().to_owned());
        let verdict = match self.rows().contains(&row) {
            _ if *self.away.borrow() => Verdict::Away,
            true => Verdict::Yes {
                seconds: self.seconds.load(Relaxed),
            },
            false => Verdict::No,
        };
        let channel = asked.channel.as_str().to_owned();
        self.asked.lock().unwrap().push(channel);
        let mut gate = self.gate.subscribe();
        Box::pin(async move {
            gate.wait_for(|open| *open).await.unwrap();
            verdict
        })
    }
}

/// Nodes, and the app on all of them.
pub(crate) struct Scene {
    runtime: Runtime,
    pub(crate) app: Arc<Members>,
    nodes: Vec<Node>,
}

struct Node {
    engine: Arc<Engine>,
    bus: Arc<MemoryBus>,
    address: SocketAddr,
}

impl Scene {
    pub(crate) fn start(nodes: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let log = MemoryLog::new(Epoch::parse("e1").unwrap(), || 1);
        let (network, states) = (MemoryNetwork::new(), MemoryStates::new());
        let app = Members::new();
        let start = |number| {
            let bus = Arc::new(network.join());
            let config = EngineConfig {
                shards: 2,
                retention: Vec::new(),
                retention_interval: Duration::from_secs(3600),
                stall_seconds: 60,
                about: Arc::new(|| "{}".into()),
                metrics: Arc::new(Metrics::default()),
            };
            let engine = Engine::start(
                config,
                Arc::new(log.open_lane()),
                Arc::clone(&bus) as _,
                Arc::new(NoTables),
                Arc::new(states.join()),
                forms(&[], false),
            );
            let engine = engine.unwrap();
            let config = gateway_config(number, Arc::clone(&app));
            let gateway = Gateway::new(config, Arc::clone(&engine));
            let address = runtime.block_on(serve(&gateway));
            Node {
                engine,
                bus,
                address,
            }
        };
        let nodes = {
            let _entered = runtime.enter();
            (0..nodes).map(start).collect()
        };
        Self {
            runtime,
            app,
            nodes,
        }
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// A client that is connected as this user.
    pub(crate) fn client(&self, node: usize, user: &str) -> Client {
        self.client_with(node, claims(user))
    }

    pub(crate) fn client_with(&self, node: usize, claims: ConnectionClaims) -> Client {
        let mut client = Client::open(self.address(node));
        let reply = client.command("connect", serde_json::json!({"token": token(&claims)}));
        assert!(reply.get("connect").is_some(), "{reply}");
        client
    }

    pub(crate) fn publish(&self, node: usize, channel: &str, data: &str) -> Seq {
        let data = Json::parse(data.as_bytes()).unwrap();
        self.commit(node, Draft::new(name(channel), Uuid::now_v7(), data))
    }

    /// As the app does it: the row and the command are committed together.
    pub(crate) fn expel(&self, node: usize, user: &str, channel: &str) {
        self.app.remove(user, channel);
        let draft = commands::unsubscribe_draft(user, &name(channel));
        self.commit(node, draft.unwrap());
    }

    pub(crate) fn commit(&self, node: usize, draft: Draft) -> Seq {
        let publishing = self.nodes[node].engine.publish(draft);
        self.runtime.block_on(publishing).unwrap().seq
    }

    /// Takes the bus away from a node, as if Redis were gone.
    pub(crate) fn cut(&self, node: usize) {
        self.nodes[node].bus.cut();
    }

    /// The status and the body of the answer to a request.
    pub(crate) fn http(&self, node: usize, head: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address(node)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!(
            "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

async fn serve(gateway: &Arc<Gateway>) -> SocketAddr {
    gateway.listens().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = gateway.router(axum::Router::new());
    let errors = gateway.accept_errors();
    let never = std::future::pending();
    tokio::spawn(listener::serve(listener, router, errors, never, PATIENCE));
    address
}

fn gateway_config(number: usize, app: Arc<Members>) -> GatewayConfig {
    // Whatever an operator opens.
    let open = ChannelOptions {
        subscribe: Access::ANYONE,
        publish: Access::SUBSCRIBER,
        history: Access::ANYONE,
        presence: Some(Access::ANYONE),
        personal_channels: true,
        allow_user_limited_channels: true,
        ..ChannelOptions::default()
    };
    GatewayConfig {
        node: NodeIdentity {
            name: number.to_string(),
            uid: Uuid::new_v4(),
            version: "0",
            address: None,
            owners: false,
        },
        api_key: Some(KEY.to_owned()),
        tokens: Some(TokenVerifier::new(SECRET)),
        open: false,
        anonymous: true,
        rules: ChannelRules {
            outside: open.clone(),
            namespaces: [("chat".to_owned(), open.clone())].into(),
            unknown: Some(open),
        },
        origins: AllowedOrigins::These(Vec::new()),
        message_bytes_max: 65_536,
        connections_max: 1000,
        connections_per_second: 0,
        connections_burst: 0,
        subscriptions_max: 1000,
        pings: Default::default(),
        socketio: Default::default(),
        proxies: Default::default(),
        judges: vec![app],
        counters: Box::new(Vec::new),
        families: Box::new(Vec::new),
    }
}

pub(crate) fn claims(user: &str) -> ConnectionClaims {
    ConnectionClaims {
        sub: user.to_owned(),
        ..ConnectionClaims::default()
    }
}

pub(crate) fn token(claims: &ConnectionClaims) -> String {
    TokenSigner::new(SECRET).sign_connection(claims).unwrap()
}

pub(crate) fn signer() -> TokenSigner {
    TokenSigner::new(SECRET)
}

pub(crate) fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

/// Waits for something that happens elsewhere.
#[track_caller]
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}
