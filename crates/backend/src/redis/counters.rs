//! What the Redis bus counts. Plain atomics, read by whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Everything that a [`RedisBus`](super::RedisBus) counts since it was made.
#[derive(Debug, Default)]
pub struct BusCounters {
    /// Hints and news that Redis took.
    pub published: AtomicU64,
    /// Hints and news that arrived and were handed on.
    pub received: AtomicU64,
    /// Hints and news given up before Redis took them: the queue was full, or they had waited too long.
    pub dropped: AtomicU64,
    /// Messages that were neither hint nor news of this version and topic.
    pub decode_errors: AtomicU64,
    /// Connections to Redis that were made after the bus had been up for the first time: those made again.
    pub reconnects: AtomicU64,
    /// How long the last own heartbeat took from here through Redis and back, in milliseconds, rounded up.
    pub heartbeat_ms: AtomicU64,
}

impl BusCounters {
    pub(super) fn add(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Relaxed);
    }
}
