//! Sessions that break, servers that go away, writers that meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fanfare_backend::postgres::PostgresLog;
use fanfare_bench::local::Postgres;
use fanfare_engine::port::{AppendError, LaneCursors, Log};
use fanfare_wire::{Draft, Seq};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    PATIENCE, TestDatabase, WAITING, client, draft, pace::Pace, proxy::Proxy, read_all, wait_for,
};

/// Ends the sessions that append, busy or not.
const KILL_LANES: &str = "
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND query LIKE '%fanfare.append%'";

/// Changes with each batch.
const BATCHES: &str = "SELECT count(*) FROM fanfare.lane_log";

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_opposite_orders_do_not_deadlock() {
    let database = TestDatabase::new();
    let logs = [database.open().await, database.open().await];
    for round in 0..150 {
        // Some channels are new in every round, the others are known.
        let name = |it: usize| {
            if it.is_multiple_of(2) {
                format!("r{round}:{it}")
            } else {
                format!("c:{it}")
            }
        };
        let there: Vec<_> = (0..30).map(|it| draft(&name(it), None)).collect();
        let back: Vec<_> = (0..30).rev().map(|it| draft(&name(it), None)).collect();
        let (one, other) = tokio::join!(logs[0].append(&there), logs[1].append(&back));
        for (one, other) in one
            .unwrap()
            .outcomes
            .iter()
            .zip(other.unwrap().outcomes.iter().rev())
        {
            assert_eq!(one.seq.0.abs_diff(other.seq.0), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_says_where_it_waited_for_others() {
    let database = TestDatabase::new();
    let log = Arc::new(database.open().await);
    // A key that was made for handing a draft on has a character that no publisher's key may have.
    let batch = Arc::new([
        draft("a", Some("\0made")),
        draft("b", None),
        draft("c", None),
    ]);
    let alone = log.append(&*batch).await.unwrap();
    assert_eq!(alone.contention, None, "it was the first in its channels");
    let alone = log.append(&*batch).await.unwrap();
    assert_eq!(alone.contention, None, "nobody was there");
    let other = database.client().await;
    // Somebody else's commit: it holds one of the channels, and moves its head.
    let sql = "BEGIN; UPDATE fanfare.channels SET head = head + 1 WHERE name = 'b'";
    other.batch_execute(sql).await.unwrap();
    let waiting = tokio::spawn({
        let (log, batch) = (Arc::clone(&log), Arc::clone(&batch));
        async move { log.append(&*batch).await.unwrap() }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%fanfare.append%'";
    wait_for(&database.client().await, waits).await;
    other.batch_execute("COMMIT").await.unwrap();
    let contention = waiting.await.unwrap().contention.unwrap();
    assert_eq!(contention.channels, [super::channel("b")]);
    assert!(contention.waited > Duration::ZERO);
}

/// What a writer was told about each of its drafts.
enum Told {
    Committed(Seq),
    NotCommitted,
    Unknown,
}

async fn write(log: Arc<PostgresLog>, batches: u64, seed: u64) -> Vec<(Draft, Told)> {
    let mut told = Vec::new();
    for batch in 0..batches {
        let drafts: Vec<_> = (0..5)
            .map(|it| draft(&format!("c:{}", (batch * 3 + it + seed) % 11), None))
            .collect();
        match log.append(&drafts).await {
            Ok(committed) => {
                let outcomes = committed.outcomes.into_iter();
                told.extend(
                    drafts
                        .into_iter()
                        .zip(outcomes.map(|it| Told::Committed(it.seq))),
                );
            }
            Err(AppendError::Unavailable(_)) => {
                told.extend(drafts.into_iter().map(|draft| (draft, Told::NotCommitted)));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(AppendError::Unknown(_)) => {
                told.extend(drafts.into_iter().map(|draft| (draft, Told::Unknown)));
            }
        }
    }
    told
}

/// Nothing acknowledged is missing, nothing refused is there, no number is missing, every entry of the lane log is.
async fn check(log: &PostgresLog, told: &[(Draft, Told)]) {
    let mut there: BTreeMap<Uuid, (String, Seq)> = BTreeMap::new();
    let mut covered: BTreeSet<(String, u64)> = BTreeSet::new();
    for name in (0..11).map(|it| format!("c:{it}")) {
        for (publication, expected) in read_all(log, &name).await.into_iter().zip(1..) {
            assert_eq!(publication.seq, Seq(expected), "{name} has a hole");
            covered.insert((name.clone(), expected));
            let before = there.insert(publication.id, (name.clone(), publication.seq));
            assert_eq!(before, None, "committed twice");
        }
    }
    for (draft, told) in told {
        let found = there.get(&draft.id).map(|(_, seq)| *seq);
        match told {
            Told::Committed(seq) => assert_eq!(found, Some(*seq), "{} {}", draft.channel, draft.id),
            Told::NotCommitted => assert_eq!(found, None, "{} {}", draft.channel, draft.id),
            Told::Unknown => {}
        }
    }
    for entry in log.sweep(&LaneCursors::new(), usize::MAX).await.unwrap() {
        for (name, first, last) in entry.channels {
            for seq in first.0..=last.0 {
                assert!(
                    covered.remove(&(name.as_str().to_owned(), seq)),
                    "{name} {seq}"
                );
            }
        }
    }
    assert!(covered.is_empty(), "not in the lane log: {covered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sessions_lose_and_double_nothing() {
    let database = TestDatabase::new();
    let logs = [
        Arc::new(database.open().await),
        Arc::new(database.open().await),
    ];
    let mut writers = JoinSet::new();
    for seed in 0..4 {
        writers.spawn(write(logs[seed as usize % 2].clone(), 150, seed));
    }
    let (mut pace, done) = Pace::of(&database, BATCHES).await;
    let killer = tokio::spawn(async move {
        let mut killed = 0;
        while pace.next().await {
            tokio::time::sleep(Duration::from_millis(15)).await;
            killed += super::count(&pace.client, KILL_LANES).await;
        }
        killed
    });
    let told: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    done.store(true, Ordering::Release);
    assert!(killer.await.unwrap() > 0);
    let committed = told
        .iter()
        .filter(|(_, told)| matches!(told, Told::Committed(_)))
        .count();
    assert!(
        committed * 2 > told.len(),
        "only {committed} of {} were committed",
        told.len()
    );
    check(&logs[0], &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_anywhere_lose_and_double_nothing() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let logs = [
        Arc::new(PostgresLog::connect(&url, "one").await.unwrap()),
        Arc::new(PostgresLog::connect(&url, "other").await.unwrap()),
    ];
    let mut writers = JoinSet::new();
    for seed in 0..4 {
        writers.spawn(write(logs[seed as usize % 2].clone(), 40, seed));
    }
    let (pace, done) = Pace::of(&database, BATCHES).await;
    let cutter = tokio::spawn(proxy.cut_again_and_again(pace));
    let told: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    done.store(true, Ordering::Release);
    assert!(cutter.await.unwrap() > 10);
    let unknown = |(_, told): &(Draft, Told)| matches!(told, Told::Unknown);
    assert!(
        !told.iter().any(unknown),
        "the server was always there to be asked"
    );
    check(&database.open().await, &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found() {
    let database = TestDatabase::new();
    let (proxy, url) = Proxy::start(&database.url).await;
    let log = PostgresLog::connect(&url, "test").await.unwrap();
    let first = log
        .append(&[draft("a", Some("old")), draft("b", None)])
        .await
        .unwrap();
    let batch = [
        draft("a", None),
        draft("a", Some("new")),
        draft("a", Some("old")),
        draft("b", None),
        draft("a", Some("new")),
    ];
    proxy.deafen();
    let beside = database.client().await;
    let (committed, ()) = tokio::join!(log.append(&batch), async {
        wait_for(&beside, "SELECT count(*) FROM fanfare.lane_log WHERE n = 2").await;
        proxy.cut();
    });
    let committed = committed.unwrap();
    assert_eq!(
        (committed.lane, committed.n),
        (first.lane, 2),
        "told as what it was"
    );
    let told: Vec<_> = committed
        .outcomes
        .iter()
        .map(|it| (it.seq.0, it.duplicate))
        .collect();
    assert_eq!(
        told,
        [(2, false), (3, false), (1, true), (2, false), (3, true)]
    );
    let read = read_all(&log, "a").await;
    assert_eq!(read.len(), 3);
    assert_eq!(read[1].time, committed.outcomes[0].time);
    assert_eq!(committed.outcomes[2].time, first.outcomes[0].time);
    let next = log.append(&[draft("a", None)]).await.unwrap();
    assert!(next.lane > first.lane);
    assert_eq!((next.n, next.outcomes[0].seq), (1, Seq(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_no_standby_has_is_not_acknowledged() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("app").unwrap();
    let log = PostgresLog::connect(&url, "test").await.unwrap();
    log.append(&[draft("a", None)]).await.unwrap();
    let standbys = |names: &str| {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        server.execute("postgres", &set).unwrap();
        server
            .execute("postgres", "SELECT pg_reload_conf()")
            .unwrap();
    };
    standbys("nobody");
    let beside = client(&url).await;
    let breaking_off = tokio::spawn(async move {
        let waiting = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                       WHERE wait_event = 'SyncRep' AND query LIKE '%fanfare.append%'";
        wait_for(&beside, waiting).await;
    });
    let mut committed = 1;
    let (batch, refusal) = loop {
        // The server hears of its new settings in its own time.
        let batch = [draft("a", Some(&format!("key-{committed}")))];
        match log.append(&batch).await {
            Ok(_) => committed += 1,
            Err(refusal) => break (batch, refusal),
        }
    };
    breaking_off.await.unwrap();
    assert!(
        matches!(&refusal, AppendError::Unknown(words) if words.contains("standby")),
        "{refusal}"
    );
    // Nor is it when the session dies with the wait, and the commit is looked for.
    let beside = client(&url).await;
    let breaking_off = tokio::spawn(async move {
        // The lane that the batch is sent in, the batch, and the lane from which it is looked for.
        for (end, call) in [
            ("pg_cancel_backend", "open_lane"),
            ("pg_terminate_backend", "append"),
            ("pg_cancel_backend", "open_lane"),
        ] {
            let waiting = format!(
                "SELECT count({end}(pid)) FROM pg_stat_activity
                 WHERE wait_event = 'SyncRep' AND query LIKE '%fanfare.{call}%'"
            );
            wait_for(&beside, &waiting).await;
        }
    });
    let refusal = log.append(&[draft("a", None)]).await.unwrap_err();
    breaking_off.await.unwrap();
    assert!(matches!(&refusal, AppendError::Unknown(_)), "{refusal}");
    standbys("");
    let again = log.append(&batch).await.unwrap();
    assert_eq!(
        (again.outcomes[0].seq, again.outcomes[0].duplicate),
        (Seq(committed + 1), true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_dies_waiting_is_tried_again() {
    let database = TestDatabase::new();
    let log = database.open().await;
    let first = log.append(&[draft("a", None)]).await.unwrap();
    let (mut holder, beside) = (database.client().await, database.client().await);
    let holding = holder.transaction().await.unwrap();
    holding
        .execute("SELECT FROM fanfare.channels FOR UPDATE", &[])
        .await
        .unwrap();
    let batch = [draft("a", None)];
    let (committed, ()) = tokio::join!(log.append(&batch), async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                       AND datname = current_database() AND query LIKE '%fanfare.append%'";
        wait_for(&beside, waiting).await;
        super::count(&beside, KILL_LANES).await;
        wait_for(&beside, "SELECT count(*) FROM fanfare.lanes WHERE retired").await;
        wait_for(&beside, waiting).await;
        holding.rollback().await.unwrap();
    });
    let committed = committed.unwrap();
    assert!(committed.lane > first.lane);
    assert_eq!((committed.n, committed.outcomes[0].seq), (1, Seq(2)));
    assert_eq!(read_all(&log, "a").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_append_leaves_the_lane_usable() {
    let database = TestDatabase::new();
    let log = database.open().await;
    log.append(&[draft("a", None)]).await.unwrap();
    let (mut holder, beside) = (database.client().await, database.client().await);
    let holding = holder.transaction().await.unwrap();
    holding
        .execute("SELECT FROM fanfare.channels FOR UPDATE", &[])
        .await
        .unwrap();
    let batch = [draft("a", None)];
    tokio::select! {
        _ = log.append(&batch) => panic!("the channel is locked"),
        () = wait_for(&beside, WAITING) => {}
    }
    holding.rollback().await.unwrap();
    // The dropped one may be committed before this one, never after it.
    let next = log.append(&[draft("a", None)]).await.unwrap();
    let read = read_all(&log, "a").await;
    assert_eq!(read.len() as u64, next.outcomes[0].seq.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_retired_by_others_is_replaced() {
    let database = TestDatabase::new();
    let log = database.open().await;
    let beside = database.client().await;
    let first = log.append(&[draft("a", None)]).await.unwrap();
    beside
        .batch_execute("UPDATE fanfare.lanes SET retired = true")
        .await
        .unwrap();
    let second = log.append(&[draft("a", None)]).await.unwrap();
    assert!(second.lane > first.lane);
    assert_eq!((second.n, second.outcomes[0].seq), (1, Seq(2)));
    beside
        .batch_execute("UPDATE fanfare.lanes SET retired = true")
        .await
        .unwrap();
    let records = log.heartbeat("{}".into()).await.unwrap();
    assert_eq!(records.len(), 1);
    let third = log.append(&[draft("a", None)]).await.unwrap();
    assert_eq!(third.lane, records[0].lane);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_heals_the_log() {
    let mut server = Postgres::start().unwrap();
    let url = server.create_database("restarts").unwrap();
    let log = Arc::new(PostgresLog::connect(&url, "test").await.unwrap());
    let first = log.append(&[draft("x", Some("k"))]).await.unwrap();
    read_all(&log, "x").await;

    server.stop().unwrap();
    assert!(log.append(&[draft("x", None)]).await.is_err());
    assert!(log.lanes().await.is_err());
    assert!(log.heads(&[]).await.is_err());
    assert!(log.sweep(&LaneCursors::new(), 1).await.is_err());
    assert!(log.trim(&[]).await.is_err());
    assert!(log.heartbeat("{}".into()).await.is_err());

    server.restart().unwrap();
    let patience = Instant::now() + PATIENCE;
    let again = loop {
        match log.append(&[draft("x", Some("k")), draft("x", None)]).await {
            Ok(committed) => break committed,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(again.lane > first.lane);
    assert!(again.outcomes[0].duplicate);
    log.heartbeat("{}".into()).await.unwrap();
    log.trim(&[]).await.unwrap();

    // Now it crashes under load.
    let mut writers = JoinSet::new();
    for seed in 0..3 {
        writers.spawn(write(log.clone(), 200, seed));
    }
    let beside = client(&url).await;
    wait_for(
        &beside,
        "SELECT count(*) FROM fanfare.lane_log WHERE n > 20",
    )
    .await;
    let server = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    });
    let told: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let server = server.await.unwrap();
    // Whoever gave up may have done so before it was back.
    let patience = Instant::now() + PATIENCE;
    while let Err(error) = log.append(&[draft("x", None)]).await {
        assert!(Instant::now() < patience, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = read_all(&log, "x").await;
    assert!(
        read.iter()
            .map(|publication| publication.seq.0)
            .eq(1..=read.len() as u64)
    );
    let before = server.execute(
        "restarts",
        "DELETE FROM fanfare.lane_log WHERE 'x' = ANY (channels)",
    );
    before.unwrap();
    check(&log, &told).await;
}
