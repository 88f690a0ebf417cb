//! A shard: the owner of some of the node's connections, and of their cursors.
//!
//! Nothing in here knows epoll or threads: the reactor says that a socket has bytes or room, the
//! inbox brings messages, and `turn` does what is due. A simulation can drive it as well.

use std::{collections::HashMap, sync::Arc};

use fanfare_wire::{ChannelName, Epoch};
use slab::Slab;

use super::{
    Common,
    channel::ShardChannel,
    conn::{CLOSE_SECONDS_MAX, Conn},
    epoch::Leaving,
    inbox::{Census, ConnKey, Inbox, Message},
    join::Joining,
    session::{Call, Event, Request, Session, WAKE_SECONDS_MAX},
    sink::Sink,
    wheel::Wheel,
};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Reads from one socket before the others have their turn.
const READS_MAX: usize = 4;

/// One core's part of the hub.
pub(crate) struct Shard {
    pub(super) common: Arc<Common>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) conns: Slab<Conn>,
    pub(super) channels: Slab<ShardChannel>,
    pub(super) by_name: HashMap<ChannelName, u32>,
    /// Channels with new publications.
    pub(super) dirty: Vec<u32>,
    /// Channels with news of the moment.
    pub(super) telling: Vec<u32>,
    /// Connections that may be able to go on.
    pub(super) resume: Vec<u32>,
    /// Connections with more to read.
    pub(super) reread: Vec<u32>,
    /// Connections to remove at the end of the turn.
    pub(super) doomed: Vec<u32>,
    /// Connections to resume in a later second, after a failed read of the log.
    pub(super) retries: Vec<ConnKey>,
    pub(super) scratch: Vec<u8>,
    /// The epoch that everything in this shard counts in; what is of another one is not let in.
    pub(super) epoch: Epoch,
    pub(super) leaving: Leaving,
    /// Seconds since the start, from 1.
    pub(super) tick: u32,
    messages: Vec<Message>,
    requests: Vec<Request>,
    buffer: Box<[u8]>,
    pub(super) wheel: Wheel,
    generation: u32,
    /// Reads of heads so far.
    pub(super) refreshes: u64,
}

impl Shard {
    pub(crate) fn new(common: Arc<Common>, inbox: Arc<Inbox>) -> Self {
        Self {
            epoch: common.upstream.epoch(),
            leaving: Leaving::default(),
            common,
            inbox,
            conns: Slab::new(),
            channels: Slab::new(),
            by_name: HashMap::new(),
            dirty: Vec::new(),
            telling: Vec::new(),
            resume: Vec::new(),
            reread: Vec::new(),
            doomed: Vec::new(),
            retries: Vec::new(),
            scratch: Vec::new(),
            tick: 1,
            messages: Vec::new(),
            requests: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            wheel: Wheel::default(),
            generation: 0,
            refreshes: 0,
        }
    }

    // === What the reactor calls ===

    /// Does everything that is due. Returns whether there is more to do at once.
    pub(crate) fn turn(&mut self) -> bool {
        self.reread_some();
        self.pass_all();
        self.resume_some();
        // Last, so that those who were only a moment behind are told too.
        self.tell_all();
        self.remove_doomed();
        !self.resume.is_empty() || !self.reread.is_empty() || !self.dirty.is_empty()
    }

    /// Takes the messages that have gathered. Calls `opened` for each new connection: its sink wants to be polled.
    pub(crate) fn take_messages(&mut self, opened: &mut dyn FnMut(usize, &mut Sink) -> bool) {
        let mut messages = self.inbox.take(std::mem::take(&mut self.messages));
        for message in messages.drain(..) {
            match message {
                Message::Open {
                    sink,
                    session,
                    input,
                } => self.open(sink, session, input, opened),
                Message::Run(run) => self.fresh(run),
                Message::News(told) => self.told(told),
                Message::Attached(attachment) => self.attached(attachment),
                Message::AttachFailed { channel, error } => self.attach_failed(&channel, &error),
                Message::Refreshed {
                    channel,
                    number,
                    result,
                } => self.refreshed(&channel, number, &result),
                Message::Trimmed {
                    channel,
                    epoch,
                    trimmed,
                } => self.trimmed(&channel, &epoch, trimmed),
                Message::Page {
                    channel,
                    page,
                    result,
                } => self.page_arrived(&channel, page, &result),
                Message::Event { conn, event } => self.event(conn, event),
                Message::Writable(conn) => {
                    if self.conn(conn).is_some() {
                        self.writable(conn.index as usize);
                    }
                }
                Message::Adopt { conn, sink, input } => self.adopt(conn, sink, input, opened),
                #[cfg(any(test, feature = "simulation"))]
                Message::Readable(conn) => {
                    if self.conn(conn).is_some() {
                        self.readable(conn.index as usize);
                    }
                }
                Message::Hangup(conn) => {
                    if self.conn(conn).is_some() {
                        self.doom(conn.index);
                    }
                }
                Message::NewEpoch {
                    epoch,
                    window_seconds,
                } => self.new_epoch(epoch, window_seconds),
                Message::Recheck => self.recheck(),
                // Whoever has asked may have left.
                Message::Census(reply) => _ = reply.send(self.census()),
                Message::Drain { slices } => self.drain_slice(slices),
            }
        }
        self.messages = messages;
    }

    /// A socket has room again.
    pub(crate) fn writable(&mut self, index: usize) {
        let tick = self.tick;
        if let Some(conn) = self.conns.get_mut(index) {
            conn.set_writable(tick);
            let key = conn.key.index;
            self.queue_resume(key);
        }
    }

    /// A socket has bytes, or its end.
    pub(crate) fn readable(&mut self, index: usize) {
        for _ in 0..READS_MAX {
            let Some(conn) = self.conns.get_mut(index) else {
                return;
            };
            if !conn.takes_input() {
                // Queued again when its output is flushed or its calls are answered.
                conn.unread = true;
                return;
            }
            if conn.paused {
                // What was left is older than what the socket has.
                conn.paused = false;
                self.input(index, &mut []);
                continue;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = conn.sink.read(&mut buffer);
            let length = match read {
                Ok(Some(length)) if length > 0 => length,
                Ok(None) => {
                    self.buffer = buffer;
                    return;
                }
                Ok(Some(_)) | Err(_) => {
                    self.buffer = buffer;
                    self.doom(key(index));
                    return;
                }
            };
            self.input(index, &mut buffer[..length]);
            let full = length == buffer.len();
            self.buffer = buffer;
            if !full {
                // The next read would only say that there is nothing: the socket's edge will come again.
                return;
            }
        }
        self.queue_read(key(index));
    }

    /// A socket has more to be read, though no edge will say so.
    pub(crate) fn readable_again(&mut self, index: usize) {
        self.queue_read(key(index));
    }

    /// A second has passed.
    pub(crate) fn second(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        for key in std::mem::take(&mut self.retries) {
            if let Some(conn) = self.conn(key) {
                // Whatever they waited for has not helped: they ask again.
                conn.subs.iter_mut().for_each(|sub| sub.waiting = false);
                self.queue_resume(key.index);
            }
        }
        for index in self.wheel.take(tick) {
            self.look_for_progress(index);
            let Some(conn) = self.conns.get_mut(index as usize) else {
                continue;
            };
            if conn.wake_at != tick {
                continue;
            }
            conn.wake_at = 0;
            if conn.closing {
                self.doom(index);
            } else {
                self.call(index, |session, cx| session.on_event(Event::Wake, cx));
            }
        }
        self.leave_some();
    }

    // === Connections ===

    fn open(
        &mut self,
        sink: Sink,
        session: Box<dyn Session>,
        mut input: Vec<u8>,
        opened: &mut dyn FnMut(usize, &mut Sink) -> bool,
    ) {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.conns.vacant_entry();
        let index = entry.key();
        let key = ConnKey {
            index: key(index),
            generation: self.generation,
        };
        let conn = entry.insert(Conn::new(key, sink, session, Vec::new()));
        self.common.metrics.connections.add(1);
        let remote = super::Remote {
            inbox: Arc::clone(&self.inbox),
            conn: key,
        };
        conn.session.bind(remote.clone());
        match &mut conn.sink {
            Sink::Socket(_) => {}
            Sink::Pipe(pipe) => pipe.bind(remote),
            #[cfg(any(test, feature = "simulation"))]
            Sink::Simulated(socket) => socket.bind(remote),
        }
        if !opened(index, &mut conn.sink) {
            self.doom(key.index);
            return;
        }
        self.call(key.index, |session, cx| session.on_open(cx));
        if !input.is_empty() {
            self.input(index, &mut input);
        }
    }

    fn adopt(
        &mut self,
        key: ConnKey,
        sink: Sink,
        mut input: Vec<u8>,
        opened: &mut dyn FnMut(usize, &mut Sink) -> bool,
    ) {
        let Some(conn) = self.conn(key).filter(|conn| !conn.closing) else {
            return;
        };
        let index = key.index as usize;
        conn.adopt(sink);
        if !opened(index, &mut conn.sink) {
            self.doom(key.index);
            return;
        }
        self.call(key.index, |session, cx| {
            session.on_event(Event::Adopted, cx);
        });
        if !input.is_empty() {
            self.input(index, &mut input);
        }
        self.queue_resume(key.index);
    }

    /// The connection that `key` names, if it still lives.
    pub(super) fn conn(&mut self, key: ConnKey) -> Option<&mut Conn> {
        self.conns
            .get_mut(key.index as usize)
            .filter(|conn| conn.key == key && !conn.dead)
    }

    fn event(&mut self, conn: ConnKey, event: Event) {
        let Some(found) = self.conn(conn) else { return };
        found.answered(&event);
        self.call(conn.index, |session, cx| session.on_event(event, cx));
        self.leave_if_answered(conn.index);
        self.queue_read_if_paused(conn.index);
    }

    fn census(&self) -> Census {
        let counted = self
            .channels
            .iter()
            .map(|(_, channel)| (channel.name.clone(), channel.cursors.len()));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    fn recheck(&mut self) {
        let all: Vec<u32> = self.conns.iter().map(|(_, conn)| conn.key.index).collect();
        for index in all {
            self.call(index, |session, cx| session.on_event(Event::Recheck, cx));
        }
    }

    /// Gives bytes to the session, together with what it had left.
    fn input(&mut self, index: usize, bytes: &mut [u8]) {
        let Some(conn) = self.conns.get_mut(index) else {
            return;
        };
        if conn.closing {
            return;
        }
        let tick = self.tick;
        let requests = &mut self.requests;
        let mut paused = false;
        let mut give = |conn: &mut Conn, bytes: &mut [u8]| {
            conn.with_session(requests, tick, |session, cx| {
                let consumed = session.on_bytes(bytes, cx);
                paused = cx.paused;
                consumed
            })
        };
        if conn.input.is_empty() {
            let consumed = give(conn, bytes);
            conn.input.extend_from_slice(&bytes[consumed..]);
        } else {
            let mut input = std::mem::take(&mut conn.input);
            input.extend_from_slice(bytes);
            let consumed = give(conn, &mut input);
            if consumed < input.len() {
                input.drain(..consumed);
                conn.input = input;
            }
        }
        conn.paused = paused;
        self.settle(key(index));
        if paused {
            self.queue_read_if_paused(key(index));
        }
    }

    /// Calls the session of a connection and does what it asks for.
    pub(super) fn call(
        &mut self,
        index: u32,
        call: impl FnOnce(&mut dyn Session, &mut super::session::Context<'_>),
    ) {
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        if conn.dead || conn.closing {
            return;
        }
        let paused = conn.with_session(&mut self.requests, self.tick, |session, cx| {
            call(session, cx);
            cx.paused
        });
        conn.paused |= paused;
        self.settle(index);
        if paused {
            self.queue_read_if_paused(index);
        }
    }

    /// Carries out the session's requests and writes its bytes.
    fn settle(&mut self, index: u32) {
        // Requests can lead to events and so to more requests: each level takes its own.
        let mut requests = std::mem::take(&mut self.requests);
        for request in requests.drain(..) {
            self.carry_out(index, request);
        }
        if self.requests.capacity() == 0 {
            self.requests = requests;
        }
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        conn.flush(tick);
        if conn.finish() {
            self.doom(index);
        }
        self.watch(index);
    }

    fn carry_out(&mut self, index: u32, request: Request) {
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        match request {
            Request::Subscribe {
                tag,
                channel,
                start,
                form,
                filter,
            } => {
                let joining = Joining {
                    conn: conn.key,
                    tag,
                    start,
                    form,
                    filter,
                    late: false,
                };
                self.join(channel, joining);
            }
            Request::Unsubscribe(channel) => self.leave(index, &channel),
            Request::Reform { channel, form } => self.reform(index, channel, form),
            Request::Call(call) => {
                conn.called(&call);
                let reply = super::Remote {
                    inbox: Arc::clone(&self.inbox),
                    conn: conn.key,
                };
                self.call_upstream(call, reply);
            }
            Request::Wake { seconds } => {
                conn.wake_at = tick + seconds.clamp(1, WAKE_SECONDS_MAX);
                self.wheel.schedule(index, conn.wake_at);
            }
            Request::Close => {
                conn.closing = true;
                conn.wake_at = tick + CLOSE_SECONDS_MAX;
                self.wheel.schedule(index, conn.wake_at);
            }
        }
    }

    fn call_upstream(&self, call: Call, reply: super::Remote) {
        self.common.upstream.request(call, reply);
    }

    // === Queues of the turn ===

    pub(super) fn queue_resume(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && !conn.queued_resume
        {
            conn.queued_resume = true;
            self.resume.push(index);
        }
    }

    fn queue_read(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize)
            && !conn.queued_read
        {
            conn.queued_read = true;
            self.reread.push(index);
        }
    }

    /// A connection that had too much under way goes on with what it left, as soon as there is room again.
    pub(super) fn queue_read_if_paused(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        if (conn.paused || conn.unread) && conn.takes_input() {
            conn.unread = false;
            self.queue_read(index);
        }
    }

    pub(super) fn doom(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.dead = true;
            if !std::mem::replace(&mut conn.doomed, true) {
                self.doomed.push(index);
            }
        }
    }

    fn reread_some(&mut self) {
        for index in std::mem::take(&mut self.reread) {
            if let Some(conn) = self.conns.get_mut(index as usize) {
                conn.queued_read = false;
                self.readable(index as usize);
            }
        }
    }

    fn remove_doomed(&mut self) {
        for index in std::mem::take(&mut self.doomed) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(mut conn) = self.conns.try_remove(index as usize) else {
            return;
        };
        conn.let_go();
        self.common.metrics.connections.add(-1);
        for sub in conn.subs {
            self.remove_cursor(sub.channel, sub.slot);
            self.drop_if_unused(sub.channel);
        }
        for channel in conn.joining {
            if let Some(found) = self.channels.get_mut(channel as usize) {
                found.joining.retain(|joining| joining.conn != conn.key);
            }
            self.drop_if_unused(channel);
        }
    }
}

/// Slab keys are connection counts of a process, far below 2^32.
pub(super) fn key(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
