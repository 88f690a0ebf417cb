//! What one of everything costs, and how that is found from what was measured.

use serde::{Deserialize, Serialize};

use crate::statistics::fit_not_negative;

/// What one of everything costs. Processor time in microseconds of one processor of the machine that was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitCosts {
    /// Of a node.
    pub(crate) node: NodeCosts,
    /// Of Redis.
    pub(crate) redis: RedisCosts,
    /// Of PostgreSQL.
    pub(crate) postgres: PostgresCosts,
    /// Bytes of a frame beyond the data of its message.
    pub(crate) frame_bytes: f64,
    /// From the moment at which a message should have been sent until it is committed, median, in milliseconds: how long a
    /// batch is under way, while the next one gathers.
    pub(crate) commit_ms: f64,
    /// Where the costs are from.
    pub(crate) sources: Vec<String>,
}

/// What a node spends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeCosts {
    /// One write to one socket, whatever it carries.
    pub(crate) write_us: f64,
    /// One KiB written.
    pub(crate) kib_us: f64,
    /// One message taken over HTTP and answered.
    pub(crate) message_us: f64,
    /// One batch handed to PostgreSQL.
    pub(crate) batch_us: f64,
    /// One hint that arrives over the bus.
    pub(crate) hint_us: f64,
    /// A node for a second, without any load.
    pub(crate) idle_us: f64,
    /// An idle connection for a second: pings.
    pub(crate) connection_us: f64,
    /// Memory of an idle connection, KiB.
    pub(crate) connection_kib: f64,
    /// The kernel's memory of an idle connection, one end of it, KiB.
    pub(crate) kernel_kib: f64,
}

/// What Redis spends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisCosts {
    /// One hint published.
    pub(crate) publish_us: f64,
    /// One hint sent on to one node.
    pub(crate) delivery_us: f64,
    /// A node for a second, without any load.
    pub(crate) idle_us: f64,
    /// Bytes that leave Redis for one hint sent on, beyond the data of its message.
    pub(crate) hint_bytes: f64,
}

/// What PostgreSQL spends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresCosts {
    /// One message, as a row.
    pub(crate) message_us: f64,
    /// One batch committed.
    pub(crate) batch_us: f64,
    /// A node for a second, without any load: its sweeps.
    pub(crate) idle_us: f64,
    /// Bytes of the write-ahead log for one message.
    pub(crate) wal_bytes: f64,
}

/// One measured load, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Observation {
    /// Where it is from.
    pub(super) source: String,
    /// Nodes.
    pub(super) nodes: f64,
    /// Connections.
    pub(super) clients: f64,
    /// Channels.
    pub(super) channels: f64,
    /// Size of the data of a message, in bytes.
    pub(super) size: f64,
    /// Messages acknowledged a second.
    pub(super) messages: f64,
    /// Batches committed a second.
    pub(super) batches: f64,
    /// Deliveries a second.
    pub(super) deliveries: f64,
    /// Writes a second.
    pub(super) writes: f64,
    /// KiB written a second.
    pub(super) written_kib: f64,
    /// Hints that arrived at nodes a second.
    pub(super) hints: f64,
    /// Hints published a second; heartbeats are not among them.
    pub(super) publishes: f64,
    /// Bytes that left Redis a second.
    pub(super) redis_bytes: f64,
    /// Processors kept busy by all nodes.
    pub(super) node_cores: f64,
    /// By Redis; absent where there was none.
    pub(super) redis_cores: Option<f64>,
    /// By PostgreSQL; absent where there was none.
    pub(super) postgres_cores: Option<f64>,
    /// Bytes of the write-ahead log for each message.
    pub(super) wal_bytes: f64,
    /// Median time to the acknowledgement, in milliseconds.
    pub(super) commit_ms: f64,
    /// Memory of a node for a connection, KiB; 0 where it was not measured.
    pub(super) node_kib: f64,
    /// The kernel's, both ends, KiB; 0 where it was not measured.
    pub(super) kernel_kib: f64,
    /// Measured against the model, and so not part of it.
    pub(super) is_check: bool,
}

/// Processors kept busy are not known better than this: the kernel counts in hundredths of a second, and other processes disturb.
const CORES_NOISE: f64 = 0.01;

/// Microseconds of a second.
const MICROS: f64 = 1e6;

impl UnitCosts {
    /// The costs with which the observations that are not for checking are explained best.
    pub(super) fn fit(observations: &[Observation]) -> Self {
        let used: Vec<&Observation> = observations.iter().filter(|one| !one.is_check).collect();
        let node = fit(&used, |one| {
            // The embedded log commits within the node.
            let (shared, embedded) = match one.postgres_cores {
                Some(_) => (one.batches, 0.0),
                None => (0.0, one.batches),
            };
            let columns = vec![
                one.writes,
                one.written_kib,
                one.messages,
                shared,
                one.hints,
                one.nodes,
                one.clients,
                embedded,
            ];
            Some((columns, one.node_cores))
        });
        let redis = fit(&used, |one| {
            Some((vec![one.publishes, one.hints, one.nodes], one.redis_cores?))
        });
        let postgres = fit(&used, |one| {
            Some((
                vec![one.messages, one.batches, one.nodes],
                one.postgres_cores?,
            ))
        });
        let mut sources: Vec<String> = used.iter().map(|one| one.source.clone()).collect();
        sources.dedup();
        Self {
            node: NodeCosts {
                write_us: at(&node, 0),
                kib_us: at(&node, 1),
                message_us: at(&node, 2),
                batch_us: at(&node, 3),
                hint_us: at(&node, 4),
                idle_us: at(&node, 5),
                connection_us: at(&node, 6),
                connection_kib: mean(&used, |one| one.clients, |one| one.node_kib),
                kernel_kib: mean(&used, |one| one.clients, |one| one.kernel_kib) / 2.0,
            },
            redis: RedisCosts {
                publish_us: at(&redis, 0),
                delivery_us: at(&redis, 1),
                idle_us: at(&redis, 2),
                hint_bytes: mean(
                    &used,
                    |one| one.hints,
                    |one| (one.redis_bytes / one.hints - one.size).max(0.0),
                ),
            },
            postgres: PostgresCosts {
                message_us: at(&postgres, 0),
                batch_us: at(&postgres, 1),
                idle_us: at(&postgres, 2),
                wal_bytes: mean(&used, |one| one.messages, |one| one.wal_bytes),
            },
            frame_bytes: mean(
                &used,
                |one| one.deliveries,
                |one| (one.written_kib * 1024.0 / one.deliveries - one.size).max(0.0),
            ),
            commit_ms: mean(&used, |_| 1.0, |one| one.commit_ms),
            sources,
        }
    }
}

fn fit(
    observations: &[&Observation],
    equation: impl Fn(&Observation) -> Option<(Vec<f64>, f64)>,
) -> Vec<f64> {
    let rows: Vec<(Vec<f64>, f64)> = observations
        .iter()
        .filter_map(|one| equation(one))
        .collect();
    fit_not_negative(&rows, CORES_NOISE)
        .into_iter()
        .map(|seconds| seconds * MICROS)
        .collect()
}

fn at(costs: &[f64], index: usize) -> f64 {
    costs.get(index).copied().unwrap_or_default()
}

/// The mean of what was measured, each by its weight: what nothing is known of, and what is zero, was not.
fn mean(
    observations: &[&Observation],
    weight: impl Fn(&Observation) -> f64,
    pick: impl Fn(&Observation) -> f64,
) -> f64 {
    let weighed = observations.iter().filter(|one| weight(one) > 0.0);
    let measured = weighed
        .map(|one| (weight(one), pick(one)))
        .filter(|(_, value)| value.is_finite() && *value > 0.0);
    let (weights, sum) = measured.fold((0.0, 0.0), |(weights, sum), (weight, value)| {
        (weights + weight, sum + weight * value)
    });
    if weights > 0.0 { sum / weights } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Costs that no measurement had.
    pub(in crate::model) fn invented() -> UnitCosts {
        UnitCosts {
            node: NodeCosts {
                write_us: 4.0,
                kib_us: 0.5,
                message_us: 40.0,
                batch_us: 60.0,
                hint_us: 12.0,
                idle_us: 2_000.0,
                connection_us: 0.4,
                connection_kib: 0.8,
                kernel_kib: 3.0,
            },
            redis: RedisCosts {
                publish_us: 6.0,
                delivery_us: 2.0,
                idle_us: 100.0,
                hint_bytes: 150.0,
            },
            postgres: PostgresCosts {
                message_us: 30.0,
                batch_us: 120.0,
                idle_us: 500.0,
                wal_bytes: 900.0,
            },
            frame_bytes: 100.0,
            commit_ms: 2.0,
            sources: Vec::new(),
        }
    }

    /// What would be measured if these were the costs.
    pub(in crate::model) fn observe(
        costs: &UnitCosts,
        (nodes, clients, channels): (f64, f64, f64),
        messages: f64,
        per_write: f64,
    ) -> Observation {
        let subscribers = clients / channels;
        let deliveries = messages * subscribers;
        let writes = deliveries / per_write;
        let written_kib = deliveries * (200.0 + costs.frame_bytes) / 1024.0;
        let batches = messages * 0.8;
        let reached = nodes * (1.0 - (1.0 - 1.0 / nodes).powf(subscribers));
        let hints = messages * reached;
        let node = &costs.node;
        let node_us = writes * node.write_us
            + written_kib * node.kib_us
            + messages * node.message_us
            + batches * node.batch_us
            + hints * node.hint_us
            + nodes * node.idle_us
            + clients * node.connection_us;
        let redis = &costs.redis;
        let redis_us =
            messages * redis.publish_us + hints * redis.delivery_us + nodes * redis.idle_us;
        let postgres = &costs.postgres;
        let postgres_us =
            messages * postgres.message_us + batches * postgres.batch_us + nodes * postgres.idle_us;
        Observation {
            source: "invented".to_owned(),
            nodes,
            clients,
            channels,
            size: 200.0,
            messages,
            batches,
            deliveries,
            writes,
            written_kib,
            hints,
            publishes: messages,
            redis_bytes: hints * (200.0 + redis.hint_bytes),
            node_cores: node_us / MICROS,
            redis_cores: Some(redis_us / MICROS),
            postgres_cores: Some(postgres_us / MICROS),
            wal_bytes: postgres.wal_bytes,
            commit_ms: costs.commit_ms,
            node_kib: node.connection_kib,
            kernel_kib: node.kernel_kib * 2.0,
            is_check: false,
        }
    }

    #[test]
    fn costs_explain_what_they_were_found_from() {
        let truth = invented();
        let mut observations = Vec::new();
        for nodes in [2.0, 4.0, 16.0] {
            observations.push(observe(&truth, (nodes, 10_000.0, 100.0), 1_000.0, 1.0));
            observations.push(observe(&truth, (nodes, 40_000.0, 400.0), 200.0, 1.0));
            observations.push(observe(&truth, (nodes, 10_000.0, 1.0), 50.0, 3.0));
            observations.push(observe(&truth, (nodes, 1_000.0, 1.0), 500.0, 8.0));
        }
        let found = UnitCosts::fit(&observations);
        // Batches follow messages here, so only their sum can be told apart from the rest.
        let message = found.node.message_us + 0.8 * found.node.batch_us;
        assert!((message - 88.0).abs() < 1.0, "{found:?}");
        assert!((found.node.write_us - 4.0).abs() < 0.05, "{found:?}");
        assert!((found.node.hint_us - 12.0).abs() < 1.0, "{found:?}");
        assert!((found.redis.publish_us - 6.0).abs() < 0.1, "{found:?}");
        assert!((found.redis.delivery_us - 2.0).abs() < 0.05, "{found:?}");
        assert!((found.frame_bytes - 100.0).abs() < 1e-6);
        assert!((found.redis.hint_bytes - 150.0).abs() < 1e-6);
        assert!((found.node.kernel_kib - 3.0).abs() < 1e-6);
        assert_eq!(found.sources, ["invented"]);
    }

    #[test]
    fn what_is_for_checking_does_not_move_the_costs() {
        let truth = invented();
        let mut observations = vec![
            observe(&truth, (2.0, 1_000.0, 10.0), 100.0, 1.0),
            observe(&truth, (4.0, 1_000.0, 10.0), 300.0, 1.0),
        ];
        let before = UnitCosts::fit(&observations);
        let mut wild = observe(&truth, (8.0, 1_000.0, 10.0), 100.0, 1.0);
        wild.node_cores = 1e3;
        wild.is_check = true;
        observations.push(wild);
        assert_eq!(UnitCosts::fit(&observations), before);
    }
}
