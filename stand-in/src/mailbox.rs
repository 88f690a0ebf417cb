//! The model of a mailbox: messages, labels, and the history of what happened to them.
//!
//! As in Gmail: ids of history grow by uneven steps; each change is a record; a message carries the id of its last change; what is
//! older than the mailbox remembers cannot be asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use crate::{random::Random, unix_millis};

/// Records that a mailbox remembers.
pub const HISTORY_MAX: usize = 10_000;
/// Messages of a mailbox; the oldest is deleted for one more.
pub const MESSAGES_MAX: usize = 20_000;
/// How long a watch holds, in milliseconds.
pub const WATCH_MILLIS: i64 = 7 * 24 * 3600 * 1000;

/// Labels that every mailbox has.
pub const SYSTEM_LABELS: [&str; 13] = [
    "INBOX",
    "SENT",
    "DRAFT",
    "TRASH",
    "SPAM",
    "UNREAD",
    "STARRED",
    "IMPORTANT",
    "CATEGORY_PERSONAL",
    "CATEGORY_SOCIAL",
    "CATEGORY_PROMOTIONS",
    "CATEGORY_UPDATES",
    "CATEGORY_FORUMS",
];

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The id of its thread.
    pub thread_id: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// The id of its last change.
    pub history_id: u64,
    /// When it came, in milliseconds since 1970.
    pub internal_date: i64,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// The beginning of its text.
    pub snippet: String,
}

/// What a new message is made of.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// `From`.
    pub from: String,
    /// `Subject`.
    pub subject: String,
    /// The beginning of its text.
    pub snippet: String,
    /// The thread that it belongs to; its own if there is none.
    pub thread_id: Option<String>,
    /// Its labels; `INBOX` and `UNREAD` if there are none.
    pub labels: Vec<String>,
}

/// What happened, of the four kinds there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `messagesAdded`.
    Added,
    /// `messagesDeleted`: gone for good, not only in the bin.
    Deleted,
    /// `labelsAdded`.
    LabelsAdded(Vec<String>),
    /// `labelsRemoved`.
    LabelsRemoved(Vec<String>),
}

/// One record of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Of which message.
    pub message_id: String,
    /// Of which thread.
    pub thread_id: String,
    /// The message's labels after it.
    pub labels: BTreeSet<String>,
    /// What happened.
    pub change: Change,
}

/// Why there is no history from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

/// A mailbox is watched for one topic at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherTopic;

#[derive(Debug, Clone)]
struct Watch {
    topic: String,
    expires: i64,
    labels: BTreeSet<String>,
}

/// A mailbox.
#[derive(Debug)]
pub struct Mailbox {
    address: String,
    random: Random,
    next_message: u64,
    history_id: u64,
    messages: BTreeMap<String, Message>,
    history: VecDeque<Record>,
    /// History can be asked for from here on.
    oldest: u64,
    user_labels: BTreeMap<String, String>,
    watch: Option<Watch>,
    /// Something happened that a watch has to tell.
    to_tell: bool,
}

impl Mailbox {
    /// An empty mailbox.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let seed = address.bytes().fold(7, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut random = Random::new(seed);
        let first = 1000 + random.below(100_000);
        Self {
            address: address.to_owned(),
            next_message: 0x18c0_0000_0000_0000 + random.below(1 << 40),
            random,
            history_id: first,
            messages: BTreeMap::new(),
            history: VecDeque::new(),
            oldest: first,
            user_labels: BTreeMap::new(),
            watch: None,
            to_tell: false,
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The id of its last change.
    #[must_use]
    pub fn history_id(&self) -> u64 {
        self.history_id
    }

    /// A message.
    #[must_use]
    pub fn message(&self, id: &str) -> Option<&Message> {
        self.messages.get(id)
    }

    /// All messages, the oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.values()
    }

    /// A message comes; returns its id.
    pub fn add(&mut self, draft: Draft) -> String {
        while self.messages.len() >= MESSAGES_MAX
            && let Some(oldest) = self.messages.keys().next().cloned()
        {
            self.delete(&oldest);
        }
        self.next_message += 1 + self.random.below(1 << 16);
        let id = format!("{:016x}", self.next_message);
        let labels = match draft.labels.is_empty() {
            true => ["INBOX", "UNREAD"].map(str::to_owned).into(),
            false => draft.labels.into_iter().collect(),
        };
        let message = Message {
            thread_id: draft.thread_id.unwrap_or_else(|| id.clone()),
            labels,
            history_id: 0,
            internal_date: unix_millis(),
            headers: vec![
                ("From".to_owned(), draft.from),
                ("To".to_owned(), self.address.clone()),
                ("Subject".to_owned(), draft.subject),
                ("Message-ID".to_owned(), format!("<{id}@stand-in.invalid>")),
            ],
            snippet: draft.snippet,
            id: id.clone(),
        };
        self.messages.insert(id.clone(), message);
        self.record(&id, Change::Added);
        id
    }

    /// Labels are put on and taken off a message. What is there already, or was not, is no change. False if there is no
    /// such message.
    pub fn modify(&mut self, id: &str, add: &[String], remove: &[String]) -> bool {
        let Some(message) = self.messages.get_mut(id) else {
            return false;
        };
        let added: Vec<String> = add
            .iter()
            .filter(|label| message.labels.insert((*label).clone()))
            .cloned()
            .collect();
        let removed: Vec<String> = remove
            .iter()
            .filter(|label| message.labels.remove(*label))
            .cloned()
            .collect();
        if !added.is_empty() {
            self.record(id, Change::LabelsAdded(added));
        }
        if !removed.is_empty() {
            self.record(id, Change::LabelsRemoved(removed));
        }
        true
    }

    /// A message is deleted for good. False if there is no such message.
    pub fn delete(&mut self, id: &str) -> bool {
        let there = self.messages.contains_key(id);
        if there {
            self.record(id, Change::Deleted);
            self.messages.remove(id);
        }
        there
    }

    /// The mailbox forgets all history up to now.
    pub fn expire(&mut self) {
        // What was current before is not any more.
        self.history_id += 1 + self.random.below(9);
        self.oldest = self.history_id;
        self.history.clear();
    }

    /// The mailbox has had all ids up to this one, if it has not anyway; nothing is remembered of them.
    pub fn begin_at(&mut self, history_id: u64) {
        if history_id > self.history_id {
            self.history_id = history_id;
            self.expire();
        }
    }

    /// Says when a message came, in milliseconds since 1970. False if there is no such message.
    pub fn set_date(&mut self, id: &str, internal_date: i64) -> bool {
        let message = self.messages.get_mut(id);
        message
            .map(|message| message.internal_date = internal_date)
            .is_some()
    }

    /// A label of the user's own; returns its id.
    pub fn label(&mut self, name: &str) -> String {
        let known = self.user_labels.iter().find(|(_, known)| *known == name);
        if let Some((id, _)) = known {
            return id.clone();
        }
        let id = format!("Label_{}", self.user_labels.len() + 1);
        self.user_labels.insert(id.clone(), name.to_owned());
        id
    }

    /// Ids and names of the user's own labels.
    #[must_use]
    pub fn user_labels(&self) -> &BTreeMap<String, String> {
        &self.user_labels
    }

    /// The records after an id, the oldest first.
    ///
    /// # Errors
    /// [`Expired`] if the id is older than the mailbox remembers, or none that it has ever had.
    pub fn history(&self, after: u64) -> Result<impl Iterator<Item = &Record>, Expired> {
        if after < self.oldest || after > self.history_id {
            return Err(Expired);
        }
        Ok(self.history.iter().filter(move |record| record.id > after))
    }

    /// Changes are told from now on, at once and for a week; returns until when. With `labels`: only of messages that have
    /// one of them.
    ///
    /// # Errors
    /// [`OtherTopic`] if there is a watch for another topic.
    pub fn watch(&mut self, topic: &str, labels: Vec<String>, now: i64) -> Result<i64, OtherTopic> {
        let holds = |watch: &&Watch| now < watch.expires;
        let known = self.watch.as_ref().filter(holds);
        if known.is_some_and(|watch| watch.topic != topic) {
            return Err(OtherTopic);
        }
        let expires = now + WATCH_MILLIS;
        self.watch = Some(Watch {
            topic: topic.to_owned(),
            expires,
            labels: labels.into_iter().collect(),
        });
        self.to_tell = true;
        Ok(expires)
    }

    /// Changes are told no more.
    pub fn stop(&mut self) {
        self.watch = None;
    }

    /// What is to be told, if anything: address and last id, as Gmail writes it. Documents show the id as a text, and
    /// notifications have it as a number, so it is now this and now that.
    pub fn notification(&mut self, now: i64) -> Option<String> {
        let told = std::mem::take(&mut self.to_tell);
        let watched = self.watch.as_ref().is_some_and(|watch| now < watch.expires);
        if !told || !watched {
            return None;
        }
        let id = match self.random.below(2) {
            0 => json!(self.history_id),
            _ => json!(self.history_id.to_string()),
        };
        Some(json!({"emailAddress": self.address, "historyId": id}).to_string())
    }

    fn record(&mut self, id: &str, change: Change) {
        self.history_id += 1 + self.random.below(9);
        let history_id = self.history_id;
        let Some(message) = self.messages.get_mut(id) else {
            return;
        };
        message.history_id = history_id;
        let concerns = |watch: &Watch| {
            watch.labels.is_empty()
                || watch
                    .labels
                    .iter()
                    .any(|label| message.labels.contains(label))
                || matches!(&change, Change::LabelsRemoved(removed)
                    if removed.iter().any(|label| watch.labels.contains(label)))
        };
        self.to_tell |= self.watch.as_ref().is_some_and(concerns);
        self.history.push_back(Record {
            id: history_id,
            message_id: message.id.clone(),
            thread_id: message.thread_id.clone(),
            labels: message.labels.clone(),
            change,
        });
        if self.history.len() > HISTORY_MAX
            && let Some(forgotten) = self.history.pop_front()
        {
            self.oldest = forgotten.id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn history_says_what_happened_in_order() {
        let mut mailbox = Mailbox::new("a@example.com");
        let start = mailbox.history_id();
        let id = mailbox.add(Draft::default());
        assert!(mailbox.modify(&id, &labels(&["STARRED"]), &labels(&["UNREAD", "SPAM"])));
        assert!(
            mailbox.modify(&id, &labels(&["STARRED"]), &[]),
            "no change, no record"
        );
        assert!(mailbox.delete(&id));
        assert!(!mailbox.delete(&id) && !mailbox.modify(&id, &[], &[]));
        let records: Vec<_> = mailbox.history(start).unwrap().collect();
        let changes: Vec<_> = records.iter().map(|record| record.change.clone()).collect();
        let expected = [
            Change::Added,
            Change::LabelsAdded(labels(&["STARRED"])),
            Change::LabelsRemoved(labels(&["UNREAD"])),
            Change::Deleted,
        ];
        assert_eq!(changes, expected);
        assert!(records.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!(records[3].id, mailbox.history_id());
        assert_eq!(mailbox.history(records[1].id).unwrap().count(), 2);
        assert_eq!(mailbox.history(mailbox.history_id()).unwrap().count(), 0);
    }

    #[test]
    fn history_that_is_forgotten_cannot_be_asked_for() {
        let mut mailbox = Mailbox::new("a@example.com");
        let start = mailbox.history_id();
        assert!(mailbox.history(start - 1).is_err());
        assert!(mailbox.history(start + 1).is_err(), "not yet there");
        mailbox.add(Draft::default());
        let before = mailbox.history_id();
        mailbox.expire();
        assert!(mailbox.history(start).is_err() && mailbox.history(before).is_err());
        let now = mailbox.history_id();
        mailbox.add(Draft::default());
        assert_eq!(mailbox.history(now).unwrap().count(), 1);
        for _ in 0..HISTORY_MAX {
            mailbox.add(Draft::default());
        }
        assert!(mailbox.history(now).is_err(), "too much has happened since");
    }

    #[test]
    fn a_watch_tells_of_changes_while_it_holds() {
        let mut mailbox = Mailbox::new("a@example.com");
        mailbox.add(Draft::default());
        assert_eq!(mailbox.notification(0), None, "nobody watches");
        let expires = mailbox.watch("t", labels(&["INBOX"]), 0).unwrap();
        assert!(mailbox.notification(0).is_some(), "told at once");
        assert_eq!(mailbox.notification(0), None);
        let id = mailbox.add(Draft::default());
        let told = mailbox.notification(0).unwrap();
        assert!(told.contains(&mailbox.history_id().to_string()), "{told}");
        mailbox.modify(&id, &[], &labels(&["INBOX"]));
        assert!(mailbox.notification(0).is_some(), "it has left the label");
        mailbox.modify(&id, &labels(&["STARRED"]), &[]);
        assert_eq!(mailbox.notification(0), None, "of no watched label");
        mailbox.add(Draft::default());
        assert_eq!(mailbox.watch("u", Vec::new(), 1), Err(OtherTopic));
        assert_eq!(mailbox.notification(expires), None);
        assert!(mailbox.watch("u", Vec::new(), expires).is_ok());
    }
}
