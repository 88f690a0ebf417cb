//! What can be wrong with a configuration: one line each, which names the setting and says what to do.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not TOML, or has settings that do not exist or are of the wrong kind.
    #[error("{}, line {line}: {message}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there. Never repeats a secret.
        message: String,
    },
    /// A setting has a value that cannot be used, wherever it came from.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting's name, as in the file.
        setting: String,
        /// What is wrong with it and what to write instead. Never repeats a secret.
        problem: String,
    },
}

impl ConfigError {
    pub(super) fn setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting {
            setting: setting.into(),
            problem: problem.into(),
        }
    }
}
