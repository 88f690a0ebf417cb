//! What Socket Mode counts, for `GET /metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fanfare_gateway::metrics::{Family, Samples};

use super::{SOCKETS_MAX, SocketMode};

/// What is counted since the node began.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) missed: AtomicU64,
}

impl SocketMode {
    /// Sockets of this node that are open.
    pub(super) fn open(&self) -> usize {
        SOCKETS_MAX.saturating_sub(self.seats.available_permits())
    }

    /// Everything, by name.
    pub(crate) fn families(&self) -> Vec<Family> {
        let one = |number: u64| vec![(Vec::new(), number)];
        let counter = |name, help, count: &AtomicU64| Family {
            name,
            help,
            samples: Samples::Counter(one(count.load(Relaxed))),
        };
        let open = u64::try_from(self.open()).unwrap_or(u64::MAX);
        vec![
            Family {
                name: "chat_sockets",
                help: "Sockets of apps that are open",
                samples: Samples::Gauge(one(open)),
            },
            counter(
                "chat_envelopes_sent",
                "Envelopes that were sent to apps for the first time",
                &self.counters.sent,
            ),
            counter(
                "chat_envelopes_repeated",
                "Envelopes that were sent again: not acknowledged in time, or their socket was gone",
                &self.counters.repeated,
            ),
            counter(
                "chat_envelopes_acknowledged",
                "Envelopes that apps have acknowledged",
                &self.counters.acknowledged,
            ),
            counter(
                "chat_events_missed",
                "Publications that retention had removed before an app could be told of them",
                &self.counters.missed,
            ),
        ]
    }
}
