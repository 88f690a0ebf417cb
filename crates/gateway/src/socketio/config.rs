//! How Socket.IO is served.

use std::{sync::Arc, time::Duration};

use super::Namespace;

/// How a connection shows that it is alive, and what it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between the answer to a ping and the next one.
    pub interval: Duration,
    /// How long a client may take to answer.
    pub timeout: Duration,
    /// The longest payload, frame, or sum of the attachments of one packet that is taken, in bytes.
    pub max_payload: usize,
}

impl Default for Heartbeat {
    /// What Socket.IO's own server does.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
        }
    }
}

/// How Socket.IO is served.
#[derive(Clone, Default)]
pub struct SocketIoConfig {
    /// How connections show that they are alive.
    pub heartbeat: Heartbeat,
    /// Clients carry how far they have read, and go on from there when they come back.
    pub recovery: bool,
    /// The apps, in the order of the names that [`forms`](crate::forms) was given. One of the name `/` serves instead of
    /// what is built in.
    pub apps: Vec<Arc<dyn Namespace>>,
}
