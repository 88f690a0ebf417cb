//! The ports: what the engine needs from the world, with the guarantees it relies on, in prose.
//!
//! Each port has an in-memory twin in [`crate::memory`] and one contract suite in `contract` that every
//! implementation passes. Futures are boxed: a port is called per batch, never per message, so the box is noise.

pub mod bus;
pub mod log;
pub mod peers;
pub mod state;
pub mod tables;

use std::{future::Future, pin::Pin};

pub use bus::{Bus, BusEvent, BusEvents, BusHealth};
pub use log::{
    AppendError, Committed, Contention, Direction, Head, KEY_BYTES_MAX, LaneBatch, LaneCursors,
    LaneId, Log, LogError, NodeRecord, Outcome, ReadRange, Retention, Trimmed,
};

pub use peers::Peers;
pub use state::State;
pub use tables::{Tables, TablesError, TransactError, Transacted, Transaction};

/// A boxed future, as the ports return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
