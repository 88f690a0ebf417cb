//! The Centrifuge client protocol over WebSocket: the handshake here, the protocol in `session`.

mod client;
mod presence;
mod rights;
mod session;

use std::{io, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_engine::hub::Sink;
use hyper::upgrade::Upgraded;
use tracing::debug;

use crate::{
    Gateway,
    door::Seat,
    upgrade::{self, Refusal, has},
};
use session::ClientSession;

const SUBPROTOCOL_JSON: &str = "centrifuge-json";
const SUBPROTOCOL_PROTOBUF: &str = "centrifuge-protobuf";

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
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let opened = match upgraded.await {
            Ok(upgraded) => open(&gateway, upgraded, seat),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = opened {
            debug!(%error, "a websocket was lost during its handshake");
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Hands the bare socket to the hub.
fn open(gateway: &Arc<Gateway>, upgraded: Upgraded, seat: Seat) -> io::Result<()> {
    let (socket, input) = upgrade::into_socket(upgraded)?;
    let session = ClientSession::new(Arc::clone(gateway), seat);
    let sink = Sink::socket(socket.into_std()?)?;
    gateway.engine.hub().open(sink, Box::new(session), input);
    Ok(())
}

/// Checks the handshake; returns the headers of the answer.
fn check(gateway: &Gateway, request: &Request) -> Result<HeaderMap, Refusal> {
    let headers = request.headers();
    let mut answer = upgrade::answer(headers)?;
    if !gateway.config.origins.allow(headers) {
        return Err((
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see allowed_origins",
        ));
    }
    let query = request.uri().query().unwrap_or_default();
    let speaks = |protocol| has(headers, header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let json = speaks(SUBPROTOCOL_JSON);
    if query.contains("protobuf") || (!json && speaks(SUBPROTOCOL_PROTOBUF)) {
        return Err((
            StatusCode::BAD_REQUEST,
            "the JSON protocol is served; Protobuf is not",
        ));
    }
    if json {
        answer.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL_JSON),
        );
    }
    Ok(answer)
}
