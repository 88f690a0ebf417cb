//! What operators ask: is it alive, is it ready, what does it count.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fanfare_engine::{
    Metrics,
    metrics::{BUCKETS, Histogram},
    port::BusHealth,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use serde::Serialize;

use crate::Gateway;

/// `GET /health/live`: the process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /health/ready`: the parts that a node cannot do without answer, asked just now.
pub(crate) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let readiness = gateway.engine.readiness().await;
    let bus = match readiness.bus {
        BusHealth::Local => "local",
        BusHealth::Up => "up",
        BusHealth::Down => "down",
    };
    let log = if readiness.log { "up" } else { "down" };
    let status = if readiness.log {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        axum::Json(Parts {
            ready: readiness.log,
            log,
            bus,
        }),
    )
        .into_response()
}

/// `GET /metrics`: everything that is counted, in the text format of Prometheus.
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

impl Gateway {
    /// What this node tells about itself to the others and in `info`.
    #[must_use]
    pub fn about(
        metrics: &Metrics,
        node_name: &str,
        uid: &str,
        version: &str,
        uptime_seconds: u64,
    ) -> Bytes {
        let about = About {
            uid,
            name: node_name,
            version,
            uptime: uptime_seconds,
            num_clients: metrics.connections.value(),
            num_subs: metrics.subscriptions.value(),
            num_channels: metrics.channels.value(),
        };
        serde_json::to_vec(&about).unwrap_or_default().into()
    }
}

#[derive(Serialize)]
struct Parts {
    ready: bool,
    log: &'static str,
    bus: &'static str,
}

#[derive(Serialize)]
struct About<'a> {
    uid: &'a str,
    name: &'a str,
    version: &'a str,
    uptime: u64,
    num_clients: i64,
    num_subs: i64,
    num_channels: i64,
}

/// The engine's counters at one moment.
struct Snapshot {
    gateway: Arc<Gateway>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = self.gateway.engine.metrics();
        let gauges = [
            (
                "connections",
                "Open connections",
                metrics.connections.value(),
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
            ("uptime_seconds", "Seconds since the start", {
                i64::try_from(self.gateway.started.elapsed().as_secs()).unwrap_or(i64::MAX)
            }),
            ("bus_up", "1 if hints travel, or need not", {
                i64::from(self.gateway.engine.bus_health() != BusHealth::Down)
            }),
        ];
        for (name, help, value) in gauges {
            put(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        let engine = [
            (
                "publications",
                "Publications acknowledged",
                metrics.publications.value(),
            ),
            (
                "epoch_changes",
                "Times that the log's database was restored or replaced",
                metrics.epoch_changes.value(),
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
                "batches",
                "Batches handed to the log",
                metrics.batches.value(),
            ),
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
                "lagging",
                "Times that a connection was full",
                metrics.lagging.value(),
            ),
            (
                "page_reads",
                "Pages read from the log",
                metrics.page_reads.value(),
            ),
            (
                "hints",
                "Hints that arrived over the bus",
                metrics.hints.value(),
            ),
            (
                "healed_gaps",
                "Publications fetched after a gap",
                metrics.healed_gaps.value(),
            ),
            (
                "healed_by_sweep",
                "Publications fetched after a sweep",
                metrics.healed_by_sweep.value(),
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
        ];
        for (name, help, value) in engine.into_iter().chain((self.gateway.config.counters)()) {
            put(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        put_histogram(
            &mut encoder,
            "commit_seconds",
            "Time to commit a batch",
            &metrics.commit_seconds,
        )
    }
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

fn put_histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &Histogram,
) -> Result<(), std::fmt::Error> {
    let kind = prometheus_client::metrics::MetricType::Histogram;
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    let counts = histogram.counts();
    let bounds = BUCKETS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    encoder.encode_histogram::<prometheus_client::encoding::NoLabelSet>(
        histogram.sum_seconds(),
        counts.iter().sum(),
        &buckets,
        None,
    )
}
