//! Retention: bounded steps, each a transaction of the writer, so that appends come in between.

use std::time::Duration;

use fanfare_engine::port::{
    LaneId, Retention, Trimmed,
    log::{KEYS_KEPT, LANE_LOG_KEPT},
};
use fanfare_wire::{ChannelName, Millis, Seq};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{integer, now};

/// Rows removed in one transaction, about.
const STEP_ROWS: u64 = 1_000;
/// Channels looked at in one transaction.
const STEP_CHANNELS: u64 = 1_000;

/// What one transaction does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Publications of the channels of a namespace whose id is greater than this.
    Publications(Retention, i64),
    /// Publications of one channel up to a number.
    Channel(ChannelName, Seq),
    /// Idempotency keys.
    Keys,
    /// Entries of the lane log, and lanes of earlier runs that have none left.
    LaneLog,
}

/// What it did, and what is left to do.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) removed: Trimmed,
    pub(super) next: Option<Step>,
}

/// Where the work of a trim begins.
pub(super) fn first_steps(rules: &[Retention]) -> Vec<Step> {
    let bounds = |rule: &&Retention| rule.age_max.is_some() || rule.count_max.is_some();
    let rules = rules
        .iter()
        .filter(bounds)
        .map(|rule| Step::Publications(rule.clone(), 0));
    rules.chain([Step::Keys, Step::LaneLog]).collect()
}

/// Does one step. `own` is the last batch of this run's lane; its entry stays, it says where the lane stands.
pub(super) fn run(
    connection: &mut Connection,
    own: (LaneId, u64),
    step: Step,
) -> rusqlite::Result<Reached> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut removed = Trimmed::default();
    let next = match step {
        Step::Publications(rule, after) => {
            let (count, reached) = publications(&transaction, &rule, after)?;
            removed.publications = count;
            reached.map(|after| Step::Publications(rule, after))
        }
        Step::Channel(name, up_to) => {
            removed.publications = channel(&transaction, &name, up_to)?;
            (removed.publications >= STEP_ROWS).then_some(Step::Channel(name, up_to))
        }
        Step::Keys => {
            removed.keys = keys(&transaction)?;
            (removed.keys >= STEP_ROWS).then_some(Step::Keys)
        }
        Step::LaneLog => {
            removed.lane_batches = lane_log(&transaction, own)?;
            (removed.lane_batches >= STEP_ROWS).then_some(Step::LaneLog)
        }
    };
    transaction.commit()?;
    Ok(Reached { removed, next })
}

struct Channel {
    id: i64,
    head: i64,
    trimmed: i64,
}

fn publications(
    transaction: &Transaction<'_>,
    rule: &Retention,
    after: i64,
) -> rusqlite::Result<(u64, Option<i64>)> {
    let channels: Vec<Channel> = transaction
        .prepare_cached(
            "SELECT id, head, trimmed FROM channels
             WHERE namespace = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map(
            params![rule.namespace, after, integer(STEP_CHANNELS)],
            channel_of,
        )?
        .collect::<Result<_, _>>()?;
    let mut left = integer(STEP_ROWS);
    for channel in &channels {
        let bound = bound(transaction, rule, channel, left)?;
        if bound > channel.trimmed {
            remove(transaction, channel, bound)?;
            left -= bound - channel.trimmed;
        }
        if left <= 0 {
            // There may be more in this channel.
            return Ok((STEP_ROWS, Some(channel.id - 1)));
        }
    }
    let removed = STEP_ROWS - left.unsigned_abs();
    let page_was_full = channels.len() as u64 == STEP_CHANNELS;
    Ok((
        removed,
        channels
            .last()
            .map(|channel| channel.id)
            .filter(|_| page_was_full),
    ))
}

fn channel(transaction: &Transaction<'_>, name: &ChannelName, up_to: Seq) -> rusqlite::Result<u64> {
    let found = transaction
        .prepare_cached("SELECT id, head, trimmed FROM channels WHERE name = ?1")?
        .query_row([name.as_str()], channel_of)
        .optional()?;
    let Some(found) = found else {
        return Ok(0);
    };
    let bound = integer(up_to.0).min(found.head);
    let bound = bound.min(found.trimmed + integer(STEP_ROWS));
    if bound <= found.trimmed {
        return Ok(0);
    }
    remove(transaction, &found, bound)?;
    Ok((bound - found.trimmed).unsigned_abs())
}

fn channel_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Channel> {
    Ok(Channel {
        id: row.get(0)?,
        head: row.get(1)?,
        trimmed: row.get(2)?,
    })
}

fn remove(transaction: &Transaction<'_>, channel: &Channel, bound: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM publications WHERE channel = ?1 AND seq <= ?2")?
        .execute(params![channel.id, bound])?;
    transaction
        .prepare_cached("UPDATE channels SET trimmed = ?2 WHERE id = ?1")?
        .execute(params![channel.id, bound])?;
    Ok(())
}

/// The last number of a channel that goes in this step.
fn bound(
    transaction: &Transaction<'_>,
    rule: &Retention,
    channel: &Channel,
    left: i64,
) -> rusqlite::Result<i64> {
    let by_count = rule
        .count_max
        .map_or(0, |count| channel.head.saturating_sub(integer(count)));
    let by_age = match rule.age_max {
        Some(age) => last_older(transaction, channel, before(age), left)?,
        None => 0,
    };
    Ok(by_count.max(by_age).min(channel.trimmed + left))
}

/// The last number of those before a time, among the oldest. Time never goes back in a channel, so they are at its
/// beginning; most often there are none, which the first look tells.
fn last_older(
    transaction: &Transaction<'_>,
    channel: &Channel,
    time: Millis,
    left: i64,
) -> rusqlite::Result<i64> {
    let oldest: Option<Millis> = transaction
        .prepare_cached("SELECT time FROM publications WHERE channel = ?1 AND seq = ?2")?
        .query_row(params![channel.id, channel.trimmed + 1], |row| row.get(0))
        .optional()?;
    if oldest.is_none_or(|oldest| oldest >= time) {
        return Ok(0);
    }
    // Numbers are dense, so no more rows are looked at than there are numbers, and one that stays ends it.
    let end = channel.head.min(channel.trimmed + left);
    let stays: Option<i64> = transaction
        .prepare_cached(
            "SELECT seq FROM publications
             WHERE channel = ?1 AND seq > ?2 AND seq <= ?3 AND time >= ?4 ORDER BY seq LIMIT 1",
        )?
        .query_row(params![channel.id, channel.trimmed, end, time], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(stays.map_or(end, |seq| seq - 1))
}

fn keys(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let removed = transaction
        .prepare_cached(
            "DELETE FROM idempotency_keys WHERE (channel, key) IN (
                 SELECT channel, key FROM idempotency_keys WHERE time < ?1 ORDER BY time LIMIT ?2
             )",
        )?
        .execute(params![before(KEYS_KEPT), integer(STEP_ROWS)])?;
    Ok(removed as u64)
}

fn lane_log(transaction: &Transaction<'_>, own: (LaneId, u64)) -> rusqlite::Result<u64> {
    let lanes: Vec<i64> = transaction
        .prepare_cached("SELECT id FROM lanes ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut removed = 0;
    for lane in lanes {
        let kept_from = if lane == own.0.0 {
            integer(own.1)
        } else {
            i64::MAX
        };
        removed += transaction
            .prepare_cached(
                "DELETE FROM lane_log WHERE lane = ?1 AND n < ?2 AND n <= (
                     SELECT max(n) FROM (
                         SELECT n, time FROM lane_log WHERE lane = ?1 ORDER BY n LIMIT ?4
                     ) WHERE time < ?3
                 )",
            )?
            .execute(params![
                lane,
                kept_from,
                before(LANE_LOG_KEPT),
                integer(STEP_ROWS)
            ])?;
    }
    transaction.execute(
        "DELETE FROM lanes WHERE id <> ?1
         AND NOT EXISTS (SELECT 1 FROM lane_log WHERE lane = lanes.id)",
        params![own.0.0],
    )?;
    Ok(removed as u64)
}

fn before(age: Duration) -> Millis {
    let age = Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX / 2);
    now() - age
}
