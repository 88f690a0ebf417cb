//! What the state counts, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of one [`RedisState`](super::RedisState); they only grow.
#[derive(Debug, Default)]
pub struct StateCounters {
    /// Leases ended by this node because their own time was over, or because their node was dead.
    pub ended: AtomicU64,
    /// Nodes after which this node cleared up.
    pub buried: AtomicU64,
    /// Times that this node's own lease was lost and taken anew.
    pub rejoined: AtomicU64,
    /// Sessions with Redis after the first.
    pub reconnects: AtomicU64,
    /// Keys that Redis has evicted while this node watched: none of them is state of a healthy server.
    pub evicted: AtomicU64,
    /// Times that Redis was refused because it may evict state at will.
    pub refused: AtomicU64,
}

impl StateCounters {
    pub(super) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Relaxed);
    }
}
