//! What is delivered, and who works on it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fanfare_engine::port::{BoxFuture, Transaction, tables::STEPS_MAX};
use fanfare_wire::Millis;
use thiserror::Error;
use uuid::Uuid;

use crate::{source::SourceName, store::OWN_STEPS_MAX};

/// Longest key of a delivery, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Most steps of a handler's transaction; the rest belongs to the acknowledgement.
pub const HANDLER_STEPS_MAX: usize = STEPS_MAX - OWN_STEPS_MAX;

/// One message of another system, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its identity here. It keeps it when it is replayed.
    pub id: Uuid,
    /// Who sent it.
    pub source: SourceName,
    /// When it was kept, by the database's clock; when it arrived, before that.
    pub received: Millis,
    /// What the sender says about it: for Pub/Sub the message's attributes, `messageId` and `publishTime`.
    pub attributes: BTreeMap<String, String>,
    /// The payload: the body as it was signed, or the data of the Pub/Sub message.
    pub body: Bytes,
    /// The number of this attempt, from 1; 0 before the first.
    pub attempt: u32,
}

/// Where a delivery belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Deliveries of one key are worked off in order, one at a time. 1 to [`KEY_BYTES_MAX`] bytes without NUL.
    pub key: String,
    /// Which of several is the newest, where newer ones supersede older ones ([`Handler::supersedes`]); otherwise without
    /// meaning. Of equal ones the one that came later.
    pub rank: i64,
}

/// What a delivery is not worth keeping for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It is not what the handler understands: answered with 400.
    #[error("{0}")]
    Refuse(&'static str),
    /// It is longer than the handler takes: answered with 413.
    #[error("it is too long")]
    TooLong,
    /// It concerns nobody here, and would not later: acknowledged, counted and forgotten, so that it is not sent again.
    #[error("{0}")]
    Ignore(&'static str),
}

/// Why a delivery was not worked off this time. The words are for operators: no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandleError {
    /// Trying again may help. After the source's number of attempts it is a dead letter.
    #[error("{reason}")]
    Retry {
        /// Not before; by the source's backoff if it is not said.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
    },
    /// Trying again does not help: a dead letter at once.
    #[error("{0}")]
    Dead(String),
}

/// What an app does with the deliveries of a source.
///
/// What the ingress promises: a delivery that was acknowledged is handled, on some node, until [`handle`](Self::handle) has
/// succeeded once or the delivery is a dead letter. Deliveries of one key are handled one at a time, in the order in which
/// they were kept. **What `handle` returns is committed together with the end of the delivery**, so its effect happens exactly
/// once. Whatever else it does (a call to another system) may happen again after a crash and must be idempotent.
pub trait Handler: Send + Sync + 'static {
    /// Where a delivery belongs. Called before it is kept; must be quick and without effect.
    ///
    /// # Errors
    /// [`Unfit`]: it is not kept.
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit>;

    /// Newer deliveries of a key supersede older ones: of those that wait only the one with the highest
    /// [rank](Place::rank) is handled, and ends all that were there when it was taken. Those that arrive meanwhile wait for the
    /// next turn: none is dropped.
    fn supersedes(&self) -> bool {
        false
    }

    /// Works on a delivery and returns what is to be committed with its end; nothing is a good answer. At most
    /// [`HANDLER_STEPS_MAX`] steps. If a guard of it does not hold, the delivery is tried again; if the idempotency key of one
    /// of its drafts was used before, its effect counts as done. The future is dropped if the node loses its claim.
    ///
    /// # Errors
    /// [`HandleError`]: nothing is committed.
    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>>;
}

impl HandleError {
    /// To be tried again by the source's backoff.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            reason: reason.into(),
        }
    }
}

impl Place {
    /// A place whose deliveries are all worked off.
    #[must_use]
    pub fn of(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            rank: 0,
        }
    }

    /// Whether the database can keep it.
    pub(crate) fn is_sound(&self) -> bool {
        (1..=KEY_BYTES_MAX).contains(&self.key.len()) && !self.key.contains('\0')
    }
}
