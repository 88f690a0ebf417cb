//! What can go wrong when a server is started, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A private server could not be started or spoken to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A program is not installed where it is looked for.
    #[error("`{program}` is not installed; on Debian: apt-get install {package}")]
    Missing {
        /// The program's file name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Something that Debian does not package is not installed where it is looked for.
    #[error("`{program}` is not installed: {how}")]
    NotInstalled {
        /// What is missing.
        program: &'static str,
        /// How to get it.
        how: &'static str,
    },
    /// A path given by the caller names no file.
    #[error("there is no program at {}; build it with: cargo build -p fanfare-server", path.display())]
    NoBinary {
        /// The path that was given.
        path: PathBuf,
    },
    /// The system has no account that PostgreSQL may run under; it refuses to run as root.
    #[error(
        "running as root, but there is no `postgres` account to run PostgreSQL under; \
         on Debian: apt-get install postgresql, or run this as an ordinary user"
    )]
    NoAccount,
    /// The program ended before it was ready, or a tool ended with a failure.
    #[error("`{program}` ended with {status}: {output}")]
    Ended {
        /// The program's name.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines of what it wrote.
        output: String,
    },
    /// The program runs but did not become ready within [`PATIENCE`](super::PATIENCE).
    #[error("`{program}` was not ready in time: {output}")]
    NotReady {
        /// The program's name.
        program: String,
        /// The last lines of what it wrote.
        output: String,
    },
    /// The system refused a file, process or socket operation.
    #[error("could not {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl LocalError {
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }

    /// True when PostgreSQL ended because processes of an earlier one still use its data.
    pub(crate) fn is_data_in_use(&self) -> bool {
        matches!(self, Self::Ended { output, .. }
            if output.contains("pre-existing shared memory block"))
    }

    /// True when `mount` was refused.
    pub(crate) fn is_mount(&self) -> bool {
        matches!(self, Self::Ended { program, .. } if program == "mount")
    }

    /// True when the program ended because its port was taken, so that another port may do.
    pub(crate) fn is_port_taken(&self) -> bool {
        match self {
            Self::Ended { output, .. } => {
                let output = output.to_ascii_lowercase();
                output.contains("in use")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_still_used_is_known_by_what_postgres_says() {
        let ended = |output: &str| LocalError::Ended {
            program: "postgres".to_owned(),
            status: "exit status: 1".to_owned(),
            output: output.to_owned(),
        };
        let used =
            "FATAL:  pre-existing shared memory block (key 10092610, ID 1900600) is still in use";
        assert!(ended(used).is_data_in_use());
        assert!(!ended("FATAL:  could not bind IPv4 address").is_data_in_use());
    }
}
