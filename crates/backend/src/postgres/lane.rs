//! A lane: a session of this node that commits, one thing at a time, and what to do when it breaks. The batches of the log
//! have one, the transactions of apps a few.
//!
//! A commit whose answer was lost is looked up before anything else happens: the broken lane is retired first, which waits
//! for the commit if it is still running and keeps it from starting if it has not. After that its entry in the lane log
//! is there or will never be. If the log is in another epoch by then, the entry proves nothing: the outcome is unknown.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_engine::port::{
    AppendError, Committed, LaneId, LogError, Outcome, TransactError, Transacted, Transaction,
    log::LANE_LOG_KEPT, tables,
};
use fanfare_wire::{Draft, Epoch};
use tokio::sync::MutexGuard;
use tokio_postgres::types::ToSql;

use super::{
    batch::{Answer, Plan},
    bigint,
    database::{Database, Session},
    epoch::Memory,
    error::{Fault, is_fence, malformed, unavailable, was_replaced, was_rolled_back},
    outcome::{Found, answer, find},
    transact,
};

/// How long the server may take to commit; longer than its own statement timeout.
pub(super) const APPEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long to look for the outcome of a commit before it counts as unknown.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to look for it.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);
/// How often something that was certainly not committed is tried.
const ATTEMPTS_MAX: u32 = 3;

const STATEMENTS: [&str; 5] = [
    "SELECT heads, batch_time, key_seqs, key_times, contended, waited
     FROM fanfare.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    "SELECT fanfare.open_lane($1, $2, $3)",
    "SELECT channels, firsts, lasts, time FROM fanfare.lane_log WHERE lane = $1 AND n = $2",
    "SELECT known.seq, known.time
     FROM unnest($1::int[], $2::bytea[]) WITH ORDINALITY AS draft (channel, key, place)
     LEFT JOIN fanfare.channels ON channels.name = ($3::text[])[draft.channel]
     LEFT JOIN fanfare.idempotency_keys known
         ON known.channel = channels.id AND known.key = draft.key
     ORDER BY draft.place",
    "SELECT heads, batch_time, key_seqs, key_times
     FROM fanfare.append_all($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
];
const APPEND: usize = 0;
const OPEN: usize = 1;
pub(super) const FIND_ENTRY: usize = 2;
pub(super) const FIND_KEYS: usize = 3;
pub(super) const APPEND_ALL: usize = 4;

/// What is said when an answer makes no sense.
const OF_ANOTHER: &str = "PostgreSQL answered for another batch";
/// What is said when somebody broke off a commit's wait for a synchronous standby: it is visible here, and nowhere else.
const NOT_REPLICATED: &str =
    "the server committed with a warning (see its log): a synchronous standby may not have it";

/// The lanes of one session of this node: opened when it is needed, and again whenever it breaks.
pub(super) struct Lanes {
    pub(super) database: Arc<Database>,
    node: String,
    pub(super) slot: tokio::sync::Mutex<Slot>,
    /// The lane in the slot, or the last one that was.
    current: AtomicI64,
    /// What the node says about itself; nothing where another lane says it.
    pub(super) about: Mutex<Option<Bytes>>,
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) open: Option<Lane>,
    /// A lane that must be retired before another one may commit: something in it may still be running.
    abandoned: Option<LaneId>,
}

pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) next: u64,
    pub(super) session: Session,
}

/// What is to be committed.
pub(super) struct Work<'a> {
    /// The drafts as they were given.
    pub(super) plan: Plan<'a>,
    /// An app's transaction; `None` for a batch of the log.
    pub(super) transaction: Option<&'a Transaction>,
}

/// What the steps of a transaction returned.
pub(super) type Rows = Vec<Vec<tables::Row>>;

/// What the steps of one attempt have made of a transaction. Nothing for a batch of the log.
#[derive(Default)]
pub(super) struct Made {
    pub(super) rows: Rows,
    /// The drafts, if they were completed.
    pub(super) completed: Option<Vec<Draft>>,
}

/// What became of one attempt.
pub(super) enum Sent {
    Committed(Answer, Made),
    /// Nothing was committed, and another attempt would come to the same.
    Refused(TransactError),
    /// Nothing was committed: these were before, one for each draft.
    Before(Vec<Option<Outcome>>),
    /// Nothing was committed; another attempt may be.
    Again(LogError),
    /// Nothing was committed, nor can be in this lane.
    Fenced(LogError),
    /// Nothing was committed, and the session is of no use any more.
    Broken(LogError),
    /// Not known.
    Lost(LogError, Made),
}

/// A commit on its way.
pub(super) struct BatchId {
    pub(super) epoch: Epoch,
    pub(super) lane: LaneId,
    pub(super) n: u64,
    sent: Instant,
}

impl Lanes {
    pub(super) fn new(database: Arc<Database>, node: String) -> Self {
        let (slot, current) = Default::default();
        Self {
            database,
            node,
            slot,
            current,
            about: Mutex::default(),
        }
    }

    /// Opens the first lane.
    pub(super) async fn open_first(&self) -> Result<(), LogError> {
        let mut slot = self.slot.lock().await;
        self.ensure_open(&mut slot).await
    }

    /// Commits a batch. If the future is dropped the batch may be committed nevertheless.
    pub(super) async fn append(&self, batch: &[Draft]) -> Result<Committed, AppendError> {
        let work = Work {
            plan: Plan::new(batch),
            transaction: None,
        };
        if batch.is_empty() {
            return Ok(Committed {
                epoch: self.database.epoch(),
                lane: self.current(),
                n: 0,
                outcomes: Vec::new(),
                contention: None,
            });
        }
        match self.commit(&work).await {
            Ok(Transacted::Now { committed, .. }) => Ok(committed),
            // A batch counts its duplicates; this is the answer of a transaction.
            Ok(Transacted::Before { .. }) => Err(AppendError::Unknown(OF_ANOTHER.to_owned())),
            Err(TransactError::Unknown(words)) => Err(AppendError::Unknown(words)),
            Err(TransactError::Unavailable(words)) => Err(AppendError::Unavailable(words)),
            Err(error) => Err(AppendError::Unavailable(error.to_string())),
        }
    }

    /// Commits something. If the future is dropped it may be committed nevertheless.
    pub(super) async fn commit(&self, work: &Work<'_>) -> Result<Transacted, TransactError> {
        let mut slot = self.slot.lock().await;
        let mut last = LogError(String::new());
        for _ in 0..ATTEMPTS_MAX {
            let mut lane = self.take_lane(&mut slot).await.map_err(not_committed)?;
            let batch = BatchId {
                epoch: lane.session.epoch.clone(),
                lane: lane.id,
                n: lane.next,
                sent: Instant::now(),
            };
            let sent = match work.transaction {
                None => lane.append(&work.plan).await,
                Some(transaction) => {
                    transact::send(&lane, &self.database, &work.plan, transaction).await
                }
            };
            if !matches!(sent, Sent::Broken(_) | Sent::Lost(..)) {
                slot.abandoned = None;
            }
            match sent {
                Sent::Committed(..) if lane.session.has_warned() => {
                    return Err(unknown(LogError(NOT_REPLICATED.to_owned())));
                }
                // To a server that is no longer the log's.
                Sent::Committed(..) if !self.database.is_current(&lane.session) => {
                    return Err(unknown(was_replaced()));
                }
                Sent::Committed(answer, made) => {
                    let committed = finish(work, &made, &answer, &batch).map_err(unknown)?;
                    if committed.n > 0 {
                        let (lane_id, n) = (batch.lane.0, bigint(batch.n));
                        let seen = |memory: &mut Memory| memory.saw(lane_id, n, answer.time);
                        self.database.remember(&lane.session, seen);
                        lane.next += 1;
                    }
                    slot.open = Some(lane);
                    return Ok(now(committed, &answer, made));
                }
                Sent::Refused(error) => {
                    slot.open = Some(lane);
                    return Err(error);
                }
                Sent::Before(_) if !self.database.is_current(&lane.session) => {
                    return Err(not_committed(was_replaced()));
                }
                Sent::Before(firsts) => {
                    let epoch = batch.epoch;
                    slot.open = Some(lane);
                    return Ok(Transacted::Before { epoch, firsts });
                }
                Sent::Again(error) => {
                    slot.open = Some(lane);
                    last = error;
                }
                Sent::Fenced(error) | Sent::Broken(error) => last = error,
                Sent::Lost(error, made) => {
                    let (lane_id, n) = (batch.lane.0, batch.n);
                    tracing::warn!(%error, lane = lane_id, n, "looking for the outcome of a commit");
                    drop(lane);
                    let plan = made.plan();
                    let plan = plan.as_ref().unwrap_or(&work.plan);
                    let resolving = self.resolve(&mut slot, &batch, plan);
                    match resolving.await.map_err(unknown)? {
                        Found::Committed(answer) => {
                            let committed =
                                finish(work, &made, &answer, &batch).map_err(unknown)?;
                            return Ok(now(committed, &answer, made));
                        }
                        Found::NotCommitted => last = error,
                    }
                }
            }
        }
        Err(not_committed(last))
    }

    /// The open lane, taken out of the slot. Whoever does not put it back leaves it to be retired.
    async fn take_lane(&self, slot: &mut MutexGuard<'_, Slot>) -> Result<Lane, LogError> {
        self.ensure_open(slot).await?;
        let lane = slot
            .open
            .take()
            .ok_or_else(|| LogError("no lane".to_owned()))?;
        slot.abandoned = Some(lane.id);
        Ok(lane)
    }

    pub(super) async fn ensure_open(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
    ) -> Result<(), LogError> {
        if let Some(lane) = &slot.open {
            if !lane.session.client.is_closed() && self.database.is_current(&lane.session) {
                return Ok(());
            }
            slot.abandoned = Some(lane.id);
            slot.open = None;
        }
        let session = self.database.session(&STATEMENTS).await?;
        let about = self
            .about
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let retire = slot.abandoned.map(|lane| lane.0);
        session.forget_warnings();
        let params: &[&(dyn ToSql + Sync)] = &[&self.node, &about.as_deref(), &retire];
        let opening = session.client.query_one(&session.statements[OPEN], params);
        let row = match tokio::time::timeout(APPEND_PATIENCE, opening).await {
            Ok(row) => row.map_err(|error| unavailable(&error))?,
            Err(_) => return Err(no_answer()),
        };
        let id = LaneId(row.try_get(0).map_err(malformed)?);
        tracing::info!(lane = id.0, retired = retire, "lane opened");
        self.current.store(id.0, Ordering::Release);
        slot.abandoned = None;
        slot.open = Some(Lane {
            id,
            next: 1,
            session,
        });
        Ok(())
    }

    /// Finds out what became of a commit of a broken lane, and leaves a new lane open.
    async fn resolve(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        batch: &BatchId,
        plan: &Plan<'_>,
    ) -> Result<Found, LogError> {
        let deadline = Instant::now() + RESOLVE_PATIENCE;
        loop {
            let opened = self.ensure_open(slot).await;
            if self.database.epoch() != batch.epoch {
                return Err(was_replaced());
            }
            let found = match opened {
                Ok(()) => match &slot.open {
                    Some(lane) => find(&lane.session, batch, plan).await,
                    None => Err(LogError("no lane".to_owned())),
                },
                Err(error) => Err(error),
            };
            match found {
                // A process that was stopped for long may look for an entry that retention has removed.
                Ok(Found::NotCommitted) if batch.sent.elapsed() > LANE_LOG_KEPT / 2 => {
                    return Err(LogError("its entry may have been removed".to_owned()));
                }
                // The commit that opened the lane came later, and waited for the standbys on behalf of both.
                Ok(Found::Committed(_))
                    if slot
                        .open
                        .as_ref()
                        .is_some_and(|lane| lane.session.has_warned()) =>
                {
                    return Err(LogError(NOT_REPLICATED.to_owned()));
                }
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(RESOLVE_PAUSE).await,
            }
        }
    }

    /// The lane, or the last one that was; 0 if there was none yet.
    pub(super) fn current(&self) -> LaneId {
        LaneId(self.current.load(Ordering::Acquire))
    }
}

impl Made {
    /// The completed drafts as the database sees them.
    pub(super) fn plan(&self) -> Option<Plan<'_>> {
        self.completed.as_deref().map(Plan::new)
    }
}

impl Lane {
    async fn append(&self, plan: &Plan<'_>) -> Sent {
        let n = bigint(self.next);
        let params = params(&self.id.0, &n, plan);
        self.session.forget_warnings();
        let statement = &self.session.statements[APPEND];
        let calling = self.session.client.query_one(statement, &params);
        match tokio::time::timeout(APPEND_PATIENCE, calling).await {
            Ok(Ok(row)) => match answer(&row) {
                Ok(answer) => Sent::Committed(answer, Made::default()),
                Err(error) => Sent::Lost(malformed(error), Made::default()),
            },
            Ok(Err(error)) if is_fence(&error) => Sent::Fenced(unavailable(&error)),
            // Some application has locked what it should not, and this batch was picked to give way.
            Ok(Err(error)) if Fault::of(&error) == Fault::Again => Sent::Again(unavailable(&error)),
            Ok(Err(error)) if was_rolled_back(&error) => {
                Sent::Refused(not_committed(unavailable(&error)))
            }
            Ok(Err(error)) => Sent::Lost(unavailable(&error), Made::default()),
            Err(_) => Sent::Lost(no_answer(), Made::default()),
        }
    }
}

/// The parameters of the server-side call.
pub(super) fn params<'a>(
    lane: &'a i64,
    n: &'a i64,
    plan: &'a Plan<'_>,
) -> [&'a (dyn ToSql + Sync); 10] {
    [
        lane,
        n,
        &plan.names,
        &plan.counts,
        &plan.channels,
        &plan.ids,
        &plan.data,
        &plan.infos,
        &plan.tags,
        &plan.keys,
    ]
}

fn finish(
    work: &Work<'_>,
    made: &Made,
    answer: &Answer,
    batch: &BatchId,
) -> Result<Committed, LogError> {
    let plan = made.plan();
    let plan = plan.as_ref().unwrap_or(&work.plan);
    let outcomes = plan
        .outcomes(answer)
        .ok_or_else(|| LogError(OF_ANOTHER.to_owned()))?;
    // A transaction has an entry in the lane log whatever it did.
    let has_entry = work.transaction.is_some() || outcomes.iter().any(|outcome| !outcome.duplicate);
    Ok(Committed {
        epoch: batch.epoch.clone(),
        lane: batch.lane,
        n: if has_entry { batch.n } else { 0 },
        outcomes,
        contention: plan.contention(answer),
    })
}

fn now(committed: Committed, answer: &Answer, made: Made) -> Transacted {
    Transacted::Now {
        rows: made.rows,
        completed: made.completed,
        committed,
        time: answer.time,
    }
}

pub(super) fn no_answer() -> LogError {
    LogError(format!("no answer within {APPEND_PATIENCE:?}"))
}

pub(super) fn not_committed(error: LogError) -> TransactError {
    TransactError::Unavailable(error.0)
}

fn unknown(error: LogError) -> TransactError {
    TransactError::Unknown(error.0)
}
