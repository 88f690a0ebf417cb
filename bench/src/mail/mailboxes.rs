//! The mailboxes in the stand-in, what is done to them, and what the stand-in says of when.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use fanfare_stand_in::Google;
use fanfare_stand_in::mailbox::{Change, Draft, Mailbox};

use crate::clock;
use crate::mail::truth::Truth;
use crate::random::Random;

/// What goes on in the mailboxes.
pub(crate) struct Mailboxes<'a> {
    google: &'a Google,
    boxes: Vec<Known>,
    random: Random,
    subjects: u64,
}

/// One mailbox.
struct Known {
    address: String,
    truth: Mutex<Truth>,
    /// Messages that are there.
    alive: Vec<String>,
}

/// How many changes of each kind were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct MadeCounts {
    /// Messages that came.
    pub(crate) added: u64,
    /// Changes of labels: read, starred, labelled, binned, and back.
    pub(crate) labels: u64,
    /// Messages deleted for good.
    pub(crate) deleted: u64,
}

impl MadeCounts {
    /// Adds others.
    pub(crate) fn add(&mut self, other: Self) {
        self.added += other.added;
        self.labels += other.labels;
        self.deleted += other.deleted;
    }

    /// All of them.
    pub(crate) fn total(self) -> u64 {
        self.added + self.labels + self.deleted
    }
}

impl<'a> Mailboxes<'a> {
    /// Makes `count` mailboxes with `messages` messages each.
    pub(crate) fn new(google: &'a Google, count: usize, messages: usize) -> Self {
        let known = |number: usize| Known {
            address: format!("user{number}@example.com"),
            truth: Mutex::default(),
            alive: Vec::new(),
        };
        let mut mailboxes = Self {
            google,
            boxes: (0..count).map(known).collect(),
            random: Random::new(7),
            subjects: 0,
        };
        for mailbox in 0..count {
            // The first label of its owner's: `Label_1`.
            google.mailbox(mailboxes.address(mailbox), |inside| inside.label("Work"));
            for _ in 0..messages {
                mailboxes.add(mailbox);
            }
        }
        mailboxes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.boxes.len()
    }

    /// The address of one.
    pub(crate) fn address(&self, mailbox: usize) -> &str {
        &self.boxes[mailbox].address
    }

    /// What happened in one so far.
    pub(crate) fn truth(&self, mailbox: usize) -> MutexGuard<'_, Truth> {
        let truth = self.boxes[mailbox].truth.lock();
        truth.unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something in any mailbox.
    pub(crate) fn change(&mut self) -> MadeCounts {
        let mailbox = self.random.below(self.boxes.len() as u64) as usize;
        let dice = self.random.below(100);
        if dice < 40 || self.boxes[mailbox].alive.is_empty() {
            return self.add(mailbox);
        }
        let alive = self.boxes[mailbox].alive.len() as u64;
        let which = self.random.below(alive) as usize;
        let id = self.boxes[mailbox].alive[which].clone();
        match dice {
            40..65 => self.toggle(mailbox, &id, &["UNREAD"], &[]),
            65..80 => self.toggle(mailbox, &id, &["STARRED"], &[]),
            80..86 => self.toggle(mailbox, &id, &["Label_1"], &[]),
            // Into the bin and out of it: two changes at once.
            86..92 => self.toggle(mailbox, &id, &["TRASH"], &["INBOX"]),
            _ => {
                self.boxes[mailbox].alive.swap_remove(which);
                self.make(mailbox, |inside| {
                    inside.delete(&id);
                })
            }
        }
    }

    fn add(&mut self, mailbox: usize) -> MadeCounts {
        self.subjects += 1;
        let draft = Draft {
            from: format!("Sender {0} <sender{0}@example.com>", self.subjects % 97),
            subject: format!("Message {}: „Grüße“", self.subjects),
            snippet: "What the first words of a message of middling length may look like, cut off at some".to_owned(),
            ..Draft::default()
        };
        let mut id = String::new();
        let made = self.make(mailbox, |inside| id = inside.add(draft));
        self.boxes[mailbox].alive.push(id);
        made
    }

    /// Puts labels on and takes others off; the other way round if they are on.
    fn toggle(&self, mailbox: usize, id: &str, on: &[&str], off: &[&str]) -> MadeCounts {
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        let (on, off): (Vec<String>, Vec<String>) = (owned(on), owned(off));
        self.make(mailbox, |inside| {
            let has = |labels: &BTreeSet<String>| on.iter().all(|label| labels.contains(label));
            let is_on = inside
                .message(id)
                .is_some_and(|message| has(&message.labels));
            let (add, remove) = if is_on { (&off, &on) } else { (&on, &off) };
            inside.modify(id, add, remove);
        })
    }

    /// Changes a mailbox, and writes down what happened before anybody can hear of it.
    fn make(&self, mailbox: usize, change: impl FnOnce(&mut Mailbox)) -> MadeCounts {
        let known = &self.boxes[mailbox];
        let mut counts = MadeCounts::default();
        self.google.mailbox(&known.address, |inside| {
            let before = inside.history_id();
            let mut truth = self.truth(mailbox);
            let at = clock::now();
            change(inside);
            let records = inside.history(before).into_iter().flatten();
            let records: Vec<_> = records.cloned().collect();
            for record in &records {
                match record.change {
                    Change::Added => counts.added += 1,
                    Change::Deleted => counts.deleted += 1,
                    _ => counts.labels += 1,
                }
            }
            truth.note(records, at);
        });
        counts
    }
}

/// A time of the stand-in as one of [`crate::clock`]: both are the same clock.
pub(crate) fn nanos(instant: Instant) -> u64 {
    let ago = u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX);
    clock::now().saturating_sub(ago)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::truth::{Kind, rows};

    #[test]
    fn all_kinds_of_changes_are_made_and_written_down() {
        let google = Google::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut mailboxes = Mailboxes::new(&google, 3, 2);
        let mut made = MadeCounts::default();
        for _ in 0..600 {
            made.add(mailboxes.change());
        }
        assert!(
            made.added > 100 && made.labels > 100 && made.deleted > 10,
            "{made:?}"
        );
        assert!(made.total() >= 600, "{made:?}");
        let mut written = 0;
        for mailbox in 0..mailboxes.len() {
            let truth = mailboxes.truth(mailbox);
            let (last, shown) = google.mailbox(mailboxes.address(mailbox), |inside| {
                (inside.history_id(), rows(inside))
            });
            assert_eq!(truth.last(), last);
            let mut alive = mailboxes.boxes[mailbox].alive.clone();
            alive.sort();
            assert!(alive.iter().eq(shown.keys()));
            for (id, row) in &shown {
                let all = truth.between(id, 0, u64::MAX);
                assert_eq!(all[0].kind, Kind::Added);
                let last = all.last().unwrap();
                assert_eq!((last.id, &last.labels), (row.version, &row.labels));
                written += all.len() as u64;
            }
        }
        // The rest is of messages that are gone.
        assert!(written <= made.total() + 6, "{written}");
    }

    #[test]
    fn times_are_of_one_clock() {
        let before = clock::now();
        let instant = Instant::now();
        let after = clock::now();
        let time = nanos(instant);
        assert!(before <= time + 1_000_000 && time <= after + 1_000_000);
    }
}
