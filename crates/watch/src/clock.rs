//! The time of the room: the database's, so that all nodes and their clients agree.
//!
//! A node asks the database for its time now and then and remembers how far its own monotonic clock is from it. The one
//! with the shortest way there and back of a few is the best.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fanfare_engine::{Engine, port::Transaction, port::tables::Step};
use fanfare_wire::Millis;
use tokio::time::Instant;

use crate::failure::Failure;

/// How often the database is asked for its time.
pub(crate) const ASK_INTERVAL: Duration = Duration::from_secs(20);

/// Questions of one asking.
const ASKS: usize = 5;

/// The database's time, without asking it.
#[derive(Debug)]
pub(crate) struct RoomClock {
    begin: Instant,
    /// The database's time at `begin`, in microseconds since the Unix epoch.
    at_begin: AtomicI64,
}

/// One answer of the database.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The database's time at the clock's beginning, in microseconds, if both ways took equally long.
    at_begin: i64,
    /// There and back, in microseconds.
    round_trip: i64,
}

impl RoomClock {
    /// The own system's time, until the database was asked.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            begin: Instant::now(),
            at_begin: AtomicI64::new(micros(since)),
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Millis {
        (self.at_begin.load(Relaxed) + micros(self.begin.elapsed())) / 1000
    }

    /// Asks the database.
    pub(crate) async fn ask(&self, engine: &Engine) -> Result<(), Failure> {
        let mut samples = Vec::with_capacity(ASKS);
        for _ in 0..ASKS {
            let question = Transaction {
                steps: vec![Step::new("SELECT 1", Vec::new())],
                ..Transaction::default()
            };
            let before = micros(self.begin.elapsed());
            let done = engine.transact(question).await?;
            let after = micros(self.begin.elapsed());
            samples.push(Sample {
                // The time is given in whole milliseconds, cut off: half of one more on average.
                at_begin: done.time * 1000 + 500 - (before + after) / 2,
                round_trip: after - before,
            });
        }
        let now = self.at_begin.load(Relaxed);
        self.at_begin.store(corrected(now, &samples), Relaxed);
        Ok(())
    }
}

/// A better offset, or the one there was if the best answer does not contradict it.
fn corrected(now: i64, samples: &[Sample]) -> i64 {
    let Some(best) = samples.iter().min_by_key(|sample| sample.round_trip) else {
        return now;
    };
    // The answer was given at some time in between, and rounded.
    let unsure = best.round_trip / 2 + 500;
    match (best.at_begin - now).abs() <= unsure {
        true => now,
        false => best.at_begin,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_counts_and_noise_does_not_move_the_clock() {
        let sample = |at_begin, round_trip| Sample {
            at_begin,
            round_trip,
        };
        let samples = [
            sample(90_000, 40_000),
            sample(70_300, 600),
            sample(20_000, 90_000),
        ];
        assert_eq!(corrected(0, &samples), 70_300);
        assert_eq!(corrected(70_000, &samples), 70_000);
        assert_eq!(corrected(5, &[]), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_by_itself() {
        let clock = RoomClock::new();
        let before = clock.now();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now() - before, 1500);
    }
}
