//! What a benchmark found: the JSON written with `--json`.
//!
//! Times are in the unit that the name ends with (`_us` microseconds, `_ms` milliseconds, `_seconds`). Latencies are
//! measured from the time at which the message was meant to be sent, so that a slow server cannot hide by
//! slowing the generator down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::counters::NodeCounters;
use crate::error::BenchError;

pub use crate::verify::StreamFaults;

/// Writes a report as JSON for people and programs, a line at its end.
///
/// # Errors
/// [`BenchError::Report`] when the file cannot be written.
pub(crate) fn write_json(path: &Path, report: &impl Serialize) -> Result<(), BenchError> {
    let written = serde_json::to_vec_pretty(report)
        .map_err(std::io::Error::from)
        .and_then(|mut text| {
            text.push(b'\n');
            fs::write(path, text)
        });
    written.map_err(|source| BenchError::Report {
        path: path.to_owned(),
        source,
    })
}

/// The whole report of one benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `run`, `idle`, `commits`, `fanout` or `cluster`.
    pub command: &'static str,
    /// Version of the generator.
    pub generator_version: &'static str,
    /// `release` or `debug` build of the generator.
    pub build: &'static str,
    /// Processes that wanted a processor before the run, on average over a minute.
    pub load_before: f64,
    /// Name of the run; part of its channel names.
    pub run: String,
    /// When it began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Every option, but no secret.
    pub parameters: serde_json::Value,
    /// Versions that the servers told on connecting.
    pub server_versions: Vec<String>,
    /// `cluster`: the servers that were started for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterReport>,
    /// Where it ran.
    pub machine: Machine,
    /// The load generator itself, in the measured window.
    pub generator: GeneratorUse,
    /// The servers that were started for it and the processes given with `--pid`, in the measured window.
    pub processes: Vec<ProcessUse>,
    /// Subscribers and what each of them verified; absent where there were none.
    pub subscribers: Option<SubscriberReport>,
    /// Publications and their acknowledgements; absent where there were none.
    pub publications: Option<PublicationReport>,
    /// From the intended time of sending to the arrival at each subscriber, warm-up left out.
    pub delivery_latency: Option<LatencySummary>,
    /// From the intended time of sending to the acknowledgement, warm-up left out.
    pub ack_latency: Option<LatencySummary>,
    /// `idle`: each step, the first one without any connection and not part of the fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle_steps: Vec<IdleStep>,
    /// `idle`: the line through the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_fit: Option<IdleFit>,
    /// `fanout` and `commits`: each rate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_steps: Vec<RateStep>,
    /// `commits --ramp`: the highest rate that held, in publications per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knee_per_second: Option<f64>,
    /// Whether every promise held, and which did not.
    pub verdict: Verdict,
    /// What to keep in mind when reading the figures.
    pub warnings: Vec<String>,
}

/// The servers that `cluster` started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClusterReport {
    /// How many nodes; their version is the generator's.
    pub nodes: usize,
    /// Version of the PostgreSQL that they shared; absent when one node ran on its embedded log.
    pub postgres_version: Option<String>,
    /// Version of the Redis that they shared; absent when one node ran alone.
    pub redis_version: Option<String>,
}

/// The outcome in one word, and why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Whether the run held.
    pub passed: bool,
    /// Each promise that was broken.
    pub reasons: Vec<String>,
    /// The first violation that was seen, in full.
    pub first_violation: Option<String>,
}

/// The machine that generator and servers shared.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that the generator may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
}

/// What the generator used in the measured window.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GeneratorUse {
    /// Length of the window.
    pub window_seconds: f64,
    /// Processor time of all its threads.
    pub cpu_seconds: f64,
    /// The same as a share of all processors, 0 to 1.
    pub machine_share: f64,
    /// The busiest of its threads, as a share of one processor: above 0.8 its latencies are not to be trusted.
    pub busiest_thread_share: f64,
}

/// What one observed process and its children used in the measured window.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProcessUse {
    /// Process id, as given.
    pub pid: u32,
    /// What it is to the run, when it was started for it: `node 1`, `PostgreSQL`, `Redis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Name of the program.
    pub name: String,
    /// Processor time in user mode and in the kernel.
    pub cpu_seconds: f64,
    /// The same as a share of one processor.
    pub cpu_share: f64,
    /// Resident memory before the window, KiB. Memory shared between its children counts once for each.
    pub rss_before_kib: u64,
    /// Resident memory after the window, KiB.
    pub rss_after_kib: u64,
    /// Highest resident memory of the process itself since it was started, KiB.
    pub rss_peak_kib: u64,
    /// Times that the kernel took the processor away or it was given up.
    pub context_switches: u64,
    /// The process ended before the window did.
    pub gone: bool,
}

/// The subscribers together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriberReport {
    /// How many were asked for.
    pub wanted: usize,
    /// How many were subscribed when publishing began.
    pub subscribed: usize,
    /// From the first connection to the last confirmed subscription.
    pub ramp_seconds: f64,
    /// Deliveries that should have arrived: for each subscriber, what was acknowledged in its channel.
    pub expected: u64,
    /// Different publications that did arrive, summed over subscribers.
    pub delivered: u64,
    /// Deliveries per second in the measured window.
    pub per_second: f64,
    /// What was wrong with their streams.
    pub faults: StreamFaults,
    /// Subscribers that did not receive everything.
    pub incomplete: usize,
    /// Deliveries that never arrived, summed over those.
    pub missing: u64,
    /// Deliveries beyond what could have been published.
    pub excess: u64,
    /// Deliveries that differ from what others received, or from what was acknowledged, under the same offset.
    pub mismatched: u64,
    /// Offsets that carry a message which another offset carries as well.
    pub repeated: u64,
    /// Messages that could not be read, or belong to a channel not subscribed to.
    pub malformed: u64,
    /// Connections that were opened again after a loss.
    pub reconnects: u64,
    /// Of those, how many went on without a gap by the server's word.
    pub recovered: u64,
    /// Of those, how many could not.
    pub unrecovered: u64,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<String, u64>,
    /// From the end of publishing until the last subscriber was complete.
    pub drain_seconds: f64,
}

/// The publisher's side.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PublicationReport {
    /// Publications per second that the schedule asked for.
    pub offered_per_second: f64,
    /// Publications acknowledged per second of the measured window.
    pub achieved_per_second: f64,
    /// Publications scheduled, warm-up included.
    pub scheduled: u64,
    /// Of those, acknowledged.
    pub acknowledged: u64,
    /// Of those, refused for good.
    pub refused: u64,
    /// Of those, sent without a clear answer.
    pub unknown: u64,
    /// Of those, not sent before patience ran out.
    pub unsent: u64,
    /// Times that one was sent again with the same idempotency key.
    pub retries: u64,
    /// Acknowledged as duplicates: an earlier try had been committed.
    pub duplicates: u64,
    /// Failures by kind; one publication may have several.
    pub errors: BTreeMap<String, u64>,
    /// How late the generator itself sent: 99th percentile from the intended time to the write.
    pub sent_late_p99_us: u64,
}

/// One latency distribution.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LatencySummary {
    /// How many were measured.
    pub count: u64,
    /// Smallest.
    pub min_us: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 95th percentile.
    pub p95_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Largest.
    pub max_us: u64,
    /// The distribution as (quantile, microseconds).
    pub distribution: Vec<(f64, u64)>,
}

/// Memory at one number of idle subscribers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IdleStep {
    /// Subscribed connections.
    pub connections: usize,
    /// Resident memory of all observed processes, KiB.
    pub rss_kib: u64,
}

/// The straight line through the idle steps.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IdleFit {
    /// Memory per connection, KiB.
    pub kib_per_connection: f64,
    /// Memory without any, KiB, by the same line.
    pub base_kib: f64,
}

/// One rate of several.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RateStep {
    /// Publications per second asked for.
    pub offered_per_second: f64,
    /// Publications per second acknowledged.
    pub achieved_per_second: f64,
    /// Deliveries in the measured window.
    pub deliveries: u64,
    /// Processor seconds of all observed processes in the window.
    pub server_cpu_seconds: f64,
    /// Deliveries per processor second of the servers; 0 when no process was observed.
    pub deliveries_per_cpu_second: f64,
    /// The generator's busiest thread, as a share of one processor.
    pub generator_share: f64,
    /// Delivery latency.
    pub delivery_latency: Option<LatencySummary>,
    /// Acknowledgement latency.
    pub ack_latency: Option<LatencySummary>,
    /// `fanout`: everything arrived and the rate was reached. `commits`: the rate was reached within the bound.
    pub held: bool,
    /// `fanout`: what the server counted in the measured windows, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<NodeCounters>,
    /// `fanout`: the yardstick at the same rate, measured in turns with the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yardstick: Option<YardstickStep>,
}

impl RateStep {
    /// Publications that left in one write, on average; `None` where the server does not tell.
    pub fn messages_per_write(&self) -> Option<f64> {
        self.counters.as_ref().and_then(messages_per_write)
    }
}

/// The yardstick at one rate: what a bare loop of writes reached, and how far the server is from it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct YardstickStep {
    /// Deliveries in the measured windows.
    pub deliveries: u64,
    /// Its processor seconds in them.
    pub cpu_seconds: f64,
    /// Deliveries per processor second.
    pub deliveries_per_cpu_second: f64,
    /// What it counted in them.
    pub counters: NodeCounters,
    /// The server's deliveries per processor second as a share of these: 1 is as good as the bare loop.
    pub ratio: f64,
    /// The ratio of each round.
    pub ratios: Vec<f64>,
    /// The price of one of its writes as a share of one of the server's, whatever a write carries; absent where the server does
    /// not tell how often it wrote. Unlike the ratio it does not rise when the server is late and more leaves together.
    pub write_ratio: Option<f64>,
    /// Delivery latency.
    pub delivery_latency: Option<LatencySummary>,
    /// Everything arrived and the rate was reached.
    pub held: bool,
}

impl YardstickStep {
    /// Publications that left in one write, on average.
    pub fn messages_per_write(&self) -> Option<f64> {
        messages_per_write(&self.counters)
    }
}

/// Processor time of one write, in microseconds; `None` where nothing is known.
pub(crate) fn write_us(cpu_seconds: f64, counters: &NodeCounters) -> Option<f64> {
    (counters.writes > 0 && cpu_seconds > 0.0).then(|| cpu_seconds * 1e6 / counters.writes as f64)
}

fn messages_per_write(counters: &NodeCounters) -> Option<f64> {
    (counters.writes > 0).then(|| counters.deliveries as f64 / counters.writes as f64)
}
