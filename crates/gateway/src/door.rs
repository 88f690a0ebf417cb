//! The door: who may open a connection now, before anything is spent on it.
//!
//! New connections (WebSockets and event streams) pass a token bucket, so that a herd that lost its server is let in at
//! a pace that the node can keep; and each takes one of a fixed number of seats, which it gives back when it ends, by
//! whatever way. Who is turned away is told when to come back, at a time spread over as many seconds as it takes to let
//! in those who were turned away lately.
//!
//! What clients make of it: a browser hides status and headers of a refused WebSocket from the page, so the Centrifuge
//! SDKs wait by themselves (0.5 to 20 seconds, longer each time, with full jitter). A native `EventSource` gives up for
//! ever on any status but 200; it is let in for as long as it takes to say `retry:` (see [`crate::sse`]).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_wire::centrifuge::errors;

use crate::api::ErrorBody;

/// The soonest that somebody who was turned away is asked back.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The widest span over which those who were turned away are spread.
const RETRY_SPAN_MAX: Duration = Duration::from_secs(30);
/// The span in all other cases: nobody knows when a seat is free, another node has taken over or the log answers.
const RETRY_SPAN: Duration = Duration::from_secs(10);

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many came at once.
    Rate,
    /// All seats are taken.
    Full,
    /// The node is being drained.
    Draining,
    /// Where an event stream begins could not be read from the log.
    Log,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rate, Self::Full, Self::Draining, Self::Log];

    /// Its name in exported metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Log => "log",
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Rate => "too many new connections at once",
            Self::Full => "too many connections",
            Self::Draining => "the server is shutting down",
            Self::Log => "the log is not available",
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Rate | Self::Full | Self::Draining => errors::TOO_MANY_REQUESTS.code,
            Self::Log => errors::INTERNAL.code,
        }
    }
}

/// The door of a node.
#[derive(Debug)]
pub(crate) struct Door {
    seats_max: usize,
    seats: Arc<AtomicUsize>,
    bucket: Option<Mutex<Bucket>>,
    draining: AtomicBool,
    started: Instant,
    turned_away: [AtomicU64; Reason::ALL.len()],
}

/// A place for one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    pub(crate) reason: Reason,
    /// When to come back.
    pub(crate) retry_after: Duration,
}

impl Door {
    /// A door to `seats_max` seats, through which `per_second` may come each second, and `burst` at once. With
    /// `per_second` 0 they may come as fast as they can.
    pub(crate) fn new(seats_max: usize, per_second: u32, burst: u32) -> Self {
        let bucket = (per_second > 0).then(|| Mutex::new(Bucket::new(per_second, burst)));
        Self {
            seats_max,
            seats: Arc::default(),
            bucket,
            draining: AtomicBool::new(false),
            started: Instant::now(),
            turned_away: Default::default(),
        }
    }

    /// Lets one in, or says when to come back.
    pub(crate) fn admit(&self) -> Result<Seat, TurnedAway> {
        if self.is_draining() {
            return Err(self.turn_away(Reason::Draining, RETRY_SPAN));
        }
        let Some(seat) = Seat::take(&self.seats, self.seats_max) else {
            return Err(self.turn_away(Reason::Full, RETRY_SPAN));
        };
        if let Some(bucket) = &self.bucket {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(span) = bucket.take(self.started.elapsed()) {
                return Err(self.turn_away(Reason::Rate, span));
            }
        }
        Ok(seat)
    }

    /// Turns one away that was let in, because the log does not answer.
    pub(crate) fn turn_away_without_log(&self) -> TurnedAway {
        self.turn_away(Reason::Log, RETRY_SPAN)
    }

    /// Lets nobody in any more.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the node is being drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Seats that are taken.
    pub(crate) fn seats_taken(&self) -> usize {
        self.seats.load(Relaxed)
    }

    /// How many were turned away for a reason.
    pub(crate) fn turned_away(&self, reason: Reason) -> u64 {
        self.turned_away[reason as usize].load(Relaxed)
    }

    fn turn_away(&self, reason: Reason, span: Duration) -> TurnedAway {
        self.turned_away[reason as usize].fetch_add(1, Relaxed);
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        TurnedAway {
            reason,
            retry_after: RETRY_MIN + Duration::from_millis(rand::random_range(0..=span)),
        }
    }
}

impl Seat {
    fn take(seats: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let taken =
            seats.fetch_update(Relaxed, Relaxed, |taken| (taken < max).then_some(taken + 1));
        taken.ok().map(|_| Self(Arc::clone(seats)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl TurnedAway {
    /// When to come back, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> u32 {
        u32::try_from(self.retry_after.as_millis()).unwrap_or(u32::MAX)
    }

    /// The same in whole seconds, rounded up: all that the header can say.
    pub(crate) fn retry_after_seconds(&self) -> u32 {
        self.retry_after_ms().div_ceil(1000)
    }
}

impl IntoResponse for TurnedAway {
    fn into_response(self) -> Response {
        let error = ErrorBody {
            code: self.reason.code(),
            message: self.reason.message(),
            temporary: true,
            retry_after_ms: Some(self.retry_after_ms()),
        };
        let retry_after = self.retry_after_seconds().to_string();
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, retry_after)],
            Json(serde_json::json!({ "error": error })),
        )
            .into_response()
    }
}

/// A token bucket that also remembers how many it has turned away, to spread their return.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    /// Those who were turned away and are likely to come back: they become fewer at the pace of the bucket.
    expected: f64,
    filled_at: Duration,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second),
            burst,
            tokens: burst,
            expected: 0.0,
            filled_at: Duration::ZERO,
        }
    }

    /// Takes a token; or says over which time those who were turned away should come back. `now` is the time since any
    /// fixed moment.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        let filled = passed * self.per_second;
        self.tokens = (self.tokens + filled).min(self.burst);
        self.expected = (self.expected - filled).max(0.0);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let expected_max = RETRY_SPAN_MAX.as_secs_f64() * self.per_second;
        self.expected = (self.expected + 1.0).min(expected_max);
        Err(Duration::from_secs_f64(self.expected / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_in_and_then_keeps_its_pace() {
        let mut bucket = Bucket::new(10, 5);
        let mut let_in = |at: u64| {
            let now = Duration::from_millis(at);
            (0..100).filter(|_| bucket.take(now).is_ok()).count()
        };
        assert_eq!(let_in(0), 5);
        assert_eq!(let_in(50), 0);
        assert_eq!(let_in(100), 1);
        assert_eq!(let_in(1_100), 5, "no more than a burst is saved up");
        let paced: usize = (0..100).map(|tenth| let_in(1_100 + tenth * 100)).sum();
        assert_eq!(paced, 99);
    }

    #[test]
    fn the_more_are_turned_away_the_longer_they_are_spread() {
        let mut bucket = Bucket::new(100, 1);
        let now = Duration::from_secs(1);
        assert_eq!(bucket.take(now), Ok(()));
        let span = |bucket: &mut Bucket, now| bucket.take(now).unwrap_err();
        assert!(span(&mut bucket, now) < Duration::from_millis(20));
        for _ in 0..999 {
            span(&mut bucket, now);
        }
        let wide = span(&mut bucket, now);
        assert!((9..=11).contains(&wide.as_secs()), "{wide:?}");
        for _ in 0..100_000 {
            span(&mut bucket, now);
        }
        assert_eq!(span(&mut bucket, now), RETRY_SPAN_MAX);
        // A minute later they have come or given up.
        assert_eq!(bucket.take(now + Duration::from_secs(60)), Ok(()));
        assert!(span(&mut bucket, now + Duration::from_secs(60)) < Duration::from_millis(20));
    }

    #[test]
    fn seats_are_exact_whoever_comes_and_goes() {
        let door = Door::new(10, 0, 0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let seats: Vec<_> = (0..4).map(|_| door.admit()).collect();
                        assert!(door.seats_taken() <= 10);
                        drop(seats);
                    }
                });
            }
        });
        assert_eq!(door.seats_taken(), 0);
        let seats: Vec<Seat> = (0..10).map(|_| door.admit().unwrap()).collect();
        assert_eq!(door.admit().unwrap_err().reason, Reason::Full);
        drop(seats);
        door.admit().unwrap();
    }

    #[test]
    fn who_is_turned_away_is_counted_by_reason_and_takes_no_seat() {
        let door = Door::new(10, 1, 1);
        let _seat = door.admit().unwrap();
        assert_eq!(door.admit().unwrap_err().reason, Reason::Rate);
        assert_eq!(door.seats_taken(), 1);
        door.drain();
        let turned_away = door.admit().unwrap_err();
        assert_eq!(turned_away.reason, Reason::Draining);
        assert!(turned_away.retry_after >= RETRY_MIN);
        assert!(turned_away.retry_after <= RETRY_MIN + RETRY_SPAN);
        let counts = Reason::ALL.map(|reason| door.turned_away(reason));
        assert_eq!(counts, [1, 0, 1, 0]);
    }
}
