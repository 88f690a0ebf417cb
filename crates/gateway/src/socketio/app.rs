//! What an app behind a Socket.IO namespace builds on.
//!
//! An app is a [`Namespace`]. For each client that enters it, [`Namespace::serve`] runs as a task of its own, with the
//! [`Client`] to speak to and the [`Events`] that the client sends. A room is a channel: whoever [joins](Client::join) it is
//! given its publications as events, with the same positions as on every other wire.
//!
//! ```
//! use std::sync::Arc;
//! use fanfare_engine::port::BoxFuture;
//! use fanfare_gateway::socketio::{Args, Client, Events, Namespace};
//!
//! struct Echo;
//!
//! impl Namespace for Echo {
//!     fn name(&self) -> &str {
//!         "/echo"
//!     }
//!
//!     fn serve(self: Arc<Self>, client: Client, mut events: Events) -> BoxFuture<'static, ()> {
//!         Box::pin(async move {
//!             if client.accept().await.is_err() {
//!                 return;
//!             }
//!             while let Some(incoming) = events.recv().await {
//!                 if let Some(ack) = incoming.ack {
//!                     // The client may be gone; `events` says so.
//!                     let _ = ack.send(Args::from(incoming.args).with_attachments(incoming.attachments));
//!                 }
//!             }
//!         })
//!     }
//! }
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fanfare_engine::{
    Engine,
    hub::{Event, Recovery, Remote, Start},
    port::{BoxFuture, LogError},
};
use fanfare_wire::{
    ChannelName, Epoch, Json, Seq,
    socketio::{self, form::put_guard, seen::Seen},
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    channels::Return,
    events::{Answer, Args, Asks, Events},
};

/// Bytes that may be on their way to one client's connection, beside publications.
pub const EMIT_BYTES_MAX: usize = 1 << 20;
/// Events that may wait for the acknowledgement of one client.
pub const ASKS_MAX: usize = 64;

/// An app behind a Socket.IO namespace.
pub trait Namespace: Send + Sync + 'static {
    /// The name that clients enter it by: `/` and up to 127 bytes more, without a comma.
    fn name(&self) -> &str;

    /// Serves one client, from when it asks to enter to its end: the client is gone when `events` ends. Runs as a task of
    /// its own; should it return before, the client is disconnected. It must [accept](Client::accept) the client,
    /// [resume](Client::resume) or [refuse](Client::refuse) it before anything else.
    fn serve(self: Arc<Self>, client: Client, events: Events) -> BoxFuture<'static, ()>;
}

/// A client in a namespace. Cheap to clone; does not keep the client there.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

/// What a client says when it asks to enter.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// What the client gives as `auth`: a JSON object. With recovery it may also hold `pid` and `offset`.
    pub auth: Json,
    /// The request's `Authorization`, `Origin` and `User-Agent`.
    pub headers: Headers,
    /// Where the connection comes from; a proxy's address if there is one between.
    pub peer: Option<SocketAddr>,
    /// What the client says that it has seen, when it comes back. It proves nothing: whether it may see more is the app's
    /// to decide, as for a new client.
    pub resumed: Option<Seen>,
}

/// Headers of the request that began the connection.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `Origin`.
    pub origin: Option<String>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
}

/// What a client carries of a channel for when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the app lets it join again, or does not.
    Nothing,
    /// The name. It cannot come back to where it was, and so it is not recovered at all.
    Name,
    /// Its position: it comes back without a hole and without a repeat.
    Position,
}

/// A channel that was joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel.
    pub channel: ChannelName,
    /// Publications after this number follow.
    pub position: Seq,
    /// The log's epoch.
    pub epoch: Epoch,
    /// What became of the position asked for.
    pub recovery: Recovery,
}

/// What became of a client that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It goes on in these channels as if it had never been away; its `recovered` is true.
    Recovered(Vec<Joined>),
    /// It begins anew, in no channel. Why, if it had hoped for something else.
    Anew(Vec<(ChannelName, Lost)>),
}

/// Why a client cannot go on in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The app does not let it; or the connection cannot be in so many channels, or is in one of them already.
    Refused,
    /// It carried no position there.
    NoPosition,
    /// Retention has removed some of what follows its position.
    Truncated {
        /// The oldest number that can be read.
        oldest: Seq,
    },
    /// Its position is not of this log: the log was reset.
    Reset,
}

/// The client is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the client is gone")]
pub struct Gone;

/// Why a channel was not joined.
#[derive(Debug, Clone, Error)]
pub enum JoinError {
    /// The client is not there any more.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// This client, or another namespace of the same connection, is in the channel already.
    #[error("this connection is in the channel already")]
    Already,
    /// The connection is in as many channels as it may be, or would carry too many positions.
    #[error("the connection is in too many channels; see subscriptions_per_connection_max")]
    Limit,
    /// The log does not answer.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why a client was not told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EmitError {
    /// The client is not there any more.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// More than [`EMIT_BYTES_MAX`] bytes are on their way to it, or [`ASKS_MAX`] events wait for it.
    #[error("too much is on its way to the client; send less, or disconnect it")]
    Full,
    /// No event may have this name, or there are more attachments than a client takes.
    #[error("no event may look like this: a reserved or too long name, or too many attachments")]
    Unfit,
}

/// Why there is no answer to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// It was not sent.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// It was not answered in time.
    #[error("the client did not answer in time")]
    Timeout,
}

// === impl Client ===

impl Client {
    /// Its id in this namespace, in this connection: `socket.id` on its side. 20 characters of ASCII.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What it said when it asked to enter.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// Whether it is not there any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.gone.load(SeqCst)
    }

    /// Lets the client in, as a new one.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn accept(&self) -> Result<(), Gone> {
        self.enter(false, Vec::new()).await?;
        Ok(())
    }

    /// Lets the client in; one that comes back is put where it was in those of its channels that are named here, which
    /// the app has found that it may be in. Unless it can go on in all of its channels it begins anew, in none.
    ///
    /// # Errors
    /// [`Gone`]. Also if the log cannot be asked: the client is sent away then, to come back.
    pub async fn resume(&self, channels: &[ChannelName]) -> Result<Resumed, Gone> {
        self.resume_and_see(channels, &[], &[]).await
    }

    /// The same; it is told again who joins and leaves in those of its channels that are named in `see`, and of
    /// what it has missed given the newest alone in those in `newest`.
    pub(super) async fn resume_and_see(
        &self,
        channels: &[ChannelName],
        see: &[ChannelName],
        newest: &[ChannelName],
    ) -> Result<Resumed, Gone> {
        let Some(seen) = &self.0.handshake.resumed else {
            self.accept().await?;
            return Ok(Resumed::Anew(Vec::new()));
        };
        let lost = match self.lost(seen, channels, newest).await {
            Ok(lost) => lost,
            Err(LogError(_)) => {
                self.reconnect();
                return Err(Gone);
            }
        };
        if !lost.is_empty() {
            self.accept().await?;
            return Ok(Resumed::Anew(lost));
        }
        let returns = seen.channels.iter().map(|(name, seq)| Return {
            channel: name.clone(),
            seq: seq.unwrap_or_default(),
            joins: see.contains(name),
            newest: newest.contains(name),
        });
        if let Some(joined) = self.enter(true, returns.collect()).await? {
            return Ok(Resumed::Recovered(joined));
        }
        self.accept().await?;
        let names = seen.channels.iter().map(|(name, _)| name.clone());
        Ok(Resumed::Anew(
            names.map(|name| (name, Lost::Refused)).collect(),
        ))
    }

    /// Does not let the client in. Its `connect_error` has the message and the data; it does not try again by itself.
    pub fn refuse(&self, message: &str, data: Option<Json>) {
        self.post(Op::Refuse {
            message: message.to_owned(),
            data,
        });
    }

    /// Tells the client of an event.
    ///
    /// # Errors
    /// [`EmitError`]. What was sent may still be lost with the connection.
    pub fn emit(&self, event: &str, args: Args) -> Result<(), EmitError> {
        self.send_event(event, &args, None)
    }

    /// Tells the client of an event and waits for its acknowledgement: the arguments that it answers with.
    ///
    /// # Errors
    /// [`AskError`]; nothing is known then about whether the event arrived.
    pub async fn ask(
        &self,
        event: &str,
        args: Args,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let (sender, answer) = oneshot::channel();
        let id = self.0.asks.add(sender).ok_or(EmitError::Full)?;
        let sent = self.send_event(event, &args, Some(id));
        let answered = match sent {
            Ok(()) => timeout(patience, answer).await,
            Err(error) => {
                self.0.asks.take(id);
                return Err(error.into());
            }
        };
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(EmitError::Gone(Gone).into()),
            Err(_) => {
                self.0.asks.take(id);
                Err(AskError::Timeout)
            }
        }
    }

    /// Puts the client into a channel. Its publications follow, in order; whatever is emitted after this has returned
    /// comes behind the position that it tells.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(
        &self,
        channel: ChannelName,
        start: Start,
        keep: Keep,
    ) -> Result<Joined, JoinError> {
        self.join_and_see(channel, start, keep, false).await
    }

    /// The same; in a namespace whose clients are not told by itself who joins and leaves, with `joins` this one is.
    pub(super) async fn join_and_see(
        &self,
        channel: ChannelName,
        start: Start,
        keep: Keep,
        joins: bool,
    ) -> Result<Joined, JoinError> {
        let (reply, joined) = oneshot::channel();
        self.post(Op::Join {
            channel,
            start,
            keep,
            joins,
            reply,
        });
        joined.await.unwrap_or(Err(Gone.into()))
    }

    /// Waits until something has been revoked, which may be what the client came with.
    pub async fn rechecked(&self) {
        self.0.recheck.notified().await;
    }

    /// Takes the client out of a channel.
    pub fn leave(&self, channel: ChannelName) {
        self.post(Op::Leave { channel });
    }

    /// Sends the client away, for good: it does not come back by itself.
    pub fn disconnect(&self) {
        self.post(Op::Disconnect);
    }

    /// Ends the client's connection, that of its other namespaces too: it comes back by itself and begins with a new
    /// handshake.
    pub fn reconnect(&self) {
        self.post(Op::Reconnect);
    }

    pub(super) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The channels in which the client cannot go on.
    async fn lost(
        &self,
        seen: &Seen,
        allowed: &[ChannelName],
        newest: &[ChannelName],
    ) -> Result<Vec<(ChannelName, Lost)>, LogError> {
        let engine = &self.0.engine;
        let epoch = engine.epoch();
        let mut lost = Vec::new();
        let mut readers = Vec::new();
        for (name, seq) in &seen.channels {
            let why = match seq {
                _ if !allowed.contains(name) => Lost::Refused,
                None => Lost::NoPosition,
                Some(_) if seen.epoch != epoch => Lost::Reset,
                seq => {
                    readers.push((name.clone(), *seq));
                    continue;
                }
            };
            lost.push((name.clone(), why));
        }
        let heads = engine.heads(&epoch, &readers).await?;
        for ((name, seq), head) in readers.into_iter().zip(heads) {
            let seq = seq.unwrap_or_default();
            if seq > head.seq {
                lost.push((name, Lost::Reset));
            } else if newest.contains(&name) && head.trimmed < head.seq {
                // What it is given is there.
            } else if seq < head.trimmed {
                let oldest = head.trimmed.next();
                lost.push((name, Lost::Truncated { oldest }));
            }
        }
        Ok(lost)
    }

    async fn enter(
        &self,
        recovered: bool,
        joins: Vec<Return>,
    ) -> Result<Option<Vec<Joined>>, Gone> {
        let (reply, entered) = oneshot::channel();
        self.post(Op::Enter {
            recovered,
            joins,
            reply,
        });
        entered.await.map_err(|_| Gone)
    }

    fn send_event(&self, event: &str, args: &Args, id: Option<u64>) -> Result<(), EmitError> {
        if !socketio::is_event_name(event) || !args.fits() {
            return Err(EmitError::Unfit);
        }
        let mut json = args.json().to_vec();
        if self.0.guards && id.is_none() {
            // An event without arguments ends with its name.
            match json.is_empty() {
                true => json.extend_from_slice(b"null"),
                false => put_guard(&mut json),
            }
        }
        let mut frames = Vec::new();
        let namespace = &self.0.namespace;
        socketio::put_event(namespace, event, &json, id, args.attachments(), &mut frames);
        self.0.write(frames)
    }

    fn post(&self, op: Op) {
        self.0.post(op);
    }
}

impl Handshake {
    /// The client's `auth` as a type of the app's; `None` if it does not fit.
    #[must_use]
    pub fn auth_as<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.auth.as_bytes()).ok()
    }
}

// === Between the app's task and the connection's shard ===

/// What both know of a client.
pub(super) struct Shared {
    pub(super) id: Box<str>,
    pub(super) namespace: Box<str>,
    /// Which stay of the connection in a namespace this is.
    pub(super) stay: u32,
    pub(super) handshake: Handshake,
    pub(super) remote: Remote,
    pub(super) engine: Arc<Engine>,
    /// The client takes a string at the end of an event for its position.
    pub(super) guards: bool,
    pub(super) gone: AtomicBool,
    /// The connection waits until this client's events, or their acknowledgements, have become fewer.
    pub(super) starved: AtomicBool,
    /// Events whose acknowledgement the app owes.
    pub(super) acks_owed: AtomicUsize,
    /// Written by the app, not yet taken by the shard.
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) asks: Asks,
    /// Something has been revoked.
    pub(super) recheck: Notify,
}

/// Something for one stay of a connection in a namespace.
pub(super) struct Posted {
    pub(super) stay: u32,
    pub(super) op: Op,
}

/// What the app wants of the connection.
pub(super) enum Op {
    Enter {
        recovered: bool,
        joins: Vec<Return>,
        /// `None`: it cannot be in all of these channels, and has not entered.
        reply: oneshot::Sender<Option<Vec<Joined>>>,
    },
    Refuse {
        message: String,
        data: Option<Json>,
    },
    /// Whole frames.
    Write(Vec<u8>),
    Join {
        channel: ChannelName,
        start: Start,
        keep: Keep,
        joins: bool,
        reply: oneshot::Sender<Result<Joined, JoinError>>,
    },
    Leave {
        channel: ChannelName,
    },
    /// There is room for another event.
    Room,
    Disconnect,
    Reconnect,
    /// The app's task has ended.
    Left,
}

impl Shared {
    pub(super) fn post(&self, op: Op) {
        let stay = self.stay;
        self.remote.send(Event::Post(Box::new(Posted { stay, op })));
    }

    /// Has frames written.
    pub(super) fn write(&self, frames: Vec<u8>) -> Result<(), EmitError> {
        if self.gone.load(SeqCst) {
            return Err(Gone.into());
        }
        let length = frames.len();
        let before = self.waiting_bytes.fetch_add(length, SeqCst);
        // A single event may be longer.
        if before > 0 && before + length > EMIT_BYTES_MAX {
            self.waiting_bytes.fetch_sub(length, SeqCst);
            return Err(EmitError::Full);
        }
        self.post(Op::Write(frames));
        Ok(())
    }

    /// Tells the connection that it may go on reading, if it has stopped for want of room.
    pub(super) fn has_room(&self) {
        if self.starved.swap(false, SeqCst) {
            self.post(Op::Room);
        }
    }
}
