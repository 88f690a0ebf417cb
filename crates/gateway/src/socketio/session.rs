//! The Socket.IO protocol of one connection: namespaces and their apps, packets and their attachments. No IO: messages and
//! events in, frames and requests out.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::hub::{Context, Event, Remote};
use fanfare_wire::{
    ChannelName, Epoch, Json, Seq,
    socketio::{self, Body, Packet, form::put_personal, seen::Seen},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    App, SocketIo,
    app::{Client, EMIT_BYTES_MAX, Handshake, Headers, JoinError, Joined, Op, Posted, Shared},
    channels::{Return, Waiting, Wish, is_where_it_was},
    connection::{Broken, End, Messages},
    events::{ACKS_MAX, Ack, Answer, Events, Incoming},
    stay::{Entering, Left, Stay, is_id},
};
use crate::forward::random_id;

/// Namespaces that one connection may be in.
const NAMESPACES_MAX: usize = 16;
/// Tasks of apps that may run for one connection, those whose client has left included. When there are more, it is not read.
const TASKS_MAX: usize = 2 * NAMESPACES_MAX;
/// Longest `auth` of a client, in bytes. It is kept for as long as the client stays.
const AUTH_BYTES_MAX: usize = 128 << 10;
/// No stay has this number.
const NOBODY: u32 = 0;
/// How old a connection may become without being in a namespace.
const ENTER_PATIENCE: Duration = Duration::from_secs(45);

/// One connection.
pub(super) struct Session {
    socketio: Arc<SocketIo>,
    request: Arc<Requested>,
    remote: Option<Remote>,
    stays: Vec<Stay>,
    /// Stays so far.
    counted: u32,
    /// Each of the apps' tasks has one.
    tasks: Arc<()>,
    /// Requests to the hub so far.
    tags: u32,
    /// A packet whose attachments are still coming.
    partial: Option<Box<Partial>>,
    epoch: Epoch,
}

/// What is known of the request that began the connection.
pub(super) struct Requested {
    pub(super) headers: Headers,
    pub(super) peer: Option<std::net::SocketAddr>,
}

/// A packet without all of its attachments.
struct Partial {
    stay: u32,
    what: What,
    args: Vec<Box<RawValue>>,
    attachments: Vec<Bytes>,
    expected: usize,
    bytes: usize,
}

enum What {
    Event { name: String, id: Option<u64> },
    Ack { id: u64 },
}

/// What a client carries from one connection to the next.
#[derive(Default, Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    pid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    offset: Option<Cow<'a, str>>,
}

impl Session {
    pub(super) fn new(socketio: Arc<SocketIo>, request: Requested) -> Self {
        let epoch = socketio.engine.epoch();
        Self {
            socketio,
            request: Arc::new(request),
            remote: None,
            stays: Vec::new(),
            counted: NOBODY,
            tasks: Arc::default(),
            tags: 0,
            partial: None,
            epoch,
        }
    }

    // === Packets ===

    fn on_packet(&mut self, packet: Packet<'_>, cx: &mut Context<'_>) -> Result<(), Broken> {
        let Packet { namespace, body } = packet;
        if let Body::Connect(auth) = body {
            return self.connect(namespace, auth, cx);
        }
        // Who is not there any more may not have heard of it yet.
        let stay = self.stays.iter().find(|stay| stay.is_in(namespace));
        let number = stay.map_or(NOBODY, Stay::number);
        let own = |args: Vec<&RawValue>| args.into_iter().map(ToOwned::to_owned).collect();
        match body {
            Body::Connect(_) => Ok(()),
            Body::Disconnect => {
                self.end_stay(number, cx);
                Ok(())
            }
            Body::Event {
                name,
                args,
                id,
                attachments,
            } => self.begin(number, What::Event { name, id }, own(args), attachments),
            Body::Ack {
                id,
                args,
                attachments,
            } => self.begin(number, What::Ack { id }, own(args), attachments),
        }
    }

    fn connect(
        &mut self,
        namespace: &str,
        auth: Option<&RawValue>,
        cx: &mut Context<'_>,
    ) -> Result<(), Broken> {
        if self.stays.iter().any(|stay| stay.is_in(namespace)) {
            return Err(Broken);
        }
        let socketio = Arc::clone(&self.socketio);
        let Some(app) = socketio.app(namespace) else {
            socketio::put_refused(namespace, "Invalid namespace", None, cx.out);
            return Ok(());
        };
        if self.stays.len() >= NAMESPACES_MAX {
            socketio::put_refused(namespace, "too many namespaces", None, cx.out);
            return Ok(());
        }
        if auth.is_some_and(|auth| auth.get().len() > AUTH_BYTES_MAX) {
            socketio::put_refused(namespace, "auth is too long", None, cx.out);
            return Ok(());
        }
        let carried = auth.and_then(|auth| serde_json::from_str::<Carried<'_>>(auth.get()).ok());
        let Carried { pid, offset } = carried.unwrap_or_default();
        let pid = pid.filter(|pid| self.socketio.recovery && is_id(pid));
        let had_offset = pid.is_some() && offset.is_some();
        let seen = offset.filter(|_| pid.is_some());
        let handshake = Handshake {
            auth: auth.map_or_else(|| Json::trusted(Bytes::from_static(b"{}")), Json::from_raw),
            headers: self.request.headers.clone(),
            peer: self.request.peer,
            resumed: seen.and_then(|offset| Seen::parse(&offset)),
        };
        let entering = Entering {
            pid: pid.map(Cow::into_owned),
            had_offset,
        };
        self.begin_stay(app, handshake, entering);
        Ok(())
    }

    fn begin_stay(&mut self, app: &App, handshake: Handshake, entering: Entering) {
        let Some(remote) = self.remote.clone() else {
            return;
        };
        self.counted = self.counted.checked_add(1).unwrap_or(NOBODY + 1);
        let client = Client::new(Shared {
            id: random_id().into(),
            namespace: app.namespace.name().into(),
            stay: self.counted,
            handshake,
            remote,
            engine: Arc::clone(&self.socketio.engine),
            guards: self.socketio.recovery,
            gone: false.into(),
            starved: false.into(),
            acks_owed: 0.into(),
            waiting_bytes: 0.into(),
            asks: Default::default(),
            recheck: Default::default(),
        });
        let (sender, events) = Events::new(Arc::clone(client.shared()));
        let stay = Stay::new(
            app.forms,
            self.socketio.recovery,
            client.clone(),
            sender,
            entering,
        );
        self.stays.push(stay);
        let namespace = Arc::clone(&app.namespace);
        let task = Arc::clone(&self.tasks);
        tokio::spawn(async move {
            // However the app's task ends.
            let _left = Left::new(client.clone(), task);
            namespace.serve(client, events).await;
        });
    }

    /// A packet is there, perhaps without its attachments.
    fn begin(
        &mut self,
        stay: u32,
        what: What,
        args: Vec<Box<RawValue>>,
        expected: usize,
    ) -> Result<(), Broken> {
        let partial = Partial {
            stay,
            what,
            args,
            attachments: Vec::new(),
            expected,
            bytes: 0,
        };
        if expected > 0 {
            self.partial = Some(Box::new(partial));
            return Ok(());
        }
        self.deliver(partial)
    }

    fn deliver(&mut self, packet: Partial) -> Result<(), Broken> {
        let Partial {
            stay,
            what,
            args,
            attachments,
            ..
        } = packet;
        let Some(stay) = self.stays.iter().find(|it| it.number() == stay) else {
            return Ok(());
        };
        let shared = stay.shared();
        match what {
            What::Ack { id } => {
                if let Some(waiting) = shared.asks.take(id) {
                    // It may not be waited for any more.
                    let _ = waiting.send(Answer { args, attachments });
                }
                Ok(())
            }
            What::Event { .. } if !stay.has_entered() => Err(Broken),
            What::Event { name, id } => {
                let incoming = Incoming {
                    event: name,
                    args,
                    attachments,
                    ack: id.map(|id| Ack::new(Arc::clone(shared), id)),
                };
                match stay.events().try_send(Box::new(incoming)) {
                    // The app has stopped listening: it is about to leave.
                    Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
                    // There was room before it was read.
                    Err(TrySendError::Full(_)) => Err(Broken),
                }
            }
        }
    }

    // === What apps want ===

    fn on_op(&mut self, posted: Posted, cx: &mut Context<'_>) -> Result<(), End> {
        let Posted { stay: number, op } = posted;
        let Some(at) = self.stays.iter().position(|it| it.number() == number) else {
            return Ok(());
        };
        match op {
            Op::Enter {
                recovered,
                joins,
                reply,
            } => {
                let epoch = self.epoch();
                let count = joins.len();
                if !self.has_room_for(&joins) {
                    // The app may have stopped waiting.
                    let _ = reply.send(None);
                    return Ok(());
                }
                if !self.stays[at].enter(recovered, count, reply, &epoch, cx.out) {
                    return Ok(());
                }
                for back in joins {
                    let wish = back.into_wish(epoch.clone());
                    self.join(at, wish, cx)?;
                }
                self.settle(at, cx);
            }
            Op::Refuse { message, data } => {
                let namespace = self.stays[at].namespace();
                let data = data.as_ref().map(Json::as_bytes);
                socketio::put_refused(namespace, &message, data, cx.out);
                self.end_stay(number, cx);
            }
            Op::Write(frames) => {
                let length = frames.len();
                let shared = self.stays[at].shared();
                shared.waiting_bytes.fetch_sub(length, SeqCst);
                if !cx.out.is_empty() && cx.out.len() + length > EMIT_BYTES_MAX {
                    // It does not take what it is told, and this cannot be told later.
                    return Err(End::GoodBye);
                }
                cx.out.extend_from_slice(&frames);
            }
            Op::Join {
                channel,
                start,
                keep,
                joins,
                reply,
            } => {
                let wish = Wish {
                    channel,
                    start,
                    keep,
                    joins,
                    waiting: Waiting::Join(reply),
                };
                self.join(at, wish, cx)?;
            }
            Op::Leave { channel } => self.leave(at, &channel, cx),
            Op::Room => {}
            Op::Disconnect => {
                socketio::put_disconnected(self.stays[at].namespace(), cx.out);
                self.end_stay(number, cx);
            }
            Op::Reconnect => return Err(End::GoodBye),
            Op::Left => {
                let entered = self.stays[at].has_entered();
                let namespace = self.stays[at].namespace();
                match entered {
                    true => socketio::put_disconnected(namespace, cx.out),
                    false => socketio::put_refused(namespace, "not served", None, cx.out),
                }
                self.end_stay(number, cx);
            }
        }
        Ok(())
    }

    fn join(&mut self, at: usize, wish: Wish, cx: &mut Context<'_>) -> Result<(), End> {
        let already = self.stays.iter().any(|it| it.channels.has(&wish.channel));
        let count: usize = self.stays.iter().map(|it| it.channels.len()).sum();
        let stay = &mut self.stays[at];
        let error = if already {
            JoinError::Already
        } else if count >= self.socketio.channels_max || !stay.channels.can_carry(wish.keep) {
            JoinError::Limit
        } else {
            self.tags = self.tags.wrapping_add(1);
            cx.request(stay.channels.join(self.tags, wish));
            return Ok(());
        };
        match wish.waiting {
            Waiting::Join(reply) => {
                // The app may have stopped waiting.
                let _ = reply.send(Err(error));
                Ok(())
            }
            // It cannot be where it was, and has been told that it is: it begins anew.
            Waiting::Resume => Err(End::GoodBye),
        }
    }

    /// Whether a client that comes back can be put into all of these channels.
    fn has_room_for(&self, joins: &[Return]) -> bool {
        let count: usize = self.stays.iter().map(|it| it.channels.len()).sum();
        let taken = |channel: &ChannelName| self.stay_in(channel).is_some();
        joins.is_empty()
            || (count + joins.len() <= self.socketio.channels_max
                && !joins.iter().any(|it| taken(&it.channel)))
    }

    fn leave(&mut self, at: usize, channel: &ChannelName, cx: &mut Context<'_>) {
        let stay = &mut self.stays[at];
        let carried = stay.channels.carries(channel);
        if let Some(requests) = stay.channels.leave(channel) {
            requests.into_iter().for_each(|request| cx.request(request));
            stay.owes_position |= carried;
            self.settle(at, cx);
        }
    }

    // === What the hub says ===

    fn on_subscribed(&mut self, tag: u32, joined: Joined, cx: &mut Context<'_>) -> Result<(), End> {
        let at = self.stay_in(&joined.channel);
        let Some((at, found)) = at.and_then(|at| {
            let found = self.stays[at].channels.joined(tag, joined)?;
            Some((at, found))
        }) else {
            return Ok(());
        };
        let (waiting, joined, requests) = found;
        self.epoch = joined.epoch.clone();
        requests.into_iter().for_each(|request| cx.request(request));
        let stay = &mut self.stays[at];
        match waiting {
            Waiting::Join(reply) => {
                stay.owes_position |= stay.channels.carries(&joined.channel);
                stay.joined.push((reply, joined));
            }
            // It was found to be there a moment ago.
            Waiting::Resume if !is_where_it_was(&joined) => return Err(End::GoodBye),
            Waiting::Resume => stay.resumed(joined),
        }
        self.settle(at, cx);
        Ok(())
    }

    fn on_subscribe_failed(
        &mut self,
        tag: u32,
        channel: &ChannelName,
        error: fanfare_engine::port::LogError,
    ) -> Result<(), End> {
        let at = self.stay_in(channel);
        match at.and_then(|at| self.stays[at].channels.failed(tag, channel)) {
            Some(Waiting::Join(reply)) => {
                // The app may have stopped waiting.
                let _ = reply.send(Err(error.into()));
                Ok(())
            }
            Some(Waiting::Resume) => Err(End::GoodBye),
            None => Ok(()),
        }
    }

    /// Says what had to wait until it was known how far the client has read.
    fn settle(&mut self, at: usize, cx: &mut Context<'_>) {
        let epoch = self.epoch();
        self.stays[at].settle(&epoch, cx.out);
    }

    fn end_stay(&mut self, number: u32, cx: &mut Context<'_>) {
        if let Some(at) = self.stays.iter().position(|it| it.number() == number) {
            let mut stay = self.stays.remove(at);
            let requests = stay.channels.leave_all();
            requests.into_iter().for_each(|request| cx.request(request));
        }
    }

    fn stay_in(&self, channel: &ChannelName) -> Option<usize> {
        self.stays.iter().position(|it| it.channels.has(channel))
    }

    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }
}

impl Messages for Session {
    fn bind(&mut self, remote: Remote) {
        self.remote = Some(remote);
    }

    fn takes_input(&self) -> bool {
        // The last one of them is told of, see `Left`.
        if Arc::strong_count(&self.tasks) > TASKS_MAX {
            return false;
        }
        self.stays.iter().all(|stay| {
            let shared = stay.shared();
            let has_room =
                || stay.events().capacity() > 0 && shared.acks_owed.load(SeqCst) < ACKS_MAX;
            if has_room() {
                return true;
            }
            shared.starved.store(true, SeqCst);
            // The app may have made room before it could know that somebody waits for it.
            has_room()
        })
    }

    fn on_text(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Broken> {
        if self.partial.is_some() {
            return Err(Broken);
        }
        let packet = Packet::parse(text).map_err(|_| Broken)?;
        self.on_packet(packet, cx)
    }

    fn on_binary(&mut self, bytes: Cow<'_, [u8]>, _: &mut Context<'_>) -> Result<(), Broken> {
        let mut partial = self.partial.take().ok_or(Broken)?;
        partial.bytes += bytes.len();
        if partial.bytes > self.socketio.heartbeat.max_payload {
            return Err(Broken);
        }
        partial.attachments.push(Bytes::from(bytes.into_owned()));
        if partial.attachments.len() < partial.expected {
            self.partial = Some(partial);
            return Ok(());
        }
        self.deliver(*partial)
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) -> Result<(), End> {
        match event {
            Event::Post(post) => match post.downcast::<Posted>() {
                Ok(posted) => self.on_op(*posted, cx),
                Err(_) => Ok(()),
            },
            Event::Subscribed {
                tag,
                channel,
                position,
                recovery,
                epoch,
            } => {
                let joined = Joined {
                    channel,
                    position,
                    epoch,
                    recovery,
                };
                self.on_subscribed(tag, joined, cx)
            }
            Event::SubscribeFailed {
                tag,
                channel,
                error,
            } => self.on_subscribe_failed(tag, &channel, error),
            Event::Reformed { channel, position } => {
                if let Some(at) = self.stay_in(&channel) {
                    self.stays[at].channels.reformed(&channel, position);
                    self.settle(at, cx);
                }
                Ok(())
            }
            Event::Recheck => {
                for stay in &self.stays {
                    stay.shared().recheck.notify_one();
                }
                Ok(())
            }
            // What it has missed is gone: it comes back, and is told so.
            Event::Truncated { .. } => Err(End::GoodBye),
            _ => Ok(()),
        }
    }

    fn on_ping(&mut self, open: Duration) -> Result<(), Broken> {
        // Clients close what they need no more by themselves; who was refused and stays must not keep a seat.
        match self.stays.is_empty() && open > ENTER_PATIENCE {
            true => Err(Broken),
            false => Ok(()),
        }
    }

    fn is_idle(&self) -> bool {
        self.stays.iter().all(|stay| {
            let shared = stay.shared();
            let owes_nothing = || shared.acks_owed.load(SeqCst) == 0;
            if owes_nothing() {
                return true;
            }
            // An acknowledgement is written before it counts as given: that is to be told too.
            shared.starved.store(true, SeqCst);
            owes_nothing()
        })
    }

    fn personalise(&mut self, channel: &ChannelName, seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        let Some(at) = self.stay_in(channel) else {
            return;
        };
        let epoch = &self.epoch;
        let (namespace, channels) = self.stays[at].parts();
        let trail = |out: &mut Vec<u8>| channels.put_seen_after(channel, seq, epoch, out);
        put_personal(namespace, frame, trail, out);
    }
}
