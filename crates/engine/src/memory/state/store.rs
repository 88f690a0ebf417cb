//! What a state in memory holds: objects, leases, buckets. No clock, no task: every step is given the time.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use fanfare_wire::{Json, Millis, News, NewsBody};
use uuid::Uuid;

use crate::{
    port::state::{
        Announce, Bucket, Change, Changed, Count, Entered, Expected, Held, Holder, Lease,
        NODE_LEASE, Object, Per, StateError, StateKey, Taken,
    },
    state::fill::Fill,
};

use super::{BUCKETS_MAX, OBJECTS_BYTES_MAX};

/// Microseconds since the Unix epoch.
pub(crate) type Micros = u64;

/// What an object weighs beside its key and its value.
const OBJECT_OVERHEAD: usize = 256;

/// All that a state holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: HashMap<StateKey, Kept>,
    objects_bytes: usize,
    /// The highest version that was ever there.
    newest: u64,
    scopes: HashMap<StateKey, Scope>,
    nodes: HashMap<Uuid, NodeLease>,
    fills: HashMap<StateKey, Fill>,
    object_ends: BTreeSet<(Micros, StateKey)>,
    lease_ends: BTreeSet<(Micros, Held)>,
    fill_ends: BTreeSet<(Micros, StateKey)>,
    /// What was told by the steps since [`take_news`](Self::take_news), in their order.
    news: Vec<News>,
}

/// What was written at some time: an object, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Was {
    pub(crate) value: Option<Json>,
    pub(crate) version: u64,
    pub(crate) changed_at: Millis,
}

impl Was {
    /// The object, unless it was removed.
    pub(crate) fn object(&self) -> Option<Object> {
        Some(Object {
            value: self.value.clone()?,
            version: self.version,
            changed_at: self.changed_at,
        })
    }
}

impl From<&Object> for Was {
    fn from(object: &Object) -> Self {
        Self {
            value: Some(object.value.clone()),
            version: object.version,
            changed_at: object.changed_at,
        }
    }
}

/// An object, or the memory of one that was removed.
#[derive(Debug)]
struct Kept {
    value: Option<Json>,
    version: u64,
    changed_at: Millis,
    ends: Micros,
}

#[derive(Debug, Default)]
struct Scope {
    holders: HashMap<Uuid, Entry>,
    /// Each member with the number of its holders, never 0.
    members: HashMap<String, u32>,
}

#[derive(Debug)]
struct Entry {
    node: Uuid,
    member: String,
    info: Json,
    /// The time to live of its own, and when it ends.
    ttl: Option<(Duration, Micros)>,
    left: Option<(Per, NewsBody)>,
}

#[derive(Debug)]
struct NodeLease {
    ends: Micros,
    /// The node itself has renewed it since it began.
    known: bool,
    held: HashSet<Held>,
}

impl Store {
    /// Ends whatever has ended by itself. Has to come before every other step.
    pub(crate) fn reap(&mut self, now: Micros) {
        while let Some((_, key)) = pop_due(&mut self.object_ends, now) {
            self.forget_object(&key);
        }
        while let Some((_, held)) = pop_due(&mut self.lease_ends, now) {
            self.end(&held);
        }
        while let Some((_, key)) = pop_due(&mut self.fill_ends, now) {
            self.fills.remove(&key);
        }
    }

    /// Renews a node's own lease. Returns whether it has been there since the last time.
    pub(crate) fn touch(&mut self, node: Uuid, now: Micros) -> bool {
        let lease = self.node(node, now);
        lease.ends = now.saturating_add(micros(NODE_LEASE));
        std::mem::replace(&mut lease.known, true)
    }

    /// Ends what dead nodes held.
    pub(crate) fn reap_nodes(&mut self, now: Micros) {
        let dead = self.nodes.extract_if(|_, lease| lease.ends <= now);
        let held: Vec<Held> = dead.flat_map(|(_, lease)| lease.held).collect();
        for held in &held {
            self.end(held);
        }
    }

    /// What was told since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// A step that tells nobody.
    pub(crate) fn silently<T>(&mut self, step: impl FnOnce(&mut Self) -> T) -> T {
        let told = self.news.len();
        let result = step(self);
        self.news.truncate(told);
        result
    }

    pub(crate) fn object(&self, key: &StateKey) -> Option<Object> {
        let kept = self.objects.get(key)?;
        Some(Object {
            value: kept.value.clone()?,
            version: kept.version,
            changed_at: kept.changed_at,
        })
    }

    pub(crate) fn change(
        &mut self,
        key: &StateKey,
        change: &Change,
        now: Micros,
    ) -> Result<Changed, StateError> {
        let current = self.object(key);
        let is_expected = match change.expected {
            Expected::Anything => true,
            Expected::Nothing => current.is_none(),
            Expected::Version(version) => current.as_ref().is_some_and(|is| is.version == version),
        };
        if !is_expected {
            return Ok(Changed::Conflict { current });
        }
        let version = now.max(self.newest.saturating_add(1));
        let at = millis(now);
        let kept = Kept {
            value: change.value.clone(),
            version,
            changed_at: at,
            ends: now.saturating_add(micros(change.ttl)),
        };
        self.keep(key, kept)?;
        if let (Some(tell), Some(channel)) = (&change.tell, key.channel()) {
            let body = NewsBody::Message {
                data: news_of(version, at, change.value.as_ref()),
                info: None,
                tags: tell.tags.clone(),
            };
            self.news.push(News { channel, body });
        }
        Ok(Changed::Done { version, at })
    }

    /// Puts back what was there, or the memory of a removal, unless something newer is there. Returns the version that is.
    pub(crate) fn put_back(
        &mut self,
        key: &StateKey,
        was: &Was,
        ttl: Duration,
        now: Micros,
    ) -> Result<u64, StateError> {
        if let Some(kept) = self.objects.get(key)
            && kept.version >= was.version
        {
            return Ok(kept.version);
        }
        let kept = Kept {
            value: was.value.clone(),
            version: was.version,
            changed_at: was.changed_at,
            ends: now.saturating_add(micros(ttl)),
        };
        self.keep(key, kept)?;
        Ok(was.version)
    }

    pub(crate) fn enter(&mut self, node: Uuid, lease: &Lease, now: Micros) -> Entered {
        let Held { scope: key, holder } = &lease.held;
        let scope = self.scopes.get(key);
        let before = scope.and_then(|scope| scope.holders.get(holder));
        let stays = before.is_some_and(|entry| entry.member == lease.member);
        let is_there = scope.is_some_and(|scope| scope.members.contains_key(&lease.member));
        if !is_there && let Some(capacity) = lease.capacity {
            // The connection's former member makes room if it leaves with it.
            let members = scope.map_or(0, |scope| {
                let leaves =
                    before.is_some_and(|entry| scope.members.get(&entry.member) == Some(&1));
                scope.members.len() - usize::from(leaves)
            });
            if members >= usize::try_from(capacity).unwrap_or(usize::MAX) {
                return Entered::Full;
            }
        }
        match stays {
            true => self.unlink(&lease.held),
            false => {
                self.end(&lease.held);
            }
        }
        let ttl = lease.ttl.map(|ttl| (ttl, now.saturating_add(micros(ttl))));
        if let Some((_, ends)) = ttl {
            self.lease_ends.insert((ends, lease.held.clone()));
        }
        self.node(node, now).held.insert(lease.held.clone());
        let entry = Entry {
            node,
            member: lease.member.clone(),
            info: lease.info.clone(),
            ttl,
            left: lease
                .announce
                .as_ref()
                .map(|announce| (announce.per, announce.left.clone())),
        };
        let scope = self.scopes.entry(key.clone()).or_default();
        scope.holders.insert(*holder, entry);
        if stays {
            return Entered::Held { first: false };
        }
        *scope.members.entry(lease.member.clone()).or_default() += 1;
        let told = |announce: &&Announce| !is_there || announce.per == Per::Lease;
        let joined = lease.announce.as_ref().filter(told);
        self.tell(key, joined.and_then(|announce| announce.joined.clone()));
        Entered::Held { first: !is_there }
    }

    pub(crate) fn renew(&mut self, held: &Held, now: Micros) -> bool {
        let scope = self.scopes.get_mut(&held.scope);
        let Some(entry) = scope.and_then(|scope| scope.holders.get_mut(&held.holder)) else {
            return false;
        };
        if let Some((ttl, ends)) = &mut entry.ttl {
            let before = (*ends, held.clone());
            self.lease_ends.remove(&before);
            *ends = now.saturating_add(micros(*ttl));
            self.lease_ends.insert((*ends, before.1));
        }
        true
    }

    /// Ends a lease. Returns whether its member has left with it.
    pub(crate) fn end(&mut self, held: &Held) -> bool {
        self.unlink(held);
        let Some(scope) = self.scopes.get_mut(&held.scope) else {
            return false;
        };
        let Some(entry) = scope.holders.remove(&held.holder) else {
            return false;
        };
        let connections = scope.members.get_mut(&entry.member);
        let is_last = match connections {
            Some(connections) if *connections > 1 => {
                *connections -= 1;
                false
            }
            _ => {
                scope.members.remove(&entry.member);
                true
            }
        };
        if scope.holders.is_empty() {
            self.scopes.remove(&held.scope);
        }
        let told = |(per, _): &(Per, NewsBody)| is_last || *per == Per::Lease;
        let left = entry.left.filter(told).map(|(_, left)| left);
        self.tell(&held.scope, left);
        is_last
    }

    pub(crate) fn leases(&self, scope: &StateKey, limit: usize) -> Vec<Holder> {
        let Some(scope) = self.scopes.get(scope) else {
            return Vec::new();
        };
        let holder = |(holder, entry): (&Uuid, &Entry)| Holder {
            holder: *holder,
            member: entry.member.clone(),
            info: entry.info.clone(),
        };
        scope.holders.iter().take(limit).map(holder).collect()
    }

    pub(crate) fn count(&self, scope: &StateKey) -> Count {
        let size = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        self.scopes
            .get(scope)
            .map_or_else(Count::default, |scope| Count {
                holders: size(scope.holders.len()),
                members: size(scope.members.len()),
            })
    }

    pub(crate) fn take(
        &mut self,
        key: &StateKey,
        bucket: Bucket,
        tokens: u32,
        now: Micros,
    ) -> Taken {
        let nanos = now.saturating_mul(1000);
        let before = self.fills.remove(key);
        let mut fill = match before {
            Some(fill) => {
                self.fill_ends.remove(&(end_of(&fill), key.clone()));
                fill
            }
            None => Fill::full(bucket, nanos),
        };
        let taken = fill.take(bucket, tokens, nanos);
        let ends = end_of(&fill);
        if ends > now {
            // Of too many, the one that is full again first is missed least.
            if self.fills.len() >= BUCKETS_MAX
                && let Some((_, fullest)) = self.fill_ends.pop_first()
            {
                self.fills.remove(&fullest);
            }
            self.fill_ends.insert((ends, key.clone()));
            self.fills.insert(key.clone(), fill);
        }
        taken
    }

    /// How many objects (removed ones included), leases and buckets are there.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 3] {
        let leases = self.scopes.values().map(|scope| scope.holders.len()).sum();
        [self.objects.len(), leases, self.fills.len()]
    }

    /// Whether nodes and times to live name exactly the leases that are there.
    #[cfg(test)]
    pub(crate) fn indexes_fit(&self) -> bool {
        let entries = || {
            let of_scope = |(key, scope): (&StateKey, &Scope)| {
                let held = |holder: &Uuid| Held {
                    scope: key.clone(),
                    holder: *holder,
                };
                let entry =
                    |(holder, entry): (&Uuid, &Entry)| (held(holder), entry.node, entry.ttl);
                scope.holders.iter().map(entry).collect::<Vec<_>>()
            };
            self.scopes.iter().flat_map(of_scope)
        };
        let with_ttl = entries().filter_map(|(held, _, ttl)| Some((ttl?.1, held)));
        let by_node = self.nodes.iter();
        let by_node =
            by_node.flat_map(|(id, node)| node.held.iter().map(|held| (held.clone(), *id)));
        with_ttl.collect::<BTreeSet<_>>() == self.lease_ends
            && entries()
                .map(|(held, node, _)| (held, node))
                .collect::<HashSet<_>>()
                == by_node.collect::<HashSet<_>>()
    }

    fn node(&mut self, node: Uuid, now: Micros) -> &mut NodeLease {
        let begin = || NodeLease {
            ends: now.saturating_add(micros(NODE_LEASE)),
            known: false,
            held: HashSet::new(),
        };
        self.nodes.entry(node).or_insert_with(begin)
    }

    fn keep(&mut self, key: &StateKey, kept: Kept) -> Result<(), StateError> {
        let before = self.objects.get(key).map_or(0, |kept| weight(key, kept));
        let bytes = self.objects_bytes - before + weight(key, &kept);
        if bytes > OBJECTS_BYTES_MAX {
            let full = format!("objects of more than {OBJECTS_BYTES_MAX} bytes in memory");
            return Err(StateError::Unavailable(full));
        }
        self.forget_object(key);
        self.objects_bytes = bytes;
        self.newest = self.newest.max(kept.version);
        self.object_ends.insert((kept.ends, key.clone()));
        self.objects.insert(key.clone(), kept);
        Ok(())
    }

    fn forget_object(&mut self, key: &StateKey) {
        if let Some(kept) = self.objects.remove(key) {
            self.objects_bytes -= weight(key, &kept);
            self.object_ends.remove(&(kept.ends, key.clone()));
        }
    }

    /// Takes a lease out of everything but its scope.
    fn unlink(&mut self, held: &Held) {
        let scope = self.scopes.get(&held.scope);
        let Some(entry) = scope.and_then(|scope| scope.holders.get(&held.holder)) else {
            return;
        };
        if let Some((_, ends)) = entry.ttl {
            self.lease_ends.remove(&(ends, held.clone()));
        }
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.held.remove(held);
        }
    }

    fn tell(&mut self, scope: &StateKey, body: Option<NewsBody>) {
        if let (Some(body), Some(channel)) = (body, scope.channel()) {
            self.news.push(News { channel, body });
        }
    }
}

/// The data of the news of a change.
fn news_of(version: u64, at: Millis, value: Option<&Json>) -> Json {
    let mut data = format!(r#"{{"version":{version},"at":{at},"value":"#).into_bytes();
    data.extend_from_slice(value.map_or(b"null", Json::as_bytes));
    data.push(b'}');
    Json::trusted(data.into())
}

fn pop_due<K: Ord>(ends: &mut BTreeSet<(Micros, K)>, now: Micros) -> Option<(Micros, K)> {
    let is_due = ends.first().is_some_and(|(end, _)| *end <= now);
    is_due.then(|| ends.pop_first()).flatten()
}

fn weight(key: &StateKey, kept: &Kept) -> usize {
    let value = kept
        .value
        .as_ref()
        .map_or(0, |value| value.as_bytes().len());
    2 * key.as_str().len() + value + OBJECT_OVERHEAD
}

/// The first microsecond in which a bucket is full.
fn end_of(fill: &Fill) -> Micros {
    fill.full_at().div_ceil(1000)
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

fn millis(micros: Micros) -> Millis {
    Millis::try_from(micros / 1000).unwrap_or(Millis::MAX)
}
