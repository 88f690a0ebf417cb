//! The log in SQLite: the contract, and what only a file can do to a log.

mod tables;

use std::{fs, path::Path, sync::Arc, time::Duration};

use fanfare_backend::sqlite::{OpenError, SqliteLog};
use fanfare_bench::local::TempDir;
use fanfare_engine::port::{Direction, LaneCursors, Log, ReadRange, Retention};
use fanfare_wire::{ChannelName, Draft, Json, Seq};
use rusqlite::Connection;
use uuid::Uuid;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn draft(name: &str, key: Option<&str>) -> Draft {
    let mut draft = Draft::new(channel(name), Uuid::now_v7(), Json::parse(b"{}").unwrap());
    draft.idempotency_key = key.map(str::to_owned);
    draft
}

fn all() -> ReadRange {
    ReadRange {
        from: Seq::ZERO,
        limit: 1000,
        direction: Direction::Forward,
    }
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("fanfare.db")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let log: Arc<dyn Log> = Arc::new(SqliteLog::open(dir.path()).unwrap());
    fanfare_engine::contract::log::all(|| std::future::ready(log.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_put_back_begins_a_new_epoch() {
    let dir = TempDir::new().unwrap();
    let (file, backup) = (dir.path().join("fanfare.db"), dir.path().join("backup"));
    let log = SqliteLog::open(dir.path()).unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    let first = log.epoch();
    drop(log);
    fs::copy(&file, &backup).unwrap();
    assert_eq!(SqliteLog::open(dir.path()).unwrap().epoch(), first);
    // A run that committed nothing is missing.
    fs::copy(&backup, &file).unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    let second = log.epoch();
    assert_ne!(second, first);
    // A batch of this very run is missing.
    log.append(&[draft("a", None)]).await.unwrap();
    database(dir.path())
        .execute("VACUUM INTO ?1", [dir.path().join("hot").to_str().unwrap()])
        .unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    drop(log);
    fs::copy(dir.path().join("hot"), &file).unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    assert!(![first, second].contains(&log.epoch()));
    let committed = log.append(&[draft("a", None)]).await.unwrap();
    assert_eq!(
        (committed.outcomes[0].seq, &committed.epoch),
        (Seq(3), &log.epoch())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn opened_again_it_has_everything() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("made/by/the/log");
    let log = SqliteLog::open(&folder).unwrap();
    let epoch = log.epoch();
    assert_eq!(epoch.as_str().len(), 16);
    let batch = [
        draft("a:1", Some("k")),
        draft("a:1", None),
        draft("b", None),
    ];
    let first = log.append(&batch).await.unwrap();
    let before = log.read(&channel("a:1"), all()).await.unwrap();
    drop(log);

    let log = SqliteLog::open(&folder).unwrap();
    assert_eq!(log.epoch(), epoch);
    assert_eq!(log.read(&channel("a:1"), all()).await.unwrap(), before);
    let entries = log.sweep(&LaneCursors::new(), 10).await.unwrap();
    assert_eq!(
        (entries.len(), entries[0].lane, entries[0].n),
        (1, first.lane, 1)
    );
    let next = log
        .append(&[draft("a:1", Some("k")), draft("a:1", None)])
        .await
        .unwrap();
    assert!(next.lane > first.lane);
    assert_eq!(next.n, 1);
    let told: Vec<_> = next
        .outcomes
        .iter()
        .map(|it| (it.seq.0, it.duplicate))
        .collect();
    assert_eq!(told, [(1, true), (3, false)]);
    assert_eq!(next.outcomes[0].time, first.outcomes[0].time);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_log() {
    let dir = TempDir::new().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    let refused = SqliteLog::open(dir.path()).map(drop).unwrap_err();
    assert!(
        matches!(&refused, OpenError::InUse { path } if path == dir.path()),
        "{refused}"
    );
    assert!(refused.to_string().contains("in use by another server"));
    log.append(&[draft("a", None)]).await.unwrap();
    drop(log);
    SqliteLog::open(dir.path()).unwrap();
}

#[test]
fn what_cannot_be_opened_is_refused_with_a_reason() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        SqliteLog::open(&file),
        Err(OpenError::Folder { .. })
    ));

    let folder = dir.path().join("garbage");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("fanfare.db"), "not a database ".repeat(100)).unwrap();
    assert!(matches!(
        SqliteLog::open(&folder),
        Err(OpenError::Database { .. })
    ));

    let folder = dir.path().join("newer");
    drop(SqliteLog::open(&folder).unwrap());
    database(&folder)
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let refused = SqliteLog::open(&folder).map(drop).unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_altered_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    log.append(&[draft("a", None), draft("a", None), draft("b", None)])
        .await
        .unwrap();
    let alter = "UPDATE publications SET data = x'7B2C' WHERE channel = 1 AND seq = 2";
    assert_eq!(database(dir.path()).execute(alter, []).unwrap(), 1);
    let refused = log.read(&channel("a"), all()).await.unwrap_err();
    assert!(refused.0.contains("publication 2 is damaged"), "{refused}");
    let first = ReadRange { limit: 1, ..all() };
    assert_eq!(log.read(&channel("a"), first).await.unwrap().len(), 1);
    assert_eq!(log.read(&channel("b"), all()).await.unwrap().len(), 1);
    let remove = "DELETE FROM publications WHERE channel = 2";
    assert_eq!(database(dir.path()).execute(remove, []).unwrap(), 1);
    let refused = log.read(&channel("b"), all()).await.unwrap_err();
    assert!(refused.0.contains("log of b is damaged"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_first_schema_is_brought_up_to_date() {
    let dir = TempDir::new().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    drop(log);
    let older = "ALTER TABLE publications DROP COLUMN sum; DROP TABLE app_migrations; PRAGMA user_version = 1";
    database(dir.path()).execute_batch(older).unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    assert_eq!(log.read(&channel("a"), all()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes() {
    let dir = TempDir::new().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    for _ in 0..3 {
        log.append(&[
            draft("a:1", None),
            draft("a:1", Some("k")),
            draft("b:1", None),
        ])
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    }
    drop(log);
    for table in ["publications", "idempotency_keys", "lane_log"] {
        let sql = format!("UPDATE {table} SET time = time - ?1");
        database(dir.path()).execute(&sql, [2 * DAY_MS]).unwrap();
    }

    let log = SqliteLog::open(dir.path()).unwrap();
    let entries = log.sweep(&LaneCursors::new(), 10).await.unwrap();
    assert_eq!(entries.len(), 3);
    log.append(&[draft("a:1", None), draft("b:1", Some("young"))])
        .await
        .unwrap();
    let day = Some(Duration::from_secs(60 * 60 * 24));
    let rule = |namespace: &str, age_max| Retention {
        namespace: namespace.to_owned(),
        age_max,
        count_max: None,
    };
    let trimmed = log
        .trim(&[rule("a", day), rule("b", day.map(|day| day * 3))])
        .await
        .unwrap();
    assert_eq!(
        (trimmed.publications, trimmed.keys, trimmed.lane_batches),
        (4, 1, 3)
    );
    let heads = log.heads(&[channel("a:1"), channel("b:1")]).await.unwrap();
    assert_eq!((heads[0].seq, heads[0].trimmed), (Seq(5), Seq(4)));
    assert_eq!((heads[1].seq, heads[1].trimmed), (Seq(4), Seq::ZERO));
    let lanes = log.lanes().await.unwrap();
    assert_eq!(
        lanes.len(),
        1,
        "the lane of the earlier run is forgotten: {lanes:?}"
    );
    let again = log
        .append(&[draft("a:1", Some("k")), draft("b:1", Some("young"))])
        .await
        .unwrap();
    assert!(!again.outcomes[0].duplicate && again.outcomes[1].duplicate);
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        database(dir.path())
            .query_row(&sql, [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((count("publications"), count("idempotency_keys")), (6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_step_of_what_is_old_goes_and_what_is_young_stays() {
    let dir = TempDir::new().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    for _ in 0..5 {
        let batch = vec![draft("a:1", None); 501];
        log.append(&batch).await.unwrap();
    }
    drop(log);
    // All but the last five are old.
    database(dir.path())
        .execute(
            "UPDATE publications SET time = time - ?1 WHERE seq <= 2500",
            [2 * DAY_MS],
        )
        .unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    let rules = [Retention {
        namespace: "a".to_owned(),
        age_max: Some(Duration::from_secs(60 * 60 * 24)),
        count_max: None,
    }];
    assert_eq!(log.trim(&rules).await.unwrap().publications, 2_500);
    assert_eq!(log.trim(&rules).await.unwrap().publications, 0);
    let heads = log.heads(&[channel("a:1")]).await.unwrap();
    assert_eq!((heads[0].seq, heads[0].trimmed), (Seq(2_505), Seq(2_500)));
}
