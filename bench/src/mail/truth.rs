//! What really happened in a mailbox, as its history has it: what every view is measured by.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_stand_in::mailbox::{Change, Mailbox, Record};

use crate::mail::view::Row;

/// What kind of change it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message came.
    Added,
    /// It got or lost labels.
    Labels,
    /// It was deleted for good.
    Deleted,
}

/// One change of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its place in the history.
    pub(crate) id: u64,
    /// When it was made; see [`crate::clock`].
    pub(crate) at: u64,
    /// What it was.
    pub(crate) kind: Kind,
    /// The labels after it.
    pub(crate) labels: BTreeSet<String>,
}

/// All changes of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// By message, in the order of the history.
    messages: BTreeMap<String, Vec<Made>>,
    /// The last place of the history.
    last: u64,
}

impl Truth {
    /// Writes down changes that were made at `at`.
    pub(crate) fn note(&mut self, records: impl IntoIterator<Item = Record>, at: u64) {
        for record in records {
            self.last = self.last.max(record.id);
            let of_message = self.messages.entry(record.message_id).or_default();
            // Two records of one act show the same labels, those after both: so each is worked out.
            let mut labels = match of_message.last() {
                Some(before) => before.labels.clone(),
                None => record.labels,
            };
            let kind = match record.change {
                Change::Added => Kind::Added,
                Change::Deleted => Kind::Deleted,
                Change::LabelsAdded(added) => {
                    labels.extend(added);
                    Kind::Labels
                }
                Change::LabelsRemoved(removed) => {
                    labels.retain(|label| !removed.contains(label));
                    Kind::Labels
                }
            };
            of_message.push(Made {
                id: record.id,
                at,
                kind,
                labels,
            });
        }
    }

    /// The changes of a message with ids above `after` and up to `to`, in order.
    pub(crate) fn between(&self, message: &str, after: u64, to: u64) -> &[Made] {
        let all = self.messages.get(message).map_or(&[][..], Vec::as_slice);
        let begin = all.partition_point(|made| made.id <= after);
        let end = all.partition_point(|made| made.id <= to);
        &all[begin..end.max(begin)]
    }

    /// The last place of the history.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

/// The mailbox as a view of it must be.
pub(crate) fn rows(mailbox: &Mailbox) -> BTreeMap<String, Row> {
    let header = |headers: &[(String, String)], name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    let row = |message: &fanfare_stand_in::mailbox::Message| Row {
        thread: message.thread_id.clone(),
        from: header(&message.headers, "From"),
        subject: header(&message.headers, "Subject"),
        snippet: message.snippet.clone(),
        labels: message.labels.clone(),
        date: message.internal_date,
        version: message.history_id,
    };
    mailbox
        .messages()
        .map(|message| (message.id.clone(), row(message)))
        .collect()
}
