//! The watch party: rooms in which people watch the same video at the same moment. An app on the engine's public
//! interface; [docs/watch.md](../../../docs/watch.md) says what it speaks.
//!
//! Everything durable of a room is its row or a publication of its channel `watch:CODE`, and the two commit together. What
//! is of the moment (who is there, who types, where each one is) is leases and news.
//!
//! | file | subject |
//! | --- | --- |
//! | `playback` | where the picture is, and what a command makes of it: arithmetic |
//! | `room`, `owner`, `ready::check` | what members may do, who owns a room, when a ready check is over: rules without IO |
//! | `payload`, `failure` | what clients send, what they are told when it cannot be |
//! | `identity`, `turn`, `limits` | who is who; what keeps strangers out |
//! | `schema`, `store` | the tables, and every change of a room's row |
//! | `sync`, `chat`, `reaction`, `ready`, `voice` | one subject of the protocol each |
//! | `members`, `registry` | who is there, on all nodes and on this one |
//! | `keeper` | what happens by itself: owners handed over, deadlines, places in voice renewed, idle rooms removed |
//! | `session`, `join`, `http` | one connection, how it enters a room, the HTTP side |

mod catchup;
mod chat;
mod clock;
mod failure;
mod http;
mod identity;
mod join;
mod keeper;
mod limits;
mod members;
mod owner;
mod payload;
pub mod playback;
mod reaction;
mod ready;
mod registry;
mod room;
mod schema;
mod session;
mod store;
mod sync;
#[cfg(test)]
mod tests;
pub mod turn;
mod voice;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::Router;
use fanfare_engine::{Engine, port::State, state::WhenAway};
use fanfare_gateway::{
    password::Passwords,
    sessions::Sessions,
    socketio::{Client, Events, Namespace},
    token::TokenSigner,
};
use fanfare_wire::{ChannelName, Draft, Json, News, NewsBody};
use serde::Serialize;
use uuid::Uuid;

use self::{
    clock::RoomClock,
    failure::Failure,
    limits::{Limiter, Limits},
    registry::Rooms,
};

/// The Socket.IO namespace of the app.
pub const NAMESPACE: &str = "/sync";

/// The namespaces of channels that are the app's: no client reads or writes them but through it.
pub const CHANNEL_NAMESPACES: [&str; 2] = ["watch", "watch.member"];

/// How many publications a room keeps if the configuration says nothing else.
pub const HISTORY_COUNT_DEFAULT: u64 = 5000;
/// For how many days a room keeps publications if the configuration says nothing else.
pub const HISTORY_DAYS_DEFAULT: u64 = 30;

/// How much easier a first try is: limits that are not of a member.
const EASE_WHEN_OPEN: u32 = 100;

/// How the app runs.
pub struct WatchConfig {
    /// Rooms may be made without a token.
    pub anonymous_rooms: bool,
    /// Open, for a first try: easier limits, and users for whoever asks.
    pub open: bool,
    /// Rooms that one user, or one address, may make in an hour.
    pub rooms_per_hour: u32,
    /// What limits do while the shared state is away.
    pub limits_when_away: WhenAway,
    /// What signs the tokens of users for whoever asks; used when open.
    pub signer: Option<TokenSigner>,
    /// Through which servers browsers find each other.
    pub ice: turn::IceConfig,
}

/// The app on one node.
pub struct Watch {
    engine: Arc<Engine>,
    state: Arc<dyn State>,
    config: WatchConfig,
    limits: Limiter,
    clock: RoomClock,
    passwords: Passwords,
    rooms: Rooms,
    /// What judges tokens.
    sessions: OnceLock<Arc<Sessions>>,
    /// The tables are there.
    ready: AtomicBool,
}

impl Watch {
    /// Starts the app on a node. It serves once the database has its tables; until then it refuses everything as
    /// unavailable. Must be called within a tokio runtime; ends with it.
    #[must_use]
    pub fn start(config: WatchConfig, engine: Arc<Engine>) -> Arc<Self> {
        let limits = Limits {
            rooms_per_hour: config.rooms_per_hour,
            ease: if config.open { EASE_WHEN_OPEN } else { 1 },
        };
        let state = Arc::clone(engine.state());
        let limits = Limiter::new(limits, engine.limiter(config.limits_when_away));
        let watch = Arc::new(Self {
            state,
            engine,
            config,
            limits,
            clock: RoomClock::new(),
            passwords: Passwords::new(),
            rooms: Rooms::default(),
            sessions: OnceLock::new(),
            ready: AtomicBool::new(false),
        });
        keeper::start(&watch);
        watch
    }

    /// Says what judges tokens, once; until then none is accepted.
    pub fn trust(&self, sessions: Arc<Sessions>) {
        // Another one than the first would be a mistake of the caller, and changes nothing.
        let _ = self.sessions.set(sessions);
    }

    /// The HTTP routes, all below `/watch/`.
    pub fn router(self: &Arc<Self>) -> Router {
        http::router(self)
    }

    /// Tells everybody here that the server goes, and when to come back: each at another time within the window.
    pub fn farewell(&self, window: std::time::Duration) {
        self.rooms.farewell(window);
    }

    fn check_ready(&self) -> Result<(), Failure> {
        match self.ready.load(Relaxed) {
            true => Ok(()),
            false => Err(Failure::unavailable("the database")),
        }
    }

    /// Tells a channel something of the moment.
    fn tell(
        &self,
        channel: ChannelName,
        event: &str,
        data: &impl Serialize,
    ) -> Result<(), Failure> {
        let body = message(event, data)?;
        self.engine.tell(News { channel, body });
        Ok(())
    }
}

impl Namespace for Watch {
    fn name(&self) -> &str {
        NAMESPACE
    }

    fn serve(
        self: Arc<Self>,
        client: Client,
        events: Events,
    ) -> fanfare_engine::port::BoxFuture<'static, ()> {
        Box::pin(session::serve(self, client, events))
    }
}

/// A message of the moment that arrives as an event.
fn message(event: &str, data: &impl Serialize) -> Result<NewsBody, Failure> {
    Ok(NewsBody::Message {
        data: json(data)?,
        info: None,
        tags: Some(tags(event)?),
    })
}

/// A publication that arrives as an event.
fn draft(channel: ChannelName, event: &str, data: &impl Serialize) -> Result<Draft, Failure> {
    let mut draft = Draft::new(channel, Uuid::now_v7(), json(data)?);
    draft.tags = Some(tags(event)?);
    Ok(draft)
}

fn tags(event: &str) -> Result<Json, Failure> {
    json(&serde_json::json!({ "event": event }))
}

fn json(data: &impl Serialize) -> Result<Json, Failure> {
    let text = serde_json::to_vec(data).map_err(Failure::internal)?;
    Ok(Json::trusted(text.into()))
}
