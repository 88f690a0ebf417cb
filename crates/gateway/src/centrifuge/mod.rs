//! The Centrifuge client protocol over WebSocket: the handshake here, the protocol in `session`.

mod client;
mod presence;
mod rights;
mod session;

use std::{io, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fanfare_engine::hub::Sink;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ring::digest;
use tracing::debug;

use crate::{Gateway, door::Seat, listener::Socket};
use session::ClientSession;

/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SUBPROTOCOL_JSON: &str = "centrifuge-json";
const SUBPROTOCOL_PROTOBUF: &str = "centrifuge-protobuf";

/// Why a request is not upgraded.
type Refusal = (StatusCode, &'static str);

/// Upgrades a request to a WebSocket and hands its socket to the hub.
pub async fn upgrade(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    let headers = match check(&gateway, &request) {
        Ok(headers) => headers,
        Err(refusal) => return refusal.into_response(),
    };
    let seat = match gateway.door.admit() {
        Ok(seat) => seat,
        Err(turned_away) => return turned_away.into_response(),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let opened = match upgrade.await {
            Ok(upgraded) => open(&gateway, upgraded, seat),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = opened {
            debug!(%error, "a websocket was lost during its handshake");
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Takes the bare socket out of HTTP. What HTTP had read beyond the request goes along.
fn open(gateway: &Arc<Gateway>, upgraded: Upgraded, seat: Seat) -> io::Result<()> {
    let parts = upgraded
        .downcast::<TokioIo<Socket>>()
        .map_err(|_| io::Error::other("not a socket of this server's listener"))?;
    let socket = parts.io.into_inner().into_stream().into_std()?;
    let session = ClientSession::new(Arc::clone(gateway), seat);
    // Copied, so that HTTP's buffer does not live as long as the connection.
    gateway.engine.hub().open(
        Sink::socket(socket)?,
        Box::new(session),
        parts.read_buf.to_vec(),
    );
    Ok(())
}

/// Checks the handshake; returns the headers of the answer.
fn check(gateway: &Gateway, request: &Request) -> Result<HeaderMap, Refusal> {
    let headers = request.headers();
    let has = |name: HeaderName, token: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is a websocket endpoint"));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        return Err((StatusCode::BAD_REQUEST, "websocket version 13 is served"));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or((StatusCode::BAD_REQUEST, "no websocket key"))?;
    if !gateway.config.origins.allow(headers) {
        return Err((
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see allowed_origins",
        ));
    }
    let query = request.uri().query().unwrap_or_default();
    let json = has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON);
    if query.contains("protobuf")
        || (!json && has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_PROTOBUF))
    {
        return Err((
            StatusCode::BAD_REQUEST,
            "the JSON protocol is served; Protobuf is not",
        ));
    }
    let mut answer = HeaderMap::new();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept(key.as_bytes())?);
    if json {
        answer.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL_JSON),
        );
    }
    Ok(answer)
}

fn accept(key: &[u8]) -> Result<HeaderValue, Refusal> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(WEBSOCKET_GUID);
    HeaderValue::from_str(&BASE64_STANDARD.encode(context.finish()))
        .map_err(|_| (StatusCode::BAD_REQUEST, "bad websocket key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_accepted_as_in_the_standard() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
