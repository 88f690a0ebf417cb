//! One measured load on one cluster.

use serde::{Deserialize, Serialize};

use crate::counters::{NodeCounters, PostgresCounters, RedisCounters};
use crate::output::{grouped, ms, table};
use crate::report::LatencySummary;
use crate::statistics::span;

/// Processor time within the measured window, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Of all nodes together.
    pub nodes: f64,
    /// Of Redis.
    pub redis: f64,
    /// Of PostgreSQL, with all its processes.
    pub postgres: f64,
    /// Of the load generator, with all its processes.
    pub generator: f64,
}

/// One measured load.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Which part of its scenario it belongs to: `a1`, `total`, `idle` …
    pub reading: String,
    /// Nodes.
    pub nodes: usize,
    /// Subscribed clients, one subscription each.
    pub clients: usize,
    /// Channels; clients are spread over them evenly.
    pub channels: usize,
    /// Size of the data of a message, in bytes.
    pub size: usize,
    /// Messages per second asked for.
    pub rate: f64,
    /// Messages per second acknowledged within the window.
    pub achieved_per_second: f64,
    /// Deliveries per second asked for: the rate times the subscribers of a channel.
    pub asked_deliveries_per_second: f64,
    /// Deliveries per second within the window.
    pub deliveries_per_second: f64,
    /// Length of the window, in seconds.
    pub window_seconds: f64,
    /// Messages acknowledged in all, warm-up included.
    pub acknowledged: u64,
    /// Deliveries that should have arrived, warm-up included.
    pub expected: u64,
    /// Deliveries that did.
    pub delivered: u64,
    /// Clients that lacked something when patience ran out.
    pub incomplete: usize,
    /// From the last acknowledgement until the last delivery, in seconds.
    pub drain_seconds: f64,
    /// From the time at which a message should have been sent to its arrival at each subscriber.
    pub delivery: LatencySummary,
    /// From the same time to the acknowledgement: the commit is flushed.
    pub ack: LatencySummary,
    /// The 99th percentile of each repetition, in milliseconds.
    pub p99_ms_of_repeats: Vec<f64>,
    /// Processor time in the window.
    pub cpu: Cpu,
    /// What the nodes counted in the window.
    pub counted: NodeCounters,
    /// What Redis counted in the window.
    pub redis: RedisCounters,
    /// What PostgreSQL counted from before the warm-up until after the last delivery.
    pub postgres: PostgresCounters,
    /// The busiest process of the load generator, as a share of one processor.
    pub generator_share: f64,
    /// Resident memory of all nodes per client, KiB, beyond what they had before the first one; 0 where it was not measured.
    pub node_kib_per_client: f64,
    /// The kernel's memory per client, KiB, for both ends of the connection; 0 where it was not measured.
    pub kernel_kib_per_client: f64,
    /// How long the clients took to connect, in seconds.
    pub connect_seconds: f64,
    /// Complete, at the rate, and within the bound.
    pub held: bool,
    /// What it did not hold.
    pub reasons: Vec<String>,
}

impl Point {
    /// Subscribers of a channel.
    pub fn subscribers(&self) -> f64 {
        self.clients as f64 / self.channels.max(1) as f64
    }

    /// The 99th percentile of the delivery latency, in milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.delivery.p99_us as f64 / 1_000.0
    }

    /// The median of the delivery latency, in milliseconds.
    pub fn p50_ms(&self) -> f64 {
        self.delivery.p50_us as f64 / 1_000.0
    }

    /// Processors that `seconds` of processor time kept busy.
    pub fn cores(&self, seconds: f64) -> f64 {
        if self.window_seconds > 0.0 {
            seconds / self.window_seconds
        } else {
            0.0
        }
    }
}

/// The points as a table in Markdown.
pub(super) fn points_table(points: &[Point]) -> String {
    let head = [
        "reading",
        "nodes",
        "clients",
        "channels",
        "messages/s",
        "deliveries/s asked for",
        "delivered",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "slowest ms",
        "acknowledged p99 ms",
        "cores: nodes",
        "PostgreSQL",
        "Redis",
        "busiest client process",
        "held",
    ];
    let rows: Vec<Vec<String>> = points
        .iter()
        .filter(|point| point.rate > 0.0)
        .map(row)
        .collect();
    table(&head, &rows)
}

fn row(point: &Point) -> Vec<String> {
    let latency = &point.delivery;
    let p99 = match point.p99_ms_of_repeats.len() {
        0 | 1 => ms(latency.p99_us),
        _ => {
            let (low, high) = span(&point.p99_ms_of_repeats);
            format!("{} ({low:.0} to {high:.0})", ms(latency.p99_us))
        }
    };
    let cores = |seconds: f64| format!("{:.2}", point.cores(seconds));
    vec![
        point.reading.clone(),
        point.nodes.to_string(),
        grouped(point.clients as f64),
        grouped(point.channels as f64),
        grouped(point.rate),
        grouped(point.asked_deliveries_per_second),
        share(point.delivered, point.expected),
        ms(latency.p50_us),
        p99,
        ms(latency.p999_us),
        ms(latency.max_us),
        ms(point.ack.p99_us),
        cores(point.cpu.nodes),
        cores(point.cpu.postgres),
        cores(point.cpu.redis),
        format!("{:.0} %", point.generator_share * 100.0),
        if point.held {
            "yes".to_owned()
        } else {
            format!("no: {}", point.reasons.join(", "))
        },
    ]
}

/// What arrived of what should have.
pub(super) fn share(delivered: u64, expected: u64) -> String {
    if delivered >= expected {
        return format!("{}, all", grouped(delivered as f64));
    }
    let percent = delivered as f64 / expected as f64 * 100.0;
    format!(
        "{} of {} ({percent:.2} %)",
        grouped(delivered as f64),
        grouped(expected as f64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_says_what_was_asked_and_what_came_of_it() {
        let point = Point {
            reading: "a1".to_owned(),
            nodes: 4,
            clients: 10_000,
            channels: 100,
            rate: 1_000.0,
            asked_deliveries_per_second: 100_000.0,
            expected: 2_000_000,
            delivered: 1_999_999,
            window_seconds: 20.0,
            cpu: Cpu {
                nodes: 19.0,
                ..Cpu::default()
            },
            p99_ms_of_repeats: vec![90.0, 110.0],
            reasons: vec!["p99".to_owned()],
            ..Point::default()
        };
        assert_eq!(
            (point.subscribers(), point.cores(point.cpu.nodes)),
            (100.0, 0.95)
        );
        let idle = Point::default();
        let text = points_table(&[point, idle]);
        assert_eq!(
            text.lines().count(),
            3,
            "an idle cluster is no load: {text}"
        );
        assert!(
            text.contains("| 100,000 | 1,999,999 of 2,000,000 (100.00 %) |"),
            "{text}"
        );
        assert!(
            text.contains("(90 to 110)") && text.contains("| no: p99 |"),
            "{text}"
        );
        assert_eq!(share(5, 5), "5, all");
    }
}
