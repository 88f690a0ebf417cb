//! What a load needs, by unit costs.

use serde::Serialize;

use crate::model::costs::UnitCosts;

/// Beyond so many nodes a load is said not to be carried.
const NODES_MAX: u64 = 1_000_000;

/// The share of a node's network that is used.
const NETWORK_SHARE: f64 = 0.5;

/// Redis works on one processor; beyond this share of it hints wait.
const REDIS_SHARE: f64 = 0.5;

/// A load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Workload {
    /// What it is.
    pub(super) name: String,
    /// Clients, one subscription each.
    pub(super) clients: f64,
    /// Messages a second, over all channels, evenly.
    pub(super) rate: f64,
    /// Subscribers of a channel.
    pub(super) subscribers: f64,
    /// Size of the data of a message, in bytes.
    pub(super) size: f64,
    /// Nodes; as few as carry it when not said.
    pub(super) nodes: Option<u64>,
}

impl Workload {
    /// Messages times those who get them.
    pub(super) fn deliveries_per_second(&self) -> f64 {
        self.rate * self.subscribers
    }

    /// Channels.
    fn channels(&self) -> f64 {
        (self.clients / self.subscribers).max(1.0)
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// Processors, like those of the measurement.
    pub(super) cores: f64,
    /// The share of them that may be busy.
    pub(super) utilisation: f64,
    /// Memory for connections, GiB.
    pub(super) memory_gib: f64,
    /// The most connections.
    pub(super) connections: f64,
    /// Network, Gbit/s.
    pub(super) network_gbits: f64,
    /// The longest pass over one channel, in milliseconds.
    pub(super) pass_max_ms: f64,
}

/// What a load needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Prediction {
    /// The load.
    pub(super) workload: Workload,
    /// Nodes; absent when no number of them carries it.
    pub(super) nodes: Option<u64>,
    /// What asks for so many.
    pub(super) because_of: &'static str,
    /// Deliveries a second.
    pub(super) deliveries_per_second: f64,
    /// Messages that leave in one write.
    pub(super) messages_per_write: f64,
    /// Processors that all nodes keep busy.
    pub(super) node_cores: f64,
    /// Bytes a second to clients, of all nodes.
    pub(super) client_bytes_per_second: f64,
    /// Memory of all nodes for connections, kernel included, GiB.
    pub(super) memory_gib: f64,
    /// Hints a second that leave Redis.
    pub(super) hints_per_second: f64,
    /// Processors that Redis keeps busy.
    pub(super) redis_cores: f64,
    /// Masters of a Redis cluster that it takes.
    pub(super) redis_masters: u64,
    /// Bytes a second that leave Redis.
    pub(super) redis_bytes_per_second: f64,
    /// Commits a second.
    pub(super) batches_per_second: f64,
    /// Processors that PostgreSQL keeps busy.
    pub(super) postgres_cores: f64,
    /// Bytes a second of the write-ahead log.
    pub(super) wal_bytes_per_second: f64,
    /// How long a pass over the subscribers of one channel takes on one processor of a node, in milliseconds: about what
    /// the last of them waits longer than the first.
    pub(super) pass_ms: f64,
}

/// What `workload` needs on nodes of this kind.
pub(crate) fn predict(costs: &UnitCosts, workload: &Workload, machine: &Machine) -> Prediction {
    if let Some(nodes) = workload.nodes {
        return on(costs, workload, machine, nodes);
    }
    let carried =
        |nodes: u64| exceeds(&on(costs, workload, machine, nodes), machine, nodes).is_none();
    // Each of the limits is per node, and what a node has to carry falls with their number.
    let mut high = 1;
    while !carried(high) {
        if high >= NODES_MAX {
            let mut prediction = on(costs, workload, machine, high);
            prediction.nodes = None;
            prediction.because_of = "no number of nodes carries it";
            return prediction;
        }
        high *= 2;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if carried(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let mut prediction = on(costs, workload, machine, high);
    if let Some(limit) = high
        .checked_sub(1)
        .filter(|fewer| *fewer > 0)
        .and_then(|fewer| exceeds(&on(costs, workload, machine, fewer), machine, fewer))
    {
        prediction.because_of = limit;
    }
    prediction
}

/// Which limit of a node so many of them would exceed.
fn exceeds(prediction: &Prediction, machine: &Machine, nodes: u64) -> Option<&'static str> {
    let each = |all: f64| all / nodes as f64;
    let network = machine.network_gbits * 1e9 / 8.0 * NETWORK_SHARE;
    [
        (
            each(prediction.node_cores) > machine.cores * machine.utilisation,
            "processors",
        ),
        (
            each(prediction.workload.clients) > machine.connections,
            "connections",
        ),
        (each(prediction.memory_gib) > machine.memory_gib, "memory"),
        (
            each(prediction.client_bytes_per_second) > network,
            "network",
        ),
    ]
    .into_iter()
    .chain([(prediction.pass_ms > machine.pass_max_ms, "latency")])
    .find_map(|(is_exceeded, limit)| is_exceeded.then_some(limit))
}

/// What the load comes to on so many nodes.
fn on(costs: &UnitCosts, workload: &Workload, machine: &Machine, nodes: u64) -> Prediction {
    let count = nodes as f64;
    let (rate, subscribers, clients) = (workload.rate, workload.subscribers, workload.clients);
    let deliveries = workload.deliveries_per_second();
    let bytes = deliveries * (workload.size + costs.frame_bytes);

    // A pass goes over the subscribers of one channel that one processor has; what comes meanwhile leaves with the next.
    let node = &costs.node;
    let frame_kib = (workload.size + costs.frame_bytes) / 1024.0;
    let local = (subscribers / (count * machine.cores)).max(1.0);
    let per_channel = rate / workload.channels();
    let per_write = together(
        per_channel,
        local,
        node.write_us / 1e6,
        node.kib_us * frame_kib / 1e6,
        machine.utilisation,
    );
    let pass_seconds =
        local * (node.write_us + per_write * node.kib_us * frame_kib) / 1e6 / machine.utilisation;
    let writes = deliveries / per_write;

    let batches = batches(rate, count, costs.commit_ms);
    let publishes = pairs(rate, batches, workload.channels());
    let reached = reached(count, subscribers);
    let hints = publishes * reached;

    let node_us = writes * node.write_us
        + bytes / 1024.0 * node.kib_us
        + rate * node.message_us
        + batches * node.batch_us
        + hints * node.hint_us
        + count * node.idle_us
        + clients * node.connection_us;
    let redis = &costs.redis;
    let redis_us = publishes * redis.publish_us + hints * redis.delivery_us + count * redis.idle_us;
    let postgres = &costs.postgres;
    let postgres_us =
        rate * postgres.message_us + batches * postgres.batch_us + count * postgres.idle_us;
    Prediction {
        workload: workload.clone(),
        nodes: Some(nodes),
        because_of: "one is enough",
        deliveries_per_second: deliveries,
        messages_per_write: per_write,
        node_cores: node_us / 1e6,
        client_bytes_per_second: bytes,
        memory_gib: clients * (node.connection_kib + node.kernel_kib) / (1024.0 * 1024.0),
        hints_per_second: hints,
        redis_cores: redis_us / 1e6,
        redis_masters: (redis_us / 1e6 / REDIS_SHARE).ceil().max(1.0) as u64,
        redis_bytes_per_second: hints * (rate / publishes * workload.size + redis.hint_bytes),
        batches_per_second: batches,
        postgres_cores: postgres_us / 1e6,
        wal_bytes_per_second: rate * postgres.wal_bytes,
        pass_ms: pass_seconds * 1e3,
    }
}

/// Messages of one channel that gather while a pass over `local` sockets goes on: the solution of
/// `c = rate * local * (write + c * copy) / share`, at least 1. Where copying alone takes longer than the messages give
/// time for, there is none: nothing gathers fast enough, and the processors decide.
fn together(rate: f64, local: f64, write: f64, copy: f64, share: f64) -> f64 {
    let gathered = rate * local / share;
    let rest = 1.0 - gathered * copy;
    if rest <= 0.0 {
        // As many as come within a second: what cannot be carried is refused by the number of processors.
        return rate.max(1.0);
    }
    (gathered * write / rest).clamp(1.0, rate.max(1.0))
}

/// Nodes on which a channel has subscribers, when they are anywhere.
pub(super) fn reached(nodes: f64, subscribers: f64) -> f64 {
    nodes * (1.0 - (1.0 - 1.0 / nodes).powf(subscribers))
}

/// Batches a second: while one is under way, the next one gathers.
fn batches(rate: f64, nodes: f64, commit_ms: f64) -> f64 {
    let most = match commit_ms > 0.0 {
        true => nodes * 1e3 / commit_ms,
        false => rate,
    };
    rate.min(most)
}

/// Hints a second: one for each channel of each batch.
fn pairs(rate: f64, batches: f64, channels: f64) -> f64 {
    if batches <= 0.0 {
        return 0.0;
    }
    let in_batch = rate / batches;
    batches * channels * (1.0 - (1.0 - 1.0 / channels).powf(in_batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::costs::tests::invented;

    const MACHINE: Machine = Machine {
        cores: 8.0,
        utilisation: 0.5,
        memory_gib: 16.0,
        connections: 250_000.0,
        network_gbits: 10.0,
        pass_max_ms: 50.0,
    };

    fn load(clients: f64, rate: f64, subscribers: f64) -> Workload {
        Workload {
            name: "test".to_owned(),
            clients,
            rate,
            subscribers,
            size: 200.0,
            nodes: None,
        }
    }

    #[test]
    fn a_small_load_needs_one_node_and_a_large_one_as_few_as_carry_it() {
        let costs = invented();
        let small = predict(&costs, &load(1_000.0, 10.0, 10.0), &MACHINE);
        assert_eq!((small.nodes, small.because_of), (Some(1), "one is enough"));
        let large = predict(&costs, &load(1e7, 1e4, 100.0), &MACHINE);
        let nodes = large.nodes.unwrap();
        assert_eq!((nodes, large.because_of), (40, "connections"));
        let fewer = on(&costs, &large.workload, &MACHINE, nodes - 1);
        assert!(exceeds(&fewer, &MACHINE, nodes - 1).is_some());
        assert!(exceeds(&large, &MACHINE, nodes).is_none());
    }

    #[test]
    fn more_of_anything_never_costs_less() {
        let costs = invented();
        let base = predict(&costs, &load(1e5, 1e3, 100.0), &MACHINE);
        for more in [
            load(1e6, 1e3, 100.0),
            load(1e5, 1e4, 100.0),
            load(1e5, 1e3, 1e3),
        ] {
            let more = predict(&costs, &more, &MACHINE);
            assert!(
                more.nodes >= base.nodes && more.node_cores > base.node_cores * 0.99,
                "{more:?}"
            );
            assert!(
                more.redis_cores >= base.redis_cores && more.postgres_cores >= base.postgres_cores
            );
        }
    }

    #[test]
    fn messages_gather_only_where_passes_are_long() {
        let costs = invented();
        let quick = on(&costs, &load(1e4, 1e3, 100.0), &MACHINE, 4);
        assert_eq!(quick.messages_per_write, 1.0);
        let slow = on(&costs, &load(1e4, 1e3, 1e4), &MACHINE, 1);
        // 1,250 sockets of 4 us at half a processor: 10 ms and half as much again for the bytes, at 1,000 messages a second.
        assert!((15.0..17.0).contains(&slow.messages_per_write), "{slow:?}");
        assert!(
            slow.node_cores
                < on(
                    &costs,
                    &load(1e4, 1e3, 1e4),
                    &Machine {
                        cores: 64.0,
                        ..MACHINE
                    },
                    1
                )
                .node_cores
        );
    }

    #[test]
    fn a_large_channel_is_spread_until_its_passes_are_short() {
        let prediction = predict(&invented(), &load(1e7, 1.0, 1e7), &MACHINE);
        let nodes = prediction.nodes.unwrap();
        assert_eq!(prediction.because_of, "latency");
        // 50 ms at half a processor are 6,000 sockets of 4.15 us, on each of 8 processors.
        assert!((200..220).contains(&nodes), "{prediction:?}");
        assert!(prediction.pass_ms <= MACHINE.pass_max_ms);
    }

    #[test]
    fn what_no_number_of_nodes_carries_is_said() {
        let mut costs = invented();
        costs.node.idle_us = 1e8;
        let prediction = predict(&costs, &load(10.0, 1.0, 1.0), &MACHINE);
        assert_eq!(prediction.nodes, None);
    }

    #[test]
    fn hints_go_to_nodes_with_subscribers_only() {
        let costs = invented();
        let few = on(&costs, &load(1e4, 100.0, 2.0), &MACHINE, 16);
        assert!(few.hints_per_second < 100.0 * 2.0 + 1e-6, "{few:?}");
        let many = on(&costs, &load(1e4, 100.0, 1e4), &MACHINE, 16);
        assert!((many.hints_per_second - 1_600.0).abs() < 1.0, "{many:?}");
    }

    #[test]
    fn batches_gather_while_one_is_under_way() {
        assert_eq!(batches(100.0, 4.0, 2.0), 100.0);
        assert_eq!(batches(1e5, 4.0, 2.0), 2_000.0);
        assert!((pairs(100.0, 100.0, 50.0) - 100.0).abs() < 1e-6);
        assert!((pairs(1e5, 1_000.0, 1.0) - 1_000.0).abs() < 1e-6);
    }
}
