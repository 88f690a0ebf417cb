//! What was found: as JSON, and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::mail::mailboxes::MadeCounts;
use crate::mail::measure::Asked;
use crate::report::{ClusterReport, GeneratorUse, LatencySummary, Machine, Verdict};

/// Width of the first column, in characters.
const LABEL: usize = 24;

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `mail`.
    pub(crate) command: &'static str,
    /// Version of the generator.
    pub(crate) generator_version: &'static str,
    /// Every option.
    pub(crate) parameters: serde_json::Value,
    /// The servers.
    pub(crate) cluster: ClusterReport,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The load generator, the stand-in within it, over all phases.
    pub(crate) generator: GeneratorUse,
    /// Mailboxes that were connected through the login.
    pub(crate) users: usize,
    /// Event streams.
    pub(crate) clients: usize,
    /// From the first login until the last mailbox was in sync, in seconds.
    pub(crate) sign_in_seconds: f64,
    /// The phases, in order.
    pub(crate) phases: Vec<PhaseReport>,
    /// Whether everything held.
    pub(crate) verdict: Verdict,
    /// What to keep in mind when reading the figures.
    pub(crate) warnings: Vec<String>,
}

/// One phase.
#[derive(Debug, Serialize)]
pub(crate) struct PhaseReport {
    /// Its name.
    pub(crate) name: String,
    /// How long changes were made, in seconds.
    pub(crate) seconds: f64,
    /// From the last change, and the end of the fault, until everybody was complete, in seconds.
    pub(crate) complete_seconds: f64,
    /// From the same time until every push was acknowledged, repeated ones too, in seconds.
    pub(crate) acknowledged_seconds: f64,
    /// Pushes that were not acknowledged at the end.
    pub(crate) unacknowledged: u64,
    /// Changes made.
    pub(crate) made: MadeCounts,
    /// Changes that became visible, summed over clients.
    pub(crate) deliveries: u64,
    /// Events of all kinds, summed over clients.
    pub(crate) events: u64,
    /// Clients whose view was not their mailbox at the end.
    pub(crate) incomplete: usize,
    /// What was asked and pushed.
    pub(crate) asked: Asked,
    /// Questions to the history for each notification that was acknowledged.
    pub(crate) history_calls_per_notification: f64,
    /// Forged and stray pushes that were answered as documented.
    pub(crate) forged: u64,
    /// Those that could not be posted: their node was down.
    pub(crate) forged_unanswered: u64,
    /// Those that were answered otherwise.
    pub(crate) forged_wrong: Vec<String>,
    /// Streams that were lost.
    pub(crate) lost: u64,
    /// For how long clients were without a stream.
    pub(crate) away: Option<LatencySummary>,
    /// What was wrong: how often.
    pub(crate) wrong: BTreeMap<&'static str, u64>,
    /// The first wrong, in full.
    pub(crate) first_wrong: Option<String>,
    /// From the opening of the connection of a push to its answer with 2xx.
    pub(crate) acknowledge: LatencySummary,
    /// From a change until a client sees it.
    pub(crate) visible: LatencySummary,
    /// From the post of the notification until a client sees it.
    pub(crate) after_notification: LatencySummary,
    /// What of that was a wait for Gmail's API.
    pub(crate) google: LatencySummary,
    /// From the acknowledgement until a client sees it, without that wait.
    pub(crate) ours: LatencySummary,
}

/// The table.
pub(crate) fn render(report: &Report) -> String {
    // Writing to a string does not fail, so results are dropped throughout.
    let mut out = String::new();
    let machine = &report.machine;
    let _ = writeln!(out, "fanfare bench mail");
    let mut row = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<LABEL$}{text}");
    };
    row(
        "machine",
        &format!(
            "{} x {}, {} MiB, Linux {}",
            machine.cores, machine.cpu, machine.memory_mib, machine.kernel
        ),
    );
    let version = |version: &Option<String>| version.clone().unwrap_or_default();
    row(
        "cluster",
        &format!(
            "{} nodes, PostgreSQL {}, Redis {}",
            report.cluster.nodes,
            version(&report.cluster.postgres_version),
            version(&report.cluster.redis_version)
        ),
    );
    row(
        "clients",
        &format!(
            "{} event streams of {} mailboxes, signed in and in sync after {:.1} s",
            report.clients, report.users, report.sign_in_seconds
        ),
    );
    let generator = &report.generator;
    row(
        "load and stand-in",
        &format!(
            "{:.0} % of the machine, busiest thread {:.0} %",
            generator.machine_share * 100.0,
            generator.busiest_thread_share * 100.0
        ),
    );
    for phase in &report.phases {
        out.push('\n');
        out.push_str(&describe(phase));
    }
    out.push('\n');
    let mut row = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<LABEL$}{text}");
    };
    for warning in &report.warnings {
        row("WARNING", warning);
    }
    if report.verdict.passed {
        row("RESULT", "held");
    }
    for reason in &report.verdict.reasons {
        row("RESULT", &format!("NOT held: {reason}"));
    }
    if let Some(first) = &report.verdict.first_violation {
        row("first violation", first);
    }
    out
}

fn describe(phase: &PhaseReport) -> String {
    let mut out = String::new();
    let mut row = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<LABEL$}{text}");
    };
    row("phase", &phase.name);
    let made = phase.made;
    row(
        "changes",
        &format!(
            "{} in {:.1} s ({} new, {} of labels, {} deleted); all complete {:.1} s later, all pushes acknowledged {:.1} s",
            made.total(),
            phase.seconds,
            made.added,
            made.labels,
            made.deleted,
            phase.complete_seconds,
            phase.acknowledged_seconds
        ),
    );
    row(
        "clients saw",
        &format!(
            "{} changes in {} events; {} incomplete",
            phase.deliveries, phase.events, phase.incomplete
        ),
    );
    let asked = phase.asked;
    row(
        "pushes",
        &format!(
            "{} acknowledged, {} of them again, {} failed attempts; {:.2} walks of the history for each",
            asked.acknowledged,
            asked.duplicates,
            asked.failed,
            phase.history_calls_per_notification
        ),
    );
    if phase.forged + phase.forged_unanswered > 0 {
        row(
            "forged and stray",
            &format!(
                "{} answered as documented, {} otherwise, {} found no node",
                phase.forged,
                phase.forged_wrong.len(),
                phase.forged_unanswered
            ),
        );
    }
    if let Some(away) = &phase.away {
        row(
            "streams lost",
            &format!(
                "{}; back after p50 {} ms, slowest {} ms",
                phase.lost,
                ms(away.p50_us),
                ms(away.max_us)
            ),
        );
    }
    for (wrong, count) in &phase.wrong {
        row("WRONG", &format!("{count} x {wrong}"));
    }
    let _ = writeln!(
        out,
        "  {:<LABEL$}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "times in ms", "p50", "p95", "p99", "max", "count"
    );
    for (label, latency) in [
        ("push acknowledged", &phase.acknowledge),
        ("change to visible", &phase.visible),
        ("notification to visible", &phase.after_notification),
        ("  of it Gmail's API", &phase.google),
        ("  of it ours, once acked", &phase.ours),
    ] {
        let columns = [
            latency.p50_us,
            latency.p95_us,
            latency.p99_us,
            latency.max_us,
        ];
        let text: String = columns.iter().map(|&us| format!("{:>9}", ms(us))).collect();
        let _ = writeln!(out, "  {label:<LABEL$}{text}{:>9}", latency.count);
    }
    out
}

/// Microseconds as milliseconds with what precision is worth showing.
pub(crate) fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if ms < 10.0 {
        format!("{ms:.2}")
    } else {
        format!("{ms:.1}")
    }
}
