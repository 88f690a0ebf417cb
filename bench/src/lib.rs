//! Load generator and checker of Fanfare.
//!
//! `fanfare bench` proves a server from outside: it speaks the Centrifuge JSON protocol over WebSocket and
//! `POST /api/publish`, so that any server with these two can be measured by the same yardstick. It publishes on a fixed
//! schedule, subscribes with as many clients as asked, and lets every one of them check by itself that it received every
//! publication, once, in order. A run that did not hold is an error, whatever its latency was.
//!
//! It shares the machine with what it measures, so it is built to be small: readiness loops over plain sockets, one read
//! buffer per thread, and a look at each delivery that costs about as much as comparing its bytes.

pub mod local;
pub mod proxy;
pub mod report;

mod args;
mod bare;
mod chat;
mod clock;
mod counters;
mod crowd;
mod dialect;
mod error;
mod faults;
mod fleet;
mod history;
mod latency;
mod link;
mod log;
mod mail;
mod mode;
mod model;
mod output;
mod peers;
mod plot;
mod progress;
mod protocol;
mod publish;
mod random;
mod scan;
mod scenario;
mod schedule;
mod slope;
mod statistics;
mod system;
mod table;
mod target;
mod token;
mod verify;
mod websocket;

pub use self::args::{
    BenchArgs, BenchCommand, CheckArgs, ClientArgs, ClusterArgs, CommitsArgs, FanoutArgs, IdleArgs,
    LoadArgs, OutputArgs, PublishArgs, RunArgs, TargetArgs, Via,
};
pub use self::bare::BareArgs;
pub use self::chat::ChatArgs;
pub use self::counters::{NodeCounters, PostgresCounters, RedisCounters};
pub use self::error::BenchError;
pub use self::faults::{FaultsArgs, ScenarioBArgs};
pub use self::history::HistoryError;
pub use self::log::{LogArgs, LogKind, SoakArgs, Traffic};
pub use self::mail::MailArgs;
pub use self::model::ModelArgs;
pub use self::peers::{Peer, PeersArgs};
pub use self::proxy::{Direction, ProxyArgs};
pub use self::scenario::{
    Cpu, LoadOptions, Point, Scenario, ScenarioAArgs, ScenarioArgs, ScenarioCArgs, ScenarioDArgs,
    ScenarioStormArgs,
};

/// Runs one benchmark: prints progress to standard error and a table to standard output.
///
/// # Errors
/// [`BenchError::Violated`] when the run was completed and a promise did not hold (the report is printed all the same);
/// the others when it could not be completed.
pub fn run(args: BenchArgs) -> Result<(), BenchError> {
    system::raise_open_files();
    match args.command {
        BenchCommand::Run(args) => mode::run::run(args),
        BenchCommand::Idle(args) => mode::idle::run(args),
        BenchCommand::Commits(args) => mode::commits::run(args),
        BenchCommand::Fanout(args) => mode::fanout::run(args),
        BenchCommand::Cluster(args) => mode::cluster::run(args),
        BenchCommand::Check(args) => mode::check::run(&args),
        BenchCommand::Proxy(args) => proxy::run(&args),
        BenchCommand::Bare(args) => bare::run(&args),
        BenchCommand::Subscribers => crowd::run(),
        BenchCommand::Faults(args) => faults::run(&args),
        BenchCommand::Model(args) => model::run(&args),
        BenchCommand::Peers(args) => peers::run(&args),
        BenchCommand::Scenario(args) => scenario::run(&args),
        BenchCommand::Log(args) => log::run(&args),
        BenchCommand::Soak(args) => log::run_soak(&args),
        BenchCommand::Mail(args) => mail::run(&args),
        BenchCommand::Chat(args) => chat::run(&args),
    }
}
