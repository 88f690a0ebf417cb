//! How busy the machine was: latencies of an overloaded machine say nothing about the servers.

use std::fs;

/// Above this share of busy processors no promise about time is judged.
pub(crate) const OVERLOAD: f64 = 0.9;

/// Processor time of the whole machine at one moment, in clock ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// Now. All zero where the system does not tell.
    pub(crate) fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let fields = text.lines().next().unwrap_or_default().split_whitespace();
        // user nice system idle iowait irq softirq steal; guests are part of user.
        let ticks: Vec<u64> = fields
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    /// The share of busy time from here to `later`, 0 to 1.
    pub(crate) fn share_until(&self, later: &Self) -> f64 {
        let all = later.all.saturating_sub(self.all);
        let busy = later.busy.saturating_sub(self.busy);
        if all == 0 {
            0.0
        } else {
            busy as f64 / all as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_time_between() {
        let before = Ticks::parse("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1 1 1\n");
        let after = Ticks::parse("cpu  40 0 20 120 20 0 0 0 0 0\n");
        assert!((before.share_until(&after) - 0.4).abs() < 1e-9);
        assert_eq!(after.share_until(&after), 0.0);
        assert_eq!(Ticks::parse("").all, 0);
        assert!(Ticks::now().all > 0);
    }
}
