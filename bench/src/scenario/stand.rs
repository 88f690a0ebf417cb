//! A private cluster with its clients: where a scenario puts its loads.

use std::env;
use std::thread;
use std::time::Duration;

use crate::args::{ClientArgs, PublishArgs, Via};
use crate::clock;
use crate::counters::{NodeCounters, PostgresCounters, RedisCounters};
use crate::crowd::{Audience, Crowd};
use crate::error::BenchError;
use crate::fleet::{Findings, Jitter};
use crate::mode::run::AFTERMATH;
use crate::mode::servers::{DATABASE, ServerOptions, Servers};
use crate::mode::{Phase, Setup, judge, judge_publications, publish_watched, reached};
use crate::publish::Ledger;
use crate::report::{ProcessUse, SubscriberReport};
use crate::scenario::args::LoadOptions;
use crate::scenario::point::{Cpu, Point};
use crate::scenario::report::ScenarioReport;
use crate::statistics::median;
use crate::system::{self, Sample};

/// How long no further client may become ready, in seconds.
const CONNECT_PATIENCE: u64 = 60;

/// How long memory may settle after the clients have connected.
const SETTLE: Duration = Duration::from_secs(1);

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct StandOptions {
    /// Nodes.
    pub(super) nodes: usize,
    /// Clients.
    pub(super) clients: usize,
    /// Channels.
    pub(super) channels: usize,
    /// Whether lost connections are opened again.
    pub(super) reconnect: bool,
}

/// The cluster and its clients. Everything ends when it is dropped.
pub(super) struct Stand<'a> {
    servers: Servers,
    crowd: Crowd,
    setup: Setup,
    options: StandOptions,
    load: &'a LoadOptions,
    /// Number of the next message.
    first: u64,
    /// Messages acknowledged so far, by channel.
    expected: Vec<u64>,
    ledgers: Vec<Ledger>,
    /// What connecting came to; copied into every point.
    connected: Point,
    /// Whether everybody had everything after the last load.
    is_complete: bool,
}

impl<'a> Stand<'a> {
    /// Starts the servers and connects the clients.
    ///
    /// # Errors
    /// When something does not start, or the clients do not come up.
    pub(super) fn start(
        options: StandOptions,
        load: &'a LoadOptions,
        report: &mut ScenarioReport,
    ) -> Result<Self, BenchError> {
        let servers = Servers::start(&ServerOptions {
            nodes: options.nodes,
            sqlite: false,
            // As who runs several nodes on one machine would set it: each has its share of the processors.
            node_threads: Some(system::processors_shared(options.nodes)),
            ..ServerOptions::default()
        })?;
        let described = servers.describe()?;
        report.circumstances.postgres_version = described.postgres_version;
        report.circumstances.redis_version = described.redis_version;
        if system::is_in_memory(&env::temp_dir()) {
            let warning = format!(
                "{} is kept in memory: commits cost less than on a disk; set TMPDIR to a folder on one",
                env::temp_dir().display()
            );
            if !report.warnings.contains(&warning) {
                report.warnings.push(warning);
            }
        }
        let setup = Setup::new(&servers.target(), options.channels)?;
        let clients = ClientArgs {
            clients: options.clients,
            threads: load.client_processes,
            connect_rate: load.connect_rate,
            source_addresses: None,
            connect_patience: CONNECT_PATIENCE,
        };
        let crowd = setup.crowd(&clients, options.reconnect)?;
        let mut stand = Self {
            servers,
            crowd,
            setup,
            options,
            load,
            first: 0,
            expected: vec![0; options.channels],
            ledgers: Vec::new(),
            connected: Point::default(),
            is_complete: true,
        };
        stand.connect()?;
        Ok(stand)
    }

    fn connect(&mut self) -> Result<(), BenchError> {
        let clients = self.options.clients;
        let pids: Vec<u32> = self.server_pids();
        let nodes = &pids[..self.options.nodes];
        let before = (Sample::take(nodes).rss_kib(), system::kernel_memory_kib());
        let patience = Duration::from_secs(CONNECT_PATIENCE);
        let connected = self.crowd.connect_to(clients, patience);
        let seconds = connected.map_err(|error| self.explain(error))?;
        thread::sleep(SETTLE);
        let after = (Sample::take(nodes).rss_kib(), system::kernel_memory_kib());
        self.connected.clients = clients;
        self.connected.connect_seconds = seconds;
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / clients as f64;
        self.connected.node_kib_per_client = each(before.0, after.0);
        self.connected.kernel_kib_per_client = each(before.1, after.1);
        Ok(())
    }

    /// Watches the cluster for `seconds` without any load: what nothing costs.
    ///
    /// # Errors
    /// When a server does not answer.
    pub(super) fn idle(&mut self, seconds: f64) -> Result<Point, BenchError> {
        let pids = self.all_pids();
        let counted = self.count()?;
        let before = Sample::take(&pids);
        thread::sleep(Duration::from_secs_f64(seconds));
        let after = Sample::take(&pids);
        let now = self.count()?;
        let mut point = self.point("idle", 0.0);
        self.add_use(&mut point, &before, &after, &pids);
        point.counted = now.0.since(counted.0);
        point.redis = now.1.since(counted.1);
        point.held = true;
        Ok(point)
    }

    /// Cuts connections from now on, as told.
    ///
    /// # Errors
    /// When a process of clients has failed.
    pub(super) fn jitter(&self, jitter: Jitter) -> Result<(), BenchError> {
        self.crowd.jitter(jitter)
    }

    /// Puts the usual load on the cluster at `rate`, as often as is asked for; the repetition with the median of the 99th
    /// percentiles counts.
    ///
    /// # Errors
    /// When the load could not be put to its end. What it came to is no error.
    pub(super) fn load(&mut self, reading: &str, rate: f64) -> Result<Point, BenchError> {
        let args = self.load.publish();
        let mut points = Vec::new();
        for _ in 0..self.load.repeat.max(1) {
            points.push(self.load_with(reading, rate, &args)?);
            if !self.is_complete {
                break;
            }
        }
        let all: Vec<f64> = points.iter().map(Point::p99_ms).collect();
        let middle = median(&all);
        let distance = |point: &Point| (point.p99_ms() - middle).abs();
        let chosen = points
            .into_iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let mut point = chosen.ok_or(BenchError::Thread("publisher"))?;
        point.p99_ms_of_repeats = all;
        Ok(point)
    }

    /// Puts one load on the cluster.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn load_with(
        &mut self,
        reading: &str,
        rate: f64,
        args: &PublishArgs,
    ) -> Result<Point, BenchError> {
        let measured = self.measure(reading, rate, args);
        measured.map_err(|error| self.explain(error))
    }

    fn measure(
        &mut self,
        reading: &str,
        rate: f64,
        args: &PublishArgs,
    ) -> Result<Point, BenchError> {
        let pids = self.all_pids();
        let plan = self.setup.plan(args, Via::Http, rate, self.first)?;
        let look = self.crowd.look()?;
        let database = self.count_postgres()?;
        let mut counted = Vec::with_capacity(2);
        let phase = publish_watched(plan, rate, args, Some(&self.crowd), &pids, &mut || {
            counted.push(self.count()?);
            Ok(())
        })?;
        let mut acknowledged = vec![0; self.options.channels];
        let unknown = &mut vec![0; self.options.channels];
        phase.ledger.add_to_channels(&mut acknowledged, unknown);
        for (sum, count) in self.expected.iter_mut().zip(&acknowledged) {
            *sum += count;
        }
        let incomplete = self.crowd.wait_complete(&self.expected, args.drain)?;
        let mut point = self.point(reading, rate);
        point.drain_seconds = clock::between(phase.published_at, clock::now()).as_secs_f64();
        point.delivery = self.crowd.take_latency()?.summary();
        point.ack = phase.ledger.latency().summary();
        point.incomplete = incomplete;
        point.acknowledged = acknowledged.iter().sum();
        point.expected = self.deliveries(&acknowledged);
        let now = self.crowd.look()?;
        point.delivered = now.delivered.saturating_sub(look.delivered);
        point.postgres = self.count_postgres()?.since(database);
        if let [before, after] = counted[..] {
            point.counted = after.0.since(before.0);
            point.redis = after.1.since(before.1);
        }
        self.add_use(&mut point, &phase.before, &phase.after, &pids);
        point.deliveries_per_second = phase.deliveries as f64 / point.window_seconds;
        self.judge_point(&mut point, &phase, rate, args);
        if now.violations > look.violations {
            let count = now.violations - look.violations;
            point.held = false;
            point.reasons.push(format!("{count} violations"));
        }
        self.first += phase.ledger.report(rate).scheduled;
        self.ledgers.push(phase.ledger);
        self.is_complete = incomplete == 0;
        Ok(point)
    }

    /// What the point holds of what it was asked for.
    fn judge_point(&self, point: &mut Point, phase: &Phase, rate: f64, args: &PublishArgs) {
        let publications = phase.ledger.report(rate);
        point.achieved_per_second = publications.achieved_per_second;
        point.reasons = judge_publications(&publications);
        if point.incomplete > 0 {
            let count = point.incomplete;
            point
                .reasons
                .push(format!("{count} clients were not complete in time"));
        }
        if !reached(&publications, args) {
            point.reasons.push("the rate was not reached".to_owned());
        }
        let bound = self.load.p99_max_ms;
        if point.p99_ms() > bound {
            point.reasons.push(format!("p99 above {bound} ms"));
        }
        point.held = point.reasons.is_empty();
    }

    /// Ends the clients, judges everything that they saw, and stops the servers.
    ///
    /// # Errors
    /// When a process of clients has failed.
    pub(super) fn finish(
        mut self,
        report: &mut ScenarioReport,
    ) -> Result<(SubscriberReport, Findings), BenchError> {
        thread::sleep(AFTERMATH);
        let findings = self.crowd.finish()?;
        let mut judged = judge(&findings, &self.ledgers, self.options.channels);
        if !self.is_complete {
            // An overload that was sought, and is told by its point: those who were behind when patience ran out have
            // missed nothing so far.
            judged.forgive_missing();
        }
        report.verdict.reasons.extend(judged.verdict.reasons);
        if report.verdict.first_violation.is_none() {
            report.verdict.first_violation = judged.verdict.first_violation;
        }
        report.verdict.reasons.extend(self.servers.ended());
        report.warnings.extend(self.servers.stop());
        Ok((judged.report, findings))
    }

    /// An empty point with what is known beforehand.
    fn point(&self, reading: &str, rate: f64) -> Point {
        let subscribers = self.connected.clients as f64 / self.options.channels as f64;
        Point {
            reading: reading.to_owned(),
            nodes: self.options.nodes,
            channels: self.options.channels,
            size: self.load.size,
            rate,
            asked_deliveries_per_second: rate * subscribers,
            ..self.connected.clone()
        }
    }

    /// Deliveries that so many messages by channel are. Client i is in channel i modulo their number.
    fn deliveries(&self, messages: &[u64]) -> u64 {
        let (clients, channels) = (self.connected.clients, self.options.channels);
        let members =
            |channel: usize| clients / channels + usize::from(channel < clients % channels);
        let each = messages.iter().enumerate();
        each.map(|(channel, count)| count * members(channel) as u64)
            .sum()
    }

    fn add_use(&self, point: &mut Point, before: &Sample, after: &Sample, pids: &[u32]) {
        let used = before.processes_until(after, pids);
        let own = before.generator_until(after);
        let (nodes, others) = used.split_at(self.options.nodes);
        let sum =
            |processes: &[ProcessUse]| processes.iter().map(|process| process.cpu_seconds).sum();
        // As `Servers::processes` has them: PostgreSQL, Redis, and then the clients.
        let (shared, clients) = others.split_at(others.len().min(2));
        point.window_seconds = own.window_seconds;
        point.cpu = Cpu {
            nodes: sum(nodes),
            postgres: sum(&shared[..shared.len().min(1)]),
            redis: sum(&shared[shared.len().min(1)..]),
            generator: own.cpu_seconds + sum(clients),
        };
        let busiest = clients.iter().map(|process| process.cpu_share);
        point.generator_share = busiest.fold(own.busiest_thread_share, f64::max);
    }

    fn server_pids(&self) -> Vec<u32> {
        let processes = self.servers.processes().into_iter();
        processes.map(|(_, pid)| pid).collect()
    }

    /// Nodes, PostgreSQL, Redis, clients.
    fn all_pids(&self) -> Vec<u32> {
        let mut pids = self.server_pids();
        pids.extend(self.crowd.pids());
        pids
    }

    fn count(&self) -> Result<(NodeCounters, RedisCounters), BenchError> {
        let nodes = NodeCounters::read(&self.servers.addresses())?;
        let redis = match self.servers.redis() {
            Some(redis) => RedisCounters::read(redis)?,
            None => RedisCounters::default(),
        };
        Ok((nodes, redis))
    }

    fn count_postgres(&self) -> Result<PostgresCounters, BenchError> {
        Ok(match self.servers.postgres() {
            Some(postgres) => PostgresCounters::read(postgres, DATABASE)?,
            None => PostgresCounters::default(),
        })
    }

    /// An error with the last words of servers that ended by themselves, which is then what is to be told.
    fn explain(&mut self, error: BenchError) -> BenchError {
        let reasons = self.servers.ended();
        match reasons.is_empty() {
            true => error,
            false => BenchError::ServerEnded {
                reasons,
                source: Box::new(error),
            },
        }
    }
}
