//! The model against what was measured and is not part of it.

use serde::Serialize;

use crate::model::costs::{Observation, UnitCosts};
use crate::model::predict::{Machine, Workload, predict};
use crate::model::sources::Sources;

/// Predicted processor time may differ from the measured one by this factor either way.
pub(super) const TOLERANCE: f64 = 1.5;

/// Less than this many processors is too little to be told apart from nothing: the kernel counts in hundredths of a second.
const CORES_MIN: f64 = 0.02;

/// The share of the machine that its nodes had: the rest was the generator's and the databases'.
const NODES_SHARE: f64 = 0.5;

/// One measured load and what the model says of it. Processors kept busy, measured and predicted.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Comparison {
    /// Which load.
    pub(super) what: String,
    /// Of all nodes.
    pub(super) nodes: (f64, f64),
    /// Of Redis.
    pub(super) redis: (f64, f64),
    /// Of PostgreSQL.
    pub(super) postgres: (f64, f64),
    /// Messages in one write.
    pub(super) messages_per_write: (f64, f64),
}

impl Comparison {
    /// What is further off than is tolerated.
    pub(super) fn misses(&self) -> Vec<String> {
        [
            ("nodes", self.nodes),
            ("Redis", self.redis),
            ("PostgreSQL", self.postgres),
        ]
        .into_iter()
        .filter(|(_, pair)| !is_near(*pair))
        .map(|(name, (measured, predicted))| {
            format!(
                "{}: {name} {predicted:.3} predicted, {measured:.3} measured",
                self.what
            )
        })
        .collect()
    }
}

fn is_near((measured, predicted): (f64, f64)) -> bool {
    if measured.max(predicted) < CORES_MIN {
        return true;
    }
    let low = measured.min(predicted).max(CORES_MIN / TOLERANCE);
    measured.max(predicted) / low <= TOLERANCE
}

/// Compares every load that was kept for it.
pub(super) fn compare(sources: &Sources, costs: &UnitCosts) -> Vec<Comparison> {
    let checked = sources.observations.iter().filter(|one| one.is_check);
    checked
        .map(|one| compare_one(one, costs, sources.cores))
        .collect()
}

fn compare_one(one: &Observation, costs: &UnitCosts, cores: f64) -> Comparison {
    let workload = Workload {
        name: one.source.clone(),
        clients: one.clients,
        rate: one.messages,
        subscribers: one.clients / one.channels.max(1.0),
        size: one.size,
        nodes: Some(one.nodes as u64),
    };
    let machine = Machine {
        cores: (cores / one.nodes).max(f64::MIN_POSITIVE),
        utilisation: NODES_SHARE,
        memory_gib: f64::INFINITY,
        connections: f64::INFINITY,
        network_gbits: f64::INFINITY,
        pass_max_ms: f64::INFINITY,
    };
    let predicted = predict(costs, &workload, &machine);
    Comparison {
        what: format!(
            "{}: {} nodes, {} clients in {} channels, {:.0} messages/s",
            one.source, one.nodes, one.clients, one.channels, one.messages
        ),
        nodes: (one.node_cores, predicted.node_cores),
        redis: (one.redis_cores.unwrap_or_default(), predicted.redis_cores),
        postgres: (
            one.postgres_cores.unwrap_or_default(),
            predicted.postgres_cores,
        ),
        messages_per_write: (
            one.deliveries / one.writes.max(f64::MIN_POSITIVE),
            predicted.messages_per_write,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::costs::tests::{invented, observe};

    #[test]
    fn a_model_of_invented_costs_predicts_what_it_was_not_told() {
        let truth = invented();
        let mut observations = Vec::new();
        for nodes in [2.0, 16.0] {
            observations.push(observe(&truth, (nodes, 10_000.0, 100.0), 1_000.0, 1.0));
            observations.push(observe(&truth, (nodes, 30_000.0, 300.0), 300.0, 1.0));
        }
        for rate in [10.0, 50.0, 100.0] {
            observations.push(observe(
                &truth,
                (4.0, 10_000.0, 1.0),
                rate,
                1.0 + rate / 20.0,
            ));
        }
        let mut unseen = observe(&truth, (8.0, 20_000.0, 200.0), 700.0, 1.0);
        unseen.is_check = true;
        let costs = UnitCosts::fit(&observations);
        let comparison = compare_one(&unseen, &costs, 2.0);
        assert!(comparison.misses().is_empty(), "{:?}", comparison.misses());
        let (measured, predicted) = comparison.nodes;
        assert!((predicted / measured - 1.0).abs() < 0.1, "{comparison:?}");

        let mut wrong = costs;
        wrong.node.write_us *= 3.0;
        assert_eq!(compare_one(&unseen, &wrong, 2.0).misses().len(), 1);
    }

    #[test]
    fn what_is_too_little_to_be_measured_is_not_compared() {
        assert!(is_near((0.001, 0.019)) && is_near((0.1, 0.14)) && is_near((0.14, 0.1)));
        assert!(!is_near((0.1, 0.16)) && !is_near((0.0, 0.1)));
    }

    /// The figures of this repository, once they are there: those of a release build.
    #[test]
    fn the_measured_scenarios_are_predicted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
        let sources = Sources::read(&folder).unwrap();
        let Ok(costs) = sources.costs() else {
            // Not measured so far: the page of runs must say so, too.
            let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
            assert!(index.contains("not made"), "{index}");
            return;
        };
        assert!(
            !sources.is_debug,
            "figures of a debug build are not for the repository"
        );
        let comparisons = compare(&sources, &costs);
        assert!(!comparisons.is_empty(), "nothing was kept for checking");
        let misses = comparisons.iter().flat_map(Comparison::misses);
        let of_nodes: Vec<String> = misses.filter(|miss| miss.contains(": nodes ")).collect();
        assert!(of_nodes.is_empty(), "{of_nodes:#?}");
        // How large batches are, and with it what PostgreSQL pays for a message, depends on more than the model knows: the page says where
        // it is wrong.
        let page = std::fs::read_to_string(folder.join("model.md")).unwrap();
        for comparison in comparisons {
            let row = page.lines().find(|line| line.contains(&comparison.what));
            let row = row.unwrap_or_else(|| panic!("{} is not on the page", comparison.what));
            let is_told = row.contains("**no**");
            assert_eq!(is_told, !comparison.misses().is_empty(), "{row}");
        }
    }
}
