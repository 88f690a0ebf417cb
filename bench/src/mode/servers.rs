//! Servers that are started for a benchmark, and stopped after it: nodes of this program, with a PostgreSQL and a Redis of
//! their own, or one node on its embedded log.

use std::env;
use std::net::SocketAddr;
use std::process::ExitStatus;

use crate::args::TargetArgs;
use crate::error::BenchError;
use crate::local::{LocalError, Node, NodeOptions, Postgres, Redis};
use crate::progress::Progress;
use crate::report::ClusterReport;

/// The most nodes: each has a handful of connections to PostgreSQL, which takes a few hundred.
pub(crate) const NODES_MAX: usize = 32;

/// The longest delay of a flush that PostgreSQL takes.
const FLUSH_MS_MAX: u32 = 100;

/// The most segments of the write-ahead log that are made beforehand, of 16 MiB each.
const SEGMENTS_MAX: u32 = 256;

/// The least that PostgreSQL keeps of it when nobody says otherwise, MiB.
const WAL_MIB_MIN: u32 = 80;

/// Size of such a segment, MiB.
const SEGMENT_MIB: u32 = 16;

/// The database that the nodes share.
pub(crate) const DATABASE: &str = "bench";

/// Lines of a server's log that are told when it ended by itself.
const LAST_WORDS: usize = 3;

/// Which servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    /// Nodes.
    pub(crate) nodes: usize,
    /// One node on its embedded log, without PostgreSQL and Redis.
    pub(crate) sqlite: bool,
    /// Threads of each node; that of the nodes when not said.
    pub(crate) node_threads: Option<usize>,
    /// Further arguments of each node.
    pub(crate) node_arguments: Vec<String>,
    /// Text of each node's `fanfare.toml`.
    pub(crate) config: Option<String>,
    /// How much longer each flush of PostgreSQL takes, in milliseconds; at most [`FLUSH_MS_MAX`].
    pub(crate) flush_ms: u32,
    /// Segments of PostgreSQL's write-ahead log that are made, and set free to be used again, before the nodes start: a server
    /// that was just created fills each one with zeros before its first use, while everybody waits. At most [`SEGMENTS_MAX`].
    pub(crate) wal_segments: u32,
}

/// What was started. Nodes are dropped before what they depend on.
#[derive(Debug)]
pub(crate) struct Servers {
    nodes: Vec<Node>,
    shared: Option<Shared>,
}

/// What the nodes have in common.
#[derive(Debug)]
struct Shared {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    /// Starts them and waits until they answer.
    ///
    /// # Errors
    /// When one does not start; those that did are stopped.
    pub(crate) fn start(args: &ServerOptions) -> Result<Self, BenchError> {
        if args.nodes == 0 || args.nodes > NODES_MAX {
            return Err(BenchError::option(
                "--nodes",
                format!("must be 1 to {NODES_MAX}"),
            ));
        }
        if args.flush_ms > FLUSH_MS_MAX {
            return Err(BenchError::option(
                "--flush-ms",
                format!("must be at most {FLUSH_MS_MAX}"),
            ));
        }
        if args.wal_segments > SEGMENTS_MAX {
            return Err(BenchError::option(
                "--wal-segments",
                format!("must be at most {SEGMENTS_MAX}"),
            ));
        }
        let binary = env::current_exe()
            .map_err(|source| BenchError::system("find the file of this program", source))?;
        let mut progress = Progress::new("start");
        let mut options = NodeOptions {
            binary,
            dev: true,
            arguments: node_arguments(args),
            config: args.config.clone(),
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
            make_segments(&postgres, args.wal_segments)?;
            slow_down(&postgres, args.flush_ms)?;
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
    pub(crate) fn target(&self) -> TargetArgs {
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

    /// What goes into a report.
    ///
    /// # Errors
    /// When one does not tell its version.
    pub(crate) fn describe(&self) -> Result<ClusterReport, LocalError> {
        let shared = self.shared.as_ref();
        Ok(ClusterReport {
            nodes: self.nodes.len(),
            postgres_version: shared.map(|shared| shared.postgres.version()).transpose()?,
            redis_version: shared.map(|shared| shared.redis.version()).transpose()?,
        })
    }

    /// Labels and ids of the processes to observe.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
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
    pub(crate) fn ended(&mut self) -> Vec<String> {
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

    /// Where the nodes listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// The Redis that they share, if they do.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.shared.as_ref().map(|shared| &shared.redis)
    }

    /// The PostgreSQL that they share, if they do.
    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        self.shared.as_ref().map(|shared| &shared.postgres)
    }

    /// Stops all in good order; what had to be killed is told.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut told = |stopped: Result<(), LocalError>| {
            warnings.extend(stopped.err().map(|error| error.to_string()));
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
        warnings
    }
}

fn node_label(number: usize) -> String {
    format!("node {number}")
}

/// The subscribers come as fast as they are told to; the door is not what is measured.
fn node_arguments(args: &ServerOptions) -> Vec<String> {
    let mut arguments = vec!["--connections-per-second".to_owned(), "0".to_owned()];
    if let Some(threads) = args.node_threads {
        arguments.extend(["--threads".to_owned(), threads.to_string()]);
    }
    arguments.extend(args.node_arguments.iter().cloned());
    arguments
}

/// Makes each flush take so much longer, for a lone session as well.
fn slow_down(postgres: &Postgres, flush_ms: u32) -> Result<(), LocalError> {
    if flush_ms == 0 {
        return Ok(());
    }
    let delay = format!("ALTER SYSTEM SET commit_delay = {}", flush_ms * 1_000);
    for sql in [
        "ALTER SYSTEM SET commit_siblings = 0",
        &delay,
        "SELECT pg_reload_conf()",
    ] {
        postgres.execute("postgres", sql)?;
    }
    Ok(())
}

/// Goes through so many segments of the write-ahead log, and has a checkpoint keep them for later use.
fn make_segments(postgres: &Postgres, segments: u32) -> Result<(), LocalError> {
    if segments == 0 {
        return Ok(());
    }
    let kept = (segments * SEGMENT_MIB).max(WAL_MIB_MIN);
    let keep = format!("ALTER SYSTEM SET min_wal_size = '{kept}MB'");
    // As much again may come before a checkpoint has to, or it would come for the sake of room.
    let room = format!(
        "ALTER SYSTEM SET max_wal_size = '{}MB'",
        (2 * kept).max(1024)
    );
    // A segment in which nothing stands is not left.
    let go_through = format!(
        "SELECT count(pg_logical_emit_message(false, 'bench', 'x') < pg_switch_wal()) \
         FROM generate_series(1, {segments})"
    );
    for sql in [
        &keep,
        &room,
        "SELECT pg_reload_conf()",
        &go_through,
        "CHECKPOINT",
    ] {
        postgres.execute("postgres", sql)?;
    }
    Ok(())
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
