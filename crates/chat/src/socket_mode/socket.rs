//! One WebSocket of an app.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use fanfare_engine::port::state::{Entered, Held, Lease, StateKey};
use fanfare_gateway::upgrade;
use fanfare_wire::Json;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{Role, WebSocketConfig},
    },
};
use tracing::debug;
use uuid::Uuid;

use super::{
    App, Place, SOCKETS_OF_APP_MAX, Timing,
    deliveries::{SocketId, WINDOW},
    reader::Command,
    store::Pass,
};
use crate::{Chat, failure::Failure};

/// Longest frame of an app, in bytes: an acknowledgement, which may bring an answer along.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// What waits to be written, in bytes, before the socket counts as broken.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Envelopes that wait for one socket.
const QUEUE_MAX: usize = 2 * WINDOW;
/// How long the handshake and the shared state may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last words may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The kind of the leases by which sockets are counted over nodes.
const LEASE_KIND: &str = "chat-socket";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

#[derive(Deserialize)]
pub(super) struct Ticket {
    #[serde(default)]
    ticket: String,
}

/// What an app says.
#[derive(Deserialize)]
struct Said {
    envelope_id: Option<String>,
}

/// Why a socket has to go, in Slack's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Warning,
    RefreshRequested,
    LinkDisabled,
    TooManyWebsockets,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::RefreshRequested => "refresh_requested",
            Self::LinkDisabled => "link_disabled",
            Self::TooManyWebsockets => "too_many_websockets",
        }
    }

    fn text(self) -> Utf8Bytes {
        let name = self.name();
        let text =
            json!({ "type": "disconnect", "reason": name, "debug_info": { "host": "fanfare" } });
        Utf8Bytes::from(text.to_string())
    }
}

/// Opens a socket for whoever shows a ticket.
pub(super) async fn open(
    State(chat): State<Arc<Chat>>,
    Query(ticket): Query<Ticket>,
    mut request: Request,
) -> Response {
    // First what costs nothing: a request that is no handshake does not use a ticket up.
    let headers = match upgrade::answer(request.headers()) {
        Ok(headers) => headers,
        Err(refusal) => return refusal.into_response(),
    };
    if *chat.sockets.farewell.borrow() {
        let words = "the server is shutting down";
        return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    }
    let Ok(seat) = Arc::clone(&chat.sockets.seats).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many sockets").into_response();
    };
    let pass = match chat.check_ready() {
        Ok(()) => chat.take_ticket(&ticket.ticket).await,
        Err(failure) => Err(failure),
    };
    let pass = match pass {
        Ok(Some(pass)) => pass,
        Ok(None) => {
            let words = "the ticket opens nothing: ask apps.connections.open for another one";
            return (StatusCode::FORBIDDEN, words).into_response();
        }
        Err(_) => {
            let words = "the database is not available";
            return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(begin(chat, pass, upgraded, seat));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

async fn begin(chat: Arc<Chat>, pass: Pass, upgraded: OnUpgrade, _seat: OwnedSemaphorePermit) {
    let Ok(Ok(upgraded)) = timeout(OPEN_TIMEOUT, upgraded).await else {
        return;
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_write_buffer_size(WRITE_BYTES_MAX);
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let app = pass.app.id.clone();
    let ended = serve(&chat, pass, socket).await;
    debug!(%app, ended, "a socket of an app ended");
}

/// Serves a socket to its end; returns why it ended.
async fn serve(chat: &Arc<Chat>, pass: Pass, mut socket: Socket) -> &'static str {
    let Ok(place) = chat.sockets.place(chat, &pass.app) else {
        return "a mistake in the chat";
    };
    let lease = Leased::take(chat, &pass.app).await;
    let (Some(place), Some(lease)) = (place, lease) else {
        let timing = &chat.sockets.timing;
        let word = Message::Text(Reason::TooManyWebsockets.text());
        let _ = timeout(timing.stall, socket.send(word)).await;
        let _ = timeout(CLOSE_TIMEOUT, close(&mut socket)).await;
        return "too many";
    };
    let open = Open::new(chat, pass, socket, place);
    let ended = open.run(&lease).await;
    lease.give_back(chat).await;
    ended
}

/// A socket's place among those of its app on all nodes.
struct Leased {
    held: Option<Held>,
    /// How many there are, with this one.
    count: u64,
}

impl Leased {
    /// Takes it; `None` if there are too many. Without the shared state each node counts its own.
    async fn take(chat: &Chat, app: &App) -> Option<Self> {
        let alone = Self {
            held: None,
            count: 1,
        };
        let Ok(scope) = StateKey::parse(&format!("{LEASE_KIND}/{}", app.id)) else {
            return Some(alone);
        };
        let holder = Uuid::new_v4();
        let held = Held { scope, holder };
        let lease = Lease {
            held: held.clone(),
            member: holder.to_string(),
            info: Json::trusted("{}".into()),
            ttl: None,
            capacity: u32::try_from(SOCKETS_OF_APP_MAX).ok(),
            announce: None,
        };
        let state = chat.engine.state();
        match timeout(OPEN_TIMEOUT, state.enter(&[lease])).await {
            Ok(Ok(entered)) if entered.first() == Some(&Entered::Full) => return None,
            Ok(Ok(_)) => {}
            // It ends with the node, if it was taken at all.
            Ok(Err(_)) | Err(_) => return Some(alone),
        }
        let count = timeout(OPEN_TIMEOUT, state.count(&held.scope)).await;
        let count = count.ok().and_then(Result::ok).map_or(1, |it| it.members);
        Some(Self {
            held: Some(held),
            count,
        })
    }

    async fn give_back(self, chat: &Chat) {
        if let Some(held) = self.held {
            // Otherwise it ends with the node.
            let _ = timeout(OPEN_TIMEOUT, chat.engine.state().leave(&[held])).await;
        }
    }
}

/// An open socket.
struct Open<'a> {
    chat: &'a Chat,
    timing: Timing,
    pass: Pass,
    socket: Socket,
    place: Place,
    id: SocketId,
    out: mpsc::Sender<Utf8Bytes>,
    waiting: mpsc::Receiver<Utf8Bytes>,
    farewell: watch::Receiver<bool>,
    /// When the app was heard last.
    heard: Instant,
    age: Age,
}

/// How old a socket is.
enum Age {
    /// It is warned then.
    Fresh(Instant),
    /// It is asked to go then.
    Warned(Instant),
    /// It is closed then.
    Retired(Instant),
}

impl<'a> Open<'a> {
    fn new(chat: &'a Arc<Chat>, pass: Pass, socket: Socket, place: Place) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let timing = chat.sockets.timing;
        let (out, waiting) = mpsc::channel(QUEUE_MAX);
        // Not all that came at once go at once.
        let share = f64::from(Uuid::new_v4().as_bytes()[0]) / 256.0 / 8.0;
        let age = timing
            .age
            .mul_f64(1.0 - share)
            .saturating_sub(timing.notice);
        Self {
            farewell: chat.sockets.farewell.subscribe(),
            heard: Instant::now(),
            age: Age::Fresh(Instant::now() + age),
            id: IDS.fetch_add(1, Relaxed),
            chat,
            timing,
            pass,
            socket,
            place,
            out,
            waiting,
        }
    }

    async fn run(mut self, lease: &Leased) -> &'static str {
        let ended = match self.greet(lease).await {
            Ok(()) => {
                let joined = Command::Joined(self.id, self.out.clone());
                self.place.say(joined).await;
                self.talk().await.err().unwrap_or("closed by the app")
            }
            Err(ended) => ended,
        };
        self.place.say(Command::Left(self.id)).await;
        let _ = timeout(CLOSE_TIMEOUT, close(&mut self.socket)).await;
        ended
    }

    async fn greet(&mut self, lease: &Leased) -> Result<(), &'static str> {
        let hello = json!({
            "type": "hello",
            "num_connections": lease.count,
            "connection_info": { "app_id": self.pass.app.id.as_str() },
            "debug_info": { "host": "fanfare", "approximate_connection_time": self.timing.age.as_secs() },
        });
        self.send(Message::text(hello.to_string())).await
    }

    /// Until the app closes it, or it has to be closed.
    async fn talk(&mut self) -> Result<(), &'static str> {
        let mut ping = interval(self.timing.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (Age::Fresh(at) | Age::Warned(at) | Age::Retired(at)) = self.age;
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(message)) => self.hear(&message).await,
                    Some(Err(_)) => return Err("the connection broke"),
                },
                text = self.waiting.recv() => {
                    // There is always one: this holds the other end, too.
                    let text = text.ok_or("a mistake in the chat")?;
                    self.send(Message::Text(text)).await?;
                }
                _ = ping.tick() => self.look_after().await?,
                () = goes(&mut self.farewell), if !matches!(self.age, Age::Retired(_)) => self.retire().await?,
                () = sleep_until(at) => self.grow_old().await?,
            }
        }
    }

    async fn hear(&mut self, message: &Message) {
        self.heard = Instant::now();
        let Message::Text(text) = message else { return };
        // Whatever else an app says is nothing to us.
        let said = serde_json::from_str::<Said>(text.as_str());
        let envelope = said.ok().and_then(|said| said.envelope_id);
        if let Some(envelope) = envelope.and_then(|id| Uuid::try_parse(&id).ok()) {
            self.place.say(Command::Acknowledged(envelope)).await;
        }
    }

    /// Pings, and looks whether the app is there and may be.
    async fn look_after(&mut self) -> Result<(), &'static str> {
        if self.heard.elapsed() >= self.timing.silence {
            return Err("silent");
        }
        self.send(Message::Ping("fanfare".into())).await?;
        match self.chat.app_of(&self.pass.token).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                self.send(Message::Text(Reason::LinkDisabled.text()))
                    .await?;
                Err("the token is worth nothing any more")
            }
            // As long as the database is away nothing is read from it either.
            Err(_) => Ok(()),
        }
    }

    async fn grow_old(&mut self) -> Result<(), &'static str> {
        match self.age {
            Age::Fresh(_) => {
                self.age = Age::Warned(Instant::now() + self.timing.notice);
                self.send(Message::Text(Reason::Warning.text())).await
            }
            Age::Warned(_) => self.retire().await,
            Age::Retired(_) => Err("old"),
        }
    }

    /// Asks the app to open another one. What it was sent it may acknowledge still.
    async fn retire(&mut self) -> Result<(), &'static str> {
        self.age = Age::Retired(Instant::now() + self.timing.notice);
        self.place.say(Command::Retired(self.id)).await;
        self.send(Message::Text(Reason::RefreshRequested.text()))
            .await
    }

    async fn send(&mut self, message: Message) -> Result<(), &'static str> {
        match timeout(self.timing.stall, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the connection broke"),
            Err(_) => Err("the app takes nothing"),
        }
    }
}

/// Closes a socket and reads what is left of it: otherwise the kernel may throw the last words away.
async fn close(socket: &mut Socket) {
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

/// Waits until the server goes.
async fn goes(farewell: &mut watch::Receiver<bool>) {
    // An error means that it has gone.
    let _ = farewell.wait_for(|goes| *goes).await;
}

impl Chat {
    /// The URL of a socket. `host` is whom the caller asked.
    pub(crate) fn socket_url(&self, host: Option<&str>, ticket: &str) -> Result<String, Failure> {
        let origin = match (&self.config.public_url, host) {
            (Some(url), _) => url.replacen("http", "ws", 1),
            (None, Some(host)) => format!("ws://{host}"),
            (None, None) => return Err(Failure::argument("host", "the request names no host")),
        };
        Ok(format!("{origin}{}?ticket={ticket}", super::PATH))
    }
}
