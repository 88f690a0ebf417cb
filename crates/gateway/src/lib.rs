//! The gateways: wire protocols in front of the engine.
//!
//! | path | file | serves |
//! | --- | --- | --- |
//! | `/connection/…`, `/emulation` | [`centrifuge`] | the official Centrifuge SDKs, and clients that only listen |
//! | `/events` | [`sse`] | `EventSource`, `curl` |
//! | `/api/…` | [`api`] | the application's own servers |
//! | `/health/…`, `/metrics` | [`health`], `metrics` | operators |
//! | `/internal/forward` | [`peers`] | the other nodes |
//!
//! Sockets come in at the [`listener`]; who opens a connection that stays passes the [`door`].
//!
//! A gateway knows the engine and the wire, never a backend. HTTP is axum's; once a WebSocket is open its socket belongs
//! to a shard of the hub and HTTP is out of the way.

pub mod access;
pub mod api;
pub mod centrifuge;
pub mod commands;
pub mod door;
mod forward;
pub mod health;
pub mod https;
mod identity;
pub mod jose;
pub mod judge;
pub mod listener;
pub mod metrics;
mod origin;
mod pace;
pub mod password;
pub mod peers;
mod pipe;
mod presence;
pub mod proxy;
mod query;
mod rights;
pub mod sessions;
pub mod socketio;
pub mod sse;
pub mod token;
pub mod upgrade;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use fanfare_engine::Engine;
use fanfare_wire::{
    Form, FormId, Millis,
    centrifuge::{Codec, Pushes},
    sse::{EventStream, EventStreamJoins, EventStreamNamed, EventStreamOfMany},
};

use crate::{
    access::ChannelRules,
    centrifuge::Emulation,
    commands::Commands,
    door::Door,
    judge::{Judge, Judges},
    metrics::Family,
    proxy::{Proxies, ProxyConfig},
    sessions::Sessions,
    socketio::{SocketIo, SocketIoConfig},
    token::TokenVerifier,
};

pub use centrifuge::{PING_SECONDS_MAX, Pings};
pub use health::NodeIdentity;
pub use origin::AllowedOrigins;

/// The wire form of Centrifuge clients in the list of [`forms`].
pub(crate) const WEBSOCKET_JSON: FormId = FormId(0);
/// The wire form of event streams of one channel.
pub(crate) const EVENT_STREAM: FormId = FormId(1);
/// The wire form of event streams of several channels.
pub(crate) const EVENT_STREAM_OF_MANY: FormId = FormId(2);
/// The wire form of Centrifuge clients that want to be told who joins and leaves.
pub(crate) const WEBSOCKET_JSON_JOINS: FormId = FormId(3);
/// The wire form of event streams that want to be told.
pub(crate) const EVENT_STREAM_JOINS: FormId = FormId(4);

/// The wire form of Centrifuge clients that speak Protobuf.
pub(crate) const WEBSOCKET_PROTOBUF: FormId = FormId(5);
/// The wire form of those that want to be told who joins and leaves.
pub(crate) const WEBSOCKET_PROTOBUF_JOINS: FormId = FormId(6);

/// The wire form of event streams that apps open.
pub(crate) const EVENT_STREAM_NAMED: FormId = FormId(7);

/// The first of the wire forms of Centrifuge clients over other transports.
pub(crate) const CENTRIFUGE_STREAMS: FormId = FormId(8);

/// The first of the wire forms of Centrifuge clients that take deltas.
pub(crate) const CENTRIFUGE_DELTAS: FormId =
    FormId(CENTRIFUGE_STREAMS.0 + centrifuge::STREAM_FORMS);

/// The first of the wire forms of Socket.IO's clients.
const SOCKET_IO: FormId = FormId(CENTRIFUGE_DELTAS.0 + centrifuge::DELTA_FORMS);

/// Room in a request or a frame for what surrounds a payload, in bytes.
const ENVELOPE_BYTES_MAX: usize = 16 << 10;

/// The wire forms that these gateways serve, to start the engine with. `namespaces` are the names of the apps behind
/// Socket.IO, in the order of [`SocketIoConfig::apps`]; with `recovery` its clients carry how far they have read.
#[must_use]
pub fn forms(namespaces: &[&str], recovery: bool) -> Vec<Box<dyn Form>> {
    // In the order of the numbers above.
    let mut forms: Vec<Box<dyn Form>> = vec![
        Box::new(Pushes::websocket(Codec::Json, false)),
        Box::new(EventStream),
        Box::new(EventStreamOfMany),
        Box::new(Pushes::websocket(Codec::Json, true)),
        Box::new(EventStreamJoins),
        Box::new(Pushes::websocket(Codec::Protobuf, false)),
        Box::new(Pushes::websocket(Codec::Protobuf, true)),
        Box::new(EventStreamNamed),
    ];
    forms.extend(centrifuge::stream_forms());
    forms.extend(centrifuge::delta_forms());
    forms.append(&mut socketio::forms(namespaces, recovery));
    forms
}

/// How the gateways serve.
pub struct GatewayConfig {
    /// Which node this is.
    pub node: NodeIdentity,
    /// The key of the server API. Without one only `open` lets anybody in.
    pub api_key: Option<String>,
    /// What verifies client tokens. Without it no token is valid.
    pub tokens: Option<TokenVerifier>,
    /// Open to everybody who can reach it: anonymous clients, no API key. For a first try on a loopback address.
    pub open: bool,
    /// Clients without a token are let in, as anonymous ones.
    pub anonymous: bool,
    /// Who may do what in which channels.
    pub rules: ChannelRules,
    /// Web pages that may connect.
    pub origins: AllowedOrigins,
    /// Longest payload of a publication, in bytes.
    pub message_bytes_max: usize,
    /// Connections to this node, WebSockets and event streams together.
    pub connections_max: usize,
    /// New connections that are let in each second; 0 for as many as come.
    pub connections_per_second: u32,
    /// New connections that are let in at once after a quiet time.
    pub connections_burst: u32,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// How often clients of the Centrifuge protocol are asked whether they are there.
    pub pings: Pings,
    /// How Socket.IO is served.
    pub socketio: SocketIoConfig,
    /// What is asked of the application's backend.
    pub proxies: ProxyConfig,
    /// Apps that decide who subscribes in their namespaces.
    pub judges: Vec<Arc<dyn Judge>>,
    /// More numbers for `/metrics`: name, help, value.
    pub counters: Box<dyn Fn() -> Vec<(&'static str, &'static str, u64)> + Send + Sync>,
    /// What apps count, for `/metrics`.
    pub families: Box<dyn Fn() -> Vec<Family> + Send + Sync>,
}

/// What all gateways share.
pub struct Gateway {
    config: GatewayConfig,
    engine: Arc<Engine>,
    started: Instant,
    door: Door,
    sessions: Arc<Sessions>,
    commands: Arc<Commands>,
    socketio: Arc<SocketIo>,
    proxies: Option<Arc<Proxies>>,
    judges: Arc<Judges>,
    emulation: Arc<Emulation>,
    /// The other nodes, to be asked what only they know.
    others: forward::Peers,
    accept_errors: Arc<AtomicU64>,
}

impl Gateway {
    /// Gateways in front of an engine that was started with [`forms`]. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(mut config: GatewayConfig, engine: Arc<Engine>) -> Arc<Self> {
        let door = Door::new(
            config.connections_max,
            config.connections_per_second,
            config.connections_burst,
        );
        let sessions = Sessions::start(config.tokens.take(), &engine);
        let judges = Arc::new(Judges::start(std::mem::take(&mut config.judges)));
        judges.restrict(&mut config.rules);
        let commands = Commands::start(&engine, &judges);
        let proxies = Proxies::start(std::mem::take(&mut config.proxies));
        Arc::new_cyclic(|gateway| {
            let socketio = SocketIo::new(
                std::mem::take(&mut config.socketio),
                gateway,
                Arc::clone(&engine),
                config.node.uid,
                config.subscriptions_max,
                SOCKET_IO,
            );
            let others = forward::Peers::new(Arc::clone(&engine), config.node.uid, Duration::ZERO);
            let emulation = Emulation::new(Arc::clone(&engine), config.node.uid);
            Self {
                config,
                sessions,
                commands,
                engine,
                socketio,
                proxies,
                judges,
                emulation,
                others,
                started: Instant::now(),
                door,
                accept_errors: Arc::default(),
            }
        })
    }

    /// All routes, and `pages` beside them.
    pub fn router(self: &Arc<Self>, pages: Router) -> Router {
        let body_bytes_max = self.config.message_bytes_max + ENVELOPE_BYTES_MAX;
        let api = api::routes()
            .fallback(api::unknown)
            .method_not_allowed_fallback(api::not_allowed)
            .layer(middleware::from_fn_with_state(Arc::clone(self), api::guard))
            .layer(DefaultBodyLimit::max(body_bytes_max));
        Router::new()
            .merge(centrifuge::routes())
            .route("/events", get(sse::events))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/metrics", get(metrics::metrics))
            .route("/api/openapi.json", get(api::openapi))
            .nest("/api", api)
            .with_state(Arc::clone(self))
            .merge(socketio::socket_io(self))
            .merge(pages)
            .layer(middleware::from_fn_with_state(Arc::clone(self), protect))
    }

    /// Guards an app's methods of the server API, whose whole paths begin with `/api/`: only who has the key, and sends
    /// JSON, gets to them. Their place is among the `pages` of [`router`](Self::router).
    pub fn guarded(self: &Arc<Self>, methods: Router) -> Router {
        methods
            .method_not_allowed_fallback(api::not_allowed)
            .layer(middleware::from_fn_with_state(Arc::clone(self), api::guard))
            .layer(DefaultBodyLimit::max(ENVELOPE_BYTES_MAX))
    }

    /// Who a token says that somebody is, and whether it was revoked.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Waits until the node judges tokens and hears commands: from then on clients are let in.
    pub async fn listens(&self) {
        self.sessions.ready().await;
        self.commands.heard().await;
    }

    /// From now on the node is not ready, and new connections are turned away. What is there goes on.
    pub fn drain(&self) {
        self.door.drain();
    }

    /// Where the [`listener`] counts connections that could not be accepted.
    #[must_use]
    pub fn accept_errors(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.accept_errors)
    }
}

/// Seconds since the Unix epoch, for the expiry of tokens.
fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since the Unix epoch, for what is told to clients.
fn unix_millis() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// What holds for every request: an open server answers to local names only, so that a page of another site cannot reach
/// it by pointing its own name at the loopback address; and no answer is taken for another type than it says.
async fn protect(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if gateway.config.open && !origin::is_local_host(request.headers().get(header::HOST)) {
        return (
            StatusCode::FORBIDDEN,
            "a server with --dev answers to local names only",
        )
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
