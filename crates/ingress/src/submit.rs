//! Deliveries of this system itself: kept, put in order, collapsed and worked off like those of others.
//!
//! An app that has to look at something without having been told to (after silence, or because somebody asks) submits a delivery
//! to its own source, and its handler need not know of any other way to be called.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use thiserror::Error;
use tracing::debug;
use uuid::Uuid;

use crate::{
    Shared,
    delivery::{Delivery, Unfit},
    store::{Kept, SUBMITTED_KEPT},
};

/// Longest text that a submitted delivery is known by, in bytes.
pub const DEDUP_BYTES_MAX: usize = 200;

/// Submits deliveries to the sources of an ingress. Cheap to clone; does not keep the ingress alive.
#[derive(Clone)]
pub struct Submitter(Weak<Shared>);

/// Why a delivery was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The ingress has ended.
    #[error("the webhooks of this node have ended")]
    Ended,
    /// There is no such source.
    #[error("there is no webhook of this name")]
    UnknownSource,
    /// It is longer than the source allows.
    #[error("it is longer than the webhook's body_bytes_max")]
    TooLong,
    /// What it is to be known by is empty, longer than [`DEDUP_BYTES_MAX`], or holds a NUL.
    #[error("what a delivery is known by is 1 to {DEDUP_BYTES_MAX} bytes without NUL")]
    Dedup,
    /// Its handler does not take it.
    #[error("its handler does not take it: {0}")]
    Unfit(Unfit),
    /// Its handler puts it nowhere.
    #[error("its handler gives it a key that cannot be kept")]
    Key,
    /// Too many deliveries of the source wait; try again later.
    #[error("too many deliveries of the webhook wait")]
    Full,
    /// The database does not answer, or not yet; try again later.
    #[error("the database does not answer")]
    Storage,
}

impl Submitter {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Keeps a delivery to a source, unless one that is known by the same `dedup` was submitted to it within 36 hours; true if it
    /// is kept now. What others deliver is never known by the same. It has no attributes.
    ///
    /// # Errors
    /// [`SubmitError`]: it is not kept; after [`SubmitError::Storage`] it may be.
    pub async fn submit(
        &self,
        source: &str,
        body: Bytes,
        dedup: &str,
    ) -> Result<bool, SubmitError> {
        let shared = self.0.upgrade().ok_or(SubmitError::Ended)?;
        let desk = shared.desks.get(source).ok_or(SubmitError::UnknownSource)?;
        let source = &desk.source;
        if body.len() > source.terms.body_bytes_max {
            return Err(SubmitError::TooLong);
        }
        if !(1..=DEDUP_BYTES_MAX).contains(&dedup.len()) || dedup.contains('\0') {
            return Err(SubmitError::Dedup);
        }
        let delivery = Delivery {
            id: Uuid::now_v7(),
            source: source.name.clone(),
            received: shared.store.clock.now(),
            attributes: BTreeMap::new(),
            body,
            attempt: 0,
        };
        let place = source
            .handler
            .place(&delivery)
            .map_err(SubmitError::Unfit)?;
        if !place.is_sound() {
            return Err(SubmitError::Key);
        }
        if !shared.opened.load(Relaxed) {
            return Err(SubmitError::Storage);
        }
        if desk.is_full() {
            return Err(SubmitError::Full);
        }
        let dedups = [format!("own:{dedup}")];
        let kept = shared
            .store
            .keep(&delivery, &place, &dedups, SUBMITTED_KEPT)
            .await;
        let kept = kept.map_err(|error| {
            debug!(source = %source.name, %error, "a delivery cannot be kept");
            SubmitError::Storage
        })?;
        shared.metrics.submitted(&source.name, kept == Kept::Before);
        desk.nudge();
        Ok(kept == Kept::Now)
    }
}
