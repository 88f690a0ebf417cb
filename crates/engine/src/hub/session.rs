//! What a gateway implements: the protocol of one connection, without IO.
//!
//! A session turns bytes and events into bytes and [`Request`]s. It runs on the thread of its shard, so it must not
//! block; anything that takes time is a request whose answer comes back as an [`Event`].

use std::{any::Any, sync::Arc};

use fanfare_wire::{ChannelName, Draft, Epoch, FormId, Publication, Seq, TagsFilter};

use super::{
    conn::{CALLS_MAX, OUT_BYTES_MAX, weight},
    inbox::Remote,
};
use crate::{
    port::{Direction, LogError},
    presence::{Counted, Members},
    publish::{PublishError, Published},
};

/// The protocol of one connection.
pub trait Session: Send + 'static {
    /// Tells the session how other threads reach it. Called once, before everything else.
    fn bind(&mut self, _remote: Remote) {}

    /// The connection is open.
    fn on_open(&mut self, cx: &mut Context<'_>);

    /// Bytes arrived. Returns how many were consumed; the rest is given again with what follows. May be called with
    /// what is left after an earlier call. A session that waits for more than it is willing to hold must close.
    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize;

    /// Whether it goes on with input now. One that does not is asked again after each event that it is given.
    fn takes_input(&self) -> bool {
        true
    }

    /// Something happened that the session asked for or must know.
    fn on_event(&mut self, event: Event, cx: &mut Context<'_>);

    /// Completes one frame of a [personal](fanfare_wire::Form::is_personal) wire form for this connection.
    fn personalise(&mut self, _channel: &ChannelName, _seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(frame);
    }
}

/// What a session may do while it handles something.
pub struct Context<'a> {
    /// Bytes for this connection alone, written in order with everything else.
    pub out: &'a mut Vec<u8>,
    /// What the session wants.
    pub requests: &'a mut Vec<Request>,
    /// The socket is full: bytes for this connection wait, or waited within the last minute.
    pub lagging: bool,
    /// Calls that are under way, by weight.
    pub(crate) calls: u32,
    /// The session has left input on purpose, see [`pause`](Context::pause).
    pub(crate) paused: bool,
}

impl Context<'_> {
    /// Asks for something.
    pub fn request(&mut self, request: Request) {
        if let Request::Call(call) = &request {
            self.calls += weight(call);
        }
        self.requests.push(request);
    }

    /// Whether the connection has so much under way, or to write, that the session should leave the rest of its input.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.calls > CALLS_MAX || self.out.len() > OUT_BYTES_MAX
    }

    /// Says that the session has left input that it can go on with: it is given again when there is room, or nothing if
    /// what was left did not come from the sink.
    pub fn pause(&mut self) {
        self.paused = true;
    }
}

/// What a session wants.
#[derive(Debug)]
pub enum Request {
    /// Place a cursor in a channel; answered by [`Event::Subscribed`] or [`Event::SubscribeFailed`]. The session has
    /// made sure that it may, and that it is not subscribed already.
    Subscribe {
        /// Comes back in the answer.
        tag: u32,
        /// Where.
        channel: ChannelName,
        /// From which position.
        start: Start,
        /// The wire form of the publications.
        form: FormId,
        /// Which publications are wanted; all if absent. The cursor goes on over the others.
        filter: Option<Arc<TagsFilter>>,
    },
    /// Remove the cursor, or forget the subscribe that is under way.
    Unsubscribe(ChannelName),
    /// Give the publications of a subscription another wire form from now on; answered by [`Event::Reformed`], unless there
    /// is no such subscription any more.
    Reform {
        /// Where.
        channel: ChannelName,
        /// The other form.
        form: FormId,
    },
    /// Something of the engine; answered by an event with the same tag.
    Call(Call),
    /// Give [`Event::Wake`] in so many seconds, at most [`WAKE_SECONDS_MAX`]. A new wish replaces the one before.
    Wake {
        /// The delay.
        seconds: u32,
    },
    /// Close the connection once everything in `out` is written.
    Close,
}

/// Longest delay of [`Request::Wake`]; longer ones are cut to it.
pub const WAKE_SECONDS_MAX: u32 = 60;

/// What the engine does for a session.
#[derive(Debug)]
pub enum Call {
    /// Commit a message; answered by [`Event::Published`].
    Publish {
        /// Comes back in the answer.
        tag: u32,
        /// The message.
        draft: Draft,
    },
    /// Read a channel's history; answered by [`Event::History`].
    History {
        /// Comes back in the answer.
        tag: u32,
        /// What to read.
        query: HistoryQuery,
    },
    /// Who is in a channel; answered by [`Event::Presence`].
    Presence {
        /// Comes back in the answer.
        tag: u32,
        /// Which.
        channel: ChannelName,
    },
    /// How many are in a channel; answered by [`Event::PresenceStats`].
    PresenceStats {
        /// Comes back in the answer.
        tag: u32,
        /// Which.
        channel: ChannelName,
    },
}

/// A read of a channel's history.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// Whose.
    pub channel: ChannelName,
    /// Start behind this position; its epoch, if given, must be the log's. `None` starts at the beginning, or at the
    /// head when reading backward.
    pub since: Option<(Option<Epoch>, Seq)>,
    /// At most this many publications; 0 asks for the position only.
    pub limit: usize,
    /// Which way.
    pub direction: Direction,
}

/// What a history query found.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// The publications, in the order asked for.
    pub publications: Vec<Publication>,
    /// The head of the channel.
    pub head: Seq,
    /// The last number that retention removed.
    pub trimmed: Seq,
    /// The log's epoch.
    pub epoch: Epoch,
}

/// Why a history query failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The position asked for is of another epoch.
    #[error("the position is of another epoch than the log's, {0}")]
    OtherEpoch(Epoch),
}

/// Where a subscription begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// With what comes next.
    Live,
    /// Behind a position that the client names.
    Resume(Resume),
    /// The same if no more publications than these follow it; otherwise as if retention had removed what lies before them.
    ResumeWithin(Resume, u64),
    /// With the newest publication, unless the position that the client names is behind it. From then on whoever lags is given the
    /// newest alone as well: what lies before it is left out.
    Newest(Option<Resume>),
}

/// A position that a client names.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The epoch; `None` is not checked.
    pub epoch: Option<Epoch>,
    /// The last publication it has seen.
    pub seq: Seq,
    /// Where to go on when retention has removed what follows: with the oldest that is there, or live.
    pub oldest_if_truncated: bool,
}

/// What became of a [`Start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The client did not ask to resume.
    NotAsked,
    /// Everything after the position will come, without a hole and without a repeat.
    Recovered,
    /// Retention has removed some of what follows the position; this is the oldest that is still there.
    Truncated {
        /// The oldest number that can be read.
        oldest: Seq,
    },
    /// The position is of another epoch, or ahead of the head: the log is another one than the client knew.
    Reset,
}

/// What a session is told.
#[derive(Debug)]
pub enum Event {
    /// The cursor is placed: publications after `position` follow.
    Subscribed {
        /// From the request.
        tag: u32,
        /// The channel.
        channel: ChannelName,
        /// Where the cursor stands.
        position: Seq,
        /// What became of the position asked for.
        recovery: Recovery,
        /// The log's epoch.
        epoch: Epoch,
    },
    /// No cursor was placed.
    SubscribeFailed {
        /// From the request.
        tag: u32,
        /// The channel.
        channel: ChannelName,
        /// Why.
        error: LogError,
    },
    /// The publications after `position` come in the form asked for.
    Reformed {
        /// The channel.
        channel: ChannelName,
        /// Where the cursor stands.
        position: Seq,
    },
    /// Retention overtook the cursor. It goes on with `oldest`; what was before is gone.
    Truncated {
        /// The channel.
        channel: ChannelName,
        /// The next number that will come.
        oldest: Seq,
    },
    /// A publish was answered.
    Published {
        /// From the call.
        tag: u32,
        /// Its outcome.
        result: Result<Published, PublishError>,
    },
    /// A history query was answered.
    History {
        /// From the call.
        tag: u32,
        /// Its outcome.
        result: Result<Arc<HistoryPage>, HistoryError>,
    },
    /// Who is in the channel that was asked for.
    Presence {
        /// From the call.
        tag: u32,
        /// Who.
        members: Arc<Members>,
    },
    /// How many are in the channel that was asked for.
    PresenceStats {
        /// From the call.
        tag: u32,
        /// How many.
        counted: Counted,
    },
    /// The time asked for has come.
    Wake,
    /// Something that the gateway has sent to its own session from another thread, over [`Remote::send`].
    Post(Box<dyn Any + Send>),
    /// The connection goes on over the sink that it was given by [`Remote::adopt`].
    Adopted,
    /// The log took another epoch: the connection's subscriptions are gone, and what it has seen may be gone from the log.
    /// The session says good-bye so that its client comes back, with its old positions, and is told.
    Reset,
    /// The peer has taken nothing for as long as the node waits: the session says good-bye.
    Stalled,
    /// What was granted may have been taken back: the session looks again.
    Recheck,
    /// The node is shutting down: the session says good-bye.
    Drain,
}
