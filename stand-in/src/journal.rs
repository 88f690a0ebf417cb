//! What happened when: the posts of the push subscription, and the requests to the Gmail API and for tokens. It is how a
//! test tells Google's time from that of whom it tests.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Instant,
};

use crate::lock;

/// Posts, and calls, that are remembered until they are taken; the oldest go first.
pub const ENTRIES_MAX: usize = 200_000;

/// One post of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The data of the message.
    pub data: Vec<u8>,
    /// Before the connection was opened.
    pub begun: Instant,
    /// When the status was read, or there was none.
    pub ended: Instant,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// It had been acknowledged before.
    pub again: bool,
}

/// One request to the Gmail API, or for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whose mailbox or token; empty where nobody is known.
    pub address: String,
    /// Where, as faults name places: `history`, `messages`, `token`, …
    pub place: &'static str,
    /// When the request had been read.
    pub begun: Instant,
    /// When its answer was ready to be written.
    pub ended: Instant,
}

/// How many requests a place has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Those that came.
    pub begun: u64,
    /// Of those, answered.
    pub answered: u64,
}

/// What was taken out of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// In the order of their ends.
    pub posts: Vec<Post>,
    /// In the order of their ends.
    pub calls: Vec<Call>,
}

/// The journal.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    posts: VecDeque<Post>,
    calls: VecDeque<Call>,
    counts: BTreeMap<&'static str, Calls>,
}

impl Journal {
    pub(crate) fn posted(&self, post: Post) {
        push(&mut lock(&self.0).posts, post);
    }

    pub(crate) fn begun(&self, place: &'static str) {
        lock(&self.0).counts.entry(place).or_default().begun += 1;
    }

    pub(crate) fn answered(&self, call: Call) {
        let mut pages = lock(&self.0);
        pages.counts.entry(call.place).or_default().answered += 1;
        push(&mut pages.calls, call);
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, Calls> {
        lock(&self.0).counts.clone()
    }

    pub(crate) fn take(&self) -> Entries {
        let mut pages = lock(&self.0);
        Entries {
            posts: pages.posts.drain(..).collect(),
            calls: pages.calls.drain(..).collect(),
        }
    }
}

fn push<T>(entries: &mut VecDeque<T>, entry: T) {
    if entries.len() == ENTRIES_MAX {
        entries.pop_front();
    }
    entries.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_once_and_counts_stay() {
        let journal = Journal::default();
        let now = Instant::now();
        journal.begun("history");
        journal.begun("history");
        journal.answered(Call {
            address: "a@example.com".to_owned(),
            place: "history",
            begun: now,
            ended: now,
        });
        assert_eq!(journal.take().calls.len(), 1);
        assert_eq!(journal.take(), Entries::default());
        let expected = Calls {
            begun: 2,
            answered: 1,
        };
        assert_eq!(journal.counts()["history"], expected);
    }

    #[test]
    fn the_oldest_entries_go_first() {
        let mut entries: VecDeque<usize> = (0..ENTRIES_MAX).collect();
        push(&mut entries, ENTRIES_MAX);
        assert_eq!((entries.len(), entries[0]), (ENTRIES_MAX, 1));
    }
}
