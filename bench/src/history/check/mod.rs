//! The checker: reads a history and says which promises were kept.
//!
//! Numbers give the order, so nothing is searched: every rule is one walk or one sort over what happened. Files are read
//! twice (three times when there were faults), line by line; kept are the publishes and the log, not the deliveries.

mod findings;
mod log_rules;
mod model;
mod observers;
mod order_rules;
mod report;
mod source;
mod timing;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::history::HistoryError;
use crate::history::check::findings::Findings;
use crate::history::check::log_rules::Excused;
use crate::history::check::model::{Model, Outcome};
use crate::history::check::observers::Observed;
use crate::history::check::report::Counts;
use crate::history::check::timing::Latencies;

pub(crate) use self::report::CheckReport;

/// Judges the history in `files`: one run, each file written by one process of it.
///
/// # Errors
/// [`HistoryError`] with the place when a file cannot be read, is cut off, or is not a history.
pub(crate) fn check(files: &[PathBuf]) -> Result<CheckReport, HistoryError> {
    let mut model = Model::read(files)?;
    let mut findings = Findings::new(files);
    let excused = log_rules::judge(&mut model, &mut findings);
    let mut latencies = Latencies::new(&model, &[]);
    let has_faults = !model.faults.is_empty();
    let observed = observers::judge(&mut model, &mut findings, |op, t| {
        if !has_faults {
            latencies.delivery(op, t);
        }
    })?;
    order_rules::judge(&model, &mut findings);
    let faults = timing::faults(&model, &observed.lateness);
    if has_faults {
        // Which times were those of healing is known only now.
        latencies = Latencies::new(&model, &faults);
        let mut again = Findings::new(files);
        observers::judge(&mut model, &mut again, |op, t| latencies.delivery(op, t))?;
    }
    latencies.publishes(&model);
    let counts = count(&model, &observed, excused);
    let rules = findings.into_rules();
    Ok(CheckReport {
        passed: rules.iter().all(|rule| rule.violations == 0),
        files: files.to_vec(),
        run: model.run,
        counts,
        rules,
        latencies: latencies.report(),
        faults,
    })
}

fn count(model: &Model, observed: &Observed, excused: Excused) -> Counts {
    let outcomes = |wanted: fn(&Outcome) -> bool| {
        let outcomes = model.ops.iter().map(|op| &op.outcome);
        outcomes.filter(|outcome| wanted(outcome)).count() as u64
    };
    Counts {
        lines: model.lines,
        publishes: model.ops.len() as u64,
        acknowledged: outcomes(|outcome| matches!(outcome, Outcome::Ok(_))),
        refused: outcomes(|outcome| matches!(outcome, Outcome::Fail(_))),
        unknown: outcomes(|outcome| matches!(outcome, Outcome::Unknown(_))),
        rows: model
            .channels
            .iter()
            .map(|channel| channel.log.rows.len() as u64)
            .sum(),
        channels: model.channels.len() as u64,
        subscriptions: observed.subscriptions,
        lost: observed.lost,
        resumed: observed.resumed,
        deliveries: observed.deliveries,
        reads: observed.reads,
        forgotten: excused.forgotten,
        removed: excused.removed,
        stalled_ms: model.stalled / crate::clock::MILLISECOND,
    }
}
