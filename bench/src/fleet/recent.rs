//! The latest publications of each channel, as bytes, so that the second subscriber's copy costs one comparison.
//!
//! Servers give all subscribers of a channel the same bytes. A stream that is due for a publication which another one
//! has had already compares what came with what that one read: equal bytes mean the same channel, offset and data.
//! Anything else is read in full. So this makes the check cheaper, and no weaker.

use crate::scan::Data;

/// Publications that are remembered over all channels of a thread.
const REMEMBERED: usize = 8_192;

/// The most and the fewest per channel.
const PER_CHANNEL: (usize, usize) = (4, 256);

/// Recent publications of all channels.
#[derive(Debug)]
pub(crate) struct Recent {
    per_channel: usize,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Clone)]
struct Entry {
    offset: u64,
    known: Known,
    bytes: Vec<u8>,
}

/// What is known of a publication that was read in full.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// What its data says of itself.
    pub(crate) data: Data,
    /// Hash of its data; 0 when nothing is recorded.
    pub(crate) hash: u64,
}

impl Recent {
    /// Room for `channels` channels; nothing is taken before it is used.
    pub(crate) fn new(channels: usize) -> Self {
        let per_channel = (REMEMBERED / channels.max(1)).clamp(PER_CHANNEL.0, PER_CHANNEL.1);
        Self {
            per_channel,
            entries: vec![Entry::default(); per_channel * channels],
        }
    }

    /// Whether `text` begins with the publication `offset` of a channel: its length, and what is known of it.
    pub(crate) fn find(&self, channel: usize, offset: u64, text: &[u8]) -> Option<(usize, Known)> {
        let entry = &self.entries[self.slot(channel, offset)];
        let length = entry.bytes.len();
        if entry.offset != offset || length == 0 || !text.starts_with(&entry.bytes) {
            return None;
        }
        match text.get(length) {
            None | Some(b'\n') => Some((length, entry.known)),
            Some(_) => None,
        }
    }

    /// Remembers a publication that was read in full.
    pub(crate) fn remember(&mut self, channel: usize, offset: u64, known: Known, text: &[u8]) {
        let slot = self.slot(channel, offset);
        let entry = &mut self.entries[slot];
        entry.offset = offset;
        entry.known = known;
        entry.bytes.clear();
        entry.bytes.extend_from_slice(text);
    }

    fn slot(&self, channel: usize, offset: u64) -> usize {
        channel * self.per_channel + (offset % self.per_channel as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_under_the_same_offset_are_found() {
        let mut recent = Recent::new(2);
        let known = Known {
            data: Data {
                at: Some(9),
                n: None,
            },
            hash: 3,
        };
        recent.remember(1, 5, known, b"{\"a\":1}");
        assert_eq!(recent.find(1, 5, b"{\"a\":1}"), Some((7, known)));
        assert_eq!(recent.find(1, 5, b"{\"a\":1}\n{}"), Some((7, known)));
        assert_eq!(recent.find(1, 5, b"{\"a\":1}x"), None);
        assert_eq!(recent.find(1, 5, b"{\"a\":2}"), None);
        assert_eq!(recent.find(1, 6, b"{\"a\":1}"), None);
        assert_eq!(recent.find(0, 5, b"{\"a\":1}"), None);
        assert_eq!(recent.find(0, 0, b""), None);
    }

    #[test]
    fn newer_ones_take_the_place_of_older_ones() {
        let mut recent = Recent::new(1);
        for offset in 1..=1_000 {
            recent.remember(0, offset, Known::default(), offset.to_string().as_bytes());
        }
        assert_eq!(recent.find(0, 1, b"1"), None);
        assert!(recent.find(0, 1_000, b"1000").is_some());
        assert!(recent.find(0, 745, b"745").is_some());
    }
}
