//! A draft on its way, and who is told what became of it.

use std::sync::{Arc, Mutex, PoisonError};

use fanfare_wire::{ChannelName, Draft, Epoch};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{PublishError, Published};
use crate::{
    hub::{Event, Remote},
    port::{
        AppendError, Outcome,
        peers::{Line, NotTaken, Taken},
    },
};

/// A draft that waits for its commit.
pub(super) struct Pending {
    pub(super) draft: Draft,
    pub(super) sender: Sender,
}

/// Where a draft came from.
pub(super) struct Sender {
    pub(super) reply: Reply,
    pub(super) way: Way,
    /// Its idempotency key is not the publisher's: it was made to hand the draft on.
    pub(super) key_is_made: bool,
}

/// How a draft came to where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It was taken here, and has been nowhere else.
    Own,
    /// It was taken here, handed to the owner of its channel, and is committed here all the same. By these it is known again.
    Back(ChannelName, Uuid),
    /// Another node handed it on.
    Foreign,
}

/// Whom to tell.
pub(crate) enum Reply {
    /// Somebody who waits.
    Waiting(oneshot::Sender<Result<Published, PublishError>>),
    /// A session.
    Session { remote: Remote, tag: u32 },
    /// Another node.
    Parcel(Arc<Parcel>),
}

impl Pending {
    pub(super) fn own(draft: Draft, reply: Reply) -> Self {
        Self {
            draft,
            sender: Sender {
                reply,
                way: Way::Own,
                key_is_made: false,
            },
        }
    }

    /// One of the drafts that another node handed on.
    pub(super) fn foreign(draft: Draft, parcel: &Arc<Parcel>) -> Self {
        Self {
            draft,
            sender: Sender {
                reply: Reply::Parcel(Arc::clone(parcel)),
                way: Way::Foreign,
                key_is_made: false,
            },
        }
    }

    /// Of a line that was broken off: it must not be committed here any more.
    pub(super) fn is_void(&self) -> bool {
        matches!(&self.sender.reply, Reply::Parcel(parcel) if parcel.line.is_broken())
    }

    /// It was handed on, and comes back.
    pub(super) fn comes_back(&mut self) {
        self.sender.way = Way::Back(self.draft.channel.clone(), self.draft.id);
    }

    /// Whether it could be handed on: it is this node's own, and has been nowhere else.
    pub(super) fn is_own(&self, channel: &ChannelName) -> bool {
        self.sender.way == Way::Own && self.draft.channel == *channel
    }

    /// Whether it has come back in this channel.
    pub(super) fn is_back(&self, channel: &ChannelName) -> bool {
        matches!(self.sender.way, Way::Back(..)) && self.draft.channel == *channel
    }
}

impl Sender {
    /// Nothing was committed by this node. Of what was handed on that is not the whole truth.
    pub(super) fn failed(self, error: AppendError) {
        let error = match (&self.way, error) {
            (Way::Back(..), AppendError::Unavailable(words)) => AppendError::Unknown(words),
            (_, error) => error,
        };
        self.reply.send(Err(error.into()));
    }
}

impl Reply {
    pub(super) fn send(self, result: Result<Published, PublishError>) {
        match self {
            // Who no longer waits does not want to know.
            Self::Waiting(sender) => drop(sender.send(result)),
            Self::Session { remote, tag } => remote.send(Event::Published { tag, result }),
            Self::Parcel(parcel) => parcel.add(result),
        }
    }
}

/// Drafts that another node handed on together, and is answered together.
pub(crate) struct Parcel {
    line: Arc<Line>,
    crowded: bool,
    state: Mutex<State>,
}

struct State {
    left: usize,
    epoch: Option<Epoch>,
    outcomes: Vec<Outcome>,
    sender: Option<oneshot::Sender<Result<Taken, NotTaken>>>,
}

impl Parcel {
    /// Drafts of a line, and what each of them answers to.
    pub(super) fn new(
        line: Arc<Line>,
        drafts: usize,
        crowded: bool,
        sender: oneshot::Sender<Result<Taken, NotTaken>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            line,
            crowded,
            state: Mutex::new(State {
                left: drafts,
                epoch: None,
                outcomes: Vec::with_capacity(drafts),
                sender: Some(sender),
            }),
        })
    }

    /// What became of the next of its drafts. They are committed in their order.
    fn add(&self, result: Result<Published, PublishError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(published) => {
                // In two epochs their numbers cannot be told in one answer.
                if state
                    .epoch
                    .as_ref()
                    .is_some_and(|epoch| *epoch != published.epoch)
                {
                    return self.fail(&mut state, "the log has another epoch");
                }
                state.epoch = Some(published.epoch);
                state.outcomes.push(Outcome {
                    seq: published.seq,
                    time: published.time,
                    duplicate: published.duplicate,
                });
            }
            Err(error) => return self.fail(&mut state, &error.to_string()),
        }
        state.left -= 1;
        if state.left == 0
            && let (Some(sender), Some(epoch)) = (state.sender.take(), state.epoch.take())
        {
            let taken = Taken {
                epoch,
                outcomes: std::mem::take(&mut state.outcomes),
                crowded: self.crowded,
            };
            // Who no longer waits does not want to know.
            let _ = sender.send(Ok(taken));
        }
    }

    fn fail(&self, state: &mut State, words: &str) {
        self.line.break_off();
        if let Some(sender) = state.sender.take() {
            // Who no longer waits does not want to know.
            let _ = sender.send(Err(NotTaken(words.to_owned())));
        }
    }
}
