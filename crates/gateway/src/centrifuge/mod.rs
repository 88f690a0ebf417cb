//! The Centrifuge client protocol: the routes and the handshake of WebSockets here, the protocol in `session`, the same over
//! all transports.
//!
//! | module | subject |
//! | --- | --- |
//! | `streams` | transports that are the body of a response |
//! | `emulation` | commands that come beside such a stream, to any node |
//! | `input` | what a client says, in whatever way |
//! | `session` | one client: its commands, subscriptions and timers |
//! | `listen` | clients that only listen |
//! | `beginning`, `called` | what the server subscribes a client to: with its connection, and when the application asks for it |
//! | `calls`, `presence`, `rights`, `client` | parts of the session |

mod beginning;
mod called;
mod calls;
mod client;
mod emulation;
mod input;
mod listen;
mod presence;
mod proxied;
mod rights;
mod session;
mod streams;
mod subscribe;

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fanfare_engine::hub::Sink;
use fanfare_wire::{
    Form, FormId,
    centrifuge::{Codec, Deltas, Dialect, Framing, Pushes},
};
use hyper::upgrade::Upgraded;
use tracing::debug;

use crate::{
    CENTRIFUGE_DELTAS, CENTRIFUGE_STREAMS, Gateway, WEBSOCKET_JSON, WEBSOCKET_JSON_JOINS,
    WEBSOCKET_PROTOBUF, WEBSOCKET_PROTOBUF_JOINS,
    door::Seat,
    query::form_pairs,
    upgrade::{self, Refusal},
};
use session::ClientSession;

pub(crate) use emulation::Emulation;

/// The server's pings, which clients answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// Seconds between them, from 1 to [`PING_SECONDS_MAX`].
    pub interval: u32,
    /// Seconds that a client may take to answer one, from 1 to the interval less one second, or 1.
    pub patience: u32,
}

/// Longest interval of pings: a connection that is silent for longer is lost to many a proxy.
pub const PING_SECONDS_MAX: u32 = 600;

impl Default for Pings {
    fn default() -> Self {
        Self {
            interval: 25,
            patience: 8,
        }
    }
}

/// The dialects beside those of two-way WebSockets, in the order of their wire forms: each has one without joins and leaves,
/// and one with them.
const STREAMS: [Dialect; 6] = [
    Dialect::stream(Codec::Json, Framing::Stream),
    Dialect::stream(Codec::Protobuf, Framing::Stream),
    Dialect::stream(Codec::Json, Framing::Events),
    Dialect::one_way(Framing::WebSocket),
    Dialect::one_way(Framing::Stream),
    Dialect::one_way(Framing::Events),
];
/// How many wire forms they have.
pub(crate) const STREAM_FORMS: u8 = 2 * STREAMS.len() as u8;

/// The wire forms of [`STREAMS`].
pub(crate) fn stream_forms() -> impl Iterator<Item = Box<dyn Form>> {
    STREAMS.into_iter().flat_map(|dialect| {
        [false, true].map(|joins| Box::new(Pushes { dialect, joins }) as Box<dyn Form>)
    })
}

/// The wire form of subscribers that speak a dialect.
fn form_of(dialect: Dialect, joins: bool) -> FormId {
    let Some(at) = STREAMS.iter().position(|it| *it == dialect) else {
        return match (dialect.codec, joins) {
            (Codec::Json, false) => WEBSOCKET_JSON,
            (Codec::Json, true) => WEBSOCKET_JSON_JOINS,
            (Codec::Protobuf, false) => WEBSOCKET_PROTOBUF,
            (Codec::Protobuf, true) => WEBSOCKET_PROTOBUF_JOINS,
        };
    };
    let at = u8::try_from(2 * at).unwrap_or(u8::MAX);
    FormId(CENTRIFUGE_STREAMS.0 + at + u8::from(joins))
}

/// The dialects whose clients can take deltas, in the order of their wire forms: each has one without joins and leaves, and one
/// with them.
const WITH_DELTAS: [Dialect; 5] = [
    Dialect::websocket(Codec::Json),
    Dialect::websocket(Codec::Protobuf),
    STREAMS[0],
    STREAMS[1],
    STREAMS[2],
];
/// How many wire forms they have.
pub(crate) const DELTA_FORMS: u8 = 2 * WITH_DELTAS.len() as u8;

/// The wire forms of [`WITH_DELTAS`].
pub(crate) fn delta_forms() -> impl Iterator<Item = Box<dyn Form>> {
    WITH_DELTAS.into_iter().flat_map(|dialect| {
        [false, true].map(|joins| Box::new(Deltas(Pushes { dialect, joins })) as Box<dyn Form>)
    })
}

/// The wire form of subscribers that speak a dialect and take deltas; without them, if the dialect has none.
fn delta_form_of(dialect: Dialect, joins: bool) -> FormId {
    let Some(at) = WITH_DELTAS.iter().position(|it| *it == dialect) else {
        return form_of(dialect, joins);
    };
    let at = u8::try_from(2 * at).unwrap_or(u8::MAX);
    FormId(CENTRIFUGE_DELTAS.0 + at + u8::from(joins))
}

/// The routes of the protocol.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    let events = get(streams::sse).post(streams::sse);
    let uni_events = get(streams::uni_sse).post(streams::uni_sse);
    let of_pages = [
        ("/connection/http_stream", post(streams::http_stream)),
        ("/connection/sse", events),
        (
            "/connection/uni_http_stream",
            post(streams::uni_http_stream),
        ),
        ("/connection/uni_sse", uni_events),
        ("/emulation", post(emulation::emulation)),
    ];
    let routes = Router::new()
        .route("/connection/websocket", get(upgrade))
        .route("/connection/uni_websocket", get(upgrade_one_way));
    of_pages
        .into_iter()
        .fold(routes, |routes, (path, methods)| {
            routes.route(path, methods.options(streams::preflight))
        })
}

const SUBPROTOCOLS: [(&str, Codec); 2] = [
    ("centrifuge-json", Codec::Json),
    ("centrifuge-protobuf", Codec::Protobuf),
];

/// `GET /connection/websocket`.
async fn upgrade(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    match check(&gateway, &request) {
        Ok((codec, headers)) => {
            let dialect = Dialect::websocket(codec);
            accept(gateway, request, headers, move |gateway, seat, headers| {
                ClientSession::new(gateway, dialect, seat, headers)
            })
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// `GET /connection/uni_websocket`: the connect request stands in the address, or is the first message.
async fn upgrade_one_way(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let said = streams::connect_in(request.uri().query().unwrap_or_default());
    let checked = said
        .as_deref()
        .map_or(Ok(()), |said| streams::check_connect(said.as_bytes()));
    match checked.and_then(|()| check(&gateway, &request)) {
        Ok((_, headers)) => accept(gateway, request, headers, move |gateway, seat, headers| {
            let dialect = Dialect::one_way(Framing::WebSocket);
            let session = ClientSession::new(gateway, dialect, seat, headers);
            match said {
                Some(said) => session.opening(said),
                None => session,
            }
        }),
        Err(refusal) => refusal.into_response(),
    }
}

/// Upgrades a request to a WebSocket and hands its socket to the hub, with the session that `begin` makes.
fn accept(
    gateway: Arc<Gateway>,
    mut request: Request,
    headers: HeaderMap,
    begin: impl FnOnce(Arc<Gateway>, Seat, &HeaderMap) -> ClientSession + Send + 'static,
) -> Response {
    let seat = match gateway.door.admit() {
        Ok(seat) => seat,
        Err(turned_away) => return turned_away.into_response(),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let opened = match upgraded.await {
            Ok(upgraded) => open(&gateway, upgraded, |gateway| {
                begin(gateway, seat, request.headers())
            }),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = opened {
            debug!(%error, "a websocket was lost during its handshake");
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Hands the bare socket to the hub.
fn open(
    gateway: &Arc<Gateway>,
    upgraded: Upgraded,
    begin: impl FnOnce(Arc<Gateway>) -> ClientSession,
) -> io::Result<()> {
    let (socket, input) = upgrade::into_socket(upgraded)?;
    let session = begin(Arc::clone(gateway));
    let sink = Sink::socket(socket.into_std()?)?;
    gateway.engine.hub().open(sink, Box::new(session), input);
    Ok(())
}

/// Checks the handshake; returns what the client is going to speak, and the headers of the answer.
fn check(gateway: &Gateway, request: &Request) -> Result<(Codec, HeaderMap), Refusal> {
    let headers = request.headers();
    let mut answer = upgrade::answer(headers)?;
    if !gateway.config.origins.allow(headers) {
        return Err((
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see allowed_origins",
        ));
    }
    let subprotocol = subprotocol(headers);
    if let Some((name, _)) = subprotocol {
        let name = HeaderValue::from_static(name);
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    let query = request.uri().query().unwrap_or_default();
    let codec = match subprotocol {
        _ if asks_for_protobuf(query) => Codec::Protobuf,
        Some((_, codec)) => codec,
        None => Codec::Json,
    };
    Ok((codec, answer))
}

/// The first of a client's subprotocols that is served.
fn subprotocol(headers: &HeaderMap) -> Option<(&'static str, Codec)> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offers = offers
        .filter_map(|offer| offer.to_str().ok())
        .flat_map(|offer| offer.split(','));
    offers.find_map(|offer| {
        let served = |(name, _): &&(&str, Codec)| *name == offer.trim();
        SUBPROTOCOLS.iter().find(served).copied()
    })
}

/// Whether an address asks for Protobuf, as clients do that cannot name a subprotocol.
fn asks_for_protobuf(query: &str) -> bool {
    form_pairs(query)
        .any(|(name, value)| matches!(&*name, "format" | "cf_protocol") && value == "protobuf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_subprotocol_that_is_served_is_taken() {
        let chosen = |offers: &[&'static str]| {
            let offers = offers.iter().map(|offer| HeaderValue::from_static(offer));
            let headers = offers.map(|offer| (header::SEC_WEBSOCKET_PROTOCOL, offer));
            subprotocol(&headers.collect()).map(|(_, codec)| codec)
        };
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["graphql-ws"]), None);
        assert_eq!(chosen(&["centrifuge-protobuf"]), Some(Codec::Protobuf));
        assert_eq!(
            chosen(&["x, centrifuge-json ,centrifuge-protobuf"]),
            Some(Codec::Json)
        );
        assert_eq!(
            chosen(&["x", "centrifuge-protobuf,centrifuge-json"]),
            Some(Codec::Protobuf)
        );
    }

    #[test]
    fn an_address_asks_for_protobuf_in_two_words() {
        for (query, asks) in [
            ("", false),
            ("format=protobuf", true),
            ("a=b&cf_protocol=protobuf", true),
            ("format=json", false),
            ("cf_protocol=protobuf2", false),
            ("channel=protobuf", false),
        ] {
            assert_eq!(asks_for_protobuf(query), asks, "{query}");
        }
    }
}
