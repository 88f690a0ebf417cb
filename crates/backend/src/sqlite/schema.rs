//! The folder, its lock, and the schema of the file in it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use fanfare_engine::port::LaneId;
use fanfare_wire::Epoch;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use thiserror::Error;

use super::{
    checkpoint::Checkpoints,
    now,
    seen::{self, Seen},
};
use crate::epoch;

/// The database in the folder.
pub(super) const DATABASE_FILE: &str = "fanfare.db";
/// Held locked by the process that has the folder. It also says how far the database has come, see `seen`.
const LOCK_FILE: &str = "fanfare.lock";

/// How long a connection waits for another one; only while the file is opened and closed do they meet.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// Prepared statements kept per connection; more than those of the log, and of a few apps, are.
const STATEMENTS_KEPT: usize = 256;

/// The files under `migrations/sqlite`, in order; `PRAGMA user_version` counts those that were applied. A file that was
/// released is never changed.
const MIGRATIONS: [&str; 3] = [
    include_str!("../../migrations/sqlite/0001_log.sql"),
    include_str!("../../migrations/sqlite/0002_sums.sql"),
    include_str!("../../migrations/sqlite/0003_apps.sql"),
];

/// Pages of 4 KiB (a batch writes one page of an index for each channel, so smaller ones are less to flush; a file that is
/// there keeps its own), a cache of 64 MiB, a log file that shrinks again after a burst.
const WRITER_SETTINGS: &str = "
    PRAGMA page_size = 4096;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -65536;
    PRAGMA temp_store = MEMORY;
";

/// Why a log in SQLite cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be made, read or written.
    #[error("the data folder {} cannot be used: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error(
        "the data folder {} is in use by another server: stop that one, give this one another folder, \
         or let both share a PostgreSQL",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// SQLite cannot use the file.
    #[error("the database {} cannot be opened: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A newer version of Fanfare has changed the schema.
    #[error(
        "the database {} was set up by a newer Fanfare (schema version {found}, this one knows {known}): \
         start that version, or a newer one",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The file has no valid identity.
    #[error("the database {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What the writer starts with.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) epoch: Epoch,
    pub(super) lane: LaneId,
    pub(super) checkpoints: Checkpoints,
    pub(super) lock: File,
}

/// Takes the folder, opens the file, migrates it and opens a lane.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let (lock, seen) = take(dir)?;
    let path = dir.join(DATABASE_FILE);
    let failed = |source| OpenError::Database {
        path: path.clone(),
        source,
    };
    let mut connection = Connection::open(&path).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    connection.execute_batch(WRITER_SETTINGS).map_err(failed)?;
    migrate(&mut connection, &path)?;
    let checkpoints = Checkpoints::begin(&mut connection, &path).map_err(failed)?;
    let (epoch, lane) = begin(&mut connection, seen.as_ref()).map_err(failed)?;
    let epoch = epoch::parse(&epoch).map_err(|reason| OpenError::Damaged {
        path: path.clone(),
        reason,
    })?;
    // The new files must be found in the folder after a power cut.
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(|source| OpenError::Folder {
        path: dir.to_owned(),
        source,
    })?;
    seen::note(&lock, epoch.as_str(), lane.0, 0).map_err(|source| OpenError::Folder {
        path: dir.to_owned(),
        source,
    })?;
    Ok(Opened {
        path,
        connection,
        epoch,
        lane,
        checkpoints,
        lock,
    })
}

/// What all connections are set to.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(())
}

fn take(dir: &Path) -> Result<(File, Option<Seen>), OpenError> {
    let failed = |source| OpenError::Folder {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let lock = options.open(dir.join(LOCK_FILE)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            let seen = Seen::read(&lock).map_err(failed)?;
            Ok((lock, seen))
        }
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let found: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let mut known = 0;
    for sql in MIGRATIONS {
        known += 1;
        if known > found {
            apply(connection, known, sql).map_err(failed)?;
        }
    }
    if found > known {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: u32, sql: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Reads the epoch, or makes one for a new log and for one that was put back, and opens a lane.
fn begin(connection: &mut Connection, seen: Option<&Seen>) -> rusqlite::Result<(String, LaneId)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "SELECT value FROM meta WHERE key = 'epoch'";
    let mut epoch: Option<String> = transaction
        .query_row(sql, [], |row| row.get(0))
        .optional()?;
    if let (Some(before), Some(seen)) = (&epoch, seen)
        && seen.is_ahead_of(&transaction, before)?
    {
        tracing::warn!(%before, "the database was put back to an earlier state: the log begins a new epoch");
        epoch = None;
    }
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => {
            let epoch = epoch::random();
            let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?1)";
            transaction.execute(sql, params![epoch])?;
            epoch
        }
    };
    transaction.execute("INSERT INTO lanes (opened_at) VALUES (?1)", params![now()])?;
    let lane = LaneId(transaction.last_insert_rowid());
    transaction.commit()?;
    Ok((epoch, lane))
}

#[cfg(test)]
mod tests {
    use fanfare_bench::local::TempDir;

    use super::*;

    #[test]
    fn every_commit_is_flushed() {
        let dir = TempDir::new().unwrap();
        for _ in 0..2 {
            let opened = open(dir.path()).unwrap();
            let pragma = |name| {
                opened
                    .connection
                    .pragma_query_value(None, name, |row| row.get(0))
            };
            let synchronous: i64 = pragma("synchronous").unwrap();
            assert_eq!(synchronous, 2, "FULL");
            let journal = "PRAGMA journal_mode";
            let journal: String = opened
                .connection
                .query_row(journal, [], |row| row.get(0))
                .unwrap();
            assert_eq!(journal, "wal");
        }
    }
}
