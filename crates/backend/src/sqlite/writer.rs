//! The one thread that writes.
//!
//! What has gathered in its queue is committed together, with one flush. A batch of the log changes nothing unless it
//! succeeds; an app's transaction is a savepoint, so that one that is refused takes back what it did and nothing else.

use std::fs::File;

use fanfare_engine::port::{
    AppendError, Committed, LaneId, LogError, TablesError, TransactError, Transacted, Transaction,
    tables::Migration,
};
use fanfare_wire::{Draft, Epoch};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    batch::{Heads, firsts},
    checkpoint::Checkpoints,
    integer, now,
    retention::{self, Reached, Step},
    schema::Opened,
    seen, tables, unavailable,
};

/// Most jobs that are committed together.
const GROUP_MAX: usize = 64;

/// What the writer is asked for.
pub(super) enum Command {
    /// Commit something.
    Commit(Job),
    /// Do one step of retention.
    Trim {
        step: Step,
        reply: oneshot::Sender<Result<Reached, LogError>>,
    },
    /// Bring an app's tables up to date.
    Migrate {
        app: &'static str,
        migrations: &'static [Migration],
        reply: oneshot::Sender<Result<(), TablesError>>,
    },
}

/// What may be committed together with others of its kind.
pub(super) enum Job {
    Append {
        batch: Vec<Draft>,
        reply: oneshot::Sender<Result<Committed, AppendError>>,
    },
    Transact {
        transaction: Transaction,
        reply: oneshot::Sender<Result<Transacted, TransactError>>,
    },
}

/// What a job becomes if the group is committed.
enum Answer {
    Append(Committed),
    Transact(Result<Transacted, TransactError>),
}

/// The writing end of the file.
pub(super) struct Writer {
    connection: Connection,
    epoch: Epoch,
    lane: LaneId,
    checkpoints: Checkpoints,
    /// The last batch of the lane.
    n: u64,
    heads: Heads,
    /// Held: the folder is ours until the connection is closed. Fields are dropped in order.
    lock: File,
}

/// How far a group came before it failed.
enum Failed {
    BeforeCommit(rusqlite::Error),
    InCommit(rusqlite::Error),
}

impl Writer {
    pub(super) fn new(opened: Opened) -> Self {
        Self {
            connection: opened.connection,
            epoch: opened.epoch,
            lane: opened.lane,
            checkpoints: opened.checkpoints,
            n: 0,
            heads: Heads::default(),
            lock: opened.lock,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut carried = None;
        while let Some(command) = carried.take().or_else(|| queue.blocking_recv()) {
            // Nobody may wait for the answer any more; the work was done nevertheless.
            match command {
                Command::Commit(first) => {
                    let jobs = gather(first, &mut queue, &mut carried);
                    self.commit(jobs);
                }
                Command::Trim { step, reply } => {
                    let step = retention::run(&mut self.connection, (self.lane, self.n), step);
                    let _ = reply.send(step.map_err(|error| unavailable(&error)));
                    self.checkpoints.after_commit(&self.connection);
                }
                Command::Migrate {
                    app,
                    migrations,
                    reply,
                } => {
                    let _ = reply.send(tables::migrate(&mut self.connection, app, migrations));
                }
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        match self.try_commit(&jobs) {
            Ok((answers, n)) => {
                if n > self.n {
                    self.n = n;
                    self.note();
                }
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.answer(answer);
                }
                self.checkpoints.after_commit(&self.connection);
            }
            Err(failed) => {
                // What one saw of another is gone with it, so that no answer stands.
                self.heads.forget();
                for job in jobs {
                    job.fail(&failed);
                }
            }
        }
    }

    /// Gives the answers, and the last batch of the lane.
    fn try_commit(&mut self, jobs: &[Job]) -> Result<(Vec<Answer>, u64), Failed> {
        let mut group = Group {
            transaction: self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(Failed::BeforeCommit)?,
            epoch: &self.epoch,
            lane: self.lane,
            n: self.n,
            heads: &mut self.heads,
        };
        let answers = jobs.iter().map(|job| group.run(job));
        let answers: Result<Vec<_>, _> = answers.collect();
        let answers = answers.map_err(Failed::BeforeCommit)?;
        let Group { transaction, n, .. } = group;
        transaction.commit().map_err(Failed::InCommit)?;
        Ok((answers, n))
    }

    /// Notes how far the log has come. Without the note a file that is put back may go unnoticed; nothing else depends on
    /// it, so a batch that is committed is not refused for it.
    fn note(&self) {
        let noted = seen::note(
            &self.lock,
            self.epoch.as_str(),
            self.lane.0,
            integer(self.n),
        );
        if let Err(error) = noted {
            tracing::debug!(%error, "the lock file cannot be written");
        }
    }
}

/// Takes what has gathered. Work of another kind waits until the group is committed.
fn gather(
    first: Job,
    queue: &mut mpsc::Receiver<Command>,
    carried: &mut Option<Command>,
) -> Vec<Job> {
    let mut jobs = vec![first];
    while jobs.len() < GROUP_MAX
        && let Ok(command) = queue.try_recv()
    {
        match command {
            Command::Commit(job) => jobs.push(job),
            other => {
                *carried = Some(other);
                break;
            }
        }
    }
    jobs
}

/// Jobs that are committed together.
struct Group<'a> {
    transaction: rusqlite::Transaction<'a>,
    epoch: &'a Epoch,
    lane: LaneId,
    /// The last batch of the lane, as far as this group has come.
    n: u64,
    heads: &'a mut Heads,
}

impl Group<'_> {
    /// Does one job. An error is the end of the group.
    fn run(&mut self, job: &Job) -> rusqlite::Result<Answer> {
        match job {
            Job::Append { batch, .. } => Ok(Answer::Append(self.append(batch)?)),
            Job::Transact { transaction, .. } => Ok(Answer::Transact(self.transact(transaction)?)),
        }
    }

    fn append(&mut self, batch: &[Draft]) -> rusqlite::Result<Committed> {
        let next = self.n + 1;
        let numbered = self
            .heads
            .number(&self.transaction, batch, (self.lane, next))?;
        if numbered.in_lane_log {
            self.n = next;
        }
        Ok(Committed {
            epoch: self.epoch.clone(),
            lane: self.lane,
            n: if numbered.in_lane_log { next } else { 0 },
            outcomes: numbered.outcomes,
            contention: None,
        })
    }

    fn transact(
        &mut self,
        work: &Transaction,
    ) -> rusqlite::Result<Result<Transacted, TransactError>> {
        // Nobody else writes, so what is not there now will not be there at the end of the steps.
        let firsts = firsts(&self.transaction, &work.drafts)?;
        if firsts.iter().any(Option::is_some) {
            return Ok(Ok(Transacted::Before {
                epoch: self.epoch.clone(),
                firsts,
            }));
        }
        let savepoint = self.transaction.savepoint()?;
        let rows = match tables::run_steps(&savepoint, &work.steps) {
            Ok(rows) => rows,
            Err(refused) => {
                // Some failures end the transaction around it.
                if savepoint.is_autocommit() {
                    return Err(refused.into_sqlite());
                }
                savepoint.finish()?;
                return Ok(Err(refused.into()));
            }
        };
        let completed = match work.completed(&rows) {
            Ok(completed) => completed,
            Err(refused) => {
                savepoint.finish()?;
                return Ok(Err(refused));
            }
        };
        savepoint.commit()?;
        let time = now();
        let drafts = completed.as_ref().unwrap_or(&work.drafts);
        if drafts.is_empty() {
            let committed = Committed {
                epoch: self.epoch.clone(),
                lane: self.lane,
                n: 0,
                outcomes: Vec::new(),
                contention: None,
            };
            return Ok(Ok(Transacted::Now {
                rows,
                completed,
                committed,
                time,
            }));
        }
        let committed = self.append(drafts)?;
        let time = committed.outcomes.first().map_or(time, |it| it.time);
        Ok(Ok(Transacted::Now {
            rows,
            completed,
            committed,
            time,
        }))
    }
}

impl Job {
    fn answer(self, answer: Answer) {
        // Nobody may wait for it any more. Each has an answer of its own kind: `Group::run` made it.
        match (self, answer) {
            (Self::Append { reply, .. }, Answer::Append(committed)) => {
                let _ = reply.send(Ok(committed));
            }
            (Self::Transact { reply, .. }, Answer::Transact(transacted)) => {
                let _ = reply.send(transacted);
            }
            (Self::Append { .. }, Answer::Transact(_))
            | (Self::Transact { .. }, Answer::Append(_)) => {}
        }
    }

    fn fail(self, failed: &Failed) {
        let (may_be_there, error) = match failed {
            Failed::BeforeCommit(error) => (false, error),
            // The frames did not fit, so the last of them, which makes them count, was not written.
            Failed::InCommit(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                (false, error)
            }
            // They may be in the file; they count if the process dies before it overwrites them.
            Failed::InCommit(error) => (true, error),
        };
        let words = unavailable(error).0;
        match self {
            Self::Append { reply, .. } => {
                let _ = reply.send(Err(match may_be_there {
                    true => AppendError::Unknown(words),
                    false => AppendError::Unavailable(words),
                }));
            }
            Self::Transact { reply, .. } => {
                let _ = reply.send(Err(match may_be_there {
                    true => TransactError::Unknown(words),
                    false => TransactError::Unavailable(words),
                }));
            }
        }
    }
}
