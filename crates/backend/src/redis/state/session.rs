//! The supervisor: one session after the other, each with the masters that were found at its begin.
//!
//! A session asks where the masters are, connects to each, checks that they are fit to keep state, loads the scripts and
//! takes, or renews, the lease of this node. Then the state is up, until anything shows that the session does not hold; and
//! the next one begins with the same questions.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::state::StateError;
use futures_util::future::try_join_all;
use redis::{RedisError, cmd};
use thiserror::Error;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    CALL_TIMEOUT,
    counters::StateCounters,
    policy::{self, Eviction},
    pulse,
    script::Hashes,
    store::{Live, Server, Shared},
};
use crate::redis::{
    access::Endpoint,
    backoff::{BACKOFF_MAX, Backoff},
    topology::{CHECK_INTERVAL, CHECKS_PER_DEEP_ONE, Map, Master, Unfit},
};

/// How often a server that was refused is asked again.
const REFUSED_INTERVAL: Duration = Duration::from_secs(2);

/// Every so many checks of the masters, their eviction is looked at as well: every 10 seconds.
const CHECKS_PER_EVICTION: u64 = 2;

/// A session that was up for so long was a good one: the next may begin at once.
const STEADY: Duration = BACKOFF_MAX;

/// Why a session has ended, or none has begun.
#[derive(Debug, Clone, Error)]
pub(super) enum Broken {
    #[error("Redis at {0}: {1}")]
    Redis(Endpoint, String),
    #[error("a slot has moved away from {0}")]
    Moved(Endpoint),
    #[error(transparent)]
    Topology(#[from] Unfit),
    #[error("Redis at {0}: {1}")]
    Eviction(Endpoint, String),
    #[error(transparent)]
    Call(#[from] StateError),
    #[error("a task of the state has failed: {0}")]
    Failed(String),
}

impl Broken {
    fn into_error(self) -> StateError {
        match self {
            Self::Eviction(..) => StateError::Unfit(self.to_string()),
            Self::Call(error) => error,
            _ => StateError::Unavailable(self.to_string()),
        }
    }
}

/// Keeps a session open until the task is ended.
pub(super) async fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut refused = false;
    loop {
        let broken = match open(shared).await {
            Ok(live) => {
                refused = false;
                run_session(shared, live, &mut backoff).await
            }
            Err(broken) => broken,
        };
        let redis = &shared.address;
        let reason = broken.to_string();
        let is_refusal = matches!(broken, Broken::Eviction(..));
        let news = shared.down(broken.into_error());
        if is_refusal {
            if !refused {
                StateCounters::add(&shared.counters.refused, 1);
                tracing::error!(%redis, reason, "Redis is refused for shared state; messages go on");
            }
            refused = true;
            sleep(REFUSED_INTERVAL).await;
            continue;
        }
        if news {
            tracing::warn!(%redis, reason, "the shared state is down; each node goes on with its own");
        } else {
            tracing::debug!(%redis, reason, "the shared state is still down");
        }
        sleep(backoff.next()).await;
    }
}

/// Finds the masters and makes sure of each; takes the lease of this node.
async fn open(shared: &Arc<Shared>) -> Result<Arc<Live>, Broken> {
    let map = shared.topology.locate(&shared.access).await?;
    let masters = map.masters.iter();
    let masters = try_join_all(masters.map(|master| open_master(shared, &map, master))).await?;
    let live = Arc::new(Live::new(map, masters));
    pulse::introduce(shared, &live).await?;
    Ok(live)
}

async fn open_master(shared: &Shared, map: &Map, master: &Master) -> Result<Server, Broken> {
    let endpoint = &master.endpoint;
    let access = &shared.access;
    let failed = |error: RedisError| Broken::Redis(endpoint.clone(), access.describe(&error));
    let mut connection = access
        .connect(endpoint, CALL_TIMEOUT)
        .await
        .map_err(failed)?;
    let topology = &shared.topology;
    topology
        .check(&mut connection, access, master, map, false)
        .await?;
    let eviction = Eviction::ask(&mut connection).await.map_err(failed)?;
    match eviction.as_ref().map(Eviction::objection) {
        Some(Some(objection)) => return Err(Broken::Eviction(endpoint.clone(), objection)),
        Some(None) => {}
        None => tracing::warn!(
            redis = %endpoint,
            "the maxmemory-policy is not told to this user; allow it INFO, and make sure that it is noeviction or volatile-ttl"
        ),
    }
    let run = policy::run_of(&mut connection).await.map_err(failed)?;
    let mut hashes = Hashes::default();
    for text in shared.texts.iter() {
        let load = cmd("SCRIPT").arg("LOAD").arg(text).to_owned();
        let hash: String = load.query_async(&mut connection).await.map_err(failed)?;
        hashes.0.push(hash);
    }
    Ok(Server {
        endpoint: endpoint.clone(),
        run,
        connection,
        hashes,
    })
}

/// One session, from the moment it is up to the moment it is given up.
async fn run_session(shared: &Arc<Shared>, live: Arc<Live>, backoff: &mut Backoff) -> Broken {
    shared.note_session();
    let masters = live.masters.len();
    tracing::info!(redis = %shared.address, masters, "the shared state is up");
    let since = Instant::now();
    shared.up(&live);
    let mut tasks = JoinSet::new();
    let parts = || (Arc::clone(shared), Arc::clone(&live));
    let (of, with) = parts();
    tasks.spawn(async move { pulse::beat(&of, &with).await });
    let (of, with) = parts();
    tasks.spawn(async move { pulse::sweep(&of, &with).await });
    let (of, with) = parts();
    tasks.spawn(async move { pulse::keep(&of, &with).await });
    let (of, with) = parts();
    tasks.spawn(async move { check(&of, &with).await });
    let (of, with) = parts();
    tasks.spawn(async move { of.topology.watch(&of.access, &with.map).await.into() });
    let broken = tokio::select! {
        ended = tasks.join_next() => match ended {
            Some(Ok(broken)) => broken,
            Some(Err(error)) => Broken::Failed(error.to_string()),
            None => Broken::Failed("there was none".to_owned()),
        },
        broken = live.ended() => broken,
    };
    tasks.shutdown().await;
    if since.elapsed() >= STEADY {
        backoff.reset();
    }
    broken
}

/// Asks every master, again and again, whether it still is what it was.
async fn check(shared: &Shared, live: &Live) -> Broken {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut evicted = vec![None; live.masters.len()];
    for number in 0_u64.. {
        ticks.tick().await;
        let deep = number % CHECKS_PER_DEEP_ONE == CHECKS_PER_DEEP_ONE - 1;
        for (place, server) in live.masters.iter().enumerate() {
            if let Err(broken) = check_master(shared, live, place, deep).await {
                return broken;
            }
            if number % CHECKS_PER_EVICTION == 0
                && let Err(broken) = check_eviction(shared, server, &mut evicted[place]).await
            {
                return broken;
            }
        }
    }
    Broken::Failed("there was nothing to check".to_owned())
}

async fn check_master(
    shared: &Shared,
    live: &Live,
    place: usize,
    deep: bool,
) -> Result<(), Broken> {
    let mut connection = live.masters[place].connection.clone();
    let master = &live.map.masters[place];
    let (topology, access) = (&shared.topology, &shared.access);
    let checked = topology.check(&mut connection, access, master, &live.map, deep);
    Ok(checked.await?)
}

/// Looks at the policy again, and whether keys were evicted since the last time.
async fn check_eviction(
    shared: &Shared,
    server: &Server,
    evicted: &mut Option<u64>,
) -> Result<(), Broken> {
    let mut connection = server.connection.clone();
    let asked = Eviction::ask(&mut connection).await;
    let asked = asked
        .map_err(|error| Broken::Redis(server.endpoint.clone(), shared.access.describe(&error)))?;
    let Some(eviction) = asked else {
        return Ok(());
    };
    if let Some(objection) = eviction.objection() {
        return Err(Broken::Eviction(server.endpoint.clone(), objection));
    }
    let before = evicted.replace(eviction.evicted);
    let more = eviction
        .evicted
        .saturating_sub(before.unwrap_or(eviction.evicted));
    if more > 0 {
        StateCounters::add(&shared.counters.evicted, more);
        tracing::warn!(
            redis = %server.endpoint, evicted = more, policy = eviction.policy, maxmemory = eviction.limit,
            "Redis is full and evicts keys; presence and other state may be gone until their owners renew them; raise its \
             maxmemory"
        );
    }
    Ok(())
}
