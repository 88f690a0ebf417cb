//! The database's clock, as far as this node has heard of it: leases of all nodes are told by it, whatever their own clocks
//! say.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use fanfare_wire::Millis;
use tokio::time::Instant;

/// A clock that is set by every commit. An app that commits itself has one of its own.
pub struct Clock {
    started: Instant,
    /// What the database's clock showed at `started`, as the last commit tells it.
    origin: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Shows the machine's time until the database's is known.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            origin: AtomicI64::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Now, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.origin.load(Relaxed) + self.elapsed()
    }

    /// A commit that has just returned happened at this time; without effect if it is 0.
    pub fn set(&self, time: Millis) {
        if time > 0 {
            self.origin.store(time - self.elapsed(), Relaxed);
        }
    }

    fn elapsed(&self) -> Millis {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_what_it_was_told() {
        let clock = Clock::new();
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.set(1_000_000);
        assert_eq!(clock.now(), 1_000_000);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now(), 1_000_250);
        clock.set(0);
        assert_eq!(clock.now(), 1_000_250);
    }
}
