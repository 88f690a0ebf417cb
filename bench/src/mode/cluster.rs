//! `fanfare bench cluster`: the load of `run` on servers that are started for it, and stopped after it.
//!
//! The nodes are this very program. Nothing that runs already is touched. The servers end with this process even when it
//! is killed; files that it could not remove then are removed by the next run.

use std::env;
use std::process::ExitStatus;

use crate::args::{ClusterArgs, TargetArgs};
use crate::error::BenchError;
use crate::local::{LocalError, Node, NodeOptions, Postgres, Redis};
use crate::mode::run::measure;
use crate::mode::{Setup, conclude};
use crate::progress::Progress;
use crate::report::{ClusterReport, Report};
use crate::system;

/// The most nodes: each has a handful of connections to PostgreSQL, which takes a few hundred.
const NODES_MAX: usize = 32;

/// The database that the nodes share.
const DATABASE: &str = "bench";

/// Lines of a server's log that are told when it ended by itself.
const LAST_WORDS: usize = 3;

/// Runs it.
pub(crate) fn run(mut args: ClusterArgs) -> Result<(), BenchError> {
    if args.sqlite {
        args.nodes = 1;
    }
    if args.nodes == 0 || args.nodes > NODES_MAX {
        return Err(BenchError::option(
            "--nodes",
            format!("must be 1 to {NODES_MAX}"),
        ));
    }
    // What is clear beforehand is said before anything is started.
    system::check_open_files(args.load.client.clients)?;
    let mut servers = Servers::start(&args)?;
    let mut setup = Setup::new(&servers.target(), args.load.channels)?;
    setup.record_to(args.load.history.as_deref())?;
    let mut report = setup.report("cluster", &args);
    report.cluster = Some(servers.describe()?);
    if system::is_in_memory(&env::temp_dir()) {
        report.warnings.push(format!(
            "{} is kept in memory: commits cost less than on a disk; set TMPDIR to a folder on one",
            env::temp_dir().display()
        ));
    }

    let processes = servers.processes();
    let mut load = args.load.clone();
    let own = processes.iter().map(|(_, pid)| *pid);
    load.output.pids.splice(0..0, own);
    let measured = measure(&setup, &load, &mut report);
    let ended = servers.ended();
    if let Err(source) = measured {
        return Err(match ended.is_empty() {
            true => source,
            false => BenchError::ServerEnded {
                reasons: ended,
                source: Box::new(source),
            },
        });
    }
    report.verdict.reasons.extend(ended);
    // The servers come first among the observed processes.
    for (process, (label, _)) in report.processes.iter_mut().zip(processes) {
        process.label = Some(label);
    }
    servers.stop(&mut report);
    conclude(report, &args.load.output)
}

/// What was started. Nodes are dropped before what they depend on.
struct Servers {
    nodes: Vec<Node>,
    shared: Option<Shared>,
}

/// What the nodes have in common.
struct Shared {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    fn start(args: &ClusterArgs) -> Result<Self, BenchError> {
        let binary = env::current_exe()
            .map_err(|source| BenchError::system("find the file of this program", source))?;
        let mut progress = Progress::new("start");
        let mut options = NodeOptions {
            binary,
            dev: true,
            arguments: node_arguments(args.node_threads),
            ..NodeOptions::default()
        };
        // First the one that takes no time: if it is missing, that is known at once.
        let shared = if args.sqlite {
            None
        } else {
            progress.show(0.0, || "Redis and PostgreSQL".to_owned());
            let redis = Redis::start()?;
            let postgres = Postgres::start()?;
            options.redis = Some(redis.url());
            options.postgres = Some(postgres.create_database(DATABASE)?);
            Some(Shared { redis, postgres })
        };
        let mut servers = Self {
            nodes: Vec::with_capacity(args.nodes),
            shared,
        };
        for number in 1..=args.nodes {
            progress.show(number as f64 / (args.nodes + 1) as f64, || {
                format!("node {number} of {}", args.nodes)
            });
            servers.nodes.push(Node::start(NodeOptions {
                name: Some(format!("node-{number}")),
                ..options.clone()
            })?);
        }
        progress.clear();
        Ok(servers)
    }

    /// The nodes, open to everybody as `--dev` makes them.
    fn target(&self) -> TargetArgs {
        TargetArgs {
            urls: self.nodes.iter().map(Node::url).collect(),
            publish_urls: Vec::new(),
            api_key: None,
            token: None,
            token_secret: None,
            user: String::new(),
            channel_prefix: "bench".to_owned(),
            run: None,
        }
    }

    fn describe(&self) -> Result<ClusterReport, LocalError> {
        let shared = self.shared.as_ref();
        Ok(ClusterReport {
            nodes: self.nodes.len(),
            postgres_version: shared.map(|shared| shared.postgres.version()).transpose()?,
            redis_version: shared.map(|shared| shared.redis.version()).transpose()?,
        })
    }

    /// Labels and ids of the processes to observe.
    fn processes(&self) -> Vec<(String, u32)> {
        let nodes = self.nodes.iter().zip(1..);
        let mut processes: Vec<(String, u32)> = nodes
            .map(|(node, number)| (node_label(number), node.pid()))
            .collect();
        if let Some(shared) = &self.shared {
            processes.push(("PostgreSQL".to_owned(), shared.postgres.pid()));
            processes.push(("Redis".to_owned(), shared.redis.pid()));
        }
        processes
    }

    /// Each server that ended although nobody asked it to, and its last words.
    fn ended(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (node, number) in self.nodes.iter_mut().zip(1..) {
            if let Some(status) = node.ended() {
                reasons.push(obituary(&node_label(number), status, &node.stderr()));
            }
        }
        if let Some(Shared { redis, postgres }) = &mut self.shared {
            if let Some(status) = postgres.ended() {
                reasons.push(obituary("PostgreSQL", status, &postgres.log()));
            }
            if let Some(status) = redis.ended() {
                reasons.push(obituary("Redis", status, &redis.log()));
            }
        }
        reasons
    }

    /// Stops all in good order; what had to be killed is told as a warning.
    fn stop(mut self, report: &mut Report) {
        let mut told = |stopped: Result<(), LocalError>| {
            report
                .warnings
                .extend(stopped.err().map(|error| error.to_string()));
        };
        for node in &mut self.nodes {
            node.ask_to_stop();
        }
        for node in &mut self.nodes {
            told(node.stop().map(drop));
        }
        if let Some(Shared { redis, postgres }) = &mut self.shared {
            told(redis.stop());
            told(postgres.stop());
        }
    }
}

fn node_label(number: usize) -> String {
    format!("node {number}")
}

/// The subscribers come as fast as they are told to; the door is not what is measured.
fn node_arguments(threads: Option<usize>) -> Vec<String> {
    let mut arguments = vec!["--connections-per-second".to_owned(), "0".to_owned()];
    if let Some(threads) = threads {
        arguments.extend(["--threads".to_owned(), threads.to_string()]);
    }
    arguments
}

fn obituary(label: &str, status: ExitStatus, log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    format!("{label} ended with {status}: {}", last.join(" / "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_obituary_has_the_last_words() {
        let status = ExitStatus::from_raw(9);
        let text = obituary(&node_label(2), status, "a\nb\n\nc\nd\n");
        assert!(text.starts_with("node 2 ended with signal: 9"), "{text}");
        assert!(text.ends_with(": b / c / d"), "{text}");
        assert!(obituary("Redis", status, "").ends_with(": "));
    }
}
