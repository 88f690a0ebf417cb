//! Publish: from a draft to an acknowledged publication.
//!
//! One lane per node. While one batch is being committed the next one gathers: at low load a publish waits for nobody,
//! under load hundreds share one flush. What is committed goes to the node's own subscribers first, then to the
//! publisher, then to the other nodes as a hint; none of these steps can undo the one before.

use std::sync::Arc;

use fanfare_wire::{Draft, Epoch, Millis, Seq};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    hub::{Event, Remote},
    load::Load,
    metrics::Metrics,
    port::{AppendError, Committed, Log, Outcome},
    spread::Spread,
    task,
};

/// Publishes that may wait for their batch on a node. Beyond it they are refused before they are taken.
pub const QUEUE_MAX: usize = 20_000;
/// Drafts in one batch.
pub const BATCH_DRAFTS_MAX: usize = 512;
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

/// Whom to tell.
pub(crate) enum Reply {
    /// Somebody who waits.
    Waiting(oneshot::Sender<Result<Published, PublishError>>),
    /// A session.
    Session { remote: Remote, tag: u32 },
}

struct Pending {
    draft: Draft,
    reply: Reply,
}

/// What stands in the lane's queue.
enum Item {
    Publish(Pending),
    /// Somebody wants to know when everything before it is committed or refused.
    Flush(oneshot::Sender<()>),
}

/// The entrance to the node's lane.
pub(crate) struct Publisher {
    queue: mpsc::Sender<Item>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Starts the lane.
    pub(crate) fn start(log: Arc<dyn Log>, spread: Arc<Spread>, metrics: Arc<Metrics>) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let load = Arc::new(Load::new());
        let lane = Lane {
            log,
            spread,
            load: Arc::clone(&load),
            metrics: Arc::clone(&metrics),
        };
        task::spawn(lane.run(queue));
        Self {
            queue: sender,
            load,
            metrics,
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
        place.send(Item::Publish(Pending { draft, reply }));
    }

    fn busy(&self) -> PublishError {
        self.metrics.busy.add(1);
        let retry_ms = self.load.retry_ms(self.waiting(), Instant::now());
        PublishError::Busy { retry_ms }
    }

    /// How many publishes wait for their batch.
    pub(crate) fn waiting(&self) -> usize {
        QUEUE_MAX - self.queue.capacity().min(QUEUE_MAX)
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

impl Reply {
    fn send(self, result: Result<Published, PublishError>) {
        match self {
            // Who no longer waits does not want to know.
            Self::Waiting(sender) => drop(sender.send(result)),
            Self::Session { remote, tag } => remote.send(Event::Published { tag, result }),
        }
    }
}

struct Lane {
    log: Arc<dyn Log>,
    spread: Arc<Spread>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
}

impl Lane {
    async fn run(self, mut queue: mpsc::Receiver<Item>) {
        let mut carried = None;
        loop {
            let next = match carried.take() {
                Some(item) => Some(item),
                None => queue.recv().await,
            };
            let first = match next {
                Some(Item::Publish(pending)) => pending,
                Some(Item::Flush(sender)) => {
                    // Who no longer waits does not want to know.
                    let _ = sender.send(());
                    continue;
                }
                None => return,
            };
            let (drafts, replies) = gather(first, &mut queue, &mut carried);
            self.load
                .give_room(drafts.iter().map(Draft::weight).sum::<usize>());
            let started = Instant::now();
            self.load.batch_begins(started);
            let result = self.log.append(&drafts).await;
            self.load.batch_ends(Instant::now());
            self.metrics.commit_seconds.record(started.elapsed());
            self.metrics.batches.add(1);
            // Before anything is shown: what was committed may be of another epoch than the one before.
            self.spread.check_epoch();
            match result {
                Ok(committed) => self.committed(drafts, replies, &committed),
                Err(error) => {
                    self.metrics.append_errors.add(drafts.len() as u64);
                    if matches!(error, AppendError::Unknown(_)) {
                        self.metrics.unknown_outcomes.add(drafts.len() as u64);
                    }
                    for reply in replies {
                        reply.send(Err(error.clone().into()));
                    }
                }
            }
        }
    }

    fn committed(&self, drafts: Vec<Draft>, replies: Vec<Reply>, committed: &Committed) {
        let runs = self.spread.show(drafts, committed);
        for (reply, outcome) in replies.into_iter().zip(&committed.outcomes) {
            reply.send(Ok(Published::new(&committed.epoch, outcome)));
        }
        self.spread.hint(committed, runs);
    }
}

/// Takes what has gathered, within the bounds of a batch. A draft that no longer fits opens the next one.
fn gather(
    first: Pending,
    queue: &mut mpsc::Receiver<Item>,
    carried: &mut Option<Item>,
) -> (Vec<Draft>, Vec<Reply>) {
    let mut bytes = first.draft.weight();
    let mut drafts = vec![first.draft];
    let mut replies = vec![first.reply];
    while drafts.len() < BATCH_DRAFTS_MAX
        && let Ok(item) = queue.try_recv()
    {
        let pending = match item {
            Item::Publish(pending) if bytes + pending.draft.weight() <= BATCH_BYTES_MAX => pending,
            other => {
                *carried = Some(other);
                break;
            }
        };
        bytes += pending.draft.weight();
        drafts.push(pending.draft);
        replies.push(pending.reply);
    }
    (drafts, replies)
}
