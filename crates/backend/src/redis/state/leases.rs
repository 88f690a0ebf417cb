//! Leases: from the slices of the port to calls of scripts, many leases in each, and back.

use std::collections::HashMap;

use bytes::Bytes;
use fanfare_engine::port::state::{
    Announce, Entered, Held, Holder, Lease, Per, StateError, StateKey,
};
use fanfare_wire::{ChannelName, Json, News, NewsBody};
use redis::Value;
use uuid::Uuid;

use super::{
    KEY_TTL, SCOPES_PER_CALL_MAX, keys, millis,
    pulse::with_scope,
    script::{Call, Script},
    store::{Shared, strange},
};
use crate::redis::topics::Topics;

/// Most leases in one call of a script: a millisecond or two of the server's time.
const LEASES_PER_CALL_MAX: usize = 500;

/// No lease is added to a call that has so many bytes already.
const CALL_BYTES_MAX: usize = 256 << 10;

/// Most calls in one write: their answers must come within the time for one.
const CALLS_PER_WRITE: usize = 4;

/// Stands in the length of a lease's info if its own end is told, not its member's.
const EACH: u32 = 1 << 31;

/// What a script answers when the node has no lease of its own.
const DEAD: &[u8] = b"dead";

/// Takes leases; those that found their node dead are taken once more, under its new name.
pub(super) async fn enter(shared: &Shared, leases: &[Lease]) -> Result<Vec<Entered>, StateError> {
    let mut entered = vec![Entered::Full; leases.len()];
    let mut open: Vec<usize> = (0..leases.len()).collect();
    for _ in 0..2 {
        let node = shared.node();
        open = enter_as(shared, node, leases, &open, &mut entered).await?;
        if open.is_empty() {
            return Ok(entered);
        }
        shared.renamed(node).await?;
    }
    Err(StateError::Unavailable(
        "this node's own lease was lost twice in a moment".to_owned(),
    ))
}

/// Returns the places of those leases that were not taken because the node is dead.
async fn enter_as(
    shared: &Shared,
    node: Uuid,
    leases: &[Lease],
    open: &[usize],
    entered: &mut [Entered],
) -> Result<Vec<usize>, StateError> {
    let items = open.iter().map(|&place| {
        let lease = &leases[place];
        let bytes = lease.member.len() + lease.info.as_bytes().len() * 3;
        (place, &lease.held.scope, bytes)
    });
    let topics = &shared.topics;
    let chunks = plan(topics, items);
    let encode = |chunk: &Chunk<'_>| {
        let partition = chunk.partition;
        let mut call = Call::new(Script::Enter, partition)
            .key(&keys::nodes(topics, partition))
            .key(&keys::scopes(topics, partition, node))
            .key(&keys::due(topics, partition));
        for part in &chunk.parts {
            for key in keys::scope(topics, part.scope) {
                call = call.key(&key);
            }
        }
        call = call.arg(node.as_bytes()).number(millis(KEY_TTL));
        for part in &chunk.parts {
            push_scope(&mut call, topics, part);
            let channel = part.scope.channel();
            for &place in &part.places {
                push_lease(&mut call, node, channel.as_ref(), &leases[place]);
            }
        }
        call
    };
    let mut dead = Vec::new();
    run(shared, &chunks, encode, |place, digit| match digit {
        Some(b'0') => entered[place] = Entered::Full,
        Some(digit) => {
            let first = digit == b'2';
            entered[place] = Entered::Held { first };
        }
        None => dead.push(place),
    })
    .await?;
    Ok(dead)
}

/// Renews leases.
pub(super) async fn renew(shared: &Shared, leases: &[Held]) -> Result<Vec<bool>, StateError> {
    tell_held(shared, leases, |partition| {
        Call::new(Script::Renew, partition)
    })
    .await
}

/// Gives leases back.
pub(super) async fn leave(shared: &Shared, leases: &[Held]) -> Result<Vec<bool>, StateError> {
    let node = shared.node();
    tell_held(shared, leases, |partition| {
        Call::new(Script::Leave, partition).key(&keys::scopes(&shared.topics, partition, node))
    })
    .await
}

async fn tell_held(
    shared: &Shared,
    leases: &[Held],
    begin: impl Fn(usize) -> Call,
) -> Result<Vec<bool>, StateError> {
    let topics = &shared.topics;
    let items = leases.iter().enumerate();
    let chunks = plan(topics, items.map(|(place, held)| (place, &held.scope, 16)));
    let encode = |chunk: &Chunk<'_>| {
        let mut call = begin(chunk.partition);
        for part in &chunk.parts {
            for key in keys::scope(topics, part.scope) {
                call = call.key(&key);
            }
        }
        for part in &chunk.parts {
            push_scope(&mut call, topics, part);
            for &place in &part.places {
                call.push(leases[place].holder.as_bytes());
            }
        }
        call
    };
    let mut told = vec![false; leases.len()];
    run(shared, &chunks, encode, |place, digit| {
        told[place] = digit == Some(b'1');
    })
    .await?;
    Ok(told)
}

/// Who holds leases in a scope: those whose time is over are ended first.
pub(super) async fn list(
    shared: &Shared,
    scope: &StateKey,
    limit: usize,
) -> Result<Vec<Holder>, StateError> {
    let live = shared.live()?;
    let partition = keys::partition(&shared.topics, scope);
    let purge = with_scope(shared, Call::new(Script::Count, partition), scope);
    shared.call_all(&live, &[purge]).await?;
    let [key, ..] = keys::scope(&shared.topics, scope);
    let mut found: HashMap<Uuid, Holder> = HashMap::new();
    let mut cursor = b"0".to_vec();
    while found.len() < limit {
        let (next, fields) =
            super::pulse::scan(shared, &live, partition, "HSCAN", &key, &cursor).await?;
        for pair in fields.chunks_exact(2) {
            if found.len() < limit
                && let Some(holder) = decode(&pair[0], &pair[1])
            {
                found.insert(holder.holder, holder);
            }
        }
        if next == b"0" {
            break;
        }
        cursor = next;
    }
    Ok(found.into_values().collect())
}

/// A part of a batch that one call carries: leases of scopes of one partition.
#[derive(Debug)]
struct Chunk<'a> {
    partition: usize,
    parts: Vec<Part<'a>>,
    leases: usize,
    bytes: usize,
}

/// The leases of one scope in a call, by their places in the batch.
#[derive(Debug)]
struct Part<'a> {
    scope: &'a StateKey,
    places: Vec<usize>,
}

/// Splits a batch of (place, scope, bytes); the leases of one scope stay in their order.
fn plan<'a>(
    topics: &Topics,
    items: impl Iterator<Item = (usize, &'a StateKey, usize)>,
) -> Vec<Chunk<'a>> {
    let mut groups: Vec<(&StateKey, Vec<(usize, usize)>)> = Vec::new();
    let mut known: HashMap<&StateKey, usize> = HashMap::new();
    for (place, scope, bytes) in items {
        let group = *known.entry(scope).or_insert_with(|| {
            groups.push((scope, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push((place, bytes));
    }
    let mut chunks: Vec<Chunk<'a>> = Vec::new();
    let mut open: HashMap<usize, usize> = HashMap::new();
    for (scope, items) in groups {
        let partition = keys::partition(topics, scope);
        let mut part = None;
        for (place, bytes) in items {
            let full = open
                .get(&partition)
                .is_none_or(|&at| chunks[at].is_full(part.is_none()));
            if full {
                open.insert(partition, chunks.len());
                chunks.push(Chunk::new(partition));
                part = None;
            }
            let chunk = &mut chunks[open[&partition]];
            let part = *part.get_or_insert_with(|| {
                let places = Vec::new();
                chunk.parts.push(Part { scope, places });
                chunk.parts.len() - 1
            });
            chunk.parts[part].places.push(place);
            chunk.leases += 1;
            chunk.bytes += bytes;
        }
    }
    chunks
}

impl Chunk<'_> {
    fn new(partition: usize) -> Self {
        Self {
            partition,
            parts: Vec::new(),
            leases: 0,
            bytes: 0,
        }
    }

    fn is_full(&self, for_another_scope: bool) -> bool {
        self.leases >= LEASES_PER_CALL_MAX
            || self.bytes >= CALL_BYTES_MAX
            || (for_another_scope && self.parts.len() >= SCOPES_PER_CALL_MAX)
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        self.parts
            .iter()
            .flat_map(|part| part.places.iter().copied())
    }
}

/// Runs the calls of chunks, some at once; tells the digit of each place, or none where the node was dead.
async fn run<'a>(
    shared: &Shared,
    chunks: &[Chunk<'a>],
    encode: impl Fn(&Chunk<'a>) -> Call,
    mut answer: impl FnMut(usize, Option<u8>),
) -> Result<(), StateError> {
    for chunks in chunks.chunks(CALLS_PER_WRITE) {
        let live = shared.live()?;
        let calls: Vec<Call> = chunks.iter().map(&encode).collect();
        let answers = shared.call_all(&live, &calls).await?;
        for (chunk, digits) in chunks.iter().zip(answers) {
            match digits {
                Value::BulkString(digits) if digits == DEAD => {
                    chunk.places().for_each(|place| answer(place, None));
                }
                Value::BulkString(digits) if digits.len() == chunk.leases => {
                    let digits = digits.iter().copied().map(Some);
                    chunk
                        .places()
                        .zip(digits)
                        .for_each(|(place, digit)| answer(place, digit));
                }
                _ => return Err(strange()),
            }
        }
    }
    Ok(())
}

fn push_scope(call: &mut Call, topics: &Topics, part: &Part<'_>) {
    call.push(part.scope.as_str().as_bytes());
    call.push(keys::topic(topics, part.scope).as_bytes());
    call.push(part.places.len().to_string().as_bytes());
}

fn push_lease(call: &mut Call, node: Uuid, channel: Option<&ChannelName>, lease: &Lease) {
    let frame = |body: &NewsBody| match channel {
        Some(channel) => News {
            channel: channel.clone(),
            body: body.clone(),
        }
        .encode(),
        None => Bytes::new(),
    };
    let announce: Option<&Announce> = lease.announce.as_ref();
    let joined = announce.and_then(|announce| announce.joined.as_ref());
    let left = announce.map_or_else(Bytes::new, |announce| frame(&announce.left));
    let ttl = lease.ttl.map_or(-1, |ttl| i128::from(millis(ttl)));
    call.push(lease.held.holder.as_bytes());
    call.push(&encode(node, lease, &left));
    call.push(lease.capacity.map_or(-1, i64::from).to_string().as_bytes());
    call.push(ttl.to_string().as_bytes());
    call.push(&joined.map_or_else(Bytes::new, frame));
}

/// The value of a lease, as the scripts read it.
fn encode(node: Uuid, lease: &Lease, left: &[u8]) -> Vec<u8> {
    let (member, info) = (lease.member.as_bytes(), lease.info.as_bytes());
    let mut value = Vec::with_capacity(24 + member.len() + info.len() + left.len());
    value.extend_from_slice(node.as_bytes());
    let each = lease.announce.as_ref().map(|it| it.per) == Some(Per::Lease);
    for (text, mark) in [(member, 0), (info, if each { EACH } else { 0 })] {
        // Gateways let nothing in that is nearly as long.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX) & !EACH;
        value.extend_from_slice(&(length | mark).to_le_bytes());
        value.extend_from_slice(text);
    }
    value.extend_from_slice(left);
    value
}

fn decode(holder: &[u8], value: &[u8]) -> Option<Holder> {
    let (member, rest) = text(value.get(16..)?)?;
    let (info, _) = text(rest)?;
    Some(Holder {
        holder: Uuid::from_slice(holder).ok()?,
        member: String::from_utf8(member.to_vec()).ok()?,
        info: Json::trusted(Bytes::copy_from_slice(info)),
    })
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) & !EACH;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use fanfare_wire::Epoch;

    use super::*;

    fn topics(partitions: usize) -> Topics {
        Topics::new("p", &Epoch::parse("e").unwrap(), Uuid::nil(), partitions)
    }

    #[test]
    fn a_batch_is_split_by_partition_and_size_and_keeps_its_order() {
        let scopes: Vec<StateKey> = (0..300)
            .map(|number| StateKey::parse(&format!("k/{number}")).unwrap())
            .collect();
        let items = || (0..3000).map(|place| (place, &scopes[place % 300], 1));
        for partitions in [1, 128] {
            let topics = topics(partitions);
            let chunks = plan(&topics, items());
            let mut seen: HashMap<&StateKey, usize> = HashMap::new();
            let mut places = Vec::new();
            for chunk in &chunks {
                assert!(chunk.leases <= LEASES_PER_CALL_MAX);
                assert!(chunk.parts.len() <= SCOPES_PER_CALL_MAX);
                assert_eq!(chunk.places().count(), chunk.leases);
                for part in &chunk.parts {
                    assert_eq!(keys::partition(&topics, part.scope), chunk.partition);
                    for &place in &part.places {
                        let before = seen.insert(part.scope, place);
                        assert!(before.is_none_or(|before| before < place));
                        places.push(place);
                    }
                }
            }
            places.sort_unstable();
            assert_eq!(places, (0..3000).collect::<Vec<_>>());
        }
        let large = plan(
            &topics(1),
            (0..10).map(|place| (place, &scopes[0], CALL_BYTES_MAX)),
        );
        assert_eq!(large.len(), 10);
    }

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let scope = StateKey::parse("k/s").unwrap();
        let holder = Uuid::new_v4();
        let lease = Lease {
            held: Held { scope, holder },
            member: "münchen".to_owned(),
            info: Json::parse(br#"{"a":1}"#).unwrap(),
            ttl: None,
            capacity: None,
            announce: None,
        };
        let told = |per| Announce {
            per,
            joined: None,
            left: NewsBody::Leave {
                info: lease.info.clone(),
            },
        };
        for announce in [None, Some(told(Per::Member)), Some(told(Per::Lease))] {
            let lease = Lease {
                announce,
                ..lease.clone()
            };
            let value = encode(Uuid::new_v4(), &lease, b"frame");
            let read = decode(holder.as_bytes(), &value).unwrap();
            assert_eq!(
                (read.holder, read.member, read.info),
                (holder, lease.member, lease.info)
            );
            assert!(decode(holder.as_bytes(), &value[..20]).is_none());
            assert!(decode(&[1], &value).is_none());
        }
    }
}
