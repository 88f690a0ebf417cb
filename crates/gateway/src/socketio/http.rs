//! The requests of Engine.IO: a new connection, a poll, a body, an upgrade. Refusals have the protocol's own numbers.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{self, Body},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use fanfare_engine::hub::{Event, Sink};
use fanfare_wire::engineio;
use tracing::debug;

use super::{
    app::Headers,
    config::Heartbeat,
    connection::{self, Connection, Messages},
    poll::{Poll, PollPipe, Refused},
    probe::{probe, say_good_bye},
    session::{Requested, Session},
};
use crate::{
    Gateway, door::TurnedAway, forward::NotForwarded, listener::Handle, query::form_pairs, upgrade,
};

/// How long a body may take to arrive, and to be taken.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// How long browsers may remember the answer to a preflight, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// A refusal of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal(StatusCode, u8, &'static str);

const UNKNOWN_TRANSPORT: Refusal = Refusal(StatusCode::BAD_REQUEST, 0, "Transport unknown");
const UNKNOWN_SID: Refusal = Refusal(StatusCode::BAD_REQUEST, 1, "Session ID unknown");
const BAD_METHOD: Refusal = Refusal(StatusCode::BAD_REQUEST, 2, "Bad handshake method");
const BAD_REQUEST: Refusal = Refusal(StatusCode::BAD_REQUEST, 3, "Bad request");
const FORBIDDEN: Refusal = Refusal(StatusCode::FORBIDDEN, 4, "Forbidden");
const UNSUPPORTED_VERSION: Refusal =
    Refusal(StatusCode::BAD_REQUEST, 5, "Unsupported protocol version");
const BUSY: Refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, 3, "Too many requests");
const TOO_BIG: Refusal = Refusal(StatusCode::PAYLOAD_TOO_LARGE, 3, "Payload too large");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let body = axum::Json(serde_json::json!({ "code": code, "message": message }));
        (status, body).into_response()
    }
}

/// Why a request gets nothing of what it asks for.
enum Rejected {
    Refused(Refusal),
    /// It should come back.
    TurnedAway(TurnedAway),
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TurnedAway> for Rejected {
    fn from(turned_away: TurnedAway) -> Self {
        Self::TurnedAway(turned_away)
    }
}

impl IntoResponse for Rejected {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::TurnedAway(turned_away) => turned_away.into_response(),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Over => UNKNOWN_SID,
            Refused::Unfit => BAD_REQUEST,
        }
    }
}

impl From<NotForwarded> for Refusal {
    fn from(error: NotForwarded) -> Self {
        match error {
            NotForwarded::Unknown => UNKNOWN_SID,
            NotForwarded::Busy => BUSY,
        }
    }
}

/// What a request names in its address.
#[derive(Debug, Default)]
struct Query {
    protocol: String,
    transport: String,
    sid: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_pairs(query) {
            match &*name {
                "EIO" => parsed.protocol = value,
                "transport" => parsed.transport = value,
                "sid" => parsed.sid = Some(value),
                _ => {}
            }
        }
        parsed
    }

    fn is_websocket(&self) -> bool {
        self.transport == "websocket"
    }
}

/// What speaks over the connections of a path.
type Speaks = dyn Fn(Requested) -> Box<dyn Messages> + Send + Sync;

/// Engine.IO at one path.
#[derive(Clone)]
struct Endpoint {
    gateway: Arc<Gateway>,
    speaks: Arc<Speaks>,
}

/// Socket.IO's route.
pub(crate) fn socket_io(gateway: &Arc<Gateway>) -> Router {
    let socketio = Arc::clone(&gateway.socketio);
    let speaks = move |request| -> Box<dyn Messages> {
        Box::new(Session::new(Arc::clone(&socketio), request))
    };
    route("/socket.io", gateway, Arc::new(speaks))
}

/// A route for something else over Engine.IO than Socket.IO; `speaks` makes it for each connection. `path` has no slash at
/// its end.
pub fn engine_io(
    path: &str,
    gateway: &Arc<Gateway>,
    speaks: impl Fn() -> Box<dyn Messages> + Send + Sync + 'static,
) -> Router {
    route(path, gateway, Arc::new(move |_| speaks()))
}

fn route(path: &str, gateway: &Arc<Gateway>, speaks: Arc<Speaks>) -> Router {
    let endpoint = Endpoint {
        gateway: Arc::clone(gateway),
        speaks,
    };
    Router::new()
        .route(path, any(serve))
        .route(&format!("{path}/"), any(serve))
        .with_state(endpoint)
}

async fn serve(State(endpoint): State<Endpoint>, request: Request) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let gateway = Arc::clone(&endpoint.gateway);
    let mut response = match answer(endpoint, request).await {
        Ok(response) => response,
        Err(rejected) => rejected.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin.filter(|origin| gateway.config.origins.lists(origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

async fn answer(endpoint: Endpoint, request: Request) -> Result<Response, Rejected> {
    let gateway = &endpoint.gateway;
    if !gateway.config.origins.allow(request.headers()) {
        return Err(FORBIDDEN.into());
    }
    if request.method() == Method::OPTIONS {
        return Ok(preflight());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if !matches!(&*query.transport, "polling" | "websocket") {
        return Err(UNKNOWN_TRANSPORT.into());
    }
    match &query.sid {
        Some(sid) => Ok(go_on(gateway, sid, &query, request).await?),
        None => open(endpoint, &query, request).await,
    }
}

/// A request for a session that is there, here or elsewhere.
async fn go_on(
    gateway: &Gateway,
    sid: &str,
    query: &Query,
    request: Request,
) -> Result<Response, Refusal> {
    let socketio = &gateway.socketio;
    if socketio.peers.is_foreign(sid) {
        // A tunnel would keep a socket on two nodes for as long as the client stays; it goes on with long-polling.
        if query.is_websocket() {
            return Err(BAD_REQUEST);
        }
        return Ok(socketio.peers.forward(sid, request).await?);
    }
    let poll = socketio.polls.get(sid).ok_or(UNKNOWN_SID)?;
    if query.is_websocket() {
        return go_over(&poll, request);
    }
    match *request.method() {
        Method::GET => Ok(payload(poll.poll().await?)),
        Method::POST => take_body(&poll, request, socketio.heartbeat.max_payload).await,
        _ => Err(BAD_REQUEST),
    }
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "content-type, authorization",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

// === A new connection ===

async fn open(endpoint: Endpoint, query: &Query, request: Request) -> Result<Response, Rejected> {
    if request.method() != Method::GET {
        return Err(BAD_METHOD.into());
    }
    if query.protocol != engineio::PROTOCOL {
        return Err(UNSUPPORTED_VERSION.into());
    }
    if query.is_websocket() {
        return open_websocket(endpoint, request);
    }
    let Endpoint { gateway, speaks } = endpoint;
    let seat = gateway.door.admit()?;
    let socketio = &gateway.socketio;
    let Heartbeat {
        interval, timeout, ..
    } = socketio.heartbeat;
    let sid = socketio.peers.new_sid();
    let poll = Poll::new(Instant::now() + interval + timeout);
    let listed = socketio.polls.add(&sid, &poll);
    let messages = speaks(requested(&request));
    let connection = Connection::new(&sid, socketio.heartbeat, messages, Some(listed), seat);
    gateway.engine.hub().open(
        Sink::Pipe(Box::new(PollPipe(Arc::clone(&poll)))),
        Box::new(connection),
        Vec::new(),
    );
    let first = poll.poll().await.map_err(Refusal::from)?;
    Ok(payload(first))
}

fn open_websocket(endpoint: Endpoint, mut request: Request) -> Result<Response, Rejected> {
    let Endpoint { gateway, speaks } = endpoint;
    let headers = websocket_answer(&request)?;
    let seat = gateway.door.admit()?;
    let requested = requested(&request);
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let open = async {
            let upgraded = upgraded.await.map_err(io::Error::other)?;
            let (socket, input) = upgrade::into_socket(upgraded)?;
            let sink = Sink::socket(socket.into_std()?)?;
            let heartbeat = gateway.socketio.heartbeat;
            let messages = speaks(requested);
            let sid = gateway.socketio.peers.new_sid();
            let connection = Connection::new(&sid, heartbeat, messages, None, seat);
            gateway.engine.hub().open(sink, Box::new(connection), input);
            Ok::<_, io::Error>(())
        };
        if let Err(error) = open.await {
            debug!(%error, "a websocket was lost during its handshake");
        }
    });
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn websocket_answer(request: &Request) -> Result<HeaderMap, Refusal> {
    upgrade::answer(request.headers()).map_err(|_| BAD_REQUEST)
}

fn requested(request: &Request) -> Requested {
    let header = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    let handle = request.extensions().get::<Handle>();
    Requested {
        headers: Headers {
            authorization: header(header::AUTHORIZATION),
            origin: header(header::ORIGIN),
            user_agent: header(header::USER_AGENT),
        },
        peer: handle.and_then(Handle::peer),
    }
}

// === A connection that is there ===

/// What a poll is answered.
fn payload(payload: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
    (headers, payload).into_response()
}

async fn take_body(
    poll: &Arc<Poll>,
    request: Request,
    bytes_max: usize,
) -> Result<Response, Refusal> {
    let (posting, remote) = poll.begin_post()?;
    let taken = async {
        let text = body::to_bytes(request.into_body(), bytes_max).await;
        let text = text.map_err(|_| TOO_BIG)?;
        if std::str::from_utf8(&text).is_err() {
            return Err(BAD_REQUEST);
        }
        let (body, taken) = connection::Body::new(text);
        remote.send(Event::Post(Box::new(body)));
        taken.await.map_err(|_| BAD_REQUEST)
    };
    let taken = tokio::time::timeout(BODY_PATIENCE, taken).await;
    match taken.unwrap_or(Err(BAD_REQUEST)) {
        Ok(()) => {
            posting.done();
            // The official server says it in this way, so that no browser offers it for download.
            let headers = [(header::CONTENT_TYPE, "text/html")];
            Ok((headers, Body::from("ok")).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

fn go_over(poll: &Arc<Poll>, mut request: Request) -> Result<Response, Refusal> {
    let headers = websocket_answer(&request)?;
    let begun = match poll.begin_probe() {
        Err(Refused::Over) => return Err(UNKNOWN_SID),
        // The official server closes such a socket once it is open, and clients expect that.
        Err(Refused::Unfit) => None,
        Ok(begun) => Some(begun),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let probe = async {
            let upgraded = upgraded.await.map_err(io::Error::other)?;
            let (mut socket, input) = upgrade::into_socket(upgraded)?;
            match begun {
                Some((probing, remote)) => probe(probing, remote, socket, input).await,
                None => say_good_bye(&mut socket).await,
            }
        };
        if let Err(error) = probe.await {
            debug!(%error, "a client did not go over to a websocket");
        }
    });
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
