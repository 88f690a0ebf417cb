//! Hints that wait for Redis to take them: bounded, in order, and kept until Redis has answered.
//!
//! A hint leaves when Redis has replied to its PUBLISH, when it has become too old to be of use (the sweep has told the
//! others long ago), or when newer ones need its place. No IO and no clock in here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fanfare_wire::hint::Hint;
use tokio::sync::Notify;

/// Bytes of publications that may wait.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Hints that may wait.
pub const QUEUE_HINTS_MAX: usize = 100_000;

/// A hint that waited longer than this is given up.
pub const HINT_AGE_MAX: Duration = Duration::from_secs(60);

/// Bytes after which a batch is closed, so that a heartbeat never waits behind a mountain.
const BATCH_BYTES: usize = 1 << 20;

/// Hints after which a batch is closed.
const BATCH_HINTS: usize = 1024;

/// The queue of one publisher.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Rung after every push; only the publisher waits for it.
    news: Notify,
}

/// The oldest waiting hints, taken to be sent but not yet gone.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) hints: Vec<Hint>,
    /// The ticket behind the last of them.
    end: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    hints: VecDeque<Queued>,
    bytes: usize,
    /// The ticket of the first in `hints`. Tickets count up, so a batch knows its hints even after some were dropped.
    first: u64,
}

#[derive(Debug)]
struct Queued {
    hint: Hint,
    weight: usize,
    since: Instant,
}

impl Queue {
    /// Adds hints. Returns how many old ones had to go for them.
    pub(super) fn push(&self, hints: Vec<Hint>, now: Instant) -> usize {
        let mut waiting = self.lock();
        for hint in hints {
            let weight = hint.run.weight();
            waiting.bytes += weight;
            waiting.hints.push_back(Queued {
                hint,
                weight,
                since: now,
            });
        }
        let dropped = waiting.drop_excess() + waiting.drop_old(now);
        drop(waiting);
        self.news.notify_one();
        dropped
    }

    /// The next hints to send, and how many were too old. They stay until they are [confirmed](Queue::confirm).
    pub(super) fn batch(&self, now: Instant) -> (Batch, usize) {
        let mut waiting = self.lock();
        let dropped = waiting.drop_old(now);
        let mut bytes = 0;
        let mut hints = Vec::new();
        for queued in waiting.hints.iter().take(BATCH_HINTS) {
            hints.push(queued.hint.clone());
            bytes += queued.weight;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        let end = waiting.first + hints.len() as u64;
        (Batch { hints, end }, dropped)
    }

    /// Redis has taken the whole batch.
    pub(super) fn confirm(&self, batch: &Batch) {
        let mut waiting = self.lock();
        while waiting.first < batch.end && waiting.pop() {}
    }

    /// Waits until there is something to send.
    pub(super) async fn ready(&self) {
        while self.lock().hints.is_empty() {
            self.news.notified().await;
        }
    }

    /// Nothing panics while this lock is held, so a poisoned one holds whole data.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drop_excess(&mut self) -> usize {
        let mut dropped = 0;
        while (self.bytes > QUEUE_BYTES_MAX || self.hints.len() > QUEUE_HINTS_MAX) && self.pop() {
            dropped += 1;
        }
        dropped
    }

    fn drop_old(&mut self, now: Instant) -> usize {
        let old = |queued: &Queued| now.saturating_duration_since(queued.since) > HINT_AGE_MAX;
        let mut dropped = 0;
        while self.hints.front().is_some_and(old) && self.pop() {
            dropped += 1;
        }
        dropped
    }

    /// Removes the oldest.
    fn pop(&mut self) -> bool {
        let Some(queued) = self.hints.pop_front() else {
            return false;
        };
        self.bytes -= queued.weight;
        self.first += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{ChannelName, Epoch, Json, Publication, Run, Seq};
    use uuid::Uuid;

    use super::*;

    fn hint(n: u64, bytes: usize) -> Hint {
        let publication = Publication {
            seq: Seq(n),
            id: Uuid::nil(),
            time: 0,
            data: Json::trusted(vec![b'1'; bytes].into()),
            info: None,
            tags: None,
        };
        let channel = ChannelName::parse("c").unwrap();
        let run = Run::new(channel, Epoch::parse("e").unwrap(), vec![publication]).unwrap();
        Hint { lane: 1, n, run }
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        batch.hints.iter().map(|hint| hint.n).collect()
    }

    #[test]
    fn hints_stay_until_they_are_confirmed() {
        let (queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.push((1..=3).map(|n| hint(n, 1)).collect(), now), 0);
        let (batch, _) = queue.batch(now);
        assert_eq!(numbers(&batch), [1, 2, 3]);
        queue.push(vec![hint(4, 1)], now);
        assert_eq!(
            numbers(&queue.batch(now).0),
            [1, 2, 3, 4],
            "not confirmed, so sent again"
        );
        queue.confirm(&batch);
        assert_eq!(numbers(&queue.batch(now).0), [4]);
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let (queue, now) = (Queue::default(), Instant::now());
        let (batch, _) = {
            queue.push(vec![hint(1, 1), hint(2, 1)], now);
            queue.batch(now)
        };
        let more = 3..=QUEUE_HINTS_MAX as u64 + 1;
        assert_eq!(queue.push(more.map(|n| hint(n, 1)).collect(), now), 1);
        // The first of the batch was dropped meanwhile; confirming takes the second and no other.
        queue.confirm(&batch);
        assert_eq!(numbers(&queue.batch(now).0)[0], 3);
    }

    #[test]
    fn bytes_are_bounded_too_and_a_batch_is_small() {
        let (queue, now) = (Queue::default(), Instant::now());
        let quarter = QUEUE_BYTES_MAX / 4;
        assert_eq!(
            queue.push((1..=5).map(|n| hint(n, quarter)).collect(), now),
            2
        );
        assert_eq!(
            numbers(&queue.batch(now).0),
            [3],
            "one of these fills a batch"
        );
    }

    #[test]
    fn what_waited_too_long_is_given_up() {
        let (queue, start) = (Queue::default(), Instant::now());
        queue.push(vec![hint(1, 1)], start);
        let later = start + HINT_AGE_MAX;
        queue.push(vec![hint(2, 1)], later);
        assert_eq!(numbers(&queue.batch(later).0), [1, 2]);
        let (batch, dropped) = queue.batch(later + Duration::from_millis(1));
        assert_eq!((numbers(&batch), dropped), (vec![2], 1));
    }
}
