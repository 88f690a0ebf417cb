//! A node on its log, with nobody listening, and what a load on it comes to.

use std::env;

use serde::{Deserialize, Serialize};

use crate::args::{PublishArgs, Via};
use crate::counters::{NodeCounters, PostgresCounters};
use crate::error::BenchError;
use crate::local::Postgres;
use crate::log::args::{LogKind, Traffic};
use crate::mode::heads::Books;
use crate::mode::servers::{DATABASE, ServerOptions, Servers};
use crate::mode::{Setup, judge_publications, publish_watched, reached};
use crate::output::Circumstances;
use crate::report::LatencySummary;
use crate::scenario::Cpu;
use crate::system;

/// One load on one log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogPoint {
    /// `sqlite` or `postgres`.
    pub(crate) log: String,
    /// How much longer each flush took, in milliseconds.
    pub(crate) flush_ms: u32,
    /// Further nodes, which nobody published to.
    pub(crate) bystanders: usize,
    /// Messages per second asked for.
    pub(crate) rate: f64,
    /// Messages per second acknowledged within the window.
    pub(crate) achieved_per_second: f64,
    /// Length of the window, in seconds.
    pub(crate) window_seconds: f64,
    /// From the time at which a message should have been sent to its acknowledgement: the commit is flushed.
    pub(crate) ack: LatencySummary,
    /// Processor time in the window, in seconds; of the nodes only that of the one that was published to.
    pub(crate) cpu: Cpu,
    /// Processor time of all bystanders in the window, in seconds.
    pub(crate) cpu_bystanders: f64,
    /// What the node counted in the window.
    pub(crate) counted: NodeCounters,
    /// What PostgreSQL counted in the window.
    pub(crate) postgres: PostgresCounters,
    /// The busiest thread of the generator, as a share of one processor.
    pub(crate) generator_share: f64,
    /// Acknowledged as a whole, at the rate, and within the bound.
    pub(crate) held: bool,
    /// What it did not hold.
    pub(crate) reasons: Vec<String>,
}

impl LogPoint {
    /// Messages that were committed together, on average.
    pub(crate) fn messages_per_batch(&self) -> f64 {
        ratio(self.counted.publications, self.counted.batches)
    }

    /// Bytes of the write-ahead log for a message.
    pub(crate) fn wal_per_message(&self) -> f64 {
        ratio(self.postgres.wal_bytes, self.counted.publications)
    }

    /// Processors that `seconds` of processor time kept busy.
    pub(crate) fn cores(&self, seconds: f64) -> f64 {
        match self.window_seconds > 0.0 {
            true => seconds / self.window_seconds,
            false => 0.0,
        }
    }
}

fn ratio(amount: u64, count: u64) -> f64 {
    match count {
        0 => 0.0,
        count => amount as f64 / count as f64,
    }
}

/// What is started.
#[derive(Debug, Clone)]
pub(super) struct StandOptions {
    /// Which log.
    pub(super) kind: LogKind,
    /// How much longer each flush takes, in milliseconds.
    pub(super) flush_ms: u32,
    /// Further nodes, which nobody publishes to.
    pub(super) bystanders: usize,
    /// Text of the node's `fanfare.toml`.
    pub(super) config: Option<String>,
}

/// The node. Everything ends when it is dropped.
pub(super) struct Stand {
    options: StandOptions,
    servers: Servers,
    setup: Setup,
    /// Number of the next message.
    first: u64,
    books: Books,
}

impl Stand {
    /// Starts it.
    ///
    /// # Errors
    /// When something does not start.
    pub(super) fn start(
        options: StandOptions,
        traffic: &Traffic,
        circumstances: &mut Circumstances,
    ) -> Result<Self, BenchError> {
        // Each channel is asked for its head by a connection of its own.
        system::check_open_files(traffic.channels)?;
        let servers = Servers::start(&ServerOptions {
            nodes: 1 + options.bystanders,
            sqlite: options.kind == LogKind::Sqlite,
            config: options.config.clone(),
            flush_ms: options.flush_ms,
            wal_segments: traffic.wal_segments,
            ..ServerOptions::default()
        })?;
        let described = servers.describe()?;
        if described.postgres_version.is_some() {
            circumstances.postgres_version = described.postgres_version;
            circumstances.redis_version = described.redis_version;
        }
        let mut target = servers.target();
        target.urls.truncate(1);
        let setup = Setup::new(&target, traffic.channels)?;
        Ok(Self {
            options,
            servers,
            setup,
            first: 0,
            books: Books::new(traffic.channels),
        })
    }

    /// Publishes at `rate`, and holds it against `bound_ms`.
    ///
    /// # Errors
    /// When the load could not be put to its end. What it came to is no error.
    pub(super) fn load(
        &mut self,
        rate: f64,
        args: &PublishArgs,
        bound_ms: f64,
    ) -> Result<LogPoint, BenchError> {
        let measured = self.measure(rate, args, bound_ms);
        let reasons = match measured {
            Ok(_) => Vec::new(),
            Err(_) => self.servers.ended(),
        };
        match (measured, reasons.is_empty()) {
            (Err(source), false) => Err(BenchError::ServerEnded {
                reasons,
                source: Box::new(source),
            }),
            (measured, _) => measured,
        }
    }

    fn measure(
        &mut self,
        rate: f64,
        args: &PublishArgs,
        bound_ms: f64,
    ) -> Result<LogPoint, BenchError> {
        let pids: Vec<u32> = self.servers.processes().iter().map(|it| it.1).collect();
        let plan = self.setup.plan(args, Via::Ws, rate, self.first)?;
        let mut counted = Vec::with_capacity(2);
        let phase = publish_watched(plan, rate, args, None, &pids, &mut || {
            counted.push(self.count()?);
            Ok(())
        })?;
        let books = &mut self.books;
        phase
            .ledger
            .add_to_channels(&mut books.acknowledged, &mut books.unknown);
        let publications = phase.ledger.report(rate);
        self.first += publications.scheduled;

        let own = phase.before.generator_until(&phase.after);
        let used = phase.before.processes_until(&phase.after, &pids);
        let bystanders = self.options.bystanders;
        let seconds = |place: usize| used.get(place).map_or(0.0, |it| it.cpu_seconds);
        let mut point = LogPoint {
            log: match self.options.kind {
                LogKind::Sqlite => "sqlite".to_owned(),
                LogKind::Postgres => "postgres".to_owned(),
            },
            flush_ms: self.options.flush_ms,
            rate,
            achieved_per_second: publications.achieved_per_second,
            window_seconds: own.window_seconds,
            ack: phase.ledger.latency().summary(),
            // As `Servers::processes` has them: the node, bystanders, PostgreSQL, Redis.
            cpu: Cpu {
                nodes: seconds(0),
                postgres: seconds(1 + bystanders),
                redis: seconds(2 + bystanders),
                generator: own.cpu_seconds,
            },
            cpu_bystanders: (1..=bystanders).map(seconds).sum(),
            bystanders,
            generator_share: own.busiest_thread_share,
            reasons: judge_publications(&publications),
            ..LogPoint::default()
        };
        if let [before, after] = counted[..] {
            point.counted = after.0.since(before.0);
            point.postgres = after.1.since(before.1);
        }
        if !reached(&publications, args) {
            point.reasons.push("the rate was not reached".to_owned());
        }
        if phase.ledger.latency().percentile_ms(99.0) > bound_ms {
            point.reasons.push(format!("p99 above {bound_ms} ms"));
        }
        point.held = point.reasons.is_empty();
        Ok(point)
    }

    fn count(&self) -> Result<(NodeCounters, PostgresCounters), BenchError> {
        let node = NodeCounters::read(&self.servers.addresses()[..1])?;
        let postgres = match self.postgres() {
            Some(postgres) => PostgresCounters::read(postgres, DATABASE)?,
            None => PostgresCounters::default(),
        };
        Ok((node, postgres))
    }

    /// The PostgreSQL, if that is the log.
    pub(super) fn postgres(&self) -> Option<&Postgres> {
        self.servers.postgres()
    }

    /// Holds the heads of all channels against what was acknowledged, and stops the servers. What is not right is given first,
    /// then what is to be kept in mind.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<String>) {
        let (mut reasons, _) = self.books.judge(&self.setup);
        reasons.extend(self.servers.ended());
        let mut warnings = self.servers.stop();
        if system::is_in_memory(&env::temp_dir()) {
            warnings.push(format!(
                "{} is kept in memory: commits cost less than on a disk; set TMPDIR to a folder on one",
                env::temp_dir().display()
            ));
        }
        (reasons, warnings)
    }
}
