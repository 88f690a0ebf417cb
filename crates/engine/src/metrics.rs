//! What the engine counts. Plain atomics, read by whoever exports them; nothing here is touched per delivery.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// Upper bounds of a [`Histogram`]'s buckets, in seconds; one more bucket holds the rest.
pub const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// A distribution of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// What showed that a node was missing publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A later publication came first: a hint was lost, or overtaken by more than a moment.
    Gap,
    /// The sweep of the lane log showed them though the bus was up: hints were lost, the last ones included.
    Sweep,
    /// The sweep showed them while the bus was down, when it is the way of delivery.
    Down,
    /// The sweep showed what no node had announced, because none had published it: the only way in which it comes.
    Unannounced,
    /// Heads were compared with the log: at the start, after the node slept for long, or for a client that knew more.
    Audit,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Gap,
        Self::Sweep,
        Self::Down,
        Self::Unannounced,
        Self::Audit,
    ];

    /// Its name in exported metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Sweep => "sweep",
            Self::Down => "down",
            Self::Unannounced => "unannounced",
            Self::Audit => "audit",
        }
    }
}

/// What was healed for one [`Cause`].
#[derive(Debug, Default)]
pub struct Healed {
    /// Publications fetched from the log.
    pub publications: Counter,
    /// From the moment this node knew that something was missing to the moment it had it, one for each piece fetched. By
    /// this node's own clock.
    pub seconds: Histogram,
}

/// Everything that the engine counts since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Open connections.
    pub connections: Gauge,
    /// Subscriptions of open connections.
    pub subscriptions: Gauge,
    /// Channels that have, or lately had, subscribers on this node.
    pub channels: Gauge,
    /// Publications acknowledged by this node, duplicates not included.
    pub publications: Counter,
    /// Publishes answered with the position of an earlier one.
    pub duplicates: Counter,
    /// Publishes refused because too many, or too many bytes, waited in the lane's queue.
    pub busy: Counter,
    /// Publishes that failed because the log did.
    pub append_errors: Counter,
    /// Of these, those of which nobody knows whether they were committed.
    pub unknown_outcomes: Counter,
    /// Batches committed.
    pub batches: Counter,
    /// From the moment a batch is handed to the log to its commit.
    pub commit_seconds: Histogram,
    /// How long batches waited for commits of others in their channels, one for each that did.
    pub lock_wait_seconds: Histogram,
    /// Publishes that were handed to the node that owns their channel, and committed by it.
    pub forwarded: Counter,
    /// Publishes that were handed to an owner, and committed by this node after all: it was late, refused, or the link ended.
    pub fallbacks: Counter,
    /// Publishes that other nodes handed to this one.
    pub taken: Counter,
    /// Times that this node handed a channel to another owner than before.
    pub owner_moves: Counter,
    /// Transactions of apps that were committed.
    pub transactions: Counter,
    /// Those that had been committed before, by the idempotency key of a draft.
    pub transactions_duplicate: Counter,
    /// Those whose guards did not hold, or that met a row that was there already.
    pub transactions_refused: Counter,
    /// Those refused because too many, or too many bytes, waited.
    pub transactions_busy: Counter,
    /// Those that failed with the database, or because of a mistake in a statement.
    pub transactions_failed: Counter,
    /// Of these, those of which nobody knows whether they were committed.
    pub transactions_unknown: Counter,
    /// From the moment a transaction is taken to its outcome.
    pub transaction_seconds: Histogram,
    /// Frames handed to sockets, complete ones.
    pub deliveries: Counter,
    /// Writes to sockets.
    pub writes: Counter,
    /// Bytes written to sockets.
    pub written_bytes: Counter,
    /// Passes over the cursors of a channel.
    pub passes: Counter,
    /// Times that a socket was full and its cursors fell behind.
    pub lagging: Counter,
    /// Positions of returning clients that were placed by what this node has in memory.
    pub resumed_from_memory: Counter,
    /// Positions of returning clients that had to be compared with the log, or are read on from it.
    pub resumed_from_log: Counter,
    /// Statements that read heads from the log for clients that come back, and for history.
    pub head_reads: Counter,
    /// Connections closed because their peer took nothing for too long.
    pub stalled: Counter,
    /// Pages read from the log for subscribers that catch up.
    pub page_reads: Counter,
    /// News of channels with subscribers on this node.
    pub news: Counter,
    /// Frames of news handed to sockets.
    pub news_deliveries: Counter,
    /// News that a shard had no room for, or that subscribers were not given because they lagged.
    pub news_dropped: Counter,
    /// Subscriptions that count as presence of a client.
    pub attendances: Gauge,
    /// Hints that arrived over the bus.
    pub hints: Counter,
    /// What was missing and fetched, in the order of [`Cause::ALL`].
    pub healed: [Healed; Cause::ALL.len()],
    /// Times that the bus went down.
    pub bus_downs: Counter,
    /// Times that the bus came up, again or for the first time.
    pub bus_ups: Counter,
    /// How long the bus has been down, in milliseconds.
    pub bus_down_ms: Counter,
    /// Sweeps of the lane log.
    pub sweeps: Counter,
    /// Sweeps that failed.
    pub sweep_errors: Counter,
    /// Times that the log took another epoch: its database was restored or replaced.
    pub epoch_changes: Counter,
    /// Subscribes refused for any reason.
    pub subscribe_errors: Counter,
    /// Calls of the shared state that were not answered, or not in time.
    pub state_failures: Counter,
    /// Leases and objects that were asserted again in a shared state that was away, or had lost them.
    pub state_asserted: Counter,
    /// Wishes of a limiter that were granted.
    pub limits_granted: Counter,
    /// Wishes that were refused.
    pub limits_refused: Counter,
    /// Of both, those that were decided without the shared state because it was away.
    pub limits_degraded: Counter,
}

impl Metrics {
    /// What was healed for a cause.
    pub fn healed(&self, cause: Cause) -> &Healed {
        &self.healed[cause as usize]
    }
}

impl Counter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauge {
    /// Moves it.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
    }

    /// How many durations fell into each bucket, the one above the last bound included.
    pub fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed))
    }

    /// The sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.micros.load(Relaxed) as f64 / 1e6
    }
}
