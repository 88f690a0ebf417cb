//! From the command line to what the parts need, and from what they found to the report.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::args::{ClientArgs, OutputArgs, PublishArgs, TargetArgs, Via};
use crate::crowd::{Crowd, PER_PROCESS, PROCESSES_MAX, Party};
use crate::dialect::Dialect;
use crate::error::BenchError;
use crate::fleet::{Credentials, Fleet, FleetOptions, PER_SOURCE_ADDRESS};
use crate::history::{self, Reader, Recorder};
use crate::progress::Progress;
use crate::publish::{Plan, RetryPolicy};
use crate::report::{GeneratorUse, Report, Verdict, write_json};
use crate::system;
use crate::table;
use crate::target::Target;
use crate::token::Signer;

/// The most channels of one run.
const CHANNELS_MAX: usize = 1_000_000;

/// The most threads of subscribers.
const THREADS_MAX: usize = 64;

/// The largest data of one message, in bytes.
const SIZE_MAX: usize = 8 << 20;

/// The most messages of one schedule.
const MESSAGES_MAX: f64 = 200e6;

/// The most connections to publish on.
const PUBLISHERS_MAX: usize = 4_096;

/// Connections to publish on when none are asked for.
const PUBLISHERS_HTTP: usize = 64;
const PUBLISHERS_WS: usize = 4;

/// A busiest thread above this share of a processor makes the figures doubtful.
const SHARE_MAX: f64 = 0.8;

/// What every benchmark begins with.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Name of the run.
    pub(crate) run: String,
    /// Names of the channels.
    pub(crate) channels: Arc<Vec<String>>,
    targets: Vec<Target>,
    publish_targets: Vec<Target>,
    credentials: Credentials,
    access: TargetArgs,
    api_key: Option<String>,
    started_unix_ms: u64,
    recorder: Option<Recorder>,
    /// What subscribers speak.
    listening: Dialect,
    /// What publishers speak.
    publishing: Dialect,
}

impl Setup {
    /// Resolves the servers and names `channels` channels.
    pub(crate) fn new(args: &TargetArgs, channels: usize) -> Result<Self, BenchError> {
        if channels == 0 || channels > CHANNELS_MAX {
            return Err(BenchError::option(
                "--channels",
                format!("must be 1 to {CHANNELS_MAX}"),
            ));
        }
        let started_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let run = match &args.run {
            Some(run) => run.clone(),
            None => format!("{started_unix_ms:x}-{}", std::process::id()),
        };
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if run.is_empty() || !printable(&run) || !printable(&args.channel_prefix) {
            return Err(BenchError::option(
                "--run, --channel-prefix",
                "must be printable ASCII without spaces",
            ));
        }
        let name = |number: usize| {
            if args.channel_prefix.is_empty() {
                // Without a colon there is no namespace.
                format!("{run}.{number}")
            } else {
                format!("{}:{run}:{number}", args.channel_prefix)
            }
        };
        let targets = Target::parse_all("--url", &args.urls)?;
        let publish_targets = if args.publish_urls.is_empty() {
            targets.clone()
        } else {
            Target::parse_all("--publish-url", &args.publish_urls)?
        };
        let credentials = match (&args.token, &args.token_secret) {
            (Some(token), _) => Credentials::Token(token.clone()),
            (None, Some(secret)) => Credentials::Signer(Signer::new(secret, &args.user)),
            (None, None) => Credentials::None,
        };
        if let Some(key) = &args.api_key
            && !printable(key)
        {
            return Err(BenchError::option(
                "--api-key",
                "must be printable ASCII without spaces",
            ));
        }
        Ok(Self {
            channels: Arc::new((0..channels).map(name).collect()),
            run,
            targets,
            publish_targets,
            credentials,
            access: args.clone(),
            api_key: args.api_key.clone(),
            started_unix_ms,
            recorder: None,
            listening: Dialect::default(),
            publishing: Dialect::default(),
        })
    }

    /// Whether publications may carry idempotency keys.
    pub(crate) fn publishes_with_keys(&self) -> bool {
        self.publishing.is_numbered()
    }

    /// Lets subscribers and publishers speak something else than they usually do.
    pub(crate) fn speaking(mut self, listening: Dialect, publishing: Dialect) -> Self {
        self.listening = listening;
        self.publishing = publishing;
        self
    }

    /// Records from now on everything that clients do and see to the file at `path`, if there is one; replaces it.
    pub(crate) fn record_to(&mut self, path: Option<&Path>) -> Result<(), BenchError> {
        if let Some(path) = path {
            self.recorder = Some(Recorder::create(path, &self.run, &self.channels)?);
        }
        Ok(())
    }

    /// Where the run is recorded, if it is.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Reads random stretches of the log while the run is on, when it is recorded.
    pub(crate) fn reader(&self) -> Result<Option<Reader>, BenchError> {
        let Some(recorder) = self.recorder.clone() else {
            return Ok(None);
        };
        let targets = self.publish_targets.clone();
        let channels = Arc::clone(&self.channels);
        Reader::start(recorder, targets, self.api_key.clone(), channels).map(Some)
    }

    /// Ends the history, if there is one, with the log as it stands now. All that records must have ended.
    pub(crate) fn finish_history(&self) -> Result<(), BenchError> {
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let key = self.api_key.as_deref();
        history::dump(recorder, &self.publish_targets, key, &self.channels)?;
        recorder.finish()
    }

    /// Starts the threads of the subscribers.
    pub(crate) fn fleet(&self, args: &ClientArgs, reconnect: bool) -> Result<Fleet, BenchError> {
        if args.threads == 0 || args.threads > THREADS_MAX {
            return Err(BenchError::option(
                "--threads",
                format!("must be 1 to {THREADS_MAX}"),
            ));
        }
        if args.clients == 0 || args.clients > u32::MAX as usize {
            return Err(BenchError::option("--clients", "must be at least 1"));
        }
        system::check_open_files(args.clients)?;
        let sources = self.sources(args)?;
        Fleet::start(FleetOptions {
            targets: self.targets.clone(),
            per_source: args.clients.div_ceil(sources.len().max(1)),
            sources,
            channels: self.channels.to_vec(),
            dialect: self.listening,
            credentials: self.credentials.clone(),
            threads: args.threads,
            numbers: (0, 1),
            connect_rate: positive("--connect-rate", args.connect_rate)?,
            reconnect,
            recorder: self.recorder.clone(),
        })
    }

    /// Where publications go.
    pub(crate) fn publish_addresses(&self) -> Vec<SocketAddr> {
        let targets = self.publish_targets.iter();
        targets.map(|target| target.address).collect()
    }

    /// Starts processes of subscribers, one for each thread that is asked for, and more where one may not open as many
    /// connections.
    pub(crate) fn crowd(&self, args: &ClientArgs, reconnect: bool) -> Result<Crowd, BenchError> {
        let needed = args.clients.div_ceil(PER_PROCESS);
        if args.clients == 0 || needed > PROCESSES_MAX {
            return Err(BenchError::option(
                "--clients",
                format!("must be 1 to {}", PER_PROCESS * PROCESSES_MAX),
            ));
        }
        if args.threads == 0 || args.threads > THREADS_MAX {
            return Err(BenchError::option(
                "--threads",
                format!("must be 1 to {THREADS_MAX}"),
            ));
        }
        let processes = needed.max(args.threads);
        // Checked here, where it can be told: each process opens its share.
        system::check_open_files(args.clients.div_ceil(processes))?;
        let party = Party {
            urls: self.access.urls.clone(),
            channels: self.channels.to_vec(),
            dialect: self.listening,
            token: self.access.token.clone(),
            token_secret: self.access.token_secret.clone(),
            user: self.access.user.clone(),
            first: 0,
            processes,
            source: None,
            connect_rate: positive("--connect-rate", args.connect_rate)?,
            reconnect,
        };
        Crowd::start(&party, processes)
    }

    fn sources(&self, args: &ClientArgs) -> Result<Vec<Ipv4Addr>, BenchError> {
        let loopback = self
            .targets
            .iter()
            .all(|target| target.address.ip().is_ipv4() && target.address.ip().is_loopback());
        let needed = args
            .clients
            .div_ceil(self.targets.len() * PER_SOURCE_ADDRESS);
        let count = match args.source_addresses {
            Some(0) => {
                return Err(BenchError::option(
                    "--source-addresses",
                    "must be at least 1",
                ));
            }
            Some(count) if count > 1 && !loopback => {
                return Err(BenchError::option(
                    "--source-addresses",
                    "can only be had with servers on 127.0.0.1",
                ));
            }
            Some(count) => usize::from(count),
            None if loopback => needed.min(254),
            None => 1,
        };
        if count == 1 {
            return Ok(Vec::new());
        }
        Ok((1..=count)
            .map(|last| Ipv4Addr::new(127, 0, 0, last as u8))
            .collect())
    }

    /// What to publish, beginning with message `first`.
    pub(crate) fn plan(
        &self,
        args: &PublishArgs,
        via: Via,
        rate: f64,
        first: u64,
    ) -> Result<Plan, BenchError> {
        let rate = positive("--rate", rate)?;
        let seconds =
            positive("--duration", args.duration)? + not_negative("--warmup", args.warmup)?;
        if rate * seconds > MESSAGES_MAX || rate * seconds < 1.0 {
            let reason = format!("--rate times --duration must be 1 to {MESSAGES_MAX} messages");
            return Err(BenchError::option("--rate", reason));
        }
        if args.size > SIZE_MAX {
            return Err(BenchError::option(
                "--size",
                format!("must be at most {SIZE_MAX}"),
            ));
        }
        let connections = args.publishers.unwrap_or(match via {
            Via::Http => PUBLISHERS_HTTP,
            Via::Ws => PUBLISHERS_WS,
        });
        if connections == 0 || connections > PUBLISHERS_MAX {
            return Err(BenchError::option(
                "--publishers",
                format!("must be 1 to {PUBLISHERS_MAX}"),
            ));
        }
        Ok(Plan {
            targets: self.publish_targets.clone(),
            channels: Arc::clone(&self.channels),
            run: self.run.clone(),
            via,
            dialect: self.publishing,
            connections,
            api_key: self.api_key.clone(),
            credentials: self.credentials.clone(),
            idempotent: args.idempotent,
            size: args.size,
            first,
            patience: Duration::from_secs_f64(not_negative("--drain", args.drain)?),
            retry: RetryPolicy::default(),
            recorder: self.recorder.clone(),
        })
    }

    /// Connects all subscribers of `fleet` up to `clients`.
    pub(crate) fn connect(
        &self,
        fleet: &Fleet,
        clients: usize,
        args: &ClientArgs,
    ) -> Result<(), BenchError> {
        let mut progress = Progress::new("connect");
        let patience = Duration::from_secs(args.connect_patience);
        let result = fleet.connect_to(clients, patience, |live| {
            progress.show(live as f64 / clients as f64, || {
                format!("{live} of {clients} subscribed")
            });
        });
        progress.clear();
        result
    }

    /// A report of `command` with nothing in it yet.
    pub(crate) fn report(&self, command: &'static str, parameters: &impl Serialize) -> Report {
        Report {
            command,
            generator_version: env!("CARGO_PKG_VERSION"),
            build: system::build(),
            load_before: system::load_average(),
            run: self.run.clone(),
            started_unix_ms: self.started_unix_ms,
            parameters: serde_json::to_value(parameters).unwrap_or_default(),
            server_versions: Vec::new(),
            cluster: None,
            machine: system::machine(),
            generator: GeneratorUse::default(),
            processes: Vec::new(),
            subscribers: None,
            publications: None,
            delivery_latency: None,
            ack_latency: None,
            idle_steps: Vec::new(),
            idle_fit: None,
            rate_steps: Vec::new(),
            knee_per_second: None,
            verdict: Verdict::default(),
            warnings: Vec::new(),
        }
    }
}

/// Prints and writes a report, and turns what did not hold into an error.
pub(crate) fn conclude(mut report: Report, output: &OutputArgs) -> Result<(), BenchError> {
    let shares = report.rate_steps.iter().map(|step| step.generator_share);
    let share = shares.fold(report.generator.busiest_thread_share, f64::max);
    if share > SHARE_MAX {
        report.warnings.push(format!(
            "the generator's busiest thread used {:.0} % of a processor: its latencies are partly its own",
            share * 100.0
        ));
    }
    if report.processes.iter().any(|process| process.gone) {
        report
            .warnings
            .push("an observed process ended before the window did".to_owned());
    }
    report.verdict.passed = report.verdict.reasons.is_empty();
    // Whoever read the table may have gone; the verdict is told all the same.
    let _ = std::io::stdout().write_all(table::render(&report).as_bytes());
    if let Some(path) = &output.json {
        write_json(path, &report)?;
    }
    if report.verdict.passed {
        Ok(())
    } else {
        Err(BenchError::Violated {
            reasons: report.verdict.reasons,
        })
    }
}

/// A number that must be above zero.
pub(crate) fn positive(option: &'static str, value: f64) -> Result<f64, BenchError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(BenchError::option(option, "must be a number above zero"))
    }
}

/// A number of seconds that may be zero.
pub(crate) fn not_negative(option: &'static str, value: f64) -> Result<f64, BenchError> {
    if (0.0..1e6).contains(&value) {
        Ok(value)
    } else {
        Err(BenchError::option(
            option,
            "must be a number of seconds, zero or more",
        ))
    }
}
