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
    /// Publishes refused because the lane's queue was full.
    pub busy: Counter,
    /// Publishes that failed because the log did.
    pub append_errors: Counter,
    /// Batches committed.
    pub batches: Counter,
    /// From the moment a batch is handed to the log to its commit.
    pub commit_seconds: Histogram,
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
    /// Pages read from the log for subscribers that catch up.
    pub page_reads: Counter,
    /// Hints that arrived over the bus.
    pub hints: Counter,
    /// Publications fetched because a later one showed that they were missing.
    pub healed_gaps: Counter,
    /// Publications fetched because the sweep of the lane log showed them.
    pub healed_by_sweep: Counter,
    /// Sweeps of the lane log.
    pub sweeps: Counter,
    /// Sweeps that failed.
    pub sweep_errors: Counter,
    /// Times that the log took another epoch: its database was restored or replaced.
    pub epoch_changes: Counter,
    /// Subscribes refused for any reason.
    pub subscribe_errors: Counter,
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
