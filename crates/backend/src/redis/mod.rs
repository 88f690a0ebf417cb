//! The bus over Redis Pub/Sub: a single server, the master of some sentinels, or a cluster.
//!
//! Each master has two connections: one publishes, one listens. A node sends itself a heartbeat through both, and believes
//! the path only as long as its own heartbeats come back: a Redis that hangs, or a half-open socket, is noticed within two
//! seconds. Redis is never waited for by a publish, and nothing that matters is kept there: a lost hint costs latency, as the
//! sweep of the lane log heals it.
//!
//! The three kinds of Redis differ in where the masters are and which of them serves a topic; the `topology` knows that,
//! and all else is the same for all. What goes wrong ends the session as a whole, and the next one begins with the question
//! where the masters are now.
//!
//! | module | subject |
//! | --- | --- |
//! | `address` | the URL: which servers, of which kind |
//! | `access` | connecting; the only place that knows the password |
//! | `topology` | where the masters are now; what shows that they have changed |
//! | `partition` | how topics are spread over the masters of a cluster |
//! | `topics` | the names under which nodes meet |
//! | `session` | the supervisor: one session after the other |
//! | `parcel` | hint or news: what travels over a topic |
//! | `queue` | hints and news that wait for Redis |
//! | `publisher` | from the queue to one master |
//! | `registry` | which channels are wanted |
//! | `listener`, `link` | from the masters to the engine, and the watch over the paths |
//! | `heartbeat` | the proof that a path works |
//! | `delivery` | events, one at a time |

mod access;
mod address;
mod backoff;
mod counters;
mod delivery;
mod heartbeat;
mod link;
mod listener;
mod parcel;
mod partition;
mod publisher;
mod queue;
mod registry;
mod session;
pub mod state;
mod topics;
mod topology;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use fanfare_engine::port::{BoxFuture, Bus, BusEvents, BusHealth};
use fanfare_wire::{ChannelName, Epoch, News, hint::Hint};
use thiserror::Error;
use tokio::task::AbortHandle;
use uuid::Uuid;

pub(crate) use self::{
    access::{Access, Endpoint},
    address::{Address, Kind},
    state::policy::Eviction,
    topology::{Topology, connect_to_sentinel},
};
pub use self::{
    address::{AddressError, HOSTS_MAX, check_url},
    counters::BusCounters,
    queue::{HINT_AGE_MAX, NEWS_AGE_MAX, QUEUE_BYTES_MAX, QUEUE_HINTS_MAX},
};
use self::{delivery::Delivery, parcel::Parcel, queue::Queue, registry::Registry, topics::Topics};

/// The prefix of all topics when none is configured.
pub const PREFIX_DEFAULT: &str = "fanfare";

/// Longest prefix in bytes.
pub const PREFIX_BYTES_MAX: usize = 64;

/// The longest that [`RedisBus::flush`] waits.
pub const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// How often it looks.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);

/// A bus over Redis. See [`Bus`] for what it promises.
pub struct RedisBus {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<AbortHandle>>,
}

/// Why a bus, or a state, could not be made. That Redis cannot be reached is no reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisBusError {
    /// The URL.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The prefix.
    #[error(
        "the prefix of Redis topics must be 1 to {PREFIX_BYTES_MAX} printable ASCII characters without space or braces"
    )]
    Prefix,
}

impl RedisBus {
    /// Makes a bus for the nodes of one database. Nothing is connected before [`start`](Bus::start).
    ///
    /// `url` is one of
    /// - `redis://[user:password@]host:port[/database]`,
    /// - `redis+sentinel://[user:password@]host:port,…/MASTER_NAME[/database]`, with the addresses of the sentinels; they are
    ///   shown the same user and password, and asked without if they refuse them,
    /// - `redis+cluster://[user:password@]host:port,…`, with the addresses of some nodes of the cluster (Redis 7 or later).
    ///
    /// `origin` is the first epoch of the log, and `prefix` the first part of every topic ([`PREFIX_DEFAULT`]): nodes hear each other
    /// if all three agree.
    ///
    /// # Errors
    /// [`RedisBusError`] if the URL or the prefix cannot be used; it never repeats the URL.
    pub fn connect(url: &str, origin: &Epoch, prefix: &str) -> Result<Self, RedisBusError> {
        let address = check(url, prefix)?;
        let topology = Topology::new(&address.kind);
        let shared = Shared {
            topics: Topics::new(prefix, origin, Uuid::new_v4(), topology.partitions()),
            topology,
            access: address.access.clone(),
            address,
            queue: Queue::new(),
            registry: Registry::default(),
            delivery: Delivery::default(),
            worked: AtomicBool::new(false),
            counters: Arc::new(BusCounters::default()),
            trouble: Mutex::new(None),
        };
        Ok(Self {
            shared: Arc::new(shared),
            supervisor: Mutex::new(None),
        })
    }

    /// What the bus has counted so far; stays valid, and goes on counting, without the bus.
    #[must_use]
    pub fn counters(&self) -> Arc<BusCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Waits until Redis has taken everything that was published or told before, for a moment ([`FLUSH_TIME_MAX`]): a server
    /// that ends well leaves nothing for the sweep of the others. Returns whether all were taken; does not wait while the bus
    /// is down.
    pub async fn flush(&self) -> bool {
        let end = Instant::now() + FLUSH_TIME_MAX;
        while !self.shared.queue.is_empty() {
            if !self.shared.delivery.is_up() || Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(FLUSH_INTERVAL).await;
        }
        true
    }

    fn lock_supervisor(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for RedisBus {
    /// Starts the supervisor of the bus.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    fn start(&self, events: Arc<dyn BusEvents>) {
        if !self.shared.delivery.start(events) {
            tracing::error!("the bus was started twice; the second receiver of events is ignored");
            return;
        }
        let shared = Arc::clone(&self.shared);
        let supervisor = tokio::spawn(async move { session::run(&shared).await });
        *self.lock_supervisor() = Some(supervisor.abort_handle());
    }

    fn publish(&self, hints: Vec<Hint>) {
        let topics = &self.shared.topics;
        let hints = hints
            .into_iter()
            .map(|hint| (topics.partition(hint.run.channel()), Parcel::Hint(hint)));
        let dropped = self.shared.queue.push(hints, Instant::now());
        BusCounters::add(&self.shared.counters.dropped, dropped);
    }

    fn tell(&self, news: News) {
        if !self.shared.delivery.is_up() {
            BusCounters::add(&self.shared.counters.dropped, 1);
            return;
        }
        let partition = self.shared.topics.partition(&news.channel);
        let parcel = (partition, Parcel::News(news));
        let dropped = self.shared.queue.push([parcel], Instant::now());
        BusCounters::add(&self.shared.counters.dropped, dropped);
    }

    fn subscribe(&self, channels: Vec<ChannelName>) -> BoxFuture<'_, bool> {
        let confirmed = self.shared.registry.want(channels);
        Box::pin(async move {
            match confirmed {
                Some(confirmed) => confirmed.await.is_ok(),
                None => false,
            }
        })
    }

    fn unsubscribe(&self, channels: Vec<ChannelName>) {
        self.shared.registry.unwant(channels);
    }

    fn health(&self) -> BusHealth {
        if self.shared.delivery.is_up() {
            BusHealth::Up
        } else {
            BusHealth::Down
        }
    }
}

/// Ends the supervisor, and with it all tasks and connections.
impl Drop for RedisBus {
    fn drop(&mut self) {
        if let Some(supervisor) = self.lock_supervisor().take() {
            supervisor.abort();
        }
    }
}

impl std::fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBus")
            .field("address", &self.shared.address)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// Checks what a bus, or a state, is made of.
fn check(url: &str, prefix: &str) -> Result<Address, RedisBusError> {
    let address = Address::parse(url)?;
    let fits = (1..=PREFIX_BYTES_MAX).contains(&prefix.len());
    // Braces would take the place of those that choose the slot in a cluster.
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"{}".contains(&byte);
    if !fits || !prefix.bytes().all(allowed) {
        return Err(RedisBusError::Prefix);
    }
    Ok(address)
}

/// What the tasks of a bus share.
struct Shared {
    address: Address,
    access: Access,
    topology: Topology,
    topics: Topics,
    queue: Queue,
    registry: Registry,
    delivery: Delivery,
    counters: Arc<BusCounters>,
    /// The bus has been up before.
    worked: AtomicBool,
    /// Why a publisher does not get through, if one does not: the supervisor tells it to the operator.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn note_publisher(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn publisher_trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_made_without_redis_and_shows_no_password() {
        let epoch = Epoch::parse("e").unwrap();
        let bus = RedisBus::connect("redis://u:hidden@127.0.0.1:1/", &epoch, "app").unwrap();
        assert_eq!(bus.health(), BusHealth::Down);
        assert!(!format!("{bus:?}").contains("hidden"));
        let error = |prefix: &str| RedisBus::connect("redis://127.0.0.1:1", &epoch, prefix).err();
        assert_eq!(error(""), Some(RedisBusError::Prefix));
        assert_eq!(error("two words"), Some(RedisBusError::Prefix));
        assert_eq!(error("{tag}"), Some(RedisBusError::Prefix));
        assert_eq!(error(&"x".repeat(65)), Some(RedisBusError::Prefix));
    }
}
