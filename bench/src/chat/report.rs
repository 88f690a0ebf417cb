//! What was found: as JSON, and as a page for people.

use std::fmt::Write;

use serde::Serialize;

use crate::chat::asked::Asked;
use crate::chat::live::Live;
use crate::output::Circumstances;
use crate::report::{LatencySummary, Verdict};

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// When and where.
    pub(crate) circumstances: Circumstances,
    /// Every option.
    pub(crate) parameters: serde_json::Value,
    /// Loads of the workspace.
    pub(crate) loads: Vec<Asked>,
    /// Searches, by their kinds.
    pub(crate) searches: Vec<Asked>,
    /// One channel with many clients.
    pub(crate) live: Live,
    /// Whether everything held.
    pub(crate) verdict: Verdict,
}

/// The page.
pub(crate) fn render(report: &Report) -> String {
    let size = |name: &str| report.parameters[name].to_string();
    let mut page = format!(
        "# Chat\n\n{}\n\nA workspace of {} messages in {} channels with {} users, on PostgreSQL, behind two nodes. Times are those of a client on \
         the same machine, each call on a connection of its own.\n\n",
        report.circumstances.describe(),
        size("messages"),
        size("channels"),
        size("users")
    );
    table(&mut page, "load", "conversations", &report.loads);
    table(
        &mut page,
        "search",
        "matches, at most 5,000",
        &report.searches,
    );
    let live = &report.live;
    // Writing to a string does not fail.
    let _ = writeln!(
        page,
        "{} clients of one channel on both nodes, {} messages a second posted over HTTP to both, one transaction each: {} posted, {} of {} delivered; \
         numbers and `ts` in order at every client: {}.\n\n| from the time at which it was due | p50 / p90 / p99 / p99.9 ms |\n|---|---|\n\
         | to the answer | {} |\n| to the event at each client | {} |\n",
        live.clients,
        size("rate"),
        live.posted,
        live.delivered,
        live.posted * live.clients,
        if live.wrong.is_empty() { "yes" } else { "no" },
        tail(&live.acknowledged),
        tail(&live.event)
    );
    match report.verdict.passed {
        true => page.push_str("Everything held.\n"),
        false => {
            page.push_str("What did not hold:\n\n");
            for reason in &report.verdict.reasons {
                let _ = writeln!(page, "- {reason}");
            }
        }
    }
    page
}

fn table(page: &mut String, what: &str, found: &str, rows: &[Asked]) {
    let _ = writeln!(
        page,
        "| {what} | p50 / p95 / max ms | {found} |\n|---|---|---:|"
    );
    for row in rows {
        let _ = writeln!(
            page,
            "| {} | {} / {} / {} | {:.0} |",
            row.name,
            ms(row.latency.p50_us),
            ms(row.latency.p95_us),
            ms(row.latency.max_us),
            row.found
        );
    }
    page.push('\n');
}

fn tail(latency: &LatencySummary) -> String {
    [
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
    ]
    .map(ms)
    .join(" / ")
}

/// Microseconds as milliseconds.
pub(crate) fn ms(us: u64) -> String {
    format!("{:.1}", us as f64 / 1_000.0)
}
