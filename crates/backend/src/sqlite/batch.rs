//! Numbers drafts within an open transaction, and knows where the channels stand.

use std::{collections::HashMap, fmt::Write as _};

use fanfare_engine::port::{LaneId, Outcome};
use fanfare_wire::{ChannelName, Draft, Json, Millis, Seq};
use rusqlite::{Connection, OptionalExtension, params};

use super::{integer, now, sum::RowValues, unsigned};

/// Channels whose heads are kept in memory.
const HEADS_MAX: usize = 100_000;

/// The heads of the channels that were written to lately. Nobody else writes, so they are what the file says; after any
/// failure they are forgotten.
#[derive(Default)]
pub(super) struct Heads {
    known: HashMap<ChannelName, Known>,
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

/// What a batch became, once the transaction is committed.
pub(super) struct Numbered {
    pub(super) outcomes: Vec<Outcome>,
    /// Whether it is in the lane log: at least one draft was no duplicate.
    pub(super) in_lane_log: bool,
}

impl Heads {
    /// Numbers drafts and inserts what is not a duplicate, as the batch of a lane. Nothing is written if all are. After an
    /// error the transaction is of no use any more, nor are the heads.
    pub(super) fn number(
        &mut self,
        connection: &Connection,
        batch: &[Draft],
        lane: (LaneId, u64),
    ) -> rusqlite::Result<Numbered> {
        let (mut touched, places) = touch(connection, self, batch)?;
        let last_time = touched.iter().map(|channel| channel.known.last_time).max();
        let time = now().max(last_time.unwrap_or(0));
        let outcomes = insert(connection, batch, &mut touched, &places, time)?;
        touched.retain(|channel| channel.first.is_some());
        let in_lane_log = !touched.is_empty();
        if in_lane_log {
            advance(connection, &touched, lane, time)?;
            self.keep(touched, time);
        }
        Ok(Numbered {
            outcomes,
            in_lane_log,
        })
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn keep(&mut self, touched: Vec<Touched<'_>>, time: Millis) {
        if self.known.len() + touched.len() > HEADS_MAX {
            self.known.clear();
        }
        for channel in touched {
            let known = Known {
                last_time: time,
                ..channel.known
            };
            self.known.insert(channel.name.clone(), known);
        }
    }
}

/// For each draft, the publication that had its key before.
pub(super) fn firsts(
    connection: &Connection,
    batch: &[Draft],
) -> rusqlite::Result<Vec<Option<Outcome>>> {
    let mut find = connection.prepare_cached(
        "SELECT idempotency_keys.seq, idempotency_keys.time FROM channels
         JOIN idempotency_keys ON idempotency_keys.channel = channels.id
         WHERE channels.name = ?1 AND idempotency_keys.key = ?2",
    )?;
    let mut first = |draft: &Draft| match &draft.idempotency_key {
        None => Ok(None),
        Some(key) => find
            .query_row(params![draft.channel.as_str(), key.as_bytes()], known_key)
            .optional(),
    };
    batch.iter().map(&mut first).collect()
}

fn known_key(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        seq: Seq(unsigned(row.get(0)?)),
        time: row.get(1)?,
        duplicate: true,
    })
}

/// The channels of a batch, made if they are new, and for each draft the place of its own.
fn touch<'a>(
    connection: &Connection,
    heads: &Heads,
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
                let known = match heads.known.get(name) {
                    Some(known) => *known,
                    None => find_or_make(connection, name)?,
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

fn find_or_make(connection: &Connection, name: &ChannelName) -> rusqlite::Result<Known> {
    let found = connection
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
    connection
        .prepare_cached("INSERT INTO channels (name, namespace) VALUES (?1, ?2)")?
        .execute(params![name.as_str(), name.namespace()])?;
    Ok(Known {
        id: connection.last_insert_rowid(),
        head: 0,
        last_time: 0,
    })
}

/// Numbers and inserts what is not a duplicate.
fn insert(
    connection: &Connection,
    batch: &[Draft],
    touched: &mut [Touched<'_>],
    places: &[usize],
    time: Millis,
) -> rusqlite::Result<Vec<Outcome>> {
    let mut find_key = connection
        .prepare_cached("SELECT seq, time FROM idempotency_keys WHERE channel = ?1 AND key = ?2")?;
    let mut add_key = connection.prepare_cached(
        "INSERT INTO idempotency_keys (channel, key, seq, time) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut add = connection.prepare_cached(
        "INSERT INTO publications (channel, seq, id, time, data, info, tags, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for (draft, place) in batch.iter().zip(places) {
        let channel = &mut touched[*place];
        let id = channel.known.id;
        let key = draft.idempotency_key.as_deref().map(str::as_bytes);
        let first = match key {
            Some(key) => find_key.query_row(params![id, key], known_key).optional()?,
            None => None,
        };
        if let Some(first) = first {
            outcomes.push(first);
            continue;
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
    connection: &Connection,
    touched: &[Touched<'_>],
    (lane, n): (LaneId, u64),
    time: Millis,
) -> rusqlite::Result<()> {
    let mut entries = String::new();
    let mut move_head =
        connection.prepare_cached("UPDATE channels SET head = ?2, last_time = ?3 WHERE id = ?1")?;
    for Touched { name, known, first } in touched {
        move_head.execute(params![known.id, integer(known.head), time])?;
        if let Some(first) = first {
            // Writing to a string cannot fail.
            let _ = writeln!(entries, "{first} {} {name}", known.head);
        }
    }
    connection
        .prepare_cached("INSERT INTO lane_log (lane, n, time, entries) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![lane.0, integer(n), time, entries])?;
    Ok(())
}
