//! What a node counts, in the text format of Prometheus. `docs/operations.md` says what each number means.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_engine::{
    Metrics,
    metrics::{BUCKETS, Cause, Histogram},
    port::{BusHealth, state::StateHealth},
};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeMetric, MetricEncoder, NoLabelSet,
        text::encode,
    },
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{Gateway, door::Reason};

/// Numbers of an app under one name.
#[derive(Debug, Clone)]
pub struct Family {
    /// The name, without `fanfare_`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The numbers.
    pub samples: Samples,
}

/// Numbers, each with its labels.
#[derive(Debug, Clone)]
pub enum Samples {
    /// They only grow.
    Counter(Vec<Sample>),
    /// They go up and down.
    Gauge(Vec<Sample>),
    /// A distribution, without labels.
    Histogram(Arc<Histogram>),
}

/// Labels and a number.
pub type Sample = (Vec<(&'static str, String)>, u64);

/// `GET /metrics`: everything that is counted.
pub(crate) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut registry = Registry::with_prefix("fanfare");
    registry.register_collector(Box::new(Snapshot { gateway }));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, format)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The counters of a node at one moment.
struct Snapshot {
    gateway: Arc<Gateway>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.gateway.engine.metrics();
        for (name, help, value) in gauges(&self.gateway) {
            put(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        let counters = published(metrics)
            .into_iter()
            .chain(transacted(metrics))
            .chain(delivered(metrics))
            .chain(read(metrics))
            .chain(shared(metrics))
            .chain([
                (
                    "tokens_known",
                    "Connection tokens that were verified before",
                    self.gateway.sessions.hits(),
                ),
                (
                    "commands",
                    "Commands of the server API that were heard, of whichever node",
                    self.gateway.commands.count(),
                ),
            ])
            .chain((self.gateway.config.counters)());
        for (name, help, value) in counters {
            put(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        put_bus(&mut encoder, metrics)?;
        put_door(&mut encoder, &self.gateway)?;
        put_healed(&mut encoder, metrics)?;
        let proxies = self.gateway.proxies.as_ref();
        let of_proxies = proxies.and_then(|proxies| proxies.family());
        let of_judges = self.gateway.judges.family();
        let of_apps = (self.gateway.config.families)();
        for family in of_apps.iter().chain(&of_proxies).chain(&of_judges) {
            put_family(&mut encoder, family)?;
        }
        for (name, help, histogram) in [
            (
                "commit_seconds",
                "Time to commit a batch",
                &metrics.commit_seconds,
            ),
            (
                "lock_wait_seconds",
                "Time that batches waited for commits of other sessions in their channels",
                &metrics.lock_wait_seconds,
            ),
            (
                "transaction_seconds",
                "Time from taking an app's transaction to its outcome",
                &metrics.transaction_seconds,
            ),
        ] {
            let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            put_histogram(&mut encoder, histogram)?;
        }
        Ok(())
    }
}

/// A name, what it means, and its value.
type Named<T> = (&'static str, &'static str, T);

fn gauges(gateway: &Gateway) -> Vec<Named<i64>> {
    let metrics = gateway.engine.metrics();
    let (waiting, waiting_bytes) = gateway.engine.waiting();
    let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    let revocations = gateway.sessions.revocation_count();
    let uptime = gateway.started.elapsed().as_secs();
    let bus_up = gateway.engine.bus_health() != BusHealth::Down;
    let state_down = gateway.engine.state().health() == StateHealth::Down;
    vec![
        (
            "connections",
            "Open connections",
            metrics.connections.value(),
        ),
        (
            "seats_taken",
            "Connections that count against max_connections, those being opened included",
            size(gateway.door.seats_taken()),
        ),
        (
            "subscriptions",
            "Subscriptions of open connections",
            metrics.subscriptions.value(),
        ),
        (
            "channels",
            "Channels with subscribers on this node",
            metrics.channels.value(),
        ),
        (
            "attendances",
            "Subscriptions that count as presence",
            metrics.attendances.value(),
        ),
        (
            "publishes_waiting",
            "Publishes that wait for their batch",
            size(waiting),
        ),
        (
            "publishes_waiting_bytes",
            "What they weigh",
            size(waiting_bytes),
        ),
        (
            "revocations",
            "Users and sessions whose tokens are revoked",
            size(revocations),
        ),
        (
            "uptime_seconds",
            "Seconds since the start",
            i64::try_from(uptime).unwrap_or(i64::MAX),
        ),
        (
            "bus_up",
            "1 if hints travel, or need not",
            i64::from(bus_up),
        ),
        (
            "state_degraded",
            "1 while the node goes on with the state that it knows, because the shared one is away",
            i64::from(state_down),
        ),
        (
            "draining",
            "1 once the node has been told to stop",
            i64::from(gateway.door.is_draining()),
        ),
    ]
}

fn published(metrics: &Metrics) -> Vec<Named<u64>> {
    vec![
        (
            "publications",
            "Publications acknowledged",
            metrics.publications.value(),
        ),
        (
            "duplicates",
            "Publishes answered with an earlier position",
            metrics.duplicates.value(),
        ),
        (
            "busy",
            "Publishes refused because too many waited",
            metrics.busy.value(),
        ),
        (
            "append_errors",
            "Publishes that failed with the log",
            metrics.append_errors.value(),
        ),
        (
            "unknown_outcomes",
            "Of these, those of which nobody knows whether they were committed",
            metrics.unknown_outcomes.value(),
        ),
        (
            "batches",
            "Batches handed to the log",
            metrics.batches.value(),
        ),
        (
            "forwarded",
            "Publishes that were committed by the node that owns their channel",
            metrics.forwarded.value(),
        ),
        (
            "forward_fallbacks",
            "Publishes that the owner did not commit in time, so that this node did",
            metrics.fallbacks.value(),
        ),
        (
            "forward_taken",
            "Publishes that other nodes handed to this one",
            metrics.taken.value(),
        ),
        (
            "owner_moves",
            "Times that a contended channel was handed to another owner than before",
            metrics.owner_moves.value(),
        ),
    ]
}

fn transacted(metrics: &Metrics) -> Vec<Named<u64>> {
    vec![
        (
            "transactions",
            "Transactions of apps committed",
            metrics.transactions.value(),
        ),
        (
            "transactions_duplicate",
            "Transactions answered with what was committed before under the same key",
            metrics.transactions_duplicate.value(),
        ),
        (
            "transactions_refused",
            "Transactions whose guards did not hold",
            metrics.transactions_refused.value(),
        ),
        (
            "transactions_busy",
            "Transactions refused because too many waited",
            metrics.transactions_busy.value(),
        ),
        (
            "transactions_failed",
            "Transactions that failed with the database",
            metrics.transactions_failed.value(),
        ),
        (
            "transactions_unknown",
            "Of these, those of which nobody knows whether they were committed",
            metrics.transactions_unknown.value(),
        ),
    ]
}

fn delivered(metrics: &Metrics) -> Vec<Named<u64>> {
    vec![
        (
            "deliveries",
            "Publications written to connections",
            metrics.deliveries.value(),
        ),
        ("writes", "Writes of publications", metrics.writes.value()),
        (
            "written_bytes",
            "Bytes of publications written",
            metrics.written_bytes.value(),
        ),
        (
            "passes",
            "Passes over the cursors of a channel",
            metrics.passes.value(),
        ),
        (
            "news",
            "News of the moment for channels with subscribers on this node",
            metrics.news.value(),
        ),
        (
            "news_deliveries",
            "News written to connections",
            metrics.news_deliveries.value(),
        ),
        (
            "news_dropped",
            "News not given to a connection because it lagged, or to a shard because too many waited",
            metrics.news_dropped.value(),
        ),
        (
            "lagging",
            "Times that a connection was full",
            metrics.lagging.value(),
        ),
        (
            "stalled",
            "Connections closed because their peer took nothing for stall_seconds",
            metrics.stalled.value(),
        ),
    ]
}

fn read(metrics: &Metrics) -> Vec<Named<u64>> {
    vec![
        (
            "resumed_from_memory",
            "Positions of returning clients that the node could place by itself",
            metrics.resumed_from_memory.value(),
        ),
        (
            "resumed_from_log",
            "Positions of returning clients that had to be compared with the log",
            metrics.resumed_from_log.value(),
        ),
        (
            "head_reads",
            "Statements that read heads, for any number of clients each",
            metrics.head_reads.value(),
        ),
        (
            "page_reads",
            "Pages read from the log, for any number of clients each",
            metrics.page_reads.value(),
        ),
        (
            "hints",
            "Hints that arrived over the bus",
            metrics.hints.value(),
        ),
        (
            "epoch_changes",
            "Times that the log's database was restored or replaced",
            metrics.epoch_changes.value(),
        ),
        ("sweeps", "Sweeps of the lane log", metrics.sweeps.value()),
        (
            "sweep_errors",
            "Sweeps that failed",
            metrics.sweep_errors.value(),
        ),
        (
            "subscribe_errors",
            "Subscribes that failed",
            metrics.subscribe_errors.value(),
        ),
    ]
}

fn shared(metrics: &Metrics) -> Vec<Named<u64>> {
    vec![
        (
            "state_failures",
            "Calls of the shared state that were not answered, or not in time",
            metrics.state_failures.value(),
        ),
        (
            "state_asserted",
            "Leases and objects that were asserted again in the shared state",
            metrics.state_asserted.value(),
        ),
        (
            "limits_granted",
            "Wishes of limiters that were granted",
            metrics.limits_granted.value(),
        ),
        (
            "limits_refused",
            "Wishes of limiters that were refused",
            metrics.limits_refused.value(),
        ),
        (
            "limits_degraded",
            "Of both, those decided without the shared state",
            metrics.limits_degraded.value(),
        ),
    ]
}

fn put_bus(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let down = metrics.bus_down_ms.value() as f64 / 1e3;
    put(
        encoder,
        "bus_down_seconds",
        "Seconds for which hints did not travel",
        &ConstCounter::new(down),
    )?;
    let help = "Times that the way of hints changed to a state";
    let mut changes = encoder.encode_descriptor("bus_changes", help, None, MetricType::Counter)?;
    put_counter(&mut changes, "to", "down", metrics.bus_downs.value())?;
    put_counter(&mut changes, "to", "up", metrics.bus_ups.value())
}

fn put_door(encoder: &mut DescriptorEncoder<'_>, gateway: &Gateway) -> fmt::Result {
    put(
        encoder,
        "accept_errors",
        "Connections that could not be accepted, most of them for want of descriptors",
        &ConstCounter::new(gateway.accept_errors.load(Relaxed)),
    )?;
    let name = "connections_refused";
    let help = "New connections that were turned away";
    let mut refused = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for reason in Reason::ALL {
        let count = gateway.door.turned_away(reason);
        put_counter(&mut refused, "reason", reason.name(), count)?;
    }
    Ok(())
}

fn put_healed(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let name = "healed_publications";
    let help = "Publications that had been missing on this node and were fetched from the log";
    let mut healed = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for cause in Cause::ALL {
        let count = metrics.healed(cause).publications.value();
        put_counter(&mut healed, "cause", cause.name(), count)?;
    }
    let help = "From the moment in which the node knew that something was missing until it had it";
    let mut seconds =
        encoder.encode_descriptor("heal_seconds", help, None, MetricType::Histogram)?;
    for cause in Cause::ALL {
        let labels = [("cause", cause.name())];
        let mut of_cause = seconds.encode_family(&labels)?;
        put_histogram(&mut of_cause, &metrics.healed(cause).seconds)?;
    }
    Ok(())
}

fn put_family(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let (kind, samples) = match &family.samples {
        Samples::Counter(samples) => (MetricType::Counter, samples),
        Samples::Gauge(samples) => (MetricType::Gauge, samples),
        Samples::Histogram(histogram) => {
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, None, MetricType::Histogram)?;
            return put_histogram(&mut encoder, histogram);
        }
    };
    let mut encoder = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    for (labels, value) in samples {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut of_labels = encoder.encode_family(&labels)?;
        match kind {
            MetricType::Counter => of_labels.encode_counter::<NoLabelSet, _, u64>(value, None)?,
            _ => of_labels.encode_gauge(value)?,
        }
    }
    Ok(())
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

fn put_counter(
    encoder: &mut MetricEncoder<'_>,
    label: &str,
    value: &str,
    count: impl EncodeCounterValue,
) -> fmt::Result {
    encoder
        .encode_family(&[(label, value)])?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn put_histogram(encoder: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let counts = histogram.counts();
    let bounds = BUCKETS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    encoder.encode_histogram::<NoLabelSet>(
        histogram.sum_seconds(),
        counts.iter().sum(),
        &buckets,
        None,
    )
}
