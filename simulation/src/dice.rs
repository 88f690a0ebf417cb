//! Everything that is left to chance, drawn from one seed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A source of chance that all parts of a run share. One thread draws from it, in an order that the seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Whether something with this probability happens.
    pub(crate) fn chance(&self, probability: f64) -> bool {
        // Nothing is drawn for what cannot happen, so that a plan without a fault does not pay for it.
        probability > 0.0 && self.rng().random_bool(probability.min(1.0))
    }

    /// A number in `low ..= high`.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.rng().random_range(low..=high)
    }

    /// An index below `count`, which is not 0.
    pub(crate) fn index(&self, count: usize) -> usize {
        self.rng().random_range(0..count)
    }

    /// A duration between two numbers of microseconds.
    pub(crate) fn micros(&self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low, high))
    }

    /// A duration between two numbers of milliseconds.
    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        self.micros(low * 1000, high * 1000)
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
