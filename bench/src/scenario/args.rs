//! The command line of `fanfare bench scenario`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::args::PublishArgs;
use crate::faults::ScenarioBArgs;
use crate::system;

/// `fanfare bench scenario`.
#[derive(Debug, Clone, Args)]
pub struct ScenarioArgs {
    /// Which one.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// A story with one end.
#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// Many clients and many messages on several nodes, in the readings A1 (many channels), A2 (one channel, few messages), A3
    /// (one channel, few clients) and literal (one channel, everything), with the knee of the last two.
    A(ScenarioAArgs),
    /// 1,000 messages, Redis killed at the 500th and started again later: all of them are in the database, and every client
    /// gets all of them in order, without anyone triggering anything.
    B(ScenarioBArgs),
    /// The same load on 2, 4, 8 and 16 nodes: once with the same clients in total, once with the same clients for each node.
    C(ScenarioCArgs),
    /// One message to the largest channel that the machine holds: time to the last client.
    D(ScenarioDArgs),
    /// Every connection is cut again and again while messages are published: what arrives, and how soon what was missed is
    /// made good.
    Storm(ScenarioStormArgs),
}

/// What the scenarios have in common.
#[derive(Debug, Clone, Args, Serialize)]
pub struct LoadOptions {
    /// Measured seconds of each load.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub seconds: f64,
    /// Warm-up before each of them, in seconds: verified, but not part of any latency.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub warmup: f64,
    /// How long to wait for the last deliveries, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub drain: f64,
    /// Size of the data of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// Connections to publish on, one request at a time on each.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub publishers: usize,
    /// How often each load is repeated; the median of the 99th percentiles counts, and all are told.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub repeat: usize,
    /// Bound for the 99th percentile of the delivery latency, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub p99_max_ms: f64,
    /// New connections per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 4_000.0)]
    pub connect_rate: f64,
    /// Processes of subscribers, one for each processor when not said: where servers and clients share the processors, a lone one
    /// gets one thread's share of them and measures its own waiting. There are more where that is more than 15,000 for one.
    #[arg(long, value_name = "COUNT", default_value_t = system::processors_shared(1))]
    pub client_processes: usize,
    /// Folder for raw figures, page and plots.
    #[arg(long, value_name = "DIR", default_value = "docs/benchmarks")]
    pub out: PathBuf,
}

impl LoadOptions {
    /// How messages are published.
    pub(crate) fn publish(&self) -> PublishArgs {
        PublishArgs {
            duration: self.seconds,
            warmup: self.warmup,
            size: self.size,
            publishers: Some(self.publishers),
            idempotent: true,
            drain: self.drain,
        }
    }
}

/// A reading of scenario A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// 100 subscribers in each channel.
    A1,
    /// One channel with everybody, 20 messages a second.
    A2,
    /// One channel, the whole rate, as many clients as hold the bound.
    A3,
    /// One channel with everybody, the whole rate, as far as it goes.
    Literal,
}

/// `fanfare bench scenario a`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScenarioAArgs {
    /// Nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub nodes: usize,
    /// Clients.
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
    /// Messages per second of A1, A3 and the literal reading.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000.0)]
    pub rate: f64,
    /// Subscribers of a channel in A1.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub subscribers: usize,
    /// Messages per second of A2.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0)]
    pub a2_rate: f64,
    /// Shares of --clients that A3 goes through, until two in a row do not hold.
    #[arg(long, value_name = "LIST", value_delimiter = ',',
          default_values_t = [0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])]
    pub a3_shares: Vec<f64>,
    /// Shares of --rate that the literal reading goes through, until two in a row do not hold.
    #[arg(long, value_name = "LIST", value_delimiter = ',',
          default_values_t = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])]
    pub literal_shares: Vec<f64>,
    /// Which readings.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Reading::A1, Reading::A2, Reading::A3, Reading::Literal])]
    pub readings: Vec<Reading>,
    /// The load.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadOptions,
}

/// `fanfare bench scenario c`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScenarioCArgs {
    /// Numbers of nodes, one cluster after the other.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [2, 4, 8, 16])]
    pub nodes: Vec<usize>,
    /// Clients in all, for the first variant; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
    /// Clients of each node, for the second variant, as far as the machine allows; 0 leaves it out.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub clients_per_node: usize,
    /// Messages per second in all.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000.0)]
    pub rate: f64,
    /// Subscribers of a channel.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub subscribers: usize,
    /// How long the connected cluster is watched before anything is published, in seconds: what nothing costs.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub idle_seconds: f64,
    /// The load.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadOptions,
}

/// `fanfare bench scenario d`.
#[derive(Debug, Clone, Args, Serialize)]
#[command(mut_arg("size", |arg| arg.default_value("1000")))]
pub struct ScenarioDArgs {
    /// Nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub nodes: usize,
    /// Clients [default: as many as files and memory allow].
    #[arg(long)]
    pub clients: Option<usize>,
    /// Shares of the clients at which it is measured.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [0.1, 0.25, 0.5, 1.0])]
    pub shares: Vec<f64>,
    /// Messages at each of them, one after the other.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub messages: usize,
    /// The load.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadOptions,
}

/// `fanfare bench scenario storm`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScenarioStormArgs {
    /// Nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub nodes: usize,
    /// Clients.
    #[arg(long, default_value_t = 10_000)]
    pub clients: usize,
    /// Messages in all, each to everybody.
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    pub messages: u32,
    /// Messages per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2.0)]
    pub rate: f64,
    /// From one cut of a client to the next, the time away left out, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    pub every: f64,
    /// How long a client stays away, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub offline: f64,
    /// The load; its --seconds and --warmup do not count here.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadOptions,
}
