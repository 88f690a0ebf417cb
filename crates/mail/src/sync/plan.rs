//! What records of the history come to: changes of rows, and events. Without input, output, or time.
//!
//! A row's version is the last place of the history that is in it. A record that is not past it was told with the row already: by
//! the fetch that brought it, by another walk, or by a full sync. So whatever is walked twice, in whatever pieces,
//! is told once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::{Changes, Deletion, Event, Update},
    google::{ChangeKind, Record},
    message::{HistoryId, Message},
    sync::bounds::{bounded_labels, is_id},
};

/// Messages as they are known, by id.
pub(crate) type Rows = BTreeMap<String, Message>;
/// Messages that were asked for, by id; `None`: Gmail has no such message.
pub(crate) type Fetched = BTreeMap<String, Option<Message>>;

/// All that one record says of one message. It is told as one, because a row is either before a record or past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) record: HistoryId,
    pub(crate) message: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Added,
    Deleted,
    Labels {
        added: BTreeSet<String>,
        removed: BTreeSet<String>,
    },
}

/// What is to be done to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Put(Message),
    Remove(String),
}

/// What a unit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) write: Write,
    pub(crate) event: Option<Event>,
}

/// Takes out the records that are there in whole though more are to come: Gmail may give one in pieces, the last of which are
/// on the next page.
pub(crate) fn whole(records: &mut Vec<Record>) -> Vec<Record> {
    let last = records.iter().map(|record| record.id).max();
    let (whole, rest) = records.drain(..).partition(|record| Some(record.id) < last);
    *records = rest;
    whole
}

/// Takes records apart into units, in the order of the history.
pub(crate) fn units(mut records: Vec<Record>) -> Vec<Unit> {
    records.sort_by_key(|record| record.id);
    let mut units: Vec<Unit> = Vec::new();
    let mut begin = 0;
    for record in records {
        // Units of the same record, of whichever piece of it, are at the end.
        if units.last().is_some_and(|last| last.record != record.id) {
            begin = units.len();
        }
        for change in record.changes {
            if !is_id(&change.message) {
                continue;
            }
            let kind = Kind::of(change.kind);
            let of_record = units[begin..].iter_mut();
            let known = of_record.rev().find(|unit| unit.message == change.message);
            match known {
                Some(unit) => unit.kind.join(kind),
                None => units.push(Unit {
                    record: record.id,
                    message: change.message,
                    kind,
                }),
            }
        }
    }
    units
}

/// How far the history is told after each unit. A record is told when all units of it are.
pub(crate) fn places(units: &[Unit], before: HistoryId) -> Vec<HistoryId> {
    let mut reached = before;
    let mut places = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        let has_more = units
            .get(at + 1)
            .is_some_and(|next| next.record == unit.record);
        if !has_more {
            reached = reached.max(unit.record);
        }
        places.push(reached);
    }
    places
}

/// The messages that Gmail has to be asked for before [`apply`].
pub(crate) fn wanted(rows: &Rows, units: &[Unit]) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for unit in units {
        let row = rows.get(&unit.message);
        match unit.kind {
            // It is gone: there is nothing to ask for.
            Kind::Deleted => {
                wanted.remove(&unit.message);
            }
            _ if row.is_some_and(|row| unit.record <= row.version) => {}
            Kind::Labels { .. } if row.is_some() && !unit.kind.is_unclear() => {}
            _ => {
                wanted.insert(unit.message.clone());
            }
        }
    }
    wanted
}

/// What units come to, in order. `rows` is afterwards as the effects make it.
pub(crate) fn apply(rows: &mut Rows, fetched: &Fetched, units: &[Unit]) -> Vec<Option<Effect>> {
    let each = units.iter().map(|unit| {
        let effect = unit.effect(rows.get(&unit.message), fetched)?;
        match &effect.write {
            Write::Put(message) => rows.insert(message.id.clone(), message.clone()),
            Write::Remove(id) => rows.remove(id),
        };
        Some(effect)
    });
    each.collect()
}

/// What a full sync finds of one message: the row as it was, and what Gmail has now. `since` is the place from which
/// the history is read afterwards. `None`: there is no such message, and was none.
pub(crate) fn compare(
    row: Option<&Message>,
    now: Option<Message>,
    since: HistoryId,
) -> Option<Effect> {
    match (row, now) {
        (None, None) => None,
        (None, Some(now)) => Some(Effect {
            event: Some(Event::NewEmail(now.clone())),
            write: Write::Put(now),
        }),
        (Some(row), Some(now)) if now.version <= row.version => Some(Effect {
            write: Write::Put(row.clone()),
            event: None,
        }),
        (Some(row), Some(now)) => Some(replaced(row, now)),
        // When it went is not known: after all that is known of it.
        (Some(row), None) => Some(deleted(
            &row.id,
            since.max(HistoryId(row.version.0.saturating_add(1))),
        )),
    }
}

impl Unit {
    fn effect(&self, row: Option<&Message>, fetched: &Fetched) -> Option<Effect> {
        if row.is_some_and(|row| self.record <= row.version) {
            return None;
        }
        let fetched = || fetched.get(&self.message).cloned().flatten();
        match (row, &self.kind) {
            (None, Kind::Deleted) => None,
            (Some(row), Kind::Deleted) => Some(deleted(&row.id, self.record)),
            (Some(row), Kind::Labels { .. }) if !self.kind.is_unclear() => {
                Some(replaced(row, self.upon(row.clone())))
            }
            // It is not there any more: the row goes with the record that says so.
            (Some(row), _) => {
                let now = fetched().filter(|now| now.version > row.version);
                Some(replaced(row, self.upon(now.unwrap_or_else(|| row.clone()))))
            }
            (None, kind) => {
                let now = self.upon(fetched()?);
                let event = match kind {
                    Kind::Labels { added, removed } => Event::EmailUpdate(Update {
                        changes: Changes {
                            added: added.intersection(&now.labels).cloned().collect(),
                            removed: removed.difference(&now.labels).cloned().collect(),
                        },
                        message: now.clone(),
                    }),
                    _ => Event::NewEmail(now.clone()),
                };
                Some(Effect {
                    event: Some(event),
                    write: Write::Put(now),
                })
            }
        }
    }

    /// The message with the record in it.
    fn upon(&self, mut message: Message) -> Message {
        if message.version >= self.record {
            return message;
        }
        if let Kind::Labels { added, removed } = &self.kind {
            message.labels.retain(|label| !removed.contains(label));
            message.labels.extend(added.iter().cloned());
            message.labels = bounded_labels(message.labels);
        }
        message.version = self.record;
        message
    }
}

impl Kind {
    fn of(kind: ChangeKind) -> Self {
        let set = |labels: Vec<String>| bounded_labels(labels.into_iter().collect());
        match kind {
            ChangeKind::Added => Self::Added,
            ChangeKind::Deleted => Self::Deleted,
            ChangeKind::LabelsAdded(labels) => Self::Labels {
                added: set(labels),
                removed: BTreeSet::new(),
            },
            ChangeKind::LabelsRemoved(labels) => Self::Labels {
                added: BTreeSet::new(),
                removed: set(labels),
            },
        }
    }

    /// Two things that one record says of one message.
    fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Deleted, _) => {}
            (_, Self::Deleted) => *self = Self::Deleted,
            (Self::Added, _) => {}
            (_, Self::Added) => *self = Self::Added,
            (
                Self::Labels { added, removed },
                Self::Labels {
                    added: more_added,
                    removed: more_removed,
                },
            ) => {
                added.extend(more_added);
                removed.extend(more_removed);
            }
        }
    }

    /// A label is said to have come and to have gone, without an order.
    fn is_unclear(&self) -> bool {
        match self {
            Self::Labels { added, removed } => !added.is_disjoint(removed),
            _ => false,
        }
    }
}

/// The row, replaced by what the message is now: told if its labels differ, for nothing else of it ever does.
fn replaced(row: &Message, now: Message) -> Effect {
    let changes = Changes {
        added: now.labels.difference(&row.labels).cloned().collect(),
        removed: row.labels.difference(&now.labels).cloned().collect(),
    };
    let event = (changes != Changes::default()).then(|| {
        Event::EmailUpdate(Update {
            message: now.clone(),
            changes,
        })
    });
    Effect {
        write: Write::Put(now),
        event,
    }
}

fn deleted(id: &str, version: HistoryId) -> Effect {
    Effect {
        write: Write::Remove(id.to_owned()),
        event: Some(Event::EmailDelete(Deletion {
            id: id.to_owned(),
            version,
        })),
    }
}

#[cfg(test)]
mod tests;
