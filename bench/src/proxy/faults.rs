//! What can be done to the connections of a proxy.

use std::num::NonZeroU64;
use std::time::Duration;

/// What a proxy does to all of its connections; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// From whoever connected to the server behind the proxy.
    pub up: PathFaults,
    /// From the server behind the proxy to whoever connected.
    pub down: PathFaults,
    /// How long a new connection waits before anything passes.
    pub accept_delay: Duration,
    /// Resets new connections at once, as a server that does not run would.
    pub refuse: bool,
    /// To messages of Redis Pub/Sub, on their way down.
    pub pushes: PushFaults,
}

/// What a proxy does to the bytes of one direction, connection by connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathFaults {
    /// How much later they come.
    pub delay: Duration,
    /// A random further delay up to this. Bytes of one connection stay in order.
    pub jitter: Duration,
    /// How many pass in a second.
    pub rate: Option<NonZeroU64>,
    /// Holds everything, the end of a connection included, until the fault is taken away.
    pub black_hole: bool,
    /// Resets a connection, both sides, once this many further bytes have passed.
    pub cut_after: Option<u64>,
}

/// What a proxy does to messages of Redis Pub/Sub: the share of them, from 0 to 1, that each happens to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PushFaults {
    /// Is never delivered.
    pub drop: f64,
    /// Is delivered twice.
    pub repeat: f64,
    /// Is put off for up to 50 ms while later ones go on.
    pub reorder: f64,
}

impl Faults {
    /// Both directions held.
    pub fn black_hole() -> Self {
        Self::both(PathFaults {
            black_hole: true,
            ..PathFaults::default()
        })
    }

    /// The same in both directions.
    pub fn both(path: PathFaults) -> Self {
        Self {
            up: path,
            down: path,
            ..Self::default()
        }
    }

    /// No connection passes: new ones are reset. Reset the open ones with [`Proxy::reset_all`](super::Proxy::reset_all).
    pub fn refused() -> Self {
        Self {
            refuse: true,
            ..Self::default()
        }
    }
}
