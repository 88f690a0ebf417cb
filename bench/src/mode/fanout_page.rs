//! The page and the plot of `fanfare bench fanout`.

use std::fmt::Write;

use crate::output::{Circumstances, grouped, ms, table};
use crate::plot::{Plot, Rule, Scale};
use crate::report::{LatencySummary, RateStep, Report, write_us};
use crate::statistics::span;

/// The share of the bare loop that is the goal.
const GOAL: f64 = 0.5;

/// The page and its plots.
pub(crate) fn render(
    report: &Report,
    clients: usize,
    size: usize,
) -> (String, Vec<(&'static str, Plot)>) {
    let circumstances = Circumstances {
        version: report.generator_version.to_owned(),
        build: report.build.to_owned(),
        started_unix_ms: report.started_unix_ms,
        machine: report.machine.clone(),
        load_before: report.load_before,
        ..Circumstances::default()
    };
    let mut page = format!(
        "# Fan-out beside a bare loop of writes\n\n{}\n\nOne channel, {} WebSocket clients, {size} bytes of data. The bare \
         loop (`fanfare bench bare`) commits nothing and keeps nothing; it was measured in turns with the server, under the \
         same load by the same generator. The ratio is the server's deliveries per processor second as a share of its.\n\n",
        circumstances.describe(),
        grouped(clients as f64)
    );
    let rows: Vec<Vec<String>> = report.rate_steps.iter().map(row).collect();
    page.push_str(&table(
        &[
            "messages/s",
            "deliveries per CPU second",
            "in one write",
            "CPU µs for a write",
            "p50 / p99 ms",
            "bare loop: per CPU second",
            "in one write",
            "CPU µs for a write",
            "p50 / p99 ms",
            "ratio",
            "of each round",
            "ratio for a write",
            "held",
        ],
        &rows,
    ));
    page.push_str(
        "\nNews that gather during a pass leave together in the next, so a slower pass makes a delivery cheaper: a ratio is \
         of cost, and the latencies beside it say what was paid for it. The ratio for a write leaves that out: a write of the \
         bare loop over a write of the server, whatever it carries.\n",
    );
    for reason in &report.verdict.reasons {
        // Writing to a string does not fail.
        let _ = writeln!(page, "\n**Did not hold:** {reason}");
    }
    (page, plots(&report.rate_steps))
}

fn row(step: &RateStep) -> Vec<String> {
    let together = |messages: Option<f64>| {
        messages.map_or_else(|| "-".to_owned(), |messages| format!("{messages:.2}"))
    };
    let mut cells = vec![
        step.offered_per_second.to_string(),
        grouped(step.deliveries_per_cpu_second),
        together(step.messages_per_write()),
        together(
            step.counters
                .as_ref()
                .and_then(|counters| write_us(step.server_cpu_seconds, counters)),
        ),
        percentiles(step.delivery_latency.as_ref()),
    ];
    match &step.yardstick {
        None => cells.extend(["-"; 7].map(str::to_owned)),
        Some(bare) => {
            let (low, high) = span(&bare.ratios);
            cells.extend([
                grouped(bare.deliveries_per_cpu_second),
                together(bare.messages_per_write()),
                together(write_us(bare.cpu_seconds, &bare.counters)),
                percentiles(bare.delivery_latency.as_ref()),
                format!("**{:.2}**", bare.ratio),
                format!("{low:.2} to {high:.2}"),
                together(bare.write_ratio),
            ]);
        }
    }
    cells.push(if step.held { "yes" } else { "no" }.to_owned());
    cells
}

fn percentiles(latency: Option<&LatencySummary>) -> String {
    latency.map_or_else(
        || "-".to_owned(),
        |latency| format!("{} / {}", ms(latency.p50_us), ms(latency.p99_us)),
    )
}

fn plots(steps: &[RateStep]) -> Vec<(&'static str, Plot)> {
    let bare = |pick: fn(&crate::report::YardstickStep) -> f64| {
        steps
            .iter()
            .filter_map(move |step| Some((step.offered_per_second, pick(step.yardstick.as_ref()?))))
    };
    let cost = Plot::new(
        "Deliveries per processor second",
        "one channel; the server commits each message first, the bare loop only writes",
        ("messages per second", Scale::Logarithmic),
        ("deliveries per CPU second", Scale::Logarithmic),
    )
    .line("bare loop", bare(|step| step.deliveries_per_cpu_second))
    .line(
        "Fanfare",
        steps
            .iter()
            .map(|step| (step.offered_per_second, step.deliveries_per_cpu_second)),
    );
    let for_a_write = steps.iter().filter_map(|step| {
        let ratio = step.yardstick.as_ref()?.write_ratio?;
        Some((step.offered_per_second, ratio))
    });
    let ratio = Plot::new(
        "Share of what the bare loop reaches",
        "deliveries per CPU second, server over bare loop, measured in turns",
        ("messages per second", Scale::Logarithmic),
        ("ratio", Scale::Linear),
    )
    .line("for a delivery", bare(|step| step.ratio))
    .line("for a write", for_a_write)
    .rule(Rule::Horizontal(GOAL, "goal".to_owned()));
    vec![("cost", cost), ("ratio", ratio)]
}
