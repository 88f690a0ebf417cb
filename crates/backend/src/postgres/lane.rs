//! The lane: the one session of this node that appends, and what to do when it breaks.
//!
//! A batch whose answer was lost is looked up before anything else happens: the broken lane is retired first, which waits
//! for the batch if it is still running and keeps it from starting if it has not. After that its entry in the lane log
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
    AppendError, Committed, LaneId, LogError, NodeRecord,
    log::{LANE_LOG_KEPT, NODE_SILENCE_MAX},
};
use fanfare_wire::{Draft, Epoch, Millis};
use tokio::sync::MutexGuard;
use tokio_postgres::{Row, types::ToSql};

use super::{
    batch::{Answer, Entry, Plan},
    bigint, collect,
    database::{Database, Session},
    epoch::Memory,
    error::{describe, is_read_only, malformed, unavailable, was_replaced, was_rolled_back},
    pool::{Call, Pool},
};

/// How long the server may take to commit a batch; longer than its own statement timeout.
const APPEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long to look for the outcome of a batch before it counts as unknown.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to look for it.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);
/// How often a batch that was certainly not committed is tried.
const ATTEMPTS_MAX: u32 = 3;
/// The SQLSTATE of a batch in a lane that was retired.
const RETIRED: &str = "FF001";

const STATEMENTS: [&str; 4] = [
    "SELECT heads, batch_time, key_seqs, key_times
     FROM fanfare.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    "SELECT fanfare.open_lane($1, $2, $3)",
    "SELECT channels, firsts, lasts, time FROM fanfare.lane_log WHERE lane = $1 AND n = $2",
    "SELECT known.seq, known.time
     FROM unnest($1::int[], $2::bytea[]) WITH ORDINALITY AS draft (channel, key, place)
     LEFT JOIN fanfare.channels ON channels.name = ($3::text[])[draft.channel]
     LEFT JOIN fanfare.idempotency_keys known
         ON known.channel = channels.id AND known.key = draft.key
     ORDER BY draft.place",
];
const APPEND: usize = 0;
const OPEN: usize = 1;
const FIND_ENTRY: usize = 2;
const FIND_KEYS: usize = 3;

/// What is said when somebody broke off a commit's wait for a synchronous standby: it is visible here, and nowhere else.
const NOT_REPLICATED: &str =
    "the server committed with a warning (see its log): a synchronous standby may not have it";

/// This node's lane, opened again whenever it breaks.
pub(super) struct Lanes {
    database: Arc<Database>,
    node: String,
    slot: tokio::sync::Mutex<Slot>,
    /// The lane in the slot, or the last one that was.
    current: AtomicI64,
    about: Mutex<Option<Bytes>>,
}

#[derive(Default)]
struct Slot {
    open: Option<Lane>,
    /// A lane that must be retired before another one may append: something in it may still be running.
    abandoned: Option<LaneId>,
}

struct Lane {
    id: LaneId,
    next: u64,
    session: Session,
}

/// What became of one call.
enum Sent {
    Committed(Answer),
    /// Nothing was committed.
    RolledBack(LogError),
    /// Nothing was committed, nor can be in this lane.
    Fenced(LogError),
    /// Not known.
    Lost(LogError),
}

/// A batch on its way.
struct BatchId {
    epoch: Epoch,
    lane: LaneId,
    n: u64,
    sent: Instant,
}

/// What was found out about a call that was lost.
enum Found {
    Committed(Answer),
    NotCommitted,
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
        let plan = Plan::new(batch);
        let mut slot = self.slot.lock().await;
        if batch.is_empty() {
            return Ok(Committed {
                epoch: self.database.epoch(),
                lane: self.current(),
                n: 0,
                outcomes: Vec::new(),
            });
        }
        let mut last = LogError(String::new());
        for _ in 0..ATTEMPTS_MAX {
            let mut lane = self.take_lane(&mut slot).await.map_err(not_committed)?;
            let batch = BatchId {
                epoch: lane.session.epoch.clone(),
                lane: lane.id,
                n: lane.next,
                sent: Instant::now(),
            };
            let sent = lane.send(&plan).await;
            if !matches!(sent, Sent::Lost(_)) {
                slot.abandoned = None;
            }
            match sent {
                Sent::Committed(_) if lane.has_warned() => {
                    return Err(unknown(LogError(NOT_REPLICATED.to_owned())));
                }
                // To a server that is no longer the log's.
                Sent::Committed(_) if !self.database.is_current(&lane.session) => {
                    return Err(unknown(was_replaced()));
                }
                Sent::Committed(answer) => {
                    let committed = finish(&plan, &answer, &batch).map_err(unknown)?;
                    if committed.n > 0 {
                        let (lane_id, n) = (batch.lane.0, bigint(batch.n));
                        let seen = |memory: &mut Memory| memory.saw(lane_id, n, answer.time);
                        self.database.remember(&lane.session, seen);
                        lane.next += 1;
                    }
                    slot.open = Some(lane);
                    return Ok(committed);
                }
                Sent::RolledBack(error) => {
                    slot.open = Some(lane);
                    return Err(not_committed(error));
                }
                Sent::Fenced(error) => last = error,
                Sent::Lost(error) => {
                    let (lane_id, n) = (batch.lane.0, batch.n);
                    tracing::warn!(%error, lane = lane_id, n, "looking for the outcome of a commit");
                    drop(lane);
                    let resolving = self.resolve(&mut slot, &batch, &plan);
                    match resolving.await.map_err(unknown)? {
                        Found::Committed(answer) => {
                            return finish(&plan, &answer, &batch).map_err(unknown);
                        }
                        Found::NotCommitted => last = error,
                    }
                }
            }
        }
        Err(not_committed(last))
    }

    /// Tells that this node is alive, and lists those that are.
    pub(super) async fn heartbeat(
        &self,
        pool: &Pool,
        about: Bytes,
    ) -> Result<Vec<NodeRecord>, LogError> {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about.clone());
        // A lane in the middle of an append takes care of itself.
        if let Ok(mut slot) = self.slot.try_lock() {
            self.ensure_open(&mut slot).await?;
        }
        let (records, own) = self.beat(pool, &about).await?;
        if records.iter().any(|record| record.lane == own) {
            return Ok(records);
        }
        // Somebody retired the lane, or it was just replaced.
        let mut slot = self.slot.lock().await;
        if slot.open.as_ref().is_some_and(|lane| lane.id == own) {
            slot.open = None;
        }
        self.ensure_open(&mut slot).await?;
        drop(slot);
        Ok(self.beat(pool, &about).await?.0)
    }

    async fn beat(
        &self,
        pool: &Pool,
        about: &Bytes,
    ) -> Result<(Vec<NodeRecord>, LaneId), LogError> {
        let own = self.current();
        let silence = bigint(NODE_SILENCE_MAX.as_millis() as u64);
        let record = |row: &Row| {
            let about = Bytes::copy_from_slice(row.try_get(1)?);
            Ok(NodeRecord {
                lane: LaneId(row.try_get(0)?),
                about,
            })
        };
        let params: &[&(dyn ToSql + Sync)] = &[&own.0, &about.as_ref(), &silence];
        let asking = pool.query(Call::Heartbeat, params, |session, rows| {
            let records: Vec<NodeRecord> = collect(&rows, record)?;
            if let Some(row) = rows.first() {
                self.learn(session, row, records.iter().any(|it| it.lane == own))?;
            }
            Ok(records)
        });
        Ok((asking.await?, own))
    }

    /// What a heartbeat says about the log. It was a commit if our lane is alive.
    fn learn(&self, session: &Session, row: &Row, committed: bool) -> Result<(), LogError> {
        let epoch: Option<&str> = row.try_get(2).map_err(malformed)?;
        if let Some(epoch) = epoch {
            self.database.told(session, epoch)?;
        }
        let lsn: Option<i64> = row.try_get(3).map_err(malformed)?;
        if let (true, Some(lsn)) = (committed, lsn) {
            self.database
                .remember(session, |memory| memory.reached(lsn));
        }
        Ok(())
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

    async fn ensure_open(&self, slot: &mut MutexGuard<'_, Slot>) -> Result<(), LogError> {
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

    /// Finds out what became of a batch of a broken lane, and leaves a new lane open.
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
                Ok(()) => find(slot, batch, plan).await,
                Err(error) => Err(error),
            };
            match found {
                // A process that was stopped for long may look for an entry that retention has removed.
                Ok(Found::NotCommitted) if batch.sent.elapsed() > LANE_LOG_KEPT / 2 => {
                    return Err(LogError("its entry may have been removed".to_owned()));
                }
                // The commit that opened the lane came later, and waited for the standbys on behalf of both.
                Ok(Found::Committed(_)) if slot.open.as_ref().is_some_and(Lane::has_warned) => {
                    return Err(LogError(NOT_REPLICATED.to_owned()));
                }
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(RESOLVE_PAUSE).await,
            }
        }
    }

    fn current(&self) -> LaneId {
        LaneId(self.current.load(Ordering::Acquire))
    }
}

impl Lane {
    fn has_warned(&self) -> bool {
        self.session.has_warned()
    }

    async fn send(&mut self, plan: &Plan<'_>) -> Sent {
        let n = bigint(self.next);
        let params: &[&(dyn ToSql + Sync)] = &[
            &self.id.0,
            &n,
            &plan.names,
            &plan.counts,
            &plan.channels,
            &plan.ids,
            &plan.data,
            &plan.infos,
            &plan.tags,
            &plan.keys,
        ];
        self.session.forget_warnings();
        let calling = self
            .session
            .client
            .query_one(&self.session.statements[APPEND], params);
        match tokio::time::timeout(APPEND_PATIENCE, calling).await {
            Ok(Ok(row)) => match answer(&row) {
                Ok(answer) => Sent::Committed(answer),
                Err(error) => Sent::Lost(malformed(error)),
            },
            Ok(Err(error)) if is_fence(&error) => Sent::Fenced(unavailable(&error)),
            Ok(Err(error)) if was_rolled_back(&error) => Sent::RolledBack(unavailable(&error)),
            Ok(Err(error)) => Sent::Lost(LogError(describe(&error))),
            Err(_) => Sent::Lost(no_answer()),
        }
    }
}

/// The lane was retired, or its server takes no commits any more; another session may be let in.
fn is_fence(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == RETIRED) || is_read_only(error)
}

fn answer(row: &Row) -> Result<Answer, tokio_postgres::Error> {
    let seqs: Option<Vec<Option<i64>>> = row.try_get(2)?;
    let times: Option<Vec<Option<Millis>>> = row.try_get(3)?;
    let known = seqs
        .unwrap_or_default()
        .into_iter()
        .zip(times.unwrap_or_default());
    let known = known.map(|(seq, time)| seq.zip(time)).collect();
    Ok(Answer {
        heads: row.try_get(0)?,
        time: row.try_get(1)?,
        known,
    })
}

/// Looks for a batch of a lane that was retired before.
async fn find(
    slot: &mut MutexGuard<'_, Slot>,
    batch: &BatchId,
    plan: &Plan<'_>,
) -> Result<Found, LogError> {
    let Some(Lane { session, .. }) = &slot.open else {
        return Err(LogError("no lane".to_owned()));
    };
    if session.epoch != batch.epoch {
        return Err(was_replaced());
    }
    let looking = async {
        let statement = &session.statements[FIND_ENTRY];
        let entry = session
            .client
            .query_opt(statement, &[&batch.lane.0, &bigint(batch.n)])
            .await?;
        let keys = match (&entry, &plan.keys) {
            (Some(_), Some(keys)) => {
                let statement = &session.statements[FIND_KEYS];
                session
                    .client
                    .query(statement, &[&plan.channels, keys, &plan.names])
                    .await?
            }
            _ => Vec::new(),
        };
        Ok::<_, tokio_postgres::Error>((entry, keys))
    };
    let (entry, keys) = match tokio::time::timeout(APPEND_PATIENCE, looking).await {
        Ok(found) => found.map_err(|error| unavailable(&error))?,
        Err(_) => return Err(no_answer()),
    };
    let Some(row) = entry else {
        return Ok(Found::NotCommitted);
    };
    let read = || {
        let known = |row: &Row| {
            let (seq, time): (Option<i64>, Option<Millis>) = (row.try_get(0)?, row.try_get(1)?);
            Ok(seq.zip(time))
        };
        let known = keys.iter().map(known).collect::<Result<_, _>>()?;
        let (names, firsts) = (row.try_get(0)?, row.try_get(1)?);
        let entry = Entry {
            names,
            firsts,
            lasts: row.try_get(2)?,
            time: row.try_get(3)?,
        };
        Ok((entry, known))
    };
    let (entry, known) = read().map_err(malformed)?;
    let answer = plan.rebuild(&entry, known);
    answer
        .map(Found::Committed)
        .ok_or_else(|| LogError("its entry is of another batch".to_owned()))
}

fn finish(plan: &Plan<'_>, answer: &Answer, batch: &BatchId) -> Result<Committed, LogError> {
    let outcomes = plan
        .outcomes(answer)
        .ok_or_else(|| LogError("PostgreSQL answered for another batch".to_owned()))?;
    let fresh = outcomes.iter().any(|outcome| !outcome.duplicate);
    Ok(Committed {
        epoch: batch.epoch.clone(),
        lane: batch.lane,
        n: if fresh { batch.n } else { 0 },
        outcomes,
    })
}

fn no_answer() -> LogError {
    LogError(format!("no answer within {APPEND_PATIENCE:?}"))
}

fn not_committed(error: LogError) -> AppendError {
    AppendError::Unavailable(error.0)
}

fn unknown(error: LogError) -> AppendError {
    AppendError::Unknown(error.0)
}
