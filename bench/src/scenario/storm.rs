//! `fanfare bench scenario storm`: every connection is cut again and again while messages are published.
//!
//! Twice: each client at a time of its own, as networks fail; and all at the same moment, as a proxy or a rollout fails.
//! A cut is a reset without a word. The client stays away, comes back to another node, and asks for what it missed.

use std::io::Write as _;

use serde::Serialize;

use crate::args::PublishArgs;
use crate::clock;
use crate::error::BenchError;
use crate::fleet::{Jitter, nanoseconds};
use crate::mode::positive;
use crate::output::{grouped, ms, table};
use crate::plot::Plot;
use crate::report::LatencySummary;
use crate::scenario::args::ScenarioStormArgs;
use crate::scenario::limits::most_clients;
use crate::scenario::point::share;
use crate::scenario::report::{ScenarioReport, Showing, distributions};
use crate::scenario::stand::{Stand, StandOptions};

/// What one storm came to.
#[derive(Debug, Clone, Serialize)]
struct Storm {
    /// `each` or `together`.
    reading: &'static str,
    /// Connections that were cut.
    cuts: u64,
    /// Deliveries that should have arrived.
    expected: u64,
    /// Different publications that did.
    delivered: u64,
    /// Came back and went on without a gap, by the server's word.
    recovered: u64,
    /// Came back and could not.
    unrecovered: u64,
    /// All deliveries, from the time at which a message should have been sent: the time away included.
    delivery: LatencySummary,
    /// What was missed, from the moment at which the client began to connect again.
    replay: LatencySummary,
    /// From the same moment until the subscription was confirmed.
    rejoin: LatencySummary,
    /// Connections that ended, by reason; cuts are not among them.
    closed: std::collections::BTreeMap<String, u64>,
}

/// Runs it.
pub(super) fn run(args: &ScenarioStormArgs) -> Result<(), BenchError> {
    for (option, value) in [
        ("--rate", args.rate),
        ("--every", args.every),
        ("--offline", args.offline),
    ] {
        positive(option, value)?;
    }
    let limit = most_clients(args.nodes);
    if args.clients == 0 || args.clients > limit.clients {
        return Err(BenchError::option(
            "--clients",
            format!("must be 1 to {} ({})", limit.clients, limit.reason),
        ));
    }
    let mut report = ScenarioReport::new("storm", args, &args.load.out)?;
    let mut storms = Vec::new();
    for (reading, together) in [("each", false), ("together", true)] {
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "cut {reading}");
        storms.push(one(args, reading, together, &mut report)?);
        report.more = serde_json::json!({ "storms": storms });
        report.save(&show(args, &storms))?;
    }
    report.conclude(&show(args, &storms))
}

fn one(
    args: &ScenarioStormArgs,
    reading: &'static str,
    together: bool,
    report: &mut ScenarioReport,
) -> Result<Storm, BenchError> {
    let options = StandOptions {
        nodes: args.nodes,
        clients: args.clients,
        channels: 1,
        reconnect: true,
    };
    let mut stand = Stand::start(options, &args.load, report)?;
    let seconds = f64::from(args.messages) / args.rate;
    let now = clock::now();
    stand.jitter(Jitter {
        from: now,
        until: now + nanoseconds(seconds),
        every: nanoseconds(args.every),
        offline: nanoseconds(args.offline),
        together,
    })?;
    let publish = PublishArgs {
        duration: seconds,
        warmup: 0.0,
        ..args.load.publish()
    };
    let mut point = stand.load_with(reading, args.rate, &publish)?;
    // The bound is for clients that are there; what counts here is that everything arrives.
    point.reasons.retain(|reason| !reason.starts_with("p99"));
    point.held = point.reasons.is_empty();
    if point.incomplete > 0 {
        let reason = format!(
            "cut {reading}: {} clients were not complete in time",
            point.incomplete
        );
        report.verdict.reasons.push(reason);
    }
    let delivery = point.delivery.clone();
    report.points.push(point);
    let (subscribers, findings) = stand.finish(report)?;
    Ok(Storm {
        reading,
        cuts: findings.cuts,
        expected: subscribers.expected,
        delivered: subscribers.delivered,
        recovered: subscribers.recovered,
        unrecovered: subscribers.unrecovered,
        delivery,
        replay: findings.replay.summary(),
        rejoin: findings.rejoin.summary(),
        closed: subscribers.closed,
    })
}

fn show(args: &ScenarioStormArgs, storms: &[Storm]) -> Showing {
    let rows: Vec<Vec<String>> = storms.iter().map(row).collect();
    let head = [
        "cut",
        "cuts",
        "delivered",
        "came back without a gap",
        "subscribed again p50 / p99 / slowest ms",
        "replay p50 / p99 / slowest ms",
        "all deliveries p99 ms, the time away included",
    ];
    Showing {
        title: "Storm: every connection is cut again and again".to_owned(),
        about: format!(
            "{} nodes, one PostgreSQL, one Redis; {} clients in one channel, {} messages of {} bytes at {} a second. Each \
             connection is reset about every {} s and away for {} s; the client comes back to another node and asks for what \
             it missed. **each**: every client at a time of its own; **together**: all at the same moment. *Replay* is the \
             time from the moment at which a client begins to connect again to the arrival of each message that it missed.",
            args.nodes,
            grouped(args.clients as f64),
            args.messages,
            args.load.size,
            args.rate,
            args.every,
            args.offline
        ),
        more: table(&head, &rows),
        plots: plots(args, storms),
    }
}

fn row(storm: &Storm) -> Vec<String> {
    let three = |latency: &LatencySummary| {
        format!(
            "{} / {} / {}",
            ms(latency.p50_us),
            ms(latency.p99_us),
            ms(latency.max_us)
        )
    };
    vec![
        storm.reading.to_owned(),
        grouped(storm.cuts as f64),
        share(storm.delivered, storm.expected),
        share(storm.recovered, storm.recovered + storm.unrecovered),
        three(&storm.rejoin),
        three(&storm.replay),
        ms(storm.delivery.p99_us),
    ]
}

fn plots(args: &ScenarioStormArgs, storms: &[Storm]) -> Vec<(&'static str, Plot)> {
    let about = format!(
        "{} nodes, {} clients",
        args.nodes,
        grouped(args.clients as f64)
    );
    let replay = distributions(
        "Replay: from coming back to each missed message",
        &about,
        storms
            .iter()
            .map(|storm| (storm.reading.to_owned(), &storm.replay)),
    );
    let delivery = distributions(
        "All deliveries, the time away included",
        &about,
        storms
            .iter()
            .map(|storm| (storm.reading.to_owned(), &storm.delivery)),
    );
    vec![("replay", replay), ("delivery", delivery)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_says_what_arrived_and_how_soon() {
        let storm = Storm {
            reading: "each",
            cuts: 30,
            expected: 1_200,
            delivered: 1_200,
            recovered: 30,
            unrecovered: 0,
            delivery: LatencySummary {
                p99_us: 2_100_000,
                ..LatencySummary::default()
            },
            replay: LatencySummary {
                p50_us: 5_000,
                p99_us: 20_000,
                max_us: 30_000,
                ..LatencySummary::default()
            },
            rejoin: LatencySummary::default(),
            closed: Default::default(),
        };
        let cells = row(&storm);
        assert_eq!(cells[2], "1,200, all");
        assert_eq!(cells[5], "5.00 / 20.0 / 30.0");
        assert_eq!(cells[6], "2100");
    }
}
