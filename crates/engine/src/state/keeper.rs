//! A shared state that can go away: what this node knows of it goes on, and is asserted again when it is back.

mod leases;
mod objects;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use fanfare_wire::News;
use tokio::{
    sync::{Notify, RwLock},
    time::{Instant, timeout},
};
use tracing::warn;
use uuid::Uuid;

use super::{again, known::Known};
use crate::{
    memory::state::MemoryState,
    metrics::Metrics,
    port::{
        BoxFuture, State,
        state::{
            Bucket, Change, Changed, Count, Entered, Held, Holder, Lease, Object, StateError,
            StateEvents, StateHealth, StateKey, Taken,
        },
    },
    task,
};

/// How long the shared state has to answer a call. Then it counts as away.
pub const CALL_MAX: Duration = Duration::from_secs(1);

/// A [`State`] of many nodes that survives the absence of what they share.
///
/// While the shared state answers, every call goes to it, and the node remembers what went through: the leases of its
/// connections, and the objects that it changed last (at most [`KNOWN_OBJECTS_MAX`](super::KNOWN_OBJECTS_MAX), for as long as
/// they live). When it does not answer, or not within [`CALL_MAX`], the node is *degraded*: calls are answered with what it
/// knows, which it keeps in memory; [`health`](State::health) says [`Down`](StateHealth::Down), the metric `state_degraded` is
/// 1. Buckets are the exception: they fail, and the [`Limiter`](super::Limiter) decides what that means.
///
/// When the shared state is back, or is found to have lost something while it was there, the node asserts again what it
/// knows. Objects: the higher version wins, silently. Leases: all that are still held, without regard to capacity, since
/// nobody is put out because the state was away. Who came meanwhile is announced then (to this node's own subscribers for the second
/// time), and so is who left. Who was there before is not announced again, unless the others have taken this node for dead
/// and were told that its members had left.
///
/// A lease is given back through the node that took it; otherwise that node takes it for lost.
pub struct SharedState {
    keeper: Arc<Keeper>,
}

impl SharedState {
    /// Keeps a state that is shared with other nodes and was not started yet.
    #[must_use]
    pub fn new(shared: Arc<dyn State>, metrics: Arc<Metrics>) -> Self {
        // A UUID behind a word is a key.
        let marker = StateKey::parse(&format!("keeper/{}", Uuid::new_v4()));
        let keeper = Keeper {
            shared,
            local: MemoryState::alone(),
            metrics,
            inner: Mutex::default(),
            gate: RwLock::new(()),
            wake: Notify::new(),
            marker: marker.ok(),
            events: OnceLock::new(),
        };
        Self {
            keeper: Arc::new(keeper),
        }
    }
}

impl State for SharedState {
    fn start(&self, events: Arc<dyn StateEvents>) {
        let keeper = &self.keeper;
        let _ = keeper.events.set(Arc::clone(&events));
        keeper.local.start(Arc::new(LocalNews(events)));
        if keeper.shared.health() == StateHealth::Down {
            keeper.go_on_alone();
        }
        let relay = Relay(Arc::downgrade(keeper));
        keeper.shared.start(Arc::new(relay));
        task::spawn(again::watch(Arc::downgrade(keeper)));
    }

    fn health(&self) -> StateHealth {
        match self.keeper.lock().degraded {
            true => StateHealth::Down,
            false => self.keeper.shared.health(),
        }
    }

    fn object<'a>(
        &'a self,
        key: &'a StateKey,
    ) -> BoxFuture<'a, Result<Option<Object>, StateError>> {
        Box::pin(self.keeper.object(key))
    }

    fn change<'a>(
        &'a self,
        key: &'a StateKey,
        change: Change,
    ) -> BoxFuture<'a, Result<Changed, StateError>> {
        Box::pin(self.keeper.change(key, change))
    }

    fn assert_object<'a>(
        &'a self,
        key: &'a StateKey,
        object: &'a Object,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<u64, StateError>> {
        Box::pin(self.keeper.assert_object(key, object, ttl))
    }

    fn enter<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<Vec<Entered>, StateError>> {
        Box::pin(self.keeper.enter(leases))
    }

    fn renew<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        Box::pin(self.keeper.renew(leases))
    }

    fn leave<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        Box::pin(self.keeper.leave(leases))
    }

    fn leases<'a>(
        &'a self,
        scope: &'a StateKey,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Holder>, StateError>> {
        let keeper = &self.keeper;
        let known = move |local: &MemoryState| local.step(|store, _, _| store.leases(scope, limit));
        Box::pin(keeper.look(move || keeper.shared.leases(scope, limit), known))
    }

    fn count<'a>(&'a self, scope: &'a StateKey) -> BoxFuture<'a, Result<Count, StateError>> {
        let keeper = &self.keeper;
        let known = move |local: &MemoryState| local.step(|store, _, _| store.count(scope));
        Box::pin(keeper.look(move || keeper.shared.count(scope), known))
    }

    fn take<'a>(
        &'a self,
        key: &'a StateKey,
        bucket: Bucket,
        tokens: u32,
    ) -> BoxFuture<'a, Result<Taken, StateError>> {
        Box::pin(async move {
            if self.keeper.lock().degraded {
                return Err(away());
            }
            let taken = self.keeper.shared.take(key, bucket, tokens);
            self.keeper.ask(taken).await
        })
    }
}

impl Drop for SharedState {
    fn drop(&mut self) {
        self.keeper.wake.notify_one();
    }
}

/// The part that the watching task shares.
pub(super) struct Keeper {
    pub(super) shared: Arc<dyn State>,
    /// Answers while the node is degraded; empty otherwise.
    local: MemoryState,
    pub(super) metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    /// Held for reading by whoever takes, renews or gives back leases; for writing while leases are asserted again, so that
    /// no lease comes back that was given back meanwhile. Waits no longer than calls do.
    pub(super) gate: RwLock<()>,
    /// Rung when the watching task has something to do.
    pub(super) wake: Notify,
    /// An object of this node alone: if it is gone, the shared state has lost it.
    pub(super) marker: Option<StateKey>,
    pub(super) events: OnceLock<Arc<dyn StateEvents>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) known: Known,
    /// Calls are answered with what is known here.
    pub(super) degraded: bool,
    pub(super) degraded_since: Option<Instant>,
    /// The shared state says that it is back.
    pub(super) is_back: bool,
    /// That the node is degraded was not yet reported.
    pub(super) untold: bool,
}

impl Keeper {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of the shared state, with an end. If it has none, the node is degraded.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let answer = timeout(CALL_MAX, call).await.unwrap_or_else(|_| {
            let late = format!("no answer within {CALL_MAX:?}");
            Err(StateError::Unavailable(late))
        });
        if let Err(error @ StateError::Unavailable(_)) = &answer {
            self.metrics.state_failures.add(1);
            self.degrade(&error.to_string());
        }
        answer
    }

    /// The shared state is away: says so, and from now on calls are answered here.
    fn degrade(&self, why: &str) {
        if self.go_on_alone() {
            warn!("this node goes on with the state that it knows: {why}");
        }
    }

    /// From now on calls are answered here. Returns whether that is new.
    fn go_on_alone(&self) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.degraded, true) {
            return false;
        }
        inner.degraded_since = Some(now);
        inner.untold = true;
        let known = &inner.known;
        self.local.begin_anew(known.clock(now), |store, id, at| {
            for lease in known.leases(now) {
                store.enter(id, &lease.again(false), at);
            }
            for (key, was, ttl) in known.objects(now) {
                // It fits: what is known weighs less than what the memory takes.
                let _ = store.put_back(key, was, ttl, at);
            }
        });
        drop(inner);
        self.wake.notify_one();
        true
    }

    /// From now on calls go to the shared state again.
    pub(super) fn resume(&self) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.degraded, false) {
            inner.degraded_since = None;
            self.local.begin_anew(None, |_, _, _| {});
        }
    }

    /// Answers here while the node is degraded.
    fn here<T>(&self, step: impl FnOnce(&mut Known, &MemoryState, Instant) -> T) -> Option<T> {
        let mut inner = self.lock();
        let now = Instant::now();
        inner
            .degraded
            .then(|| step(&mut inner.known, &self.local, now))
    }

    /// Reads what is shared, or what is known here.
    async fn look<'a, T>(
        &'a self,
        shared: impl FnOnce() -> BoxFuture<'a, Result<T, StateError>>,
        known: impl Fn(&MemoryState) -> T,
    ) -> Result<T, StateError> {
        if let Some(known) = self.here(|_, local, _| known(local)) {
            return Ok(known);
        }
        match self.ask(shared()).await {
            Err(StateError::Unavailable(why)) => {
                let known = self.here(|_, local, _| known(local));
                known.ok_or(StateError::Unavailable(why))
            }
            answer => answer,
        }
    }
}

/// What the shared state reports.
struct Relay(Weak<Keeper>);

impl StateEvents for Relay {
    fn on_news(&self, news: News) {
        let keeper = self.0.upgrade();
        if let Some(events) = keeper.as_ref().and_then(|keeper| keeper.events.get()) {
            events.on_news(news);
        }
    }

    fn on_up(&self) {
        if let Some(keeper) = self.0.upgrade() {
            keeper.lock().is_back = true;
            keeper.wake.notify_one();
        }
    }

    fn on_down(&self) {
        if let Some(keeper) = self.0.upgrade() {
            keeper.lock().is_back = false;
            keeper.degrade("it went away");
        }
    }
}

/// What the memory reports: news of changes that were made here.
struct LocalNews(Arc<dyn StateEvents>);

impl StateEvents for LocalNews {
    fn on_news(&self, news: News) {
        self.0.on_news(news);
    }

    fn on_up(&self) {}

    fn on_down(&self) {}
}

fn away() -> StateError {
    StateError::Unavailable("this node goes on with the state that it knows".to_owned())
}
