//! The open-loop schedule: when each message is meant to be sent, whatever the server does.
//!
//! A slow server cannot slow this clock down: what is late is sent late and its lateness is part of its latency.

use crate::clock::SECOND;

/// Messages `0..total` at a fixed rate from `start`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: u64,
    rate: f64,
    total: u64,
}

impl Schedule {
    /// `rate` messages a second for `seconds`, the first one at `start` (nanoseconds of [`crate::clock`]).
    pub(crate) fn new(start: u64, rate: f64, seconds: f64) -> Self {
        Self {
            start,
            rate,
            total: (rate * seconds).round() as u64,
        }
    }

    /// How many messages there are in all.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// When message `index` is meant to be sent.
    pub(crate) fn intended(&self, index: u64) -> u64 {
        self.start + (index as f64 * SECOND as f64 / self.rate) as u64
    }

    /// How many messages should have been sent by `now`.
    pub(crate) fn due(&self, now: u64) -> u64 {
        if now < self.start {
            return 0;
        }
        let mut due = ((now - self.start) as f64 * self.rate / SECOND as f64) as u64;
        // The division may be off by one either way; the intended times decide.
        while due > 0 && self.intended(due - 1) > now {
            due -= 1;
        }
        while due < self.total && self.intended(due) <= now {
            due += 1;
        }
        due.min(self.total)
    }

    /// When the schedule is over.
    pub(crate) fn end(&self) -> u64 {
        self.intended(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_times_are_evenly_spaced_and_independent_of_progress() {
        let schedule = Schedule::new(1_000, 1_000.0, 2.0);
        assert_eq!(schedule.total(), 2_000);
        assert_eq!(schedule.intended(0), 1_000);
        assert_eq!(schedule.intended(1), 1_001_000);
        assert_eq!(schedule.intended(1_500), 1_000 + 3 * SECOND / 2);
        assert_eq!(schedule.end(), 1_000 + 2 * SECOND);
    }

    #[test]
    fn due_counts_exactly_the_messages_whose_time_has_come() {
        for rate in [0.5, 3.0, 7.0, 333.0, 1_000.0, 60_000.0] {
            let schedule = Schedule::new(123_456_789, rate, 20.0);
            assert_eq!(schedule.due(0), 0);
            for index in 0..schedule.total().min(5_000) {
                let at = schedule.intended(index);
                assert_eq!(schedule.due(at), index + 1, "rate {rate} at {index}");
                assert_eq!(schedule.due(at - 1), index, "rate {rate} before {index}");
            }
            assert_eq!(schedule.due(u64::MAX / 2), schedule.total());
        }
    }
}
