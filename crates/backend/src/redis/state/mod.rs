//! The state over Redis: a single server, the master of some sentinels, or a cluster; the same as for the bus.
//!
//! Every change is one script, which changes the keys and tells the topic of the bus in the same step. All keys of a
//! subject are in the partition of the channel of that name. Everything has a time to live.
//!
//! A node has a lease of its own, renewed every three seconds, and every lease that it takes bears its name. Every node
//! looks once a second for nodes whose lease is over, and ends what they held: each lease once, whoever does it, since
//! that too is a script. When Redis comes back from an absence every node has the time of its lease again.
//!
//! A server whose `maxmemory-policy` is one of `allkeys-…` is refused: it would remove live state when it is full.
//!
//! | module | subject |
//! | --- | --- |
//! | `script`, `scripts/` | what is done in one step |
//! | `keys` | the names of the keys, and how long they live |
//! | `objects`, `leases` | the calls of the port |
//! | `store` | the way to the masters |
//! | `session` | the supervisor: one session after the other |
//! | `pulse` | the lease of this node, and the end of others |
//! | `policy` | what is asked of a server's eviction |

mod counters;
mod keys;
mod leases;
mod objects;
pub(crate) mod policy;
mod pulse;
mod script;
mod session;
mod store;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_engine::port::{
    BoxFuture, State,
    state::{
        Bucket, Change, Changed, Count, Entered, Held, Holder, Lease, Object, StateError,
        StateEvents, StateHealth, StateKey, Taken,
    },
};
use fanfare_wire::Epoch;
use redis::Value;
use tokio::task::AbortHandle;
use uuid::Uuid;

pub use self::counters::StateCounters;
use self::{
    script::{Call, Script},
    store::{Shared, strange},
};
use super::{RedisBusError, check, topics::Topics, topology::Topology};

/// How long Redis may take to answer a call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest time to live of anything; a longer one is shortened.
pub const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long keys of leases outlive the last node that kept them.
const KEY_TTL: Duration = Duration::from_secs(3600);

/// The largest version: up to here doubles, the numbers of the scripts, hold every whole number.
const VERSION_MAX: u64 = 1 << 53;

/// Most scopes in one call of a script, or in one page of a scan.
const SCOPES_PER_CALL_MAX: usize = 64;

/// The shared state over Redis. See [`State`] for what it promises.
///
/// Calls are answered within [`CALL_TIMEOUT`], or fail; one with many leases goes out in writes of some thousands, each of
/// which has this time.
pub struct RedisState {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<AbortHandle>>,
}

impl RedisState {
    /// Makes a state for the nodes of one database. Nothing is connected before [`start`](State::start).
    ///
    /// The arguments are those of [`RedisBus::connect`](super::RedisBus::connect), and must be the same as those of the bus
    /// that is to carry the news.
    ///
    /// # Errors
    /// [`RedisBusError`] if the URL or the prefix cannot be used; it never repeats the URL.
    pub fn connect(url: &str, origin: &Epoch, prefix: &str) -> Result<Self, RedisBusError> {
        let address = check(url, prefix)?;
        let topology = Topology::new(&address.kind);
        let topics = Topics::new(prefix, origin, Uuid::nil(), topology.partitions());
        Ok(Self {
            shared: Arc::new(Shared::new(address, topics, topology)),
            supervisor: Mutex::new(None),
        })
    }

    /// What it has counted so far; stays valid, and goes on counting, without the state.
    #[must_use]
    pub fn counters(&self) -> Arc<StateCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Why it is not up; `None` if it is.
    #[must_use]
    pub fn trouble(&self) -> Option<StateError> {
        self.shared.live().err()
    }

    /// Gives this node's own lease back, so that others end at once, and not after nine seconds, what it still holds. For
    /// the end of a process; what is taken afterwards may be ended as well.
    ///
    /// # Errors
    /// [`StateError`] if Redis was not told; then the lease ends by itself.
    pub async fn retire(&self) -> Result<(), StateError> {
        let live = self.shared.live()?;
        self.halt();
        pulse::retire(&self.shared, &live).await
    }

    /// Renews at once the time to live of all keys in which this node has leases, as is done every ten minutes.
    ///
    /// # Errors
    /// [`StateError`] if Redis does not answer.
    pub async fn keep(&self) -> Result<(), StateError> {
        pulse::keep_all(&self.shared, &*self.shared.live()?).await
    }

    /// Ends it, and takes away what it shares with others. For a state that nobody else uses.
    pub(crate) async fn erase(&self) -> Result<(), StateError> {
        let live = self.shared.live()?;
        self.halt();
        pulse::erase(&self.shared, &live).await
    }

    /// Ends its tasks and connections at once, as the death of the process would: leases end with this node's own, nine
    /// seconds later. Every call fails from now on.
    pub fn halt(&self) {
        if let Some(supervisor) = self.lock_supervisor().take() {
            supervisor.abort();
        }
        let ended = StateError::Unavailable("this node has ended".to_owned());
        self.shared.close(ended);
    }

    fn lock_supervisor(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State for RedisState {
    /// Starts the supervisor.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    fn start(&self, events: Arc<dyn StateEvents>) {
        if !self.shared.start(events) {
            tracing::error!(
                "the state was started twice; the second receiver of events is ignored"
            );
            return;
        }
        let shared = Arc::clone(&self.shared);
        let supervisor = tokio::spawn(async move { session::run(&shared).await });
        *self.lock_supervisor() = Some(supervisor.abort_handle());
    }

    fn health(&self) -> StateHealth {
        match self.shared.live() {
            Ok(_) => StateHealth::Up,
            Err(_) => StateHealth::Down,
        }
    }

    fn object<'a>(
        &'a self,
        key: &'a StateKey,
    ) -> BoxFuture<'a, Result<Option<Object>, StateError>> {
        Box::pin(objects::read(&self.shared, key))
    }

    fn change<'a>(
        &'a self,
        key: &'a StateKey,
        change: Change,
    ) -> BoxFuture<'a, Result<Changed, StateError>> {
        Box::pin(objects::change(&self.shared, key, change))
    }

    fn assert_object<'a>(
        &'a self,
        key: &'a StateKey,
        object: &'a Object,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<u64, StateError>> {
        Box::pin(objects::assert(&self.shared, key, object, ttl))
    }

    fn enter<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<Vec<Entered>, StateError>> {
        Box::pin(leases::enter(&self.shared, leases))
    }

    fn renew<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        Box::pin(leases::renew(&self.shared, leases))
    }

    fn leave<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        Box::pin(leases::leave(&self.shared, leases))
    }

    fn leases<'a>(
        &'a self,
        scope: &'a StateKey,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Holder>, StateError>> {
        Box::pin(leases::list(&self.shared, scope, limit))
    }

    fn count<'a>(&'a self, scope: &'a StateKey) -> BoxFuture<'a, Result<Count, StateError>> {
        Box::pin(async move {
            let partition = keys::partition(&self.shared.topics, scope);
            let call = Call::new(Script::Count, partition);
            let call = pulse::with_scope(&self.shared, call, scope);
            let answer = self.shared.call(call).await?;
            let Value::Array(fields) = answer else {
                return Err(strange());
            };
            let [Value::Int(holders), Value::Int(members)] = fields.as_slice() else {
                return Err(strange());
            };
            Ok(Count {
                holders: u64::try_from(*holders).unwrap_or_default(),
                members: u64::try_from(*members).unwrap_or_default(),
            })
        })
    }

    fn take<'a>(
        &'a self,
        key: &'a StateKey,
        bucket: Bucket,
        tokens: u32,
    ) -> BoxFuture<'a, Result<Taken, StateError>> {
        Box::pin(objects::take(&self.shared, key, bucket, tokens))
    }
}

/// Ends the supervisor, and with it all tasks and connections; leases end with this node's own.
impl Drop for RedisState {
    fn drop(&mut self) {
        self.halt();
    }
}

impl std::fmt::Debug for RedisState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisState")
            .field("address", &self.shared.address)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// In whole milliseconds, at least one and at most [`TTL_MAX`].
fn millis(time: Duration) -> u64 {
    let millis = time.min(TTL_MAX).as_micros().div_ceil(1000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX)
}
