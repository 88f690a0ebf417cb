//! What the database says became of a commit, at once or when it is asked later.

use fanfare_engine::port::LogError;
use fanfare_wire::Millis;
use tokio_postgres::Row;

use super::{
    batch::{Answer, Entry, Plan},
    bigint,
    database::Session,
    error::{malformed, unavailable, was_replaced},
    lane::{APPEND_PATIENCE, BatchId, FIND_ENTRY, FIND_KEYS, no_answer},
};

/// What was found out about a commit whose answer was lost.
pub(super) enum Found {
    Committed(Answer),
    NotCommitted,
}

/// Reads the answer of the server-side call.
pub(super) fn answer(row: &Row) -> Result<Answer, tokio_postgres::Error> {
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
        contention: contention(row)?,
    })
}

/// Which channels of the batch others committed in while it waited for their locks, from 1, and for how many microseconds
/// it did. An app's transaction is not told.
fn contention(row: &Row) -> Result<Option<(Vec<i32>, i64)>, tokio_postgres::Error> {
    if row.len() < 6 {
        return Ok(None);
    }
    let channels: Option<Vec<i32>> = row.try_get(4)?;
    let waited: Option<i64> = row.try_get(5)?;
    Ok(channels.zip(waited))
}

/// Reads what the keys of the drafts that were sent stand for.
pub(super) fn known_keys(
    rows: &[Row],
) -> Result<Vec<Option<(i64, Millis)>>, tokio_postgres::Error> {
    let known = |row: &Row| {
        let (seq, time): (Option<i64>, Option<Millis>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(seq.zip(time))
    };
    rows.iter().map(known).collect()
}

/// Looks for a commit of a lane that was retired before.
pub(super) async fn find(
    session: &Session,
    batch: &BatchId,
    plan: &Plan<'_>,
) -> Result<Found, LogError> {
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
        let known = known_keys(&keys)?;
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
