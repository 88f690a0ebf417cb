//! `fanfare bench log`: how many durable publishes a second each log takes, how soon they are acknowledged, and what they cost.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::error::BenchError;
use crate::log::args::{LogArgs, LogKind};
use crate::log::report::{LogReport, Showing};
use crate::log::stand::{LogPoint, Stand, StandOptions};
use crate::mode::{not_negative, positive};
use crate::output::{grouped, ms, table};
use crate::plot::{Plot, Rule, Scale};

/// The stem of its files.
const STEM: &str = "log";

/// Loads in a row that do not hold, after which the rate is raised no further.
const FAILED_MAX: usize = 2;

/// A generator thread above this share of a processor measures itself.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// Runs it.
pub(crate) fn run(args: &LogArgs) -> Result<(), BenchError> {
    positive("--seconds", args.seconds)?;
    not_negative("--warmup", args.warmup)?;
    for &rate in &args.rates {
        positive("--rates", rate)?;
    }
    let empty = [args.logs.is_empty(), args.rates.is_empty()];
    let empty = empty.contains(&true) || args.flush_ms.is_empty() || args.bystanders.is_empty();
    if empty {
        let options = "--logs, --flush-ms, --bystanders, --rates";
        return Err(BenchError::option(options, "must name at least one each"));
    }
    let mut report = LogReport::new(args, &args.traffic.out)?;
    for &kind in &args.logs {
        let (flushes, others): (&[u32], &[usize]) = match kind {
            LogKind::Sqlite => (&[0], &[0]),
            LogKind::Postgres => (&args.flush_ms, &args.bystanders),
        };
        for &flush_ms in flushes {
            for &bystanders in others {
                let options = StandOptions {
                    kind,
                    flush_ms,
                    bystanders,
                    config: None,
                };
                climb(args, options, &mut report)?;
            }
        }
    }
    let showing = show(args, &report.points);
    report.conclude(STEM, &showing)
}

/// One log, rate by rate.
fn climb(
    args: &LogArgs,
    options: StandOptions,
    report: &mut LogReport<LogPoint>,
) -> Result<(), BenchError> {
    let kind = options.kind;
    let mut stand = Stand::start(options, &args.traffic, &mut report.circumstances)?;
    let publish = args.traffic.publish(args.warmup, args.seconds);
    let mut failed = 0;
    for &rate in &args.rates {
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "{rate}/s on {kind:?}");
        let point = stand.load(rate, &publish, args.bound_ms(kind))?;
        failed = if point.held { 0 } else { failed + 1 };
        report.points.push(point);
        report.save(STEM, &show(args, &report.points))?;
        if failed == FAILED_MAX {
            break;
        }
    }
    report.take(stand.finish());
    Ok(())
}

fn show(args: &LogArgs, points: &[LogPoint]) -> Showing {
    let mut text = format!(
        "One node, {} channels, {} bytes of data, published over {} WebSocket connections, nobody listens. Acknowledged means \
         committed and flushed; latency counts from the moment at which a message should have been sent. *Flush +* is what each \
         flush of PostgreSQL takes longer than the disk needs. *Bystanders* are further nodes, on which nobody publishes or \
         listens.\n\n",
        grouped(args.traffic.channels as f64),
        args.traffic.size,
        args.traffic.publishers
    );
    text.push_str(&table(
        &[
            "log",
            "flush +",
            "messages/s",
            "acknowledged/s",
            "p50 / p90 / p99 / p99.9 ms",
            "slowest ms",
            "in a batch",
            "WAL bytes for a message",
            "CPU µs for a message: node",
            "PostgreSQL",
            "each of the bystanders",
            "cores: node",
            "PostgreSQL",
            "generator",
            "held",
        ],
        &points.iter().map(row).collect::<Vec<_>>(),
    ));
    text.push('\n');
    for ladder in ladders(points) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {}", knee(ladder));
    }
    if points
        .iter()
        .any(|point| point.generator_share > GENERATOR_SHARE_MAX)
    {
        text.push_str(
            "\nAt the highest rates the generator's own thread was busy for more than 80 % of the time: those latencies are \
             partly its own.\n",
        );
    }
    Showing {
        title: "Durable publishes",
        text,
        plots: vec![("latency", latency(args, points)), ("cpu", cpu(points))],
    }
}

fn row(point: &LogPoint) -> Vec<String> {
    let ack = &point.ack;
    let each = |seconds: f64| match point.counted.publications {
        0 => "-".to_owned(),
        count => format!("{:.1}", seconds * 1e6 / count as f64),
    };
    let is_postgres = point.log == "postgres";
    let of_postgres = |text: String| if is_postgres { text } else { "-".to_owned() };
    vec![
        point.log.clone(),
        of_postgres(format!("{} ms", point.flush_ms)),
        grouped(point.rate),
        grouped(point.achieved_per_second),
        format!(
            "{} / {} / {} / {}",
            ms(ack.p50_us),
            ms(ack.p90_us),
            ms(ack.p99_us),
            ms(ack.p999_us)
        ),
        ms(ack.max_us),
        format!("{:.1}", point.messages_per_batch()),
        of_postgres(grouped(point.wal_per_message())),
        each(point.cpu.nodes),
        of_postgres(each(point.cpu.postgres)),
        match point.bystanders {
            0 => "-".to_owned(),
            count => format!("{count}: {}", each(point.cpu_bystanders / count as f64)),
        },
        format!("{:.2}", point.cores(point.cpu.nodes)),
        of_postgres(format!("{:.2}", point.cores(point.cpu.postgres))),
        format!("{:.2}", point.cores(point.cpu.generator)),
        match point.held {
            true => "yes".to_owned(),
            false => format!("no: {}", point.reasons.join(", ")),
        },
    ]
}

/// The points of each log, in their order.
fn ladders(points: &[LogPoint]) -> impl Iterator<Item = &[LogPoint]> {
    let key = |point: &LogPoint| (point.log == "sqlite", point.flush_ms, point.bystanders);
    points.chunk_by(move |a, b| key(a) == key(b))
}

fn name(point: &LogPoint) -> String {
    if point.log == "sqlite" {
        return "SQLite".to_owned();
    }
    let mut name = "PostgreSQL".to_owned();
    if point.flush_ms > 0 {
        name.push_str(&format!(", flush + {} ms", point.flush_ms));
    }
    if point.bystanders > 0 {
        name.push_str(&format!(", {} bystanders", point.bystanders));
    }
    name
}

/// Where a log stops to hold. One that held beyond one that did not was luck.
fn knee(ladder: &[LogPoint]) -> String {
    let name = ladder.first().map(name).unwrap_or_default();
    let holding = ladder.iter().take_while(|point| point.held);
    let held = holding.last().map(|point| grouped(point.rate));
    let failed = ladder.iter().find(|point| !point.held);
    let failed = failed.map(|point| grouped(point.rate));
    match (held, failed) {
        (Some(held), Some(failed)) => {
            format!("{name}: **{held}/s** held, {failed}/s did not.")
        }
        (Some(held), None) => format!("{name}: all held, up to **{held}/s**."),
        (None, failed) => format!("{name}: below {}/s.", failed.unwrap_or_default()),
    }
}

fn latency(args: &LogArgs, points: &[LogPoint]) -> Plot {
    let plot = Plot::new(
        "Acknowledgement latency, p99",
        &format!(
            "{} channels, {} bytes, one node; committed and flushed",
            grouped(args.traffic.channels as f64),
            args.traffic.size
        ),
        ("messages per second", Scale::Linear),
        ("milliseconds", Scale::Logarithmic),
    );
    let plot = ladders(points).fold(plot, |plot, ladder| {
        let line = ladder
            .iter()
            .map(|point| (point.rate, point.ack.p99_us as f64 / 1_000.0));
        plot.line(&ladder.first().map(name).unwrap_or_default(), line)
    });
    args.logs.iter().fold(plot, |plot, &kind| {
        let bound = args.bound_ms(kind);
        plot.rule(Rule::Horizontal(bound, format!("{bound} ms")))
    })
}

fn cpu(points: &[LogPoint]) -> Plot {
    let plot = Plot::new(
        "Processor time of node and PostgreSQL",
        "microseconds for a message; more messages share a batch as the rate rises",
        ("messages per second", Scale::Linear),
        ("microseconds", Scale::Linear),
    );
    ladders(points).fold(plot, |plot, ladder| {
        let line = ladder.iter().map(|point| {
            let seconds = point.cpu.nodes + point.cpu.postgres;
            let messages = point.counted.publications.max(1) as f64;
            (point.rate, seconds * 1e6 / messages)
        });
        plot.line(&ladder.first().map(name).unwrap_or_default(), line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(log: &str, rate: f64, held: bool) -> LogPoint {
        LogPoint {
            log: log.to_owned(),
            rate,
            held,
            ..LogPoint::default()
        }
    }

    #[test]
    fn the_knee_lies_before_the_first_that_did_not_hold() {
        let points = [
            point("sqlite", 1.0, true),
            point("sqlite", 2.0, false),
            point("sqlite", 3.0, true),
            point("postgres", 1.0, true),
        ];
        let all: Vec<String> = ladders(&points).map(knee).collect();
        let expected = [
            "SQLite: **1/s** held, 2/s did not.",
            "PostgreSQL: all held, up to **1/s**.",
        ];
        assert_eq!(all, expected);
        assert_eq!(knee(&points[1..2]), "SQLite: below 2/s.");
    }

    #[test]
    fn what_a_message_cost_is_told_by_what_was_counted() {
        let mut point = point("postgres", 10.0, true);
        assert_eq!(point.wal_per_message(), 0.0);
        point.counted.publications = 100;
        point.counted.batches = 4;
        point.postgres.wal_bytes = 60_000;
        point.cpu.postgres = 0.002;
        point.window_seconds = 0.1;
        assert_eq!(
            (point.messages_per_batch(), point.wal_per_message()),
            (25.0, 600.0)
        );
        let cells = row(&point);
        assert_eq!(
            (&cells[7][..], &cells[9][..], &cells[12][..]),
            ("600", "20.0", "0.02")
        );
    }
}
