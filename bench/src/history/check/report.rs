//! What a check found, as JSON and as a table.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::history::check::findings::RuleReport;
use crate::history::check::timing::{FaultReport, WindowReport};
use crate::report::LatencySummary;

/// Width of the first column, in characters.
const LABEL: usize = 16;

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckReport {
    /// Whether every rule held.
    pub(crate) passed: bool,
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// Name of the run.
    pub(crate) run: String,
    /// How much there was to judge.
    pub(crate) counts: Counts,
    /// Every rule.
    pub(crate) rules: Vec<RuleReport>,
    /// Latencies by kind of time.
    pub(crate) latencies: Vec<WindowReport>,
    /// Every fault.
    pub(crate) faults: Vec<FaultReport>,
}

/// How much there was to judge.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    /// Lines of all files.
    pub(crate) lines: u64,
    /// Publishes.
    pub(crate) publishes: u64,
    /// Of those, acknowledged.
    pub(crate) acknowledged: u64,
    /// Of those, refused.
    pub(crate) refused: u64,
    /// Of those, with an outcome that nobody knows.
    pub(crate) unknown: u64,
    /// Publications in the log.
    pub(crate) rows: u64,
    /// Channels.
    pub(crate) channels: u64,
    /// Subscriptions.
    pub(crate) subscriptions: u64,
    /// Connections that were lost.
    pub(crate) lost: u64,
    /// Subscriptions that went on from their position.
    pub(crate) resumed: u64,
    /// Deliveries.
    pub(crate) deliveries: u64,
    /// Reads that were answered.
    pub(crate) reads: u64,
    /// Acknowledged in an epoch that is over, so that the log cannot be asked for them.
    pub(crate) forgotten: u64,
    /// Acknowledged, and removed by retention since.
    pub(crate) removed: u64,
    /// How long recording threads waited for the file, in milliseconds.
    pub(crate) stalled_ms: u64,
}

impl CheckReport {
    /// The rules that were broken, in words.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let broken = self.rules.iter().filter(|rule| rule.violations > 0);
        broken
            .map(|rule| format!("{}: {} of {}", rule.name, rule.violations, rule.checked))
            .collect()
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        // Writing to a string does not fail, so results are dropped throughout.
        let mut out = String::new();
        let _ = writeln!(out, "fanfare bench check, run {}", self.run);
        self.put_counts(&mut out);
        for window in &self.latencies {
            put_latencies(&mut out, window);
        }
        for fault in &self.faults {
            put_fault(&mut out, fault);
        }
        for rule in &self.rules {
            let verdict = match (rule.violations, rule.checked) {
                (0, 0) => "nothing to ask".to_owned(),
                (0, checked) => format!("held, {checked} checked"),
                (violations, checked) => format!("BROKEN {violations} times, {checked} checked"),
            };
            let _ = writeln!(out, "  {:<LABEL$}{verdict}: {}", rule.name, rule.says);
            for evidence in &rule.evidence {
                let lines = evidence.lines.join(", ");
                let _ = writeln!(out, "  {:<LABEL$}  {} ({lines})", "", evidence.what);
            }
        }
        let verdict = if self.passed { "PASSED" } else { "FAILED" };
        let _ = writeln!(out, "  {:<LABEL$}{verdict}", "verdict");
        out
    }

    fn put_counts(&self, out: &mut String) {
        let counts = &self.counts;
        let _ = writeln!(
            out,
            "  {:<LABEL$}{} sent, {} acknowledged, {} refused, {} unknown",
            "publishes", counts.publishes, counts.acknowledged, counts.refused, counts.unknown
        );
        let _ = writeln!(
            out,
            "  {:<LABEL$}{} to {} subscribers; {} connections lost, {} resumed; {} reads",
            "deliveries",
            counts.deliveries,
            counts.subscriptions,
            counts.lost,
            counts.resumed,
            counts.reads
        );
        let _ = writeln!(
            out,
            "  {:<LABEL$}{} rows in {} channels",
            "log", counts.rows, counts.channels
        );
        if counts.forgotten + counts.removed > 0 {
            let _ = writeln!(
                out,
                "  {:<LABEL$}{} acknowledged in an epoch that is over, {} removed by retention",
                "not comparable", counts.forgotten, counts.removed
            );
        }
        if counts.stalled_ms > 0 {
            let _ = writeln!(
                out,
                "  {:<LABEL$}the run waited {} ms for its history: its latencies are partly that",
                "WARNING", counts.stalled_ms
            );
        }
    }
}

fn put_latencies(out: &mut String, window: &WindowReport) {
    let parts = [
        ("publish", &window.publish),
        ("deliver", &window.deliver),
        ("whole way", &window.whole),
    ];
    for (name, summary) in parts {
        let _ = writeln!(
            out,
            "  {:<LABEL$}{name:<10} {}",
            window.window,
            percentiles(summary)
        );
    }
}

fn percentiles(summary: &LatencySummary) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, max {:.1} ms of {}",
        ms(summary.p50_us),
        ms(summary.p99_us),
        ms(summary.p999_us),
        ms(summary.max_us),
        summary.count
    )
}

fn put_fault(out: &mut String, fault: &FaultReport) {
    let ms = |ms: Option<f64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
    let lasted = fault.lasted_ms.map_or_else(
        || "did not end".to_owned(),
        |lasted| format!("lasted {lasted:.0} ms"),
    );
    let _ = writeln!(
        out,
        "  {:<LABEL$}{} at {:.1} s, {lasted}",
        "fault",
        fault.name,
        fault.begin_ms / 1_000.0
    );
    let _ = writeln!(
        out,
        "  {:<LABEL$}deliveries well {} after it began, {} after it ended; publishes {}, {}",
        "",
        ms(fault.deliveries_well_after_begin_ms),
        ms(fault.deliveries_well_after_end_ms),
        ms(fault.publishes_well_after_begin_ms),
        ms(fault.publishes_well_after_end_ms)
    );
}
