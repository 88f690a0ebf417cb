//! Who should be present and who is, as far as the state was told: what is to be done follows from the difference.
//!
//! No IO and no clock in here. However often a client comes and goes while a call is under way, it stands in the book once.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry as MapEntry},
    sync::Arc,
};

use fanfare_wire::{ChannelName, NewsBody};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Announced, Attendee};
use crate::port::state::{Announce, Count, Held, Holder, Lease, Per, StateKey};

/// The kind of the scopes of presence.
pub(super) const KIND: &str = "presence";

/// The attendances of a node.
#[derive(Default)]
pub(super) struct Book {
    channels: HashMap<ChannelName, HashMap<Uuid, Entry>>,
    /// Those of which something may have to be told, with the ticket of their change, in its order.
    changed: VecDeque<(u64, Key)>,
    /// Those that leave if they are not back by then, in the order of time.
    lingering: VecDeque<(Instant, Key)>,
    /// Counts the changes.
    ticket: u64,
    /// Counts how often everything had to be asserted again.
    assertion: u64,
}

/// One connection in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    channel: ChannelName,
    client: Uuid,
}

/// What is to be told to the state.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) enters: Vec<Entering>,
    pub(super) leaves: Vec<Key>,
    /// Every change up to this one is in here, or was before.
    pub(super) ticket: u64,
    /// How often everything had to be asserted again before.
    pub(super) assertion: u64,
}

/// A lease to be taken.
#[derive(Debug)]
pub(super) struct Entering {
    pub(super) key: Key,
    who: Arc<Attendee>,
    announce: Option<(Per, Joining)>,
}

/// What a channel is told of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// That it has begun, or its member has come with it; and that it ends.
    Told,
    /// That it ends: its beginning was told before.
    Known,
}

struct Entry {
    who: Arc<Attendee>,
    announced: Announced,
    /// Attendances that live.
    holds: u32,
    /// It is still there until then, though no attendance lives.
    until: Option<Instant>,
    lease: LeaseState,
    /// The state has told of its coming.
    introduced: bool,
    /// It stands in `changed`.
    queued: bool,
}

/// What the state knows of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseState {
    Absent,
    /// A call failed, or the state may have lost it.
    Unknown,
    Held,
}

impl Book {
    /// A connection came to a channel.
    pub(super) fn enter(
        &mut self,
        channel: &ChannelName,
        who: &Arc<Attendee>,
        announced: Announced,
    ) {
        let clients = self.channels.entry(channel.clone()).or_default();
        let entry = clients.entry(who.client).or_insert_with(|| Entry {
            who: Arc::clone(who),
            announced,
            holds: 0,
            until: None,
            lease: LeaseState::Absent,
            introduced: false,
            queued: false,
        });
        entry.holds += 1;
        entry.until = None;
        self.changed(Key {
            channel: channel.clone(),
            client: who.client,
        });
    }

    /// An attendance ended; with `until`, the connection counts as there until then.
    pub(super) fn end(&mut self, channel: &ChannelName, client: Uuid, until: Option<Instant>) {
        let key = Key {
            channel: channel.clone(),
            client,
        };
        let Some(entry) = self.entry(&key) else {
            return;
        };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds > 0 {
            return;
        }
        entry.until = until;
        match until {
            Some(until) => self.lingering.push_back((until, key)),
            None => self.changed(key),
        }
    }

    /// Everything that is held is to be asserted again. If others `missed` this node so long that they may have said that
    /// its members left, their coming is told again.
    pub(super) fn assert_all(&mut self, missed: bool) {
        self.assertion += 1;
        let mut keys = Vec::new();
        for (channel, clients) in &mut self.channels {
            for (client, entry) in clients {
                if entry.lease == LeaseState::Held {
                    entry.lease = LeaseState::Unknown;
                }
                entry.introduced &= !missed;
                keys.push(Key {
                    channel: channel.clone(),
                    client: *client,
                });
            }
        }
        for key in keys {
            self.changed(key);
        }
    }

    /// What is to be done now, at most so many leases.
    pub(super) fn take(&mut self, now: Instant, max: usize) -> Batch {
        self.depart(now);
        let mut batch = Batch {
            assertion: self.assertion,
            ..Batch::default()
        };
        while batch.enters.len() + batch.leaves.len() < max
            && let Some((ticket, key)) = self.changed.pop_front()
        {
            batch.ticket = ticket;
            let Some(entry) = self.entry(&key) else {
                continue;
            };
            entry.queued = false;
            match (entry.is_wanted(), entry.lease) {
                (true, LeaseState::Held) => {}
                (true, LeaseState::Absent | LeaseState::Unknown) => {
                    let joining = match entry.introduced {
                        true => Joining::Known,
                        false => Joining::Told,
                    };
                    batch.enters.push(Entering {
                        who: Arc::clone(&entry.who),
                        announce: entry.announced.per().map(|per| (per, joining)),
                        key,
                    });
                }
                (false, LeaseState::Absent) => self.remove(&key),
                (false, LeaseState::Held | LeaseState::Unknown) => batch.leaves.push(key),
            }
        }
        if self.changed.is_empty() {
            batch.ticket = self.ticket;
        }
        batch
    }

    /// When the next of those that dropped leaves, if none comes back.
    pub(super) fn next_departure(&self) -> Option<Instant> {
        self.lingering.front().map(|(until, _)| *until)
    }

    /// The number of the last change.
    pub(super) fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Whether nothing is to be told, now or by the passing of time.
    pub(super) fn is_settled(&self) -> bool {
        self.changed.is_empty() && self.lingering.is_empty()
    }

    /// The state holds these leases, unless it has lost them since that assertion.
    pub(super) fn entered(&mut self, entered: &[Entering], assertion: u64) {
        if assertion != self.assertion {
            return self.not_entered(entered);
        }
        for Entering { key, .. } in entered {
            if let Some(entry) = self.entry(key) {
                entry.lease = LeaseState::Held;
                entry.introduced = true;
                self.changed_unless_wanted(key);
            }
        }
    }

    /// Whether the state holds these leases is not known.
    pub(super) fn not_entered(&mut self, entered: &[Entering]) {
        for Entering { key, .. } in entered {
            if let Some(entry) = self.entry(key) {
                entry.lease = LeaseState::Unknown;
                self.changed(key.clone());
            }
        }
    }

    /// The state holds these leases no longer.
    pub(super) fn left(&mut self, left: &[Key]) {
        for key in left {
            let Some(entry) = self.entry(key) else {
                continue;
            };
            entry.lease = LeaseState::Absent;
            entry.introduced = false;
            if entry.is_wanted() {
                self.changed(key.clone());
            } else {
                self.remove(key);
            }
        }
    }

    /// Whether the state still holds these leases is not known.
    pub(super) fn not_left(&mut self, left: &[Key]) {
        for key in left {
            if let Some(entry) = self.entry(key) {
                entry.lease = LeaseState::Unknown;
                self.changed(key.clone());
            }
        }
    }

    /// Who is here, by this node's own knowledge.
    pub(super) fn holders(&self, channel: &ChannelName, limit: usize) -> Vec<Holder> {
        let holder = |entry: &Entry| Holder {
            holder: entry.who.client,
            member: entry.who.member(),
            info: entry.who.info.clone(),
        };
        self.here(channel).take(limit).map(holder).collect()
    }

    /// How many are here, by this node's own knowledge.
    pub(super) fn count(&self, channel: &ChannelName) -> Count {
        let mut users = std::collections::HashSet::new();
        let mut count = Count::default();
        for entry in self.here(channel) {
            count.holders += 1;
            let is_new = entry.who.user.is_empty() || users.insert(&*entry.who.user);
            count.members += u64::from(is_new);
        }
        count
    }

    fn here(&self, channel: &ChannelName) -> impl Iterator<Item = &Entry> {
        let clients = self.channels.get(channel);
        let entries = clients.into_iter().flat_map(HashMap::values);
        entries.filter(|entry| entry.is_wanted())
    }

    /// Those whose time has come leave.
    fn depart(&mut self, now: Instant) {
        while let Some((until, _)) = self.lingering.front()
            && *until <= now
            && let Some((until, key)) = self.lingering.pop_front()
        {
            // Another time, or none: it came back meanwhile.
            if let Some(entry) = self.entry(&key).filter(|it| it.until == Some(until)) {
                entry.until = None;
                self.changed(key);
            }
        }
    }

    fn changed_unless_wanted(&mut self, key: &Key) {
        if self.entry(key).is_some_and(|entry| !entry.is_wanted()) {
            self.changed(key.clone());
        }
    }

    fn changed(&mut self, key: Key) {
        self.ticket += 1;
        let ticket = self.ticket;
        if let Some(entry) = self.entry(&key)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.changed.push_back((ticket, key));
        }
    }

    fn entry(&mut self, key: &Key) -> Option<&mut Entry> {
        self.channels.get_mut(&key.channel)?.get_mut(&key.client)
    }

    fn remove(&mut self, key: &Key) {
        if let MapEntry::Occupied(mut clients) = self.channels.entry(key.channel.clone()) {
            clients.get_mut().remove(&key.client);
            if clients.get().is_empty() {
                clients.remove();
            }
        }
    }
}

impl Entry {
    fn is_wanted(&self) -> bool {
        self.holds > 0 || self.until.is_some()
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.enters.is_empty() && self.leaves.is_empty()
    }
}

impl Key {
    /// The lease.
    pub(super) fn held(&self) -> Held {
        Held {
            scope: scope(&self.channel),
            holder: self.client,
        }
    }
}

impl Entering {
    /// The lease.
    pub(super) fn lease(&self) -> Lease {
        let Attendee { info, .. } = &*self.who;
        let announce = self.announce.map(|(per, joining)| Announce {
            per,
            joined: (joining == Joining::Told).then(|| NewsBody::Join { info: info.clone() }),
            left: NewsBody::Leave { info: info.clone() },
        });
        Lease {
            held: self.key.held(),
            member: self.who.member(),
            info: info.clone(),
            ttl: None,
            capacity: None,
            announce,
        }
    }
}

/// Where the leases of a channel are.
pub(super) fn scope(channel: &ChannelName) -> StateKey {
    // invariant: a short kind leaves room for every name of a channel
    StateKey::of(KIND, channel).unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fanfare_wire::Json;

    use super::*;
    use crate::testing::channel;

    fn attendee(user: &str) -> Arc<Attendee> {
        Arc::new(Attendee {
            client: Uuid::new_v4(),
            user: user.into(),
            info: Json::parse(b"{}").unwrap(),
        })
    }

    /// The keys that a batch enters and leaves.
    fn clients(batch: &Batch) -> (Vec<Uuid>, Vec<Uuid>) {
        (
            batch.enters.iter().map(|it| it.key.client).collect(),
            batch.leaves.iter().map(|key| key.client).collect(),
        )
    }

    #[test]
    fn who_comes_is_entered_once_and_who_unsubscribes_leaves() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let ann = attendee("ann");
        book.enter(&room, &ann, Announced::PerUser);
        let batch = book.take(now, 10);
        assert_eq!(clients(&batch), (vec![ann.client], vec![]));
        let lease = batch.enters[0].lease();
        assert_eq!(lease.member, "ann");
        assert!(lease.announce.is_some_and(|it| it.joined.is_some()));
        book.entered(&batch.enters, batch.assertion);
        assert!(book.take(now, 10).is_empty());
        book.end(&room, ann.client, None);
        let batch = book.take(now, 10);
        assert_eq!(clients(&batch), (vec![], vec![ann.client]));
        book.left(&batch.leaves);
        assert!(book.channels.is_empty());
        assert!(book.is_settled());
    }

    #[test]
    fn who_comes_and_goes_before_it_was_told_leaves_no_trace() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let ann = attendee("ann");
        book.enter(&room, &ann, Announced::PerUser);
        book.end(&room, ann.client, None);
        assert!(book.take(now, 10).is_empty());
        assert!(book.channels.is_empty());
    }

    #[test]
    fn a_drop_shows_nothing_until_its_time_has_come() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let (old, new) = (attendee("ann"), attendee("ann"));
        book.enter(&room, &old, Announced::PerUser);
        let batch = book.take(now, 10);
        book.entered(&batch.enters, batch.assertion);
        let until = now + Duration::from_secs(3);
        book.end(&room, old.client, Some(until));
        assert_eq!(book.next_departure(), Some(until));
        assert!(book.take(now, 10).is_empty());
        assert_eq!(book.count(&room).holders, 1, "still there");
        book.enter(&room, &new, Announced::PerUser);
        let batch = book.take(now, 10);
        assert_eq!(clients(&batch), (vec![new.client], vec![]));
        book.entered(&batch.enters, batch.assertion);
        assert_eq!(
            (book.count(&room).holders, book.count(&room).members),
            (2, 1)
        );
        let batch = book.take(until, 10);
        assert_eq!(clients(&batch), (vec![], vec![old.client]));
        book.left(&batch.leaves);
        assert_eq!(book.next_departure(), None);
        assert_eq!(book.count(&room).holders, 1);
    }

    #[test]
    fn what_changes_during_a_call_is_put_right_after_it() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let ann = attendee("ann");
        book.enter(&room, &ann, Announced::Never);
        let entering = book.take(now, 10);
        assert!(entering.enters[0].lease().announce.is_none());
        book.end(&room, ann.client, None);
        book.entered(&entering.enters, entering.assertion);
        let leaving = book.take(now, 10);
        assert_eq!(clients(&leaving), (vec![], vec![ann.client]));
        book.enter(&room, &ann, Announced::Never);
        book.left(&leaving.leaves);
        let again = book.take(now, 10);
        assert_eq!(clients(&again), (vec![ann.client], vec![]));
        book.entered(&again.enters, again.assertion);
        assert!(book.take(now, 10).is_empty());
    }

    #[test]
    fn a_failed_call_is_tried_again_and_its_outcome_not_guessed() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let ann = attendee("ann");
        book.enter(&room, &ann, Announced::PerUser);
        let asked = book.ticket();
        let batch = book.take(now, 10);
        book.not_entered(&batch.enters);
        book.end(&room, ann.client, None);
        // It may have been entered: so it leaves.
        let batch = book.take(now, 10);
        assert_eq!(clients(&batch), (vec![], vec![ann.client]));
        assert!(batch.ticket >= asked);
        book.not_left(&batch.leaves);
        let batch = book.take(now, 10);
        assert_eq!(clients(&batch), (vec![], vec![ann.client]));
        book.left(&batch.leaves);
        assert!(book.channels.is_empty());
    }

    #[test]
    fn what_is_asserted_again_is_introduced_again_only_if_it_was_missed() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        let ann = attendee("ann");
        book.enter(&room, &ann, Announced::PerUser);
        let batch = book.take(now, 10);
        book.entered(&batch.enters, batch.assertion);
        for missed in [false, true] {
            book.assert_all(missed);
            let batch = book.take(now, 10);
            let announce = batch.enters[0].lease().announce.unwrap();
            assert_eq!(announce.joined.is_some(), missed);
            book.entered(&batch.enters, batch.assertion);
        }
        // A loss during the call.
        book.assert_all(true);
        let batch = book.take(now, 10);
        book.assert_all(false);
        book.entered(&batch.enters, batch.assertion);
        assert_eq!(book.take(now, 10).enters.len(), 1);
    }

    #[test]
    fn a_batch_is_no_larger_than_asked_and_says_how_far_it_reaches() {
        let (mut book, now, room) = (Book::default(), Instant::now(), channel("room"));
        for _ in 0..5 {
            book.enter(&room, &attendee(""), Announced::PerUser);
        }
        let first = book.take(now, 3);
        assert_eq!((first.enters.len(), first.ticket), (3, 3));
        let rest = book.take(now, 3);
        assert_eq!((rest.enters.len(), rest.ticket), (2, 5));
        assert_eq!(book.count(&room).members, 5, "nobody's are one each");
        assert_eq!(book.holders(&room, 4).len(), 4);
    }
}
