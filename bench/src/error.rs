//! What can go wrong, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::history::HistoryError;
use crate::local::LocalError;

/// Why a benchmark did not end well.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An option has a value that cannot be used.
    #[error("{option}: {reason}")]
    Option {
        /// The option, as on the command line.
        option: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The process may not open as many files as the run needs.
    #[error(
        "{wanted} connections need more than the {limit} open files that this process may have: \
         raise the hard limit (ulimit -Hn), or share the clients between several processes"
    )]
    OpenFiles {
        /// Connections asked for.
        wanted: usize,
        /// The hard limit, in files.
        limit: u64,
    },
    /// A server's name could not be resolved.
    #[error("{url}: cannot be resolved: {source}")]
    Resolve {
        /// The server, as given.
        url: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Not every connection came up.
    #[error("only {ready} of {wanted} {what} were ready after {seconds} s; last failure: {reason}")]
    NotReady {
        /// What kind of connections.
        what: &'static str,
        /// How many were ready.
        ready: usize,
        /// How many were asked for.
        wanted: usize,
        /// How long it was waited, in seconds.
        seconds: u64,
        /// The latest failure of one connection.
        reason: String,
    },
    /// A process given with `--pid` could not be observed.
    #[error("--pid {pid}: cannot be observed: {source}")]
    Process {
        /// The process id.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused something that the generator cannot do without.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A thread of the generator ended by itself: a bug in the generator.
    #[error("the {0} thread of the load generator failed; please report it with the lines above")]
    Thread(&'static str),
    /// A server could not be started for the run, or asked for its version.
    #[error("the cluster could not be started: {0}")]
    Local(#[from] LocalError),
    /// The run broke off, and servers that were started for it had ended by themselves.
    #[error("{source}; {}", reasons.join("; "))]
    ServerEnded {
        /// Each server that ended, how, and its last words.
        reasons: Vec<String>,
        /// How the run broke off.
        source: Box<Self>,
    },
    /// A history could not be written or read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The JSON report could not be written.
    #[error("cannot write the report to {}: {source}", path.display())]
    Report {
        /// The file given with `--json`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The run was completed and did not hold; the report says it in full.
    #[error("the run did not hold: {}", reasons.join("; "))]
    Violated {
        /// Each promise that was broken.
        reasons: Vec<String>,
    },
}

impl BenchError {
    /// Names what was tried with the system's refusal.
    pub(crate) fn system(action: &'static str, source: io::Error) -> Self {
        Self::System { action, source }
    }

    /// Names an option that cannot be used.
    pub(crate) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option {
            option,
            reason: reason.into(),
        }
    }
}
