//! How long to wait before the next attempt to connect.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The wait after the first failure.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`]; each wait is a random part, at least a half, of that, so that the
/// nodes that lost Redis together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let full = BACKOFF_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        // The hasher's random keys are all the randomness that a jitter needs.
        let random = RandomState::new().hash_one(self.failures);
        let part = 0.5 + (random % 1024) as f64 / 2048.0;
        full.mul_f64(part)
    }

    /// The last attempt worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= BACKOFF_MIN);
        let mut full = BACKOFF_MIN;
        for _ in 0..100 {
            full = (full * 2).min(BACKOFF_MAX);
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
