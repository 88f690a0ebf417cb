//! The bus over Redis Pub/Sub.
//!
//! Two connections: one publishes, one listens; each is watched over by a task of its own that makes it anew when it
//! breaks. A node sends itself a heartbeat through both, and believes the path only as long as its own heartbeats come
//! back: a Redis that hangs, or a half-open socket, is noticed within two seconds. Redis is never waited for by a publish,
//! and nothing that matters is kept there: a lost hint costs latency, as the sweep of the lane log heals it.
//!
//! | module | subject |
//! | --- | --- |
//! | `address` | which Redis; the only place that knows its password |
//! | `topics` | the names under which nodes meet |
//! | `queue` | hints that wait for Redis |
//! | `publisher` | from the queue to Redis |
//! | `registry` | which channels are wanted |
//! | `subscriber` | from Redis to the engine, and the watch over the path |
//! | `delivery` | events, one at a time; heartbeats |

mod address;
mod backoff;
mod counters;
mod delivery;
mod publisher;
mod queue;
mod registry;
mod subscriber;
mod topics;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use fanfare_engine::port::{BoxFuture, Bus, BusEvents, BusHealth};
use fanfare_wire::{ChannelName, Epoch, hint::Hint};
use thiserror::Error;
use tokio::task::AbortHandle;
use uuid::Uuid;

pub(crate) use self::address::Address;
pub use self::{
    address::AddressError,
    counters::BusCounters,
    queue::{HINT_AGE_MAX, QUEUE_BYTES_MAX, QUEUE_HINTS_MAX},
};
use self::{
    delivery::{Delivery, Heartbeat},
    queue::Queue,
    registry::Registry,
    topics::Topics,
};

/// The prefix of all topics when none is configured.
pub const PREFIX_DEFAULT: &str = "fanfare";

/// Longest prefix in bytes.
pub const PREFIX_BYTES_MAX: usize = 64;

/// A bus over one Redis server. See [`Bus`] for what it promises.
pub struct RedisBus {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// Why a bus could not be made. That Redis cannot be reached is no reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisBusError {
    /// The URL.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The prefix.
    #[error(
        "the prefix of Redis topics must be 1 to {PREFIX_BYTES_MAX} printable ASCII characters without space"
    )]
    Prefix,
}

impl RedisBus {
    /// Makes a bus for the nodes of one database. Nothing is connected before [`start`](Bus::start).
    ///
    /// `url` is `redis://[user:password@]host:port[/database]`, `origin` the first epoch of the log, and `prefix` the first part
    /// of every topic ([`PREFIX_DEFAULT`]): nodes hear each other if all three agree.
    ///
    /// # Errors
    /// [`RedisBusError`] if the URL or the prefix cannot be used; it never repeats the URL.
    pub fn connect(url: &str, origin: &Epoch, prefix: &str) -> Result<Self, RedisBusError> {
        let address = Address::parse(url)?;
        let fits = (1..=PREFIX_BYTES_MAX).contains(&prefix.len());
        if !fits || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RedisBusError::Prefix);
        }
        let shared = Shared {
            address,
            topics: Topics::new(prefix, origin, Uuid::new_v4()),
            queue: Queue::default(),
            registry: Registry::default(),
            delivery: Delivery::default(),
            heartbeat: Heartbeat::new(),
            counters: Arc::new(BusCounters::default()),
            trouble: Mutex::new(None),
        };
        Ok(Self {
            shared: Arc::new(shared),
            tasks: Mutex::new(Vec::new()),
        })
    }

    /// What the bus has counted so far; stays valid, and goes on counting, without the bus.
    #[must_use]
    pub fn counters(&self) -> Arc<BusCounters> {
        Arc::clone(&self.shared.counters)
    }
}

impl Bus for RedisBus {
    /// Starts the two tasks of the bus.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    fn start(&self, events: Arc<dyn BusEvents>) {
        if !self.shared.delivery.start(events) {
            tracing::error!("the bus was started twice; the second receiver of events is ignored");
            return;
        }
        let shared = Arc::clone(&self.shared);
        let publisher = tokio::spawn(async move { publisher::run(&shared).await });
        let shared = Arc::clone(&self.shared);
        let subscriber = tokio::spawn(async move { subscriber::run(&shared).await });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([publisher.abort_handle(), subscriber.abort_handle()]);
    }

    fn publish(&self, hints: Vec<Hint>) {
        let dropped = self.shared.queue.push(hints, Instant::now());
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

/// Ends both tasks and closes both connections.
impl Drop for RedisBus {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(AbortHandle::abort);
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

/// What the tasks of a bus share.
struct Shared {
    address: Address,
    topics: Topics,
    queue: Queue,
    registry: Registry,
    delivery: Delivery,
    heartbeat: Heartbeat,
    counters: Arc<BusCounters>,
    /// Why the publisher does not get through, if it does not: the subscriber tells it to the operator.
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
        assert_eq!(error(&"x".repeat(65)), Some(RedisBusError::Prefix));
    }
}
