//! A turn of work on one key: its deliveries, one after the other, for as long as the claim holds.

use std::{panic::AssertUnwindSafe, time::Duration};

use fanfare_engine::port::Transaction;
use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, interval_at, timeout},
};
use tracing::{debug, warn};

use crate::{
    backoff::wait_after,
    delivery::{Delivery, HandleError},
    metrics::{Metrics, Worked},
    settle::Settled,
    source::Source,
    store::{Claim, Job, Store, StoreError},
};

/// Deliveries of one key that a turn ends before others have theirs.
pub(crate) const TURN_MAX: usize = 64;

/// A turn of work on one key.
pub(crate) struct Turn<'a> {
    pub(crate) store: &'a Store,
    pub(crate) metrics: &'a Metrics,
    pub(crate) source: &'a Source,
    pub(crate) claim: Claim,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// How one attempt ended.
enum Attempt {
    Done(Transaction),
    Failed(HandleError),
    /// Somebody else has the key.
    Lost,
    /// The node is to stop.
    Stopped,
}

/// What comes after a delivery.
enum Then {
    Next(Box<Job>),
    End,
}

impl Turn<'_> {
    /// Claims the key and works on it. False if there was nothing to claim.
    pub(crate) async fn run(mut self) -> Result<bool, StoreError> {
        let Some(mut job) = self.store.claim(&self.claim).await? else {
            return Ok(false);
        };
        for _ in 0..TURN_MAX {
            match self.one(&job).await {
                Then::Next(next) => job = *next,
                Then::End => return Ok(true),
            }
            if *self.stopping.borrow() {
                break;
            }
        }
        // Its first attempt has begun on paper only.
        self.store.release(&self.claim, 0, Duration::ZERO).await?;
        Ok(true)
    }

    async fn one(&mut self, job: &Job) -> Then {
        let delivery = &job.delivery;
        let terms = &self.source.terms;
        if delivery.attempt > terms.attempts_max {
            let reason = "its attempts did not end: nodes died or hung while they worked on it";
            return self.dead(job, reason).await;
        }
        let settled = match self.attempt(delivery).await {
            Attempt::Done(effect) => self.store.done(&self.claim, job, effect).await,
            Attempt::Failed(error) => Settled::NotHeld(error),
            Attempt::Lost => Settled::Lost,
            Attempt::Stopped => {
                self.give_back(delivery.attempt.saturating_sub(1), Duration::ZERO)
                    .await;
                return Then::End;
            }
        };
        match settled {
            Settled::NotHeld(HandleError::Dead(reason)) => self.dead(job, &reason).await,
            Settled::NotHeld(HandleError::Retry { reason, .. })
                if delivery.attempt >= terms.attempts_max =>
            {
                self.dead(job, &reason).await
            }
            Settled::NotHeld(HandleError::Retry { after, reason }) => {
                self.metrics.count(&self.source.name, Worked::Retried);
                let wait = after.map_or_else(
                    || wait_after(delivery.attempt, terms, &mut rand::rng()),
                    |after| after.min(terms.backoff_max),
                );
                debug!(source = %self.source.name, id = %delivery.id, attempt = delivery.attempt,
                    reason, wait_ms = wait.as_millis(), "a delivery is put off");
                self.give_back(delivery.attempt, wait).await;
                Then::End
            }
            settled => self.over(settled, Worked::Done, delivery).await,
        }
    }

    async fn dead(&mut self, job: &Job, reason: &str) -> Then {
        let delivery = &job.delivery;
        warn!(source = %self.source.name, id = %delivery.id, attempts = delivery.attempt, reason,
            "a delivery becomes a dead letter");
        let settled = self.store.bury(&self.claim, job, reason).await;
        self.over(settled, Worked::Dead, delivery).await
    }

    async fn over(&self, settled: Settled, how: Worked, delivery: &Delivery) -> Then {
        match settled {
            Settled::Next(next) => {
                self.metrics.count(&self.source.name, how);
                Then::Next(next)
            }
            Settled::Empty => {
                self.metrics.count(&self.source.name, how);
                Then::End
            }
            Settled::Lost | Settled::NotHeld(_) => {
                self.metrics.count(&self.source.name, Worked::Lost);
                // It may still be ours, if only the database was away.
                self.give_back(delivery.attempt.saturating_sub(1), Duration::ZERO)
                    .await;
                Then::End
            }
        }
    }

    /// Without success the lease ends by itself.
    async fn give_back(&self, attempts: u32, wait: Duration) {
        if let Err(error) = self.store.release(&self.claim, attempts, wait).await {
            debug!(source = %self.source.name, %error, "a claim cannot be given back");
        }
    }

    /// Runs the handler for as long as the claim can be held.
    async fn attempt(&mut self, delivery: &Delivery) -> Attempt {
        let work = AssertUnwindSafe(self.source.handler.handle(delivery)).catch_unwind();
        let work = timeout(self.source.terms.attempt_timeout, work);
        tokio::pin!(work);
        let lease = self.claim.lease;
        let mut ticks = interval_at(Instant::now() + lease / 3, lease / 3);
        let mut held_until = Instant::now() + lease;
        let mut stopping = self.stopping.clone();
        loop {
            tokio::select! {
                worked = &mut work => {
                    let failed = |reason: &str| Attempt::Failed(HandleError::retry(reason));
                    return match worked {
                        Ok(Ok(Ok(effect))) => Attempt::Done(effect),
                        Ok(Ok(Err(error))) => Attempt::Failed(error),
                        Ok(Err(_)) => failed("the handler panicked"),
                        Err(_) => failed("the handler took too long"),
                    };
                }
                _ = ticks.tick() => match self.store.renew(&self.claim).await {
                    Ok(true) => held_until = Instant::now() + lease,
                    Ok(false) => return Attempt::Lost,
                    Err(_) if Instant::now() >= held_until => return Attempt::Lost,
                    Err(error) => debug!(source = %self.source.name, %error, "a claim cannot be renewed"),
                },
                () = told(&mut stopping) => return Attempt::Stopped,
            }
        }
    }
}

/// Returns when the node is to stop.
pub(crate) async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could tell: the node ends.
    let _ = stopping.wait_for(|stop| *stop).await;
}
