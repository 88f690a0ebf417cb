//! The yardstick as a process of its own, started and stopped by a benchmark.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::bare::server::READY_LINE;
use crate::error::BenchError;
use crate::local::Process;

/// A running yardstick. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Yardstick {
    process: Process,
    address: SocketAddr,
}

impl Yardstick {
    /// Starts it on a free port and waits until it listens.
    ///
    /// # Errors
    /// When this program cannot be started again.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let failed = |source| BenchError::system("start the yardstick", source);
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command
            .args(["bench", "bare", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::spawn("fanfare bench bare", command, libc::SIGKILL)?;
        let mut line = String::new();
        if let Some(stdout) = process.child().stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        let address = line.trim().strip_prefix(READY_LINE);
        let address = address.and_then(|address| address.parse().ok());
        Ok(Self {
            address: address.ok_or_else(|| failed(std::io::ErrorKind::UnexpectedEof.into()))?,
            process,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, for reading its processor time.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}
