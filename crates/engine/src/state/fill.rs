//! The arithmetic of a token bucket: exact, in whole numbers.

use std::time::Duration;

use crate::port::state::{Bucket, Taken};

/// Nanoseconds of some clock that does not go back.
pub(crate) type Nanos = u64;

/// How full a bucket is.
///
/// It keeps what is missing, in tokens times the period in nanoseconds: that many go away by `refill` in each nanosecond, so
/// nothing is ever rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    bucket: Bucket,
    missing: u128,
    at: Nanos,
}

impl Fill {
    /// A full bucket.
    pub(crate) fn full(bucket: Bucket, now: Nanos) -> Self {
        Self {
            bucket,
            missing: 0,
            at: now,
        }
    }

    /// Takes tokens, all or none. What was missing stays missing when the bucket has other measures than before.
    pub(crate) fn take(&mut self, bucket: Bucket, tokens: u32, now: Nanos) -> Taken {
        self.fill_until(now);
        if self.bucket != bucket {
            self.missing = self.missing * period(&bucket) / period(&self.bucket);
            self.bucket = bucket;
        }
        let period = period(&bucket);
        let room = u128::from(bucket.capacity) * period;
        let wanted = self.missing + u128::from(tokens) * period;
        if tokens > bucket.capacity {
            return Taken::Refused {
                retry_after: Duration::MAX,
            };
        }
        if wanted > room {
            let wait = (wanted - room).div_ceil(refill(&bucket));
            let wait = u64::try_from(wait).unwrap_or(u64::MAX);
            return Taken::Refused {
                retry_after: Duration::from_nanos(wait),
            };
        }
        self.missing = wanted;
        let left = (room - wanted) / period;
        Taken::Granted {
            left: u32::try_from(left).unwrap_or(u32::MAX),
        }
    }

    /// When it is full again, if nobody takes more: from then on nobody has to know it.
    pub(crate) fn full_at(&self) -> Nanos {
        let wait = self.missing.div_ceil(refill(&self.bucket));
        self.at
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    fn fill_until(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.at);
        let added = u128::from(elapsed) * refill(&self.bucket);
        self.missing = self.missing.saturating_sub(added);
        self.at = self.at.max(now);
    }
}

/// A period of 0 counts as a nanosecond.
fn period(bucket: &Bucket) -> u128 {
    bucket.period.as_nanos().clamp(1, u128::from(u64::MAX))
}

/// A refill of 0 counts as one token.
fn refill(bucket: &Bucket) -> u128 {
    u128::from(bucket.refill.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(capacity: u32, refill: u32, period: Duration) -> Bucket {
        Bucket {
            capacity,
            refill,
            period,
        }
    }

    proptest! {
        /// In every window no more is granted than capacity + what was added in it; a refusal is right to the nanosecond.
        #[test]
        fn never_more_than_capacity_and_refill(
            capacity in 1..50_u32,
            refill in 1..50_u32,
            period_ms in 1..10_000_u64,
            takes in proptest::collection::vec((0..3_000_000_000_u64, 1..60_u32), 1..80),
        ) {
            let bucket = bucket(capacity, refill, Duration::from_millis(period_ms));
            let period = u128::from(period_ms) * 1_000_000;
            let mut now = 0;
            let mut fill = Fill::full(bucket, now);
            let mut granted: Vec<(u64, u32)> = Vec::new();
            for (wait, tokens) in takes {
                now += wait;
                let before = fill;
                match fill.take(bucket, tokens, now) {
                    Taken::Granted { .. } => granted.push((now, tokens)),
                    Taken::Refused { retry_after } if tokens > capacity => {
                        prop_assert_eq!(retry_after, Duration::MAX);
                    }
                    Taken::Refused { retry_after } => {
                        let wait = u64::try_from(retry_after.as_nanos()).unwrap();
                        let mut early = before;
                        let early = early.take(bucket, tokens, now + wait - 1);
                        let is_early = matches!(early, Taken::Refused { .. });
                        prop_assert!(is_early, "{:?}", early);
                        let mut then = before;
                        let then = then.take(bucket, tokens, now + wait);
                        let is_time = matches!(then, Taken::Granted { .. });
                        prop_assert!(is_time, "{:?}", then);
                    }
                }
            }
            for (first, (from, _)) in granted.iter().enumerate() {
                let mut sum = 0;
                for (until, tokens) in &granted[first..] {
                    sum += u128::from(*tokens);
                    let added = u128::from(until - from) * u128::from(refill);
                    prop_assert!(sum * period <= u128::from(capacity) * period + added);
                }
            }
            let mut later = fill;
            let full = later.take(bucket, capacity, fill.full_at());
            prop_assert_eq!(full, Taken::Granted { left: 0 });
        }
    }

    #[test]
    fn odd_buckets_do_no_harm() {
        let never = Duration::MAX;
        for odd in [
            bucket(0, 0, Duration::ZERO),
            bucket(u32::MAX, u32::MAX, never),
            bucket(1, 0, never),
        ] {
            let mut fill = Fill::full(odd, 0);
            let _ = fill.take(odd, u32::MAX, 1);
            let _ = fill.take(odd, 1, u64::MAX);
            let _ = fill.full_at();
            let other = bucket(3, 1, Duration::from_secs(1));
            let _ = fill.take(other, 1, u64::MAX);
        }
    }

    #[test]
    fn what_is_missing_stays_missing_under_other_measures() {
        let narrow = bucket(10, 1, Duration::from_secs(1));
        let mut fill = Fill::full(narrow, 0);
        assert_eq!(fill.take(narrow, 8, 0), Taken::Granted { left: 2 });
        let wide = bucket(20, 1, Duration::from_secs(60));
        assert_eq!(fill.take(wide, 1, 0), Taken::Granted { left: 11 });
    }
}
