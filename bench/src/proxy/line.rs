//! One direction of one connection: bytes on their way, each with the time from which it may arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use crate::clock::{MILLISECOND, SECOND};
use crate::proxy::resp::Frames;
use crate::proxy::{Counters, PathFaults, PushFaults};
use crate::random::Random;

/// Bytes that may be on their way before no more are read, as a window of TCP.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// The longest time that a reordered message is put off.
const REORDER_MAX: u64 = 50 * MILLISECOND;

/// Bytes on their way.
#[derive(Debug, Default)]
pub(super) struct Line {
    parcels: BinaryHeap<Reverse<Parcel>>,
    /// What is being written, and how much of it was.
    current: Option<(Vec<u8>, usize)>,
    queued: usize,
    /// Numbers parcels, so that those of the same time stay in order.
    next: u64,
    /// When the last one in order may arrive: later ones may not be earlier.
    last_due: u64,
    /// From when on the rate allows more.
    free_at: u64,
    /// Bytes that have passed since the present faults were set.
    passed: u64,
    /// Cuts the bytes into messages, when they are Redis's.
    frames: Option<Frames>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: u64,
    number: u64,
    bytes: Vec<u8>,
}

impl Line {
    /// A line whose bytes are the answers of a Redis.
    pub(super) fn of_redis() -> Self {
        Self {
            frames: Some(Frames::default()),
            ..Self::default()
        }
    }

    /// Whether more may be taken on. On a slow way that is what passes in a second, so that the sender notices.
    pub(super) fn has_room(&self, faults: &PathFaults) -> bool {
        let window = faults.rate.map_or(QUEUED_BYTES_MAX, |rate| {
            usize::try_from(rate.get()).unwrap_or(usize::MAX)
        });
        self.queued < window.min(QUEUED_BYTES_MAX)
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.parcels.is_empty()
    }

    /// Other faults are in force from now on: what was put off by those before may arrive at once.
    pub(super) fn begin_anew(&mut self) {
        self.passed = 0;
        (self.last_due, self.free_at) = (0, 0);
        let parcels = std::mem::take(&mut self.parcels).into_iter();
        self.parcels = parcels
            .map(|Reverse(parcel)| Reverse(Parcel { due: 0, ..parcel }))
            .collect();
    }

    /// Takes bytes that were read at `now`.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now: u64,
        faults: &PathFaults,
        pushes: &PushFaults,
        tools: &mut Tools<'_>,
    ) {
        let Some(mut frames) = self.frames.take() else {
            let due = self.due(bytes.len(), now, faults, tools.random);
            self.put(bytes.to_vec(), due);
            return;
        };
        frames.feed(bytes);
        while let Some(piece) = frames.take() {
            let due = self.due(piece.bytes.len(), now, faults, tools.random);
            if !piece.is_message {
                self.put(piece.bytes, due);
            } else if happens(pushes.drop, tools.random) {
                tools.counters.dropped.fetch_add(1, Ordering::Relaxed);
            } else if happens(pushes.repeat, tools.random) {
                tools.counters.repeated.fetch_add(1, Ordering::Relaxed);
                self.put(piece.bytes.clone(), due);
                let later = due + tools.random.below(REORDER_MAX);
                self.put(piece.bytes, later);
            } else if happens(pushes.reorder, tools.random) {
                tools.counters.reordered.fetch_add(1, Ordering::Relaxed);
                let later = due + tools.random.below(REORDER_MAX);
                self.put(piece.bytes, later);
            } else {
                self.put(piece.bytes, due);
            }
        }
        self.frames = Some(frames);
    }

    /// What may be written at `now`, if anything.
    pub(super) fn ready(&mut self, now: u64) -> Option<&[u8]> {
        if self.current.is_none()
            && self
                .parcels
                .peek()
                .is_some_and(|Reverse(first)| first.due <= now)
        {
            self.current = self.parcels.pop().map(|Reverse(first)| (first.bytes, 0));
        }
        self.current
            .as_ref()
            .map(|(bytes, written)| &bytes[*written..])
    }

    /// How many bytes may be written before the connection is to be cut.
    pub(super) fn until_cut(&self, faults: &PathFaults) -> Option<u64> {
        faults
            .cut_after
            .map(|after| after.saturating_sub(self.passed))
    }

    /// `count` bytes of what was ready were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.passed += count as u64;
        self.queued = self.queued.saturating_sub(count);
        if let Some((bytes, written)) = &mut self.current {
            *written += count;
            if *written >= bytes.len() {
                self.current = None;
            }
        }
    }

    /// When the next bytes may be written, if they are not ready yet.
    pub(super) fn next_due(&self) -> Option<u64> {
        match self.current {
            Some(_) => None,
            None => self.parcels.peek().map(|Reverse(first)| first.due),
        }
    }

    fn put(&mut self, bytes: Vec<u8>, due: u64) {
        self.queued += bytes.len();
        let number = self.next;
        self.next += 1;
        self.parcels.push(Reverse(Parcel { due, number, bytes }));
    }

    fn due(&mut self, length: usize, now: u64, faults: &PathFaults, random: &mut Random) -> u64 {
        let mut sent = now;
        if let Some(rate) = faults.rate {
            let takes = (length as u64).saturating_mul(SECOND) / rate;
            self.free_at = self.free_at.max(now).saturating_add(takes);
            sent = self.free_at;
        }
        let jitter = random.below(faults.jitter.as_nanos() as u64 + 1);
        let due = sent + faults.delay.as_nanos() as u64 + jitter;
        self.last_due = self.last_due.max(due);
        self.last_due
    }
}

/// What lines share.
pub(super) struct Tools<'a> {
    /// For jitter, and for what happens to messages.
    pub(super) random: &'a mut Random,
    /// What happened to messages.
    pub(super) counters: &'a Counters,
}

fn happens(share: f64, random: &mut Random) -> bool {
    const STEPS: u64 = 1 << 32;
    share > 0.0 && (random.below(STEPS) as f64) < share * STEPS as f64
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use super::*;

    fn fill(line: &mut Line, pieces: &[&[u8]], faults: &PathFaults, pushes: &PushFaults) -> Passed {
        let counters = Counters::default();
        let mut random = Random::new(7);
        let mut tools = Tools {
            random: &mut random,
            counters: &counters,
        };
        for piece in pieces {
            line.take(piece, 0, faults, pushes, &mut tools);
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Passed(
            count(&counters.dropped),
            count(&counters.repeated),
            count(&counters.reordered),
        )
    }

    struct Passed(u64, u64, u64);

    fn empty(line: &mut Line, now: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = line.ready(now) {
            all.extend_from_slice(bytes);
            let count = bytes.len();
            line.wrote(count);
        }
        all
    }

    #[test]
    fn jitter_does_not_change_the_order() {
        let pieces: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let faults = PathFaults {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(100),
            ..PathFaults::default()
        };
        let mut line = Line::default();
        fill(&mut line, &pieces, &faults, &PushFaults::default());
        assert_eq!(line.ready(10 * MILLISECOND - 1), None);
        assert!(line.next_due().is_some_and(|due| due >= 10 * MILLISECOND));
        assert_eq!(
            empty(&mut line, 111 * MILLISECOND),
            (0..200).collect::<Vec<u8>>()
        );
        assert!(line.is_empty() && line.has_room(&faults));
    }

    #[test]
    fn a_rate_spreads_what_comes_at_once() {
        let faults = PathFaults {
            rate: NonZeroU64::new(100),
            ..PathFaults::default()
        };
        let mut line = Line::default();
        fill(
            &mut line,
            &[&[1; 10][..]; 10],
            &faults,
            &PushFaults::default(),
        );
        assert_eq!(empty(&mut line, SECOND / 2).len(), 50);
        assert_eq!(empty(&mut line, SECOND).len(), 50);
    }

    #[test]
    fn a_full_line_has_no_room_until_it_is_written() {
        let mut line = Line::default();
        let bytes = vec![0; QUEUED_BYTES_MAX];
        fill(
            &mut line,
            &[&bytes],
            &PathFaults::default(),
            &PushFaults::default(),
        );
        let none = PathFaults::default();
        assert!(!line.has_room(&none));
        line.ready(0).unwrap();
        line.wrote(1);
        assert!(line.has_room(&none) && !line.is_empty());
        let slow = PathFaults {
            rate: NonZeroU64::new(100),
            ..none
        };
        assert!(!line.has_room(&slow));
    }

    #[test]
    fn what_was_put_off_arrives_in_order_when_the_faults_are_gone() {
        let slow = PathFaults {
            rate: NonZeroU64::new(1),
            ..PathFaults::default()
        };
        let mut line = Line::default();
        let pieces: [&[u8]; 3] = [b"one", b"two", b"three"];
        fill(&mut line, &pieces, &slow, &PushFaults::default());
        assert_eq!(line.ready(0), None);
        line.begin_anew();
        assert_eq!(empty(&mut line, 0), b"onetwothree");
    }

    #[test]
    fn messages_are_dropped_repeated_and_reordered_and_nothing_else_is() {
        let mut bytes = Vec::new();
        let message = |number: usize| {
            format!(
                ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n${}\r\n{number}\r\n",
                number.to_string().len()
            )
        };
        for number in 0..1_000 {
            bytes.extend(b"+PONG\r\n");
            bytes.extend(message(number).as_bytes());
        }
        let pushes = PushFaults {
            drop: 0.1,
            repeat: 0.1,
            reorder: 0.1,
        };
        let mut line = Line::of_redis();
        let Passed(dropped, repeated, reordered) =
            fill(&mut line, &[&bytes], &PathFaults::default(), &pushes);
        for count in [dropped, repeated, reordered] {
            assert!((20..300).contains(&count), "{count}");
        }
        let passed = String::from_utf8(empty(&mut line, SECOND)).unwrap();
        assert_eq!(passed.matches("+PONG").count(), 1_000);
        let messages = passed.matches("message").count() as u64;
        assert_eq!(messages, 1_000 - dropped + repeated);
        let numbers: Vec<u64> = passed
            .split("\r\n")
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(!numbers.is_sorted());
    }
}
