//! The wiring: which parts make this server, in one function that reads from top to bottom.

use std::{
    future::IntoFuture,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use fanfare_backend::{
    postgres::PostgresLog,
    redis::{BusCounters, RedisBus},
    sqlite::SqliteLog,
};
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::bus::LocalBus,
    port::{Bus, Log},
};
use fanfare_gateway::{Gateway, GatewayConfig, token::TokenVerifier};
use fanfare_wire::Epoch;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{config::Config, pages};

/// What separates the topics of this product from others on the same Redis.
const REDIS_PREFIX: &str = "fanfare";
/// How long publishes that were taken may take to be committed at the end.
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
    /// The operating system refuses something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// A bus, and what it counts if it is one that does.
type OpenBus = (Arc<dyn Bus>, Option<Arc<BusCounters>>);

/// Runs a server until it is told to stop.
///
/// # Errors
/// [`ServeError`] says what to do.
pub(crate) async fn serve(config: Config) -> Result<(), ServeError> {
    for remark in config.remarks() {
        warn!("{remark}");
    }
    // First the address: a second server on it should not touch a database.
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| ServeError::Listen(config.listen, error))?;
    let address = listener.local_addr()?;
    let (log, origin) = open_log(&config).await?;
    #[cfg(feature = "sabotage")]
    let log = crate::sabotage::apply(log)?;
    info!(epoch = %log.epoch(), "the log is open");
    let (bus, counters) = open_bus(&config, &origin)?;
    let engine = start_engine(&config, log, bus)?;
    let drain = config.drain;
    let gateway = Gateway::new(gateway_config(config, counters), Arc::clone(&engine));
    let router = gateway.router(pages::router());
    // The one line on standard output: whoever started the server waits for it.
    println!("listening on http://{address}");
    info!("listening on http://{address}");
    let server = axum::serve(listener, router).into_future();
    tokio::select! {
        ended = server => ended?,
        stopped = stop_signal() => {
            stopped?;
            stop(&engine, drain).await;
        }
    }
    Ok(())
}

/// The log, and its first epoch, which stays for as long as the log does.
async fn open_log(config: &Config) -> Result<(Arc<dyn Log>, Epoch), ServeError> {
    match &config.postgres {
        Some(url) => {
            let log = PostgresLog::connect(url.reveal(), &config.node_name).await?;
            let origin = log.origin();
            Ok((Arc::new(log), origin))
        }
        None => {
            let log = SqliteLog::open(&config.data)?;
            let origin = log.epoch();
            Ok((Arc::new(log), origin))
        }
    }
}

fn open_bus(config: &Config, origin: &Epoch) -> Result<OpenBus, ServeError> {
    match (&config.postgres, &config.redis) {
        (Some(_), Some(url)) => {
            let bus = RedisBus::connect(url.reveal(), origin, REDIS_PREFIX)?;
            let counters = bus.counters();
            Ok((Arc::new(bus), Some(counters)))
        }
        // The embedded database serves one node; and a shared one without Redis is swept by its nodes.
        (None, _) => Ok((Arc::new(LocalBus), None)),
        (Some(_), None) => Ok((Arc::new(fanfare_engine::memory::bus::AbsentBus), None)),
    }
}

fn start_engine(config: &Config, log: Arc<dyn Log>, bus: Arc<dyn Bus>) -> io::Result<Arc<Engine>> {
    let metrics = Arc::new(Metrics::default());
    let (counted, name) = (Arc::clone(&metrics), config.node_name.clone());
    let (uid, started) = (Uuid::new_v4().to_string(), Instant::now());
    let about = move || {
        Gateway::about(
            &counted,
            &name,
            &uid,
            env!("CARGO_PKG_VERSION"),
            started.elapsed().as_secs(),
        )
    };
    let engine = EngineConfig {
        shards: threads(config),
        retention: config.channels.retention(),
        retention_interval: config.retention_interval,
        about: Arc::new(about),
        metrics,
    };
    Engine::start(engine, log, bus, fanfare_gateway::forms())
}

/// How many threads serve connections, and how many everything else.
pub(crate) fn threads(config: &Config) -> usize {
    match config.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn gateway_config(config: Config, counters: Option<Arc<BusCounters>>) -> GatewayConfig {
    GatewayConfig {
        node_name: config.node_name,
        version: env!("CARGO_PKG_VERSION"),
        api_key: config.api_key.map(|key| key.reveal().to_owned()),
        tokens: config
            .token_secret
            .map(|secret| TokenVerifier::new(secret.reveal().as_bytes())),
        open: config.dev,
        rules: config.channels,
        origins: config.allowed_origins,
        message_bytes_max: config.limits.message_bytes_max,
        connections_max: config.limits.max_connections,
        subscriptions_max: config.limits.subscriptions_per_connection_max,
        counters: Box::new(move || counters.as_deref().map_or_else(Vec::new, bus_numbers)),
    }
}

fn bus_numbers(counters: &BusCounters) -> Vec<(&'static str, &'static str, u64)> {
    vec![
        (
            "bus_published",
            "Hints that Redis took",
            counters.published.load(Relaxed),
        ),
        (
            "bus_received",
            "Hints that arrived from Redis",
            counters.received.load(Relaxed),
        ),
        (
            "bus_dropped",
            "Hints given up before Redis took them",
            counters.dropped.load(Relaxed),
        ),
        (
            "bus_decode_errors",
            "Messages that were no hint",
            counters.decode_errors.load(Relaxed),
        ),
        (
            "bus_reconnects",
            "Connections to Redis made again",
            counters.reconnects.load(Relaxed),
        ),
    ]
}

async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Sends clients away over the drain window, then finishes what was taken. The listener is closed already.
async fn stop(engine: &Engine, drain: Duration) {
    info!(seconds = drain.as_secs(), "draining");
    let connections = engine.metrics().connections.value();
    if connections > 0 {
        engine
            .hub()
            .drain(u32::try_from(drain.as_secs()).unwrap_or(u32::MAX));
        let deadline = Instant::now() + drain + Duration::from_secs(2);
        while engine.metrics().connections.value() > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
    }
    if timeout(FLUSH_TIMEOUT, engine.flushed()).await.is_err() {
        warn!(
            "some publishes were not committed in time; their publishers were not told that they were"
        );
    }
    sleep(FAREWELL).await;
    info!("stopped");
}
