//! Databases that are restored, promoted, copied or fenced under a running log.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fanfare_backend::postgres::{OpenError, PostgresLog};
use fanfare_bench::local::{Postgres, TempDir};
use fanfare_engine::port::{AppendError, Committed, LaneCursors, Log};
use fanfare_wire::{Draft, Epoch, Seq};

use super::{
    NEW_EPOCH, PATIENCE, TestDatabase, client, count, draft, proxy::Proxy, read_all, wait_for,
};

/// Appends until it succeeds.
async fn append(log: &PostgresLog, batch: &[Draft]) -> Committed {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match log.append(batch).await {
            Ok(committed) => return committed,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells until it works which epoch the log has.
async fn epoch_in_use(log: &PostgresLog) -> Epoch {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = log.heartbeat("{}".into()).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.epoch()
}

/// A primary, its replica, and the URL of both.
fn pair(database: &str) -> (Postgres, Postgres, String) {
    let primary = Postgres::start().unwrap();
    primary.create_database(database).unwrap();
    let replica = primary.start_replica().unwrap();
    let url = format!(
        "postgres://fanfare@{},{}/{database}?target_session_attrs=read-write",
        primary.address(),
        replica.address()
    );
    (primary, replica, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_a_failover_lost_end_the_epoch() {
    let (mut primary, replica, url) = pair("app");
    let log = PostgresLog::connect(&url, "one").await.unwrap();
    let other = PostgresLog::connect(&url, "other").await.unwrap();
    let first = append(&log, &[draft("a", Some("kept")), draft("a", None)]).await;
    assert_eq!(first.epoch, log.epoch());
    replica.wait_replayed(&primary).unwrap();
    replica
        .execute("postgres", "ALTER SYSTEM SET primary_conninfo = ''")
        .unwrap();
    replica
        .execute("postgres", "SELECT pg_reload_conf()")
        .unwrap();
    let beside = client(&primary.url("app")).await;
    wait_for(&beside, "SELECT 1 - count(*) FROM pg_stat_replication").await;
    let lost = append(&log, &[draft("a", Some("lost")), draft("a", None)]).await;
    assert_eq!((lost.outcomes[1].seq, &lost.epoch), (Seq(4), &first.epoch));

    primary.kill();
    replica.promote().unwrap();
    let after = append(&log, &[draft("a", Some("kept")), draft("a", Some("lost"))]).await;
    assert_ne!(after.epoch, first.epoch);
    assert_eq!(log.epoch(), after.epoch);
    assert!(after.outcomes[0].duplicate, "it was not lost");
    assert_eq!(
        (after.outcomes[1].seq, after.outcomes[1].duplicate),
        (Seq(3), false)
    );
    assert_eq!(
        epoch_in_use(&other).await,
        after.epoch,
        "one epoch for all nodes"
    );
    assert_eq!(
        append(&other, &[draft("a", None)]).await.outcomes[0].seq,
        Seq(4)
    );

    // The former primary comes back, and stands first in the URL.
    primary.restart().unwrap();
    let beside = client(&replica.url("app")).await;
    count(&beside, KILL_NODES).await;
    let refused = log.append(&[draft("a", None)]).await.unwrap_err();
    assert!(
        refused.to_string().contains("before a failover"),
        "{refused}"
    );
    assert_eq!(
        primary
            .execute("app", "SELECT count(*) FROM fanfare.publications")
            .unwrap(),
        "4\n"
    );
    primary.stop().unwrap();
    let back = append(&log, &[draft("a", None)]).await;
    assert_eq!((back.outcomes[0].seq, back.epoch), (Seq(5), after.epoch));
}

const KILL_NODES: &str = "
    SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'fanfare'";

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_nothing_is_an_epoch_too() {
    let (mut primary, replica, url) = pair("app");
    let log = PostgresLog::connect(&url, "one").await.unwrap();
    let first = append(&log, &[draft("a", None), draft("a", Some("k"))]).await;
    primary.stop().unwrap();
    let refused = PostgresLog::connect(&replica.url("app"), "n")
        .await
        .map(drop);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, OpenError::Unavailable(_)));
    assert!(refused.to_string().contains("a standby"), "{refused}");
    replica.promote().unwrap();
    let after = append(&log, &[draft("a", Some("k")), draft("a", None)]).await;
    assert_ne!(after.epoch, first.epoch);
    assert_eq!(after.outcomes[0].seq, Seq(2));
    assert_eq!(after.outcomes[1].seq, Seq(3));
    let read = read_all(&log, "a").await;
    assert_eq!(read.len(), 3);
}

/// A server whose data lies in a folder that can be copied while it is stopped.
struct Restorable {
    server: Postgres,
    folder: TempDir,
}

impl Restorable {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let server = Postgres::start_in(&data).unwrap();
        server.create_database("app").unwrap();
        Self { server, folder }
    }

    fn copy(&mut self, from: &str, to: &str) {
        self.server.stop().unwrap();
        let to = self.folder.path().join(to);
        if to.exists() {
            std::fs::remove_dir_all(&to).unwrap();
        }
        copy(&self.folder.path().join(from), &to);
        self.server.restart().unwrap();
    }

    fn back_up(&mut self) {
        self.copy("data", "backup");
    }

    fn restore(&mut self) {
        self.copy("backup", "data");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_put_back_are_noticed_by_what_is_missing() {
    let mut database = Restorable::new();
    let log = PostgresLog::connect(&database.server.url("app"), "n")
        .await
        .unwrap();
    let first = append(&log, &[draft("a", None)]).await;
    database.back_up();
    let lost = append(&log, &[draft("a", None)]).await;
    assert_eq!(
        (lost.outcomes[0].seq, &lost.epoch),
        (Seq(2), &first.epoch),
        "a restart is none"
    );
    database.restore();
    // The log of the database is longer than ever by the time that the node comes back.
    let grow =
        "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000); DROP TABLE t";
    database.server.execute("app", grow).unwrap();
    let after = append(&log, &[draft("a", None)]).await;
    assert_ne!(after.epoch, first.epoch);
    assert_eq!(after.outcomes[0].seq, Seq(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_put_back_are_noticed_by_an_idle_node() {
    let mut database = Restorable::new();
    let log = PostgresLog::connect(&database.server.url("app"), "n")
        .await
        .unwrap();
    let first = append(&log, &[draft("a", None)]).await;
    epoch_in_use(&log).await;
    database.back_up();
    assert_eq!(epoch_in_use(&log).await, first.epoch, "a restart is none");
    log.heartbeat("{}".into()).await.unwrap();
    database.restore();
    assert_ne!(epoch_in_use(&log).await, first.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_no_new_epoch() {
    let mut server = Postgres::start().unwrap();
    let url = server.create_database("app").unwrap();
    let log = PostgresLog::connect(&url, "n").await.unwrap();
    let epoch = log.epoch();
    for round in 1..=3_u64 {
        for _ in 0..20 {
            append(&log, &[draft("a", None)]).await;
        }
        epoch_in_use(&log).await;
        assert_eq!(
            log.sweep(&LaneCursors::new(), 1000).await.unwrap().len() as u64,
            20 * round
        );
        match round {
            1 => server.kill(),
            2 => server.kill_first_process(),
            _ => server.stop().unwrap(),
        }
        server.restart().unwrap();
    }
    assert_eq!(
        append(&log, &[draft("a", None)]).await.outcomes[0].seq,
        Seq(61)
    );
    assert_eq!(log.epoch(), epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_takes_back_unflushed_was_not_lost() {
    let mut server = Postgres::start().unwrap();
    for set in ["wal_writer_delay = '10s'", "bgwriter_delay = '10s'"] {
        let set = format!("ALTER SYSTEM SET {set}");
        server.execute("postgres", &set).unwrap();
    }
    server.stop().unwrap();
    server.restart().unwrap();
    let url = server.create_database("app").unwrap();
    let log = PostgresLog::connect(&url, "n").await.unwrap();
    let first = append(&log, &[draft("a", None)]).await;
    let beside = client(&url).await;
    let write =
        "CREATE TABLE t (c text); BEGIN; INSERT INTO t SELECT 'x' FROM generate_series(1, 500)";
    beside.batch_execute(write).await.unwrap();
    // A new session, which finds the server further on than it has flushed.
    assert_eq!(read_all(&log, "a").await.len(), 1);
    server.kill();
    server.restart().unwrap();
    let second = append(&log, &[draft("a", None)]).await;
    assert_eq!(
        (second.outcomes[0].seq, second.epoch),
        (Seq(2), first.epoch)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_is_another_log() {
    let database = TestDatabase::new();
    let log = database.open().await;
    append(&log, &[draft("a", None)]).await;
    let (epoch, origin) = (log.epoch(), log.origin());
    drop(log);
    assert_eq!(database.open().await.epoch(), epoch);
    // Dumped and loaded into the same database: the tables are others.
    let client = database.client().await;
    let load = "BEGIN;
        CREATE TABLE fanfare.loaded (LIKE fanfare.meta INCLUDING ALL);
        INSERT INTO fanfare.loaded SELECT * FROM fanfare.meta;
        DROP TABLE fanfare.meta;
        ALTER TABLE fanfare.loaded RENAME TO meta;
        COMMIT";
    client.batch_execute(load).await.unwrap();
    let loaded = database.open().await;
    assert_ne!(loaded.epoch(), epoch);
    assert_eq!(loaded.origin(), origin);
    assert_eq!(
        loaded.append(&[draft("a", None)]).await.unwrap().outcomes[0].seq,
        Seq(2)
    );
    // Cloned: both go on, and number differently.
    let epoch = loaded.epoch();
    drop(loaded);
    let name = database.url.rsplit('/').next().unwrap();
    wait_for(
        &client,
        "SELECT 1 - count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    drop(client);
    let clone = format!("{name}_clone");
    database.make_clone(name, &clone);
    let cloned = PostgresLog::connect(&database.url.replace(name, &clone), "n")
        .await
        .unwrap();
    assert_ne!(cloned.epoch(), epoch);
    assert_eq!(database.open().await.epoch(), epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_another_epoch_hides_is_unknown() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let log = PostgresLog::connect(&url, "test").await.unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    proxy.deafen();
    let beside = database.client().await;
    let batch = [draft("a", None)];
    let (outcome, ()) = tokio::join!(log.append(&batch), async {
        wait_for(&beside, "SELECT count(*) FROM fanfare.lane_log WHERE n = 2").await;
        beside.batch_execute(NEW_EPOCH).await.unwrap();
        proxy.cut();
    });
    assert!(
        matches!(outcome, Err(AppendError::Unknown(_))),
        "{outcome:?}"
    );
    assert_eq!(append(&log, &batch).await.outcomes[0].seq, Seq(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_any_more_is_left() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("app").unwrap();
    let log = PostgresLog::connect(&url, "n").await.unwrap();
    let first = append(&log, &[draft("a", None)]).await;
    epoch_in_use(&log).await;
    server
        .execute(
            "postgres",
            "ALTER SYSTEM SET default_transaction_read_only = on",
        )
        .unwrap();
    server
        .execute("postgres", "SELECT pg_reload_conf()")
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        match log.append(&[draft("a", None)]).await {
            // Each session hears of the reload in its own time.
            Ok(_) => assert!(Instant::now() < deadline),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Unavailable(_)));
    assert!(
        refused.to_string().contains("standby, or set to read only"),
        "{refused}"
    );
    let refused = log.heartbeat("{}".into()).await.unwrap_err();
    assert!(refused.to_string().contains("read only"), "{refused}");
    server
        .execute(
            "postgres",
            "ALTER SYSTEM RESET default_transaction_read_only",
        )
        .unwrap();
    server
        .execute("postgres", "SELECT pg_reload_conf()")
        .unwrap();
    assert_eq!(append(&log, &[draft("a", None)]).await.epoch, first.epoch);
}
