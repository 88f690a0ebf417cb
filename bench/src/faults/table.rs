//! What people read: a line for each row as it ends, a table in the end, and the same as Markdown.

use std::fmt::Write;

use crate::faults::outcome::{RowReport, State};
use crate::report::Machine;

/// A row as it ends, for a terminal.
pub(crate) fn lines(report: &RowReport) -> String {
    // Writing to a string does not fail, so results are dropped throughout.
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:>3}  {:<9} {:<45} heal {:<8} {} acknowledged, {} deliveries, {} violations, {:.0} s",
        report.number,
        report.state.word(),
        report.name,
        heal(report),
        report.acknowledged,
        report.deliveries,
        report.violations,
        report.seconds
    );
    let _ = writeln!(out, "     promise: {}", report.promise);
    if !report.figures.is_empty() {
        let _ = writeln!(out, "     {}", figures(report));
    }
    for reason in &report.reasons {
        let _ = writeln!(out, "     {}: {reason}", report.state.word());
    }
    for note in &report.notes {
        let _ = writeln!(out, "     note: {note}");
    }
    if let Some(history) = &report.history {
        let _ = writeln!(out, "     history: {}", history.display());
    }
    out
}

/// All rows as Markdown.
pub(crate) fn markdown(reports: &[RowReport], machine: &Machine) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "Measured on {} processors ({}), the load generator and the checker on the same machine.\n",
        machine.cores, machine.cpu
    );
    out.push_str("| # | fault | promise | result | heal | figures |\n|---|---|---|---|---|---|\n");
    for report in reports {
        let mut result = report.state.word().to_owned();
        if report.state == State::Skipped {
            result = format!("{result}: {}", report.reasons.join("; "));
        }
        let _ = writeln!(
            out,
            "| {} | {}: {} | {} | {} | {} | {} |",
            report.number,
            report.name,
            report.how,
            report.promise,
            cell(&result),
            heal(report),
            cell(&figures(report))
        );
    }
    out
}

/// How the whole run ended, in one line.
pub(crate) fn summary(reports: &[RowReport]) -> String {
    let count = |state| reports.iter().filter(|one| one.state == state).count();
    let violations: u64 = reports.iter().map(|one| one.violations).sum();
    format!(
        "{} rows: {} held, {} missed a bound, {} violated, {} broken, {} skipped; {violations} violations\n",
        reports.len(),
        count(State::Held),
        count(State::Missed),
        count(State::Violated),
        count(State::Broken),
        count(State::Skipped)
    )
}

fn heal(report: &RowReport) -> String {
    match report.heal_seconds {
        Some(seconds) => format!("{seconds:.2} s"),
        None => "-".to_owned(),
    }
}

fn figures(report: &RowReport) -> String {
    let texts: Vec<String> = report
        .figures
        .iter()
        .filter(|figure| !figure.is_violation())
        .map(|figure| match figure.holds() {
            true => figure.text(),
            false => format!("{} MISS", figure.text()),
        })
        .collect();
    texts.join(", ")
}

/// Text that may stand in a cell.
fn cell(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::outcome::Figure;

    #[test]
    fn a_row_is_one_line_of_markdown() {
        let report = RowReport {
            number: "6",
            name: "Redis hangs",
            how: "SIGSTOP",
            promise: "noticed in < 2 s",
            heal_seconds: Some(0.25),
            figures: vec![Figure {
                name: "noticed".to_owned(),
                value: 2.5,
                unit: "s",
                bound: Some(2.0),
            }],
            reasons: vec!["a | b".to_owned()],
            state: State::Missed,
            ..RowReport::default()
        };
        let text = markdown(std::slice::from_ref(&report), &Machine::default());
        let expected = "| 6 | Redis hangs: SIGSTOP | noticed in < 2 s | MISS | 0.25 s | noticed 2.50 s (≤ 2) MISS |";
        assert!(text.lines().any(|line| line == expected), "{text}");
        let skipped = RowReport {
            state: State::Skipped,
            ..report.clone()
        };
        assert!(markdown(&[skipped], &Machine::default()).contains("skipped: a / b"));
        assert!(summary(&[report]).contains("1 missed"));
    }
}
