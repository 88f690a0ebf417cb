//! Latency distributions: HDR histograms in microseconds, merged over threads and never averaged.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::LatencySummary;

/// The largest latency that is told apart from larger ones, in microseconds: two minutes.
const MAX_US: u64 = 120_000_000;

/// Significant decimal digits that are kept.
const DIGITS: u8 = 3;

/// One distribution.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Latency {
    /// An empty distribution.
    pub(crate) fn new() -> Self {
        // The bounds are constants that the library accepts.
        Self(Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("constant histogram bounds"))
    }

    /// Records the time from `from` to `to`, in nanoseconds of [`crate::clock`].
    pub(crate) fn record(&mut self, from: u64, to: u64) {
        self.0.saturating_record(to.saturating_sub(from) / 1_000);
    }

    /// Adds another distribution.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot be refused.
        let _ = self.0.add(&other.0);
    }

    /// A percentile, in milliseconds.
    pub(crate) fn percentile_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1_000.0
    }

    /// What goes into a report.
    pub(crate) fn summary(&self) -> LatencySummary {
        let at = |percentile| self.0.value_at_percentile(percentile);
        LatencySummary {
            count: self.0.len(),
            min_us: self.0.min(),
            mean_us: self.0.mean(),
            p50_us: at(50.0),
            p90_us: at(90.0),
            p95_us: at(95.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: self.0.max(),
            distribution: self
                .0
                .iter_quantiles(5)
                .map(|step| (step.quantile_iterated_to(), step.value_iterated_to()))
                .collect(),
        }
    }
}

/// As (microseconds, how often): exact to the digits that are kept.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.iter_recorded();
        serializer.collect_seq(pairs.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::new();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latency.0.saturating_record_n(value, count);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_threads_together() {
        let mut latency = Latency::new();
        let mut other = Latency::new();
        for ms in 1..=1_000_u64 {
            let side = if ms % 2 == 0 {
                &mut latency
            } else {
                &mut other
            };
            side.record(5_000, 5_000 + ms * 1_000_000);
        }
        latency.merge(&other);
        let summary = latency.summary();
        assert_eq!(summary.count, 1_000);
        assert!(
            (summary.p50_us as f64 - 500_000.0).abs() < 1_000.0,
            "{}",
            summary.p50_us
        );
        assert!(
            (summary.p99_us as f64 - 990_000.0).abs() < 1_000.0,
            "{}",
            summary.p99_us
        );
        assert!(summary.max_us >= 1_000_000);
        assert!(!summary.distribution.is_empty());
    }

    #[test]
    fn a_distribution_survives_the_way_to_another_process() {
        let mut latency = Latency::new();
        for us in [0, 1, 999, 1_000, 1_001, 123_456, 99_999_999] {
            latency.record(0, us * 1_000);
            latency.record(0, us * 1_000);
        }
        let text = serde_json::to_string(&latency).unwrap();
        let back: Latency = serde_json::from_str(&text).unwrap();
        assert_eq!(back.0, latency.0);
    }

    #[test]
    fn what_is_beyond_the_bound_or_before_its_time_is_still_counted() {
        let mut latency = Latency::new();
        latency.record(0, u64::MAX);
        latency.record(10, 5);
        assert_eq!(latency.summary().count, 2);
    }
}
