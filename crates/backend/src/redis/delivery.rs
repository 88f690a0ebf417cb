//! The last step of what arrives: events go to the engine one at a time, and only from the connection in use.
//!
//! Also keeps what proves that the path is whole: when this node last heard its own heartbeat.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_engine::port::{BusEvent, BusEvents};
use fanfare_wire::hint::Hint;
use tokio::sync::Notify;

/// Numbers the subscriber's connections, so that an old one that still talks is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SessionId(u64);

/// Where events leave the bus.
#[derive(Default)]
pub(super) struct Delivery {
    outlet: Mutex<Outlet>,
    /// Written with the outlet locked, read without.
    up: AtomicBool,
}

#[derive(Default)]
struct Outlet {
    events: Option<Arc<dyn BusEvents>>,
    session: SessionId,
    /// The last of `Up` and `Down` that was reported.
    reported: Option<bool>,
}

impl Delivery {
    /// Sets where events go. `false` if that was done before.
    pub(super) fn start(&self, events: Arc<dyn BusEvents>) -> bool {
        let mut outlet = self.lock();
        let first = outlet.events.is_none();
        outlet.events.get_or_insert(events);
        first
    }

    /// A new connection begins; hints of earlier ones no longer count.
    pub(super) fn begin(&self) -> SessionId {
        let mut outlet = self.lock();
        outlet.session.0 += 1;
        outlet.session
    }

    /// Hands a hint on. `false` if it came over an earlier connection.
    pub(super) fn hint(&self, session: SessionId, hint: Hint) -> bool {
        let outlet = self.lock();
        let current = outlet.session == session;
        if current {
            outlet.emit(BusEvent::Hint(hint));
        }
        current
    }

    /// Reports that the path works. The lock is held meanwhile, so that hints come before or after.
    pub(super) fn up(&self) {
        let mut outlet = self.lock();
        self.up.store(true, Ordering::SeqCst);
        outlet.reported = Some(true);
        outlet.emit(BusEvent::Up);
    }

    /// Reports that the path is gone, once. Returns whether it was news.
    pub(super) fn down(&self) -> bool {
        let mut outlet = self.lock();
        outlet.session.0 += 1;
        self.up.store(false, Ordering::SeqCst);
        let news = outlet.reported != Some(false);
        if news {
            outlet.reported = Some(false);
            outlet.emit(BusEvent::Down);
        }
        news
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Should a receiver of events panic, the others still get theirs.
    fn lock(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    fn emit(&self, event: BusEvent) {
        if let Some(events) = &self.events {
            events.on_event(event);
        }
    }
}

/// How often a node beats.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// A path over which no own heartbeat came for so long is broken, however well its sockets look.
pub(super) const HEARTBEAT_AGE_MAX: Duration = Duration::from_millis(1500);

/// The heartbeats that this node sends to itself through Redis. Each carries the moment it was sent.
#[derive(Debug)]
pub(super) struct Heartbeat {
    born: Instant,
    /// When the last one came back, in microseconds since `born`; 0 if none has.
    heard: AtomicU64,
    /// Rung when one came back.
    arrival: Notify,
    /// Rung by the subscriber when it wants one at once.
    request: Notify,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            heard: AtomicU64::new(0),
            arrival: Notify::new(),
            request: Notify::new(),
        }
    }

    /// What the next one says.
    pub(super) fn payload(&self) -> [u8; 8] {
        self.now().to_le_bytes()
    }

    /// One came back. Returns how long it was on its way; `None` if it is none of ours.
    pub(super) fn handle_arrival(&self, payload: &[u8]) -> Option<Duration> {
        let sent = u64::from_le_bytes(payload.try_into().ok()?);
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
        let heartbeat = Heartbeat::new();
        assert!(heartbeat.handle_arrival(b"short").is_none());
        assert!(
            heartbeat.handle_arrival(&u64::MAX.to_le_bytes()).is_none(),
            "from the future"
        );
        let payload = heartbeat.payload();
        assert!(heartbeat.handle_arrival(&payload).is_some());
    }

    #[tokio::test]
    async fn proof_is_a_heartbeat_that_was_not_there_before() {
        let heartbeat = Heartbeat::new();
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
        let heartbeat = Heartbeat::new();
        heartbeat.handle_arrival(&heartbeat.payload());
        heartbeat.silence().await;
        assert!(heartbeat.born.elapsed() > HEARTBEAT_AGE_MAX);
    }
}
