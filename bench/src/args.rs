//! The command line of `fanfare bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::bare::BareArgs;
use crate::chat::ChatArgs;
use crate::faults::FaultsArgs;
use crate::log::{LogArgs, SoakArgs};
use crate::mail::MailArgs;
use crate::model::ModelArgs;
use crate::peers::PeersArgs;
use crate::proxy::ProxyArgs;
use crate::scenario::ScenarioArgs;

/// Load generator and checker for any server that speaks the Centrifuge JSON protocol and has `/api/publish`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Publish at a fixed rate to many subscribers, each of which verifies that it gets everything once and in order.
    Run(RunArgs),
    /// Memory per idle subscribed connection: connect in steps, read the memory of --pid, fit a line. Use a server that was
    /// just started: memory that earlier connections left behind is used again and hides the price of new ones.
    Idle(IdleArgs),
    /// Durable publishes per second without subscribers: acknowledgement latency, or with --ramp the highest rate that
    /// holds a bound.
    Commits(CommitsArgs),
    /// The log by itself, on servers that are started for it: durable publishes at rising rates, until acknowledgements no longer
    /// hold their bound, on SQLite and PostgreSQL, and what they cost.
    Log(LogArgs),
    /// One rate of durable publishes for long, on a private PostgreSQL with retention running: latency, sizes of tables and
    /// indexes, and dead rows minute by minute.
    Soak(SoakArgs),
    /// One channel with many subscribers at several rates: deliveries per processor second of --pid.
    Fanout(FanoutArgs),
    /// The same as `run`, against servers that are started for it: nodes of this program, with a PostgreSQL and a Redis of
    /// their own. Their files are kept in the folder for temporary files (TMPDIR) and removed at the end.
    Cluster(ClusterArgs),
    /// Judge histories that --history wrote: nothing acknowledged is lost, nothing is seen twice, out of order or not at all.
    Check(CheckArgs),
    /// Stand between two parts and delay, slow, hold, cut or reset their connections.
    Proxy(ProxyArgs),
    /// Break each part under load, and check that nothing is lost: one private cluster for each row of the fault matrix.
    Faults(FaultsArgs),
    /// The yardstick: accept WebSockets and write what has come, one write per socket and pass, and nothing else.
    Bare(BareArgs),
    /// Subscribers that do as they are told on standard input: a part of another benchmark, in a process of its own.
    #[command(hide = true)]
    Subscribers,
    /// What any load needs, by unit costs that the other benchmarks measured: nodes, processors, Redis and PostgreSQL.
    Model(ModelArgs),
    /// Other servers beside this one under the same load, one after the other: latency, cost, memory, and what each keeps.
    Peers(PeersArgs),
    /// Tell a story with one end on a private cluster.
    Scenario(ScenarioArgs),
    /// Mail of many users at once, on a private cluster with a stand-in for Google: each change in each mailbox must reach each of
    /// its owner's event streams once, whatever is killed, sent twice, reordered or forged.
    Mail(MailArgs),
    /// A workspace with a million messages on a private cluster: how long it takes to load and to search it, and a channel with 200 clients
    /// and 200 messages a second, in which nothing may be lost, repeated or out of order.
    Chat(ChatArgs),
}

/// Which servers, and how to be let in.
#[derive(Debug, Clone, Args, Serialize)]
pub struct TargetArgs {
    /// Server for subscribers; repeat it, or separate by commas, to spread them over several.
    #[arg(
        long = "url",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8000"
    )]
    pub urls: Vec<String>,
    /// Server for publishers, chosen at random for each message [default: those of --url].
    #[arg(long = "publish-url", value_name = "URL", value_delimiter = ',')]
    pub publish_urls: Vec<String>,
    /// Key of the server API.
    #[arg(long, env = "FANFARE_API_KEY", hide_env_values = true)]
    #[serde(skip)]
    pub api_key: Option<String>,
    /// Token that every client connects with; goes before --token-secret.
    #[arg(long)]
    #[serde(skip)]
    pub token: Option<String>,
    /// Secret to sign connection and subscription tokens with (HS256).
    #[arg(long, env = "FANFARE_TOKEN_SECRET", hide_env_values = true)]
    #[serde(skip)]
    pub token_secret: Option<String>,
    /// User that signed tokens are for.
    #[arg(long, default_value = "bench")]
    pub user: String,
    /// Channels are named PREFIX:RUN:NUMBER.
    #[arg(long, value_name = "PREFIX", default_value = "bench")]
    pub channel_prefix: String,
    /// Name of this run [default: made from the time].
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// How subscribers connect.
#[derive(Debug, Clone, Args, Serialize)]
pub struct ClientArgs {
    /// Subscribers.
    #[arg(long, default_value_t = 1_000)]
    pub clients: usize,
    /// Threads that serve them.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// New connections per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 2_000.0)]
    pub connect_rate: f64,
    /// Source addresses 127.0.0.1, 127.0.0.2 … to connect from [default: one for every 15,000 clients of a server].
    #[arg(long, value_name = "COUNT")]
    pub source_addresses: Option<u8>,
    /// Give up when no further client became ready for this long, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub connect_patience: u64,
}

/// How messages are published.
#[derive(Debug, Clone, Args, Serialize)]
pub struct PublishArgs {
    /// How long to publish, in seconds, after the warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// Warm-up before it, in seconds: verified, but not part of any latency.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warmup: f64,
    /// Size of the data of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub size: usize,
    /// Connections to publish on [default: 64 over http, 4 over ws].
    #[arg(long, value_name = "COUNT")]
    pub publishers: Option<usize>,
    /// Send an idempotency key with each HTTP publish, and repeat what was not answered with the same key.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub idempotent: bool,
    /// How long to wait for the last answers and deliveries, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub drain: f64,
}

/// What to observe, and where to write it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct OutputArgs {
    /// Server process whose processor time and memory to observe, with its children; repeatable.
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Write the whole report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Over which protocol messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// `POST /api/publish`, one request at a time on each connection.
    Http,
    /// The Centrifuge `publish` command, many in a frame.
    Ws,
}

/// A load at one rate, and who verifies it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct LoadArgs {
    /// Which subscribers.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Channels; client i subscribes to channel i modulo their number.
    #[arg(long, default_value_t = 100)]
    pub channels: usize,
    /// Open a connection that was lost again, on another server if there is one, and go on from its position.
    #[arg(long)]
    pub reconnect: bool,
    /// Write everything that clients do and see, and the log at the end, to this file, for `bench check`.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Messages per second, over all channels.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0)]
    pub rate: f64,
    /// Over which protocol to publish.
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub via: Via,
    /// Which messages.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// What to observe.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fanfare bench run`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct RunArgs {
    /// Which servers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Which load.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadArgs,
}

/// `fanfare bench cluster`.
#[derive(Debug, Clone, Args, Serialize)]
#[command(
    mut_arg("clients", |arg| arg.default_value("10000")),
    mut_arg("rate", |arg| arg.default_value("1000")),
    mut_arg("duration", |arg| arg.default_value("60")),
    mut_arg("pids", |arg| arg.help(
        "Further process whose processor time and memory to observe, with its children; repeatable"
    ))
)]
pub struct ClusterArgs {
    /// Nodes to start; subscribers are spread over them, and each message goes to one at random.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub nodes: usize,
    /// One node on its embedded log, without PostgreSQL and Redis.
    #[arg(long, conflicts_with = "nodes")]
    pub sqlite: bool,
    /// Threads of each node, as its --threads [default: that of the nodes, one per core].
    #[arg(long, value_name = "COUNT")]
    pub node_threads: Option<usize>,
    /// Further argument of every node, as in `--node-argument=--owners=false`; repeatable.
    #[arg(
        long = "node-argument",
        value_name = "ARGUMENT",
        allow_hyphen_values = true
    )]
    pub node_arguments: Vec<String>,
    /// How much longer each flush of PostgreSQL takes than the disk needs, in milliseconds (its `commit_delay`); at most 100.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        conflicts_with = "sqlite"
    )]
    pub flush_ms: u32,
    /// Which load.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadArgs,
}

/// `fanfare bench idle`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct IdleArgs {
    /// Which servers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Which subscribers.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Channels; client i subscribes to channel i modulo their number.
    #[arg(long, default_value_t = 100)]
    pub channels: usize,
    /// Steps of equal size in which the clients connect.
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// How long memory may settle after each step, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub settle: f64,
    /// What to observe; at least one process.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fanfare bench commits`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct CommitsArgs {
    /// Which servers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Channels that the messages are spread over.
    #[arg(long, default_value_t = 1_000)]
    pub channels: usize,
    /// Messages per second; with --ramp, the first rate to try.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 10_000.0)]
    pub rate: f64,
    /// Over which protocol to publish.
    #[arg(long, value_enum, default_value_t = Via::Ws)]
    pub via: Via,
    /// Search for the highest rate whose acknowledgements hold --p99-max-ms; --duration and --warmup are those of one try.
    #[arg(long)]
    pub ramp: bool,
    /// Compare the head of every channel with what was acknowledged, at the end.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub verify: bool,
    /// Bound of --ramp for the 99th percentile of the acknowledgement latency, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    pub p99_max_ms: f64,
    /// Which messages.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// What to observe.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fanfare bench fanout`.
#[derive(Debug, Clone, Args, Serialize)]
pub struct FanoutArgs {
    /// Which servers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Which subscribers; all of them are in one channel.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Rates to measure one after the other, in messages per second.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [10.0, 50.0, 200.0])]
    pub rates: Vec<f64>,
    /// Start a node for it, on its embedded log, instead of --url and --pid.
    #[arg(long, conflicts_with_all = ["urls", "publish_urls", "pids"])]
    pub own: bool,
    /// Measure the yardstick in turns with the server, and give each figure as a ratio to it. Needs --pid, or --own.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub yardstick: bool,
    /// How often both are measured at each rate, in turns.
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub rounds: usize,
    /// Write fanout.json, fanout.md and a plot into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Over which protocol to publish.
    #[arg(long, value_enum, default_value_t = Via::Http)]
    pub via: Via,
    /// Which messages; --duration and --warmup are those of each rate.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// What to observe.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fanfare bench check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Histories of one run; several when several processes took part in it.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write the whole report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchCommand, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.bench.command)
    }

    fn cluster(line: &str) -> ClusterArgs {
        match parse(line).unwrap() {
            BenchCommand::Cluster(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn a_cluster_has_defaults_of_its_own() {
        let ClusterArgs {
            nodes,
            sqlite,
            node_threads,
            node_arguments,
            flush_ms,
            load,
        } = cluster("bench cluster");
        assert_eq!((nodes, sqlite, node_threads), (4, false, None));
        assert!(node_arguments.is_empty() && flush_ms == 0);
        assert_eq!((load.client.clients, load.channels), (10_000, 100));
        assert_eq!((load.rate, load.publish.duration), (1_000.0, 60.0));
        assert_eq!((load.via, load.publish.size), (Via::Http, 200));
        assert!(load.output.pids.is_empty() && load.output.json.is_none());
    }

    #[test]
    fn the_defaults_of_run_are_not_those_of_a_cluster() {
        let BenchCommand::Run(RunArgs { target, load }) = parse("bench run").unwrap() else {
            panic!("another command");
        };
        assert_eq!(target.urls, ["http://127.0.0.1:8000"]);
        assert_eq!((load.client.clients, load.channels), (1_000, 100));
        assert_eq!((load.rate, load.publish.duration), (100.0, 10.0));
    }

    #[test]
    fn what_is_said_goes_before_the_defaults_of_a_cluster() {
        let line = "bench cluster --nodes 2 --clients 200 --rate 50 --duration 5 --via ws";
        let ClusterArgs { nodes, load, .. } = cluster(line);
        assert_eq!((nodes, load.client.clients), (2, 200));
        assert_eq!((load.rate, load.publish.duration), (50.0, 5.0));
        assert_eq!(load.via, Via::Ws);
        assert!(cluster("bench cluster --sqlite").sqlite);
        assert!(parse("bench cluster --sqlite --nodes 1").is_err());
    }
}
