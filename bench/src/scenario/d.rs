//! `fanfare bench scenario d`: one message to the largest channel that the machine holds, and the time to the last client.

use std::io::Write as _;

use serde::Serialize;

use crate::args::PublishArgs;
use crate::error::BenchError;
use crate::output::{grouped, table};
use crate::plot::{Plot, Scale};
use crate::scenario::args::ScenarioDArgs;
use crate::scenario::limits::most_clients;
use crate::scenario::point::Point;
use crate::scenario::report::{ScenarioReport, Showing};
use crate::scenario::stand::{Stand, StandOptions};
use crate::statistics::{median, span};

/// The most messages at one number of clients.
const MESSAGES_MAX: usize = 1_000;

/// How one message reached everybody.
#[derive(Debug, Clone, Copy, Serialize)]
struct Reach {
    /// Subscribers.
    clients: usize,
    /// From the time at which it should have been sent until the first one had it, in milliseconds.
    first_ms: f64,
    /// Until half of them had it.
    half_ms: f64,
    /// Until the last one had it.
    last_ms: f64,
    /// Until it was acknowledged: committed and flushed.
    acknowledged_ms: f64,
    /// Processor time of all nodes from a second before to its end, in milliseconds.
    nodes_cpu_ms: f64,
    /// Resident memory of the nodes for one client, KiB.
    node_kib_per_client: f64,
    /// The kernel's for both ends of its connection, KiB.
    kernel_kib_per_client: f64,
}

/// Runs it.
pub(super) fn run(args: &ScenarioDArgs) -> Result<(), BenchError> {
    let mut report = ScenarioReport::new("d", args, &args.load.out)?;
    let limit = most_clients(args.nodes);
    let wanted = args.clients.unwrap_or(limit.clients);
    if wanted == 0 || limit.clients == 0 {
        return Err(BenchError::option("--clients", "must be at least 1"));
    }
    if args.messages == 0 || args.messages > MESSAGES_MAX {
        return Err(BenchError::option(
            "--messages",
            format!("must be 1 to {MESSAGES_MAX}"),
        ));
    }
    let clients = wanted.min(limit.clients);
    if clients < wanted {
        let why = format!("{} allow {}", limit.reason, grouped(clients as f64));
        report.not_made(format!("{} clients", grouped(wanted as f64)), why);
    }
    let steps = steps(&args.shares, clients)?;
    let mut reaches = Vec::new();
    for &clients in &steps {
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "{clients} clients");
        let options = StandOptions {
            nodes: args.nodes,
            clients,
            channels: 1,
            reconnect: false,
        };
        // Anew for each: who joins later has not missed what came before.
        let mut stand = Stand::start(options, &args.load, &mut report)?;
        for _ in 0..args.messages {
            let point = stand.load_with("one message", 1.0, &one_message(args))?;
            if !point.reasons.is_empty() && point.incomplete > 0 {
                let reason = format!(
                    "{} of {clients} clients did not get it in time",
                    point.incomplete
                );
                report.verdict.reasons.push(reason);
            }
            reaches.push(reach(&point));
        }
        stand.finish(&mut report)?;
        report.more = serde_json::json!({ "reaches": reaches });
        report.save(&show(args, &reaches))?;
    }
    report.conclude(&show(args, &reaches))
}

/// A schedule of one message.
fn one_message(args: &ScenarioDArgs) -> PublishArgs {
    PublishArgs {
        duration: 1.0,
        warmup: 0.0,
        publishers: Some(args.nodes),
        ..args.load.publish()
    }
}

fn steps(shares: &[f64], clients: usize) -> Result<Vec<usize>, BenchError> {
    if shares.is_empty() || shares.iter().any(|share| !(*share > 0.0 && *share <= 1.0)) {
        return Err(BenchError::option(
            "--shares",
            "must be numbers above 0 and at most 1",
        ));
    }
    let mut steps: Vec<usize> = shares
        .iter()
        .map(|share| ((clients as f64 * share).round() as usize).max(1))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    Ok(steps)
}

fn reach(point: &Point) -> Reach {
    let ms = |us: u64| us as f64 / 1_000.0;
    Reach {
        clients: point.clients,
        first_ms: ms(point.delivery.min_us),
        half_ms: ms(point.delivery.p50_us),
        last_ms: ms(point.delivery.max_us),
        acknowledged_ms: ms(point.ack.max_us),
        nodes_cpu_ms: point.cpu.nodes * 1_000.0,
        node_kib_per_client: point.node_kib_per_client,
        kernel_kib_per_client: point.kernel_kib_per_client,
    }
}

fn show(args: &ScenarioDArgs, reaches: &[Reach]) -> Showing {
    Showing {
        title: "Scenario D: one message to one large channel".to_owned(),
        about: format!(
            "{} nodes, one PostgreSQL, one Redis; {} messages of {} bytes, one after the other, each when the one before has \
             arrived everywhere. Times run from the moment at which the message should have been sent, and contain its \
             commit.",
            args.nodes, args.messages, args.load.size
        ),
        more: reach_table(reaches),
        plots: vec![("last", plot(args, reaches))],
    }
}

fn by_clients(reaches: &[Reach]) -> Vec<Vec<&Reach>> {
    let groups = reaches.chunk_by(|a, b| a.clients == b.clients);
    groups.map(|group| group.iter().collect()).collect()
}

fn middle(group: &[&Reach], pick: fn(&Reach) -> f64) -> f64 {
    let values: Vec<f64> = group.iter().map(|reach| pick(reach)).collect();
    median(&values)
}

fn reach_table(reaches: &[Reach]) -> String {
    let rows: Vec<Vec<String>> = by_clients(reaches)
        .into_iter()
        .map(|group| {
            let lasts: Vec<f64> = group.iter().map(|reach| reach.last_ms).collect();
            let (low, high) = span(&lasts);
            let clients = group.first().map_or(0, |reach| reach.clients);
            let last = median(&lasts);
            vec![
                grouped(clients as f64),
                format!("{:.1}", middle(&group, |reach| reach.acknowledged_ms)),
                format!("{:.1}", middle(&group, |reach| reach.first_ms)),
                format!("{:.1}", middle(&group, |reach| reach.half_ms)),
                format!("**{last:.1}**"),
                format!("{low:.1} to {high:.1}"),
                format!(
                    "{:.2} and {:.2}",
                    middle(&group, |reach| reach.node_kib_per_client),
                    middle(&group, |reach| reach.kernel_kib_per_client)
                ),
                grouped(clients as f64 / last.max(f64::MIN_POSITIVE) * 1_000.0),
            ]
        })
        .collect();
    let head = [
        "clients",
        "acknowledged ms",
        "first client ms",
        "half of them ms",
        "last client ms, median",
        "of all messages",
        "KiB for a client: nodes, and kernel for both ends",
        "clients/s",
    ];
    table(&head, &rows)
}

fn plot(args: &ScenarioDArgs, reaches: &[Reach]) -> Plot {
    let groups = by_clients(reaches);
    let line = |pick: fn(&Reach) -> f64| {
        let groups = groups.iter();
        groups.map(move |group| {
            let clients = group.first().map_or(0, |reach| reach.clients);
            (clients as f64, middle(group, pick))
        })
    };
    Plot::new(
        "One message to one channel: time to the last client",
        &format!(
            "{} nodes on one machine, {} bytes, commit included",
            args.nodes, args.load.size
        ),
        ("clients in the channel", Scale::Linear),
        ("milliseconds", Scale::Linear),
    )
    .line("first client", line(|reach| reach.first_ms))
    .line("half of them", line(|reach| reach.half_ms))
    .line("last client", line(|reach| reach.last_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_numbers_of_clients() {
        assert_eq!(steps(&[1.0, 0.25, 0.5], 1_000).unwrap(), [250, 500, 1_000]);
        assert_eq!(steps(&[0.1, 0.2], 1).unwrap(), [1]);
        assert!(
            steps(&[0.0], 10).is_err() && steps(&[], 10).is_err() && steps(&[1.5], 10).is_err()
        );
    }

    #[test]
    fn the_median_of_the_last_clients_counts() {
        let reach = |clients, last_ms| Reach {
            clients,
            first_ms: 1.0,
            half_ms: 2.0,
            last_ms,
            acknowledged_ms: 0.5,
            nodes_cpu_ms: 9.0,
            node_kib_per_client: 0.8,
            kernel_kib_per_client: 5.0,
        };
        let reaches = [
            reach(10, 4.0),
            reach(10, 8.0),
            reach(10, 5.0),
            reach(20, 10.0),
        ];
        let text = reach_table(&reaches);
        assert!(
            text.contains(
                "| 10 | 0.5 | 1.0 | 2.0 | **5.0** | 4.0 to 8.0 | 0.80 and 5.00 | 2,000 |"
            ),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4);
    }
}
