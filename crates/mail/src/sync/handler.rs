//! What Google tells, and what this server asks itself for: one kind of delivery, worked off one at a time for each mailbox.
//!
//! A notification says no more than "something has changed, up to here". Of many that wait, the one with the highest id is
//! handled and ends all; one that says nothing new needs no question to Google.
//!
//! No notification becomes a dead letter because Google does not answer: after some attempts it ends, the account says when
//! to look again, and the keeper does.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_ingress::{Delivery, HandleError, Handler, Place, Terms, Unfit};
use fanfare_wire::Millis;
use serde::Deserialize;
use tracing::{debug, info, warn};

use crate::{
    account::AccountState,
    event::Event,
    google::GoogleError,
    message::HistoryId,
    schema,
    store::{Linked, StoreError, new_stamp, postpone},
    sync::{
        ADDRESS_BYTES_MAX, Inner,
        metrics::{Outcome, Tally, WalkEnd},
        turns::{Pause, TURN, WALKS_AT_ONCE},
        walk::{End, Trouble, Walk},
    },
};

/// Longest body of a notification, in bytes, its envelope included.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a walk may take; it ends before, between two pieces of its work. What it has committed stays.
const WALK_TIMEOUT: Duration = Duration::from_secs(3 * TURN.as_secs());
/// The longest wait between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Attempts before a notification is left to the keeper; fewer than those after which it were a dead letter.
pub(crate) const PATIENT_ATTEMPTS: u32 = 8;
/// How long the history is given to hold what was notified.
const LAG: Duration = Duration::from_secs(1);
/// How often it is looked whether it does.
const LAG_ATTEMPTS: u32 = 5;

/// Works on what Google tells.
pub(super) struct Notifications(pub(super) Arc<Inner>);

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    email_address: String,
    history_id: HistoryId,
}

pub(super) fn terms() -> Terms {
    Terms {
        body_bytes_max: BODY_BYTES_MAX,
        workers: WALKS_AT_ONCE,
        backoff_max: BACKOFF_MAX,
        attempt_timeout: WALK_TIMEOUT,
        ..Terms::default()
    }
}

impl Notification {
    fn parse(body: &[u8]) -> Option<Self> {
        let parsed: Self = serde_json::from_slice(body).ok()?;
        let address = parsed.email_address.to_lowercase();
        let fits = (1..=ADDRESS_BYTES_MAX).contains(&address.len()) && !address.contains('\0');
        fits.then_some(Self {
            email_address: address,
            ..parsed
        })
    }
}

impl Handler for Notifications {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        let told = Notification::parse(&delivery.body);
        let told = told.ok_or(Unfit::Refuse("it is no notification of Gmail"))?;
        Ok(Place {
            key: told.email_address,
            rank: told.history_id.to_i64(),
        })
    }

    fn supersedes(&self) -> bool {
        true
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async move {
            let inner = &self.0;
            if inner.check_opened().is_err() {
                return Err(HandleError::retry(
                    "the tables of the mail app are not there yet",
                ));
            }
            let Some(told) = Notification::parse(&delivery.body) else {
                return Err(HandleError::Dead(
                    "it is no notification of Gmail".to_owned(),
                ));
            };
            let linked = inner.store.account_of(&told.email_address).await;
            let linked = linked.map_err(|error| HandleError::retry(error.to_string()))?;
            let Some(linked) = linked else {
                info!("Google tells of a mailbox that nobody has connected");
                inner.metrics.notified(Outcome::Unknown);
                return Ok(Transaction::default());
            };
            inner.handle(linked, told.history_id, delivery).await
        })
    }
}

impl Inner {
    async fn handle(
        &self,
        linked: Linked,
        promised: HistoryId,
        delivery: &Delivery,
    ) -> Result<Transaction, HandleError> {
        let state = linked.account.state;
        if state == AccountState::Reconnect {
            self.metrics.notified(Outcome::Parked);
            return Ok(Transaction::default());
        }
        let is_due = linked.poll_at <= self.store.clock.now() || state == AccountState::Syncing;
        if promised <= linked.account.history_id && !is_due {
            self.metrics.notified(Outcome::Known);
            return Ok(Transaction::default());
        }
        let channel = linked.account.user.channel();
        let channel = channel.map_err(|error| HandleError::Dead(error.to_string()))?;
        let walk = Walk {
            inner: self,
            is_asked: linked.poll_at < 0,
            linked: linked.clone(),
            channel,
            turn: self.turns.begin(),
            tally: Tally::default(),
            has_new: false,
        };
        let waits = delivery.attempt < LAG_ATTEMPTS;
        let end = walk.run(promised, waits).await;
        self.keep_grant(&linked.grant).await;
        match end {
            Ok(End::Complete {
                rest,
                changes,
                rest_tally,
            }) => {
                self.metrics.walked(WalkEnd::Complete);
                self.metrics.notified(Outcome::Walked);
                self.metrics.changed(rest_tally);
                if changes > 0 && promised > HistoryId(0) {
                    self.metrics.took(self.since(delivery.received));
                }
                Ok(rest)
            }
            Ok(End::Behind) => {
                self.metrics.walked(WalkEnd::Behind);
                self.retry(
                    Some(LAG),
                    "Gmail's history does not yet hold what was notified",
                )
            }
            Err(trouble) => self.troubled(&linked, trouble, delivery.attempt).await,
        }
    }

    /// What becomes of a delivery whose walk did not come to its end.
    async fn troubled(
        &self,
        linked: &Linked,
        trouble: Trouble,
        attempt: u32,
    ) -> Result<Transaction, HandleError> {
        let (end, after) = match &trouble {
            Trouble::Google(GoogleError::Unauthorised(_)) => {
                self.metrics.walked(WalkEnd::Unauthorised);
                return self.lock_out(linked, &trouble).await;
            }
            Trouble::Paused(pause) => return Ok(self.pause(linked, *pause)),
            Trouble::Google(GoogleError::Slow { after }) => (WalkEnd::Slow, *after),
            Trouble::Google(_) => (WalkEnd::Failed, None),
            Trouble::Outrun => (WalkEnd::Outrun, None),
            Trouble::Store(_) => (WalkEnd::Storage, None),
        };
        self.metrics.walked(end);
        let is_long = after.is_some_and(|after| after > BACKOFF_MAX);
        if attempt < PATIENT_ATTEMPTS && !is_long {
            return self.retry(after, &trouble.to_string());
        }
        let user = &linked.account.user;
        warn!(%user, attempt, error = %trouble, "a mailbox cannot be looked at; it is tried again later");
        self.metrics.notified(Outcome::Postponed);
        let wait = after.map_or_else(|| self.soon(), millis);
        let poll_at = self.store.clock.now() + wait;
        Ok(Transaction {
            steps: vec![postpone(user, poll_at)],
            ..Transaction::default()
        })
    }

    /// Ends a delivery whose walk goes on later. The keeper sees to it.
    fn pause(&self, linked: &Linked, pause: Pause) -> Transaction {
        self.metrics.walked(WalkEnd::Paused);
        self.metrics.notified(Outcome::Postponed);
        let user = &linked.account.user;
        debug!(%user, %pause, "a mailbox is read on later");
        let wait = match pause {
            Pause::Crowded => self.soon(),
            Pause::Long => 0,
        };
        Transaction {
            steps: vec![postpone(user, self.store.clock.now() + wait)],
            ..Transaction::default()
        }
    }

    fn retry(&self, after: Option<Duration>, reason: &str) -> Result<Transaction, HandleError> {
        self.metrics.notified(Outcome::Retried);
        Err(HandleError::Retry {
            after,
            reason: reason.to_owned(),
        })
    }

    /// Tells the owner that the mailbox must be connected again. The walk may have moved the account: it is read again.
    async fn lock_out(
        &self,
        linked: &Linked,
        trouble: &Trouble,
    ) -> Result<Transaction, HandleError> {
        let retry = |error: StoreError| HandleError::retry(error.to_string());
        let now = self.store.account(&linked.account.user).await;
        let Some(now) = now.map_err(retry)? else {
            return Ok(Transaction::default());
        };
        if now.grant.sealed != linked.grant.sealed {
            return self.retry(None, "the mailbox was connected again meanwhile");
        }
        let transaction = self.locked_out(&now).map_err(retry)?;
        let user = &linked.account.user;
        warn!(%user, error = %trouble, "a mailbox must be connected again");
        self.metrics.notified(Outcome::Parked);
        Ok(transaction)
    }

    /// The change to [`AccountState::Reconnect`], which is told once.
    pub(super) fn locked_out(&self, linked: &Linked) -> Result<Transaction, StoreError> {
        if linked.account.state == AccountState::Reconnect {
            return Ok(Transaction::default());
        }
        let event = Event::Error {
            code: "reconnect",
            message: "Google no longer grants access to this mailbox: connect it again",
        };
        let channel = linked.account.user.channel();
        let channel = channel.map_err(|_| StoreError::Row("account"))?;
        Ok(Transaction {
            steps: vec![linked.guarded(schema::LOCK_OUT, &new_stamp(), &[])],
            drafts: vec![event.draft(channel, self.store.clock.now())?],
            ..Transaction::default()
        })
    }

    fn since(&self, time: Millis) -> Duration {
        let passed = self.store.clock.now() - time;
        Duration::from_millis(u64::try_from(passed).unwrap_or(0))
    }
}

pub(super) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_read_as_gmail_writes_them() {
        let told = |body: &str| Notification::parse(body.as_bytes());
        let expected = Notification {
            email_address: "ann@example.com".to_owned(),
            history_id: HistoryId(9876543210),
        };
        for body in [
            r#"{"emailAddress":"Ann@Example.com","historyId":9876543210}"#,
            r#"{"emailAddress":"ann@example.com","historyId":"9876543210","more":1}"#,
        ] {
            assert_eq!(told(body), Some(expected.clone()), "{body}");
        }
        let long = format!(r#"{{"emailAddress":"{}","historyId":1}}"#, "x".repeat(321));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"emailAddress":"","historyId":1}"#,
            r#"{"emailAddress":"a@b","historyId":-1}"#,
            r#"{"emailAddress":"a@b","historyId":"x"}"#,
            r#"{"emailAddress":"a@b"}"#,
            r#"{"emailAddress":7,"historyId":1}"#,
            r#"{"emailAddress":"a\u0000@b","historyId":1}"#,
            &long,
        ] {
            assert_eq!(told(body), None, "{body}");
        }
    }

    #[test]
    fn patience_ends_before_a_notification_is_a_dead_letter() {
        let terms = terms();
        assert!(PATIENT_ATTEMPTS < terms.attempts_max && LAG_ATTEMPTS < PATIENT_ATTEMPTS);
    }
}
