//! Socket Mode: an app's connections, over which it is told what happens where its bot is.
//!
//! `apps.connections.open` gives a URL that opens one WebSocket, on any node. What an app is told stands in its own channel of the log, committed
//! with the change that it tells of (see [`change`](crate::change)); a row says up to where the app has acknowledged. So nothing is lost,
//! whatever is killed; it may come twice.
//!
//! | file | subject |
//! | --- | --- |
//! | `store` | tickets, and the row of an app's reader |
//! | `socket` | one WebSocket: hello, pings, acknowledgements, farewell |
//! | `reader` | one task for an app on a node: which node reads, what goes to which socket |
//! | `deliveries` | what is under way: acknowledged, due, lost; no IO |
//! | `envelope` | what a publication is to an app |
//! | `metrics` | what is counted |
//!
//! One node at a time reads an app's channel, and gives what it reads to its own sockets of the app: the node that was connected to last. When
//! its last socket goes, or it dies, another node that has sockets of the app goes on from what was acknowledged.

mod deliveries;
mod envelope;
mod metrics;
mod reader;
mod socket;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::sync::{Semaphore, mpsc, watch};

use self::{
    metrics::Counters,
    reader::{Command, Reader},
};
use crate::{Chat, failure::Failure, id::Id};

/// Where the sockets are; tickets follow.
pub(crate) const PATH: &str = "/v1/socket/";
/// Most sockets of one app, as Slack's.
const SOCKETS_OF_APP_MAX: usize = 10;
/// Most sockets of a node.
const SOCKETS_MAX: usize = 2_000;
/// Words of sockets that wait for an app's reader.
const COMMANDS_MAX: usize = 256;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// How long a ticket opens a socket.
    ticket: Duration,
    /// How long an acknowledgement may take; then the event is sent again, each time after twice as long.
    acknowledge: Duration,
    /// The longest time between two attempts.
    repeat_max: Duration,
    /// Between two pings, and two looks at whether the app may still listen.
    ping: Duration,
    /// A socket that is silent for so long is closed.
    silence: Duration,
    /// How long a frame may take to be taken.
    stall: Duration,
    /// How old a socket becomes, less up to an eighth of it by chance.
    age: Duration,
    /// So long before its end a socket is warned, and so long after the word it is closed.
    notice: Duration,
    /// Between two proofs that the reader lives.
    beat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            ticket: seconds(60),
            acknowledge: seconds(3),
            repeat_max: seconds(60),
            ping: seconds(5),
            silence: seconds(30),
            stall: seconds(10),
            age: seconds(3600),
            notice: seconds(10),
            beat: seconds(2),
        }
    }
}

/// The sockets of a node.
pub(crate) struct SocketMode {
    timing: Timing,
    seats: Arc<Semaphore>,
    desks: Mutex<HashMap<Id, Weak<Desk>>>,
    farewell: watch::Sender<bool>,
    counters: Counters,
}

/// An app, as its sockets need it.
#[derive(Debug, Clone)]
struct App {
    id: Id,
    team: Id,
    bot_user: Id,
}

/// Where the sockets of an app on this node meet; its reader ends when the last of them is gone.
struct Desk {
    commands: mpsc::Sender<Command>,
    sockets: AtomicUsize,
}

/// One of the places of an app on this node.
struct Place(Arc<Desk>);

impl SocketMode {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            seats: Arc::new(Semaphore::new(SOCKETS_MAX)),
            desks: Mutex::default(),
            farewell: watch::Sender::new(false),
            counters: Counters::default(),
        }
    }

    /// Tells every socket that the server goes, so that its app opens another one elsewhere.
    pub(crate) fn farewell(&self) {
        self.farewell.send_replace(true);
    }

    /// A place at the app's desk; none if it has as many sockets here as it may have anywhere.
    fn place(&self, chat: &Arc<Chat>, app: &App) -> Result<Option<Place>, Failure> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = match desks.get(&app.id).and_then(Weak::upgrade) {
            Some(desk) => desk,
            None => {
                desks.retain(|_, desk| desk.strong_count() > 0);
                let (commands, queue) = mpsc::channel(COMMANDS_MAX);
                tokio::spawn(Reader::new(chat, app, queue)?.run());
                let desk = Arc::new(Desk {
                    commands,
                    sockets: AtomicUsize::new(0),
                });
                desks.insert(app.id.clone(), Arc::downgrade(&desk));
                desk
            }
        };
        // Counted under the lock, so never one too many.
        let has_room = desk.sockets.load(Relaxed) < SOCKETS_OF_APP_MAX;
        Ok(has_room.then(|| {
            desk.sockets.fetch_add(1, Relaxed);
            Place(desk)
        }))
    }
}

impl Place {
    /// Says something to the reader, which takes it sooner or later.
    async fn say(&self, command: Command) {
        // The reader lives as long as there is a place.
        let _ = self.0.commands.send(command).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

/// The routes.
pub(crate) fn router(chat: &Arc<Chat>) -> Router {
    Router::new()
        .route(PATH, get(socket::open))
        .with_state(Arc::clone(chat))
}
