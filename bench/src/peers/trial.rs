//! One server under the load, once.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::args::{ClientArgs, Via};
use crate::clock;
use crate::crowd::{Audience, Crowd};
use crate::error::BenchError;
use crate::mode::run::AFTERMATH;
use crate::mode::{Setup, judge, judge_publications, publish};
use crate::peers::args::{Peer, PeersArgs};
use crate::peers::contender::{Contender, Processes};
use crate::report::{ProcessUse, SubscriberReport};
use crate::scenario::{Cpu, Point};
use crate::system::{self, Sample};

/// How long no further client may become ready, in seconds.
const CONNECT_PATIENCE: u64 = 60;

/// How long everything may settle after the clients have connected: subscriptions that are spread to other nodes, and memory.
const SETTLE: Duration = Duration::from_secs(2);

/// What one trial came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trial {
    /// Name of the server.
    pub(super) peer: String,
    /// Its version, with those of what it needs.
    pub(super) version: String,
    /// When it began, milliseconds since 1970.
    pub(super) started_unix_ms: u64,
    /// Processes that wanted a processor before it began, on average over a minute.
    pub(super) load_before: f64,
    /// The load and what came of it.
    pub(super) point: Point,
    /// Resident memory of all nodes with all clients connected and before the load, MiB.
    pub(super) nodes_mib: f64,
    /// Resident memory of all nodes at the end of the load, MiB.
    pub(super) nodes_after_mib: f64,
    /// Resident memory of Redis and PostgreSQL at the end of the load, MiB. Pages that processes of PostgreSQL share are counted
    /// for each.
    pub(super) stores_after_mib: f64,
    /// Deliveries per processor second of nodes, Redis and PostgreSQL together; 0 where their processes are not known.
    pub(super) deliveries_per_cpu_second: f64,
    /// What the subscribers found.
    pub(super) found: SubscriberReport,
    /// What was not as it should be.
    pub(super) reasons: Vec<String>,
}

impl Trial {
    /// The 99th percentile of the delivery latency, in microseconds.
    pub(super) fn p99_us(&self) -> u64 {
        self.point.delivery.p99_us
    }

    /// Whether it is under the same load as another.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let load = |trial: &Self| {
            let point = &trial.point;
            (
                point.clients,
                point.channels,
                point.size,
                point.rate.to_bits(),
            )
        };
        load(self) == load(other)
    }
}

/// Puts the load on a server that was just started, and stops it.
///
/// # Errors
/// When its clients do not come up, or something of ours has failed. What the load came to is no error.
pub(super) fn run(
    peer: Peer,
    mut contender: Contender,
    args: &PeersArgs,
) -> Result<Trial, BenchError> {
    let measured = measure(peer, &contender, args);
    let ended = contender.ended();
    let warnings = contender.stop();
    match measured {
        Ok(mut trial) => {
            trial.reasons.extend(ended);
            trial.reasons.extend(warnings);
            Ok(trial)
        }
        Err(error) if ended.is_empty() => Err(error),
        Err(error) => Err(BenchError::ServerEnded {
            reasons: ended,
            source: Box::new(error),
        }),
    }
}

fn measure(peer: Peer, contender: &Contender, args: &PeersArgs) -> Result<Trial, BenchError> {
    let load_before = system::load_average();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let channels = args.clients.div_ceil(args.subscribers);
    let (listening, publishing) = contender.dialects();
    let setup = Setup::new(&contender.target(), channels)?.speaking(listening, publishing);
    let crowd = setup.crowd(&clients(args), false)?;
    let processes = contender.processes();
    let mut trial = Trial {
        peer: peer.name().to_owned(),
        version: contender.version()?,
        started_unix_ms: since.map_or(0, |since| since.as_millis() as u64),
        load_before,
        ..Trial::default()
    };
    trial.point = Point {
        reading: peer.name().to_owned(),
        nodes: contender.nodes(),
        clients: args.clients,
        channels,
        size: args.load.size,
        rate: args.rate,
        asked_deliveries_per_second: args.rate * args.clients as f64 / channels as f64,
        ..Point::default()
    };
    connect(&crowd, &processes, args, &mut trial)?;
    load(&setup, crowd, &processes, args, &mut trial)?;
    Ok(trial)
}

fn clients(args: &PeersArgs) -> ClientArgs {
    ClientArgs {
        clients: args.clients,
        threads: args.load.client_processes,
        connect_rate: args.load.connect_rate,
        source_addresses: None,
        connect_patience: CONNECT_PATIENCE,
    }
}

fn connect(
    crowd: &Crowd,
    processes: &Processes,
    args: &PeersArgs,
    trial: &mut Trial,
) -> Result<(), BenchError> {
    let before = Sample::take(&processes.nodes).rss_kib();
    let patience = Duration::from_secs(CONNECT_PATIENCE);
    trial.point.connect_seconds = crowd.connect_to(args.clients, patience)?;
    thread::sleep(SETTLE);
    let after = Sample::take(&processes.nodes).rss_kib();
    trial.nodes_mib = after as f64 / 1024.0;
    trial.point.node_kib_per_client = after.saturating_sub(before) as f64 / args.clients as f64;
    Ok(())
}

fn load(
    setup: &Setup,
    crowd: Crowd,
    processes: &Processes,
    args: &PeersArgs,
    trial: &mut Trial,
) -> Result<(), BenchError> {
    let mut publishing = args.load.publish();
    // Only those of the Centrifuge API know keys; with the others a message whose outcome is not known is not sent again.
    publishing.idempotent = setup.publishes_with_keys();
    let servers = processes.all();
    let pids = [&servers[..], &crowd.pids()].concat();
    let plan = setup.plan(&publishing, Via::Http, args.rate, 0)?;
    let phase = publish(plan, args.rate, &publishing, Some(&crowd), &pids)?;
    let channels = trial.point.channels;
    let (mut acknowledged, mut unknown) = (vec![0; channels], vec![0; channels]);
    phase
        .ledger
        .add_to_channels(&mut acknowledged, &mut unknown);
    trial.point.incomplete = crowd.wait_complete(&acknowledged, publishing.drain)?;
    trial.point.drain_seconds = clock::between(phase.published_at, clock::now()).as_secs_f64();
    trial.point.delivery = crowd.take_latency()?.summary();
    trial.point.ack = phase.ledger.latency().summary();
    let live = crowd.look()?.live;
    thread::sleep(AFTERMATH);
    let findings = crowd.finish()?;
    if trial.version.is_empty() {
        trial.version = findings.versions.join(", ");
    }

    let used = phase.before.processes_until(&phase.after, &pids);
    let own = phase.before.generator_until(&phase.after);
    let (servers, subscribers) = used.split_at(servers.len());
    let (nodes, stores) = servers.split_at(processes.nodes.len());
    let (postgres, redis) = stores.split_at(processes.postgres.len());
    let point = &mut trial.point;
    point.window_seconds = own.window_seconds;
    point.cpu = Cpu {
        nodes: cpu(nodes),
        postgres: cpu(postgres),
        redis: cpu(redis),
        generator: own.cpu_seconds + cpu(subscribers),
    };
    let shares = subscribers.iter().map(|process| process.cpu_share);
    point.generator_share = shares.fold(own.busiest_thread_share, f64::max);
    point.deliveries_per_second = phase.deliveries as f64 / point.window_seconds;
    point.acknowledged = acknowledged.iter().sum();
    trial.nodes_after_mib = mib(nodes);
    trial.stores_after_mib = mib(stores);
    let seconds = cpu(servers);
    if seconds > 0.0 {
        trial.deliveries_per_cpu_second = phase.deliveries as f64 / seconds;
    }

    let publications = phase.ledger.report(args.rate);
    point.achieved_per_second = publications.achieved_per_second;
    let judged = judge(&findings, &[phase.ledger], channels);
    trial.found = judged.report;
    point.expected = trial.found.expected;
    point.delivered = trial.found.delivered;
    trial.reasons = judge_publications(&publications);
    trial.reasons.extend(judged.verdict.reasons);
    if live < args.clients {
        let lost = args.clients - live;
        trial.reasons.push(format!("{lost} connections were lost"));
    }
    point.held = trial.reasons.is_empty();
    Ok(())
}

fn cpu(processes: &[ProcessUse]) -> f64 {
    system::total_cpu_seconds(processes)
}

fn mib(processes: &[ProcessUse]) -> f64 {
    let kib: u64 = processes.iter().map(|process| process.rss_after_kib).sum();
    kib as f64 / 1024.0
}
