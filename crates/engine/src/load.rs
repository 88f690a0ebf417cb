//! How much waits in a node's lane, and how long it is likely to wait.
//!
//! A publish that is refused is told when to come back. That time is honest only if it follows from what waits and from
//! how fast batches have been committed lately, or, when the log hangs, from how long it has hung already.

use std::{
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::publish::{BATCH_BYTES_MAX, BATCH_DRAFTS_MAX, QUEUE_MAX};

/// Bytes of the drafts that may wait for their batch on a node. Beyond it they are refused before they are taken.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The shortest time after which a refused publisher is told to come back.
pub const BUSY_RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest.
pub const BUSY_RETRY_MAX: Duration = Duration::from_secs(10);

/// How much of the time of a batch goes into the mean: one part in so many.
const SMOOTHING: u64 = 4;
/// What a batch is taken to need before the first one was measured.
const BATCH_GUESS: Duration = Duration::from_millis(5);

/// What waits in a lane, and how fast the lane is. Shared by those who put drafts in and the one who takes them out.
#[derive(Debug)]
pub(crate) struct Load {
    started: Instant,
    /// The drafts that wait.
    drafts: AtomicUsize,
    /// Weight of the drafts that wait.
    bytes: AtomicUsize,
    /// The mean time of a batch, in microseconds.
    batch_micros: AtomicU64,
    /// When the batch in flight was handed to the log, in microseconds since `started`; 0 when there is none.
    in_flight_since: AtomicU64,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            drafts: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            batch_micros: AtomicU64::new(micros(BATCH_GUESS)),
            in_flight_since: AtomicU64::new(0),
        }
    }

    /// Takes room for a draft. Returns whether there was any; a draft of any weight finds room when nothing waits.
    pub(crate) fn take_room(&self, weight: usize) -> bool {
        let drafts = self.drafts.fetch_add(1, AcqRel);
        let before = self.bytes.fetch_add(weight, AcqRel);
        let fits = before == 0 || before.saturating_add(weight) <= QUEUE_BYTES_MAX;
        let fits = fits && drafts < QUEUE_MAX;
        if !fits {
            self.give_room(weight);
        }
        fits
    }

    /// A draft no longer waits.
    pub(crate) fn give_room(&self, weight: usize) {
        self.drafts.fetch_sub(1, AcqRel);
        self.bytes.fetch_sub(weight, AcqRel);
    }

    /// A batch is handed to the log.
    pub(crate) fn batch_begins(&self, now: Instant) {
        self.in_flight_since
            .store(self.micros_at(now).max(1), Relaxed);
    }

    /// The log has answered.
    pub(crate) fn batch_ends(&self, now: Instant) {
        let since = self.in_flight_since.swap(0, Relaxed);
        self.took(self.micros_at(now).saturating_sub(since));
    }

    /// One of several that run at once has ended, after a time; `more` are still at it.
    pub(crate) fn one_ends(&self, took: Duration, more: bool, now: Instant) {
        self.took(micros(took));
        let since = if more { self.micros_at(now).max(1) } else { 0 };
        self.in_flight_since.store(since, Relaxed);
    }

    fn took(&self, took: u64) {
        // Where several end at once one of them may not count.
        let mean = self.batch_micros.load(Relaxed);
        let mean = (mean * (SMOOTHING - 1) + took) / SMOOTHING;
        self.batch_micros.store(mean, Relaxed);
    }

    /// Drafts that wait.
    pub(crate) fn drafts(&self) -> usize {
        self.drafts.load(Relaxed)
    }

    /// How long a batch takes, lately.
    pub(crate) fn batch_time(&self) -> Duration {
        Duration::from_micros(self.batch_micros.load(Relaxed))
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// In how many milliseconds the `waiting` drafts are likely to be gone.
    pub(crate) fn retry_ms(&self, waiting: usize, now: Instant) -> u32 {
        let batches = (waiting / BATCH_DRAFTS_MAX).max(self.bytes() / BATCH_BYTES_MAX) + 1;
        self.retry_after(batches, now)
    }

    /// In how many milliseconds so many batches are likely to be gone.
    pub(crate) fn retry_after(&self, batches: usize, now: Instant) -> u32 {
        let mean = self.batch_micros.load(Relaxed);
        let expected = mean.saturating_mul(u64::try_from(batches).unwrap_or(u64::MAX));
        // A log that hangs is expected to hang for as long again.
        let hanging = match self.in_flight_since.load(Relaxed) {
            0 => 0,
            since => self.micros_at(now).saturating_sub(since),
        };
        let wait = Duration::from_micros(expected.max(hanging));
        let wait = wait.clamp(BUSY_RETRY_MIN, BUSY_RETRY_MAX);
        u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)
    }

    fn micros_at(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.started))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_one_draft_always_fits() {
        let load = Load::new();
        assert!(load.take_room(QUEUE_BYTES_MAX + 1));
        assert!(!load.take_room(1));
        load.give_room(QUEUE_BYTES_MAX + 1);
        assert!(load.take_room(QUEUE_BYTES_MAX - 1));
        assert!(load.take_room(1));
        assert!(!load.take_room(1));
        assert_eq!(
            load.bytes(),
            QUEUE_BYTES_MAX,
            "what was refused weighs nothing"
        );
    }

    #[test]
    fn the_retry_time_follows_the_queue_and_the_speed_of_the_log() {
        let load = Load::new();
        let mut now = load.started;
        let mut batches_of = |millis: u64| {
            for _ in 0..40 {
                load.batch_begins(now);
                now += Duration::from_millis(millis);
                load.batch_ends(now);
            }
            now
        };
        let now = batches_of(20);
        let of_ten = load.retry_ms(10 * BATCH_DRAFTS_MAX, now);
        assert!((200..=240).contains(&of_ten), "{of_ten}");
        let of_twenty = load.retry_ms(20 * BATCH_DRAFTS_MAX, now);
        assert!((400..=450).contains(&of_twenty), "{of_twenty}");
        let now = batches_of(100);
        assert!(load.retry_ms(10 * BATCH_DRAFTS_MAX, now) > 4 * of_ten);
        assert_eq!(load.retry_ms(usize::MAX, now), 10_000, "bounded above");
        let now = batches_of(1);
        assert_eq!(load.retry_ms(0, now), 50, "bounded below");
        load.batch_begins(now);
        assert_eq!(load.retry_ms(0, now + Duration::from_secs(3)), 3_000);
    }
}
