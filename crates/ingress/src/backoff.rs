//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng;

use crate::source::Terms;

/// The wait after the given attempt, from 1: doubling, bounded, and scattered over its second half, so that what failed
/// together does not come back together.
pub(crate) fn wait_after(attempt: u32, terms: &Terms, rng: &mut impl Rng) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = terms.backoff_min.saturating_mul(1 << doublings);
    let whole = whole.min(terms.backoff_max);
    let half = whole / 2;
    half + half.mul_f64(rng.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_at_their_bound() {
        let terms = Terms {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            ..Terms::default()
        };
        let mut rng = rand::rng();
        for (attempt, whole) in [(1, 100), (2, 200), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            let wait = wait_after(attempt, &terms, &mut rng).as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{attempt}: {wait} ms");
        }
    }
}
