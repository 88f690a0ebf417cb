//! What the nodes of one database share beside it: the bus and the state, both over Redis, or neither.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use fanfare_backend::redis::{RedisBus, RedisBusError, state::RedisState};
use fanfare_engine::{
    Metrics,
    memory::{
        absent::AbsentState,
        bus::{AbsentBus, LocalBus},
        state::MemoryState,
    },
    port::{Bus, State},
    state::SharedState,
};
use fanfare_wire::Epoch;
use tracing::debug;

use crate::config::Config;

/// What separates the topics and keys of this product from others on the same Redis.
const REDIS_PREFIX: &str = "fanfare";

/// Bus and state.
pub(crate) struct Shared {
    /// Carries hints and news.
    pub(crate) bus: Arc<dyn Bus>,
    /// Keeps what may be lost.
    pub(crate) state: Arc<dyn State>,
    /// The same again, if they leave the process.
    pub(crate) redis: Option<Arc<OverRedis>>,
}

/// Bus and state over Redis: they count, and end well.
pub(crate) struct OverRedis {
    bus: Arc<RedisBus>,
    state: Arc<RedisState>,
}

/// A name, what it says, and how often.
pub(crate) type Number = (&'static str, &'static str, u64);

impl Shared {
    /// Chooses what the configuration asks for. Nothing is connected yet.
    ///
    /// # Errors
    /// The address of Redis cannot be used.
    pub(crate) fn open(
        config: &Config,
        origin: &Epoch,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, RedisBusError> {
        // While the state is away, each node goes on with what it knows itself.
        let keep = |state: Arc<dyn State>| Arc::new(SharedState::new(state, Arc::clone(metrics)));
        match (&config.postgres, &config.redis) {
            (Some(_), Some(url)) => {
                let bus = RedisBus::connect(url.reveal(), origin, REDIS_PREFIX)?;
                let state = RedisState::connect(url.reveal(), origin, REDIS_PREFIX)?;
                let (bus, state) = (Arc::new(bus), Arc::new(state));
                Ok(Self {
                    bus: Arc::clone(&bus) as Arc<dyn Bus>,
                    state: keep(Arc::clone(&state) as Arc<dyn State>),
                    redis: Some(Arc::new(OverRedis { bus, state })),
                })
            }
            // The embedded database serves one node.
            (None, _) => Ok(Self {
                bus: Arc::new(LocalBus),
                state: Arc::new(MemoryState::alone()),
                redis: None,
            }),
            // A shared one without Redis is swept by its nodes, and each of them knows its own clients only.
            (Some(_), None) => Ok(Self {
                bus: Arc::new(AbsentBus),
                state: keep(Arc::new(AbsentState)),
                redis: None,
            }),
        }
    }
}

impl OverRedis {
    /// What was counted so far.
    pub(crate) fn numbers(&self) -> Vec<Number> {
        let (bus, state) = (self.bus.counters(), self.state.counters());
        let number =
            |name, help, counter: &AtomicU64| -> Number { (name, help, counter.load(Relaxed)) };
        vec![
            number("bus_published", "Hints that Redis took", &bus.published),
            number(
                "bus_received",
                "Hints that arrived from Redis",
                &bus.received,
            ),
            number(
                "bus_dropped",
                "Hints given up before Redis took them",
                &bus.dropped,
            ),
            number(
                "bus_decode_errors",
                "Messages that were no hint",
                &bus.decode_errors,
            ),
            number(
                "bus_reconnects",
                "Connections to Redis made again",
                &bus.reconnects,
            ),
            number(
                "state_reconnects",
                "Sessions of the state with Redis after the first",
                &state.reconnects,
            ),
            number(
                "state_refused",
                "Times that Redis was refused because it may evict state",
                &state.refused,
            ),
            number(
                "state_evicted",
                "Keys that Redis has evicted while this node watched",
                &state.evicted,
            ),
            number(
                "state_rejoined",
                "Times that this node's own lease was lost and taken anew",
                &state.rejoined,
            ),
            number(
                "state_buried",
                "Dead nodes after which this node has cleared up",
                &state.buried,
            ),
            number(
                "state_ended",
                "Leases that this node has ended for others",
                &state.ended,
            ),
        ]
    }

    /// Ends well: leaves nothing that others would have to find out. What is left all the same they find.
    pub(crate) async fn end(&self) {
        self.bus.flush().await;
        if let Err(error) = self.state.retire().await {
            debug!(%error, "the leases of this node end by themselves");
        }
    }
}
