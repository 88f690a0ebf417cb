//! From what was recorded to the verdict on a row.

use std::path::{Path, PathBuf};

use crate::faults::busy::OVERLOAD;
use crate::faults::outcome::{Figure, RowReport, State};
use crate::faults::row::{Bounds, Row};
use crate::history::{CheckReport, check};

/// What was found beside the history.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// What the row's acts measured.
    pub(crate) figures: Vec<Figure>,
    /// What is worth saying beside it.
    pub(crate) notes: Vec<String>,
    /// Share of busy processors during the load, 0 to 1.
    pub(crate) busy: f64,
    /// Clients that lacked something when patience ran out.
    pub(crate) incomplete: usize,
    /// Connections that clients opened again.
    pub(crate) reconnects: u64,
}

/// Judges a row by its history and by what else was found; fills `report`.
pub(crate) fn judge(row: &Row, evidence: Evidence, history: &Path, report: &mut RowReport) {
    report.figures = evidence.figures;
    report.notes = evidence.notes;
    report.busy = evidence.busy;
    if evidence.reconnects > 0 {
        let count = evidence.reconnects;
        report
            .notes
            .push(format!("{count} connections opened again"));
    }
    let checked = match check(&[PathBuf::from(history)]) {
        Ok(checked) => checked,
        Err(error) => {
            report.state = State::Broken;
            report.reasons.push(error.to_string());
            return;
        }
    };
    report.acknowledged = checked.counts.acknowledged;
    report.deliveries = checked.counts.deliveries;
    report.violations = checked.rules.iter().map(|rule| rule.violations).sum();
    report.reasons = checked.reasons();
    for rule in checked.rules.iter().filter(|rule| rule.violations > 0) {
        let first = rule.evidence.first().map(|evidence| evidence.what.clone());
        report.reasons.extend(first);
    }
    if checked.counts.forgotten > 0 {
        report.figures.push(Figure {
            name: "acknowledged in the epoch that is over".to_owned(),
            value: checked.counts.forgotten as f64,
            unit: "",
            bound: None,
        });
    }
    add_times(&row.bounds, &checked, report);
    conclude(evidence.incomplete, report);
}

/// Figures of the history.
fn add_times(bounds: &Bounds, checked: &CheckReport, report: &mut RowReport) {
    for (window, name) in [("steady", "outside"), ("fault", "in the window")] {
        let found = checked.latencies.iter().find(|one| one.window == window);
        let Some(deliver) = found.map(|one| &one.deliver).filter(|one| one.count > 0) else {
            continue;
        };
        let mut put = |what: &str, us: u64, bound: Option<f64>| {
            report.figures.push(Figure {
                name: format!("{what} {name}"),
                value: us as f64 / 1e6,
                unit: "s",
                bound,
            });
        };
        let in_fault = window == "fault";
        put(
            "p99",
            deliver.p99_us,
            bounds.p99_in_window.filter(|_| in_fault),
        );
        if in_fault {
            put("slowest", deliver.max_us, bounds.max_in_window);
        }
    }
    let healed = checked
        .faults
        .iter()
        .map(|fault| fault.deliveries_well_after_end_ms);
    // One that never healed leaves no time; that clients lack something is told by a rule.
    let longest = healed.flatten().fold(None, |longest: Option<f64>, ms| {
        Some(longest.map_or(ms, |longest| longest.max(ms)))
    });
    report.heal_seconds = longest.map(|ms| ms / 1_000.0);
    if let (Some(value), Some(bound)) = (report.heal_seconds, bounds.heal) {
        report.figures.push(Figure {
            name: "as before after".to_owned(),
            value,
            unit: "s",
            bound: Some(bound),
        });
    }
}

fn conclude(incomplete: usize, report: &mut RowReport) {
    if incomplete > 0 {
        report
            .notes
            .push(format!("{incomplete} clients lacked something in the end"));
    }
    let (wrong, late): (Vec<&Figure>, Vec<&Figure>) = report
        .figures
        .iter()
        .filter(|figure| !figure.holds())
        .partition(|figure| figure.is_violation());
    report.violations += wrong.len() as u64;
    report
        .reasons
        .extend(wrong.iter().map(|figure| figure.text()));
    let late: Vec<String> = late.iter().map(|figure| figure.text()).collect();
    report.state = if report.violations > 0 {
        State::Violated
    } else if late.is_empty() {
        State::Held
    } else if report.busy > OVERLOAD {
        let share = report.busy * 100.0;
        report.notes.push(format!(
            "the machine was overloaded ({share:.0} % busy): times are not judged; above their bound: {}",
            late.join(", ")
        ));
        State::Held
    } else {
        report.reasons.extend(late);
        State::Missed
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: Vec<Figure>, busy: f64) -> RowReport {
        let mut report = RowReport {
            figures,
            busy,
            ..RowReport::default()
        };
        conclude(0, &mut report);
        report
    }

    fn late() -> Figure {
        Figure {
            name: "noticed".to_owned(),
            value: 3.0,
            unit: "s",
            bound: Some(2.0),
        }
    }

    #[test]
    fn a_late_figure_is_a_miss_unless_the_machine_was_overloaded() {
        assert_eq!(report(Vec::new(), 0.1).state, State::Held);
        let missed = report(vec![late()], 0.5);
        assert_eq!((missed.state, missed.violations), (State::Missed, 0));
        assert!(missed.fails(false) && !missed.fails(true));
        let overloaded = report(vec![late()], 0.95);
        assert_eq!(overloaded.state, State::Held);
        assert!(overloaded.notes[0].contains("noticed 3"));
    }

    #[test]
    fn a_violation_counts_whatever_the_load() {
        let violated = report(vec![Figure::violation("two answers".to_owned())], 0.99);
        assert_eq!((violated.state, violated.violations), (State::Violated, 1));
        assert!(violated.fails(true) && violated.reasons == ["two answers"]);
    }
}
