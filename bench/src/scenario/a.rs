//! `fanfare bench scenario a`: many clients and many messages on several nodes, in four readings.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::error::BenchError;
use crate::mode::positive;
use crate::output::grouped;
use crate::plot::{Plot, Rule, Scale};
use crate::scenario::args::{Reading, ScenarioAArgs};
use crate::scenario::limits::most_clients;
use crate::scenario::point::Point;
use crate::scenario::report::{Knee, ScenarioReport, Showing, distributions};
use crate::scenario::stand::{Stand, StandOptions};

/// A series of loads ends after so many in a row that did not hold.
const FAILURES_MAX: u32 = 2;

/// It also ends with a load whose 99th percentile is so many times the bound: the next one would only take longer.
const HOPELESS: f64 = 20.0;

/// Runs it.
pub(super) fn run(args: &ScenarioAArgs) -> Result<(), BenchError> {
    check(args)?;
    let mut report = ScenarioReport::new("a", args, &args.load.out)?;
    for reading in [Reading::A1, Reading::A2, Reading::A3, Reading::Literal] {
        if !args.readings.contains(&reading) {
            report.not_made(name(reading), "not asked for");
            continue;
        }
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "reading {}", name(reading));
        match reading {
            Reading::A1 => {
                let channels = args.clients.div_ceil(args.subscribers);
                single(
                    args,
                    name(reading),
                    (args.clients, channels),
                    args.rate,
                    &mut report,
                )?;
            }
            Reading::A2 => single(
                args,
                name(reading),
                (args.clients, 1),
                args.a2_rate,
                &mut report,
            )?,
            Reading::A3 => fewer_clients(args, &mut report)?,
            Reading::Literal => fewer_messages(args, &mut report)?,
        }
        report.save(&show(args, &report))?;
    }
    let showing = show(args, &report);
    report.conclude(&showing)
}

fn check(args: &ScenarioAArgs) -> Result<(), BenchError> {
    positive("--rate", args.rate)?;
    positive("--a2-rate", args.a2_rate)?;
    if args.subscribers == 0 {
        return Err(BenchError::option("--subscribers", "must be at least 1"));
    }
    let limit = most_clients(args.nodes);
    if args.clients == 0 || args.clients > limit.clients {
        return Err(BenchError::option(
            "--clients",
            format!("must be 1 to {} ({})", limit.clients, limit.reason),
        ));
    }
    for (option, shares) in [
        ("--a3-shares", &args.a3_shares),
        ("--literal-shares", &args.literal_shares),
    ] {
        let ascending = shares.windows(2).all(|pair| pair[0] < pair[1]);
        if shares.is_empty()
            || !ascending
            || shares.iter().any(|share| !(*share > 0.0 && *share <= 1.0))
        {
            return Err(BenchError::option(
                option,
                "must be numbers above 0 and at most 1, in ascending order",
            ));
        }
    }
    Ok(())
}

/// The name of a reading, as its points have it.
fn name(reading: Reading) -> &'static str {
    match reading {
        Reading::A1 => "a1",
        Reading::A2 => "a2",
        Reading::A3 => "a3",
        Reading::Literal => "literal",
    }
}

/// One load on a cluster of its own, with so many clients in so many channels.
fn single(
    args: &ScenarioAArgs,
    reading: &str,
    (clients, channels): (usize, usize),
    rate: f64,
    report: &mut ScenarioReport,
) -> Result<(), BenchError> {
    let options = StandOptions {
        nodes: args.nodes,
        clients,
        channels,
        reconnect: false,
    };
    let mut stand = Stand::start(options, &args.load, report)?;
    let point = stand.load(reading, rate)?;
    report.points.push(point);
    stand.finish(report).map(drop)
}

/// One channel and the whole rate, with more and more clients.
fn fewer_clients(args: &ScenarioAArgs, report: &mut ScenarioReport) -> Result<(), BenchError> {
    let mut steps: Vec<usize> = args
        .a3_shares
        .iter()
        .map(|share| ((args.clients as f64 * share).round() as usize).max(1))
        .collect();
    steps.dedup();
    let reading = name(Reading::A3);
    let mut patience = Patience::new(args.load.p99_max_ms);
    for (index, &clients) in steps.iter().enumerate() {
        // Anew for each: who joins later has not missed what came before.
        single(args, reading, (clients, 1), args.rate, report)?;
        if report
            .points
            .last()
            .is_some_and(|point| patience.goes_on(point))
        {
            continue;
        }
        for &clients in &steps[index + 1..] {
            let what = format!("a3 with {} clients", grouped(clients as f64));
            report.not_made(what, "beyond the knee");
        }
        break;
    }
    let clients = |point: &Point| point.clients as f64;
    let knee = Knee::find(reading, "clients", &report.points, clients);
    report.knees.push(knee);
    Ok(())
}

/// One channel and all clients, with more and more messages.
fn fewer_messages(args: &ScenarioAArgs, report: &mut ScenarioReport) -> Result<(), BenchError> {
    let reading = name(Reading::Literal);
    let options = StandOptions {
        nodes: args.nodes,
        clients: args.clients,
        channels: 1,
        reconnect: false,
    };
    let mut stand = Stand::start(options, &args.load, report)?;
    let mut patience = Patience::new(args.load.p99_max_ms);
    let rates: Vec<f64> = args
        .literal_shares
        .iter()
        .map(|share| args.rate * share)
        .collect();
    for (index, &rate) in rates.iter().enumerate() {
        let point = stand.load(reading, rate)?;
        let goes_on = patience.goes_on(&point);
        report.points.push(point);
        if !goes_on {
            for rate in &rates[index + 1..] {
                report.not_made(
                    format!("literal at {}/s", grouped(*rate)),
                    "beyond the knee",
                );
            }
            break;
        }
    }
    stand.finish(report)?;
    let knee = Knee::find(reading, "messages/s", &report.points, |point| point.rate);
    report.knees.push(knee);
    Ok(())
}

/// How long a series of loads goes on beyond what holds.
struct Patience {
    bound_ms: f64,
    failures: u32,
}

impl Patience {
    fn new(bound_ms: f64) -> Self {
        Self {
            bound_ms,
            failures: 0,
        }
    }

    fn goes_on(&mut self, point: &Point) -> bool {
        self.failures = if point.held { 0 } else { self.failures + 1 };
        // Who was not complete in time would disturb the next load.
        let hopeless = point.incomplete > 0 || point.p99_ms() > self.bound_ms * HOPELESS;
        self.failures < FAILURES_MAX && !hopeless
    }
}

fn show(args: &ScenarioAArgs, report: &ScenarioReport) -> Showing {
    let asked = args.rate * args.clients as f64;
    let mut about = format!(
        "{} nodes, one PostgreSQL, one Redis; {} clients, {} messages a second posted over HTTP to random nodes, {} bytes of \
         data, each committed before anyone sees it. Taken literally, everybody in one channel, this asks for {} deliveries a \
         second. The readings: **a1** {} subscribers in each channel; **a2** one channel, {} messages a second; **a3** one \
         channel, the whole rate, as many clients as hold p99 below {} ms; **literal** one channel, all clients, as many \
         messages as hold it.",
        args.nodes,
        grouped(args.clients as f64),
        grouped(args.rate),
        args.load.size,
        grouped(asked),
        args.subscribers,
        grouped(args.a2_rate),
        args.load.p99_max_ms
    );
    // Writing to a string does not fail.
    let _ = write!(
        about,
        " Latency runs from the time at which a message should have been sent."
    );
    Showing {
        title: "Scenario A: many clients, many messages".to_owned(),
        about,
        more: String::new(),
        plots: plots(args, report),
    }
}

fn plots(args: &ScenarioAArgs, report: &ScenarioReport) -> Vec<(&'static str, Plot)> {
    let mut plots = Vec::new();
    let single = || {
        let points = report.points.iter();
        points.filter(|point| ["a1", "a2"].contains(&point.reading.as_str()))
    };
    if single().next().is_some() {
        let bound = Rule::Horizontal(
            args.load.p99_max_ms,
            format!("bound {} ms", args.load.p99_max_ms),
        );
        let plot = distributions(
            "Delivery latency, commit included",
            &format!(
                "{} nodes, {} clients",
                args.nodes,
                grouped(args.clients as f64)
            ),
            single().map(|point| {
                let asked = grouped(point.asked_deliveries_per_second);
                (
                    format!("{}: {asked} deliveries/s", point.reading),
                    &point.delivery,
                )
            }),
        );
        plots.push(("latency", plot.rule(bound)));
    }
    for (stem, reading, of, pick) in [
        (
            "a3",
            "a3",
            "clients in one channel",
            (|point| point.clients as f64) as fn(&Point) -> f64,
        ),
        ("literal", "literal", "messages per second", |point| {
            point.rate
        }),
    ] {
        let points: Vec<&Point> = report
            .points
            .iter()
            .filter(|point| point.reading == reading)
            .collect();
        if points.is_empty() {
            continue;
        }
        let line =
            |value: fn(&Point) -> f64| points.iter().map(move |point| (pick(point), value(point)));
        let mut plot = Plot::new(
            &format!("Knee of {reading}"),
            &format!("{} nodes, one channel; latency against {of}", args.nodes),
            (of, Scale::Logarithmic),
            ("milliseconds", Scale::Logarithmic),
        )
        .line("p50", line(Point::p50_ms))
        .line("p99", line(Point::p99_ms))
        .line(
            "acknowledged p99",
            line(|point| point.ack.p99_us as f64 / 1_000.0),
        )
        .rule(Rule::Horizontal(
            args.load.p99_max_ms,
            format!("bound {} ms", args.load.p99_max_ms),
        ));
        let knee = report.knees.iter().find(|knee| knee.reading == reading);
        if let Some(held) = knee.and_then(|knee| knee.held) {
            plot = plot.rule(Rule::Vertical(held, format!("{} held", grouped(held))));
        }
        plots.push((stem, plot));
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(held: bool, p99_us: u64, incomplete: usize) -> Point {
        let mut point = Point {
            held,
            incomplete,
            ..Point::default()
        };
        point.delivery.p99_us = p99_us;
        point
    }

    #[test]
    fn a_series_goes_one_step_beyond_its_knee() {
        let mut patience = Patience::new(100.0);
        assert!(patience.goes_on(&point(true, 50_000, 0)));
        assert!(patience.goes_on(&point(false, 150_000, 0)));
        assert!(patience.goes_on(&point(true, 90_000, 0)));
        assert!(patience.goes_on(&point(false, 150_000, 0)));
        assert!(!patience.goes_on(&point(false, 200_000, 0)));
        assert!(!Patience::new(100.0).goes_on(&point(false, 9_000_000, 0)));
        assert!(!Patience::new(100.0).goes_on(&point(false, 150_000, 3)));
    }
}
