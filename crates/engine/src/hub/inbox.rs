//! How other threads talk to a shard: a bounded-by-its-senders list that is taken as a whole, and one wake-up for
//! everything that gathered since the shard last looked.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare_wire::{ChannelName, Epoch, Run, Seq};
use tokio::sync::oneshot;

use super::{
    session::{Event, Session},
    sink::Sink,
    told::Told,
};
use crate::{
    channels::Attachment,
    pages::PageResult,
    port::{Head, LogError},
};

/// Channels, with how many cursors each has.
pub(crate) type Census = Vec<(ChannelName, usize)>;

/// What a shard is told.
pub(crate) enum Message {
    /// A new connection, with what was read from it already.
    Open {
        sink: Sink,
        session: Box<dyn Session>,
        input: Vec<u8>,
    },
    /// Publications that the node let pass, in order.
    Run(Arc<Run>),
    /// News of a channel.
    News(Arc<Told>),
    /// A channel became live for this shard: from now on it gets its news.
    Attached(Attachment),
    /// A channel could not be made live.
    AttachFailed {
        channel: ChannelName,
        error: LogError,
    },
    /// The head of a channel, read from the log, with the epoch that it counts in. The number is that of the request.
    Refreshed {
        channel: ChannelName,
        number: u64,
        result: Result<(Epoch, Head), LogError>,
    },
    /// Retention removed everything up to `trimmed` before this node could fetch it. It is no answer to a refresh: the
    /// channel may reach further than this node knows.
    Trimmed {
        channel: ChannelName,
        epoch: Epoch,
        trimmed: Seq,
    },
    /// A page of the log.
    Page {
        channel: ChannelName,
        page: u64,
        result: PageResult,
    },
    /// Something for one connection's session.
    Event { conn: ConnKey, event: Event },
    /// A pipe has room again.
    Writable(ConnKey),
    /// A connection goes on over another sink, with what was read from it already.
    Adopt {
        conn: ConnKey,
        sink: Sink,
        input: Vec<u8>,
    },
    /// A simulated socket has bytes.
    #[cfg(any(test, feature = "simulation"))]
    Readable(ConnKey),
    /// A pipe's other end is gone.
    Hangup(ConnKey),
    /// The log has a new epoch: nothing of before counts. Connections are sent away, spread over some seconds.
    NewEpoch { epoch: Epoch, window_seconds: u32 },
    /// Every session looks again at what it was granted.
    Recheck,
    /// How many cursors each channel has.
    Census(oneshot::Sender<Census>),
    /// Send away a share of the connections: as many slices, this one included, are left for all of them; 0: all of
    /// them, whatever they wait for.
    Drain { slices: u32 },
}

/// Names a connection within its shard for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// News that may wait in an inbox. What comes on top is dropped.
pub(crate) const INBOX_NEWS_MAX: usize = 4096;
/// Bytes of them.
pub(crate) const INBOX_NEWS_BYTES_MAX: usize = 8 << 20;

/// A shard's inbox.
pub struct Inbox {
    shard: usize,
    waiting: Mutex<Waiting>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    messages: Vec<Message>,
    /// News among them, and what they weigh in bytes.
    news: usize,
    news_bytes: usize,
}

impl Inbox {
    /// An inbox that calls `wake` when the first message arrives after the shard took the last ones.
    pub(crate) fn new(shard: usize, wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            shard,
            waiting: Mutex::default(),
            wake,
        })
    }

    /// The index of the shard.
    pub(crate) fn shard(&self) -> usize {
        self.shard
    }

    pub(crate) fn send(&self, message: Message) {
        self.push(self.lock(), message);
    }

    /// Sends news, unless too many wait already. Returns whether they were taken.
    pub(crate) fn send_news(&self, told: &Arc<Told>) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.news < INBOX_NEWS_MAX && waiting.news_bytes < INBOX_NEWS_BYTES_MAX;
        if has_room {
            waiting.news += 1;
            waiting.news_bytes += told.weight();
            self.push(waiting, Message::News(Arc::clone(told)));
        }
        has_room
    }

    /// Takes all messages, leaving `empty` in their place so that its memory is used again.
    pub(crate) fn take(&self, empty: Vec<Message>) -> Vec<Message> {
        let mut waiting = self.lock();
        (waiting.news, waiting.news_bytes) = (0, 0);
        std::mem::replace(&mut waiting.messages, empty)
    }

    fn push(&self, mut waiting: MutexGuard<'_, Waiting>, message: Message) {
        let was_empty = waiting.messages.is_empty();
        waiting.messages.push(message);
        drop(waiting);
        if was_empty {
            (self.wake)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({})", self.shard)
    }
}

/// One connection, as seen from other threads.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) conn: ConnKey,
}

impl Remote {
    /// Gives an event to the connection's session, if it still lives.
    pub fn send(&self, event: Event) {
        self.inbox.send(Message::Event {
            conn: self.conn,
            event,
        });
    }

    /// Says that the connection's pipe has room again.
    pub fn writable(&self) {
        self.inbox.send(Message::Writable(self.conn));
    }

    /// Has the connection go on over another sink than the pipe that it has, with the bytes that were read from it already.
    /// What the pipe still holds goes first. The session is told by [`Event::Adopted`]; if the connection is over, the sink
    /// is dropped.
    pub fn adopt(&self, sink: Sink, input: Vec<u8>) {
        self.inbox.send(Message::Adopt {
            conn: self.conn,
            sink,
            input,
        });
    }

    /// Says that the connection's simulated socket has bytes, or its end.
    #[cfg(any(test, feature = "simulation"))]
    pub fn readable(&self) {
        self.inbox.send(Message::Readable(self.conn));
    }

    /// Says that the other end of the connection's pipe is gone.
    pub fn hangup(&self) {
        self.inbox.send(Message::Hangup(self.conn));
    }
}
