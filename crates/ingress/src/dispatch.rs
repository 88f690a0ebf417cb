//! Who works on what: for each source a task that looks for keys that are ready and gives each a turn.
//!
//! What a node has kept it looks at, at once; what others left, or what is due again, it finds within [`LOOK_MAX`].

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::Rng;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::{
    Shared,
    metrics::Worked,
    receive::REQUESTS_MAX,
    source::Source,
    store::Claim,
    work::{Turn, told},
};

/// The longest time between two looks at what is ready.
const LOOK_MAX: Duration = Duration::from_millis(1000);
/// The shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// Between two attempts to make the tables, and after a look that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is counted what waits.
const COUNT_EVERY: Duration = Duration::from_secs(3);
/// How often what is old is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(1800);
/// How long the end of a node waits for work that does not end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The tasks that work.
pub(crate) struct Dispatcher {
    stopping: watch::Sender<bool>,
    desks: Vec<Arc<Desk>>,
}

/// What receiving and working share of a source.
pub(crate) struct Desk {
    pub(crate) source: Source,
    /// Something of it was kept, or a place became free.
    news: Notify,
    places: Arc<Semaphore>,
    /// Requests of it that may be under way: no other source suffers from its senders.
    pub(crate) requests: Semaphore,
    /// More waits than is taken.
    full: AtomicBool,
    /// Keys that have a turn on this node, or are about to.
    at_work: Mutex<HashSet<String>>,
}

impl Desk {
    pub(crate) fn new(source: Source) -> Self {
        let places = Arc::new(Semaphore::new(source.terms.workers.max(1)));
        Self {
            source,
            news: Notify::new(),
            places,
            requests: Semaphore::new(REQUESTS_MAX),
            full: AtomicBool::new(false),
            at_work: Mutex::default(),
        }
    }

    pub(crate) fn nudge(&self) {
        self.news.notify_one();
    }

    /// True if the key has no turn here yet.
    fn begin(&self, key: &str) -> bool {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.insert(key.to_owned())
    }

    fn end(&self, key: &str) {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.remove(key);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }
}

impl Dispatcher {
    pub(crate) fn start(shared: &Arc<Shared>, node: &str) -> Self {
        let (stopping, stopped) = watch::channel(false);
        let desks: Vec<_> = shared.desks.values().cloned().collect();
        if !desks.is_empty() {
            let (shared, node, desks) = (Arc::clone(shared), node.to_owned(), desks.clone());
            tokio::spawn(async move {
                open(&shared).await;
                for desk in desks {
                    let looker = Looker {
                        shared: Arc::clone(&shared),
                        desk: Arc::clone(&desk),
                        node: node.clone(),
                        stopping: stopped.clone(),
                    };
                    tokio::spawn(looker.run());
                    tokio::spawn(count(Arc::clone(&shared), desk));
                }
                tokio::spawn(tidy(shared));
            });
        }
        Self { stopping, desks }
    }

    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        let all_idle = async {
            for desk in &self.desks {
                let all = u32::try_from(desk.source.terms.workers.max(1)).unwrap_or(u32::MAX);
                // An error means that there are no places: nobody works.
                let _ = desk.places.acquire_many(all).await;
            }
        };
        if timeout(STOP_TIMEOUT, all_idle).await.is_err() {
            warn!("some work on webhooks did not end in time; another node does it again");
        }
    }
}

/// Makes the tables.
async fn open(shared: &Shared) {
    let mut told = false;
    while let Err(error) = shared.store.migrate().await {
        if !told {
            error!(%error, "webhooks are refused until their tables can be made");
            told = true;
        }
        sleep(RETRY).await;
    }
    shared.opened.store(true, Relaxed);
    info!(sources = shared.desks.len(), "webhooks are taken");
}

/// Looks for work of one source.
struct Looker {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    node: String,
    stopping: watch::Receiver<bool>,
}

impl Looker {
    async fn run(mut self) {
        while !*self.stopping.borrow() {
            let wait = self.look().await;
            let mut stopping = self.stopping.clone();
            tokio::select! {
                () = self.desk.news.notified() => {}
                () = sleep(wait) => {}
                () = told(&mut stopping) => {}
            }
        }
    }

    /// Gives turns to the keys that are ready, as far as there are places; returns when to look again.
    async fn look(&mut self) -> Duration {
        if self.desk.places.available_permits() == 0 {
            // Whoever ends a turn tells.
            return LOOK_MAX;
        }
        let keys = match self.shared.store.ready(&self.desk.source.name).await {
            Ok(keys) => keys,
            Err(error) => {
                debug!(source = %self.desk.source.name, %error, "no look at what is ready");
                return RETRY;
            }
        };
        let now = self.shared.store.clock.now();
        for (key, ready_at) in keys {
            let wait = u64::try_from(ready_at - now).unwrap_or(0);
            if wait > 0 {
                let due = Duration::from_millis(wait).max(LOOK_MIN);
                return due.min(scattered(LOOK_MAX));
            }
            let Ok(place) = Arc::clone(&self.desk.places).try_acquire_owned() else {
                break;
            };
            if self.desk.begin(&key) {
                self.begin(key, place);
            }
        }
        scattered(LOOK_MAX)
    }

    fn begin(&self, key: String, place: OwnedSemaphorePermit) {
        let (shared, desk) = (Arc::clone(&self.shared), Arc::clone(&self.desk));
        let claim = Claim {
            source: desk.source.name.clone(),
            key: key.clone(),
            token: format!("{}/{}", self.node, Uuid::new_v4()),
            lease: desk.source.terms.lease,
            supersedes: desk.source.handler.supersedes(),
        };
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            let turn = Turn {
                store: &shared.store,
                metrics: &shared.metrics,
                source: &desk.source,
                claim,
                stopping,
            };
            match turn.run().await {
                Ok(true) => {}
                Ok(false) => shared.metrics.count(&desk.source.name, Worked::Outrun),
                Err(error) => {
                    debug!(source = %desk.source.name, %error, "a turn has ended early");
                    sleep(RETRY).await;
                }
            }
            desk.end(&key);
            drop(place);
            desk.nudge();
        });
    }
}

/// A little less than a time, so that nodes do not look together.
fn scattered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.7..1.0))
}

/// Counts what waits, for `/metrics` and for the bound.
async fn count(shared: Arc<Shared>, desk: Arc<Desk>) {
    let bound = desk.source.terms.waiting_max;
    loop {
        match shared
            .store
            .load(&desk.source.name, bound.saturating_add(1))
            .await
        {
            Ok(load) => {
                desk.full.store(load.waiting > bound, Relaxed);
                shared
                    .metrics
                    .set_load(&desk.source.name, load, shared.store.clock.now());
            }
            Err(error) => debug!(source = %desk.source.name, %error, "what waits is not counted"),
        }
        sleep(scattered(COUNT_EVERY)).await;
    }
}

async fn tidy(shared: Arc<Shared>) {
    loop {
        sleep(scattered(TIDY_EVERY)).await;
        match shared.store.tidy().await {
            Ok(0) => {}
            Ok(dead) => warn!(dead, "old dead letters of webhooks are forgotten"),
            Err(error) => debug!(%error, "old webhooks are not forgotten yet"),
        }
    }
}
