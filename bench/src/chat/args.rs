//! The command line of `fanfare bench chat`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// `fanfare bench chat`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ChatArgs {
    /// Messages of the workspace at the beginning.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub messages: usize,
    /// Its channels.
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    pub channels: usize,
    /// Its users.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub users: usize,
    /// Searches of each kind, and loads of the workspace.
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    pub asked: usize,
    /// Clients that follow one channel, spread over two nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub clients: usize,
    /// Messages per second that are posted into it, to both nodes in turn.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0)]
    pub rate: f64,
    /// For how long, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub seconds: f64,
    /// Kill Redis in the middle of it, and start it again a quarter later.
    #[arg(long)]
    pub kill_redis: bool,
    /// Times do not fail the run. What is lost, told twice or out of order does, as ever.
    #[arg(long)]
    pub short: bool,
    /// Write the report (JSON and a page) into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}
