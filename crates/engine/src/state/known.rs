//! What a node knows of the shared state because it went through it: the leases of its connections, and the objects that it
//! changed last. No clock, no calls.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use fanfare_wire::Millis;
use tokio::time::Instant;

use crate::{
    memory::state::{Micros, Was},
    port::state::{Announce, Held, Lease, Object, StateKey},
};

/// Objects of which a node knows the last change that it made. Of more, those that end first are forgotten: they are not
/// asserted again.
pub const KNOWN_OBJECTS_MAX: usize = 10_000;

/// What all of them may weigh in bytes.
pub const KNOWN_OBJECTS_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, Default)]
pub(crate) struct Known {
    leases: HashMap<Held, KnownLease>,
    /// Leases that have ended here, and of which the shared state may not know it. As many as were held at most.
    gone: HashMap<Held, Gone>,
    objects: HashMap<StateKey, KnownObject>,
    object_ends: BTreeSet<(Instant, StateKey)>,
    object_bytes: usize,
    /// The shared state's clock, when it was seen last.
    clock: Option<(Micros, Instant)>,
}

/// A lease of a connection of this node.
#[derive(Debug, Clone)]
pub(crate) struct KnownLease {
    pub(crate) lease: Lease,
    /// When it ends without renewal, at the earliest.
    pub(crate) ends: Option<Instant>,
    /// The shared state has it, or had it, and has told what there was to tell.
    pub(crate) told: bool,
    /// The shared state may have it.
    pub(crate) asked: bool,
}

/// A lease that the shared state has to be told to end. It knows who has left if others were told that he came.
pub(crate) type Gone = Option<Lease>;

#[derive(Debug)]
struct KnownObject {
    was: Was,
    ends: Instant,
}

impl Known {
    /// A connection has taken a lease.
    pub(crate) fn entered(&mut self, lease: &Lease, told: bool, asked: bool, now: Instant) {
        self.gone.remove(&lease.held);
        let before = self.leases.remove(&lease.held);
        let mut known = KnownLease {
            lease: lease.clone(),
            ends: lease.ttl.map(|ttl| end(now, ttl)),
            told,
            asked: asked || before.as_ref().is_some_and(|before| before.asked),
        };
        // Who does not announce its member again still wants it announced if the others are told that it has left.
        if let Some(before) = before.filter(|before| before.lease.member == lease.member)
            && let (Some(now), Some(before)) = (&mut known.lease.announce, before.lease.announce)
            && now.joined.is_none()
        {
            now.joined = before.joined;
        }
        self.leases.insert(lease.held.clone(), known);
    }

    /// A lease was renewed at `now`.
    pub(crate) fn renewed(&mut self, held: &Held, now: Instant) {
        if let Some(known) = self.leases.get_mut(held) {
            known.ends = known.lease.ttl.map(|ttl| end(now, ttl));
        }
    }

    /// A lease has ended, and the shared state knows it.
    pub(crate) fn left(&mut self, held: &Held) {
        self.leases.remove(held);
        self.gone.remove(held);
    }

    /// A lease has ended, and the shared state may not know it.
    pub(crate) fn left_untold(&mut self, held: &Held) {
        if let Some(known) = self.leases.remove(held)
            && known.asked
        {
            let gone = known.told.then_some(known.lease);
            self.gone.insert(held.clone(), gone);
        }
    }

    /// Nobody knows whether the shared state has taken a lease, and nobody waits for the answer.
    pub(crate) fn entered_perhaps(&mut self, held: &Held) {
        match self.leases.get_mut(held) {
            Some(known) => known.asked = true,
            None => {
                self.gone.entry(held.clone()).or_insert(None);
            }
        }
    }

    /// It will be known what became of a lease.
    pub(crate) fn not_gone(&mut self, held: &Held) {
        self.gone.remove(held);
    }

    /// A lease that has not ended.
    pub(crate) fn lease(&self, held: &Held, now: Instant) -> Option<&KnownLease> {
        self.leases.get(held).filter(|known| known.lives(now))
    }

    /// All leases that have not ended.
    pub(crate) fn leases(&self, now: Instant) -> impl Iterator<Item = &KnownLease> {
        self.leases.values().filter(move |known| known.lives(now))
    }

    /// Some leases that last as long as their node, others each time as `from` goes on.
    pub(crate) fn sample(&self, from: usize, most: usize) -> Vec<Held> {
        let from = from % self.leases.len().max(1);
        let lasting = self.leases.values().skip(from);
        let lasting = lasting.filter(|known| known.lease.ttl.is_none());
        let held = lasting.map(|known| known.lease.held.clone());
        held.take(most).collect()
    }

    /// The shared state has a lease, and has told what there was to tell.
    pub(crate) fn asserted(&mut self, held: &Held) {
        if let Some(known) = self.leases.get_mut(held) {
            (known.told, known.asked) = (true, true);
        }
    }

    /// Some of the leases that the shared state has to be told to end.
    pub(crate) fn gone(&self, most: usize) -> Vec<(Held, Gone)> {
        let gone = self.gone.iter().take(most);
        gone.map(|(held, gone)| (held.clone(), gone.clone()))
            .collect()
    }

    /// This node has written an object, or removed it.
    pub(crate) fn wrote(&mut self, key: &StateKey, was: Was, ttl: Duration, now: Instant) {
        if self.version(key) > Some(was.version) {
            return;
        }
        self.forget(key);
        let ends = end(now, ttl);
        self.object_bytes += weight(key, &was);
        self.object_ends.insert((ends, key.clone()));
        self.objects.insert(key.clone(), KnownObject { was, ends });
        while self.objects.len() > KNOWN_OBJECTS_MAX || self.object_bytes > KNOWN_OBJECTS_BYTES_MAX
        {
            let Some((_, first)) = self.object_ends.first().cloned() else {
                return;
            };
            self.forget(&first);
        }
    }

    /// The version that this node has written, if it remembers.
    pub(crate) fn version(&self, key: &StateKey) -> Option<u64> {
        self.objects.get(key).map(|known| known.was.version)
    }

    /// The shared state has shown an object, or that there is none. `before` is what was [known](Self::version) when it was
    /// asked. Whatever this node does not know already is not remembered.
    pub(crate) fn saw(&mut self, key: &StateKey, found: Option<&Object>, before: Option<u64>) {
        let Some(known) = self.objects.get_mut(key) else {
            return;
        };
        match found {
            Some(object) if object.version > known.was.version => {
                self.object_bytes -= weight(key, &known.was);
                known.was = Was::from(object);
                self.object_bytes += weight(key, &known.was);
            }
            None if known.was.value.is_some() && before == Some(known.was.version) => {
                self.forget(key);
            }
            _ => {}
        }
    }

    /// All that was written, with the rest of its time to live.
    pub(crate) fn objects(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&StateKey, &Was, Duration)> {
        let left = move |(key, known)| {
            let known: &KnownObject = known;
            let left = known.ends.saturating_duration_since(now);
            (!left.is_zero()).then_some((key, &known.was, left))
        };
        self.objects.iter().filter_map(left)
    }

    /// Others have written something newer: it is theirs.
    pub(crate) fn is_superseded(&mut self, key: &StateKey, by: u64) {
        if self.version(key).is_some_and(|version| version < by) {
            self.forget(key);
        }
    }

    /// Drops what has ended.
    pub(crate) fn purge(&mut self, now: Instant) {
        self.leases.retain(|_, known| known.lives(now));
        while let Some((ends, key)) = self.object_ends.first().cloned()
            && ends <= now
        {
            self.forget(&key);
        }
    }

    /// The shared state has shown its clock.
    pub(crate) fn saw_clock(&mut self, at: Millis, now: Instant) {
        let at = Micros::try_from(at).unwrap_or(0).saturating_mul(1000);
        self.clock = Some((at, now));
    }

    /// What the shared state's clock shows, if it was ever seen.
    pub(crate) fn clock(&self, now: Instant) -> Option<Micros> {
        let (at, seen) = self.clock?;
        let since = now.saturating_duration_since(seen).as_micros();
        Some(at.saturating_add(Micros::try_from(since).unwrap_or(0)))
    }

    fn forget(&mut self, key: &StateKey) {
        if let Some(known) = self.objects.remove(key) {
            self.object_bytes -= weight(key, &known.was);
            self.object_ends.remove(&(known.ends, key.clone()));
        }
    }
}

impl KnownLease {
    fn lives(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| ends > now)
    }

    /// The lease as it is put back: nobody is put out because the state was away, and those who know are not told again if
    /// `silently`.
    pub(crate) fn again(&self, silently: bool) -> Lease {
        let mut lease = self.lease.clone();
        lease.capacity = None;
        if silently && self.told {
            lease.announce = lease.announce.map(silent);
        }
        lease
    }
}

/// Without a word about who comes.
pub(crate) fn silent(announce: Announce) -> Announce {
    Announce {
        joined: None,
        ..announce
    }
}

fn weight(key: &StateKey, was: &Was) -> usize {
    let value = was.value.as_ref().map_or(0, |value| value.as_bytes().len());
    2 * key.as_str().len() + value
}

/// The longest that anything is remembered.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn end(now: Instant, ttl: Duration) -> Instant {
    now + ttl.min(FOREVER)
}

#[cfg(test)]
mod tests {
    use fanfare_wire::Json;

    use super::*;

    fn was(version: u64, bytes: usize) -> Was {
        Was {
            value: Some(Json::trusted(vec![b'1'; bytes].into())),
            version,
            changed_at: 0,
        }
    }

    fn key(number: usize) -> StateKey {
        StateKey::parse(&format!("object/{number}")).unwrap()
    }

    #[test]
    fn objects_are_bounded_and_those_that_end_first_go_first() {
        let mut known = Known::default();
        let now = Instant::now();
        for number in 0..KNOWN_OBJECTS_MAX + 5 {
            let ttl = Duration::from_secs(1_000_000 - number as u64);
            known.wrote(&key(number), was(1, 1), ttl, now);
        }
        assert_eq!(known.objects(now).count(), KNOWN_OBJECTS_MAX);
        assert_eq!(known.version(&key(0)), Some(1));
        assert_eq!(known.version(&key(KNOWN_OBJECTS_MAX + 4)), None);
        known.wrote(
            &key(0),
            was(2, KNOWN_OBJECTS_BYTES_MAX / 2),
            Duration::MAX,
            now,
        );
        known.wrote(
            &key(1),
            was(2, KNOWN_OBJECTS_BYTES_MAX / 2),
            Duration::MAX,
            now,
        );
        assert!(known.object_bytes <= KNOWN_OBJECTS_BYTES_MAX);
        known.purge(now + FOREVER + FOREVER);
        assert_eq!((known.objects.len(), known.object_bytes), (0, 0));
        assert!(known.object_ends.is_empty());
    }

    #[test]
    fn what_others_wrote_replaces_what_is_known_and_nothing_else() {
        let mut known = Known::default();
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        known.wrote(&key(1), was(5, 1), hour, now);
        known.wrote(&key(1), was(4, 1), hour, now);
        assert_eq!(known.version(&key(1)), Some(5), "an answer that came late");
        let newer = was(7, 3).object();
        known.saw(&key(1), newer.as_ref(), Some(5));
        known.saw(&key(2), newer.as_ref(), None);
        assert_eq!(known.version(&key(1)), Some(7));
        assert_eq!(known.version(&key(2)), None, "it is not this node's");
        known.saw(&key(1), None, Some(5));
        assert_eq!(
            known.version(&key(1)),
            Some(7),
            "written since it was asked"
        );
        known.is_superseded(&key(1), 7);
        assert_eq!(known.version(&key(1)), Some(7));
        known.is_superseded(&key(1), 8);
        assert_eq!(known.version(&key(1)), None);
        assert_eq!(known.object_bytes, 0);
        assert_eq!(known.objects(now + hour).count(), 0);
    }
}
