//! The last step of what arrives: events go to the engine one at a time, and only from the connections in use.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use fanfare_engine::port::{BusEvent, BusEvents};

/// Numbers the sessions, so that a connection of an old one that still talks is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SessionId(u64);

impl SessionId {
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

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

    /// A new session begins; what comes in earlier ones no longer counts.
    pub(super) fn begin(&self) -> SessionId {
        let mut outlet = self.lock();
        outlet.session.0 += 1;
        outlet.session
    }

    /// Hands a hint or news on. `false` if it came in an earlier session.
    pub(super) fn deliver(&self, session: SessionId, event: BusEvent) -> bool {
        let outlet = self.lock();
        let current = outlet.session == session;
        if current {
            outlet.emit(event);
        }
        current
    }

    /// Reports that the path works. The lock is held meanwhile, so that all else comes before or after.
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
