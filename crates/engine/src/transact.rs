//! Transact: an app's rows and its publications, committed together.
//!
//! What is taken runs to its end, whether or not somebody still waits for the answer: its publications are committed by
//! then, and have to be shown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::AcqRel},
    },
    time::Duration,
};

use fanfare_wire::Millis;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{
    load::Load,
    metrics::Metrics,
    port::{Tables, TransactError, Transacted, Transaction, tables::Row},
    publish::Published,
    spread::Spread,
    task,
};

/// Transactions that may run or wait on a node. Beyond it they are refused before they are taken.
pub const TRANSACTIONS_MAX: usize = 1000;

/// What a transaction became.
#[derive(Debug, Clone)]
pub struct Done {
    /// What each step returned; nothing at all for a duplicate.
    pub rows: Vec<Vec<Row>>,
    /// One for each draft, in their order, those that were added when they were completed included. For a duplicate only those of the drafts whose keys were there before.
    pub published: Vec<Published>,
    /// When it was committed, by the database's clock; for a duplicate, when the first of those publications was.
    pub time: Millis,
    /// The key of one of its drafts was committed before: nothing was committed now.
    pub duplicate: bool,
}

/// The entrance to the tables.
pub(crate) struct Transactor {
    tables: Arc<dyn Tables>,
    spread: Arc<Spread>,
    metrics: Arc<Metrics>,
    load: Arc<Load>,
    places: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
}

impl Transactor {
    pub(crate) fn new(tables: Arc<dyn Tables>, spread: Arc<Spread>, metrics: Arc<Metrics>) -> Self {
        Self {
            tables,
            spread,
            metrics,
            load: Arc::new(Load::new()),
            places: Arc::new(Semaphore::new(TRANSACTIONS_MAX)),
            taken: Arc::default(),
        }
    }

    pub(crate) fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    /// Takes a transaction and runs it, or refuses it at once.
    pub(crate) async fn transact(&self, transaction: Transaction) -> Result<Done, TransactError> {
        transaction.check()?;
        let place = self.take_place(transaction.weight())?;
        let (tables, spread) = (Arc::clone(&self.tables), Arc::clone(&self.spread));
        let (sender, answer) = oneshot::channel();
        task::spawn(async move {
            let result = tables.transact(&transaction).await;
            spread.check_epoch();
            let result = finish(&spread, transaction, result, place.since.elapsed());
            drop(place);
            // Who no longer waits does not want to know.
            let _ = sender.send(result);
        });
        let stopped = || TransactError::Unknown("the node stopped before the answer".to_owned());
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Waits until everything that was taken is committed or refused.
    pub(crate) async fn flushed(&self) {
        let all = u32::try_from(TRANSACTIONS_MAX).unwrap_or(u32::MAX);
        // An error means that there are no places at all: nothing is waiting.
        let _ = self.places.acquire_many(all).await;
    }

    fn take_place(&self, weight: usize) -> Result<Place, TransactError> {
        let busy = || {
            self.metrics.transactions_busy.add(1);
            let retry_ms = self.load.retry_after(1, Instant::now());
            TransactError::Busy { retry_ms }
        };
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| busy())?;
        if !self.load.take_room(weight) {
            return Err(busy());
        }
        let now = Instant::now();
        if self.taken.fetch_add(1, AcqRel) == 0 {
            self.load.batch_begins(now);
        }
        Ok(Place {
            load: Arc::clone(&self.load),
            taken: Arc::clone(&self.taken),
            weight,
            since: now,
            _permit: permit,
        })
    }
}

/// A place among the transactions of a node, given back in whatever way the transaction ends.
struct Place {
    load: Arc<Load>,
    taken: Arc<AtomicUsize>,
    weight: usize,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.give_room(self.weight);
        let more = self.taken.fetch_sub(1, AcqRel) > 1;
        self.load
            .one_ends(self.since.elapsed(), more, Instant::now());
    }
}

/// Shows what was committed, and counts.
fn finish(
    spread: &Spread,
    transaction: Transaction,
    result: Result<Transacted, TransactError>,
    took: Duration,
) -> Result<Done, TransactError> {
    let metrics = &spread.metrics;
    metrics.transaction_seconds.record(took);
    match result {
        Ok(Transacted::Now {
            rows,
            completed,
            committed,
            time,
        }) => {
            let drafts = completed.unwrap_or(transaction.drafts);
            let runs = spread.show(drafts, &committed);
            spread.hint(&committed, runs);
            metrics.transactions.add(1);
            let published = |outcome| Published::new(&committed.epoch, outcome);
            Ok(Done {
                rows,
                published: committed.outcomes.iter().map(published).collect(),
                time,
                duplicate: false,
            })
        }
        Ok(Transacted::Before { epoch, firsts }) => {
            metrics.transactions_duplicate.add(1);
            let firsts = firsts.iter().flatten();
            let published: Vec<_> = firsts.map(|it| Published::new(&epoch, it)).collect();
            Ok(Done {
                rows: Vec::new(),
                time: published.first().map_or(0, |first| first.time),
                published,
                duplicate: true,
            })
        }
        Err(error) => {
            match &error {
                TransactError::Refused { .. }
                | TransactError::Exists { .. }
                | TransactError::Finish(_) => {
                    metrics.transactions_refused.add(1);
                }
                TransactError::Unknown(_) => {
                    metrics.transactions_failed.add(1);
                    metrics.transactions_unknown.add(1);
                }
                _ => metrics.transactions_failed.add(1),
            }
            Err(error)
        }
    }
}
