//! What `fanfare bench scenario b` writes; it is played by the fault runner.

use std::path::Path;

use crate::error::BenchError;
use crate::faults::ScenarioBFigures;
use crate::output::{Folder, grouped, ms, table};
use crate::plot::Plot;
use crate::report::LatencySummary;
use crate::scenario::point::share;
use crate::scenario::report::distributions;

/// Writes raw figures, page and plot into the folder `out`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(out: &Path, figures: &ScenarioBFigures<'_>) -> Result<(), BenchError> {
    Folder::open(out)?.write(
        "scenario-b",
        figures,
        &page(figures),
        &[("latency", plot(&figures.windows))],
    )
}

fn page(figures: &ScenarioBFigures<'_>) -> String {
    let what = match figures.parameters.pause {
        true => "made to hang",
        false => "killed",
    };
    let rows: Vec<Vec<String>> = figures
        .windows
        .iter()
        .map(|(name, latency)| {
            vec![
                (*name).to_owned(),
                grouped(latency.count as f64),
                ms(latency.p50_us),
                ms(latency.p99_us),
                ms(latency.max_us),
            ]
        })
        .collect();
    let verdict = match figures.reasons {
        [] => "Every client has every message, once and in order; nobody triggered anything."
            .to_owned(),
        reasons => format!("**Broken:** {}.", reasons.join("; ")),
    };
    format!(
        "# Scenario B: Redis goes away\n\n{}\n\n3 nodes, {} clients in one channel, {} messages a second. Redis is {what} at \
         message {} and back {:.1} s later; {} messages are sent without it. In the database: {} messages. At the clients: {} \
         deliveries; {} connections lost.\n\n{}\n{verdict}\n",
        figures.circumstances.describe(),
        figures.parameters.clients,
        figures.parameters.rate,
        figures.sent_at_kill,
        figures.away_seconds,
        figures.sent_at_return.saturating_sub(figures.sent_at_kill),
        grouped(figures.rows as f64),
        share(figures.deliveries, figures.due),
        figures.lost_connections,
        table(
            &[
                "sent to delivered",
                "deliveries",
                "p50 ms",
                "p99 ms",
                "slowest ms"
            ],
            &rows
        ),
    )
}

fn plot(windows: &[(&'static str, LatencySummary)]) -> Plot {
    distributions(
        "From sending to delivery",
        "3 nodes; Redis goes away at the 500th of 1,000 messages",
        windows
            .iter()
            .map(|(name, latency)| ((*name).to_owned(), latency)),
    )
}
