//! How many event streams one user may have: the newest few. An older one is told, and closed.
//!
//! Streams of one node are counted at once. Over nodes each stream holds a lease in the shared state, whose name says when the stream
//! was opened; every node looks at the leases of the users that it serves every few seconds, and closes its own streams that
//! are not among the newest. While the shared state is away each node counts its own.
//!
//! The leases of a node that dies outlive it for some seconds, and those who were there open others meanwhile. Nobody who is still there
//! is closed for the dead: streams of several nodes must be too many for longer than that.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::port::{
    State,
    state::{Held, Lease, NODE_LEASE, StateHealth, StateKey},
};
use fanfare_gateway::sse::app::{Farewell, StreamHandle};
use fanfare_wire::Json;
use futures_util::{StreamExt, stream};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tracing::debug;
use uuid::Uuid;

use crate::user::User;

/// The kind of the leases.
const KIND: &str = "mail-stream";
/// Between two looks at other nodes' streams.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// For how long streams of several nodes must be too many: longer than the leases of a dead node last.
const CROWDED_FOR: Duration = NODE_LEASE.saturating_add(Duration::from_secs(3));
/// Users of one look; with more of them each one's turn comes less often.
const LOOK_USERS_MAX: usize = 200;
/// Users that are looked at at the same time.
const LOOK_WIDTH: usize = 16;
/// Leases that are read of one user, beside as many as are allowed.
const LEASES_MORE: usize = 64;

/// The open streams of a node.
pub struct Streams {
    state: Arc<dyn State>,
    most: usize,
    /// What this node's leases say, and no other's.
    info: Json,
    open: Mutex<BTreeMap<User, Vec<Entry>>>,
    /// Since when users of this node have had too many streams on all nodes together.
    crowded: Mutex<BTreeMap<User, Instant>>,
    runtime: Handle,
    /// What is said to those who are closed.
    farewell: Box<dyn Fn() -> Farewell + Send + Sync>,
    closed: AtomicU64,
}

/// A stream's place; given back when it is dropped.
pub struct Place {
    streams: Arc<Streams>,
    user: User,
    /// Names are in the order in which streams were opened, to the millisecond, whichever node has them.
    name: Uuid,
}

struct Entry {
    name: Uuid,
    handle: Option<StreamHandle>,
    /// The lease is held; before that it is being asked for.
    leased: bool,
}

impl Streams {
    /// Keeps each user to the newest `most` streams. Must be called within a tokio runtime; the task that looks at other nodes ends
    /// when this is dropped.
    #[must_use]
    pub fn start(
        state: Arc<dyn State>,
        most: usize,
        farewell: impl Fn() -> Farewell + Send + Sync + 'static,
    ) -> Arc<Self> {
        let info = format!("{{\"node\":\"{}\"}}", Uuid::new_v4().simple());
        let streams = Arc::new(Self {
            state,
            info: Json::trusted(Bytes::from(info)),
            most: most.max(1),
            open: Mutex::default(),
            crowded: Mutex::default(),
            runtime: Handle::current(),
            farewell: Box::new(farewell),
            closed: AtomicU64::new(0),
        });
        tokio::spawn(look_around(Arc::downgrade(&streams)));
        streams
    }

    /// A place for a stream that is about to be opened. Nobody is closed for it yet.
    #[must_use]
    pub fn place(self: &Arc<Self>, user: &User) -> Place {
        let name = Uuid::now_v7();
        let entry = Entry {
            name,
            handle: None,
            leased: false,
        };
        self.open().entry(user.clone()).or_default().push(entry);
        Place {
            streams: Arc::clone(self),
            user: user.clone(),
            name,
        }
    }

    /// The stream of a place is open: the oldest of the user make room for it.
    pub fn opened(self: &Arc<Self>, user: &User, name: Uuid, handle: StreamHandle) {
        {
            let mut open = self.open();
            let entry = open
                .get_mut(user)
                .and_then(|entries| entries.iter_mut().find(|entry| entry.name == name));
            match entry {
                Some(entry) => entry.handle = Some(handle),
                // Over already, or closed for others before it had begun.
                None => {
                    drop(open);
                    return handle.close((self.farewell)());
                }
            }
        }
        let here = self.names(user);
        self.close_all_but_newest(user, here);
        let (streams, user) = (Arc::clone(self), user.clone());
        self.runtime.spawn(async move {
            streams.lease(&user, name).await;
            streams.look_at(&user).await;
        });
    }

    /// How many streams are open here.
    #[must_use]
    pub fn count(&self) -> u64 {
        let open = self.open();
        u64::try_from(open.values().map(Vec::len).sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// How many were closed because their user had too many.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed.load(Relaxed)
    }

    async fn lease(self: &Arc<Self>, user: &User, name: Uuid) {
        let Some(held) = held(user, name) else { return };
        let lease = Lease {
            held,
            member: name.simple().to_string(),
            info: self.info.clone(),
            ttl: None,
            capacity: None,
            announce: None,
        };
        let entered = self.state.enter(std::slice::from_ref(&lease)).await;
        if let Err(error) = entered {
            debug!(%error, "a stream is counted on this node alone");
            return;
        }
        let is_open = {
            let mut open = self.open();
            let entries = open.get_mut(user);
            let entry =
                entries.and_then(|entries| entries.iter_mut().find(|entry| entry.name == name));
            entry.map(|entry| entry.leased = true).is_some()
        };
        if !is_open {
            self.give_back(user, name);
        }
    }

    /// Closes streams of a user here that are not among the newest of all nodes.
    async fn look_at(self: &Arc<Self>, user: &User) {
        if self.state.health() == StateHealth::Local {
            return;
        }
        let Some(scope) = scope(user) else { return };
        let limit = self.most + LEASES_MORE;
        let Ok(holders) = self.state.leases(&scope, limit).await else {
            return;
        };
        let mut names = self.names(user);
        // Leases of this node that are not in the list are being given back.
        let others = holders.iter().filter(|holder| holder.info != self.info);
        names.extend(others.map(|holder| holder.holder));
        names.sort_unstable();
        names.dedup();
        if self.is_crowded(user, names.len()) {
            self.close_all_but_newest(user, names);
        }
    }

    /// Whether so many streams of a user have been too many for long enough.
    fn is_crowded(&self, user: &User, count: usize) -> bool {
        let mut crowded = self.crowded();
        if count <= self.most {
            crowded.remove(user);
            return false;
        }
        let since = crowded.entry(user.clone()).or_insert_with(Instant::now);
        since.elapsed() >= CROWDED_FOR
    }

    fn names(&self, user: &User) -> Vec<Uuid> {
        let open = self.open();
        let entries = open.get(user).map(Vec::as_slice).unwrap_or_default();
        // Those that are about to be opened may never be.
        let begun = entries.iter().filter(|entry| entry.handle.is_some());
        begun.map(|entry| entry.name).collect()
    }

    fn close_all_but_newest(&self, user: &User, mut names: Vec<Uuid>) {
        names.sort_unstable();
        names.dedup();
        let Some(newest) = names.len().checked_sub(self.most + 1) else {
            return;
        };
        for name in names.drain(..=newest) {
            let Some(entry) = self.take(user, name) else {
                continue; // Another node's.
            };
            if let Some(handle) = entry.handle {
                self.closed.fetch_add(1, Relaxed);
                handle.close((self.farewell)());
            }
        }
    }

    /// Removes a stream from the list, and gives its lease back.
    fn take(&self, user: &User, name: Uuid) -> Option<Entry> {
        let entry = {
            let mut open = self.open();
            let entries = open.get_mut(user)?;
            let at = entries.iter().position(|entry| entry.name == name)?;
            let entry = entries.swap_remove(at);
            if entries.is_empty() {
                open.remove(user);
            }
            entry
        };
        // Otherwise whoever asks for the lease finds that nobody wants it any more.
        if entry.leased {
            self.give_back(user, name);
        }
        Some(entry)
    }

    fn give_back(&self, user: &User, name: Uuid) {
        let Some(held) = held(user, name) else { return };
        let state = Arc::clone(&self.state);
        // Streams end on threads of the hub, which must not wait.
        self.runtime.spawn(async move {
            if let Err(error) = state.leave(&[held]).await {
                debug!(%error, "the lease of a stream ends with its node");
            }
        });
    }

    fn crowded(&self) -> MutexGuard<'_, BTreeMap<User, Instant>> {
        self.crowded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<User, Vec<Entry>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// How the stream is called.
    #[must_use]
    pub fn name(&self) -> Uuid {
        self.name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.take(&self.user, self.name);
    }
}

fn scope(user: &User) -> Option<StateKey> {
    StateKey::of(KIND, &user.channel().ok()?).ok()
}

fn held(user: &User, name: Uuid) -> Option<Held> {
    scope(user).map(|scope| Held {
        scope,
        holder: name,
    })
}

/// Looks at the users of this node in turn.
async fn look_around(streams: Weak<Streams>) {
    let mut last: Option<User> = None;
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(streams) = streams.upgrade() else {
            return;
        };
        let users: Vec<User> = {
            let open = streams.open();
            let mut crowded = streams.crowded();
            crowded.retain(|user, _| open.contains_key(user));
            drop(crowded);
            let after = last.map_or(Bound::Unbounded, Bound::Excluded);
            let rest = open.range((after, Bound::Unbounded));
            rest.map(|(user, _)| user.clone())
                .take(LOOK_USERS_MAX)
                .collect()
        };
        // At the end it begins again.
        let more = users.len() == LOOK_USERS_MAX;
        last = users.last().filter(|_| more).cloned();
        let looks = users.into_iter().map(|user| {
            let streams = Arc::clone(&streams);
            async move { streams.look_at(&user).await }
        });
        stream::iter(looks)
            .buffer_unordered(LOOK_WIDTH)
            .collect::<()>()
            .await;
    }
}
