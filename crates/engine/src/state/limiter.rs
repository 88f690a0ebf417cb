//! Limits of rate that hold for all nodes together, with a bucket of each node in front of the shared one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::fill::{Fill, Nanos};
use crate::{
    metrics::Metrics,
    port::{
        State,
        state::{Bucket, StateHealth, StateKey, Taken},
    },
};

/// Keys of which a limiter remembers anything. Of more, some are forgotten; the shared bucket still knows them.
pub const LIMITER_KEYS_MAX: usize = 100_000;

/// For how long the shared bucket is asked ahead, and after a refusal not asked at all.
const AHEAD: Duration = Duration::from_millis(100);

/// How long tokens that were taken ahead can be used. Then they are lost.
const AHEAD_KEPT: Duration = Duration::from_millis(300);

/// When somebody who was refused because the shared state is away should come back.
const AWAY_RETRY: Duration = Duration::from_secs(1);

/// Keys that nobody needs are looked for that often.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// What a limiter does while the shared state is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// Everything is refused.
    Refuse,
    /// Each node limits alone, to its share: capacity and refill divided by the nodes that are alive.
    Local,
    /// Everything is granted.
    Allow,
}

/// Takes tokens out of shared buckets, and spares the shared state most of the questions: of one key it is asked ten to twenty
/// times a second at most by each node, for as many tokens as this node is likely to need until the next time, and not at all
/// while they are known to be used up.
///
/// What was taken ahead and is not used within 300 ms is lost; from a bucket that gets less than ten tokens a second nothing is
/// taken ahead. So in any time `t` all nodes together grant no more than
/// the capacity and what is added in `t` and those 300 ms. A state that has no other nodes is asked each time, and exact.
pub struct Limiter {
    state: Arc<dyn State>,
    when_away: WhenAway,
    nodes: Arc<dyn Fn() -> usize + Send + Sync>,
    metrics: Arc<Metrics>,
    started: Instant,
    keys: Mutex<Keys>,
}

impl Limiter {
    /// A limiter on a state. `nodes` says how many nodes are alive, this one included.
    #[must_use]
    pub fn new(
        state: Arc<dyn State>,
        when_away: WhenAway,
        nodes: Arc<dyn Fn() -> usize + Send + Sync>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let started = Instant::now();
        Self {
            state,
            when_away,
            nodes,
            metrics,
            started,
            keys: Mutex::new(Keys {
                slots: HashMap::new(),
                purged: started,
            }),
        }
    }

    /// Takes tokens, all or none. Never fails: while the shared state is away, [`WhenAway`] decides. More tokens than the
    /// capacity are refused always, with [`Duration::MAX`].
    pub async fn take(&self, key: &StateKey, bucket: Bucket, tokens: u32) -> Taken {
        let taken = self.decide(key, bucket, tokens).await;
        match taken {
            Taken::Granted { .. } => self.metrics.limits_granted.add(1),
            Taken::Refused { .. } => self.metrics.limits_refused.add(1),
        }
        taken
    }

    async fn decide(&self, key: &StateKey, bucket: Bucket, tokens: u32) -> Taken {
        if tokens > bucket.capacity {
            return Taken::Refused {
                retry_after: Duration::MAX,
            };
        }
        let health = self.state.health();
        if health == StateHealth::Local
            && let Ok(taken) = self.state.take(key, bucket, tokens).await
        {
            return taken;
        }
        let slot = self.slot(key);
        if health == StateHealth::Down {
            return self.alone(&slot, bucket, tokens);
        }
        if let Some(taken) = slot.lock().wish(&bucket, tokens, Instant::now()) {
            return taken;
        }
        let waiting = Waiting::begin(&slot, tokens);
        // One at a time asks, and asks for those who wait as well. It is never closed.
        let _turn = slot.turn.acquire().await;
        drop(waiting);
        if let Some(taken) = slot.lock().use_ahead(&bucket, tokens, Instant::now()) {
            return taken;
        }
        self.ask(&slot, key, bucket, tokens).await
    }

    /// Asks the shared bucket, for more than is needed now if more is going to be needed.
    async fn ask(&self, slot: &Slot, key: &StateKey, bucket: Bucket, tokens: u32) -> Taken {
        let now = Instant::now();
        let (used, mut ahead) = {
            let waiting = slot.waiting.load(Relaxed);
            let mut local = slot.lock();
            let used = local.ahead.min(tokens);
            local.ahead -= used;
            let ahead = local.worth_asking(bucket, tokens - used, waiting, now);
            (used, ahead)
        };
        let missing = tokens - used;
        let mut taken = self.state.take(key, bucket, missing + ahead).await;
        let mut took_all = false;
        if let Ok(Taken::Refused { retry_after }) = &mut taken
            && ahead > 0
        {
            // The time says how many there are.
            let lacking = tokens_in(&bucket, *retry_after).saturating_add(1);
            let there = (missing + ahead).saturating_sub(lacking);
            if there < missing {
                *retry_after = retry_after.saturating_sub(time_of(&bucket, ahead));
            } else {
                ahead = there - missing;
                took_all = true;
                taken = self.state.take(key, bucket, missing + ahead).await;
            }
        }
        let mut local = slot.lock();
        match taken {
            Ok(Taken::Granted { left }) => {
                local.alone = None;
                local.refused = None;
                local.left = Some((left, now));
                local.ahead += ahead;
                local.ahead_until = Some(now + AHEAD_KEPT);
                // A bucket that fills quickly is worth another question when there is something in it again.
                let is_empty = (left == 0 || took_all) && tokens_in(&bucket, AHEAD) > 0;
                local.empty_until = is_empty.then(|| now + AHEAD);
                Taken::Granted {
                    left: left.saturating_add(local.ahead),
                }
            }
            Ok(Taken::Refused { retry_after }) => {
                let retry_after = retry_after.max(AHEAD);
                local.alone = None;
                local.ahead += used;
                local.empty_until = None;
                local.left = Some((0, now));
                let until = now.checked_add(retry_after);
                local.refused = until.map(|until| (until, tokens));
                Taken::Refused { retry_after }
            }
            Err(_) => {
                drop(local);
                self.alone(slot, bucket, tokens)
            }
        }
    }

    /// Decides without the shared bucket.
    fn alone(&self, slot: &Slot, bucket: Bucket, tokens: u32) -> Taken {
        self.metrics.limits_degraded.add(1);
        match self.when_away {
            WhenAway::Refuse => Taken::Refused {
                retry_after: AWAY_RETRY,
            },
            WhenAway::Allow => Taken::Granted {
                left: bucket.capacity - tokens,
            },
            WhenAway::Local => {
                let share = share(bucket, (self.nodes)());
                let now = self.nanos(Instant::now());
                let mut local = slot.lock();
                let fill = local.alone.get_or_insert_with(|| Fill::full(share, now));
                // What fits the bucket of all does not always fit the share of one.
                fill.take(share, tokens.min(share.capacity), now)
            }
        }
    }

    fn slot(&self, key: &StateKey) -> Arc<Slot> {
        let now = Instant::now();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = keys.slots.get(key) {
            return Arc::clone(slot);
        }
        let is_full = keys.slots.len() >= LIMITER_KEYS_MAX;
        if is_full || now.duration_since(keys.purged) > PURGE_INTERVAL {
            keys.purge(now, self.nanos(now));
        }
        let slot = Arc::new(Slot::default());
        keys.slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }

    fn nanos(&self, now: Instant) -> Nanos {
        let since = now.saturating_duration_since(self.started).as_nanos();
        Nanos::try_from(since).unwrap_or(Nanos::MAX)
    }
}

struct Keys {
    slots: HashMap<StateKey, Arc<Slot>>,
    purged: Instant,
}

impl Keys {
    /// Forgets the keys that nobody needs, and if these are too few, a quarter of the others.
    fn purge(&mut self, now: Instant, nanos: Nanos) {
        self.purged = now;
        self.slots
            .retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().is_needed(now, nanos));
        let room = LIMITER_KEYS_MAX / 4;
        let mut surplus = self.slots.len().saturating_sub(LIMITER_KEYS_MAX - room);
        if surplus < room {
            return;
        }
        self.slots.retain(|_, _| {
            let stays = surplus == 0;
            surplus = surplus.saturating_sub(1);
            stays
        });
    }
}

/// What this node knows of one bucket.
struct Slot {
    local: Mutex<Local>,
    /// Taken by the one who asks.
    turn: Semaphore,
    /// Tokens of those who wait for it.
    waiting: AtomicU32,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            local: Mutex::default(),
            turn: Semaphore::new(1),
            waiting: AtomicU32::new(0),
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Local {
    /// Tokens taken ahead.
    ahead: u32,
    ahead_until: Option<Instant>,
    /// The last refusal: until when, and of how many tokens.
    refused: Option<(Instant, u32)>,
    /// The shared bucket was empty after the last question: until when it is not asked again.
    empty_until: Option<Instant>,
    /// What the shared bucket had left, and when.
    left: Option<(u32, Instant)>,
    /// Wishes in the span of [`AHEAD`] that began then, and in the one before it.
    wished: [u32; 2],
    span: Option<Instant>,
    /// This node's share of the bucket while the shared state is away.
    alone: Option<Fill>,
}

impl Local {
    /// Counts a wish, and decides it if that is possible here.
    fn wish(&mut self, bucket: &Bucket, tokens: u32, now: Instant) -> Option<Taken> {
        match self.span.map(|span| now.duration_since(span)) {
            Some(since) if since < AHEAD => {}
            Some(since) if since < 2 * AHEAD => {
                self.wished = [0, self.wished[0]];
                self.span = Some(now);
            }
            _ => {
                self.wished = [0, 0];
                self.span = Some(now);
            }
        }
        self.wished[0] = self.wished[0].saturating_add(tokens);
        self.use_ahead(bucket, tokens, now)
    }

    fn use_ahead(&mut self, bucket: &Bucket, tokens: u32, now: Instant) -> Option<Taken> {
        if self.ahead_until.is_none_or(|until| until <= now) {
            self.ahead = 0;
        }
        if self.ahead >= tokens {
            self.ahead -= tokens;
            let left = self.left.map_or(0, |(left, _)| left);
            return Some(Taken::Granted {
                left: left.saturating_add(self.ahead),
            });
        }
        if let Some(until) = self.empty_until.filter(|until| *until > now) {
            return Some(Taken::Refused {
                retry_after: (until - now).max(time_of(bucket, tokens)),
            });
        }
        let (until, refused) = self.refused?;
        let is_refused = until > now && tokens >= refused;
        is_refused.then(|| Taken::Refused {
            retry_after: until - now,
        })
    }

    /// How many tokens to take ahead: for those who wait, or as many as were wished for lately, if so many are likely to be
    /// there.
    fn worth_asking(&self, bucket: Bucket, missing: u32, waiting: u32, now: Instant) -> u32 {
        let there = match self.left {
            Some((left, at)) => {
                let since = now.saturating_duration_since(at);
                left.saturating_add(tokens_in(&bucket, since))
            }
            None => bucket.capacity,
        };
        let there = there.min(bucket.capacity).saturating_sub(missing);
        // The wish that asks is among those that were counted. Of a bucket that fills slowly nothing is taken that might be
        // lost: its tokens are so few that asking for each costs little.
        let lately = match tokens_in(&bucket, AHEAD) {
            0 => 0,
            _ => self.wished[0].saturating_sub(missing).max(self.wished[1]),
        };
        waiting.max(lately).min(there)
    }

    /// Whether forgetting it would change a decision.
    fn is_needed(&self, now: Instant, nanos: Nanos) -> bool {
        let is_later = |until: Option<Instant>| until.is_some_and(|until| until > now);
        is_later(self.ahead_until)
            || is_later(self.empty_until)
            || is_later(self.refused.map(|(until, _)| until))
            || self.alone.is_some_and(|fill| fill.full_at() > nanos)
    }
}

/// Somebody waits for its turn.
struct Waiting<'a> {
    slot: &'a Slot,
    tokens: u32,
}

impl<'a> Waiting<'a> {
    fn begin(slot: &'a Slot, tokens: u32) -> Self {
        slot.waiting.fetch_add(tokens, Relaxed);
        Self { slot, tokens }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slot.waiting.fetch_sub(self.tokens, Relaxed);
    }
}

/// Whole tokens that are added in a time.
fn tokens_in(bucket: &Bucket, time: Duration) -> u32 {
    let period = bucket.period.as_nanos().max(1);
    let added = u128::from(bucket.refill.max(1)).saturating_mul(time.as_nanos()) / period;
    u32::try_from(added).unwrap_or(u32::MAX)
}

/// The time in which tokens are added.
fn time_of(bucket: &Bucket, tokens: u32) -> Duration {
    let time = bucket.period.as_nanos().saturating_mul(u128::from(tokens));
    let nanos = time.div_ceil(u128::from(bucket.refill.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// One node's part of a bucket: the capacity is divided, and the same refill comes in a longer period.
fn share(bucket: Bucket, nodes: usize) -> Bucket {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    Bucket {
        capacity: (bucket.capacity / nodes).max(1),
        refill: bucket.refill,
        period: bucket.period.saturating_mul(nodes),
    }
}

#[cfg(test)]
mod tests;
