//! The epoch at run time: what the log answers is labelled with the epoch that it belongs to, and when the log takes
//! another one, all that this node knew of the old one goes.
//!
//! A database that is restored, or that fails over to a replica that lagged, gives the numbers of lost publications out
//! again. Nothing of before may then be mixed with what comes: runs, heads, pages and cursors carry their epoch, and
//! whoever has another one refuses them. So a change need not be heard of in time to be safe; hearing of it makes the
//! node useful again: its clients are sent away over a short window, come back with their old positions and are told
//! `reset` by the ordinary subscribe.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_wire::Epoch;
use tracing::warn;

use crate::{
    channels::Channels,
    hub::{Inbox, Message},
    metrics::Metrics,
    pages::Pages,
    port::{BoxFuture, Log, LogError},
};

/// Over how many seconds the clients of a node are sent away when the epoch has changed.
pub(crate) const RESET_WINDOW_SECONDS: u32 = 5;

/// How often a question is asked again when the epoch changed before its answer came.
const ATTEMPTS_MAX: u32 = 3;

/// Asks the log, and gives the answer with the epoch that it belongs to. The question must be one that may be asked twice.
pub(crate) async fn in_one_epoch<'a, T>(
    log: &'a dyn Log,
    ask: impl Fn(&'a dyn Log) -> BoxFuture<'a, Result<T, LogError>>,
) -> Result<(Epoch, T), LogError> {
    for _ in 0..ATTEMPTS_MAX {
        let before = log.epoch();
        let answer = ask(log).await?;
        if log.epoch() == before {
            return Ok((before, answer));
        }
    }
    Err(was_replaced())
}

/// What an answer of another epoch is worth.
pub(crate) fn was_replaced() -> LogError {
    LogError("it was replaced by another one meanwhile: ask again".to_owned())
}

/// The epoch that a node works in.
pub(crate) struct Epochs {
    log: Arc<dyn Log>,
    channels: Arc<Channels>,
    pages: Arc<Pages>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

struct State {
    epoch: Epoch,
    shards: Vec<Arc<Inbox>>,
}

impl Epochs {
    /// Begins in the epoch that the channels began in.
    pub(crate) fn new(
        log: Arc<dyn Log>,
        channels: Arc<Channels>,
        pages: Arc<Pages>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let state = State {
            epoch: channels.epoch(),
            shards: Vec::new(),
        };
        Arc::new(Self {
            log,
            channels,
            pages,
            metrics,
            state: Mutex::new(state),
        })
    }

    /// Tells these shards of the epoch from now on.
    pub(crate) fn tell(&self, shards: &[Arc<Inbox>]) {
        let mut state = self.state();
        state.shards = shards.to_vec();
        // It may have changed while they were made.
        state.announce();
    }

    /// Tells one more of the epoch from now on.
    pub(crate) fn also_tell(&self, inbox: &Arc<Inbox>) {
        let mut state = self.state();
        state.shards.push(Arc::clone(inbox));
        // It may have changed since the inbox was made.
        inbox.send(state.news());
    }

    /// Looks whether the log has another epoch now, and follows it. Called whenever the log was heard of.
    pub(crate) fn check(&self) {
        let mut state = self.state();
        let epoch = self.log.epoch();
        if epoch == state.epoch {
            return;
        }
        warn!(
            before = %state.epoch,
            now = %epoch,
            "the log has a new epoch: its database was restored or replaced; all clients are sent to begin anew"
        );
        self.metrics.epoch_changes.add(1);
        state.epoch = epoch;
        // In this order: what a shard asks for after it was told is of the new epoch.
        self.channels.begin_epoch(&state.epoch);
        self.pages.begin_epoch(&state.epoch);
        state.announce();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn announce(&self) {
        for shard in &self.shards {
            shard.send(self.news());
        }
    }

    fn news(&self) -> Message {
        Message::NewEpoch {
            epoch: self.epoch.clone(),
            window_seconds: RESET_WINDOW_SECONDS,
        }
    }
}
