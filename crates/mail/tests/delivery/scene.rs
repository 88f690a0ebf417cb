//! Google's stand-in, and nodes that serve mail: an engine, an ingress, a gateway and the app each, on one database.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use fanfare_backend::sqlite::SqliteLog;
use fanfare_bench::local::TempDir;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::MemoryNetwork, state::MemoryStates},
};
use fanfare_gateway::{
    AllowedOrigins, Gateway, GatewayConfig, NodeIdentity,
    access::{Access, ChannelOptions, ChannelRules},
    listener,
    metrics::Samples,
    token::{TokenSigner, TokenVerifier},
};
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
    WEBHOOK_PATH, WEBHOOK_SOURCE,
    app::{Demo, Mail, MailConfig, PublicUrl},
    google::{GoogleConfig, Secret},
    seal::Sealer,
};
use fanfare_stand_in::{Google as StandIn, pubsub::PushConfig};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use uuid::Uuid;

/// The secret that tokens and cookies are signed with.
pub(crate) const TOKEN_SECRET: &[u8] = b"a secret of the tests of mail";
/// Longer than anything here takes; only a failure waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The mailbox of most tests.
pub(crate) const ANN: &str = "ann@example.com";

/// Google, and the nodes that serve its users.
pub(crate) struct Scene {
    pub(crate) google: Arc<StandIn>,
    pub(crate) nodes: Vec<Node>,
    _dir: TempDir,
}

/// One node.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    origin: String,
    mail: Arc<Mail>,
    _ingress: Arc<Ingress>,
}

/// How the nodes are.
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    pub(crate) streams_per_user_max: usize,
    pub(crate) demo: bool,
    /// Google tells its keys.
    pub(crate) certs: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 1,
            streams_per_user_max: 5,
            demo: false,
            certs: true,
        }
    }
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let google = Arc::new(StandIn::start("127.0.0.1:0".parse().unwrap()).unwrap());
        certs(&google, setup.certs);
        let dir = TempDir::new().unwrap();
        let log = Arc::new(SqliteLog::open(dir.path()).unwrap());
        let (network, states) = (MemoryNetwork::new(), MemoryStates::new());
        let mut nodes: Vec<Node> = Vec::new();
        for number in 0..setup.nodes {
            let config = EngineConfig {
                shards: 1,
                retention: Vec::new(),
                retention_interval: Duration::from_secs(3600),
                stall_seconds: 60,
                about: Arc::new(|| Bytes::from_static(b"{}")),
                metrics: Arc::new(Metrics::default()),
            };
            let engine = Engine::start(
                config,
                Arc::clone(&log) as _,
                Arc::new(network.join()),
                Arc::clone(&log) as _,
                Arc::new(states.join()),
                fanfare_gateway::forms(&[], false),
            )
            .unwrap();
            let front = nodes.first().map(|node| node.address);
            nodes.push(Node::start(number, engine, &google, front, &setup).await);
        }
        let scene = Self {
            google,
            nodes,
            _dir: dir,
        };
        scene.push_to(&scene.nodes[0]);
        scene
    }

    /// Lets Google push to a node.
    pub(crate) fn push_to(&self, node: &Node) {
        let front = &self.nodes[0];
        self.google.set_push(PushConfig {
            endpoint: format!("http://{}{WEBHOOK_PATH}", node.address),
            audience: format!("http://{}{WEBHOOK_PATH}", front.address),
            ..PushConfig::default()
        });
    }

    /// Lets Google tell its keys, or not.
    pub(crate) fn certs(&self, told: bool) {
        certs(&self.google, told);
    }

    /// A message comes; returns its id.
    pub(crate) fn message(&self, subject: &str) -> String {
        let asked = json!({"address": ANN, "from": "Bob <bob@example.com>", "subject": subject});
        let answer = self.google.control("message", &asked).unwrap();
        answer["ids"][0].as_str().unwrap().to_owned()
    }
}

impl Node {
    /// `front`: where browsers come to; this node itself, if there is none.
    async fn start(
        number: usize,
        engine: Arc<Engine>,
        google: &Arc<StandIn>,
        front: Option<SocketAddr>,
        setup: &Setup,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let front = front.unwrap_or(address);
        let public_url = PublicUrl::parse(&format!("http://{front}")).unwrap();
        let expected = Expected {
            audience: public_url.join(WEBHOOK_PATH),
            service_account: PushConfig::default().service_account,
        };
        let mail = mail(&engine, google, public_url, setup);
        let url = Url::parse(&google.jwks_url()).unwrap();
        let keys = Jwks::new(Box::new(HttpIssuer::new(Client::new(), url)));
        let source = Source {
            name: SourceName::parse(WEBHOOK_SOURCE).unwrap(),
            verify: Verify::Google(GoogleVerifier::new(keys, expected)),
            handler: mail.handler(),
            terms: Terms {
                lease: Duration::from_secs(1),
                ..Mail::terms()
            },
        };
        let name = format!("n{number}");
        let ingress = Arc::new(Ingress::start(&engine, &name, vec![source]).unwrap());
        let gateway = Gateway::new(gateway_config(&name), engine);
        mail.begin(&ingress, &gateway);
        let router = gateway.router(ingress.router().merge(mail.router()));
        let errors = gateway.accept_errors();
        let never = std::future::pending();
        tokio::spawn(async move {
            let _keeps = gateway;
            listener::serve(listener, router, errors, never, Duration::ZERO).await;
        });
        Self {
            address,
            origin: format!("http://{front}"),
            mail,
            _ingress: ingress,
        }
    }

    /// Where the mail page is served, as browsers see it.
    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// A counter or gauge of the app, with this label, if it has one.
    pub(crate) fn metric(&self, name: &str, label: Option<&str>) -> u64 {
        let families = self.mail.families()();
        let family = families.iter().find(|family| family.name == name).unwrap();
        let (Samples::Counter(samples) | Samples::Gauge(samples)) = &family.samples else {
            panic!("{name} is no number");
        };
        let wanted = |labels: &[(&str, String)]| {
            label.is_none_or(|label| labels.iter().any(|(_, value)| value == label))
        };
        let wanted = samples.iter().filter(|(labels, _)| wanted(labels));
        wanted.map(|(_, value)| value).sum()
    }
}

fn certs(google: &StandIn, told: bool) {
    let count = if told { 0 } else { 1_000_000 };
    let asked = json!({"place": "certs", "count": count, "status": 503});
    google.control("fail", &asked).unwrap();
}

fn mail(
    engine: &Arc<Engine>,
    google: &Arc<StandIn>,
    public_url: PublicUrl,
    setup: &Setup,
) -> Arc<Mail> {
    let at = |path: &str| Url::parse(&format!("{}{path}", google.url())).unwrap();
    let key = STANDARD.encode([3; 32]);
    let stand_in = Arc::clone(google);
    let demo: Demo = Arc::new(move |what: &str, asked: &Value| {
        (what == "message").then(|| stand_in.control(what, asked))
    });
    let config = MailConfig {
        google: GoogleConfig {
            client_id: "client-1".to_owned(),
            client_secret: Secret::new("the-secret-of-the-client".to_owned()),
            auth_url: at("/o/oauth2/v2/auth"),
            token_url: at("/token"),
            revoke_url: at("/revoke"),
            gmail_url: at(""),
            jwks_url: at("/certs"),
            redirect_url: Url::parse(&public_url.callback()).unwrap(),
            topic: "projects/p/topics/mail".to_owned(),
            units_per_minute: 1_000_000,
        },
        public_url,
        sealer: Arc::new(Sealer::new(&key, &[]).unwrap()),
        signer: TokenSigner::new(TOKEN_SECRET),
        keep_messages: 100,
        // Only what is told, and what is asked for.
        poll_after: Duration::from_secs(3600),
        streams_per_user_max: setup.streams_per_user_max,
        session_days: 30,
        demo: setup.demo.then_some(demo),
    };
    Mail::new(config, Arc::clone(engine)).unwrap()
}

/// What a server says of channels: the app's own are read with its tokens only.
fn gateway_config(name: &str) -> GatewayConfig {
    let of = |history| ChannelOptions {
        history,
        ..ChannelOptions::default()
    };
    GatewayConfig {
        node: NodeIdentity {
            name: name.to_owned(),
            uid: Uuid::new_v4(),
            version: "0",
            address: None,
            owners: false,
        },
        api_key: None,
        tokens: Some(TokenVerifier::new(TOKEN_SECRET)),
        open: false,
        anonymous: false,
        rules: ChannelRules {
            outside: of(Access::NOBODY),
            namespaces: [("mail".to_owned(), of(Access::SUBSCRIBER))].into(),
            unknown: None,
        },
        origins: AllowedOrigins::These(Vec::new()),
        message_bytes_max: 65_536,
        connections_max: 1000,
        connections_per_second: 0,
        connections_burst: 0,
        subscriptions_max: 10,
        pings: Default::default(),
        socketio: Default::default(),
        proxies: fanfare_gateway::proxy::ProxyConfig::default(),
        judges: Vec::new(),
        counters: Box::new(Vec::new),
        families: Box::new(Vec::new),
    }
}

/// Waits until something is there.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
