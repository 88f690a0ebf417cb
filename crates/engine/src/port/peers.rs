//! The other nodes as committers: a node that finds a channel's lock contended hands its drafts to the node that owns the
//! channel, which commits them together with its own and with those of everybody else.
//!
//! This is an optimisation and nothing else. Order and density come from the log, whoever commits; a draft that was handed
//! on and not answered in time is committed by the node that took it, under the same idempotency key.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use fanfare_wire::{Draft, Epoch};
use thiserror::Error;

use super::{BoxFuture, NodeRecord, Outcome};

/// A node from its start to its end; another one each time that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u128);

/// Links to the other nodes.
///
/// What the engine relies on, checked by `contract::peers`:
/// 1. **Nothing waits.** [`forward`](Peers::forward) only queues; where the bounded queue is full the answer is an error.
/// 2. **In order, or not at all.** Drafts forwarded to a node are taken there in the order in which they were forwarded. Once
///    something of a link was lost or refused, nothing that was forwarded behind it on this link is taken: the link ends.
/// 3. **An answer is a commit.** `Ok` says that the owner's log has committed all of the drafts and flushed them.
/// 4. An error, or no answer, says nothing: the drafts may have been committed, or be committed later. They may also be
///    taken more than once. So every draft that is forwarded has an idempotency key, which no other draft has.
/// 5. Nobody is believed who does not belong to the log: only nodes that prove that they have its database are taken from,
///    and forwarded to.
pub trait Peers: Send + Sync + 'static {
    /// Begins to take what others forward. Called once, before anything else.
    fn start(&self, taker: Arc<dyn Taker>);

    /// Hears which nodes are alive, after each heartbeat; says which of them own channels.
    fn meet(&self, nodes: &[NodeRecord]) -> Members;

    /// How the link to a node is. If there is none it is called up from now on. Never waits.
    fn link(&self, to: PeerId) -> Link;

    /// Hands drafts to a node over the link with this number, in the order of the calls. The answer comes when it has
    /// committed them, or when the link has ended; dropping the future changes nothing for the drafts.
    fn forward(
        &self,
        to: PeerId,
        over: u64,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>>;

    /// Takes nothing more from other nodes, and ends their links: they commit what is not answered themselves.
    fn close(&self);
}

/// Who commits what other nodes forward. Must not block.
pub trait Taker: Send + Sync + 'static {
    /// Takes drafts that came over a link, in the order of the calls; answers when they are committed. After the first
    /// error the line is broken and everything else of it is refused.
    fn take(
        &self,
        line: &Arc<Line>,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>>;
}

/// The nodes among which channels are divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// This node.
    pub own: PeerId,
    /// The others that take drafts, each once.
    pub others: Vec<PeerId>,
}

/// How a link to another node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It takes drafts. Each link to a node has another number.
    Open(u64),
    /// It is being called up, for the first time or again.
    Opening,
    /// The node was called up a moment ago, in vain.
    Down,
}

/// What drafts became that another node has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The epoch in which the numbers count.
    pub epoch: Epoch,
    /// One for each draft, in their order.
    pub outcomes: Vec<Outcome>,
    /// The owner had drafts for one of these channels from more than one node a moment ago: it is worth going on.
    pub crowded: bool,
}

/// Nobody knows what became of drafts that were forwarded, or will.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the owner of the channel did not commit it: {0}")]
pub struct NotTaken(pub String);

/// One link, as seen by who takes from it.
#[derive(Debug)]
pub struct Line {
    from: PeerId,
    broken: AtomicBool,
}

impl Line {
    /// The line of a link that a node has just opened.
    #[must_use]
    pub fn new(from: PeerId) -> Self {
        Self {
            from,
            broken: AtomicBool::new(false),
        }
    }

    /// Who forwards over it.
    #[must_use]
    pub fn from(&self) -> PeerId {
        self.from
    }

    /// Something of it was lost or refused: nothing behind it may be committed, or it would overtake.
    pub fn break_off(&self) {
        self.broken.store(true, SeqCst);
    }

    /// Whether it was broken off.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(SeqCst)
    }
}
