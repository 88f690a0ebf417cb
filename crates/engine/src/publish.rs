//! Publish: from a draft to an acknowledged publication.
//!
//! One lane per node. While one batch is being committed the next one gathers: at low load a publish waits for nobody,
//! under load hundreds share one flush. What is committed goes to the node's own subscribers first, then to the
//! publisher, then to the other nodes as a hint; none of these steps can undo the one before.
//!
//! Where nodes wait for each other's commits in a channel, its drafts are handed to the node that owns it.
//!
//! | file | subject |
//! | --- | --- |
//! | `pending` | a draft on its way, and who is told |
//! | `lane` | batches, one in flight |
//! | `owners` | which channels are contended, and whose they are |
//! | `abroad` | what was handed to owners, and comes back |

mod abroad;
mod lane;
pub mod owners;
mod pending;

use std::sync::{Arc, OnceLock, Weak};

use fanfare_wire::{Draft, Epoch, Millis, Seq};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    lane::{Item, Lane},
    pending::Pending,
};
use crate::{
    load::Load,
    metrics::Metrics,
    port::{
        AppendError, BoxFuture, Log, NodeRecord, Outcome,
        peers::{Line, NotTaken, Peers, Taken, Taker},
    },
    spread::Spread,
    task,
};

pub use abroad::{PARCELS_MAX, PATIENCE, PATIENCE_MAX};
pub(crate) use pending::Reply;

/// Publishes that may wait for their batch on a node, those that were handed to other nodes included. Beyond it they are refused before they are taken.
pub const QUEUE_MAX: usize = 20_000;
/// Drafts in one batch.
pub const BATCH_DRAFTS_MAX: usize = 512;
/// Room in the queue for what is no draft.
const QUEUE_REST: usize = 64;
/// Bytes in one batch, unless a single draft is larger.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// What an acknowledged publish became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its number in the channel.
    pub seq: Seq,
    /// The epoch in which the number counts.
    pub epoch: Epoch,
    /// When it was committed.
    pub time: Millis,
    /// It had been committed before, under the same idempotency key.
    pub duplicate: bool,
}

impl Published {
    pub(crate) fn new(epoch: &Epoch, outcome: &Outcome) -> Self {
        Self {
            seq: outcome.seq,
            epoch: epoch.clone(),
            time: outcome.time,
            duplicate: outcome.duplicate,
        }
    }
}

/// Why a publish was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum PublishError {
    /// Too many publishes wait on this node. Nothing was taken; try again a little later, or through another node.
    #[error("the node is busy; try again in {retry_ms} ms")]
    Busy {
        /// In how many milliseconds what waits now is likely to be gone, from [`BUSY_RETRY_MIN`] to [`BUSY_RETRY_MAX`].
        ///
        /// [`BUSY_RETRY_MIN`]: crate::load::BUSY_RETRY_MIN
        /// [`BUSY_RETRY_MAX`]: crate::load::BUSY_RETRY_MAX
        retry_ms: u32,
    },
    /// The log failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The node is shutting down. Nothing was taken.
    #[error("the node is shutting down")]
    Closed,
}

/// The entrance to the node's lane.
pub(crate) struct Publisher {
    queue: mpsc::Sender<Item>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    peers: OnceLock<Arc<dyn Peers>>,
}

impl Publisher {
    /// Starts the lane.
    pub(crate) fn start(log: Arc<dyn Log>, spread: Arc<Spread>, metrics: Arc<Metrics>) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX + QUEUE_REST);
        let load = Arc::new(Load::new());
        let (lanes_load, counted) = (Arc::clone(&load), Arc::clone(&metrics));
        task::spawn(Lane::run(log, spread, lanes_load, counted, queue));
        Self {
            queue: sender,
            load,
            metrics,
            peers: OnceLock::new(),
        }
    }

    /// From now on drafts of contended channels go to the nodes that own them. Only the first call counts.
    pub(crate) fn join(self: &Arc<Self>, peers: Arc<dyn Peers>) {
        if self.peers.set(Arc::clone(&peers)).is_ok() {
            peers.start(Arc::new(Entrance(Arc::downgrade(self))));
            // There is room for it: nothing else is put here.
            let _ = self.queue.try_send(Item::Join(peers));
        }
    }

    /// Hears who is alive.
    pub(crate) fn meet(&self, nodes: &[NodeRecord]) {
        if let Some(peers) = self.peers.get() {
            // If there is no room now there is at the next heartbeat.
            let _ = self.queue.try_send(Item::Members(peers.meet(nodes)));
        }
    }

    /// Takes nothing more from other nodes.
    pub(crate) fn part(&self) {
        if let Some(peers) = self.peers.get() {
            peers.close();
        }
    }

    /// Takes a draft, or refuses it at once.
    pub(crate) fn publish(&self, draft: Draft, reply: Reply) {
        let place = match self.queue.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(())) => return reply.send(Err(self.busy())),
            Err(mpsc::error::TrySendError::Closed(())) => {
                return reply.send(Err(PublishError::Closed));
            }
        };
        if !self.load.take_room(draft.weight()) {
            return reply.send(Err(self.busy()));
        }
        place.send(Item::Publish(Pending::own(draft, reply)));
    }

    /// Takes drafts that another node hands on, all of them or none.
    fn take(
        &self,
        line: &Arc<Line>,
        drafts: Vec<Draft>,
    ) -> Option<oneshot::Receiver<Result<Taken, NotTaken>>> {
        let place = self.queue.try_reserve().ok();
        let place = place.filter(|_| !line.is_broken() && !drafts.is_empty())?;
        for (taken, draft) in drafts.iter().enumerate() {
            if !self.load.take_room(draft.weight()) {
                for draft in &drafts[..taken] {
                    self.load.give_room(draft.weight());
                }
                return None;
            }
        }
        self.metrics.taken.add(drafts.len() as u64);
        let (sender, answer) = oneshot::channel();
        place.send(Item::Parcel {
            line: Arc::clone(line),
            drafts,
            sender,
        });
        Some(answer)
    }

    fn busy(&self) -> PublishError {
        self.metrics.busy.add(1);
        let retry_ms = self.load.retry_ms(self.waiting(), Instant::now());
        PublishError::Busy { retry_ms }
    }

    /// How many publishes wait for their batch, or for the answer of another node.
    pub(crate) fn waiting(&self) -> usize {
        self.load.drafts()
    }

    /// What they weigh, in bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.load.bytes()
    }

    /// Waits until everything that was taken is committed or refused.
    pub(crate) async fn flushed(&self) {
        let (sender, flushed) = oneshot::channel();
        if self.queue.send(Item::Flush(sender)).await.is_ok() {
            // An error means that the lane has ended: nothing is waiting.
            let _ = flushed.await;
        }
    }
}

/// Where other nodes hand in their drafts. The links outlive no node, and hold none.
struct Entrance(Weak<Publisher>);

impl Taker for Entrance {
    fn take(
        &self,
        line: &Arc<Line>,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        let answer = self
            .0
            .upgrade()
            .and_then(|publisher| publisher.take(line, drafts));
        if answer.is_none() {
            line.break_off();
        }
        let refused = |words: &str| NotTaken(words.to_owned());
        Box::pin(async move {
            let answer = answer.ok_or_else(|| refused("the node takes no more"))?;
            answer
                .await
                .unwrap_or_else(|_| Err(refused("the node stopped before the answer")))
        })
    }
}
