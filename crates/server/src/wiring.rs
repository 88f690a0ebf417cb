//! The wiring: which parts make this server, in one function that reads from top to bottom.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_backend::{postgres::PostgresLog, sqlite::SqliteLog};
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    port::{Bus, Log, LogError, State, Tables},
};
use fanfare_gateway::{
    Gateway, GatewayConfig, NodeIdentity,
    judge::Judge,
    listener,
    metrics::Family,
    peers::PeerLinks,
    socketio::{Namespace, SocketIoConfig},
};
use fanfare_ingress::{Ingress, IngressError};
use fanfare_wire::Epoch;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    apps::{self, Apps},
    config::{Config, thread_count},
    mail::{self, MailApp, MailStartError},
    pages,
    shared::{OverRedis, Shared},
    tokens, webhooks,
};

/// Connections that the kernel keeps until they are accepted; it takes at most its own `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// How long clients that wait for answers may stay after the drain window.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start waits for the list of revoked tokens.
const REVOCATIONS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests under way, and publishes that were taken, may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last bytes may take to reach clients after the drain.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why the server does not start.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {0}: {1}; choose another address with --listen, or stop what uses it"
    )]
    Listen(SocketAddr, io::Error),
    /// The embedded database cannot be used.
    #[error(transparent)]
    Sqlite(#[from] fanfare_backend::sqlite::OpenError),
    /// The shared database cannot be used.
    #[error(transparent)]
    Postgres(#[from] fanfare_backend::postgres::OpenError),
    /// The address of Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] fanfare_backend::redis::RedisBusError),
    /// The webhooks cannot be served.
    #[error(transparent)]
    Webhooks(#[from] IngressError),
    /// Live mail cannot be served.
    #[error(transparent)]
    Mail(#[from] MailStartError),
    /// The operating system refuses something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// [`ServeError`] says what to do.
pub(crate) async fn serve(mut config: Config) -> Result<(), ServeError> {
    apps::complete(&mut config);
    for remark in config.remarks() {
        warn!("{remark}");
    }
    // First the address: a second server on it should not touch a database.
    let listener =
        listen(config.listen).map_err(|error| ServeError::Listen(config.listen, error))?;
    let address = listener.local_addr()?;
    let OpenLog {
        log,
        tables,
        origin,
        secret,
    } = open_log(&config).await?;
    #[cfg(feature = "sabotage")]
    let log = crate::sabotage::apply(log)?;
    info!(epoch = %log.epoch(), "the log is open");
    let metrics = Arc::new(Metrics::default());
    let Shared { bus, state, redis } = Shared::open(&config, &origin, &metrics)?;
    let node = identity(&config, address, secret.is_some());
    let peers = secret.map(|secret| PeerLinks::new(node.uid, secret.as_bytes()));
    let engine = start_engine(&config, &node, (log, bus, tables, state), metrics)?;
    let mail = mail::make(&config, &engine, address)?;
    let ingress = webhooks::start(&config, &engine, mail.as_ref())?;
    let drain = config.drain;
    let apps = Apps::start(&config, &engine);
    let gateway = gateway_config(
        config,
        node,
        (apps.all(), apps.judges()),
        redis.clone(),
        families(&ingress, mail.as_ref(), &apps),
    );
    let gateway = Gateway::new(gateway, Arc::clone(&engine));
    apps.trust(gateway.sessions());
    let webhooks = ingress
        .router()
        .merge(gateway.guarded(ingress.operator_router()));
    let mut pages = pages::router().merge(apps.router()).merge(webhooks);
    if let Some(MailApp { mail, .. }) = &mail {
        mail.begin(&ingress, &gateway);
        pages = pages.merge(mail.router());
    }
    if let Some(peers) = peers {
        pages = pages.merge(peers.router());
        engine.join(peers);
    }
    let router = gateway.router(pages);
    // Whoever waits for the line below finds a server that judges tokens; a database that hangs does not hold it up.
    if timeout(REVOCATIONS_TIMEOUT, gateway.listens())
        .await
        .is_err()
    {
        warn!(
            "the revoked tokens and the commands are not known yet; nobody is let in until they are"
        );
    }
    // The one line on standard output: whoever started the server waits for it.
    println!("listening on http://{address}");
    info!("listening on http://{address}");
    let mut signals = Signals::listen()?;
    let stop = async {
        signals.wait().await;
        apps.farewell(drain);
        engine.part();
        drain_clients(&gateway, &engine, drain).await;
    };
    let accept_errors = gateway.accept_errors();
    listener::serve(listener, router, accept_errors, stop, FLUSH_TIMEOUT).await;
    ingress.stop().await;
    flush(&engine, redis.as_deref()).await;
    info!("stopped");
    Ok(())
}

/// Listens with a long queue: clients that lost their server come back at once, and whoever finds the queue full waits a second
/// for the next try of its kernel.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As after an end with connections that are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What an engine stands on.
type Ports = (Arc<dyn Log>, Arc<dyn Bus>, Arc<dyn Tables>, Arc<dyn State>);

/// What a database gives.
struct OpenLog {
    log: Arc<dyn Log>,
    tables: Arc<dyn Tables>,
    /// The log's first epoch, which stays for as long as the log does.
    origin: Epoch,
    /// What its nodes believe each other by, if there may be several and they should commit for each other.
    secret: Option<String>,
}

async fn open_log(config: &Config) -> Result<OpenLog, ServeError> {
    match &config.postgres {
        Some(url) => {
            let log = PostgresLog::connect(url.reveal(), &config.node_name).await?;
            let log = Arc::new(log);
            let origin = log.origin();
            let secret = match config.owners {
                true => log.peers_secret().await.map_err(unavailable)?,
                false => None,
            };
            Ok(OpenLog {
                log: Arc::clone(&log) as Arc<dyn Log>,
                tables: log,
                origin,
                secret,
            })
        }
        None => {
            let log = Arc::new(SqliteLog::open(&config.data)?);
            let origin = log.epoch();
            Ok(OpenLog {
                log: Arc::clone(&log) as Arc<dyn Log>,
                tables: log,
                origin,
                secret: None,
            })
        }
    }
}

fn unavailable(error: LogError) -> ServeError {
    fanfare_backend::postgres::OpenError::Unavailable(error.0).into()
}

/// Which node this is, and where the others reach it.
fn identity(config: &Config, listening_at: SocketAddr, owners: bool) -> NodeIdentity {
    let own = (!listening_at.ip().is_unspecified()).then(|| format!("http://{listening_at}"));
    NodeIdentity {
        name: config.node_name.clone(),
        uid: Uuid::new_v4(),
        version: env!("CARGO_PKG_VERSION"),
        address: config.advertise.clone().or(own),
        owners,
    }
}

fn start_engine(
    config: &Config,
    node: &NodeIdentity,
    (log, bus, tables, state): Ports,
    metrics: Arc<Metrics>,
) -> io::Result<Arc<Engine>> {
    let (counted, node) = (Arc::clone(&metrics), node.clone());
    let started = Instant::now();
    let about = move || Gateway::about(&counted, &node, started.elapsed().as_secs());
    let engine = EngineConfig {
        shards: threads(config),
        retention: config.channels.retention(),
        retention_interval: config.retention_interval,
        stall_seconds: config.limits.stall_seconds,
        about: Arc::new(about),
        metrics,
    };
    let forms = fanfare_gateway::forms(&apps::namespaces(config), config.socketio.recovery);
    Engine::start(engine, log, bus, tables, state, forms)
}

/// How many threads serve connections, and how many everything else.
pub(crate) fn threads(config: &Config) -> usize {
    thread_count(config.threads)
}

/// What serves Socket.IO namespaces, and who judges channels.
type OfApps = (Vec<Arc<dyn Namespace>>, Vec<Arc<dyn Judge>>);

fn gateway_config(
    config: Config,
    node: NodeIdentity,
    (apps, judges): OfApps,
    redis: Option<Arc<OverRedis>>,
    families: Box<dyn Fn() -> Vec<Family> + Send + Sync>,
) -> GatewayConfig {
    let tokens = tokens::verifier(&config);
    GatewayConfig {
        node,
        api_key: config.api_key.map(|key| key.reveal().to_owned()),
        tokens,
        open: config.dev,
        anonymous: config.anonymous_clients,
        rules: config.channels,
        origins: config.allowed_origins,
        message_bytes_max: config.limits.message_bytes_max,
        connections_max: config.limits.max_connections,
        connections_per_second: config.limits.connections_per_second,
        connections_burst: config.limits.connections_burst,
        subscriptions_max: config.limits.subscriptions_per_connection_max,
        pings: config.pings,
        socketio: SocketIoConfig {
            heartbeat: config.socketio.heartbeat,
            recovery: config.socketio.recovery,
            apps,
        },
        proxies: config.proxies,
        judges,
        counters: Box::new(move || redis.as_deref().map_or_else(Vec::new, OverRedis::numbers)),
        families,
    }
}

/// What the apps count.
fn families(
    ingress: &Ingress,
    mail: Option<&MailApp>,
    apps: &Apps,
) -> Box<dyn Fn() -> Vec<Family> + Send + Sync> {
    let ingress = ingress.families();
    let mail = mail.map(|app| app.mail.families());
    let apps = apps.families();
    Box::new(move || {
        let mut families = ingress();
        families.extend(mail.iter().flat_map(|mail| mail()));
        families.extend(apps());
        families
    })
}

/// What tells the server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Turns newcomers away and says so to whoever asks whether the node is ready; then sends clients away over the drain
/// window. Requests and publishes go on meanwhile, and who waits for an answer gets it before it is sent away.
async fn drain_clients(gateway: &Gateway, engine: &Engine, window: Duration) {
    gateway.drain();
    info!(seconds = window.as_secs(), "draining");
    let gone = async {
        while engine.metrics().connections.value() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let drain = async {
        engine.hub().drain(window).await;
        sleep(ANSWER_TIMEOUT).await;
        engine.hub().drain_rest();
        sleep(FAREWELL).await;
    };
    tokio::select! {
        () = gone => {}
        () = drain => warn!("some clients did not leave in time"),
    }
}

/// Finishes what was taken.
async fn flush(engine: &Engine, redis: Option<&OverRedis>) {
    if timeout(FLUSH_TIMEOUT, engine.flushed()).await.is_err() {
        warn!(
            "some publishes were not committed in time; their publishers were not told that they were"
        );
    }
    // Who was sent away is back elsewhere within this time, or is said to have left.
    engine.presence().settle().await;
    if let Some(redis) = redis {
        redis.end().await;
    }
    sleep(FAREWELL).await;
}
