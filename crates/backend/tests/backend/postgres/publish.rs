//! Publish from SQL: an application's rows and publications commit or vanish together, in the order and with the promises of
//! the log, whatever the application does in its transaction.

mod refusals;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fanfare_backend::postgres::PostgresLog;
use fanfare_engine::port::{LaneBatch, LaneCursors, Log};
use fanfare_wire::Seq;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Transaction};

use super::{NEW_EPOCH, TestDatabase, WAITING, channel, count, draft, read_all, wait_for};

const ROWS: &str = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, text text)";

/// Lanes that commits from SQL may take.
const SQL_LANES: &str = "SELECT count(*) FROM fanfare.lanes WHERE of_sql AND NOT retired";

/// A log with a table of an application beside it.
async fn open(database: &TestDatabase) -> (Arc<PostgresLog>, Client) {
    let log = Arc::new(database.open().await);
    let client = database.client().await;
    client.batch_execute(ROWS).await.unwrap();
    (log, client)
}

/// What a channel has, as texts, in its order.
async fn texts(log: &PostgresLog, name: &str) -> Vec<String> {
    let read = read_all(log, name).await;
    let numbers: Vec<_> = read.iter().map(|one| one.seq.0).collect();
    assert!(numbers.iter().copied().eq(1..=read.len() as u64), "{name}");
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    read.iter().map(|one| text(one.data.as_bytes())).collect()
}

/// The lanes' entries have no holes, and together they are what the channels have.
async fn check_lane_log(log: &PostgresLog, names: &[&str]) {
    let entries = log.sweep(&LaneCursors::new(), usize::MAX).await.unwrap();
    let mut reached = LaneCursors::new();
    let mut added = BTreeMap::<String, Vec<(u64, u64)>>::new();
    for LaneBatch {
        lane, n, channels, ..
    } in entries
    {
        let last = reached.entry(lane).or_default();
        assert_eq!(n, *last + 1, "the log of {lane:?} has no hole");
        *last = n;
        for (name, first, last) in channels {
            let ranges = added.entry(name.as_str().to_owned()).or_default();
            ranges.push((first.0, last.0));
        }
    }
    for name in names {
        let ranges = added.entry((*name).to_owned()).or_default();
        ranges.sort_unstable();
        let end = ranges.iter().fold(1, |next, (first, last)| {
            assert_eq!(*first, next, "{name}");
            last + 1
        });
        let head = log.heads(&[channel(name)]).await.unwrap()[0];
        assert_eq!(head.seq, Seq(end - 1), "{name}");
    }
}

async fn publish(transaction: &Transaction<'_>, name: &str, data: &str) {
    let sql = "SELECT fanfare.publish($1, $2::text::jsonb)";
    transaction.execute(sql, &[&name, &data]).await.unwrap();
}

/// One transaction after the other: a row, and a publication of it in each of two channels, in one order or the other.
async fn write(url: String, writer: usize, transactions: usize) -> usize {
    let mut client = super::client(&url).await;
    let mut committed = 0;
    for number in 0..transactions {
        let transaction = client.transaction().await.unwrap();
        let text = format!("{writer}/{number}");
        let sql = "INSERT INTO orders (text) VALUES ($1)";
        transaction.execute(sql, &[&text]).await.unwrap();
        let mut names = ["a:1", "b:1"];
        if (writer + number).is_multiple_of(2) {
            names.reverse();
        }
        for name in names {
            publish(&transaction, name, &format!("\"{text}\"")).await;
        }
        if number % 5 == 4 {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            committed += 1;
        }
    }
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_opposite_orders_do_not_deadlock() {
    const WRITERS: usize = 12;
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let done = Arc::new(AtomicBool::new(false));
    // A reader with cursors sees everything, whoever commits meanwhile.
    let reading = tokio::spawn(follow(log.clone(), done.clone()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(database.url.clone(), writer, 25));
    }
    let node = database.open().await;
    let mut by_node = 0;
    while by_node < 50 {
        let batch = [draft("b:1", None), draft("a:1", None)];
        node.append(&batch).await.unwrap();
        by_node += 1;
    }
    let by_sql: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(by_sql, WRITERS * 20);
    let rows = client.query("SELECT text FROM orders", &[]).await.unwrap();
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| format!("\"{}\"", row.get::<_, &str>(0)))
        .collect();
    rows.sort_unstable();
    for name in ["a:1", "b:1"] {
        let mut told = texts(&log, name).await;
        assert_eq!(told.len(), by_sql + by_node, "{name}");
        told.retain(|text| text != "{}");
        told.sort_unstable();
        assert_eq!(told, rows, "{name}");
    }
    check_lane_log(&log, &["a:1", "b:1"]).await;
    done.store(true, Ordering::Release);
    assert_eq!(reading.await.unwrap(), (by_sql + by_node) as u64);
    let lanes = count(&client, SQL_LANES).await;
    assert!((1..=WRITERS as i64).contains(&lanes), "{lanes} lanes");
    assert_eq!(
        count(&client, "SELECT count(*) FROM fanfare.queue").await,
        0
    );
}

/// Reads the lane log past its cursors until the end, and gives how far it has seen the channel `a:1` reach without a hole.
async fn follow(log: Arc<PostgresLog>, done: Arc<AtomicBool>) -> u64 {
    let (mut cursors, mut seen) = (LaneCursors::new(), 0);
    loop {
        let last_one = done.load(Ordering::Acquire);
        let entries = log.sweep(&cursors, usize::MAX).await.unwrap();
        let mut ranges = Vec::new();
        for entry in entries {
            let cursor = cursors.insert(entry.lane, entry.n).unwrap_or(0);
            assert_eq!(entry.n, cursor + 1);
            let own = entry.channels.iter().filter(|it| it.0.as_str() == "a:1");
            ranges.extend(own.map(|(_, first, last)| (first.0, last.0)));
        }
        ranges.sort_unstable();
        for (first, last) in ranges {
            assert_eq!(first, seen + 1, "one snapshot shows a channel whole");
            seen = last;
        }
        if last_one {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_nobody_up() {
    let database = TestDatabase::new();
    let (log, _) = open(&database).await;
    let mut slow = database.client().await;
    let slow = slow.transaction().await.unwrap();
    publish(&slow, "a:1", "\"slow\"").await;
    publish(&slow, "new:1", "\"slow\"").await;
    // What is meant for the application's own constraints changes nothing.
    slow.batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
        .await
        .unwrap();
    publish(&slow, "a:1", "\"slow again\"").await;
    slow.batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
        .await
        .unwrap();
    let mut quick = database.client().await;
    for name in ["a:1", "new:1"] {
        let quick = quick.transaction().await.unwrap();
        publish(&quick, name, "\"quick\"").await;
        quick.commit().await.unwrap();
        log.append(&[draft(name, None)]).await.unwrap();
    }
    slow.commit().await.unwrap();
    assert_eq!(
        texts(&log, "a:1").await,
        ["\"quick\"", "{}", "\"slow\"", "\"slow again\""]
    );
    assert_eq!(texts(&log, "new:1").await, ["\"quick\"", "{}", "\"slow\""]);
    check_lane_log(&log, &["a:1", "new:1"]).await;
}

/// A constraint of the application that is checked at commit waits for a row; channels are locked after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_commit_holds_no_channel() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let tables = "CREATE TABLE shops (id int PRIMARY KEY);
                  INSERT INTO shops VALUES (1);
                  CREATE TABLE sales (shop int REFERENCES shops DEFERRABLE INITIALLY DEFERRED)";
    client.batch_execute(tables).await.unwrap();
    let mut holder = database.client().await;
    let holder = holder.transaction().await.unwrap();
    holder
        .batch_execute("SELECT FROM shops FOR UPDATE")
        .await
        .unwrap();
    let seller = database.client().await;
    let selling = tokio::spawn(async move {
        let sql = "BEGIN;
                   SELECT fanfare.publish('a:1', '\"sold\"');
                   INSERT INTO sales VALUES (1);
                   COMMIT";
        seller.batch_execute(sql).await
    });
    wait_for(&client, WAITING).await;
    log.append(&[draft("a:1", None)]).await.unwrap();
    holder.commit().await.unwrap();
    selling.await.unwrap().unwrap();
    assert_eq!(texts(&log, "a:1").await, ["{}", "\"sold\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_was_never_queued() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let sql = "BEGIN;
               SAVEPOINT one; SELECT fanfare.publish('a:1', '0', 'k'); ROLLBACK TO one;
               SELECT fanfare.publish('a:1', '1', 'k');
               SAVEPOINT two; SELECT fanfare.publish('a:1', '0'), fanfare.publish('b:1', '0');
               SAVEPOINT three; SELECT fanfare.publish('a:1', '0'); RELEASE three;
               ROLLBACK TO two;
               SELECT fanfare.publish('a:1', '2');
               SAVEPOINT four; SELECT fanfare.publish('c:1', '1'); RELEASE four;
               COMMIT;
               BEGIN; SELECT fanfare.publish('a:1', '0', 'other'); ROLLBACK;
               DO $$ BEGIN
                   PERFORM fanfare.publish('a:1', '3');
                   BEGIN PERFORM fanfare.publish('a:1', '0'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
                   PERFORM fanfare.publish('a:1', '4', 'other');
               END $$";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(texts(&log, "a:1").await, ["1", "2", "3", "4"]);
    assert_eq!(texts(&log, "c:1").await, ["1"]);
    assert!(texts(&log, "b:1").await.is_empty());
    check_lane_log(&log, &["a:1", "b:1", "c:1"]).await;
    // An error at the end takes everything with it.
    let fails = "CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
                 BEGIN; SELECT fanfare.publish('a:1', '0'); INSERT INTO once VALUES (1), (1); COMMIT";
    client.batch_execute(fails).await.unwrap_err();
    client
        .batch_execute("ROLLBACK; SELECT fanfare.publish('a:1', '5')")
        .await
        .unwrap();
    assert_eq!(texts(&log, "a:1").await.len(), 5);
    assert_eq!(
        count(&client, "SELECT count(*) FROM fanfare.queue").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_the_first_position_again() {
    let database = TestDatabase::new();
    let (log, _) = open(&database).await;
    let (one, mut two) = (database.client().await, database.client().await);
    let ask = async |client: &Client, name: &str, key: &str| {
        let sql = "SELECT id::text, seq, epoch, duplicate FROM fanfare.publish($1, '{}', $2)";
        let row = client.query_one(sql, &[&name, &key]).await.unwrap();
        let told: (String, Option<i64>, Option<String>, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        told
    };
    log.append(&[draft("a:1", None), draft("a:1", Some("of a node"))])
        .await
        .unwrap();
    let epoch = Some(log.epoch().as_str().to_owned());
    let told = ask(&one, "a:1", "of a node").await;
    let first = read_all(&log, "a:1").await[1].id.to_string();
    assert_eq!(told, (first, Some(2), epoch.clone(), true));
    // In another channel it is another key; an empty one is none.
    let fresh = ask(&one, "b:1", "of a node").await;
    assert_eq!((fresh.1, fresh.2, fresh.3), (None, None, false));
    assert_eq!(
        ask(&one, "b:1", "of a node").await,
        (fresh.0, Some(1), epoch, true)
    );
    for _ in 0..2 {
        assert!(!ask(&one, "b:1", "").await.3);
    }
    let outcome = log
        .append(&[draft("b:1", Some("of a node"))])
        .await
        .unwrap()
        .outcomes[0];
    assert_eq!((outcome.seq, outcome.duplicate), (Seq(1), true));
    // Two that are open at once: the second one publishes nothing more, and only once what is its own.
    let open = two.transaction().await.unwrap();
    let sql = "SELECT duplicate FROM fanfare.publish('b:1', '{}', 'both')";
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(open.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    }
    assert_eq!(told, [false, true]);
    publish(&open, "b:1", "\"own\"").await;
    one.execute(sql, &[]).await.unwrap();
    open.commit().await.unwrap();
    assert_eq!(
        texts(&log, "b:1").await,
        ["{}", "{}", "{}", "{}", "\"own\""]
    );
    check_lane_log(&log, &["a:1", "b:1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_in_the_middle_leave_all_or_nothing() {
    const WRITERS: usize = 8;
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let url = database.url.clone();
        writers.spawn(async move {
            for number in 0..30_u64 {
                // The connection is given up at any moment, as of a process that is killed.
                let patience =
                    Duration::from_micros((number * 7919 + writer as u64 * 977) % 12_000);
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                let talking = tokio::spawn(connection);
                let sql = "BEGIN;
                           INSERT INTO orders (text) VALUES ('x');
                           SELECT fanfare.publish('a:1', to_jsonb(currval('orders_id_seq')));
                           SELECT fanfare.publish('b:1', to_jsonb(currval('orders_id_seq')));
                           COMMIT";
                let _ = tokio::time::timeout(patience, client.batch_execute(sql)).await;
                talking.abort();
            }
        });
    }
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'BEGIN;%orders%' AND random() < 0.2";
    while !writers.is_empty() {
        count(&client, kill).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
        while writers.try_join_next().is_some() {}
    }
    let busy = "SELECT (count(*) = 0)::int::bigint FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'BEGIN;%orders%'";
    wait_for(&client, busy).await;
    let rows = client
        .query("SELECT id::text FROM orders", &[])
        .await
        .unwrap();
    let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    rows.sort_unstable();
    for name in ["a:1", "b:1"] {
        let mut told = texts(&log, name).await;
        told.sort_unstable();
        assert_eq!(told, rows, "{name}");
    }
    check_lane_log(&log, &["a:1", "b:1"]).await;
    assert_eq!(
        count(&client, "SELECT count(*) FROM fanfare.queue").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_goes_on_in_new_lanes() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    client
        .batch_execute("SELECT fanfare.publish('a:1', '1', 'k')")
        .await
        .unwrap();
    let mut open = database.client().await;
    let open = open.transaction().await.unwrap();
    publish(&open, "a:1", "2").await;
    client.batch_execute(NEW_EPOCH).await.unwrap();
    assert_eq!(count(&client, SQL_LANES).await, 0, "they are fenced");
    open.commit().await.unwrap();
    assert_eq!(count(&client, SQL_LANES).await, 1);
    let epoch: String = client
        .query_one("SELECT epoch FROM fanfare.publish('a:1', '1', 'k')", &[])
        .await
        .unwrap()
        .get(0);
    let before = log.epoch();
    let later = database.open().await;
    assert_eq!(later.epoch().as_str(), epoch);
    assert_ne!(later.epoch(), before);
    assert_eq!(texts(&later, "a:1").await, ["1", "2"]);
    check_lane_log(&later, &["a:1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_as_many_as_commit_at_once() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    assert!(!log.expects_unannounced());
    for _ in 0..100 {
        let short = database.client().await;
        short
            .batch_execute("SELECT fanfare.publish('a:1', '{}')")
            .await
            .unwrap();
    }
    assert_eq!(count(&client, SQL_LANES).await, 1);
    let entries = log.sweep(&LaneCursors::new(), 10).await.unwrap();
    assert!(entries.iter().all(|entry| entry.unannounced) && log.expects_unannounced());
    // Two more that nobody has needed for long, and one that was needed a moment ago.
    let more = "INSERT INTO fanfare.lanes (node, of_sql, opened_at)
                SELECT 'sql', true, 0 FROM generate_series(1, 3);
                INSERT INTO fanfare.lane_log
                SELECT max(id), 1, fanfare.now_ms(), '{}', '{}', '{}' FROM fanfare.lanes";
    client.batch_execute(more).await.unwrap();
    // Nodes do not take them for nodes that are silent.
    log.heartbeat("{}".into()).await.unwrap();
    assert_eq!(count(&client, SQL_LANES).await, 4);
    let old = "UPDATE fanfare.lanes SET opened_at = 0 WHERE of_sql;
               UPDATE fanfare.lane_log SET time = 0 WHERE n > 1";
    client.batch_execute(old).await.unwrap();
    // Not through the one that has seen these entries: it would miss them, and begin a new epoch.
    let node = database.open().await;
    node.trim(&[]).await.unwrap();
    // The first stays though it is idle, and nodes that start know by it.
    assert_eq!(count(&client, SQL_LANES).await, 2);
    node.trim(&[]).await.unwrap();
    assert_eq!(
        count(&client, "SELECT count(*) FROM fanfare.lanes WHERE of_sql").await,
        2
    );
    node.lanes().await.unwrap();
    assert!(node.expects_unannounced());
    client
        .batch_execute("SELECT fanfare.publish('a:1', '{}')")
        .await
        .unwrap();
    assert_eq!(texts(&log, "a:1").await.len(), 101);
}
