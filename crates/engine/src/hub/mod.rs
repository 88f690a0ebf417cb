//! The hub: a node's local subscribers.
//!
//! A connection belongs to one *shard*, a shard to one thread, and nothing is locked on the way of a
//! broadcast. For each (connection, channel) a shard keeps a cursor, not a queue: live, lagging and catching up are the
//! same act of moving the cursor forward over the channel's ring, or over the log where the ring no longer reaches.
//!
//! | file | subject |
//! | --- | --- |
//! | `session` | what a gateway implements: the protocol of one connection, without IO |
//! | `sink` | where a connection's bytes go |
//! | `conn` | one connection: its sink, its session, what it has not written yet |
//! | `cursors` | the dense lists of cursors of a channel |
//! | `frames` | bytes of several runs as one write, and where a short write ended |
//! | `channel` | a channel's cursors in a shard, and what they wait for |
//! | `shard` | the owner of connections and cursors: messages in, requests out |
//! | `pass` | the walk over a channel's cursors; lagging cursors go on |
//! | `told` | news of the moment: one more walk, for those who keep up |
//! | `epoch` | a new epoch: cursors go, connections are sent to begin anew |
//! | `reactor` | the thread that drives a shard with epoll |
//! | `stall`, `drain` | connections that take nothing; the end of all of them, in slices |
//! | `socket` | what the kernel knows about a socket |
//! | `tasks` | the task that drives a shard of a simulated node |
//! | `inbox` | how other threads talk to a shard |
//! | `scene` | a shard and its clients at rest, for those who count what a pass costs |

mod channel;
mod conn;
mod cursors;
mod drain;
mod epoch;
mod frames;
pub mod inbox;
mod join;
mod pass;
mod reactor;
#[cfg(any(test, feature = "scenes"))]
pub mod scene;
pub mod session;
pub mod shard;
pub mod sink;
pub mod socket;
mod stall;
#[cfg(any(test, feature = "simulation"))]
mod tasks;
mod told;
mod wheel;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_wire::{ChannelName, Epoch, Form, Run, Seq};
use tokio::sync::oneshot;

pub(crate) use inbox::{Census, Message};
pub use inbox::{ConnKey, Inbox, Remote};
pub use session::{Context, Event, HistoryQuery, Recovery, Request, Resume, Session, Start};
pub use sink::{Pipe, PipeClosed, PushError, Sink};
pub(crate) use told::Told;

use crate::{channels::Attachment, metrics::Metrics};

/// What a shard asks of the floors below it. The engine implements it; so can a simulation.
pub(crate) trait Upstream: Send + Sync + 'static {
    /// The epoch that a shard begins in; it is told of later ones by [`Message::NewEpoch`].
    fn epoch(&self) -> Epoch;
    /// Makes a channel live on this node; answers with [`Message::Attached`].
    fn attach(&self, channel: ChannelName, inbox: &Arc<Inbox>);
    /// The shard has no more subscribers of the channel.
    fn detach(&self, attachment: &Attachment, inbox: &Arc<Inbox>);
    /// Reads the channel's head from the log; answers with [`Message::Refreshed`] of this number.
    fn refresh(&self, channel: ChannelName, number: u64, inbox: &Arc<Inbox>);
    /// The page for a reader at `seq`, if it is in memory.
    fn cached_page(&self, channel: &ChannelName, seq: Seq) -> Option<Arc<Run>>;
    /// Reads the page of the log for a reader at `seq`; answers with [`Message::Page`].
    fn page(&self, channel: ChannelName, seq: Seq, inbox: &Arc<Inbox>);
    /// Carries out what a session asks of the engine; answers with [`Message::Event`].
    fn request(&self, request: session::Call, reply: Remote);
}

/// What all shards of a node share.
pub(crate) struct Common {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) forms: Box<[Box<dyn Form>]>,
    pub(crate) metrics: Arc<Metrics>,
    /// A connection whose peer takes nothing for so many seconds is closed.
    pub(crate) stall_seconds: u32,
}

/// Between two slices of a drain.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// Starts a shard: on a thread of its own, or as a task of a simulated node.
fn drive(index: usize, common: Arc<Common>) -> std::io::Result<Arc<Inbox>> {
    #[cfg(any(test, feature = "simulation"))]
    if crate::simulation::Scope::current().is_some() {
        return Ok(tasks::spawn(index, common));
    }
    reactor::spawn(index, common)
}

/// A node's local subscribers.
pub struct Hub {
    inboxes: Box<[Arc<Inbox>]>,
    next: AtomicUsize,
}

impl Hub {
    /// Starts `shards` threads. They end when the process does.
    pub(crate) fn start(shards: usize, common: &Arc<Common>) -> std::io::Result<Self> {
        let inboxes = (0..shards)
            .map(|index| drive(index, Arc::clone(common)))
            .collect::<std::io::Result<Box<[_]>>>()?;
        Ok(Self {
            inboxes,
            next: AtomicUsize::new(0),
        })
    }

    /// The shards' inboxes.
    pub(crate) fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }

    /// Hands a connection over to a shard, with the bytes that were read from it already.
    pub fn open(&self, sink: Sink, session: Box<dyn Session>, input: Vec<u8>) {
        let shard = self.next.fetch_add(1, Relaxed) % self.inboxes.len();
        self.inboxes[shard].send(Message::Open {
            sink,
            session,
            input,
        });
    }

    /// Has every session look again at what it was granted: [`Event::Recheck`].
    pub fn recheck(&self) {
        for inbox in &self.inboxes {
            inbox.send(Message::Recheck);
        }
    }

    /// How many cursors each channel has on this node.
    pub(crate) async fn subscribers(&self) -> Census {
        let asked: Vec<_> = self
            .inboxes
            .iter()
            .map(|inbox| {
                let (reply, answer) = oneshot::channel();
                inbox.send(Message::Census(reply));
                answer
            })
            .collect();
        let mut all: HashMap<ChannelName, usize> = HashMap::new();
        for answer in asked {
            // A shard ends with the process.
            for (channel, count) in answer.await.unwrap_or_default() {
                *all.entry(channel).or_default() += count;
            }
        }
        all.into_iter().collect()
    }

    /// Sends away at once whoever is left, answered or not.
    pub fn drain_rest(&self) {
        for inbox in &self.inboxes {
            inbox.send(Message::Drain { slices: 0 });
        }
    }

    /// Sends all connections away, in even slices spread over `window`. Those that wait for the answer to a call get it
    /// first. Returns when the last slice has been told; new connections are the caller's to keep away.
    pub async fn drain(&self, window: Duration) {
        let slices = window.as_millis().div_ceil(DRAIN_INTERVAL.as_millis());
        let slices = u32::try_from(slices).unwrap_or(u32::MAX).max(1);
        for left in (1..=slices).rev() {
            for inbox in &self.inboxes {
                inbox.send(Message::Drain { slices: left });
            }
            if left > 1 {
                tokio::time::sleep(DRAIN_INTERVAL).await;
            }
        }
    }
}
