//! The one thread that writes.
//!
//! It keeps the heads of the channels it wrote to lately; nobody else writes, so they are what the file says. After any
//! failure it forgets them.

use std::{collections::HashMap, fmt::Write as _, fs::File};

use fanfare_engine::port::{AppendError, Committed, LaneId, LogError, Outcome};
use fanfare_wire::{ChannelName, Draft, Epoch, Json, Millis, Seq};
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    integer, now,
    retention::{self, Reached, Step},
    seen,
    sum::RowValues,
    unavailable, unsigned,
};

/// Channels whose heads are kept in memory.
const HEADS_MAX: usize = 100_000;

/// What the writer is asked for.
pub(super) enum Command {
    /// Commit a batch.
    Append {
        batch: Vec<Draft>,
        reply: oneshot::Sender<Result<Committed, AppendError>>,
    },
    /// Do one step of retention.
    Trim {
        step: Step,
        reply: oneshot::Sender<Result<Reached, LogError>>,
    },
}

/// The writing end of the file.
pub(super) struct Writer {
    connection: Connection,
    epoch: Epoch,
    lane: LaneId,
    /// The last batch of the lane.
    n: u64,
    heads: HashMap<ChannelName, Known>,
    /// Held: the folder is ours until the connection is closed. Fields are dropped in order.
    lock: File,
}

/// What is known of a channel between two batches.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: i64,
    head: u64,
    last_time: Millis,
}

/// A channel in a batch.
struct Touched<'a> {
    name: &'a ChannelName,
    known: Known,
    /// The first number given out in the batch, if any was.
    first: Option<u64>,
}

/// How far a batch came before it failed.
enum Failed {
    BeforeCommit(rusqlite::Error),
    InCommit(rusqlite::Error),
}

impl Writer {
    pub(super) fn new(connection: Connection, epoch: Epoch, lane: LaneId, lock: File) -> Self {
        Self {
            connection,
            epoch,
            lane,
            n: 0,
            heads: HashMap::new(),
            lock,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.blocking_recv() {
            // Nobody may wait for the answer any more; the work was done nevertheless.
            match command {
                Command::Append { batch, reply } => {
                    let _ = reply.send(self.append(&batch));
                }
                Command::Trim { step, reply } => {
                    let step = retention::run(&mut self.connection, (self.lane, self.n), step);
                    let _ = reply.send(step.map_err(|error| unavailable(&error)));
                }
            }
        }
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

    fn append(&mut self, batch: &[Draft]) -> Result<Committed, AppendError> {
        let result = self.try_append(batch);
        if result.is_err() {
            self.heads.clear();
        }
        result.map_err(|failed| match failed {
            Failed::BeforeCommit(error) => AppendError::Unavailable(unavailable(&error).0),
            // The frames did not fit, so the last of them, which makes them count, was not written.
            Failed::InCommit(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                AppendError::Unavailable(unavailable(&error).0)
            }
            // They may be in the file; they count if the process dies before it overwrites them.
            Failed::InCommit(error) => AppendError::Unknown(unavailable(&error).0),
        })
    }

    fn try_append(&mut self, batch: &[Draft]) -> Result<Committed, Failed> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Failed::BeforeCommit)?;
        let (mut touched, places) =
            touch(&transaction, &self.heads, batch).map_err(Failed::BeforeCommit)?;
        let last_time = touched.iter().map(|channel| channel.known.last_time).max();
        let time = now().max(last_time.unwrap_or(0));
        let outcomes = insert(&transaction, batch, &mut touched, &places, time)
            .map_err(Failed::BeforeCommit)?;
        touched.retain(|channel| channel.first.is_some());
        if touched.is_empty() {
            return Ok(Committed {
                epoch: self.epoch.clone(),
                lane: self.lane,
                n: 0,
                outcomes,
            });
        }
        let n = self.n + 1;
        advance(&transaction, &touched, (self.lane, n), time).map_err(Failed::BeforeCommit)?;
        transaction.commit().map_err(Failed::InCommit)?;
        self.n = n;
        self.note();
        if self.heads.len() + touched.len() > HEADS_MAX {
            self.heads.clear();
        }
        for channel in touched {
            let known = Known {
                last_time: time,
                ..channel.known
            };
            self.heads.insert(channel.name.clone(), known);
        }
        Ok(Committed {
            epoch: self.epoch.clone(),
            lane: self.lane,
            n,
            outcomes,
        })
    }
}

/// The channels of a batch, made if they are new, and for each draft the place of its own.
fn touch<'a>(
    transaction: &Transaction<'_>,
    heads: &HashMap<ChannelName, Known>,
    batch: &'a [Draft],
) -> rusqlite::Result<(Vec<Touched<'a>>, Vec<usize>)> {
    let mut touched: Vec<Touched<'a>> = Vec::new();
    let mut places = Vec::with_capacity(batch.len());
    let mut by_name = HashMap::new();
    for draft in batch {
        let name = &draft.channel;
        let place = match by_name.get(name) {
            Some(place) => *place,
            None => {
                let known = match heads.get(name) {
                    Some(known) => *known,
                    None => find_or_make(transaction, name)?,
                };
                touched.push(Touched {
                    name,
                    known,
                    first: None,
                });
                by_name.insert(name, touched.len() - 1);
                touched.len() - 1
            }
        };
        places.push(place);
    }
    Ok((touched, places))
}

fn find_or_make(transaction: &Transaction<'_>, name: &ChannelName) -> rusqlite::Result<Known> {
    let found = transaction
        .prepare_cached("SELECT id, head, last_time FROM channels WHERE name = ?1")?
        .query_row(params![name.as_str()], |row| {
            Ok(Known {
                id: row.get(0)?,
                head: unsigned(row.get(1)?),
                last_time: row.get(2)?,
            })
        })
        .optional()?;
    if let Some(known) = found {
        return Ok(known);
    }
    transaction
        .prepare_cached("INSERT INTO channels (name, namespace) VALUES (?1, ?2)")?
        .execute(params![name.as_str(), name.namespace()])?;
    Ok(Known {
        id: transaction.last_insert_rowid(),
        head: 0,
        last_time: 0,
    })
}

/// Numbers and inserts what is not a duplicate.
fn insert(
    transaction: &Transaction<'_>,
    batch: &[Draft],
    touched: &mut [Touched<'_>],
    places: &[usize],
    time: Millis,
) -> rusqlite::Result<Vec<Outcome>> {
    let mut find_key = transaction
        .prepare_cached("SELECT seq, time FROM idempotency_keys WHERE channel = ?1 AND key = ?2")?;
    let mut add_key = transaction.prepare_cached(
        "INSERT INTO idempotency_keys (channel, key, seq, time) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut add = transaction.prepare_cached(
        "INSERT INTO publications (channel, seq, id, time, data, info, tags, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for (draft, place) in batch.iter().zip(places) {
        let channel = &mut touched[*place];
        let id = channel.known.id;
        let key = draft.idempotency_key.as_deref().map(str::as_bytes);
        if let Some(key) = key {
            let known = |row: &rusqlite::Row<'_>| {
                let seq = Seq(unsigned(row.get(0)?));
                Ok(Outcome {
                    seq,
                    time: row.get(1)?,
                    duplicate: true,
                })
            };
            if let Some(outcome) = find_key.query_row(params![id, key], known).optional()? {
                outcomes.push(outcome);
                continue;
            }
        }
        channel.known.head += 1;
        let head = channel.known.head;
        channel.first.get_or_insert(head);
        let row = RowValues {
            channel: id,
            seq: integer(head),
            id: draft.id.as_bytes(),
            time,
            data: draft.data.as_bytes(),
            info: draft.info.as_ref().map(Json::as_bytes),
            tags: draft.tags.as_ref().map(Json::as_bytes),
        };
        add.execute(params![
            row.channel,
            row.seq,
            row.id,
            row.time,
            row.data,
            row.info,
            row.tags,
            row.sum()
        ])?;
        if let Some(key) = key {
            add_key.execute(params![id, key, integer(head), time])?;
        }
        outcomes.push(Outcome {
            seq: Seq(head),
            time,
            duplicate: false,
        });
    }
    Ok(outcomes)
}

/// Moves the heads, and writes the entry of the lane log.
fn advance(
    transaction: &Transaction<'_>,
    touched: &[Touched<'_>],
    (lane, n): (LaneId, u64),
    time: Millis,
) -> rusqlite::Result<()> {
    let mut entries = String::new();
    let mut move_head = transaction
        .prepare_cached("UPDATE channels SET head = ?2, last_time = ?3 WHERE id = ?1")?;
    for Touched { name, known, first } in touched {
        move_head.execute(params![known.id, integer(known.head), time])?;
        if let Some(first) = first {
            // Writing to a string cannot fail.
            let _ = writeln!(entries, "{first} {} {name}", known.head);
        }
    }
    transaction
        .prepare_cached("INSERT INTO lane_log (lane, n, time, entries) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![lane.0, integer(n), time, entries])?;
    Ok(())
}
