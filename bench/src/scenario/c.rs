//! `fanfare bench scenario c`: the same load on more and more nodes.

use std::io::Write as _;

use crate::error::BenchError;
use crate::mode::positive;
use crate::mode::servers::NODES_MAX;
use crate::output::{grouped, table};
use crate::plot::{Plot, Rule, Scale};
use crate::scenario::args::ScenarioCArgs;
use crate::scenario::limits::most_clients;
use crate::scenario::point::Point;
use crate::scenario::report::{ScenarioReport, Showing};
use crate::scenario::stand::{Stand, StandOptions};

/// The readings: the same clients in total, and the same clients for each node.
const TOTAL: &str = "total";
const PER_NODE: &str = "per node";

/// Runs it.
pub(super) fn run(args: &ScenarioCArgs) -> Result<(), BenchError> {
    check(args)?;
    let mut report = ScenarioReport::new("c", args, &args.load.out)?;
    for (reading, clients) in [(TOTAL, args.clients), (PER_NODE, args.clients_per_node)] {
        if clients == 0 {
            report.not_made(reading, "not asked for");
            continue;
        }
        for &nodes in &args.nodes {
            // People see what is going on; nobody has to.
            let _ = writeln!(std::io::stderr(), "{nodes} nodes, {reading}");
            let wanted = match reading {
                TOTAL => clients,
                _ => clients * nodes,
            };
            let limit = most_clients(nodes);
            if wanted > limit.clients {
                let what = format!("{nodes} nodes with {} clients", grouped(wanted as f64));
                let why = format!(
                    "{} allow {}, which were taken",
                    limit.reason,
                    grouped(limit.clients as f64)
                );
                report.not_made(what, why);
            }
            one(args, reading, nodes, wanted.min(limit.clients), &mut report)?;
            report.save(&show(args, &report))?;
        }
    }
    let showing = show(args, &report);
    report.conclude(&showing)
}

fn check(args: &ScenarioCArgs) -> Result<(), BenchError> {
    positive("--rate", args.rate)?;
    positive("--idle-seconds", args.idle_seconds)?;
    if args.subscribers == 0 {
        return Err(BenchError::option("--subscribers", "must be at least 1"));
    }
    let known = |nodes: &usize| (1..=NODES_MAX).contains(nodes);
    if args.nodes.is_empty() || !args.nodes.iter().all(known) {
        return Err(BenchError::option(
            "--nodes",
            format!("must be numbers from 1 to {NODES_MAX}"),
        ));
    }
    Ok(())
}

fn one(
    args: &ScenarioCArgs,
    reading: &str,
    nodes: usize,
    clients: usize,
    report: &mut ScenarioReport,
) -> Result<(), BenchError> {
    if clients == 0 {
        return Ok(());
    }
    let options = StandOptions {
        nodes,
        clients,
        channels: clients.div_ceil(args.subscribers),
        reconnect: false,
    };
    let mut stand = Stand::start(options, &args.load, report)?;
    let idle = stand.idle(args.idle_seconds)?;
    report.points.push(idle);
    let point = stand.load(reading, args.rate)?;
    report.points.push(point);
    stand.finish(report).map(drop)
}

fn show(args: &ScenarioCArgs, report: &ScenarioReport) -> Showing {
    let about = format!(
        "One PostgreSQL and one Redis for all nodes, which share the processors of one machine: what more nodes *cost* is seen \
         here, not what they bring. {} messages a second in all, {} subscribers in each channel, so {} deliveries a second \
         whatever the number of nodes. **total**: {} clients in all; **per node**: {} clients for each node, as far as files \
         and memory allow.",
        grouped(args.rate),
        args.subscribers,
        grouped(args.rate * args.subscribers as f64),
        grouped(args.clients as f64),
        grouped(args.clients_per_node as f64)
    );
    Showing {
        title: "Scenario C: more nodes".to_owned(),
        about,
        more: format!("{}\n{}", costs(&report.points), idle(&report.points)),
        plots: plots(args, &report.points),
    }
}

/// What a message costs, by number of nodes.
fn costs(points: &[Point]) -> String {
    let rows: Vec<Vec<String>> = points
        .iter()
        .filter(|point| point.rate > 0.0)
        .map(|point| {
            let messages = point.achieved_per_second * point.window_seconds;
            let each = |amount: f64, digits: usize| match messages > 0.0 {
                true => format!("{:.digits$}", amount / messages),
                false => "-".to_owned(),
            };
            vec![
                point.reading.clone(),
                point.nodes.to_string(),
                each(point.cpu.redis * 1e6, 1),
                each(point.redis.publishes as f64, 2),
                each(point.counted.hints as f64, 2),
                each(point.redis.output_bytes as f64, 0),
                each(point.cpu.postgres * 1e6, 0),
                each(point.counted.batches as f64, 2),
                each(point.cpu.nodes * 1e6, 0),
            ]
        })
        .collect();
    let head = [
        "for each message",
        "nodes",
        "Redis: CPU µs",
        "publishes",
        "hints that arrived",
        "bytes out of Redis",
        "PostgreSQL: CPU µs",
        "commits",
        "all nodes: CPU µs",
    ];
    table(&head, &rows)
}

/// What the connected cluster costs without any load, and memory.
fn idle(points: &[Point]) -> String {
    let rows: Vec<Vec<String>> = points
        .iter()
        .filter(|point| point.reading == "idle")
        .map(|point| {
            let each = point.nodes as f64;
            let share = |seconds: f64| format!("{:.2}", point.cores(seconds) / each * 100.0);
            vec![
                point.nodes.to_string(),
                grouped(point.clients as f64),
                share(point.cpu.nodes),
                share(point.cpu.postgres),
                share(point.cpu.redis),
                format!("{:.2}", point.node_kib_per_client),
                format!("{:.2}", point.kernel_kib_per_client),
                format!("{:.1}", point.connect_seconds),
            ]
        })
        .collect();
    let head = [
        "nodes without load",
        "clients",
        "CPU of a node, % of one",
        "PostgreSQL for each node, %",
        "Redis for each node, %",
        "KiB of a node for a client",
        "KiB of the kernel for both ends",
        "connected in s",
    ];
    table(&head, &rows)
}

fn plots(args: &ScenarioCArgs, points: &[Point]) -> Vec<(&'static str, Plot)> {
    let line = |reading: &'static str, pick: fn(&Point) -> f64| {
        points
            .iter()
            .filter(move |point| point.reading == reading)
            .map(move |point| (point.nodes as f64, pick(point)))
    };
    let about = format!(
        "{} messages/s, {} deliveries/s, one machine for all nodes",
        grouped(args.rate),
        grouped(args.rate * args.subscribers as f64)
    );
    let nodes = ("nodes", Scale::Logarithmic);
    let latency = Plot::new(
        "Delivery latency against nodes",
        &about,
        nodes,
        ("milliseconds", Scale::Logarithmic),
    )
    .line("p50, total", line(TOTAL, Point::p50_ms))
    .line("p99, total", line(TOTAL, Point::p99_ms))
    .line("p50, per node", line(PER_NODE, Point::p50_ms))
    .line("p99, per node", line(PER_NODE, Point::p99_ms))
    .rule(Rule::Horizontal(
        args.load.p99_max_ms,
        format!("bound {} ms", args.load.p99_max_ms),
    ));
    let redis = Plot::new(
        "Redis for each message, against nodes",
        &about,
        nodes,
        ("CPU microseconds", Scale::Linear),
    )
    .line("total", line(TOTAL, redis_us))
    .line("per node", line(PER_NODE, redis_us));
    let cores = Plot::new(
        "Processors that are kept busy, against nodes",
        &about,
        nodes,
        ("processors", Scale::Linear),
    )
    .line(
        "nodes, total",
        line(TOTAL, |point| point.cores(point.cpu.nodes)),
    )
    .line(
        "PostgreSQL, total",
        line(TOTAL, |point| point.cores(point.cpu.postgres)),
    )
    .line(
        "Redis, total",
        line(TOTAL, |point| point.cores(point.cpu.redis)),
    )
    .line(
        "nodes, per node",
        line(PER_NODE, |point| point.cores(point.cpu.nodes)),
    );
    vec![("latency", latency), ("redis", redis), ("cores", cores)]
}

fn redis_us(point: &Point) -> f64 {
    point.cpu.redis * 1e6 / (point.achieved_per_second * point.window_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_of_a_message() {
        let point = Point {
            reading: TOTAL.to_owned(),
            nodes: 2,
            rate: 100.0,
            achieved_per_second: 100.0,
            window_seconds: 10.0,
            cpu: crate::scenario::Cpu {
                redis: 0.02,
                postgres: 0.1,
                nodes: 1.0,
                ..crate::scenario::Cpu::default()
            },
            ..Point::default()
        };
        let text = costs(std::slice::from_ref(&point));
        assert!(
            text.contains("| total | 2 | 20.0 | 0.00 | 0.00 | 0 | 100 | 0.00 | 1000 |"),
            "{text}"
        );
        assert!((redis_us(&point) - 20.0).abs() < 1e-9);
        let nothing = Point {
            rate: 1.0,
            ..Point::default()
        };
        assert!(costs(&[nothing]).contains("| - |"));
    }
}
