//! One connection: its sink, its session, and what it has not written yet.

use bytes::Bytes;

use super::{
    cursors::Slot,
    inbox::ConnKey,
    session::{Call, Context, Event, Request, Session},
    sink::{Sink, Written},
};

/// Bytes for one connection alone that may wait for its socket. Above this nothing is read from it until they are gone.
pub(crate) const OUT_BYTES_MAX: usize = 256 << 10;
/// Calls of one session that may be under way. Above this nothing is read from its connection until some are answered.
pub(crate) const CALLS_MAX: u32 = 256;
/// How many calls a read of history counts for: it can bring a thousand publications.
const HISTORY_CALLS: u32 = 32;
/// How many calls a list of members counts for: it can bring a thousand.
const PRESENCE_CALLS: u32 = 32;
/// How long after its socket was full a connection counts as lagging.
const LAGGING_SECONDS: u32 = 60;
/// How long a connection that is to be closed may take to accept its last bytes.
pub(crate) const CLOSE_SECONDS_MAX: u32 = 10;

/// One connection of a shard.
pub(crate) struct Conn {
    pub(crate) key: ConnKey,
    pub(crate) sink: Sink,
    pub(crate) session: Box<dyn Session>,
    /// Read, but not consumed by the session yet.
    pub(crate) input: Vec<u8>,
    pub(crate) subs: Vec<Sub>,
    /// Channels (keys in the shard) whose subscribe is under way.
    pub(crate) joining: Vec<u32>,
    /// Written by the session, or left over from a frame that was written in part. Goes out before any other frame.
    out: Vec<u8>,
    /// The second in which the session wants to be woken; 0 for never.
    pub(crate) wake_at: u32,
    /// The last second in which the socket was full, or took bytes after it was full; 0 for never.
    lagged_at: u32,
    /// The last second in which the peer was seen to take bytes, while the socket is full.
    progress_at: u32,
    /// What the peer had not taken when that was last looked at, while the socket is full.
    untaken: u64,
    /// The second in which a full socket is looked at for progress; 0 while nobody looks.
    pub(crate) look_at: u32,
    pub(crate) calls: u32,
    writable: bool,
    pub(crate) closing: bool,
    /// It is to be sent away once nothing that it asked for is under way.
    pub(crate) drained: bool,
    /// Its peer has taken nothing for too long: what is left for it is not kept when it goes.
    pub(crate) stalled: bool,
    pub(crate) dead: bool,
    /// In the list of those to be removed.
    pub(crate) doomed: bool,
    pub(crate) queued_resume: bool,
    pub(crate) queued_read: bool,
    /// The session has left input that it could go on with.
    pub(crate) paused: bool,
    /// Its socket may have bytes that were not read for lack of room; no edge will come for them.
    pub(crate) unread: bool,
}

/// One subscription of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sub {
    /// The channel's key in the shard.
    pub(crate) channel: u32,
    pub(crate) slot: Slot,
    /// A page of the log is on its way.
    pub(crate) waiting: bool,
}

impl Conn {
    pub(crate) fn new(key: ConnKey, sink: Sink, session: Box<dyn Session>, input: Vec<u8>) -> Self {
        Self {
            key,
            sink,
            session,
            input,
            subs: Vec::new(),
            joining: Vec::new(),
            out: Vec::new(),
            wake_at: 0,
            lagged_at: 0,
            progress_at: 0,
            untaken: 0,
            look_at: 0,
            calls: 0,
            writable: true,
            closing: false,
            drained: false,
            stalled: false,
            dead: false,
            doomed: false,
            queued_resume: false,
            queued_read: false,
            paused: false,
            unread: false,
        }
    }

    /// A subscribe has come to its end: the cursor is placed.
    pub(crate) fn joined(&mut self, sub: Sub) {
        self.joining.retain(|joining| *joining != sub.channel);
        if self.joining.is_empty() {
            self.joining = Vec::new();
        }
        if self.subs.is_empty() {
            // Most have one subscription, and a list would begin with room for four.
            self.subs.reserve_exact(1);
        }
        self.subs.push(sub);
    }

    /// Whether shared bytes may be written now.
    pub(crate) fn is_clear(&self) -> bool {
        self.writable && self.out.is_empty() && !self.closing && !self.dead
    }

    /// Whether its bytes may be read: for the session, or to be thrown away while it closes.
    pub(crate) fn takes_input(&self) -> bool {
        let has_room = self.out.len() <= OUT_BYTES_MAX && self.calls <= CALLS_MAX;
        // Who is about to leave is not asked for more, but thrown away like the rest once it is closing.
        let goes_on = has_room && !self.drained && self.session.takes_input();
        (goes_on || self.closing) && !self.dead
    }

    /// Ends a closing connection as far as it can be. Returns whether it can be removed now: a socket waits for its peer
    /// to close too, because closing on bytes that nobody has read would take the last frame away from the peer.
    pub(crate) fn finish(&mut self) -> bool {
        if self.dead {
            return true;
        }
        self.closing && self.out.is_empty() && !self.sink.end()
    }

    /// Calls the session.
    pub(crate) fn with_session<T>(
        &mut self,
        requests: &mut Vec<Request>,
        tick: u32,
        call: impl FnOnce(&mut dyn Session, &mut Context<'_>) -> T,
    ) -> T {
        let lagging =
            !self.writable || (self.lagged_at > 0 && tick - self.lagged_at < LAGGING_SECONDS);
        let mut cx = Context {
            out: &mut self.out,
            requests,
            lagging,
            calls: self.calls,
            paused: false,
        };
        call(&mut *self.session, &mut cx)
    }

    /// The session has asked for something that will be answered.
    pub(crate) fn called(&mut self, call: &Call) {
        self.calls += weight(call);
    }

    /// Something was answered.
    pub(crate) fn answered(&mut self, event: &Event) {
        let weight = match event {
            Event::Published { .. } | Event::PresenceStats { .. } => 1,
            Event::History { .. } => HISTORY_CALLS,
            Event::Presence { .. } => PRESENCE_CALLS,
            _ => 0,
        };
        self.calls = self.calls.saturating_sub(weight);
    }

    /// Goes on over another sink. What the one before has not passed on goes first.
    pub(crate) fn adopt(&mut self, sink: Sink) {
        let mut before = std::mem::replace(&mut self.sink, sink);
        if let Sink::Pipe(pipe) = &mut before {
            let mut out = pipe.take_back();
            out.append(&mut self.out);
            self.out = out;
        }
        self.writable = true;
    }

    /// The socket has room again.
    pub(crate) fn set_writable(&mut self, tick: u32) {
        if !self.writable {
            self.writable = true;
            self.lagged_at = tick;
        }
    }

    /// Lets go of what the peer has not taken, if it took nothing for too long. The connection is about to be dropped.
    pub(crate) fn let_go(&mut self) {
        // A socket that took everything after all delivers it.
        if self.stalled && (!self.out.is_empty() || matches!(self.sink, Sink::Pipe(_))) {
            self.sink.abort();
        }
    }

    /// Whether the socket has no room.
    pub(crate) fn is_full(&self) -> bool {
        !self.writable
    }

    /// How many seconds the peer has taken nothing, though there was something to take. Looks whether it just has.
    pub(crate) fn stalled_seconds(&mut self, tick: u32) -> u32 {
        if self.writable {
            return 0;
        }
        let untaken = self.sink.untaken();
        if untaken < std::mem::replace(&mut self.untaken, untaken) {
            self.progress_at = tick;
        }
        tick.saturating_sub(self.progress_at)
    }

    /// Writes what is the connection's own. Returns whether shared bytes may follow.
    pub(crate) fn flush(&mut self, tick: u32) -> bool {
        if self.out.is_empty() || !self.writable || self.dead {
            return self.is_clear();
        }
        let out = &self.out;
        match self.sink.write(out, || Bytes::copy_from_slice(out)) {
            // The memory goes with the bytes: an idle connection holds no buffer.
            Written::All => self.out = Vec::new(),
            Written::Partly(written) => {
                self.out.drain(..written);
                self.block(tick);
            }
            Written::Gone => self.dead = true,
        }
        self.is_clear()
    }

    /// Remembers that the socket is full, and what is left of a frame that was written in part.
    pub(crate) fn block_with(&mut self, rest: &[u8], tick: u32) {
        self.out.extend_from_slice(rest);
        self.block(tick);
    }

    /// Appends bytes that are the connection's own.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn block(&mut self, tick: u32) {
        self.writable = false;
        self.progress_at = tick;
        self.untaken = self.sink.untaken();
        self.lagged_at = tick;
    }
}

/// What a call counts for.
pub(super) fn weight(call: &Call) -> u32 {
    match call {
        Call::Publish { .. } | Call::PresenceStats { .. } => 1,
        Call::History { .. } => HISTORY_CALLS,
        Call::Presence { .. } => PRESENCE_CALLS,
    }
}
