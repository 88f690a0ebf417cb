//! Keeps the questions about one mailbox within Gmail's quota for it, so that Gmail need not refuse them.
//!
//! Each mailbox has a budget that fills at a steady rate, up to a burst. What is asked is taken from it at once, and waits until
//! it is there. Nothing is kept of a mailbox whose budget is full.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::error::GoogleError;
use crate::user::User;

/// Units of Gmail's quota that a project may use for one mailbox in a minute. Projects that used Gmail before May 2026 have 15,000.
pub const UNITS_PER_MINUTE_DEFAULT: u32 = 6_000;
/// How long a question waits for its turn; if it would be longer it is refused.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// The longest pause that is made because Gmail asks for one.
pub const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// From how many mailboxes on it is looked for those whose budget is full.
const SWEEP_FROM: usize = 1024;
/// A quarter of a minute's units may be used at once; the rest comes over the minute. So no minute has more than its units.
const FILL: Duration = Duration::from_secs(20);

/// Budgets, by mailbox.
pub(super) struct Pacer {
    /// The time in which a unit comes back.
    unit: Duration,
    budgets: Mutex<Budgets>,
}

#[derive(Default)]
struct Budgets {
    /// When each will be full again.
    full_at: HashMap<User, Instant>,
    sweep_at: usize,
}

impl Pacer {
    /// Keeps within so many units in a minute, at least 1.
    pub(super) fn new(units_per_minute: u32) -> Self {
        // Of four quarters one is there at once, and three come back in a minute.
        let refill = Duration::from_secs(80);
        Self {
            unit: refill / units_per_minute.max(1),
            budgets: Mutex::default(),
        }
    }

    /// Takes units from the budget of a mailbox, and waits until they are there.
    ///
    /// # Errors
    /// [`GoogleError::Slow`] if that would be longer than [`WAIT_MAX`]; nothing is taken then.
    pub(super) async fn take(&self, user: &User, units: u32) -> Result<(), GoogleError> {
        match self.reserve(user, units, Instant::now()) {
            Ok(Duration::ZERO) => Ok(()),
            Ok(wait) => {
                sleep(wait).await;
                Ok(())
            }
            Err(after) => Err(GoogleError::Slow { after: Some(after) }),
        }
    }

    /// Lets a mailbox rest: Gmail asked for it.
    pub(super) fn pause(&self, user: &User, pause: Duration) {
        let until = Instant::now() + pause.min(PAUSE_MAX) + FILL;
        self.with(|budgets| {
            let full_at = budgets.full_at.entry(user.clone()).or_insert(until);
            *full_at = (*full_at).max(until);
        });
    }

    /// How long to wait; or that it is too long.
    fn reserve(&self, user: &User, units: u32, now: Instant) -> Result<Duration, Duration> {
        // The dearest question must fit in, however small the budget.
        let cost = (self.unit * units).min(FILL);
        self.with(|budgets| {
            let full_at = budgets.full_at.get(user).copied().unwrap_or(now).max(now);
            let after = full_at + cost;
            let wait = after.saturating_duration_since(now + FILL);
            if wait > WAIT_MAX {
                return Err(wait);
            }
            budgets.full_at.insert(user.clone(), after);
            budgets.sweep(now);
            Ok(wait)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Budgets) -> T) -> T {
        look(&mut self.budgets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Budgets {
    fn sweep(&mut self, now: Instant) {
        if self.full_at.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.full_at.retain(|_, full_at| *full_at > now);
            // Each look costs as much as there is, so it is done seldom.
            self.sweep_at = self.full_at.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_its_units() {
        for per_minute in [6_000, 15_000] {
            let pacer = Pacer::new(per_minute);
            let begin = Instant::now();
            let mut taken = Vec::new();
            while begin.elapsed() < Duration::from_secs(180) {
                pacer.take(&user("a"), 20).await.unwrap();
                taken.push(begin.elapsed());
            }
            let most = taken.iter().map(|from| {
                let until = *from + Duration::from_secs(60);
                let within = taken.iter().filter(|at| (*from..until).contains(at));
                within.count() * 20
            });
            let most = u32::try_from(most.max().unwrap()).unwrap();
            assert!(
                (per_minute * 9 / 10..=per_minute + 20).contains(&most),
                "{most}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_mailboxes_do_not_wait_for_each_other() {
        let pacer = Pacer::new(6_000);
        let begin = Instant::now();
        for name in ["a", "b"] {
            for _ in 0..1500 / 20 {
                pacer.take(&user(name), 20).await.unwrap();
            }
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        pacer.take(&user("a"), 20).await.unwrap();
        assert!(begin.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long() {
        let pacer = Pacer::new(6_000);
        let now = Instant::now();
        let taken = (0..10_000)
            .take_while(|_| pacer.reserve(&user("a"), 5, now).is_ok())
            .count();
        assert_eq!(taken, (1500 + 75 * 5) / 5);
        assert!(pacer.reserve(&user("a"), 5, now).unwrap_err() > WAIT_MAX);
        assert_eq!(pacer.reserve(&user("b"), 5, now), Ok(Duration::ZERO));
        let tiny = Pacer::new(0);
        assert_eq!(tiny.reserve(&user("a"), 100, now), Ok(Duration::ZERO));
        assert!(tiny.reserve(&user("a"), 100, now).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_kept_and_has_an_end() {
        let pacer = Pacer::new(6_000);
        let begin = Instant::now();
        pacer.pause(&user("a"), Duration::from_secs(2));
        pacer.pause(&user("a"), Duration::from_secs(1));
        pacer.take(&user("a"), 5).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(2));
        pacer.pause(&user("a"), Duration::from_secs(1 << 40));
        let Err(GoogleError::Slow { after: Some(after) }) = pacer.take(&user("a"), 5).await else {
            panic!("it is to wait");
        };
        assert!(after <= PAUSE_MAX + Duration::from_secs(1), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_those_who_are_silent() {
        let pacer = Pacer::new(6_000);
        for number in 0..SWEEP_FROM * 8 {
            pacer.take(&user(&format!("u{number}")), 5).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        assert!(pacer.with(|budgets| budgets.full_at.len()) <= SWEEP_FROM);
    }
}
