//! How long things took: latencies apart for quiet times and faults, and how long it took to be well again.

use serde::Serialize;

use crate::clock::{MILLISECOND, SECOND};
use crate::history::check::model::{Fault, Model, Op, Outcome};
use crate::latency::Latency;
use crate::report::LatencySummary;

/// Something is late when it takes longer than this: a delivery after its acknowledgement, an acknowledgement after its
/// publish.
const LATE_AFTER: u64 = 250 * MILLISECOND;

/// Nothing may be late for this long before all is well again.
const QUIET: u64 = SECOND;

/// Stretches of lateness that are kept before they are put together.
const STRETCHES_MAX: usize = 1 << 17;

/// When anything was late: stretches of time.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    stretches: Vec<(u64, u64)>,
}

impl Lateness {
    /// Something was due from `from` on and done at `done`; the end of time when it never was.
    pub(super) fn delivered(&mut self, from: u64, done: u64) {
        if done.saturating_sub(from) <= LATE_AFTER {
            return;
        }
        self.stretches.push((from + LATE_AFTER, done));
        if self.stretches.len() >= STRETCHES_MAX {
            // Those that overlap or nearly touch count as one anyway.
            self.stretches = self.merged();
        }
    }

    /// How long after `time` all was well, for good as far as the next second shows; `None` when it never was.
    fn healed_after(&self, time: u64) -> Option<u64> {
        let ill = self
            .merged()
            .into_iter()
            .find(|&(begin, end)| end > time && begin < time.saturating_add(QUIET));
        match ill {
            None => Some(0),
            Some((_, u64::MAX)) => None,
            Some((_, end)) => Some(end - time),
        }
    }

    /// The stretches in order, those with less than a quiet time between them as one.
    fn merged(&self) -> Vec<(u64, u64)> {
        let mut sorted = self.stretches.clone();
        sorted.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (begin, end) in sorted {
            match merged.last_mut() {
                Some(last) if begin < last.1.saturating_add(QUIET) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        merged
    }
}

/// When publishes were late. One whose outcome nobody knows was late until it was given up.
pub(super) fn late_publishes(model: &Model) -> Lateness {
    let mut lateness = Lateness::default();
    for op in &model.ops {
        match op.outcome {
            Outcome::Ok(ack) => lateness.delivered(op.invoked, ack.t),
            Outcome::Unknown(Some(t)) => lateness.delivered(op.invoked, t),
            Outcome::Unknown(None) => lateness.delivered(op.invoked, model.span.1),
            Outcome::Fail(_) => {}
        }
    }
    lateness
}

/// One fault, and how long it took to be well again. Milliseconds; absent: never, or the fault did not end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultReport {
    /// Its name.
    pub(crate) name: String,
    /// From the beginning of the history to that of the fault.
    pub(crate) begin_ms: f64,
    /// From its beginning to its end.
    pub(crate) lasted_ms: Option<f64>,
    /// From its beginning until every subscriber had what it should: at most 250 ms behind, for a second.
    pub(crate) deliveries_well_after_begin_ms: Option<f64>,
    /// The same from its end.
    pub(crate) deliveries_well_after_end_ms: Option<f64>,
    /// From its beginning until publishes were acknowledged within 250 ms, for a second.
    pub(crate) publishes_well_after_begin_ms: Option<f64>,
    /// The same from its end.
    pub(crate) publishes_well_after_end_ms: Option<f64>,
}

/// What every fault did.
pub(super) fn faults(model: &Model, deliveries: &Lateness) -> Vec<FaultReport> {
    let publishes = late_publishes(model);
    let ms = |ns: u64| ns as f64 / MILLISECOND as f64;
    let report = |fault: &Fault| {
        let after_end = |lateness: &Lateness| lateness.healed_after(fault.end?).map(ms);
        FaultReport {
            name: fault.name.clone(),
            begin_ms: ms(fault.begin.saturating_sub(model.span.0)),
            lasted_ms: fault.end.map(|end| ms(end.saturating_sub(fault.begin))),
            deliveries_well_after_begin_ms: deliveries.healed_after(fault.begin).map(ms),
            deliveries_well_after_end_ms: after_end(deliveries),
            publishes_well_after_begin_ms: publishes.healed_after(fault.begin).map(ms),
            publishes_well_after_end_ms: after_end(&publishes),
        }
    };
    model.faults.iter().map(report).collect()
}

/// Latencies in one kind of time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WindowReport {
    /// `steady`, `fault` or `healing`.
    pub(crate) window: &'static str,
    /// From the time a message was meant to be sent to its acknowledgement.
    pub(crate) publish: LatencySummary,
    /// From its acknowledgement to each delivery; 0 where the delivery was first.
    pub(crate) deliver: LatencySummary,
    /// From the time it was meant to be sent to each delivery.
    pub(crate) whole: LatencySummary,
}

/// Latencies by kind of time. A message belongs to a fault when any part of its way falls into one; if not, to the
/// healing when any part falls between the end of a fault and the time when deliveries and publishes were well.
#[derive(Debug)]
pub(super) struct Latencies {
    faults: Vec<(u64, u64)>,
    healing: Vec<(u64, u64)>,
    windows: [Window; 3],
}

#[derive(Debug)]
struct Window {
    publish: Latency,
    deliver: Latency,
    whole: Latency,
}

const NAMES: [&str; 3] = ["steady", "fault", "healing"];

impl Latencies {
    /// Nothing measured yet.
    pub(super) fn new(model: &Model, reports: &[FaultReport]) -> Self {
        let end_of_all = model.span.1;
        let mut healing = Vec::new();
        for (fault, report) in model.faults.iter().zip(reports) {
            let Some(end) = fault.end else { continue };
            let well = [
                report.deliveries_well_after_end_ms,
                report.publishes_well_after_end_ms,
            ];
            let well = well
                .map(|well| well.map_or(end_of_all, |ms| end + (ms * MILLISECOND as f64) as u64));
            healing.push((end, well[0].max(well[1])));
        }
        Self {
            faults: model
                .faults
                .iter()
                .map(|fault| (fault.begin, fault.end.unwrap_or(end_of_all)))
                .collect(),
            healing,
            windows: std::array::from_fn(|_| Window {
                publish: Latency::new(),
                deliver: Latency::new(),
                whole: Latency::new(),
            }),
        }
    }

    /// All acknowledgements.
    pub(super) fn publishes(&mut self, model: &Model) {
        for op in &model.ops {
            if let Some(ack) = op.ack() {
                let window = self.window(op.at, ack.t);
                self.windows[window].publish.record(op.at, ack.t);
            }
        }
    }

    /// One delivery of a publish.
    pub(super) fn delivery(&mut self, op: &Op, t: u64) {
        let window = self.window(op.at, t);
        let window = &mut self.windows[window];
        window.whole.record(op.at, t);
        if let Some(ack) = op.ack() {
            window.deliver.record(ack.t, t);
        }
    }

    fn window(&self, from: u64, to: u64) -> usize {
        let falls_into = |stretches: &[(u64, u64)]| {
            stretches
                .iter()
                .any(|&(begin, end)| from <= end && begin <= to)
        };
        if falls_into(&self.faults) {
            1
        } else if falls_into(&self.healing) {
            2
        } else {
            0
        }
    }

    /// What was measured; kinds of time that nothing fell into are left out.
    pub(super) fn report(&self) -> Vec<WindowReport> {
        let mut reports = Vec::new();
        for (window, name) in self.windows.iter().zip(NAMES) {
            let report = WindowReport {
                window: name,
                publish: window.publish.summary(),
                deliver: window.deliver.summary(),
                whole: window.whole.summary(),
            };
            if report.publish.count + report.whole.count > 0 {
                reports.push(report);
            }
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_when_nothing_was_late_for_a_while() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.healed_after(5 * SECOND), Some(0));
        // On time, as far as it counts.
        lateness.delivered(5 * SECOND, 5 * SECOND + LATE_AFTER);
        assert_eq!(lateness.healed_after(5 * SECOND), Some(0));
        // Due at 5.5 s, done at 7 s; the next one due at 7.2 s, done at 8 s; another illness at 20 s.
        lateness.delivered(5 * SECOND + SECOND / 2, 7 * SECOND);
        lateness.delivered(7 * SECOND + SECOND / 5, 8 * SECOND);
        lateness.delivered(20 * SECOND, 22 * SECOND);
        assert_eq!(lateness.healed_after(5 * SECOND), Some(3 * SECOND));
        assert_eq!(lateness.healed_after(6 * SECOND), Some(2 * SECOND));
        assert_eq!(lateness.healed_after(8 * SECOND), Some(0));
        assert_eq!(
            lateness.healed_after(4 * SECOND),
            Some(0),
            "not yet ill for a second"
        );
        lateness.delivered(30 * SECOND, u64::MAX);
        assert_eq!(lateness.healed_after(30 * SECOND), None);
    }

    #[test]
    fn stretches_are_put_together_when_they_are_many() {
        let mut lateness = Lateness::default();
        for number in 0..3 * STRETCHES_MAX as u64 {
            lateness.delivered(number, SECOND + number);
        }
        assert!(lateness.stretches.len() < STRETCHES_MAX);
        let last = 3 * STRETCHES_MAX as u64 - 1;
        assert_eq!(lateness.healed_after(SECOND / 2), Some(SECOND / 2 + last));
    }
}
