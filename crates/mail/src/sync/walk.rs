//! A walk: Gmail's history from the place that is kept, page by page; each part of it commits together with the place that it
//! reaches, if nobody else has moved the account meanwhile.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use fanfare_engine::port::{TransactError, Transaction};
use fanfare_wire::ChannelName;
use futures_util::{StreamExt as _, stream};
use thiserror::Error;

use crate::{
    account::AccountState,
    event::EventError,
    google::{GoogleError, Record},
    message::{HistoryId, Message},
    schema::ROWS_ASKED,
    store::{Linked, StoreError, new_stamp},
    sync::{
        Inner,
        bounds::bounded,
        metrics::Tally,
        part::{Completion, Item, Part, Parts},
        plan::{self, Fetched, Rows, Unit, Write},
        turns::{Pause, Turn},
    },
};

/// Messages of a mailbox that are asked for at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// Full syncs of one walk: one that went on from before, and one because its place was too old.
const RESYNCS_MAX: usize = 2;

/// A walk of one mailbox.
pub(crate) struct Walk<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) linked: Linked,
    pub(crate) channel: ChannelName,
    pub(crate) turn: Turn<'a>,
    /// What it has committed so far.
    pub(crate) tally: Tally,
    /// There are messages that were not there before.
    pub(crate) has_new: bool,
    /// It is to be told that it was completed, whether or not there was anything.
    pub(crate) is_asked: bool,
}

/// How far a walk came.
pub(crate) enum End {
    /// To the end of the history. What remains to be committed, together with what has led to the walk.
    Complete {
        rest: Transaction,
        /// All changes of the walk.
        changes: u64,
        /// Those that are in the rest.
        rest_tally: Tally,
    },
    /// To the end of the history, which does not yet hold what was notified. All is committed.
    Behind,
}

/// What Gmail has answered of what it was asked for.
#[derive(Default)]
pub(crate) struct Answered {
    pub(crate) messages: Fetched,
    /// Why it is not all.
    pub(crate) error: Option<GoogleError>,
}

/// Why a walk did not come to an end. What it has committed stays.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Google(#[from] GoogleError),
    #[error(transparent)]
    Store(StoreError),
    /// It goes on later.
    #[error(transparent)]
    Paused(#[from] Pause),
    /// Somebody else has moved the account.
    #[error("another walk of the same mailbox was faster")]
    Outrun,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Transact(TransactError::Refused { .. }) => Self::Outrun,
            error => Self::Store(error),
        }
    }
}

impl From<EventError> for Trouble {
    fn from(error: EventError) -> Self {
        Self::Store(error.into())
    }
}

impl Walk<'_> {
    /// Walks to the end of the history. It should reach at least `promised`; if it does not, and `waits`, it is not
    /// completed.
    pub(crate) async fn run(mut self, promised: HistoryId, waits: bool) -> Result<End, Trouble> {
        let mut resyncs = 0;
        if self.linked.account.state == AccountState::Syncing {
            resyncs += 1;
            self.resync().await?;
        }
        loop {
            match self.history(promised, waits).await {
                Err(Trouble::Google(GoogleError::Gone)) if resyncs < RESYNCS_MAX => {
                    resyncs += 1;
                    self.resync().await?;
                }
                end => return end,
            }
        }
    }

    async fn history(&mut self, promised: HistoryId, waits: bool) -> Result<End, Trouble> {
        let google = &self.inner.google;
        let start = self.linked.account.history_id;
        let mut page: Option<String> = None;
        // Where the history ended when the walk began: what came later may or may not be in its last pages.
        let mut end: Option<HistoryId> = None;
        let mut reached = start;
        let mut last: Option<Part> = None;
        // The end of a page, of which there may be more on the next one.
        let mut held: Vec<Record> = Vec::new();
        loop {
            let mut answer = google
                .history(&self.linked.grant, start, page.as_deref())
                .await?;
            end.get_or_insert(answer.history_id);
            held.append(&mut answer.records);
            let records = match answer.next {
                Some(_) => plan::whole(&mut held),
                None => std::mem::take(&mut held),
            };
            let units = plan::units(records);
            let places = plan::places(&units, reached);
            reached = places.last().copied().unwrap_or(reached);
            for (units, places) in units.chunks(ROWS_ASKED).zip(places.chunks(ROWS_ASKED)) {
                if let Some(part) = last.take() {
                    self.commit(part).await?;
                }
                self.turn.go_on()?;
                let mut parts = self.plan(units, places).await?;
                last = parts.pop();
                for part in parts {
                    self.commit(part).await?;
                }
            }
            page = answer.next;
            if page.is_none() {
                break;
            }
        }
        let mut rest = last.unwrap_or_default();
        rest.reaches = reached.max(end.unwrap_or(start));
        if rest.reaches < promised && waits {
            if rest.reaches > start || rest.tally.total() > 0 {
                self.commit(rest).await?;
            }
            return Ok(End::Behind);
        }
        self.complete(rest, promised)
    }

    /// What some units come to; or, if Gmail does not say all that is needed, commits what the first of them come to.
    async fn plan(&mut self, units: &[Unit], places: &[HistoryId]) -> Result<Vec<Part>, Trouble> {
        let store = &self.inner.store;
        let user = &self.linked.account.user;
        let ids: BTreeSet<&str> = units.iter().map(|unit| unit.message.as_str()).collect();
        let kept = store.rows(user, ids.into_iter()).await?;
        let kept = kept.into_iter().map(|(id, kept)| (id, kept.message));
        let before: Rows = kept.collect();
        let wanted = plan::wanted(&before, units);
        // In the order of the history, so that whatever is answered is of use.
        let mut asked = BTreeSet::new();
        let in_order = units.iter().map(|unit| &unit.message);
        let in_order = in_order.filter(|id| wanted.contains(*id) && asked.insert(id.as_str()));
        let answered = self.fetch(in_order.cloned().collect::<Vec<_>>()).await;
        let told = match &answered.error {
            None => units.len(),
            Some(_) => {
                let is_missing =
                    |id: &String| wanted.contains(id) && !answered.messages.contains_key(id);
                let missing = units.iter().position(|unit| is_missing(&unit.message));
                missing.unwrap_or(units.len())
            }
        };
        let mut rows = before.clone();
        let effects = plan::apply(&mut rows, &answered.messages, &units[..told]);
        let is_new =
            |write: &Write| matches!(write, Write::Put(it) if !before.contains_key(&it.id));
        self.has_new |= effects.iter().flatten().any(|it| is_new(&it.write));
        let items = effects.into_iter().zip(places);
        let items = items.map(|(effect, &reaches)| Item { effect, reaches });
        let parts = self.parts(HistoryId(0)).cut(items)?;
        let Some(error) = answered.error else {
            return Ok(parts);
        };
        for part in parts {
            self.commit(part).await?;
        }
        Err(error.into())
    }

    /// Asks Gmail for messages, in the order in which they are given; after an error for no more.
    pub(crate) async fn fetch(&self, ids: impl IntoIterator<Item = String>) -> Answered {
        let has_failed = AtomicBool::new(false);
        let asked: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let (google, grant) = (self.inner.google.clone(), self.linked.grant.clone());
                let has_failed = &has_failed;
                async move {
                    if has_failed.load(Relaxed) {
                        return None;
                    }
                    let answer = google.message(&grant, &id).await;
                    has_failed.fetch_or(answer.is_err(), Relaxed);
                    Some((id, answer))
                }
            })
            .collect();
        let mut answers = stream::iter(asked).buffer_unordered(FETCHES_AT_ONCE);
        let mut answered = Answered::default();
        while let Some(answer) = answers.next().await {
            match answer {
                Some((id, Ok(message))) => {
                    let message = message.map(|message| Message {
                        id: id.clone(),
                        ..bounded(message)
                    });
                    answered.messages.insert(id, message);
                }
                Some((_, Err(error))) => answered.error = answered.error.or(Some(error)),
                None => {}
            }
        }
        answered
    }

    /// Commits a part now.
    pub(crate) async fn commit(&mut self, part: Part) -> Result<(), Trouble> {
        let (stamp, reaches, tally) = (new_stamp(), part.reaches, part.tally);
        let transaction = part.advance(&self.linked, &stamp);
        self.inner.store.commit(transaction).await?;
        self.linked.stamp = stamp;
        self.linked.account.history_id = reaches;
        self.tally.add(tally);
        self.inner.metrics.changed(tally);
        Ok(())
    }

    pub(crate) fn parts(&self, checked: HistoryId) -> Parts<'_> {
        Parts {
            user: &self.linked.account.user,
            channel: &self.channel,
            checked,
            now: self.inner.store.clock.now(),
        }
    }

    fn complete(&self, rest: Part, promised: HistoryId) -> Result<End, Trouble> {
        let tally = rest.tally;
        let changes = self.tally.total() + tally.total();
        let now = self.inner.store.clock.now();
        let poll_at = now
            + match rest.reaches < promised {
                true => self.inner.soon(),
                false => self.inner.poll_after(),
            };
        let completion = Completion {
            now,
            poll_at,
            prune_to: self.has_new.then_some(self.inner.config.keep_messages),
            told_in: (self.is_asked || changes > 0).then_some(&self.channel),
        };
        Ok(End::Complete {
            rest: rest.complete(&self.linked, &new_stamp(), &completion)?,
            changes,
            rest_tally: tally,
        })
    }
}
