//! What one client sees of a mailbox: its first page of rows and the events after it, folded. Each event is held against
//! what really happened, so that nothing can be told twice, too early, wrongly or not at all without being noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::mail::truth::{Kind, Made, Truth};

/// A message as the client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its conversation.
    pub(crate) thread: String,
    /// The header `From`.
    pub(crate) from: String,
    /// The header `Subject`.
    pub(crate) subject: String,
    /// The first words.
    pub(crate) snippet: String,
    /// Its labels.
    pub(crate) labels: BTreeSet<String>,
    /// When it came, in milliseconds since 1970.
    pub(crate) date: i64,
    /// The last place of the history that is in it.
    pub(crate) version: u64,
}

/// A message on the wire.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    id: String,
    thread_id: String,
    from: String,
    subject: String,
    snippet: String,
    labels: BTreeSet<String>,
    date: i64,
    #[serde(deserialize_with = "whole_number")]
    version: u64,
    /// With an update: what is different.
    changes: Option<Changes>,
}

#[derive(Debug, Clone, Deserialize)]
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
}

#[derive(Deserialize)]
struct Deletion {
    id: String,
    #[serde(deserialize_with = "whole_number")]
    version: u64,
}

#[derive(Deserialize)]
struct Complete {
    #[serde(rename = "historyId", deserialize_with = "whole_number")]
    history_id: u64,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(rename = "type")]
    kind: String,
    data: T,
    timestamp: String,
}

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// An event cannot be read.
    Unreadable,
    /// An event that changes something has no position.
    WithoutId,
    /// A position that is not above the one before, or of another log.
    Order,
    /// A position was left out.
    Hole,
    /// A change that was told before.
    Repeated,
    /// A change that was never made.
    Phantom,
    /// The message is shown otherwise than it was after that change.
    Content,
    /// A change was left out.
    Skipped,
    /// An event that does not fit what the client sees: a new message that it has, a change of one that it has not.
    Misfit,
    /// The stream says that it cannot go on from where it was.
    Broken,
    /// The stream was refused, or ended for good.
    Refused,
}

/// A violation in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Of which kind.
    pub(crate) violation: Violation,
    /// The event, as much of it as helps.
    pub(crate) about: String,
}

/// What one client sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    rows: BTreeMap<String, Row>,
    /// The last version of each message that the client has had, of those that are gone too.
    had: BTreeMap<String, u64>,
    log: String,
    seq: u64,
    synced: u64,
}

impl View {
    /// The view of a client that has read `messages`, and reads on from `event_id`.
    ///
    /// # Errors
    /// When the id is no position.
    pub(crate) fn new(messages: Vec<Message>, event_id: &str) -> Result<Self, Wrong> {
        let (log, seq) =
            parse_id(event_id).ok_or_else(|| Wrong::new(Violation::WithoutId, event_id))?;
        let mut view = Self {
            log: log.to_owned(),
            seq,
            ..Self::default()
        };
        for message in messages {
            view.had.insert(message.id.clone(), message.version);
            view.rows.insert(message.id.clone(), message.row());
        }
        Ok(view)
    }

    /// The rows.
    pub(crate) fn rows(&self) -> &BTreeMap<String, Row> {
        &self.rows
    }

    /// Folds one event in; gives the changes that it tells of.
    ///
    /// # Errors
    /// What is wrong with it. The view is then as near to what the event says as it can be.
    pub(crate) fn apply<'a>(
        &mut self,
        name: &str,
        id: Option<&str>,
        data: &str,
        truth: &'a Truth,
    ) -> Result<&'a [Made], Wrong> {
        let wrong = |violation| Wrong::new(violation, format_args!("{name} {id:?} {data}"));
        self.advance(id).map_err(wrong)?;
        match name {
            "new_email" => self.new_email(read(name, data).map_err(wrong)?, truth),
            "email_update" => self.update(read(name, data).map_err(wrong)?, truth),
            "email_delete" => self.delete(&read(name, data).map_err(wrong)?, truth),
            "sync_complete" => self
                .complete(&read(name, data).map_err(wrong)?, truth)
                .map(|()| &[][..]),
            _ => Err(Violation::Unreadable),
        }
        .map_err(wrong)
    }

    /// Checks that a stream that was opened again begins where it was left.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn resumed(&self, id: &str) -> Result<(), Wrong> {
        match parse_id(id) {
            Some((log, seq)) if log == self.log && seq == self.seq => Ok(()),
            _ => {
                let about = format_args!("at {}{}, resumed at {id}", self.log, self.seq);
                Err(Wrong::new(Violation::Order, about))
            }
        }
    }

    fn advance(&mut self, id: Option<&str>) -> Result<(), Violation> {
        let (log, seq) = id.and_then(parse_id).ok_or(Violation::WithoutId)?;
        if log != self.log || seq <= self.seq {
            return Err(Violation::Order);
        }
        let expected = self.seq + 1;
        self.seq = seq;
        if seq > expected {
            return Err(Violation::Hole);
        }
        Ok(())
    }

    fn new_email<'a>(
        &mut self,
        message: Message,
        truth: &'a Truth,
    ) -> Result<&'a [Made], Violation> {
        let known = self.had.insert(message.id.clone(), message.version);
        let (id, labels) = (message.id.clone(), message.labels.clone());
        let version = message.version;
        let shown = self.rows.insert(id.clone(), message.row());
        match (known, shown) {
            (_, Some(_)) => return Err(Violation::Misfit),
            (Some(_), None) => return Err(Violation::Repeated),
            (None, None) => {}
        }
        // It was fetched: later changes may be in it already.
        let told = truth.between(&id, 0, version);
        check(told, version, &labels)?;
        Ok(told)
    }

    fn update<'a>(&mut self, message: Message, truth: &'a Truth) -> Result<&'a [Made], Violation> {
        let Some(before) = self.rows.get(&message.id) else {
            return Err(match self.had.get(&message.id) {
                Some(had) if *had >= message.version => Violation::Repeated,
                _ => Violation::Misfit,
            });
        };
        if message.version <= before.version {
            return Err(Violation::Repeated);
        }
        let (after, id) = (before.version, message.id.clone());
        let (version, labels) = (message.version, message.labels.clone());
        let led_here = message.changes.as_ref().is_some_and(|changes| {
            let mut changed = before.labels.clone();
            changed.retain(|label| !changes.removed.contains(label));
            changed.extend(changes.added.iter().cloned());
            changed == labels
        });
        self.had.insert(id.clone(), version);
        self.rows.insert(id.clone(), message.row());
        let told = truth.between(&id, after, version);
        check(told, version, &labels)?;
        if told.len() > 1 {
            return Err(Violation::Skipped);
        }
        if !led_here {
            return Err(Violation::Content);
        }
        Ok(told)
    }

    fn delete<'a>(
        &mut self,
        deletion: &Deletion,
        truth: &'a Truth,
    ) -> Result<&'a [Made], Violation> {
        let Some(before) = self.rows.remove(&deletion.id) else {
            return Err(match self.had.get(&deletion.id) {
                Some(had) if *had >= deletion.version => Violation::Repeated,
                _ => Violation::Misfit,
            });
        };
        self.had.insert(deletion.id.clone(), deletion.version);
        let told = truth.between(&deletion.id, before.version, deletion.version);
        match told {
            [.., last] if last.id != deletion.version || last.kind != Kind::Deleted => {
                Err(Violation::Phantom)
            }
            [] => Err(Violation::Phantom),
            [_] => Ok(told),
            _ => Err(Violation::Skipped),
        }
    }

    fn complete(&mut self, complete: &Complete, truth: &Truth) -> Result<(), Violation> {
        if complete.history_id > truth.last() {
            return Err(Violation::Phantom);
        }
        if complete.history_id < self.synced {
            return Err(Violation::Repeated);
        }
        self.synced = complete.history_id;
        Ok(())
    }
}

impl Message {
    fn row(self) -> Row {
        Row {
            thread: self.thread_id,
            from: self.from,
            subject: self.subject,
            snippet: self.snippet,
            labels: self.labels,
            date: self.date,
            version: self.version,
        }
    }

    /// Its id, and the row that it is.
    pub(crate) fn into_row(self) -> (String, Row) {
        (self.id.clone(), self.row())
    }
}

impl Wrong {
    /// Names what is wrong.
    pub(crate) fn new(violation: Violation, about: impl fmt::Display) -> Self {
        Self {
            violation,
            about: about.to_string(),
        }
    }
}

impl Violation {
    /// The word in tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::WithoutId => "without a position",
            Self::Order => "out of order",
            Self::Hole => "left out a position",
            Self::Repeated => "told twice",
            Self::Phantom => "never happened",
            Self::Content => "other content",
            Self::Skipped => "left out a change",
            Self::Misfit => "does not fit",
            Self::Broken => "could not go on",
            Self::Refused => "refused",
        }
    }
}

/// The last of the changes told must be the one that the event names, with the labels that it shows.
fn check(told: &[Made], version: u64, labels: &BTreeSet<String>) -> Result<(), Violation> {
    match told.last() {
        Some(last) if last.id == version && last.kind != Kind::Deleted => {
            match &last.labels == labels {
                true => Ok(()),
                false => Err(Violation::Content),
            }
        }
        _ => Err(Violation::Phantom),
    }
}

fn read<T: serde::de::DeserializeOwned>(name: &str, data: &str) -> Result<T, Violation> {
    let envelope: Envelope<T> = serde_json::from_str(data).map_err(|_| Violation::Unreadable)?;
    // The form of Date.prototype.toISOString.
    let dated = envelope.timestamp.len() == 24 && envelope.timestamp.ends_with('Z');
    match envelope.kind == name && dated {
        true => Ok(envelope.data),
        false => Err(Violation::Unreadable),
    }
}

/// What stands before the number, and the number.
fn parse_id(id: &str) -> Option<(&str, u64)> {
    let number = id.rfind(['-', '.'])? + 1;
    Some((&id[..number], id[number..].parse().ok()?))
}

/// Ids of the history are written as text.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
