//! What operators ask: is it alive, is it ready.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fanfare_engine::{
    Metrics,
    port::{BusHealth, state::StateHealth},
};
use serde::Serialize;
use uuid::Uuid;

use crate::Gateway;

/// `GET /health/live`: the process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /health/ready`: the parts that a node cannot do without answer, asked just now; and it is not about to end.
pub(crate) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let readiness = gateway.engine.readiness().await;
    let bus = match readiness.bus {
        BusHealth::Local => "local",
        BusHealth::Up => "up",
        BusHealth::Down => "down",
    };
    let state = match readiness.state {
        StateHealth::Local => "local",
        StateHealth::Up => "up",
        StateHealth::Down => "down",
    };
    let log = if readiness.log { "up" } else { "down" };
    let draining = gateway.door.is_draining();
    let ready = readiness.log && !draining;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        axum::Json(Parts {
            ready,
            draining,
            log,
            bus,
            state,
        }),
    )
        .into_response()
}

impl Gateway {
    /// What this node tells about itself to the others and in `info`.
    #[must_use]
    pub fn about(metrics: &Metrics, node: &NodeIdentity, uptime_seconds: u64) -> Bytes {
        let about = About {
            uid: &node.uid.to_string(),
            name: &node.name,
            version: node.version,
            address: node.address.as_deref(),
            owners: node.owners,
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
    draining: bool,
    log: &'static str,
    bus: &'static str,
    state: &'static str,
}

/// Which node this is.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// Its name, shown to clients and in `info`.
    pub name: String,
    /// Another one each time that it starts.
    pub uid: Uuid,
    /// The version of the server.
    pub version: &'static str,
    /// Where other nodes reach it, as `http://host:port`.
    pub address: Option<String>,
    /// Whether it commits for other nodes, and hands drafts to them.
    pub owners: bool,
}

#[derive(Serialize)]
struct About<'a> {
    uid: &'a str,
    name: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    owners: bool,
    uptime: u64,
    num_clients: i64,
    num_subs: i64,
    num_channels: i64,
}
