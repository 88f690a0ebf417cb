//! The command line of `fanfare bench faults` and `fanfare bench scenario b`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// `fanfare bench faults`.
#[derive(Debug, Clone, Args)]
pub struct FaultsArgs {
    /// Rows to run, by their number in the matrix [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Less load and shorter faults. What is lost, repeated or out of order fails the run as ever; times do not.
    #[arg(long)]
    pub short: bool,
    /// Print the rows and what they promise, and do nothing.
    #[arg(long)]
    pub list: bool,
    /// Folder for the report and for histories that are kept [default: a new one for temporary files].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep the history of every row, not only of those that break a rule.
    #[arg(long)]
    pub keep: bool,
    /// Write the table as Markdown to this file; into a page that has the marks of docs/reliability.md, between them.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// `fanfare bench scenario b`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ScenarioBArgs {
    /// Make Redis hang instead of killing it.
    #[arg(long)]
    pub pause: bool,
    /// How long Redis is away, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub away: f64,
    /// Clients, spread over the nodes.
    #[arg(long, default_value_t = 100)]
    pub clients: usize,
    /// Messages per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0)]
    pub rate: f64,
    /// Write the history to this file, for `fanfare bench check`.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Write raw figures, a page and a plot into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
