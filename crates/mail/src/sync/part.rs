//! What commits together: rows, events, and the account's place, within the bounds of a transaction.

use fanfare_engine::port::{
    Transaction,
    tables::{DRAFTS_MAX, Step},
};
use fanfare_ingress::delivery::HANDLER_STEPS_MAX;
use fanfare_wire::{ChannelName, Draft, Millis};

use crate::{
    event::{Event, EventError},
    message::HistoryId,
    schema,
    store::{Linked, prune, put, remove},
    sync::{
        metrics::Tally,
        plan::{Effect, Write},
    },
    user::User,
};

/// Most changes of one part. With those of the account and of the end of a delivery, its steps fit into one transaction.
pub(crate) const PART_CHANGES_MAX: usize = 50;
// The account before it and the pruning after it; the word that all is told.
const _: () = assert!(PART_CHANGES_MAX + 2 <= HANDLER_STEPS_MAX && PART_CHANGES_MAX < DRAFTS_MAX);

/// What a part may weigh before the next one begins, in bytes. One change weighs less.
const PART_BYTES_MAX: usize = 512 << 10;

/// Changes that commit together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    steps: Vec<Step>,
    drafts: Vec<Draft>,
    weight: usize,
    /// Everything up to here is in this part or in those before it.
    pub(crate) reaches: HistoryId,
    pub(crate) tally: Tally,
}

/// One change, or none, and how far the history is told with it.
pub(crate) struct Item {
    pub(crate) effect: Option<Effect>,
    pub(crate) reaches: HistoryId,
}

/// Makes parts of the changes of one mailbox.
pub(crate) struct Parts<'a> {
    pub(crate) user: &'a User,
    pub(crate) channel: &'a ChannelName,
    /// The full sync in which the rows are compared; 0 outside of one.
    pub(crate) checked: HistoryId,
    pub(crate) now: Millis,
}

impl Parts<'_> {
    /// Parts of changes, in their order; none only if there are no items.
    pub(crate) fn cut(
        &self,
        items: impl IntoIterator<Item = Item>,
    ) -> Result<Vec<Part>, EventError> {
        let mut parts: Vec<Part> = Vec::new();
        for Item { effect, reaches } in items {
            let (step, draft) = match &effect {
                Some(effect) => (Some(self.step(&effect.write)), self.draft(effect)?),
                None => (None, None),
            };
            let params = step.iter().flat_map(|step| &step.params);
            let weight = params.map(|value| value.weight()).sum::<usize>()
                + draft.as_ref().map_or(0, Draft::weight);
            let has_room = |part: &Part| {
                part.steps.len() < PART_CHANGES_MAX && part.weight + weight <= PART_BYTES_MAX
            };
            if !parts.last().is_some_and(has_room) {
                parts.push(Part::default());
            }
            let Some(part) = parts.last_mut() else {
                continue;
            };
            part.weight += weight;
            part.reaches = reaches;
            part.steps.extend(step);
            part.drafts.extend(draft);
            if let Some(event) = effect.and_then(|effect| effect.event) {
                part.tally.count(&event);
            }
        }
        Ok(parts)
    }

    fn step(&self, write: &Write) -> Step {
        match write {
            Write::Put(message) => put(self.user, message, self.checked),
            Write::Remove(id) => remove(self.user, id),
        }
    }

    fn draft(&self, effect: &Effect) -> Result<Option<Draft>, EventError> {
        let event = effect.event.as_ref();
        event
            .map(|event| event.draft(self.channel.clone(), self.now))
            .transpose()
    }
}

impl Part {
    /// The part, with the account moved to where it reaches.
    pub(crate) fn advance(self, linked: &Linked, stamp: &str) -> Transaction {
        let reaches = self.reaches.to_i64();
        self.after(linked.guarded(schema::ADVANCE, stamp, &[reaches]))
    }

    /// The last part of a walk, with the account at its end.
    pub(crate) fn complete(
        mut self,
        linked: &Linked,
        stamp: &str,
        end: &Completion<'_>,
    ) -> Result<Transaction, EventError> {
        let numbers = [self.reaches.to_i64(), end.now, end.poll_at];
        let account = linked.guarded(schema::COMPLETE, stamp, &numbers);
        self.steps
            .extend(end.prune_to.map(|keep| prune(&linked.account.user, keep)));
        if let Some(channel) = end.told_in {
            let event = Event::SyncComplete {
                history_id: self.reaches,
            };
            self.drafts.push(event.draft(channel.clone(), end.now)?);
        }
        Ok(self.after(account))
    }

    /// The row of the account is what others wait for: it goes first.
    fn after(self, account: Step) -> Transaction {
        let mut steps = vec![account];
        steps.extend(self.steps);
        Transaction {
            steps,
            drafts: self.drafts,
            ..Transaction::default()
        }
    }
}

/// How a walk is completed.
pub(crate) struct Completion<'a> {
    pub(crate) now: Millis,
    /// When to look again without having been told to.
    pub(crate) poll_at: Millis,
    /// How many messages to keep, if there are new ones.
    pub(crate) prune_to: Option<usize>,
    /// Where it is told, if it is.
    pub(crate) told_in: Option<&'a ChannelName>,
}
