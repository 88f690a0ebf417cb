//! Retention: bounded steps, one node at a time.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::{
    LogError, Retention, Trimmed,
    log::{KEYS_KEPT, LANE_LOG_KEPT},
};
use tokio_postgres::{Row, types::ToSql};

use super::{
    bigint,
    database::{Database, Session},
    error::{malformed, unavailable},
    unsigned,
};

/// Rows removed in one transaction, about.
pub(super) const STEP_ROWS: i32 = 5_000;
/// Channels looked at in one transaction.
const STEP_CHANNELS: i32 = 2_000;
/// A lane that was silent for longer is retired, and forgotten once its log has been removed.
const LANE_SILENCE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long one step may take; longer than the server's own statement timeout.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// Held by the one session that trims.
const TRIM_LOCK: i64 = 0x6661_6e66_6172_0002;

const STATEMENTS: [&str; 6] = [
    "SELECT pg_try_advisory_lock($1)",
    "SELECT removed, reached FROM fanfare.trim_step($1, $2, $3, $4, $5, $6)",
    "SELECT fanfare.trim_keys($1, $2)",
    "SELECT fanfare.trim_lane_log($1, $2)",
    "SELECT fanfare.trim_lanes($1)",
    "SELECT pg_advisory_unlock($1)",
];
const LOCK: usize = 0;
const STEP: usize = 1;
const KEYS: usize = 2;
const LANE_LOG: usize = 3;
const LANES: usize = 4;
const UNLOCK: usize = 5;

/// Removes what the rules no longer keep. Uses a session of its own: whatever ends it ends the lock with it.
pub(super) async fn trim(
    database: &Arc<Database>,
    rules: &[Retention],
) -> Result<Trimmed, LogError> {
    let session = database.session(&STATEMENTS).await?;
    let locked = ask(&session, LOCK, &[&TRIM_LOCK]).await?;
    if !locked.try_get::<_, bool>(0).map_err(malformed)? {
        return Ok(Trimmed::default());
    }
    let mut trimmed = Trimmed::default();
    for rule in rules {
        trimmed.publications += trim_namespace(&session, rule).await?;
    }
    let age = millis(KEYS_KEPT);
    trimmed.keys = until_done(&session, KEYS, &[&age, &STEP_ROWS]).await?;
    ask(&session, LANES, &[&millis(LANE_SILENCE_MAX)]).await?;
    let age = millis(LANE_LOG_KEPT);
    trimmed.lane_batches = until_done(&session, LANE_LOG, &[&age, &STEP_ROWS]).await?;
    ask(&session, UNLOCK, &[&TRIM_LOCK]).await?;
    Ok(trimmed)
}

async fn trim_namespace(session: &Session, rule: &Retention) -> Result<u64, LogError> {
    let age = rule.age_max.map(millis);
    let count = rule.count_max.map(bigint);
    if age.is_none() && count.is_none() {
        return Ok(0);
    }
    let (mut total, mut after) = (0, Some(0));
    while let Some(from) = after {
        let params: &[&(dyn ToSql + Sync)] = &[
            &rule.namespace,
            &age,
            &count,
            &from,
            &STEP_CHANNELS,
            &STEP_ROWS,
        ];
        let row = ask(session, STEP, params).await?;
        total += unsigned(row.try_get(0).map_err(malformed)?);
        after = row.try_get::<_, Option<i64>>(1).map_err(malformed)?;
    }
    Ok(total)
}

/// Repeats a step until it finds nothing more.
async fn until_done(
    session: &Session,
    statement: usize,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, LogError> {
    let mut total = 0;
    loop {
        let row = ask(session, statement, params).await?;
        let removed = unsigned(row.try_get(0).map_err(malformed)?);
        total += removed;
        if removed < u64::from(STEP_ROWS.unsigned_abs()) {
            return Ok(total);
        }
    }
}

async fn ask(
    session: &Session,
    statement: usize,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Row, LogError> {
    let asking = session
        .client
        .query_one(&session.statements[statement], params);
    match tokio::time::timeout(STEP_PATIENCE, asking).await {
        Ok(row) => row.map_err(|error| unavailable(&error)),
        Err(_) => Err(LogError(format!("no answer within {STEP_PATIENCE:?}"))),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
