//! What a process of subscribers is told and answers: one line of JSON each way, over its standard input and output.

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::fleet::{Findings, Jitter};
use crate::latency::Latency;

/// Who connects to what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Party {
    /// Servers.
    pub(crate) urls: Vec<String>,
    /// Names of the channels.
    pub(crate) channels: Vec<String>,
    /// What they speak.
    pub(crate) dialect: Dialect,
    /// Token that everybody connects with.
    pub(crate) token: Option<String>,
    /// Secret to sign tokens with.
    pub(crate) token_secret: Option<String>,
    /// User of signed tokens.
    pub(crate) user: String,
    /// Number of the first subscriber of this process.
    pub(crate) first: usize,
    /// Processes that share the numbers.
    pub(crate) processes: usize,
    /// Last part of the loopback address to connect from; any address when there is none.
    pub(crate) source: Option<u8>,
    /// New connections a second, of this process.
    pub(crate) connect_rate: f64,
    /// Whether a lost connection is opened again.
    pub(crate) reconnect: bool,
}

/// What a process is told. Each order has exactly one answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Begin; always the first order.
    Begin(Party),
    /// Have this many subscribers in all.
    Connect {
        /// How many, of this process.
        clients: usize,
        /// How long no further one may become ready, in seconds.
        patience_seconds: u64,
    },
    /// Record latencies of what is meant to be sent at this time or later.
    Measure(u64),
    /// Hand over the latencies recorded since it was last asked.
    TakeLatency,
    /// Say how things are.
    Look,
    /// Cut connections.
    Jitter(Jitter),
    /// Wait until everybody has this many publications, by channel.
    Await {
        /// Publications by channel.
        expected: Vec<u64>,
        /// How long, in seconds.
        patience_seconds: f64,
    },
    /// End, and say what was found.
    Finish,
}

/// What a process answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The latencies.
    Latency(Latency),
    /// How things are.
    Look(Look),
    /// Subscribers that lack something.
    Incomplete(usize),
    /// What was found.
    Findings(Box<Findings>),
    /// Not every subscriber came up.
    NotReady {
        /// How many did.
        ready: usize,
        /// How many were asked for.
        wanted: usize,
        /// How long it was waited, in seconds.
        seconds: u64,
        /// The latest failure.
        reason: String,
    },
    /// It failed in another way.
    Failed(String),
}

/// How the subscribers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Look {
    /// Subscribed now.
    pub(crate) live: usize,
    /// Deliveries so far.
    pub(crate) delivered: u64,
    /// Violations so far.
    pub(crate) violations: u64,
    /// Connections opened again so far.
    pub(crate) reconnects: u64,
}

impl Look {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            live: self.live + other.live,
            delivered: self.delivered + other.delivered,
            violations: self.violations + other.violations,
            reconnects: self.reconnects + other.reconnects,
        }
    }
}
