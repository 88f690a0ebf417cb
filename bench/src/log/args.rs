//! The command lines of `fanfare bench log` and `fanfare bench soak`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::args::PublishArgs;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// The embedded one.
    Sqlite,
    /// A private PostgreSQL, with a private Redis beside it.
    Postgres,
}

/// What is published, and over how many connections.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Traffic {
    /// Channels that the messages are spread over.
    #[arg(long, default_value_t = 1_000)]
    pub channels: usize,
    /// Size of the data of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// WebSocket connections to publish on.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub publishers: usize,
    /// How long to wait for the last answers of each load, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub drain: f64,
    /// Segments of 16 MiB of PostgreSQL's write-ahead log that are made before the first load and used again then; 0: a server
    /// that was just created, which fills each new segment with zeros while everybody waits.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub wal_segments: u32,
    /// Folder for raw figures, page and plots.
    #[arg(long, value_name = "DIR", default_value = "docs/benchmarks")]
    pub out: PathBuf,
}

impl Traffic {
    /// How it is published, for so many seconds behind a warm-up.
    pub(super) fn publish(&self, warmup: f64, seconds: f64) -> PublishArgs {
        PublishArgs {
            duration: seconds,
            warmup,
            size: self.size,
            publishers: Some(self.publishers),
            idempotent: false,
            drain: self.drain,
        }
    }
}

/// `fanfare bench log`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct LogArgs {
    /// Which logs, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [LogKind::Sqlite, LogKind::Postgres])]
    pub logs: Vec<LogKind>,
    /// How much longer each flush of PostgreSQL takes than the disk needs, in milliseconds (its `commit_delay`), at most 100;
    /// each value is measured with a server of its own.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [0, 2])]
    pub flush_ms: Vec<u32>,
    /// Further nodes on the same PostgreSQL and Redis, which nobody publishes to and nobody listens on: what a node pays for what
    /// it does not serve. Each number is measured with servers of its own.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [0])]
    pub bystanders: Vec<usize>,
    /// Messages per second, one load after the other, until two in a row do not hold.
    #[arg(long, value_name = "LIST", value_delimiter = ',',
          default_values_t = [5_000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0, 60_000.0, 80_000.0])]
    pub rates: Vec<f64>,
    /// Measured seconds of each load.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub seconds: f64,
    /// Warm-up before each of them, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warmup: f64,
    /// Bound for the 99th percentile of the acknowledgement latency, in milliseconds [default: 10 on SQLite, 20 on PostgreSQL].
    #[arg(long, value_name = "MS")]
    pub p99_max_ms: Option<f64>,
    /// What is published.
    #[command(flatten)]
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl LogArgs {
    /// The bound of a log, in milliseconds.
    pub(super) fn bound_ms(&self, kind: LogKind) -> f64 {
        self.p99_max_ms.unwrap_or(match kind {
            LogKind::Sqlite => 10.0,
            LogKind::Postgres => 20.0,
        })
    }
}

/// `fanfare bench soak`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct SoakArgs {
    /// For how many minutes.
    #[arg(long, default_value_t = 60)]
    pub minutes: usize,
    /// Length of a minute, in seconds: shorter ones are for a first look.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub minute: f64,
    /// Messages per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 5_000.0)]
    pub rate: f64,
    /// How long messages are kept, as the nodes' setting of the same name; none is kept for ever.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub history_max_age: String,
    /// How often they are removed, as the nodes' setting of the same name.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub retention_interval: String,
    /// How much longer each flush takes than the disk needs, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub flush_ms: u32,
    /// What is published.
    #[command(flatten)]
    #[serde(flatten)]
    pub traffic: Traffic,
}
