//! `POST /emulation`: commands of clients whose connection is a stream, which carries one direction only.
//!
//! Such a request may come to any node. The id of a session names its node, and nobody guesses the rest of it; so whoever
//! has it speaks for the session. A session takes one body at a time, in the order in which they came, and no faster than it
//! takes frames of a WebSocket. The answer comes when a body was taken; what the commands come to is told in the stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{self, Body},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fanfare_engine::{
    Engine,
    hub::{Context, Event, Remote},
};
use fanfare_wire::centrifuge::{Codec, Disconnect, EmulationRequest};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};
use uuid::Uuid;

use super::session::ClientSession;
use crate::{
    ENVELOPE_BYTES_MAX, Gateway,
    commands::Told,
    forward::{NotForwarded, Peers},
};

/// Kibibytes of bodies that a node holds at the same time.
const BODIES_KIB_MAX: usize = 64 << 10;
/// Bodies of one session that may wait for their turn, one more being read by it.
const TURNS_MAX: usize = 256;
/// How long a body may take to arrive.
pub(super) const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Where browsers say for whose page they ask.
const FETCH_SITE: &str = "sec-fetch-site";
/// In JSON the commands stand in a string, where an escaped character takes two.
const ESCAPED: usize = 2;

/// Why a request is refused.
pub(super) type Refusal = (StatusCode, &'static str);

const UNKNOWN_SESSION: Refusal = (StatusCode::NOT_FOUND, "unknown session");
const TOO_LONG: Refusal = (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
const BAD_REQUEST: Refusal = (StatusCode::BAD_REQUEST, "not an emulation request");
const TOO_MANY: Refusal = (
    StatusCode::TOO_MANY_REQUESTS,
    "too many requests of this session wait",
);
const BUSY: Refusal = (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait");

/// Emulation of a node.
pub(crate) struct Emulation {
    peers: Peers,
    bodies: Semaphore,
    lines: Mutex<HashMap<Box<str>, Line>>,
}

/// The way to a session.
#[derive(Clone)]
struct Line {
    remote: Remote,
    /// One permit: whoever has it may give the session a body.
    turn: Arc<Semaphore>,
    /// As many as may have the turn or wait for it.
    queue: Arc<Semaphore>,
}

/// A session's own part.
pub(super) struct Upstream {
    emulation: Arc<Emulation>,
    id: Box<str>,
    /// A body that could not be taken yet.
    waiting: Option<Commands>,
}

/// Commands for a session.
pub(super) struct Commands {
    bytes: Bytes,
    /// Dropped: they were not taken.
    taken: oneshot::Sender<()>,
    /// Another body may follow once this is dropped.
    _turn: OwnedSemaphorePermit,
}

impl Emulation {
    /// Emulation of the node with this id.
    pub(crate) fn new(engine: Arc<Engine>, own: Uuid) -> Arc<Self> {
        Arc::new(Self {
            peers: Peers::new(engine, own, Duration::ZERO),
            bodies: Semaphore::new(BODIES_KIB_MAX),
            lines: Mutex::default(),
        })
    }

    /// The part of a new session.
    pub(super) fn upstream(self: &Arc<Self>) -> Upstream {
        Upstream {
            emulation: Arc::clone(self),
            id: self.peers.new_sid().into(),
            waiting: None,
        }
    }

    /// Gives a session commands; returns when it has taken them.
    async fn give(&self, session: &str, bytes: Bytes) -> Result<(), Refusal> {
        let line = self.lines().get(session).cloned();
        let line = line.ok_or(UNKNOWN_SESSION)?;
        let _place = line.queue.try_acquire().map_err(|_| TOO_MANY)?;
        let turn = line.turn.acquire_owned().await;
        let (taken, answer) = oneshot::channel();
        let commands = Commands {
            bytes,
            taken,
            _turn: turn.map_err(|_| UNKNOWN_SESSION)?,
        };
        line.remote.send(Event::Post(Box::new(commands)));
        answer.await.map_err(|_| UNKNOWN_SESSION)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Box<str>, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// What requests name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// From now on requests reach the session, until this is dropped.
    pub(super) fn bind(&self, remote: Remote) {
        let line = Line {
            remote,
            turn: Arc::new(Semaphore::new(1)),
            queue: Arc::new(Semaphore::new(TURNS_MAX)),
        };
        self.emulation.lines().insert(self.id.clone(), line);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.emulation.lines().remove(&self.id);
    }
}

impl ClientSession {
    /// Something was sent to the session: commands, or the answer to a question.
    pub(super) fn on_posted(
        &mut self,
        posted: Box<dyn std::any::Any + Send>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        match posted.downcast::<Commands>() {
            Ok(commands) => {
                if let Some(upstream) = &mut self.upstream {
                    upstream.waiting = Some(*commands);
                }
                self.go_on(cx)
            }
            Err(posted) => match posted.downcast::<Arc<Told>>() {
                Ok(told) => self.on_told(&told, cx),
                Err(posted) => self.on_post(posted, cx),
            },
        }
    }

    /// Takes the commands that wait, if there is room for what they ask.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        let is_full = cx.is_full() || self.is_waiting();
        let Some(upstream) = &mut self.upstream else {
            return Ok(());
        };
        if upstream.waiting.is_some() && is_full {
            cx.pause();
            return Ok(());
        }
        let Some(commands) = upstream.waiting.take() else {
            return Ok(());
        };
        let outcome = self.on_body(&commands.bytes, cx);
        // The request may have been given up.
        let _ = commands.taken.send(());
        outcome
    }
}

/// `POST /emulation`.
pub(super) async fn emulation(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answer = match take(&gateway, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    gateway.config.origins.tell(&headers, answer)
}

async fn take(gateway: &Gateway, request: Request) -> Result<Response, Refusal> {
    let emulation = &gateway.emulation;
    check_origin(gateway, request.headers())?;
    let commands_max = gateway.config.message_bytes_max + ENVELOPE_BYTES_MAX;
    let body_max = ESCAPED * commands_max + ENVELOPE_BYTES_MAX;
    let _room = emulation.room(request.headers(), body_max)?;
    let codec = codec(request.headers());
    let (head, body) = request.into_parts();
    let body = read(body, body_max).await?;
    let asked = EmulationRequest::parse(codec, &body).map_err(|_| BAD_REQUEST)?;
    if asked.session.is_empty() {
        return Err(BAD_REQUEST);
    }
    if asked.data.len() > commands_max {
        return Err(TOO_LONG);
    }
    if emulation.peers.is_foreign(&asked.session) {
        let request = Request::from_parts(head, Body::from(body.clone()));
        let answer = emulation.peers.forward(&asked.session, request).await;
        return answer.map_err(|error| match error {
            NotForwarded::Unknown => UNKNOWN_SESSION,
            NotForwarded::Busy => BUSY,
        });
    }
    let commands = Bytes::from(asked.data.into_owned());
    emulation.give(&asked.session, commands).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Emulation {
    /// Room for a body, as long as it says that it is.
    fn room(&self, headers: &HeaderMap, bytes_max: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|it| it.to_str().ok()?.parse().ok());
        let length: usize = length.unwrap_or(bytes_max);
        if length > bytes_max {
            return Err(TOO_LONG);
        }
        let kib = u32::try_from(length / 1024 + 1).unwrap_or(u32::MAX);
        self.bodies.try_acquire_many(kib).map_err(|_| BUSY)
    }
}

/// Whether pages of the origin may connect. A browser that only follows a link, or loads an image, names no origin but says
/// that it does so for another site: it might bring cookies that the application's backend takes for the user's will.
pub(super) fn check_origin(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Refusal> {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let is_anonymous =
        !headers.contains_key(header::ORIGIN) && matches!(site, Some(b"cross-site" | b"same-site"));
    match gateway.config.origins.allow(headers) && !is_anonymous {
        true => Ok(()),
        false => Err((
            StatusCode::FORBIDDEN,
            "this origin is not allowed; see allowed_origins",
        )),
    }
}

/// The encoding of a body.
pub(super) fn codec(headers: &HeaderMap) -> Codec {
    let kind = headers.get(header::CONTENT_TYPE);
    match kind.is_some_and(|kind| kind == "application/octet-stream") {
        true => Codec::Protobuf,
        false => Codec::Json,
    }
}

/// Reads a body of bounded length in bounded time.
pub(super) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    match timeout(BODY_PATIENCE, body::to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(TOO_LONG),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in 10 seconds",
        )),
    }
}
