//! The command line of `fanfare bench mail`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// `fanfare bench mail`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct MailArgs {
    /// Nodes to start.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub nodes: usize,
    /// Mailboxes, each of somebody who signs in.
    #[arg(long, value_name = "COUNT", default_value_t = 250)]
    pub users: usize,
    /// Event streams of each of them, spread over the nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub streams: usize,
    /// Messages of each mailbox at the beginning.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub messages: usize,
    /// Changes per second over all mailboxes, in all phases but the burst.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 40.0)]
    pub rate: f64,
    /// How long each of these phases lasts, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub seconds: f64,
    /// Changes of the burst, made as fast as they can be.
    #[arg(long, value_name = "COUNT", default_value_t = 4_000)]
    pub burst: usize,
    /// How long each call of Gmail's API takes, in milliseconds; there is a quiet phase for each of these.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [0_u64, 50])]
    pub latency: Vec<u64>,
    /// Pushes per second that are forged or must do nothing, in all phases but the quiet ones.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 20.0)]
    pub forged: f64,
    /// How long clients may make no progress towards being complete after a phase, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
    /// Threads of each node, as its --threads [default: that of the nodes, one per core].
    #[arg(long, value_name = "COUNT")]
    pub node_threads: Option<usize>,
    /// Times do not fail the run. What is lost, told twice, out of order or forged does, as ever.
    #[arg(long)]
    pub short: bool,
    /// Write the whole report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
