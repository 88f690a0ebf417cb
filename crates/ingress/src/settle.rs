//! How an attempt ends in the database: done, given up, put off, or given back. Each change holds only if the claim still
//! does, so whoever lost it changes nothing.

use std::time::Duration;

use fanfare_engine::port::{TransactError, Transaction, tables::Step};
use fanfare_wire::Draft;
use tokio::time::{Instant, sleep};
use tracing::debug;
use uuid::Uuid;

use crate::{
    delivery::{HANDLER_STEPS_MAX, HandleError},
    schema,
    store::{Claim, Job, Store, StoreError, attributes_text, reason_text},
};

/// Between two attempts to commit, while the database does not answer.
const COMMIT_RETRY: Duration = Duration::from_millis(200);

/// The steps before the handler's: advance, end.
const STEPS_BEFORE: usize = 2;

/// What an attempt to end a delivery came to.
#[derive(Debug)]
pub(crate) enum Settled {
    /// It is over; this is the next one of the key, whose first attempt has begun.
    Next(Box<Job>),
    /// It is over, and nothing of the key is left.
    Empty,
    /// The claim is another's by now, or the database did not answer for as long as it held.
    Lost,
    /// What the handler wanted to commit cannot be.
    NotHeld(HandleError),
}

impl Store {
    /// Ends a delivery together with what its handler returned.
    pub(crate) async fn done(&self, claim: &Claim, job: &Job, effect: Transaction) -> Settled {
        if effect.steps.len() > HANDLER_STEPS_MAX {
            let reason =
                format!("the handler's transaction has more than {HANDLER_STEPS_MAX} steps");
            return Settled::NotHeld(HandleError::Dead(reason));
        }
        self.settle(claim, job, effect).await
    }

    /// Makes a delivery a dead letter.
    pub(crate) async fn bury(&self, claim: &Claim, job: &Job, reason: &str) -> Settled {
        let delivery = &job.delivery;
        let params = vec![
            delivery.id.to_string().into(),
            claim.source.as_str().into(),
            claim.key.as_str().into(),
            job.rank.into(),
            attributes_text(&delivery.attributes).into(),
            delivery.body.clone().into(),
            delivery.received.into(),
            self.clock.now().into(),
            i64::from(delivery.attempt).into(),
            reason_text(reason).into(),
        ];
        let effect = Transaction {
            steps: vec![Step::some(schema::BURY, params)],
            ..Transaction::default()
        };
        self.settle(claim, job, effect).await
    }

    /// Gives a key back, to be worked on after a wait. `attempts`: how many its first delivery has had.
    pub(crate) async fn release(
        &self,
        claim: &Claim,
        attempts: u32,
        wait: Duration,
    ) -> Result<(), StoreError> {
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2);
        let mut params = claim.params();
        params.push((self.clock.now() + wait).into());
        params.push(i64::from(attempts).into());
        // Without a claim there is nothing to give back.
        self.transact(vec![Step::new(schema::RELEASE, params)])
            .await?;
        Ok(())
    }

    /// Holds a key for another lease. False if it is another's by now.
    pub(crate) async fn renew(&self, claim: &Claim) -> Result<bool, StoreError> {
        let mut params = claim.params();
        params.push(self.lease_end(claim).into());
        match self.transact(vec![Step::some(schema::RENEW, params)]).await {
            Ok(_) => Ok(true),
            Err(TransactError::Refused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn settle(&self, claim: &Claim, job: &Job, mut effect: Transaction) -> Settled {
        let deadline = Instant::now() + claim.lease;
        loop {
            let handler_steps = STEPS_BEFORE..STEPS_BEFORE + effect.steps.len();
            let transaction = self.ending(claim, job, &effect);
            let wait = match self.commit(transaction).await {
                Ok(done) if done.duplicate => {
                    // Its effect was committed before, and its end was not: by a handler that publishes elsewhere too.
                    effect = Transaction::default();
                    continue;
                }
                Ok(done) => {
                    return match claim.job(&done) {
                        Ok(Some(next)) => Settled::Next(Box::new(next)),
                        Ok(None) => Settled::Empty,
                        Err(error) => {
                            debug!(source = %claim.source, %error, "the next delivery cannot be read");
                            Settled::Lost
                        }
                    };
                }
                Err(
                    ref error @ (TransactError::Refused { step } | TransactError::Exists { step }),
                ) => {
                    return match handler_steps.contains(&step) {
                        true => Settled::NotHeld(not_held(error, step)),
                        false => Settled::Lost,
                    };
                }
                Err(TransactError::Statement(words) | TransactError::Finish(words)) => {
                    return Settled::NotHeld(HandleError::retry(words));
                }
                Err(TransactError::Busy { retry_ms }) => Duration::from_millis(retry_ms.into()),
                Err(TransactError::Unavailable(_) | TransactError::Unknown(_)) => COMMIT_RETRY,
            };
            if Instant::now() + wait >= deadline {
                return Settled::Lost;
            }
            sleep(wait).await;
        }
    }

    fn ending(&self, claim: &Claim, job: &Job, effect: &Transaction) -> Transaction {
        let mut advance = claim.params();
        advance.push(self.lease_end(claim).into());
        let mut end = claim.place();
        end.push(job.up_to.into());
        let mut steps = vec![
            Step::some(schema::ADVANCE, advance),
            Step::some(schema::END, end),
        ];
        steps.extend(effect.steps.iter().cloned());
        steps.push(Step::new(schema::FORGET_KEY, claim.place()));
        steps.push(claim.head());
        // Each attempt to commit is one of its own.
        let fresh = |draft: &Draft| Draft {
            id: Uuid::now_v7(),
            ..draft.clone()
        };
        let handlers = STEPS_BEFORE..STEPS_BEFORE + effect.steps.len();
        let finish = effect.finish.clone();
        Transaction {
            steps,
            drafts: effect.drafts.iter().map(fresh).collect(),
            finish: finish.map(|finish| finish.among(handlers)),
        }
    }
}

fn not_held(error: &TransactError, step: usize) -> HandleError {
    let step = step - STEPS_BEFORE;
    HandleError::retry(match error {
        TransactError::Exists { .. } => {
            format!("step {step} of the handler's transaction meets a row that is there already")
        }
        _ => format!("step {step} of the handler's transaction did not come to what it must"),
    })
}
