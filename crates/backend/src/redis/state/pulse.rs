//! What keeps leases honest: every node renews its own, and every node looks for those whose node or whose time has ended.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use fanfare_engine::port::state::{NODE_LEASE, StateError, StateKey};
use redis::{Value, cmd};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use uuid::Uuid;

use super::{
    KEY_TTL, SCOPES_PER_CALL_MAX,
    counters::StateCounters,
    keys, millis,
    script::{Call, Script},
    session::Broken,
    store::{Live, Shared, strange},
};

/// How often a node renews its own lease.
const BEAT_INTERVAL: Duration = Duration::from_secs(3);

/// How often it looks for what has ended.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// When another node has looked within this time, it need not.
const SWEPT: Duration = Duration::from_millis(500);

/// When no node has looked for so long, all were kept from it: then every node has [`NODE_LEASE`] again to be heard of.
const ABSENCE: Duration = Duration::from_secs(3);

/// How long one node may take to clear up after another before the next one helps.
const CLEANING_TIME: Duration = Duration::from_secs(5);

/// Most dead nodes, and most scopes, that one node takes on at once in a partition.
const FINDINGS_MAX: u64 = 64;

/// Leases that one script looks at when it clears up after a node: less than a millisecond.
const REAPED_PER_CALL: u64 = 200;

/// How often all scopes in which this node has leases are kept: well within [`KEY_TTL`].
const KEEP_INTERVAL: Duration = Duration::from_secs(600);

/// A rest after each page of them, for others.
const KEEP_PAUSE: Duration = Duration::from_millis(5);

/// Takes or renews the lease of this node at the begin of a session. A node that Redis does not know any more gets another
/// name: what it held under the old one is cleared away, and cannot be mistaken for what it takes anew.
///
/// So does a node that finds another process of a master than before: a replica that took over, or a restart. What it has
/// may be of a moment ago, with leases that were given back since; nobody but their node could tell that they ended.
pub(super) async fn introduce(shared: &Shared, live: &Live) -> Result<(), StateError> {
    let runs: Vec<_> = live.masters.iter().map(|it| it.run.clone()).collect();
    let are_known = {
        let known = shared.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().all(|run| run.is_some() && known.contains(run))
    };
    let known = are_known && shared.introduced.load(Relaxed) && renew_lease(shared, live).await?;
    if !known {
        take_name(shared, live).await?;
    }
    *shared.runs.lock().unwrap_or_else(PoisonError::into_inner) = runs;
    Ok(())
}

/// Renews the lease of this node until the session breaks.
pub(super) async fn beat(shared: &Arc<Shared>, live: &Arc<Live>) -> Broken {
    let mut ticks = interval(BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.lost.notified() => {}
        }
        match renew_lease(shared, live).await {
            Ok(true) => {}
            Ok(false) => {
                if let Err(error) = take_name(shared, live).await {
                    return error.into();
                }
                tracing::warn!(
                    "this node's lease of the shared state was lost; everything is asserted again"
                );
                shared.up(live);
            }
            Err(error) => return error.into(),
        }
    }
}

/// Whether every partition still knew the node.
async fn renew_lease(shared: &Shared, live: &Live) -> Result<bool, StateError> {
    beat_all(shared, live, shared.node(), "renew", &[]).await
}

async fn take_name(shared: &Shared, live: &Live) -> Result<(), StateError> {
    let (name, before) = (Uuid::new_v4(), shared.node());
    let introduced = shared.introduced.load(Relaxed);
    let before: &[u8] = if introduced { before.as_bytes() } else { &[] };
    beat_all(shared, live, name, "take", before).await?;
    let again = shared.introduced.swap(true, Relaxed);
    StateCounters::add(&shared.counters.rejoined, u64::from(again));
    shared.node.send_replace(name);
    Ok(())
}

async fn beat_all(
    shared: &Shared,
    live: &Live,
    node: Uuid,
    word: &str,
    before: &[u8],
) -> Result<bool, StateError> {
    let topics = &shared.topics;
    let calls: Vec<Call> = (0..topics.partitions())
        .map(|partition| {
            Call::new(Script::Beat, partition)
                .key(&keys::nodes(topics, partition))
                .key(&keys::dead(topics, partition))
                .key(&keys::due(topics, partition))
                .arg(node.as_bytes())
                .number(millis(NODE_LEASE))
                .number(millis(KEY_TTL))
                .arg(word)
                .arg(before)
        })
        .collect();
    let answers = shared.call_all(live, &calls).await?;
    Ok(answers.iter().all(|answer| *answer == Value::Int(1)))
}

/// Gives the lease of this node back: others end at once what it holds.
pub(super) async fn retire(shared: &Shared, live: &Live) -> Result<(), StateError> {
    let topics = &shared.topics;
    for partition in 0..topics.partitions() {
        let mut end = cmd("ZADD");
        end.arg(keys::nodes(topics, partition))
            .arg("XX")
            .arg(0)
            .arg(shared.node().as_bytes());
        shared.command(live, partition, end).await?;
    }
    Ok(())
}

/// Takes away the keys that nodes share. For a state that nobody else uses.
pub(super) async fn erase(shared: &Shared, live: &Live) -> Result<(), StateError> {
    let topics = &shared.topics;
    for partition in 0..topics.partitions() {
        let mut erase = cmd("DEL");
        erase
            .arg(keys::nodes(topics, partition))
            .arg(keys::dead(topics, partition))
            .arg(keys::due(topics, partition))
            .arg(keys::swept(topics, partition))
            .arg(keys::scopes(topics, partition, shared.node()));
        shared.command(live, partition, erase).await?;
    }
    Ok(())
}

/// Ends what has ended until the session breaks.
pub(super) async fn sweep(shared: &Arc<Shared>, live: &Arc<Live>) -> Broken {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep_once(shared, live).await {
            return error.into();
        }
    }
}

async fn sweep_once(shared: &Shared, live: &Live) -> Result<(), StateError> {
    let topics = &shared.topics;
    let calls: Vec<Call> = (0..topics.partitions())
        .map(|partition| {
            Call::new(Script::Sweep, partition)
                .key(&keys::nodes(topics, partition))
                .key(&keys::dead(topics, partition))
                .key(&keys::swept(topics, partition))
                .key(&keys::due(topics, partition))
                .arg(shared.node().as_bytes())
                .number(millis(ABSENCE))
                .number(millis(NODE_LEASE))
                .number(millis(CLEANING_TIME))
                .number(millis(KEY_TTL))
                .number(FINDINGS_MAX)
                .number(millis(SWEPT))
        })
        .collect();
    let answers = shared.call_all(live, &calls).await?;
    for (partition, answer) in answers.into_iter().enumerate() {
        let findings = Findings::parse(answer).ok_or_else(strange)?;
        if !findings.known {
            shared.lost.notify_one();
        }
        for name in findings.due {
            purge(shared, live, partition, &name).await?;
        }
        for node in findings.dead {
            bury(shared, live, partition, node).await?;
        }
    }
    Ok(())
}

/// What a sweep has found in a partition.
struct Findings {
    known: bool,
    dead: Vec<Uuid>,
    due: Vec<Vec<u8>>,
}

impl Findings {
    fn parse(answer: Value) -> Option<Self> {
        let Value::Array(fields) = answer else {
            return None;
        };
        let [Value::Int(known), dead, due] = <[Value; 3]>::try_from(fields).ok()? else {
            return None;
        };
        let dead = texts(dead)?;
        Some(Self {
            known: known == 1,
            dead: dead
                .iter()
                .filter_map(|node| Uuid::from_slice(node).ok())
                .collect(),
            due: texts(due)?,
        })
    }
}

/// Ends the leases of a scope whose own time is over.
async fn purge(
    shared: &Shared,
    live: &Live,
    partition: usize,
    name: &[u8],
) -> Result<(), StateError> {
    let Some(scope) = scope_of(name) else {
        return Ok(());
    };
    let call = Call::new(Script::Purge, partition).key(&keys::due(&shared.topics, partition));
    let answer = shared
        .call_all(live, &[with_scope(shared, call, &scope)])
        .await?;
    if let Some(Value::Int(ended)) = answer.first() {
        note_ended(shared, *ended);
    }
    Ok(())
}

/// Ends all leases of a dead node in a partition. Another node may do the same at the same time: each lease ends once.
async fn bury(
    shared: &Shared,
    live: &Live,
    partition: usize,
    node: Uuid,
) -> Result<(), StateError> {
    let index = keys::scopes(&shared.topics, partition, node);
    let mut done = HashSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let (next, names) = scan(shared, live, partition, "SSCAN", &index, &cursor).await?;
        for name in names {
            if let Some(scope) = scope_of(&name)
                && done.insert(name)
            {
                reap(shared, live, partition, &scope, node).await?;
            }
        }
        if next == b"0" {
            break;
        }
        cursor = next;
    }
    let mut forget = cmd("DEL");
    forget.arg(index);
    shared.command(live, partition, forget).await?;
    let mut forget = cmd("ZREM");
    forget.arg(keys::dead(&shared.topics, partition));
    forget.arg(node.as_bytes());
    shared.command(live, partition, forget).await?;
    if !done.is_empty() {
        StateCounters::add(&shared.counters.buried, 1);
        tracing::info!(%node, scopes = done.len(), "a node is gone; its leases are ended");
    }
    Ok(())
}

async fn reap(
    shared: &Shared,
    live: &Live,
    partition: usize,
    scope: &StateKey,
    node: Uuid,
) -> Result<(), StateError> {
    let mut cursor = b"0".to_vec();
    loop {
        let call = with_scope(shared, Call::new(Script::Reap, partition), scope);
        let call = call
            .arg(node.as_bytes())
            .arg(&cursor)
            .number(REAPED_PER_CALL);
        let answer = shared.call_all(live, &[call]).await?.pop();
        let Some(Value::Array(fields)) = answer else {
            return Err(strange());
        };
        let [Value::BulkString(next), Value::Int(ended)] = fields.as_slice() else {
            return Err(strange());
        };
        note_ended(shared, *ended);
        if next == b"0" {
            return Ok(());
        }
        cursor.clone_from(next);
    }
}

/// Keeps the keys of all scopes in which this node has leases, until the session breaks.
pub(super) async fn keep(shared: &Arc<Shared>, live: &Arc<Live>) -> Broken {
    loop {
        sleep_until(last_kept(shared) + KEEP_INTERVAL).await;
        if let Err(error) = keep_all(shared, live).await {
            return error.into();
        }
    }
}

/// Keeps them once.
pub(super) async fn keep_all(shared: &Shared, live: &Live) -> Result<(), StateError> {
    for partition in 0..shared.topics.partitions() {
        keep_partition(shared, live, partition).await?;
    }
    *shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    Ok(())
}

fn last_kept(shared: &Shared) -> Instant {
    *shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep_partition(shared: &Shared, live: &Live, partition: usize) -> Result<(), StateError> {
    let index = keys::scopes(&shared.topics, partition, shared.node());
    let mut cursor = b"0".to_vec();
    loop {
        let (next, names) = scan(shared, live, partition, "SSCAN", &index, &cursor).await?;
        // A small set comes as one page, whatever its size.
        for names in names.chunks(SCOPES_PER_CALL_MAX) {
            let scopes: Vec<StateKey> = names.iter().filter_map(|name| scope_of(name)).collect();
            let mut call = Call::new(Script::Touch, partition).key(&index);
            for scope in &scopes {
                for key in keys::scope(&shared.topics, scope) {
                    call = call.key(&key);
                }
            }
            call = call.number(millis(KEY_TTL));
            for scope in &scopes {
                call = call.arg(scope.as_str());
            }
            shared.call_all(live, &[call]).await?;
        }
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
        sleep(KEEP_PAUSE).await;
    }
}

/// One page of a key, by SSCAN or HSCAN: where to go on, and what it holds.
pub(super) async fn scan(
    shared: &Shared,
    live: &Live,
    partition: usize,
    command: &str,
    key: &str,
    cursor: &[u8],
) -> Result<(Vec<u8>, Vec<Vec<u8>>), StateError> {
    let mut scan = cmd(command);
    scan.arg(key)
        .arg(cursor)
        .arg("COUNT")
        .arg(SCOPES_PER_CALL_MAX);
    let Value::Array(fields) = shared.command(live, partition, scan).await? else {
        return Err(strange());
    };
    let [Value::BulkString(next), found] = <[Value; 2]>::try_from(fields).map_err(|_| strange())?
    else {
        return Err(strange());
    };
    Ok((next, texts(found).ok_or_else(strange)?))
}

fn texts(value: Value) -> Option<Vec<Vec<u8>>> {
    let Value::Array(values) = value else {
        return None;
    };
    let text = |value| match value {
        Value::BulkString(text) => Some(text),
        _ => None,
    };
    values.into_iter().map(text).collect()
}

fn scope_of(name: &[u8]) -> Option<StateKey> {
    StateKey::parse(std::str::from_utf8(name).ok()?).ok()
}

/// Adds the keys of a scope, its name and its topic.
pub(super) fn with_scope(shared: &Shared, mut call: Call, scope: &StateKey) -> Call {
    for key in keys::scope(&shared.topics, scope) {
        call = call.key(&key);
    }
    call.arg(scope.as_str())
        .arg(keys::topic(&shared.topics, scope))
}

fn note_ended(shared: &Shared, ended: i64) {
    StateCounters::add(
        &shared.counters.ended,
        u64::try_from(ended).unwrap_or_default(),
    );
}
