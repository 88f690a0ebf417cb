//! The connections that read, each query on a thread where it may block.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use fanfare_engine::port::{Direction, Head, LaneBatch, LaneCursors, LaneId, LogError, ReadRange};
use fanfare_wire::{ChannelName, Json, Publication, Seq};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params, types::Type};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    READERS, integer,
    schema::{OpenError, configure},
    sum::RowValues,
    unavailable, unsigned,
};

const READ_FORWARD: &str = "
    SELECT seq, id, time, data, info, tags, channel, sum FROM publications
    WHERE channel = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
const READ_BACKWARD: &str = "
    SELECT seq, id, time, data, info, tags, channel, sum FROM publications
    WHERE channel = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";

/// A few connections that only read.
pub(super) struct Readers {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let open = |_| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            configure(&connection)?;
            Ok(connection)
        };
        let idle: Vec<_> = (0..READERS)
            .map(open)
            .collect::<Result<_, _>>()
            .map_err(|source| OpenError::Database {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(idle.len())),
            idle: Mutex::new(idle),
        })
    }

    /// Runs a query. Once begun it runs to its end, even if nobody waits for it any more.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LogError> {
        let closed = |_| LogError("the log is closed".to_owned());
        let permit = self.permits.clone().acquire_owned().await.map_err(closed)?;
        let readers = self.clone();
        let asking = tokio::task::spawn_blocking(move || {
            // There is one for every permit.
            let connection = readers.idle().pop()?;
            let answer = query(&connection);
            readers.idle().push(connection);
            drop(permit);
            Some(answer)
        });
        match asking.await {
            Ok(Some(answer)) => answer.map_err(|error| unavailable(&error)),
            Ok(None) => Err(LogError("no connection is left to read with".to_owned())),
            Err(error) => Err(LogError(format!("a read failed: {error}"))),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn read(
    connection: &Connection,
    channel: &ChannelName,
    range: ReadRange,
) -> rusqlite::Result<Vec<Publication>> {
    let snapshot = connection.unchecked_transaction()?;
    let extent = |row: &Row<'_>| {
        let (head, trimmed) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
        Ok((row.get::<_, i64>(0)?, head, trimmed))
    };
    let found = snapshot
        .prepare_cached("SELECT id, head, trimmed FROM channels WHERE name = ?1")?
        .query_row(params![channel.as_str()], extent)
        .optional()?;
    let Some((id, head, trimmed)) = found else {
        return Ok(Vec::new());
    };
    let (sql, from) = match range.direction {
        Direction::Forward => (READ_FORWARD, integer(range.from.0)),
        Direction::Backward if range.from == Seq::ZERO => (READ_BACKWARD, i64::MAX),
        Direction::Backward => (READ_BACKWARD, integer(range.from.0)),
    };
    let mut statement = snapshot.prepare_cached(sql)?;
    let limit = integer(range.limit as u64);
    let rows = statement.query_map(params![id, from, limit], publication)?;
    let publications = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    if publications
        .iter()
        .map(|one| one.seq.0)
        .eq(expected(range, head, trimmed))
    {
        Ok(publications)
    } else {
        let what = format!(
            "the log of {channel} is damaged: publications up to {head} should be there, and some are not; \
             put the data folder back from a backup, and check the disk"
        );
        Err(malformed(0, what))
    }
}

/// The numbers that a read must find: there are no holes between the last one that was removed and the head.
fn expected(range: ReadRange, head: u64, trimmed: u64) -> Box<dyn Iterator<Item = u64>> {
    let (from, limit) = (range.from.0, range.limit);
    match range.direction {
        Direction::Forward => Box::new((from.max(trimmed).saturating_add(1)..=head).take(limit)),
        Direction::Backward => {
            let last = from.checked_sub(1).map_or(head, |last| last.min(head));
            Box::new((trimmed.saturating_add(1)..=last).rev().take(limit))
        }
    }
}

pub(super) fn heads(
    connection: &Connection,
    channels: &[ChannelName],
) -> rusqlite::Result<Vec<Head>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut statement =
        snapshot.prepare_cached("SELECT head, trimmed FROM channels WHERE name = ?1")?;
    let head = |row: &Row<'_>| {
        let (seq, trimmed) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
        Ok(Head {
            seq: Seq(seq),
            trimmed: Seq(trimmed),
        })
    };
    let mut heads = Vec::with_capacity(channels.len());
    for channel in channels {
        let found = statement
            .query_row(params![channel.as_str()], head)
            .optional()?;
        heads.push(found.unwrap_or_default());
    }
    Ok(heads)
}

pub(super) fn lanes(connection: &Connection) -> rusqlite::Result<LaneCursors> {
    let mut statement = connection.prepare_cached(
        "SELECT id, coalesce((SELECT max(n) FROM lane_log WHERE lane = id), 0) FROM lanes",
    )?;
    let rows = statement.query_map([], |row| Ok((LaneId(row.get(0)?), unsigned(row.get(1)?))))?;
    rows.collect()
}

pub(super) fn sweep(
    connection: &Connection,
    cursors: &LaneCursors,
    limit: usize,
) -> rusqlite::Result<Vec<LaneBatch>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut entries = Vec::new();
    let mut statement = snapshot.prepare_cached(
        "SELECT n, entries FROM lane_log WHERE lane = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
    )?;
    for lane in lanes(&snapshot)?.into_keys() {
        let after = cursors.get(&lane).copied().unwrap_or(0);
        let left = integer((limit - entries.len()) as u64);
        let batch = |row: &Row<'_>| {
            let channels = parse_entries(row.get_ref(1)?.as_str()?)?;
            Ok(LaneBatch {
                lane,
                n: unsigned(row.get(0)?),
                channels,
                unannounced: false,
            })
        };
        for entry in statement.query_map(params![lane.0, integer(after), left], batch)? {
            entries.push(entry?);
        }
        if entries.len() == limit {
            break;
        }
    }
    Ok(entries)
}

fn publication(row: &Row<'_>) -> rusqlite::Result<Publication> {
    let values = RowValues {
        channel: row.get(6)?,
        seq: row.get(0)?,
        id: row.get_ref(1)?.as_blob()?,
        time: row.get(2)?,
        data: row.get_ref(3)?.as_blob()?,
        info: row.get_ref(4)?.as_blob_or_null()?,
        tags: row.get_ref(5)?.as_blob_or_null()?,
    };
    let written: Option<i64> = row.get(7)?;
    if written.is_some_and(|written| written != values.sum()) {
        let what = format!(
            "publication {} is damaged: its checksum is not that of what was written; put the data folder \
             back from a backup, and check the disk",
            values.seq
        );
        return Err(malformed(7, what));
    }
    let json = |bytes: &[u8]| Json::trusted(Bytes::copy_from_slice(bytes));
    Ok(Publication {
        seq: Seq(unsigned(values.seq)),
        id: Uuid::from_slice(values.id).map_err(|error| malformed(1, error))?,
        time: values.time,
        data: json(values.data),
        info: values.info.map(json),
        tags: values.tags.map(json),
    })
}

/// Reads the lines that [`super::writer`] wrote.
fn parse_entries(text: &str) -> rusqlite::Result<Vec<(ChannelName, Seq, Seq)>> {
    let entry = |line: &str| {
        let (first, rest) = line.split_once(' ')?;
        let (last, name) = rest.split_once(' ')?;
        let name = ChannelName::parse(name).ok()?;
        Some((name, Seq(first.parse().ok()?), Seq(last.parse().ok()?)))
    };
    let entries = text.lines().map(entry).collect::<Option<_>>();
    entries.ok_or_else(|| malformed(1, "not an entry of the lane log"))
}

fn malformed(
    column: usize,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into())
}
