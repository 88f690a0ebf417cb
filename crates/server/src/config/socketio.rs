//! The settings of Socket.IO, and the address at which the other nodes reach this one.

use std::time::Duration;

use fanfare_gateway::socketio::Heartbeat;
use serde::Deserialize;

use super::{
    ConfigError,
    check::{Bounds, bounded, size},
};

const PING_INTERVAL_MS: Bounds = Bounds::new(25_000, 100, 300_000);
const PING_TIMEOUT_MS: Bounds = Bounds::new(20_000, 100, 300_000);
const MAX_PAYLOAD: Bounds = Bounds::new(1_000_000, 1_000, 16_000_000);

/// The section `[socketio]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSocketIo {
    pub(super) ping_interval_ms: Option<u64>,
    pub(super) ping_timeout_ms: Option<u64>,
    pub(super) max_payload: Option<u64>,
    pub(super) recovery: Option<bool>,
}

/// How Socket.IO is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketIo {
    /// How connections show that they are alive.
    pub(crate) heartbeat: Heartbeat,
    /// Clients carry how far they have read.
    pub(crate) recovery: bool,
}

pub(super) fn resolve(file: &FileSocketIo) -> Result<SocketIo, ConfigError> {
    let millis = |setting: &str, value, bounds| {
        bounded(setting, (None, value), bounds).map(Duration::from_millis)
    };
    let heartbeat = Heartbeat {
        interval: millis(
            "socketio.ping_interval_ms",
            file.ping_interval_ms,
            PING_INTERVAL_MS,
        )?,
        timeout: millis(
            "socketio.ping_timeout_ms",
            file.ping_timeout_ms,
            PING_TIMEOUT_MS,
        )?,
        max_payload: size(
            "socketio.max_payload",
            (None, file.max_payload),
            MAX_PAYLOAD,
        )?,
    };
    Ok(SocketIo {
        heartbeat,
        recovery: file.recovery.unwrap_or(true),
    })
}

/// `http://host:port`, without anything behind it.
pub(super) fn advertise(url: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(url) = url else { return Ok(None) };
    let authority = url
        .strip_prefix("http://")
        .map(|it| it.trim_end_matches('/'));
    let is_authority = |text: &&str| {
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\"\\".contains(&byte);
        matches!(port, Some(Ok(port)) if port > 0) && text.bytes().all(plain)
    };
    match authority.filter(is_authority) {
        Some(authority) => Ok(Some(format!("http://{authority}"))),
        None => Err(ConfigError::setting(
            "advertise",
            format!(
                "\"{url}\" is not where other servers reach this one; write http://10.0.0.1:8000"
            ),
        )),
    }
}
