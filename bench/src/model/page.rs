//! The page of `fanfare bench model`.

use std::fmt::Write as _;

use crate::model::check::{Comparison, TOLERANCE};
use crate::model::costs::UnitCosts;
use crate::model::predict::{Machine, Prediction};
use crate::output::{grouped, table};

// Writing to a string does not fail, so results are dropped throughout.

/// The whole page.
pub(super) fn render(
    costs: &UnitCosts,
    machine: &Machine,
    predictions: &[Prediction],
    comparisons: &[Comparison],
) -> String {
    let mut page = "# What a load needs\n\n".to_owned();
    let _ = writeln!(
        page,
        "By `fanfare bench model`, from unit costs of: {}. A node has {} processors like those of the measurement, of which \
         {:.0} % may be busy, {} GiB for connections, at most {} connections, {} Gbit/s, and passes of at most {} ms.\n",
        costs.sources.join(", "),
        machine.cores,
        machine.utilisation * 100.0,
        machine.memory_gib,
        grouped(machine.connections),
        machine.network_gbits,
        machine.pass_max_ms
    );
    page.push_str(&loads(predictions));
    page.push_str("\n## Unit costs\n\n");
    page.push_str(&unit_costs(costs));
    page.push_str("\n## Against what was measured\n\n");
    page.push_str(&against(comparisons));
    page
}

fn loads(predictions: &[Prediction]) -> String {
    let rows: Vec<Vec<String>> = predictions.iter().map(row).collect();
    let head = [
        "load",
        "clients",
        "messages/s",
        "subscribers",
        "deliveries/s",
        "nodes",
        "because of",
        "cores of all nodes",
        "messages in a write",
        "pass ms",
        "to clients",
        "memory",
        "Redis: hints/s",
        "cores",
        "masters",
        "out of it",
        "PostgreSQL: commits/s",
        "cores",
        "WAL",
    ];
    table(&head, &rows)
}

fn row(prediction: &Prediction) -> Vec<String> {
    let load = &prediction.workload;
    vec![
        load.name.clone(),
        grouped(load.clients),
        grouped(load.rate),
        grouped(load.subscribers),
        grouped(prediction.deliveries_per_second),
        prediction
            .nodes
            .map_or_else(|| "-".to_owned(), |nodes| grouped(nodes as f64)),
        prediction.because_of.to_owned(),
        short(prediction.node_cores),
        short(prediction.messages_per_write),
        short(prediction.pass_ms),
        bytes(prediction.client_bytes_per_second),
        format!("{} GiB", short(prediction.memory_gib)),
        grouped(prediction.hints_per_second),
        short(prediction.redis_cores),
        prediction.redis_masters.to_string(),
        bytes(prediction.redis_bytes_per_second),
        grouped(prediction.batches_per_second),
        short(prediction.postgres_cores),
        bytes(prediction.wal_bytes_per_second),
    ]
}

fn unit_costs(costs: &UnitCosts) -> String {
    let (node, redis, postgres) = (&costs.node, &costs.redis, &costs.postgres);
    let rows: Vec<Vec<String>> = [
        ("node: a write", node.write_us, "µs"),
        ("node: a KiB written", node.kib_us, "µs"),
        ("node: a message over HTTP", node.message_us, "µs"),
        ("node: a batch", node.batch_us, "µs"),
        ("node: a hint that arrives", node.hint_us, "µs"),
        ("node: a second without load", node.idle_us, "µs"),
        (
            "node: an idle connection for a second",
            node.connection_us,
            "µs",
        ),
        ("node: an idle connection", node.connection_kib, "KiB"),
        (
            "kernel: an idle connection, one end",
            node.kernel_kib,
            "KiB",
        ),
        ("Redis: a hint published", redis.publish_us, "µs"),
        ("Redis: a hint sent to a node", redis.delivery_us, "µs"),
        ("Redis: a node for a second", redis.idle_us, "µs"),
        ("PostgreSQL: a message", postgres.message_us, "µs"),
        ("PostgreSQL: a batch", postgres.batch_us, "µs"),
        ("PostgreSQL: a node for a second", postgres.idle_us, "µs"),
        ("PostgreSQL: WAL for a message", postgres.wal_bytes, "bytes"),
        ("a frame beyond its data", costs.frame_bytes, "bytes"),
        (
            "until a message is committed, median",
            costs.commit_ms,
            "ms",
        ),
    ]
    .into_iter()
    .map(|(name, value, unit)| vec![name.to_owned(), format!("{} {unit}", short(value))])
    .collect();
    let mut text = table(&["what", "cost"], &rows);
    text.push_str(
        "\nA cost of 0 could not be told apart from the others by these measurements; it is contained in them.\n",
    );
    text
}

fn against(comparisons: &[Comparison]) -> String {
    if comparisons.is_empty() {
        return "Nothing was measured that the model was not made from.\n".to_owned();
    }
    let pair = |(measured, predicted): (f64, f64)| format!("{measured:.3} / {predicted:.3}");
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .map(|one| {
            vec![
                one.what.clone(),
                pair(one.nodes),
                pair(one.redis),
                pair(one.postgres),
                format!(
                    "{:.2} / {:.2}",
                    one.messages_per_write.0, one.messages_per_write.1
                ),
                if one.misses().is_empty() {
                    "yes"
                } else {
                    "**no**"
                }
                .to_owned(),
            ]
        })
        .collect();
    let within = format!("within {TOLERANCE} x");
    let head = [
        "measured load, not part of the model",
        "cores of all nodes: measured / predicted",
        "Redis",
        "PostgreSQL",
        "messages in a write",
        within.as_str(),
    ];
    table(&head, &rows)
}

/// A number with what precision is worth showing.
fn short(value: f64) -> String {
    match value {
        large if large >= 100.0 => grouped(large),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small if small >= 0.01 || small == 0.0 => format!("{small:.2}"),
        tiny => format!("{tiny:.4}"),
    }
}

/// Bytes a second.
fn bytes(value: f64) -> String {
    let (scaled, unit) = match value {
        giga if giga >= 1e9 => (giga / 1e9, "GB/s"),
        mega if mega >= 1e6 => (mega / 1e6, "MB/s"),
        kilo => (kilo / 1e3, "kB/s"),
    };
    format!("{} {unit}", short(scaled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::costs::tests::invented;
    use crate::model::predict::{Workload, predict};

    #[test]
    fn a_page_has_the_loads_the_costs_and_the_comparison() {
        let machine = Machine {
            cores: 8.0,
            utilisation: 0.5,
            memory_gib: 16.0,
            connections: 250_000.0,
            network_gbits: 10.0,
            pass_max_ms: 50.0,
        };
        let workload = Workload {
            name: "a load".to_owned(),
            clients: 1e7,
            rate: 1e4,
            subscribers: 100.0,
            size: 200.0,
            nodes: None,
        };
        let costs = invented();
        let predictions = [predict(&costs, &workload, &machine)];
        let comparison = Comparison {
            what: "one".to_owned(),
            nodes: (1.0, 2.0),
            redis: (0.1, 0.1),
            postgres: (0.2, 0.2),
            messages_per_write: (1.0, 1.0),
        };
        let page = render(&costs, &machine, &predictions, &[comparison]);
        assert!(
            page.contains("| a load | 10,000,000 | 10,000 | 100 | 1,000,000 | 40 | connections |"),
            "{page}"
        );
        assert!(
            page.contains("300.0 MB/s") || page.contains("300 MB/s"),
            "{page}"
        );
        assert!(page.contains("| node: a write | 4.00 µs |"), "{page}");
        assert!(
            page.contains("| one | 1.000 / 2.000 |") && page.contains("**no**"),
            "{page}"
        );
        assert!(render(&costs, &machine, &[], &[]).contains("Nothing was measured"));
    }
}
