//! Brings the schema `fanfare` up to date, whoever else tries at the same moment.
//!
//! Each numbered file under `migrations/postgres` runs once, in a transaction together with its line in
//! `fanfare.migrations`. A file that was released is never changed. Nothing is created when the schema is up to date,
//! so that a node may run as a user without the right to.

use tokio_postgres::Client;

use super::error::{OpenError, describe, refused};

/// The files: version, name, text.
const MIGRATIONS: [(i32, &str, &str); 10] = [
    (
        1,
        "log",
        include_str!("../../migrations/postgres/0001_log.sql"),
    ),
    (
        2,
        "append",
        include_str!("../../migrations/postgres/0002_append.sql"),
    ),
    (
        3,
        "trim",
        include_str!("../../migrations/postgres/0003_trim.sql"),
    ),
    (
        4,
        "epoch",
        include_str!("../../migrations/postgres/0004_epoch.sql"),
    ),
    (
        5,
        "apps",
        include_str!("../../migrations/postgres/0005_apps.sql"),
    ),
    (
        6,
        "contention",
        include_str!("../../migrations/postgres/0006_contention.sql"),
    ),
    (
        7,
        "publish",
        include_str!("../../migrations/postgres/0007_publish.sql"),
    ),
    (
        8,
        "retention",
        include_str!("../../migrations/postgres/0008_retention.sql"),
    ),
    (
        9,
        "remove",
        include_str!("../../migrations/postgres/0009_remove.sql"),
    ),
    (
        10,
        "few",
        include_str!("../../migrations/postgres/0010_few.sql"),
    ),
];

/// Held by the one session that migrates; any number will do that nobody else uses.
const MIGRATION_LOCK: i64 = 0x6661_6e66_6172_0001;

const CREATE_TABLE: &str = "
    CREATE SCHEMA fanfare;
    CREATE TABLE fanfare.migrations (
        version int PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
";

/// Migrates. When it fails the session is of no use for anything else: it may hold a lock.
pub(super) async fn migrate(client: &mut Client) -> Result<(), OpenError> {
    // Another node may be at a long migration; it is waited for.
    let lock = format!("SET lock_timeout = '60s'; SELECT pg_advisory_lock({MIGRATION_LOCK})");
    client
        .batch_execute(&lock)
        .await
        .map_err(|error| refused(&error))?;
    let exists = "SELECT to_regclass('fanfare.migrations') IS NOT NULL";
    let exists = client
        .query_one(exists, &[])
        .await
        .and_then(|row| row.try_get::<_, bool>(0));
    if !exists.map_err(|error| refused(&error))? {
        apply(client, 0, CREATE_TABLE, "").await?;
    }
    let applied = check(client).await?;
    for (version, name, text) in MIGRATIONS.iter().skip(applied) {
        let note = format!(
            "INSERT INTO fanfare.migrations (version, name, checksum) \
             VALUES ({version}, '{name}', md5(${name}${text}${name}$))"
        );
        apply(client, *version, text, &note).await?;
        tracing::info!(version, name, "database schema migrated");
    }
    let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
    client
        .batch_execute(&unlock)
        .await
        .map_err(|error| refused(&error))
}

/// Compares what was applied with what is known; gives how many of the known were.
async fn check(client: &Client) -> Result<usize, OpenError> {
    let sql = "
        SELECT applied.version, applied.checksum IS NOT DISTINCT FROM md5(known.text)
        FROM fanfare.migrations applied
        LEFT JOIN unnest($1::int[], $2::text[]) AS known (version, text) USING (version)
        ORDER BY applied.version";
    let versions = MIGRATIONS.map(|(version, _, _)| version).to_vec();
    let texts = MIGRATIONS.map(|(_, _, text)| text).to_vec();
    let rows = client
        .query(sql, &[&versions, &texts])
        .await
        .map_err(|error| refused(&error))?;
    let mut applied = Vec::with_capacity(rows.len());
    for row in &rows {
        let version: i32 = row.try_get(0).map_err(|error| refused(&error))?;
        let same: bool = row.try_get(1).map_err(|error| refused(&error))?;
        applied.push((version, same));
    }
    let known = MIGRATIONS.len() as i32;
    if let Some((found, _)) = applied.last().filter(|(version, _)| *version > known) {
        return Err(OpenError::NewerSchema {
            found: *found,
            known,
        });
    }
    for ((version, same), expected) in applied.iter().zip(1..) {
        if !same || *version != expected {
            return Err(OpenError::OtherSchema { version: expected });
        }
    }
    Ok(applied.len())
}

async fn apply(client: &mut Client, version: i32, sql: &str, note: &str) -> Result<(), OpenError> {
    let failed = |error| OpenError::Migration {
        version,
        reason: describe(&error),
    };
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute(sql).await.map_err(failed)?;
    transaction.batch_execute(note).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
