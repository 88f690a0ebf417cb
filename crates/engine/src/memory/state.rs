//! States that live in this process: [`MemoryState::alone`] for a server without others, [`MemoryStates`] for tests, where
//! several nodes of one process share a state that can be taken away from them.
//!
//! Nothing here does IO. Times are those of tokio's clock, which a test can pause.

mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fanfare_wire::News;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

pub(crate) use self::store::{Micros, Store, Was};
use crate::{
    port::{
        BoxFuture, State,
        state::{
            Bucket, Change, Changed, Count, Entered, Held, Holder, Lease, NODE_LEASE, Object,
            StateError, StateEvents, StateHealth, StateKey, Taken,
        },
    },
    task,
};

/// What the objects of one memory may weigh together, removed ones included while they are remembered. Beyond it changes
/// that add to it fail.
pub const OBJECTS_BYTES_MAX: usize = 64 << 20;

/// Buckets that are not full. Of more than these, the one that is full again first is forgotten.
pub const BUCKETS_MAX: usize = 100_000;

/// News that may wait for one node; what comes on top is lost, as news may be.
pub const NEWS_WAITING_MAX: usize = 65_536;

/// How often a node renews its own lease and ends what has ended by itself.
const TICK: Duration = Duration::from_millis(500);

/// A state in memory that several nodes share. Leases are as many as connections hold; everything else is bounded.
#[derive(Debug, Clone, Default)]
pub struct MemoryStates {
    shared: Arc<Shared>,
}

impl MemoryStates {
    /// A state without nodes, and empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. It leaves without a word when its state is dropped.
    #[must_use]
    pub fn join(&self) -> MemoryState {
        self.add(false)
    }

    /// Loses everything without telling anyone, as `FLUSHALL` does.
    pub fn lose_everything(&self) {
        self.shared.lock().store = Store::default();
    }

    fn add(&self, alone: bool) -> MemoryState {
        let node = Arc::new(Node::default());
        let mut memory = self.shared.lock();
        memory.nodes.retain(|node| node.strong_count() > 0);
        memory.nodes.push(Arc::downgrade(&node));
        drop(memory);
        MemoryState {
            id: Uuid::new_v4(),
            alone,
            shared: Arc::clone(&self.shared),
            node,
        }
    }
}

/// One node's access to a state in memory.
#[derive(Debug)]
pub struct MemoryState {
    id: Uuid,
    alone: bool,
    shared: Arc<Shared>,
    node: Arc<Node>,
}

impl MemoryState {
    /// The state of a server without others: always there, with news by [`StateEvents::on_news`].
    #[must_use]
    pub fn alone() -> Self {
        MemoryStates::new().add(true)
    }

    /// Takes the state away from this node: calls fail. Reported by [`StateEvents::on_down`].
    pub fn cut(&self) {
        self.node.set_path(Path::Cut);
    }

    /// From now on calls are not answered, until [`mend`](Self::mend) or [`cut`](Self::cut). Reported to nobody.
    pub fn hang(&self) {
        self.node.set_path(Path::Hangs);
    }

    /// Ends a [`cut`](Self::cut) or a [`hang`](Self::hang). Reported by [`StateEvents::on_up`] after a cut.
    pub fn mend(&self) {
        self.node.set_path(Path::Works);
    }

    /// The node dies: it renews nothing any more, its calls fail, and it hears nothing.
    pub fn kill(&self) {
        self.node.set_path(Path::Dead);
    }

    /// Carries a step out at once, whatever the path is.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut Store, Uuid, Micros) -> T) -> T {
        self.shared.step(|store, now| step(store, self.id, now))
    }

    /// Forgets everything, without telling anyone, and fills itself anew. The clock goes on from `now` if that is given.
    pub(crate) fn begin_anew(
        &self,
        now: Option<Micros>,
        fill: impl FnOnce(&mut Store, Uuid, Micros),
    ) {
        let mut memory = self.shared.lock();
        memory.store = Store::default();
        if let Some(now) = now {
            memory.clock = Clock::at(now);
        }
        let now = memory.clock.now();
        memory.store.touch(self.id, now);
        memory.store.silently(|store| fill(store, self.id, now));
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        step: impl FnOnce(&mut Store, Uuid, Micros) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StateError>> {
        Box::pin(async move {
            self.node.passage().await?;
            Ok(self.step(step))
        })
    }
}

impl State for MemoryState {
    /// # Panics
    /// Outside of a Tokio runtime.
    fn start(&self, events: Arc<dyn StateEvents>) {
        self.step(|store, id, now| store.touch(id, now));
        if !self.alone {
            self.node.start();
        }
        let node = Arc::clone(&self.node);
        task::spawn(async move {
            while let Some(event) = node.next().await {
                match event {
                    Event::News(news) => events.on_news(news),
                    Event::Up => events.on_up(),
                    Event::Down => events.on_down(),
                }
            }
        });
        let (id, shared) = (self.id, Arc::clone(&self.shared));
        let node = Arc::downgrade(&self.node);
        task::spawn(renew(id, node, shared));
    }

    fn health(&self) -> StateHealth {
        match (self.alone, self.node.lock().path) {
            (true, _) => StateHealth::Local,
            (false, Path::Works | Path::Hangs) => StateHealth::Up,
            (false, Path::Cut | Path::Dead) => StateHealth::Down,
        }
    }

    fn object<'a>(
        &'a self,
        key: &'a StateKey,
    ) -> BoxFuture<'a, Result<Option<Object>, StateError>> {
        self.call(|store, _, _| store.object(key))
    }

    fn change<'a>(
        &'a self,
        key: &'a StateKey,
        change: Change,
    ) -> BoxFuture<'a, Result<Changed, StateError>> {
        let changed = self.call(move |store, _, now| store.change(key, &change, now));
        Box::pin(async { changed.await? })
    }

    fn assert_object<'a>(
        &'a self,
        key: &'a StateKey,
        object: &'a Object,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<u64, StateError>> {
        let was = Was::from(object);
        let version = self.call(move |store, _, now| store.put_back(key, &was, ttl, now));
        Box::pin(async { version.await? })
    }

    fn enter<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<Vec<Entered>, StateError>> {
        self.call(|store, id, now| {
            let enter = |lease| store.enter(id, lease, now);
            leases.iter().map(enter).collect()
        })
    }

    fn renew<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        self.call(|store, _, now| leases.iter().map(|held| store.renew(held, now)).collect())
    }

    fn leave<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        self.call(|store, _, _| leases.iter().map(|held| store.end(held)).collect())
    }

    fn leases<'a>(
        &'a self,
        scope: &'a StateKey,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Holder>, StateError>> {
        self.call(move |store, _, _| store.leases(scope, limit))
    }

    fn count<'a>(&'a self, scope: &'a StateKey) -> BoxFuture<'a, Result<Count, StateError>> {
        self.call(|store, _, _| store.count(scope))
    }

    fn take<'a>(
        &'a self,
        key: &'a StateKey,
        bucket: Bucket,
        tokens: u32,
    ) -> BoxFuture<'a, Result<Taken, StateError>> {
        self.call(move |store, _, now| store.take(key, bucket, tokens, now))
    }
}

impl Drop for MemoryState {
    fn drop(&mut self) {
        self.node.set_path(Path::Dead);
    }
}

/// Renews a node's own lease, and ends what has ended, for as long as the node lives.
async fn renew(id: Uuid, node: Weak<Node>, shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut there_since = None;
    loop {
        ticks.tick().await;
        let Some(node) = node.upgrade() else { return };
        match node.lock().path {
            Path::Dead => return,
            Path::Works => {}
            Path::Cut | Path::Hangs => {
                there_since = None;
                continue;
            }
        }
        // Whoever was away itself cannot know who is dead.
        let since = *there_since.get_or_insert_with(Instant::now);
        let may_judge = since.elapsed() > NODE_LEASE;
        let was_there = shared.step(|store, now| {
            let was_there = store.touch(id, now);
            if may_judge {
                store.reap_nodes(now);
            }
            was_there
        });
        if !was_there {
            node.report(Event::Up);
        }
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    store: Store,
    clock: Clock,
    nodes: Vec<Weak<Node>>,
}

impl Shared {
    /// A step, and what it tells, seen by everybody at once.
    fn step<T>(&self, step: impl FnOnce(&mut Store, Micros) -> T) -> T {
        let mut memory = self.lock();
        let now = memory.clock.now();
        memory.store.reap(now);
        let result = step(&mut memory.store, now);
        let news = memory.store.take_news();
        if !news.is_empty() {
            for node in memory.nodes.iter().filter_map(Weak::upgrade) {
                node.offer(&news);
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        lock(&self.0)
    }
}

/// Tokio's clock, with the date.
#[derive(Debug)]
struct Clock {
    began: Instant,
    at: Micros,
}

impl Clock {
    fn at(now: Micros) -> Self {
        let began = Instant::now();
        Self { began, at: now }
    }

    fn now(&self) -> Micros {
        let elapsed = self.began.elapsed().as_micros();
        self.at
            .saturating_add(Micros::try_from(elapsed).unwrap_or(Micros::MAX))
    }
}

impl Default for Clock {
    fn default() -> Self {
        let date = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = date.map_or(0, |date| date.as_micros());
        Self::at(Micros::try_from(micros).unwrap_or(Micros::MAX))
    }
}

#[derive(Debug, Default)]
struct Node {
    inbox: Mutex<Inbox>,
    /// Rung after every change of the events; only the delivering task waits for it.
    news: Notify,
    /// Rung when the path changes.
    path_changed: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    path: Path,
    started: bool,
    /// News, at most [`NEWS_WAITING_MAX`], and the few other events.
    events: VecDeque<Event>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Path {
    #[default]
    Works,
    Hangs,
    Cut,
    Dead,
}

#[derive(Debug)]
enum Event {
    News(News),
    Up,
    Down,
}

impl Node {
    /// The first report.
    fn start(&self) {
        let mut inbox = self.lock();
        inbox.started = true;
        let event = match inbox.path {
            Path::Works | Path::Hangs => Event::Up,
            Path::Cut | Path::Dead => Event::Down,
        };
        inbox.events.push_back(event);
        self.news.notify_one();
    }

    fn set_path(&self, path: Path) {
        let mut inbox = self.lock();
        let before = std::mem::replace(&mut inbox.path, path);
        if before == Path::Dead {
            inbox.path = Path::Dead;
        }
        if inbox.started && before != path {
            match (before, path) {
                (Path::Cut, Path::Works) => inbox.events.push_back(Event::Up),
                (_, Path::Cut) => inbox.events.push_back(Event::Down),
                _ => {}
            }
        }
        drop(inbox);
        self.news.notify_one();
        self.path_changed.notify_waiters();
    }

    fn report(&self, event: Event) {
        self.lock().events.push_back(event);
        self.news.notify_one();
    }

    fn offer(&self, news: &[News]) {
        let mut inbox = self.lock();
        if inbox.path != Path::Works {
            return;
        }
        let room = NEWS_WAITING_MAX.saturating_sub(inbox.events.len());
        let news = news.iter().take(room).cloned().map(Event::News);
        inbox.events.extend(news);
        self.news.notify_one();
    }

    /// The next event; `None` once the node is dead.
    async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut inbox = self.lock();
                if inbox.path == Path::Dead {
                    return None;
                }
                if let Some(event) = inbox.events.pop_front() {
                    return Some(event);
                }
            }
            self.news.notified().await;
        }
    }

    /// Waits while the path hangs.
    async fn passage(&self) -> Result<(), StateError> {
        loop {
            let changed = self.path_changed.notified();
            match self.lock().path {
                Path::Works => return Ok(()),
                Path::Hangs => {}
                Path::Cut => return Err(StateError::Unavailable("cut off".to_owned())),
                Path::Dead => return Err(StateError::Unavailable("the node is dead".to_owned())),
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }
}

/// Nothing panics while one of these locks is held, so a poisoned one holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
