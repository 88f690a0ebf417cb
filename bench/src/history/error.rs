//! What can go wrong with a history, as opposed to what a history shows to have gone wrong.

use std::io;
use std::path::PathBuf;

/// Why a history could not be written, read or judged.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be written; what it holds is not all that happened.
    #[error("the history {} could not be written in full: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("the history {} could not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of the file is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file ends before its last line.
    #[error(
        "{}:{line}: the file ends here without its end line: the run that wrote it broke off, \
         and what it would have shown cannot be judged",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The last line, from 1.
        line: u64,
    },
    /// The log could not be read at the end of the run.
    #[error("the log of {channel} could not be read from any server: {reason}")]
    Dump {
        /// The channel.
        channel: String,
        /// The latest refusal.
        reason: String,
    },
}
