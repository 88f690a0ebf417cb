//! The supervisor: one session after the other, each with the masters that were found at its begin.
//!
//! A session is everything that the bus does with one map of masters: a publisher for each master, one listener with a
//! connection to each, and a watch for news of other masters. Whatever shows that the map or a path of it does not hold ends
//! the session as a whole: the bus is down, everything is closed, the masters are looked for again. So there is one way to
//! come up, whatever happened before, and no state in between in which part of the bus is believed that should not be.
//! Only a publisher that loses its connection makes it anew by itself: others hear from it again, and nothing is lost.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    Shared,
    access::Endpoint,
    backoff::{BACKOFF_MAX, Backoff},
    delivery::SessionId,
    heartbeat::{HEARTBEAT_AGE_MAX, Heartbeat},
    listener, publisher,
    topology::{Map, Master, Unfit},
};

/// A session that was up for so long was a good one: the next may begin at once.
const STEADY: Duration = BACKOFF_MAX;

/// Why a session has ended.
#[derive(Debug, Clone, Error)]
pub(super) enum Broken {
    #[error("{0}: {1}")]
    Redis(Endpoint, String),
    #[error("{0} closed the connection")]
    Closed(Endpoint),
    #[error("no own heartbeat came back from {0} within {HEARTBEAT_AGE_MAX:?}")]
    Silent(Endpoint),
    #[error("a slot has moved away from {0}")]
    Moved(Endpoint),
    #[error("{0}")]
    Unfit(#[from] Unfit),
    #[error("a task of the bus has failed: {0}")]
    Failed(String),
}

/// All that belongs to one map of masters.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) id: SessionId,
    pub(super) map: Map,
    /// One for each master, in the order of the map.
    pub(super) paths: Vec<Path>,
    ending: Ending,
    up_since: OnceLock<Instant>,
}

/// The way through one master: from this node's publisher there to this node's listener.
#[derive(Debug)]
pub(super) struct Path {
    /// The place of the master in the map, and of its lane in the queue.
    pub(super) place: usize,
    pub(super) master: Master,
    pub(super) heartbeat: Heartbeat,
    /// Where the heartbeats go: a topic of a partition that the master serves.
    pub(super) topic: String,
}

/// The first reason to end a session.
#[derive(Default)]
struct Ending {
    reason: Mutex<Option<Broken>>,
    bell: Notify,
}

/// Keeps a session open until the task is ended.
pub(super) async fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        let broken = match shared.topology.locate(&shared.access).await {
            Ok(map) => run_session(shared, map, &mut backoff).await,
            Err(unfit) => unfit.into(),
        };
        shared.registry.close();
        let reason = broken.to_string();
        if shared.delivery.down() {
            let publisher = shared.publisher_trouble().unwrap_or_default();
            tracing::warn!(
                redis = %shared.address, reason, publisher,
                "the bus is down; messages go on over the database, up to a few hundred milliseconds later"
            );
        } else {
            tracing::debug!(redis = %shared.address, reason, "the bus is still down");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One session, from the first connection to the moment it is given up and everything of it has ended.
async fn run_session(shared: &Arc<Shared>, map: Map, backoff: &mut Backoff) -> Broken {
    let session = Arc::new(Session::new(shared, map));
    shared
        .queue
        .route(session.map.owners.clone(), session.paths.len());
    let mut tasks = JoinSet::new();
    tasks.spawn(listener::run(Arc::clone(&session)));
    for place in 0..session.paths.len() {
        tasks.spawn(publisher::run(Arc::clone(&session), place));
    }
    tasks.spawn(watch(Arc::clone(&session)));
    let broken = tokio::select! {
        ended = tasks.join_next() => match ended {
            Some(Ok(broken)) => broken,
            Some(Err(error)) => Broken::Failed(error.to_string()),
            None => Broken::Failed("there was none".to_owned()),
        },
        broken = session.ended() => broken,
    };
    tasks.shutdown().await;
    if session
        .up_since
        .get()
        .is_some_and(|since| since.elapsed() >= STEADY)
    {
        backoff.reset();
    }
    broken
}

async fn watch(session: Arc<Session>) -> Broken {
    let shared = &session.shared;
    let unfit = shared.topology.watch(&shared.access, &session.map).await;
    unfit.into()
}

impl Session {
    fn new(shared: &Arc<Shared>, map: Map) -> Self {
        let id = shared.delivery.begin();
        let paths = map.masters.iter().enumerate().map(|(place, master)| Path {
            place,
            master: master.clone(),
            heartbeat: Heartbeat::new(id),
            topic: shared.topics.heartbeat(map.partition_of(place)),
        });
        Self {
            shared: Arc::clone(shared),
            id,
            paths: paths.collect(),
            map,
            ending: Ending::default(),
            up_since: OnceLock::new(),
        }
    }

    /// Every path works and every subscription is confirmed.
    pub(super) fn up(&self, channels: usize) {
        let shared = &self.shared;
        shared.worked.store(true, Relaxed);
        shared.note_publisher(None);
        let masters = self.paths.len();
        tracing::info!(redis = %shared.address, masters, channels, "the bus is up");
        self.up_since.get_or_init(Instant::now);
        shared.delivery.up();
    }

    /// A connection was made; it counts if there was one before.
    pub(super) fn note_connection(&self) {
        let again = self.shared.worked.load(Relaxed);
        self.shared
            .counters
            .reconnects
            .fetch_add(u64::from(again), Relaxed);
    }

    /// Ends the session; the first reason counts.
    pub(super) fn end(&self, broken: Broken) {
        let mut reason = self.ending.lock();
        reason.get_or_insert(broken);
        drop(reason);
        self.ending.bell.notify_one();
    }

    async fn ended(&self) -> Broken {
        loop {
            if let Some(broken) = self.ending.lock().clone() {
                return broken;
            }
            self.ending.bell.notified().await;
        }
    }
}

impl Path {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.master.endpoint
    }
}

impl Ending {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Broken>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
