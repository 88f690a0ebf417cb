//! What proves that a path is whole: when this node last heard its own heartbeat over it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::delivery::SessionId;

/// How often a node beats.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// A path over which no own heartbeat came for so long is broken, however well its sockets look.
pub(super) const HEARTBEAT_AGE_MAX: Duration = Duration::from_millis(1500);

/// Bytes of a heartbeat: its session, then the moment it was sent.
const PAYLOAD_BYTES: usize = 16;

/// The heartbeats that this node sends to itself over one path of one session.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Tells these heartbeats from those of an earlier session that a hanging server still has to hand over.
    session: SessionId,
    born: Instant,
    /// When the last one came back, in microseconds since `born`; 0 if none has.
    heard: AtomicU64,
    /// Rung when one came back.
    arrival: Notify,
    /// Rung by the listener when it wants one at once.
    request: Notify,
}

impl Heartbeat {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            born: Instant::now(),
            heard: AtomicU64::new(0),
            arrival: Notify::new(),
            request: Notify::new(),
        }
    }

    /// What the next one says.
    pub(super) fn payload(&self) -> [u8; PAYLOAD_BYTES] {
        let number = (u128::from(self.now()) << 64) | u128::from(self.session.number());
        number.to_le_bytes()
    }

    /// One came back. Returns how long it was on its way; `None` if it is none of ours.
    pub(super) fn handle_arrival(&self, payload: &[u8]) -> Option<Duration> {
        let number = u128::from_le_bytes(payload.try_into().ok()?);
        if number as u64 != self.session.number() {
            return None;
        }
        let sent = (number >> 64) as u64;
        let now = self.now();
        let travelled = now.checked_sub(sent)?;
        self.heard.store(now.max(1), Ordering::SeqCst);
        self.arrival.notify_one();
        Some(Duration::from_micros(travelled))
    }

    /// Waits until somebody wants a heartbeat at once.
    pub(super) async fn requested(&self) {
        self.request.notified().await;
    }

    /// Asks for a heartbeat and waits until one has come that was not there before. `false` if none came in time.
    pub(super) async fn prove(&self) -> bool {
        let before = self.heard.load(Ordering::SeqCst);
        self.request.notify_one();
        let heard = async {
            while self.heard.load(Ordering::SeqCst) == before {
                self.arrival.notified().await;
            }
        };
        tokio::time::timeout(HEARTBEAT_AGE_MAX, heard).await.is_ok()
    }

    /// Returns once the last heartbeat is older than [`HEARTBEAT_AGE_MAX`].
    pub(super) async fn silence(&self) {
        loop {
            let heard = Duration::from_micros(self.heard.load(Ordering::SeqCst));
            let age = self.born.elapsed().saturating_sub(heard);
            if age > HEARTBEAT_AGE_MAX {
                return;
            }
            tokio::time::sleep(HEARTBEAT_AGE_MAX - age + Duration::from_millis(1)).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_heartbeat_counts_as_one() {
        let heartbeat = Heartbeat::new(SessionId::default());
        assert!(heartbeat.handle_arrival(b"short").is_none());
        assert!(
            heartbeat
                .handle_arrival(&(u128::from(u64::MAX) << 64).to_le_bytes())
                .is_none(),
            "from the future"
        );
        assert!(
            heartbeat.handle_arrival(&1u128.to_le_bytes()).is_none(),
            "of another session"
        );
        let payload = heartbeat.payload();
        assert!(heartbeat.handle_arrival(&payload).is_some());
    }

    #[tokio::test]
    async fn proof_is_a_heartbeat_that_was_not_there_before() {
        let heartbeat = Heartbeat::new(SessionId::default());
        heartbeat.handle_arrival(&heartbeat.payload());
        let answer = async {
            heartbeat.requested().await;
            // Heartbeats are told apart by the microsecond of their arrival.
            tokio::time::sleep(Duration::from_millis(1)).await;
            heartbeat.handle_arrival(&heartbeat.payload());
        };
        let (proven, ()) = tokio::join!(heartbeat.prove(), answer);
        assert!(proven);
        assert!(!heartbeat.prove().await, "nobody answered");
    }

    #[tokio::test]
    async fn silence_is_noticed() {
        let heartbeat = Heartbeat::new(SessionId::default());
        heartbeat.handle_arrival(&heartbeat.payload());
        heartbeat.silence().await;
        assert!(heartbeat.born.elapsed() > HEARTBEAT_AGE_MAX);
    }
}
