//! Subscribers of servers that do not number what they deliver. They check by the numbers that the generator gave: nothing twice,
//! nothing of another channel, and everybody in a channel the same order.
//!
//! Which order is right nobody can say, since publications travel on many connections. The longest sequence that a subscriber of
//! a channel saw is taken for the order, and the others of the same thread are held against it.

use std::collections::HashMap;

use crate::dialect::{self, Heard};
use crate::fleet::seat::{Seat, Session, Stage};
use crate::link::{Ended, Outbox};
use crate::verify::StreamFaults;

/// Messages of one subscriber that are kept for the judgement; more are only counted.
const SEQUENCE_MAX: usize = 1 << 20;

/// What a subscriber keeps.
#[derive(Debug, Default)]
pub(super) struct Unnumbered {
    /// What was read of a message that is not whole.
    unfinished: Vec<u8>,
    /// Messages in the order in which they came, by their number within the channel.
    sequence: Vec<u32>,
}

impl Session<'_> {
    /// The handshake is done.
    pub(super) fn opened_unnumbered(&mut self, out: &mut Outbox) {
        let options = &self.board.options;
        let dialect = options.dialect;
        dialect.greet(&options.channels[self.seat.channel as usize], out);
        if dialect.subscribes_by_path() {
            self.subscribed_unnumbered();
        }
    }

    /// One frame.
    pub(super) fn frame(&mut self, frame: &[u8], out: &mut Outbox) -> Result<(), Ended> {
        let mut keeping = self.seat.unnumbered.take().unwrap_or_default();
        let result = if keeping.unfinished.is_empty() {
            self.hear_all(frame, out, &mut keeping.sequence)
        } else {
            let mut bytes = std::mem::take(&mut keeping.unfinished);
            bytes.extend_from_slice(frame);
            let used = self.hear_all(&bytes, out, &mut keeping.sequence);
            used.map(|used| {
                bytes.drain(..used);
                keeping.unfinished = bytes;
                frame.len()
            })
        };
        if let Ok(used) = result {
            keeping.unfinished.extend_from_slice(&frame[used..]);
        }
        self.seat.unnumbered = Some(keeping);
        result.map(drop).map_err(Ended::Protocol)
    }

    /// Hears what is whole in `bytes`; returns how much that was.
    fn hear_all(
        &mut self,
        bytes: &[u8],
        out: &mut Outbox,
        sequence: &mut Vec<u32>,
    ) -> Result<usize, String> {
        let options = std::sync::Arc::clone(&self.board.options);
        let channel = &options.channels[self.seat.channel as usize];
        let mut used = 0;
        while used < bytes.len() {
            let heard = options.dialect.hear(channel, &bytes[used..], out)?;
            let Some((heard, length)) = heard else { break };
            used += length;
            match heard {
                Heard::Message(text) => self.message_unnumbered(text, sequence),
                Heard::Subscribed => self.subscribed_unnumbered(),
                Heard::Nothing => {}
            }
        }
        Ok(used)
    }

    fn subscribed_unnumbered(&mut self) {
        // There is no log to come back to; that there was a subscription is known by it.
        self.seat.epoch.get_or_insert_with(|| "".into());
        self.seat.stage = Stage::Live;
        self.seat.failures = 0;
    }

    fn message_unnumbered(&mut self, text: &[u8], sequence: &mut Vec<u32>) {
        let channels = self.board.options.channels.len() as u64;
        let data = dialect::marks(text);
        let n = data.and_then(|data| data.n);
        let Some(n) = n.filter(|n| n % channels == u64::from(self.seat.channel)) else {
            self.malformed(text);
            return;
        };
        self.board.delivered += 1;
        self.seat.stream.accept_next();
        let at = data.and_then(|data| data.at);
        self.board.measure(at, &mut self.seat.back, self.now);
        if let Ok(index) = u32::try_from(n / channels)
            && sequence.len() < SEQUENCE_MAX
        {
            sequence.push(index);
        }
    }
}

/// What all subscribers of a thread found: different messages received by each, and what was wrong.
pub(super) fn judge<'a>(
    seats: impl Iterator<Item = &'a Seat> + Clone,
) -> (Vec<(u32, u64)>, StreamFaults) {
    let sequence = |seat: &'a Seat| {
        seat.unnumbered
            .as_ref()
            .map_or(&[][..], |kept| &kept.sequence)
    };
    let mut orders: HashMap<u32, &[u32]> = HashMap::new();
    for seat in seats.clone() {
        let order = orders.entry(seat.channel).or_default();
        if sequence(seat).len() > order.len() {
            *order = sequence(seat);
        }
    }
    let places: HashMap<u32, HashMap<u32, usize>> = orders
        .iter()
        .map(|(&channel, order)| {
            // The first place of what came more than once.
            let places = order.iter().enumerate().rev();
            (
                channel,
                places.map(|(place, &message)| (message, place)).collect(),
            )
        })
        .collect();
    let mut faults = StreamFaults::default();
    let received = seats.map(|seat| {
        let kept = sequence(seat);
        let mut distinct = kept.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        faults.duplicates += (kept.len() - distinct.len()) as u64;
        faults.reorders += reorders(kept, &places[&seat.channel]);
        (seat.channel, distinct.len() as u64)
    });
    (received.collect(), faults)
}

/// Deliveries that came after one that stands behind them. What the other order does not have, or has come before, says nothing.
fn reorders(sequence: &[u32], places: &HashMap<u32, usize>) -> u64 {
    let mut latest = 0;
    let mut count = 0;
    let mut seen = std::collections::HashSet::new();
    for message in sequence {
        let Some(&place) = places.get(message) else {
            continue;
        };
        if !seen.insert(message) {
            continue;
        }
        if place < latest {
            count += 1;
        }
        latest = latest.max(place);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(channel: u32, sequence: &[u32]) -> Seat {
        Seat {
            channel,
            unnumbered: Some(Box::new(Unnumbered {
                unfinished: Vec::new(),
                sequence: sequence.to_vec(),
            })),
            ..Seat::default()
        }
    }

    fn check(sequences: &[&[u32]]) -> (Vec<u64>, u64, u64) {
        let seats: Vec<Seat> = sequences.iter().map(|kept| seat(0, kept)).collect();
        let (received, faults) = judge(seats.iter());
        let received = received.into_iter().map(|(_, count)| count).collect();
        (received, faults.duplicates, faults.reorders)
    }

    #[test]
    fn everybody_sees_one_order_whichever_it_is() {
        assert_eq!(check(&[&[2, 1, 3], &[2, 1, 3]]), (vec![3, 3], 0, 0));
        assert_eq!(check(&[&[2, 1, 3, 4], &[1, 2, 3]]), (vec![4, 3], 0, 1));
    }

    #[test]
    fn what_is_missing_is_no_other_order() {
        assert_eq!(check(&[&[5, 1, 2, 3], &[5, 3], &[]]), (vec![4, 2, 0], 0, 0));
    }

    #[test]
    fn what_comes_twice_is_counted_once() {
        assert_eq!(check(&[&[1, 2, 1, 3], &[1, 2, 3]]), (vec![3, 3], 1, 0));
    }

    #[test]
    fn channels_have_orders_of_their_own() {
        let seats = [seat(0, &[1, 2]), seat(1, &[2, 1]), Seat::default()];
        let (received, faults) = judge(seats.iter());
        assert_eq!(received, [(0, 2), (1, 2), (0, 0)]);
        assert!(faults.is_empty());
    }
}
