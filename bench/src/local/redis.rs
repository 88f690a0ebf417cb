//! A private Redis: no persistence, one loopback port, gone with its handle.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::local::process::{Process, find_program, read_log, run_tool};
use crate::local::resp::{self, Reply};
use crate::local::{LocalError, PORT_ATTEMPTS_MAX, TempDir, free_address};

/// Where it writes its log, in its folder.
const LOG_FILE: &str = "redis.log";

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    address: SocketAddr,
    /// What it is started with beside its address.
    arguments: Vec<OsString>,
    process: Process,
    dir: TempDir,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    ///
    /// # Errors
    /// [`LocalError::Missing`] when `redis-server` is not installed; the others as their names say.
    pub fn start() -> Result<Self, LocalError> {
        Self::start_with(|_, _| Ok(server_arguments()))
    }

    /// Starts one with arguments that depend on its folder and address: a configuration file first, if there is one.
    pub(crate) fn start_with(
        arguments: impl Fn(&Path, SocketAddr) -> Result<Vec<OsString>, LocalError>,
    ) -> Result<Self, LocalError> {
        let program = find_program("redis-server", &[PathBuf::from("/usr/bin")]).ok_or(
            LocalError::Missing {
                program: "redis-server",
                package: "redis-server",
            },
        )?;
        let dir = TempDir::new()?;
        let mut attempt = 1;
        loop {
            let address = free_address()?;
            let arguments = arguments(dir.path(), address)?;
            match launch(&program, address, &arguments, &dir) {
                Ok(process) => {
                    return Ok(Self {
                        program,
                        address,
                        arguments,
                        process,
                        dir,
                    });
                }
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What a node takes for `--redis`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens, or did.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one command and gives the answer as Redis wrote it, without its first mark: `OK`, a number, a text.
    ///
    /// # Errors
    /// [`LocalError::Io`] when it does not answer, or answers with an error, which is told.
    pub fn execute(&self, words: &[&str]) -> Result<String, LocalError> {
        resp::command(self.address, words)
            .and_then(|reply| match reply {
                Reply::Text(text) => Ok(text),
                Reply::Number(number) => Ok(number.to_string()),
                Reply::List(_) => Err(std::io::Error::other("the answer is a list")),
            })
            .map_err(|source| LocalError::io(format!("tell Redis `{}`", words.join(" ")), source))
    }

    /// The process id, for reading its CPU time and memory.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The version of the program, like `7.0.1`.
    ///
    /// # Errors
    /// [`LocalError::Ended`] when it does not tell.
    pub fn version(&self) -> Result<String, LocalError> {
        let mut command = Command::new(&self.program);
        command.arg("--version").stdin(Stdio::null());
        let text = run_tool("redis-server", command)?;
        Ok(parse_version(&text).to_owned())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// All that it wrote to its log since its last start.
    pub fn log(&self) -> String {
        read_log(&self.dir.path().join(LOG_FILE))
    }

    /// Ends it in good order. Its data is gone.
    ///
    /// # Errors
    /// [`LocalError::Io`] when it had to be killed.
    pub fn stop(&mut self) -> Result<(), LocalError> {
        self.process.end_with(libc::SIGTERM).map(drop)
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Makes it hang: connections stay open and nothing is answered.
    pub fn pause(&mut self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Starts it again, empty, on the same port; kills it first when it still runs.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the port has been taken by another in the meantime.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        self.process.kill();
        self.process = launch(&self.program, self.address, &self.arguments, &self.dir)?;
        Ok(())
    }
}

/// The arguments of a server that keeps nothing.
pub(crate) fn server_arguments() -> Vec<OsString> {
    ["--save", "", "--appendonly", "no"]
        .map(OsString::from)
        .to_vec()
}

fn launch(
    program: &Path,
    address: SocketAddr,
    arguments: &[OsString],
    dir: &TempDir,
) -> Result<Process, LocalError> {
    let log_path = dir.path().join(LOG_FILE);
    let log = File::create(&log_path)
        .map_err(|source| LocalError::io("write the log of redis-server", source))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--port", &address.port().to_string()])
        .args(["--bind", &address.ip().to_string()])
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null());
    let mut process = Process::spawn("redis-server", command, libc::SIGKILL)?;
    process.wait_ready(|| read_log(&log_path), || answers(address))?;
    Ok(process)
}

/// The version in `Redis server v=7.0.1 sha=…`; a line that has another form is given whole.
fn parse_version(text: &str) -> &str {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .unwrap_or(text.trim())
}

fn answers(address: SocketAddr) -> bool {
    resp::command(address, &["PING"]).is_ok_and(|reply| reply.text() == "PONG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_dies_and_comes_back_on_its_port() {
        let mut redis = Redis::start().unwrap();
        let address = redis.address();
        assert!(answers(address));
        assert_eq!(redis.execute(&["SET", "a", "b c"]).unwrap(), "OK");
        assert_eq!(redis.execute(&["GET", "a"]).unwrap(), "b c");
        assert_eq!(redis.execute(&["DBSIZE"]).unwrap(), "1");
        assert!(redis.execute(&["NO"]).is_err());
        redis.pause();
        assert!(!answers(address));
        redis.resume();
        assert!(answers(address));
        redis.kill();
        assert!(!answers(address));
        redis.restart().unwrap();
        assert_eq!(redis.address(), address);
        assert!(answers(address));
        assert!(redis.ended().is_none());
        redis.stop().unwrap();
        assert!(!answers(address));
        assert!(redis.ended().is_some() && !redis.log().is_empty());
    }

    #[test]
    fn the_version_is_found_in_its_line() {
        let line = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n";
        assert_eq!(parse_version(line), "7.0.15");
        assert_eq!(parse_version("something else\n"), "something else");
    }
}
