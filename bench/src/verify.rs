//! The checks: each subscriber's own stream, and what all subscribers and the publisher say together.
//!
//! A stream is right when its offsets go up by exactly one from the position of the subscription on, up to all that was
//! published. The offsets give the order, so no search is needed: every check is linear.

use serde::{Deserialize, Serialize};

/// Separate stretches of missing offsets that one subscriber remembers, to tell a late delivery from a repeated one.
const MISSING_RANGES_MAX: usize = 1_024;

/// How far ahead of the last known offset a delivery may be to be compared with others.
const CONTENT_JUMP_MAX: u64 = 1 << 20;

/// What one delivery meant to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The one that was due.
    Next,
    /// A later one: those in between are missing so far.
    Hole {
        /// The offset that was due.
        due: u64,
    },
    /// One that was missing, after a later one.
    Late,
    /// One that was there before.
    Duplicate,
    /// One without a number.
    Unnumbered,
}

/// The state of one subscriber's stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    position: u64,
    distinct: u64,
    faults: Option<Box<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Missing offsets, first and last of each stretch.
    missing: Vec<(u64, u64)>,
    /// Missing offsets of stretches that were too many to remember.
    forgotten: u64,
    duplicates: u64,
    reorders: u64,
    unnumbered: u64,
}

/// What was wrong with one stream, or with many of them together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFaults {
    /// Offsets that were skipped and never came.
    pub holes: u64,
    /// Deliveries of an offset that had been delivered before.
    pub duplicates: u64,
    /// Deliveries that came after one with a higher offset.
    pub reorders: u64,
    /// Deliveries without an offset.
    pub unnumbered: u64,
}

impl StreamFaults {
    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds those of another stream.
    pub(crate) fn add(&mut self, other: Self) {
        self.holes += other.holes;
        self.duplicates += other.duplicates;
        self.reorders += other.reorders;
        self.unnumbered += other.unnumbered;
    }
}

impl Stream {
    /// The offset of the latest publication in order.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many different publications were received.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }

    /// The subscription begins after `offset`.
    pub(crate) fn begin(&mut self, offset: u64) {
        self.position = offset;
    }

    /// The server could not go on from the position: everything up to `offset` is missing.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        if offset > self.position {
            self.miss(self.position + 1, offset);
            self.position = offset;
        }
    }

    /// The publication that was due came: the ordinary case, and all that it costs.
    pub(crate) fn accept_next(&mut self) {
        self.position += 1;
        self.distinct += 1;
    }

    /// A publication came.
    pub(crate) fn accept(&mut self, offset: u64) -> Step {
        if offset == 0 {
            self.faults().unnumbered += 1;
            // Counted, so that completeness can still be told.
            self.distinct += 1;
            return Step::Unnumbered;
        }
        let due = self.position + 1;
        if offset == due {
            self.accept_next();
            return Step::Next;
        }
        if offset > due {
            self.miss(due, offset - 1);
            self.position = offset;
            self.distinct += 1;
            return Step::Hole { due };
        }
        if self.fill(offset) {
            self.distinct += 1;
            self.faults().reorders += 1;
            Step::Late
        } else {
            self.faults().duplicates += 1;
            Step::Duplicate
        }
    }

    /// What was wrong so far; stretches still missing count as holes.
    pub(crate) fn faults_so_far(&self) -> StreamFaults {
        let Some(faults) = &self.faults else {
            return StreamFaults::default();
        };
        let missing: u64 = faults
            .missing
            .iter()
            .map(|(first, last)| last - first + 1)
            .sum();
        StreamFaults {
            holes: missing + faults.forgotten,
            duplicates: faults.duplicates,
            reorders: faults.reorders,
            unnumbered: faults.unnumbered,
        }
    }

    fn faults(&mut self) -> &mut Faults {
        self.faults.get_or_insert_default()
    }

    fn miss(&mut self, first: u64, last: u64) {
        let faults = self.faults();
        if faults.missing.len() < MISSING_RANGES_MAX {
            faults.missing.push((first, last));
        } else {
            faults.forgotten += last - first + 1;
        }
    }

    fn fill(&mut self, offset: u64) -> bool {
        let Some(faults) = &mut self.faults else {
            return false;
        };
        let found = faults
            .missing
            .iter()
            .position(|&(first, last)| first <= offset && offset <= last);
        let Some(index) = found else {
            return false;
        };
        let (first, last) = faults.missing.swap_remove(index);
        if first < offset {
            faults.missing.push((first, offset - 1));
        }
        if offset < last {
            faults.missing.push((offset + 1, last));
        }
        true
    }
}

/// Which message each offset of each channel carried: the same one for everybody, and the one that was acknowledged.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contents {
    channels: Vec<Content>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Content {
    /// The offset before the first one that is kept.
    base: Option<u64>,
    /// Number of the message plus one, by offset after the base; 0 where nothing is known.
    messages: Vec<u64>,
}

impl Contents {
    /// Nothing known of `channels` channels.
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            channels: vec![Content::default(); channels],
        }
    }

    /// A subscription to a channel begins after `offset`.
    pub(crate) fn begin(&mut self, channel: usize, offset: u64) {
        self.channels[channel].base.get_or_insert(offset);
    }

    /// The position at which the first subscription to a channel began.
    pub(crate) fn base(&self, channel: usize) -> Option<u64> {
        self.channels[channel].base
    }

    /// Says that `offset` of a channel carried message `n`; `false` when it is known to have carried another one.
    pub(crate) fn note(&mut self, channel: usize, offset: u64, n: u64) -> bool {
        let content = &mut self.channels[channel];
        let base = *content.base.get_or_insert(offset.saturating_sub(1));
        if offset <= base || offset - base > content.messages.len() as u64 + CONTENT_JUMP_MAX {
            // Before the first subscription, or absurd: the streams say so where it is a fault.
            return true;
        }
        let index = (offset - base - 1) as usize;
        if index >= content.messages.len() {
            content.messages.resize(index + 1, 0);
        }
        let known = &mut content.messages[index];
        if *known == 0 {
            *known = n + 1;
        }
        *known == n + 1
    }

    /// Adds what another thread saw and returns how many offsets it saw differently.
    pub(crate) fn merge(&mut self, other: &Self) -> u64 {
        let mut differing = 0;
        for (channel, content) in other.channels.iter().enumerate() {
            let base = content.base.unwrap_or_default();
            for (index, &message) in content.messages.iter().enumerate() {
                if message != 0 && !self.note(channel, base + 1 + index as u64, message - 1) {
                    differing += 1;
                }
            }
        }
        differing
    }

    /// How many offsets carried a message that another offset carried before.
    pub(crate) fn repeated(&self) -> u64 {
        let mut messages: Vec<u64> = self
            .channels
            .iter()
            .flat_map(|content| {
                content
                    .messages
                    .iter()
                    .copied()
                    .filter(|&message| message != 0)
            })
            .collect();
        messages.sort_unstable();
        messages
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .count() as u64
    }

    /// Whether `offset` of a channel carried something else than message `n`; `None` when nobody saw it.
    pub(crate) fn differs(&self, channel: usize, offset: u64, n: u64) -> Option<bool> {
        let content = &self.channels[channel];
        let index = offset.checked_sub(content.base? + 1)?;
        match content.messages.get(usize::try_from(index).ok()?) {
            None | Some(0) => None,
            Some(&message) => Some(message != n + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(offsets: &[u64]) -> Stream {
        let mut stream = Stream::default();
        stream.begin(10);
        for &offset in offsets {
            stream.accept(offset);
        }
        stream
    }

    #[test]
    fn a_stream_in_order_is_right() {
        let stream = after(&[11, 12, 13]);
        assert!(stream.faults_so_far().is_empty());
        assert_eq!((stream.position(), stream.distinct()), (13, 3));
    }

    #[test]
    fn a_hole_is_seen_at_once_and_stays() {
        let mut stream = after(&[11]);
        assert_eq!(stream.accept(14), Step::Hole { due: 12 });
        assert_eq!(stream.accept(15), Step::Next);
        let expected = StreamFaults {
            holes: 2,
            ..StreamFaults::default()
        };
        assert_eq!(stream.faults_so_far(), expected);
        assert_eq!(stream.distinct(), 3);
    }

    #[test]
    fn the_first_of_a_subscription_counts_too() {
        assert_eq!(after(&[12]).faults_so_far().holes, 1);
        assert_eq!(after(&[10]).faults_so_far().duplicates, 1);
    }

    #[test]
    fn a_duplicate_is_seen() {
        let stream = after(&[11, 12, 12, 11]);
        let expected = StreamFaults {
            duplicates: 2,
            ..StreamFaults::default()
        };
        assert_eq!(stream.faults_so_far(), expected);
        assert_eq!(stream.distinct(), 2);
    }

    #[test]
    fn two_swapped_are_a_reorder_and_no_hole() {
        let mut stream = after(&[11, 13]);
        assert_eq!(stream.accept(12), Step::Late);
        assert_eq!(stream.accept(14), Step::Next);
        let expected = StreamFaults {
            reorders: 1,
            ..StreamFaults::default()
        };
        assert_eq!(stream.faults_so_far(), expected);
        assert_eq!(stream.distinct(), 4);
        assert_eq!(stream.accept(12), Step::Duplicate);
    }

    #[test]
    fn a_hole_filled_from_within_leaves_its_sides() {
        let mut stream = after(&[11, 20]);
        assert_eq!(stream.accept(15), Step::Late);
        assert_eq!(stream.accept(15), Step::Duplicate);
        assert_eq!(stream.faults_so_far().holes, 7);
        for offset in [12, 13, 14, 16, 17, 18, 19] {
            assert_eq!(stream.accept(offset), Step::Late);
        }
        assert_eq!(stream.faults_so_far().holes, 0);
    }

    #[test]
    fn unnumbered_and_unrecovered_are_seen() {
        let mut stream = after(&[0]);
        assert_eq!(stream.faults_so_far().unnumbered, 1);
        stream.skip_to(14);
        assert_eq!(stream.faults_so_far().holes, 4);
        assert_eq!(stream.accept(15), Step::Next);
    }

    #[test]
    fn holes_beyond_what_is_remembered_are_still_counted() {
        let count = MISSING_RANGES_MAX as u64 + 10;
        let stream = after(&(1..=count).map(|i| 10 + 2 * i).collect::<Vec<_>>());
        assert_eq!(stream.faults_so_far().holes, count);
    }

    #[test]
    fn everybody_must_have_seen_the_same() {
        let mut contents = Contents::new(2);
        assert!(contents.note(0, 1, 100));
        assert!(contents.note(0, 2, 101));
        assert!(contents.note(0, 1, 100));
        assert!(!contents.note(0, 1, 101));
        assert!(contents.note(0, u64::MAX, 5));
        let mut other = Contents::new(2);
        other.note(0, 2, 999);
        other.note(1, 7, 100);
        assert_eq!(contents.merge(&other), 1);
        assert_eq!(contents.differs(0, 1, 100), Some(false));
        assert_eq!(contents.differs(0, 2, 100), Some(true));
        assert_eq!(contents.differs(0, 3, 100), None);
        assert_eq!(
            contents.repeated(),
            1,
            "message 100 stands in both channels"
        );
    }
}
