//! Watches a shared state, and asserts what this node knows when the state is back or has lost something.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{debug, info};

use super::{
    keeper::{CALL_MAX, Keeper},
    known::silent,
};
use crate::{
    memory::state::Was,
    port::state::{Change, Changed, Expected, Held, Lease, StateError, StateHealth, StateKey},
};

/// How often a state that answers is asked whether it still has what this node knows.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often a state that does not answer is tried, unless it reports itself that it is back.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the other nodes have to assert what they hold, before those are announced to have left who left while everything
/// was lost.
const OTHERS_FIRST: Duration = Duration::from_millis(2500);

/// Leases in one call.
const BATCH: usize = 512;

/// Leases that are asked for at each look.
const SAMPLE: usize = 32;

/// Objects that are put back at the same time.
const OBJECTS_AT_ONCE: usize = 32;

/// How long the marker lives; it is renewed long before.
const MARKER_TTL: Duration = Duration::from_secs(24 * 3600);

/// When it is renewed.
const MARKER_RENEWAL: Duration = Duration::from_secs(3600);

/// Runs for as long as the node has its state.
pub(super) async fn watch(keeper: Weak<Keeper>) {
    let mut round = Round::default();
    loop {
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        round.look(&keeper).await;
        let is_hasty = keeper.lock().degraded || round.gone_from.is_some();
        let interval = if is_hasty {
            TRY_INTERVAL
        } else {
            LOOK_INTERVAL
        };
        // Somebody may have rung since: then this ends at once.
        let _ = timeout(interval, keeper.wake.notified()).await;
        drop(keeper);
    }
}

/// What the watch remembers from look to look.
#[derive(Debug, Default)]
struct Round {
    /// Where the next sample begins.
    sampled: usize,
    /// When the marker was written.
    marked: Option<Instant>,
    /// Everything was lost, those who left included: they are told from then on.
    gone_from: Option<Instant>,
}

impl Round {
    async fn look(&mut self, keeper: &Keeper) {
        let now = Instant::now();
        let (untold, degraded, is_back, since) = {
            let mut inner = keeper.lock();
            inner.known.purge(now);
            let untold = std::mem::take(&mut inner.untold);
            // What came before is answered by this look; what comes later by another one.
            let is_back = std::mem::take(&mut inner.is_back);
            (untold, inner.degraded, is_back, inner.degraded_since)
        };
        if untold && let Some(events) = keeper.events.get() {
            events.on_down();
        }
        if degraded && !is_back {
            let is_down = keeper.shared.health() == StateHealth::Down;
            let is_new = since.is_some_and(|since| now.duration_since(since) < TRY_INTERVAL);
            if is_down || is_new {
                return;
            }
        }
        if let Err(error) = self.compare(keeper, degraded, is_back).await {
            debug!("the state was not compared with what this node knows: {error}");
        }
    }

    /// Asks what the shared state has, and asserts the rest.
    async fn compare(
        &mut self,
        keeper: &Keeper,
        degraded: bool,
        is_back: bool,
    ) -> Result<(), StateError> {
        let has_lost_all = !self.has_marker(keeper).await?;
        if degraded {
            keeper.resume();
        }
        if degraded || is_back || has_lost_all || self.has_lost_some(keeper).await? {
            let leases = assert_leases(keeper, has_lost_all).await?;
            let objects = assert_objects(keeper).await?;
            keeper.metrics.state_asserted.add(leases + objects);
            if leases + objects > 0 {
                info!("asserted {leases} leases and {objects} objects in the shared state");
            }
            if has_lost_all {
                self.gone_from = Some(Instant::now() + OTHERS_FIRST);
            }
            self.mark(keeper).await?;
            if let Some(events) = keeper.events.get() {
                events.on_up();
            }
        } else if self.marked.is_none_or(|at| at.elapsed() > MARKER_RENEWAL) {
            self.mark(keeper).await?;
        }
        match self.gone_from {
            Some(from) if from > Instant::now() => {}
            from => {
                tell_gone(keeper, from.is_some()).await?;
                self.gone_from = None;
            }
        }
        Ok(())
    }

    async fn has_marker(&self, keeper: &Keeper) -> Result<bool, StateError> {
        let Some(marker) = &keeper.marker else {
            return Ok(true);
        };
        let found = keeper.ask(keeper.shared.object(marker)).await?;
        Ok(found.is_some())
    }

    async fn mark(&mut self, keeper: &Keeper) -> Result<(), StateError> {
        let Some(marker) = &keeper.marker else {
            return Ok(());
        };
        let change = Change {
            expected: Expected::Anything,
            value: Some(fanfare_wire::Json::trusted("1".into())),
            ttl: MARKER_TTL,
            tell: None,
        };
        keeper.ask(keeper.shared.change(marker, change)).await?;
        self.marked = Some(Instant::now());
        Ok(())
    }

    /// Whether leases that this node knows are gone though the state is not empty: dropped by a failover, or because others
    /// took this node for dead.
    async fn has_lost_some(&mut self, keeper: &Keeper) -> Result<bool, StateError> {
        let sample = keeper.lock().known.sample(self.sampled, SAMPLE);
        self.sampled = self.sampled.wrapping_add(SAMPLE);
        if sample.is_empty() {
            return Ok(false);
        }
        let there = keeper.ask(keeper.shared.renew(&sample)).await?;
        let now = Instant::now();
        let inner = keeper.lock();
        // Who was given back meanwhile is not lost.
        let is_lost =
            |(held, there): (&Held, bool)| !there && inner.known.lease(held, now).is_some();
        Ok(sample.iter().zip(there).any(is_lost))
    }
}

/// Takes all leases of this node again. Returns how many.
async fn assert_leases(keeper: &Keeper, silently: bool) -> Result<u64, StateError> {
    // Whoever takes a lease at this moment may have taken it before the loss: it is waited for, and asserted too.
    drop(keeper.gate.write().await);
    let held: Vec<Held> = {
        let inner = keeper.lock();
        let leases = inner.known.leases(Instant::now());
        leases.map(|known| known.lease.held.clone()).collect()
    };
    let mut asserted = 0;
    for batch in held.chunks(BATCH) {
        // Nobody takes or gives back a lease meanwhile, so none comes back that was given back.
        let _gate = keeper.gate.write().await;
        let leases: Vec<Lease> = {
            let inner = keeper.lock();
            let now = Instant::now();
            let known = batch.iter().filter_map(|held| inner.known.lease(held, now));
            known.map(|known| known.again(silently)).collect()
        };
        if leases.is_empty() {
            continue;
        }
        let before = Instant::now();
        keeper.ask(keeper.shared.enter(&leases)).await?;
        let mut inner = keeper.lock();
        for lease in &leases {
            inner.known.asserted(&lease.held);
            inner.known.renewed(&lease.held, before);
            asserted += 1;
        }
    }
    Ok(asserted)
}

/// Puts all objects back that this node has written, as far as nobody has written something newer. Returns how many.
async fn assert_objects(keeper: &Keeper) -> Result<u64, StateError> {
    let objects: Vec<(StateKey, Was, Duration)> = {
        let inner = keeper.lock();
        let objects = inner.known.objects(Instant::now());
        objects
            .map(|(key, was, ttl)| (key.clone(), was.clone(), ttl))
            .collect()
    };
    let mut asserted = 0;
    for batch in objects.chunks(OBJECTS_AT_ONCE) {
        let mut calls = JoinSet::new();
        for (key, was, ttl) in batch.iter().cloned() {
            let shared = Arc::clone(&keeper.shared);
            calls.spawn(async move {
                let there = put_back(shared.as_ref(), &key, &was, ttl).await;
                there.map(|there| (key, there))
            });
        }
        while let Some(there) = calls.join_next().await {
            // A call that panicked is one that was not made.
            let Ok(there) = there else { continue };
            let (key, there) = keeper.ask(async { there }).await?;
            keeper.lock().known.is_superseded(&key, there);
            asserted += 1;
        }
    }
    Ok(asserted)
}

/// Puts an object or its removal back. Returns the version that is there now.
async fn put_back(
    shared: &dyn crate::port::State,
    key: &StateKey,
    was: &Was,
    ttl: Duration,
) -> Result<u64, StateError> {
    let call = async {
        if let Some(object) = was.object() {
            return shared.assert_object(key, &object, ttl).await;
        }
        let there = match shared.object(key).await? {
            Some(object) => object.version,
            None => return Ok(was.version),
        };
        if there > was.version {
            return Ok(there);
        }
        let removal = Change {
            expected: Expected::Version(there),
            value: None,
            ttl,
            tell: None,
        };
        match shared.change(key, removal).await? {
            Changed::Done { version, .. } => Ok(version),
            Changed::Conflict { current } => Ok(current.map_or(was.version, |is| is.version)),
        }
    };
    let late = |_| StateError::Unavailable(format!("no answer within {CALL_MAX:?}"));
    timeout(CALL_MAX, call).await.map_err(late)?
}

/// Ends the leases in the shared state that have ended here. If it has lost everything, nobody has told the others who left:
/// then he comes once more, without a word, and leaves.
async fn tell_gone(keeper: &Keeper, lost: bool) -> Result<(), StateError> {
    loop {
        let _gate = keeper.gate.write().await;
        let gone = keeper.lock().known.gone(BATCH);
        if gone.is_empty() {
            return Ok(());
        }
        if lost {
            let told = gone.iter().filter_map(|(_, lease)| lease.clone());
            let again = |lease: Lease| Lease {
                capacity: None,
                announce: lease.announce.map(silent),
                ..lease
            };
            let leases: Vec<Lease> = told.map(again).collect();
            keeper.ask(keeper.shared.enter(&leases)).await?;
        }
        let held: Vec<Held> = gone.into_iter().map(|(held, _)| held).collect();
        keeper.ask(keeper.shared.leave(&held)).await?;
        let mut inner = keeper.lock();
        held.iter().for_each(|held| inner.known.not_gone(held));
    }
}
