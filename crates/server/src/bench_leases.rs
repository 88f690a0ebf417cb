//! `fanfare bench leases`: how many leases of connections one node renews in Redis in a second.
//!
//! It stands here and not with the other benchmarks, since it measures a part of the server and no protocol: what a node
//! does for its connections, without the connections.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use fanfare_backend::redis::state::RedisState;
use fanfare_bench::local::{LocalError, Redis};
use fanfare_engine::port::{
    State,
    state::{Entered, Held, Lease, StateError, StateEvents, StateHealth, StateKey, StateKeyError},
};
use fanfare_wire::{Epoch, Json, JsonError, News};
use serde::Serialize;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::config::Secret;

/// How long Redis may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Leases that are taken, or given back, in one call.
const SETUP_BATCH: usize = 10_000;

/// What others may know of each holder: of the usual size.
const INFO: &[u8] = br#"{"user":"0123456789abcdef","client":"01234567-89ab-cdef-0123-456789abcdef","conn_info":{"name":"Ada"}}"#;

/// Renew many leases in a loop, on a private Redis or on that of a URL.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct LeasesArgs {
    /// Leases that the node holds.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    leases: u32,
    /// Scopes that they are spread over.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    scopes: u32,
    /// How long to renew, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    duration: u32,
    /// Leases in one call.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Calls under way at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Use this Redis instead of a private one; its processor time is not told then.
    #[arg(
        long,
        value_name = "URL",
        env = "FANFARE_REDIS",
        hide_env_values = true
    )]
    #[serde(skip)]
    redis: Option<Secret>,
    /// Write the report to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Why it could not be measured, or did not hold.
#[derive(Debug, Error)]
pub(crate) enum LeasesError {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Redis(#[from] fanfare_backend::redis::RedisBusError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Key(#[from] StateKeyError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the name of the run is none of an epoch")]
    Name,
    #[error("Redis was not there within {START_TIMEOUT:?}")]
    Absent,
    #[error("a task of the benchmark has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("{0} leases were lost while they were renewed")]
    Lost(u64),
    #[error("the report cannot be written: {0}")]
    Report(#[from] io::Error),
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report<'a> {
    command: &'static str,
    version: &'static str,
    parameters: &'a LeasesArgs,
    cores: usize,
    seconds: f64,
    renewals: u64,
    renewals_per_second: f64,
    entered_per_second: f64,
    left_per_second: f64,
    batch_p50_ms: f64,
    batch_p99_ms: f64,
    batch_max_ms: f64,
    /// Of the private Redis, while leases were renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis_cpu_seconds: Option<f64>,
    node_cpu_seconds: f64,
    lost: u64,
}

/// Measures, and prints a table to standard output.
///
/// # Errors
/// [`LeasesError`]; [`Lost`](LeasesError::Lost) after the report.
pub(crate) async fn run(args: LeasesArgs) -> Result<(), LeasesError> {
    let private = match args.redis {
        Some(_) => None,
        None => Some(Redis::start()?),
    };
    let url = match (&args.redis, &private) {
        (Some(url), _) => url.reveal().to_owned(),
        (None, Some(redis)) => redis.url(),
        (None, None) => return Err(LeasesError::Absent),
    };
    let name = Uuid::new_v4().simple().to_string();
    let origin = Epoch::parse(&name).ok_or(LeasesError::Name)?;
    let state = Arc::new(RedisState::connect(&url, &origin, "fanfare")?);
    state.start(Arc::new(Deaf));
    let up = async {
        while state.health() != StateHealth::Up {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(START_TIMEOUT, up).await.is_err() {
        return Err(state.trouble().map_or(LeasesError::Absent, Into::into));
    }

    let leases = leases(&args)?;
    let held: Vec<Held> = leases.iter().map(|lease| lease.held.clone()).collect();
    let begin = Instant::now();
    let mut refused = 0;
    for leases in leases.chunks(SETUP_BATCH) {
        let entered = state.enter(leases).await?;
        refused += count(&entered, |entered| *entered == Entered::Full);
    }
    let entered_per_second = rate(held.len(), begin);
    drop(leases);

    let cpu = || private.as_ref().and_then(redis_cpu);
    let (redis_before, node_before) = (cpu(), node_cpu());
    let held: Arc<[Held]> = held.into();
    let begin = Instant::now();
    let measured = renew(&args, &state, &held, begin).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let redis_cpu_seconds = cpu()
        .zip(redis_before)
        .map(|(after, before)| after - before);
    let node_cpu_seconds = node_cpu() - node_before;

    let begin = Instant::now();
    let mut stayed = 0;
    for held in held.chunks(SETUP_BATCH) {
        let left = state.leave(held).await?;
        stayed += count(&left, |left| !left);
    }
    let left_per_second = rate(held.len(), begin);
    state.retire().await?;

    let lost = refused + measured.lost + stayed;
    let mut times = measured.times;
    times.sort_unstable();
    let report = Report {
        command: "leases",
        version: env!("CARGO_PKG_VERSION"),
        parameters: &args,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        seconds,
        renewals: measured.renewals,
        renewals_per_second: measured.renewals as f64 / seconds,
        entered_per_second,
        left_per_second,
        batch_p50_ms: percentile_ms(&times, 50),
        batch_p99_ms: percentile_ms(&times, 99),
        batch_max_ms: percentile_ms(&times, 100),
        redis_cpu_seconds,
        node_cpu_seconds,
        lost,
    };
    print(&report);
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).map_err(io::Error::from)?;
        fs::write(path, text)?;
    }
    match lost {
        0 => Ok(()),
        lost => Err(LeasesError::Lost(lost)),
    }
}

/// Leases of as many members, each renewed for a minute.
fn leases(args: &LeasesArgs) -> Result<Vec<Lease>, LeasesError> {
    let scopes: Vec<StateKey> = (0..args.scopes)
        .map(|number| StateKey::parse(&format!("presence/bench:{number}")))
        .collect::<Result<_, _>>()?;
    let info = Json::parse(INFO)?;
    let lease = |(number, scope): (u32, &StateKey)| Lease {
        held: Held {
            scope: scope.clone(),
            holder: Uuid::new_v4(),
        },
        member: format!("member-{number}"),
        info: info.clone(),
        ttl: Some(Duration::from_secs(60)),
        capacity: None,
        announce: None,
    };
    Ok((0..args.leases)
        .zip(scopes.iter().cycle())
        .map(lease)
        .collect())
}

/// What the loop has come to.
#[derive(Default)]
struct Measured {
    renewals: u64,
    lost: u64,
    times: Vec<Duration>,
}

/// Renews all leases again and again, batch by batch, some at once.
async fn renew(
    args: &LeasesArgs,
    state: &Arc<RedisState>,
    held: &Arc<[Held]>,
    begin: Instant,
) -> Result<Measured, LeasesError> {
    let end = begin + Duration::from_secs(args.duration.into());
    let (batch, parallel) = (args.batch as usize, args.parallel as usize);
    let mut tasks = Vec::new();
    for first in 0..parallel {
        let (state, held) = (Arc::clone(state), Arc::clone(held));
        tasks.push(tokio::spawn(async move {
            let mut measured = Measured::default();
            // Each takes its own batches: nothing is renewed twice as often as the rest.
            let own: Vec<&[Held]> = held.chunks(batch).skip(first).step_by(parallel).collect();
            for held in own.iter().cycle() {
                let start = Instant::now();
                if start >= end {
                    break;
                }
                let renewed = state.renew(held).await?;
                measured.times.push(start.elapsed());
                measured.renewals += count(&renewed, |there| *there);
                measured.lost += count(&renewed, |there| !there);
            }
            Ok::<_, StateError>(measured)
        }));
    }
    let mut all = Measured::default();
    for task in tasks {
        let one = task.await??;
        all.renewals += one.renewals;
        all.lost += one.lost;
        all.times.extend(one.times);
    }
    Ok(all)
}

fn print(report: &Report<'_>) {
    let args = report.parameters;
    println!("fanfare bench leases");
    println!(
        "  leases                {} in {} scopes, {} in a call, {} calls at once, {} cores",
        args.leases, args.scopes, args.batch, args.parallel, report.cores
    );
    println!(
        "  renewals              {:.0}/s",
        report.renewals_per_second
    );
    println!(
        "  a call                p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        report.batch_p50_ms, report.batch_p99_ms, report.batch_max_ms
    );
    let per_second = |cpu: f64| cpu / report.seconds;
    if let Some(cpu) = report.redis_cpu_seconds {
        println!(
            "  processor of Redis    {:.2} s in a second, {:.2} us a renewal",
            per_second(cpu),
            cpu * 1e6 / report.renewals.max(1) as f64
        );
    }
    println!(
        "  processor of the node {:.2} s in a second",
        per_second(report.node_cpu_seconds)
    );
    println!(
        "  taken, given back     {:.0}/s, {:.0}/s",
        report.entered_per_second, report.left_per_second
    );
    println!("  lost                  {}", report.lost);
}

fn rate(count: usize, begin: Instant) -> f64 {
    count as f64 / begin.elapsed().as_secs_f64()
}

fn count<T>(answers: &[T], is: impl Fn(&T) -> bool) -> u64 {
    answers.iter().map(|answer| u64::from(is(answer))).sum()
}

/// Of sorted times.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times
        .get(place)
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Processor seconds that Redis has used since its start.
fn redis_cpu(redis: &Redis) -> Option<f64> {
    let info = redis.execute(&["INFO", "cpu"]).ok()?;
    let field = |name: &str| -> Option<f64> {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some(field("used_cpu_sys:")? + field("used_cpu_user:")?)
}

/// Processor seconds that this process has used in the threads that it has.
fn node_cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let seconds = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanos: f64 = text.split(' ').next()?.parse().ok()?;
        Some(nanos / 1e9)
    });
    seconds.sum()
}

/// Hears nothing: the benchmark looks by itself.
struct Deaf;

impl StateEvents for Deaf {
    fn on_news(&self, _: News) {}

    fn on_up(&self) {}

    fn on_down(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_list() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&times, 50), 100.0);
        assert_eq!(percentile_ms(&times, 99), 198.0);
        assert_eq!(percentile_ms(&times, 100), 200.0);
        assert_eq!(percentile_ms(&[], 99), 0.0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_short_run_loses_nothing() {
        let dir = std::env::temp_dir().join(format!("fanfare-{}", Uuid::new_v4()));
        let args = LeasesArgs {
            leases: 1_000,
            scopes: 7,
            duration: 1,
            batch: 150,
            parallel: 3,
            redis: None,
            json: Some(dir.clone()),
        };
        run(args).await.unwrap();
        let report: serde_json::Value = serde_json::from_slice(&fs::read(&dir).unwrap()).unwrap();
        fs::remove_file(&dir).unwrap();
        assert!(report["renewals"].as_u64() > Some(0));
        assert_eq!(report["lost"].as_u64(), Some(0));
    }
}
