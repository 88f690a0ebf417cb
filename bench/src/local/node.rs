//! One `fanfare serve` process.
//!
//! It is known by its command line and its one line on standard output only, as any user of the binary knows it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::local::process::{Process, read_log};
use crate::local::{LocalError, PORT_ATTEMPTS_MAX, TempDir, free_address};

/// What the line that tells the address begins with.
const READY_LINE: &str = "listening on http://";

/// Environment variables with this beginning are settings of the server and are not handed down.
const SETTINGS_PREFIX: &str = "FANFARE_";

/// Lines of standard output that are kept.
const STDOUT_LINES_MAX: usize = 100;

/// How a node is started. Only `binary` has no default.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The `fanfare` program.
    pub binary: PathBuf,
    /// `--listen`; a free loopback port when absent.
    pub listen: Option<String>,
    /// `--data`; a temporary directory of the node's own when absent.
    pub data: Option<PathBuf>,
    /// `--postgres`.
    pub postgres: Option<String>,
    /// `--redis`.
    pub redis: Option<String>,
    /// `--node-name`.
    pub name: Option<String>,
    /// `--api-key`.
    pub api_key: Option<String>,
    /// `--token-secret`.
    pub token_secret: Option<String>,
    /// `--dev`.
    pub dev: bool,
    /// Text of a `fanfare.toml`, given with `--config`.
    pub config: Option<String>,
    /// Further arguments, as they are.
    pub arguments: Vec<String>,
    /// Environment of the node, beside what it inherits.
    pub environment: Vec<(String, String)>,
}

/// A running (or ended) node.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    address: SocketAddr,
    process: Process,
    stdout: Arc<Mutex<VecDeque<String>>>,
    dir: TempDir,
}

impl Node {
    /// Starts a node and waits for its `listening on …` line.
    ///
    /// # Errors
    /// [`LocalError::NoBinary`] when there is no such program, [`LocalError::Ended`] with what it wrote to standard
    /// error when it refused to start.
    pub fn start(options: NodeOptions) -> Result<Self, LocalError> {
        if !options.binary.is_file() {
            return Err(LocalError::NoBinary {
                path: options.binary,
            });
        }
        let dir = TempDir::new()?;
        let mut attempt = 1;
        loop {
            let listen = match &options.listen {
                Some(listen) => listen.clone(),
                None => free_address()?.to_string(),
            };
            match launch(&options, &listen, dir.path()) {
                Ok((process, stdout, address)) => {
                    return Ok(Self {
                        options,
                        address,
                        process,
                        stdout,
                        dir,
                    });
                }
                Err(error)
                    if options.listen.is_none()
                        && error.is_port_taken()
                        && attempt < PORT_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens, or did.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, for reading its CPU time and memory.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// All that it wrote to standard error since its last start.
    pub fn stderr(&self) -> String {
        read_log(&self.dir.path().join("stderr.log"))
    }

    /// The last lines of its standard output since its last start.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// SIGTERM, as an operator ends it, and waits for the end.
    ///
    /// # Errors
    /// [`LocalError::Io`] when it did not end in time and had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus, LocalError> {
        self.process.end_with(libc::SIGTERM)
    }

    /// SIGTERM without waiting for the end.
    pub fn ask_to_stop(&mut self) {
        self.process.signal(libc::SIGTERM);
    }

    /// `kill -9`, as a crash or the kernel's memory killer would.
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

    /// Starts it again on the same port with the same data and settings; kills it first when it still runs.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the port has been taken by another in the meantime.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        self.process.kill();
        let listen = self.address.to_string();
        let (process, stdout, address) = launch(&self.options, &listen, self.dir.path())?;
        self.process = process;
        self.stdout = stdout;
        self.address = address;
        Ok(())
    }
}

type Started = (Process, Arc<Mutex<VecDeque<String>>>, SocketAddr);

fn launch(options: &NodeOptions, listen: &str, dir: &Path) -> Result<Started, LocalError> {
    let log_path = dir.join("stderr.log");
    let log = File::create(&log_path)
        .map_err(|source| LocalError::io("write the log of a node", source))?;
    let mut command = command(options, listen, dir)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut process = Process::spawn("fanfare serve", command, libc::SIGKILL)?;
    let lines = Arc::new(Mutex::new(VecDeque::new()));
    if let Some(stdout) = process.child().stdout.take() {
        let lines = Arc::clone(&lines);
        thread::spawn(move || drain(stdout, &lines));
    }
    let mut address = None;
    process.wait_ready(
        || read_log(&log_path),
        || {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            address = lines.iter().find_map(|line| parse_ready(line));
            address.is_some()
        },
    )?;
    match address {
        Some(address) => Ok((process, lines, address)),
        None => Err(LocalError::NotReady {
            program: "fanfare serve".to_owned(),
            output: read_log(&log_path),
        }),
    }
}

fn command(options: &NodeOptions, listen: &str, dir: &Path) -> Result<Command, LocalError> {
    let mut command = Command::new(&options.binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(SETTINGS_PREFIX) {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--listen", listen]).current_dir(dir);
    command
        .arg("--data")
        .arg(options.data.clone().unwrap_or_else(|| dir.join("data")));
    let settings = [
        ("--postgres", &options.postgres),
        ("--redis", &options.redis),
        ("--node-name", &options.name),
        ("--api-key", &options.api_key),
        ("--token-secret", &options.token_secret),
    ];
    for (flag, value) in settings {
        if let Some(value) = value {
            command.args([flag, value]);
        }
    }
    if options.dev {
        command.arg("--dev");
    }
    if let Some(text) = &options.config {
        let path = dir.join("fanfare.toml");
        std::fs::write(&path, text)
            .map_err(|source| LocalError::io("write a fanfare.toml", source))?;
        command.arg("--config").arg(path);
    }
    command.args(&options.arguments);
    command.envs(
        options
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
    Ok(command)
}

/// Reads to the end, so that the node never waits for a reader; keeps the last lines.
fn drain(stdout: ChildStdout, lines: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDOUT_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

fn parse_ready(line: &str) -> Option<SocketAddr> {
    line.trim()
        .strip_prefix(READY_LINE)?
        .trim_end_matches('/')
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_address() {
        let address = parse_ready("listening on http://127.0.0.1:8000").unwrap();
        assert_eq!(address.port(), 8000);
        assert!(parse_ready("listening on nothing").is_none());
        assert!(parse_ready("soon listening on http://127.0.0.1:8000").is_none());
    }

    #[test]
    fn a_missing_binary_says_how_to_build_it() {
        let options = NodeOptions {
            binary: "/no/such/fanfare".into(),
            ..NodeOptions::default()
        };
        let error = Node::start(options).unwrap_err();
        assert!(error.to_string().contains("cargo build"), "{error}");
    }

    /// A script in the place of the program, to see what the launcher makes of its behaviour. A shell writes the file:
    /// a file that this process has open for writing could not be run while another test forks.
    fn script(dir: &TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("program");
        let status = Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#,
                "sh",
            ])
            .arg(&path)
            .arg(text)
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn a_refusal_to_start_is_told_with_its_reason() {
        let dir = TempDir::new().unwrap();
        let binary = script(&dir, "echo 'the data folder is on fire' >&2; exit 2");
        let error = Node::start(NodeOptions {
            binary,
            ..NodeOptions::default()
        })
        .unwrap_err();
        assert!(error.to_string().contains("on fire"), "{error}");
    }

    #[test]
    fn a_node_gets_its_settings_and_comes_back_on_its_port() {
        let dir = TempDir::new().unwrap();
        let binary = script(
            &dir,
            r#"echo "$@" >&2; echo "listening on http://127.0.0.1:4321"; exec sleep 600"#,
        );
        let options = NodeOptions {
            binary,
            redis: Some("redis://127.0.0.1:1".to_owned()),
            dev: true,
            ..NodeOptions::default()
        };
        let mut node = Node::start(options).unwrap();
        assert_eq!(node.url(), "http://127.0.0.1:4321");
        assert!(node.stderr().starts_with("serve --listen 127.0.0.1:"));
        assert!(node.stderr().contains("--redis redis://127.0.0.1:1 --dev"));
        node.kill();
        assert!(node.ended().is_some());
        node.restart().unwrap();
        assert!(node.stderr().starts_with("serve --listen 127.0.0.1:4321 "));
        assert!(!node.stop().unwrap().success());
    }
}
