//! The command line of `fanfare bench model`.

use std::path::PathBuf;

use clap::Args;

use crate::error::BenchError;
use crate::mode::positive;
use crate::model::predict::{Machine, Workload};

/// `fanfare bench model`.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Folder with the raw figures of `bench fanout`, `bench idle` and `bench scenario a` and `c`.
    #[arg(long, value_name = "DIR", default_value = "docs/benchmarks")]
    pub from: PathBuf,
    /// Use the unit costs in this file instead of measured ones.
    #[arg(long, value_name = "FILE")]
    pub costs: Option<PathBuf>,
    /// Clients, one subscription each [default: scenarios A and C taken literally, and ten million clients].
    #[arg(long, requires = "rate", requires = "subscribers")]
    pub clients: Option<f64>,
    /// Messages per second, over all channels.
    #[arg(long, value_name = "PER_SECOND", requires = "clients")]
    pub rate: Option<f64>,
    /// Subscribers of a channel.
    #[arg(long, value_name = "COUNT", requires = "clients")]
    pub subscribers: Option<f64>,
    /// Size of the data of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200.0)]
    pub size: f64,
    /// Nodes; without it, as few as carry the load.
    #[arg(long, value_name = "COUNT")]
    pub nodes: Option<u64>,
    /// Processors of a node, like those of the measurement.
    #[arg(long, value_name = "COUNT", default_value_t = 8.0)]
    pub cores: f64,
    /// The share of them that may be busy: the rest is for peaks, and for nodes that are away.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub utilisation: f64,
    /// Memory of a node for connections, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 16.0)]
    pub memory: f64,
    /// The most connections of a node: open files, and how many may come back at once.
    #[arg(long, value_name = "COUNT", default_value_t = 250_000.0)]
    pub connections: f64,
    /// The network of a node, in Gbit/s; half of it is used.
    #[arg(long, value_name = "GBITS", default_value_t = 10.0)]
    pub network: f64,
    /// The longest that a pass over one channel's subscribers on one processor may take, in milliseconds: about what the last
    /// of them waits longer than the first.
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    pub pass_max_ms: f64,
    /// Folder for the page, the predictions and the unit costs.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl ModelArgs {
    /// What a node is.
    pub(super) fn machine(&self) -> Result<Machine, BenchError> {
        if self.utilisation > 1.0 {
            return Err(BenchError::option("--utilisation", "must be at most 1"));
        }
        Ok(Machine {
            cores: positive("--cores", self.cores)?,
            utilisation: positive("--utilisation", self.utilisation)?,
            memory_gib: positive("--memory", self.memory)?,
            connections: positive("--connections", self.connections)?,
            network_gbits: positive("--network", self.network)?,
            pass_max_ms: positive("--pass-max-ms", self.pass_max_ms)?,
        })
    }

    /// Which loads: the one that is asked for, or those of the scenarios.
    pub(super) fn workloads(&self) -> Result<Vec<Workload>, BenchError> {
        let size = positive("--size", self.size)?;
        let (Some(clients), Some(rate), Some(subscribers)) =
            (self.clients, self.rate, self.subscribers)
        else {
            return Ok(literal(size));
        };
        let clients = positive("--clients", clients)?;
        let subscribers = positive("--subscribers", subscribers)?;
        if subscribers > clients {
            return Err(BenchError::option(
                "--subscribers",
                "must be at most --clients: one subscription each",
            ));
        }
        if self.nodes == Some(0) {
            return Err(BenchError::option("--nodes", "must be at least 1"));
        }
        Ok(vec![Workload {
            name: "as asked for".to_owned(),
            clients,
            rate: positive("--rate", rate)?,
            subscribers,
            size,
            nodes: self.nodes,
        }])
    }
}

/// The scenarios taken literally, and ten million clients.
fn literal(size: f64) -> Vec<Workload> {
    let load = |name: &str, clients: f64, rate: f64, subscribers: f64| Workload {
        name: name.to_owned(),
        clients,
        rate,
        subscribers,
        size,
        nodes: None,
    };
    vec![
        load("A literally: everybody in one channel", 1e4, 1e3, 1e4),
        load(
            "C literally: 16 times as many, in one channel",
            1.6e5,
            1e3,
            1.6e5,
        ),
        load("10 million clients, channels of 100", 1e7, 1e4, 100.0),
        load("10 million clients, channels of 10,000", 1e7, 1e3, 1e4),
        load("10 million clients in one channel", 1e7, 1.0, 1e7),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        model: ModelArgs,
    }

    fn parse(line: &str) -> Result<ModelArgs, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.model)
    }

    #[test]
    fn without_a_load_the_scenarios_are_taken() {
        let workloads = parse("model").unwrap().workloads().unwrap();
        assert!(workloads.len() >= 4);
        assert!(
            workloads
                .iter()
                .all(|load| load.subscribers <= load.clients)
        );
    }

    #[test]
    fn a_load_is_whole_or_refused() {
        assert!(parse("model --clients 100").is_err());
        let whole = parse("model --clients 100 --rate 5 --subscribers 10").unwrap();
        assert_eq!(whole.workloads().unwrap()[0].deliveries_per_second(), 50.0);
        let more = parse("model --clients 10 --rate 5 --subscribers 100").unwrap();
        assert!(more.workloads().is_err());
        assert!(parse("model --utilisation 1.5").unwrap().machine().is_err());
    }
}
