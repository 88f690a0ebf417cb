//! What is on its way to an app: read, sent, acknowledged. Decides what is due and what is done; no IO, no clock.
//!
//! Acknowledgements come in any order. What counts is up to where all is acknowledged: that is kept, so whoever goes on from there repeats a
//! little and leaves nothing out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use fanfare_wire::Seq;
use tokio::time::Instant;
use uuid::Uuid;

use super::envelope::{Envelope, Repeat};

/// Publications that may be on their way at a time.
pub(super) const WINDOW: usize = 64;
/// What they may weigh, in bytes; one of any weight passes.
const WINDOW_BYTES: usize = 4 << 20;

/// Names a socket of this node.
pub(super) type SocketId = u64;

/// Names a delivery: the publication, and which of its envelopes.
pub(super) type Key = (Seq, usize);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Deliveries {
    /// What has been read.
    read: Seq,
    /// What is not acknowledged.
    waiting: BTreeMap<Key, Delivery>,
    keys: HashMap<Uuid, Key>,
    bytes: usize,
}

/// One envelope that is not acknowledged.
#[derive(Debug)]
struct Delivery {
    envelope: Arc<Envelope>,
    attempts: u32,
    /// Where it was sent to last.
    socket: Option<SocketId>,
    due: Instant,
    repeat: Option<Repeat>,
}

/// What is to be sent now.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) key: Key,
    pub(super) envelope: Arc<Envelope>,
    /// Attempts before this one.
    pub(super) attempts: u32,
    /// Why it is sent again.
    pub(super) repeat: Option<Repeat>,
    /// Where it was sent to last: another socket is better.
    pub(super) socket: Option<SocketId>,
}

impl Deliveries {
    /// Nothing is on its way, and everything up to a number is acknowledged.
    pub(super) fn from(acknowledged: Seq) -> Self {
        Self {
            read: acknowledged,
            waiting: BTreeMap::new(),
            keys: HashMap::new(),
            bytes: 0,
        }
    }

    /// What has been read.
    pub(super) fn read(&self) -> Seq {
        self.read
    }

    /// How many more publications may be read.
    pub(super) fn room(&self) -> usize {
        match self.bytes < WINDOW_BYTES {
            true => WINDOW.saturating_sub(self.waiting.len()),
            false => 0,
        }
    }

    /// Everything up to this number is acknowledged.
    pub(super) fn acknowledged(&self) -> Seq {
        let first = self.waiting.keys().next();
        first.map_or(self.read, |(seq, _)| Seq(seq.0.saturating_sub(1)))
    }

    /// The next publication was read; it may come to nothing.
    pub(super) fn add(&mut self, seq: Seq, envelopes: Vec<Envelope>, now: Instant) {
        if seq <= self.read {
            return;
        }
        self.read = seq;
        for (at, envelope) in envelopes.into_iter().enumerate() {
            self.bytes += envelope.payload.len();
            self.keys.insert(envelope.id, (seq, at));
            let delivery = Delivery {
                envelope: Arc::new(envelope),
                attempts: 0,
                socket: None,
                due: now,
                repeat: None,
            };
            self.waiting.insert((seq, at), delivery);
        }
    }

    /// What was before a number is gone.
    pub(super) fn skip_to(&mut self, seq: Seq) {
        self.read = self.read.max(seq);
    }

    /// Returns whether it is news.
    pub(super) fn acknowledge(&mut self, envelope: Uuid) -> bool {
        let key = self.keys.remove(&envelope);
        let delivery = key.and_then(|key| self.waiting.remove(&key));
        let weight = delivery.as_ref().map_or(0, |it| it.envelope.payload.len());
        self.bytes -= weight;
        delivery.is_some()
    }

    /// What is due, in order.
    pub(super) fn due(&self, now: Instant) -> Vec<Due> {
        let due = self.waiting.iter().filter(|(_, it)| it.due <= now);
        due.map(|(key, it)| Due {
            key: *key,
            envelope: Arc::clone(&it.envelope),
            attempts: it.attempts,
            repeat: it.repeat,
            socket: it.socket,
        })
        .collect()
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|it| it.due).min()
    }

    /// It was sent to a socket. Without an acknowledgement it is due again after `patience`, longer with each attempt, up to `most`.
    pub(super) fn sent(
        &mut self,
        key: Key,
        socket: SocketId,
        now: Instant,
        patience: Duration,
        most: Duration,
    ) {
        if let Some(delivery) = self.waiting.get_mut(&key) {
            let longer = 1_u32 << delivery.attempts.min(16);
            delivery.due = now + patience.saturating_mul(longer).min(most.max(patience));
            delivery.attempts = delivery.attempts.saturating_add(1);
            delivery.socket = Some(socket);
            delivery.repeat = Some(Repeat::Timeout);
        }
    }

    /// A socket is gone: what was sent to it is due at once.
    pub(super) fn lost(&mut self, socket: SocketId, now: Instant) {
        let there = self.waiting.values_mut();
        for delivery in there.filter(|it| it.socket == Some(socket)) {
            delivery.due = now;
            delivery.repeat = Some(Repeat::ConnectionFailed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);
    const MOST: Duration = Duration::from_secs(60);

    fn envelope(number: u128) -> Envelope {
        Envelope {
            id: Uuid::from_u128(number),
            payload: "{}".to_owned(),
        }
    }

    fn keys(deliveries: &Deliveries, now: Instant) -> Vec<u64> {
        deliveries.due(now).iter().map(|due| due.key.0.0).collect()
    }

    #[test]
    fn what_is_kept_is_dense_whatever_the_order_of_acknowledgements() {
        let now = Instant::now();
        let mut deliveries = Deliveries::from(Seq(7));
        assert_eq!(deliveries.acknowledged(), Seq(7));
        deliveries.add(Seq(8), vec![envelope(80), envelope(81)], now);
        deliveries.add(Seq(9), vec![envelope(90)], now);
        deliveries.add(Seq(10), Vec::new(), now);
        deliveries.add(Seq(9), vec![envelope(91)], now);
        assert!(deliveries.acknowledge(Uuid::from_u128(90)));
        assert!(deliveries.acknowledge(Uuid::from_u128(80)));
        assert_eq!(deliveries.acknowledged(), Seq(7));
        assert!(!deliveries.acknowledge(Uuid::from_u128(80)), "once");
        assert!(!deliveries.acknowledge(Uuid::from_u128(5)), "never sent");
        assert!(deliveries.acknowledge(Uuid::from_u128(81)));
        assert_eq!(deliveries.acknowledged(), Seq(10));
        assert_eq!((deliveries.bytes, deliveries.keys.len()), (0, 0));
    }

    #[test]
    fn it_is_due_again_after_longer_each_time_and_at_once_when_its_socket_is_gone() {
        let now = Instant::now();
        let mut deliveries = Deliveries::from(Seq(0));
        deliveries.add(Seq(1), vec![envelope(1)], now);
        deliveries.add(Seq(2), vec![envelope(2)], now);
        assert_eq!(keys(&deliveries, now), [1, 2]);
        deliveries.sent((Seq(1), 0), 5, now, PATIENCE, MOST);
        deliveries.sent((Seq(2), 0), 6, now, PATIENCE, MOST);
        assert!(keys(&deliveries, now + PATIENCE / 2).is_empty());
        assert_eq!(deliveries.next_due(), Some(now + PATIENCE));
        let due = deliveries.due(now + PATIENCE);
        assert_eq!((due[0].attempts, due[0].repeat), (1, Some(Repeat::Timeout)));
        for _ in 0..40 {
            deliveries.sent((Seq(1), 0), 5, now, PATIENCE, MOST);
        }
        assert_eq!(keys(&deliveries, now + MOST), [1, 2]);
        deliveries.lost(6, now);
        let due = deliveries.due(now);
        assert_eq!(due[0].key.0, Seq(2));
        assert_eq!(due[0].repeat, Some(Repeat::ConnectionFailed));
    }

    #[test]
    fn what_is_on_its_way_is_bounded_in_number_and_weight() {
        let now = Instant::now();
        let mut deliveries = Deliveries::from(Seq(0));
        for seq in 1..=WINDOW as u64 {
            assert!(deliveries.room() > 0);
            deliveries.add(Seq(seq), vec![envelope(u128::from(seq))], now);
        }
        assert_eq!(deliveries.room(), 0);
        let mut deliveries = Deliveries::from(Seq(0));
        let heavy = Envelope {
            payload: " ".repeat(WINDOW_BYTES),
            ..envelope(1)
        };
        deliveries.add(Seq(1), vec![heavy], now);
        assert_eq!(deliveries.room(), 0);
        deliveries.acknowledge(Uuid::from_u128(1));
        assert_eq!(deliveries.room(), WINDOW);
    }

    proptest! {
        /// Whatever comes back in whatever order: nothing that is not acknowledged is ever counted as if it were.
        #[test]
        fn nothing_is_left_out(order in proptest::collection::vec(1..40_u64, 0..80)) {
            let now = Instant::now();
            let mut deliveries = Deliveries::from(Seq(0));
            for seq in 1..40 {
                deliveries.add(Seq(seq), vec![envelope(u128::from(seq))], now);
            }
            let mut open: std::collections::BTreeSet<u64> = (1..40).collect();
            for seq in order {
                let was_open = open.remove(&seq);
                prop_assert_eq!(deliveries.acknowledge(Uuid::from_u128(u128::from(seq))), was_open);
                let first = open.first().copied().unwrap_or(40);
                prop_assert_eq!(deliveries.acknowledged(), Seq(first - 1));
                prop_assert_eq!(keys(&deliveries, now), open.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
