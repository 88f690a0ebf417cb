//! Opening: migrations, refusals, old rows.

use std::time::Duration;

use fanfare_backend::postgres::{OpenError, PostgresLog};
use fanfare_bench::local::free_address;
use fanfare_engine::port::{Log, Retention};
use fanfare_wire::Seq;
use tokio::task::JoinSet;

use super::{TestDatabase, channel, count, draft};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_migrate_once() {
    let database = TestDatabase::new();
    let mut nodes = JoinSet::new();
    for number in 0..8 {
        let url = database.url.clone();
        nodes.spawn(async move {
            PostgresLog::connect(&url, &format!("node-{number}"))
                .await
                .unwrap()
                .epoch()
        });
    }
    let epochs = nodes.join_all().await;
    assert_eq!(epochs[0].as_str().len(), 16);
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let client = database.client().await;
    assert_eq!(
        count(&client, "SELECT count(DISTINCT node) FROM fanfare.lanes").await,
        8
    );
    assert_eq!(database.open().await.epoch(), epochs[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_refused() {
    let database = TestDatabase::new();
    drop(database.open().await);
    let client = database.client().await;
    let refusal = async || {
        PostgresLog::connect(&database.url, "n")
            .await
            .map(drop)
            .unwrap_err()
    };
    let sql = "INSERT INTO fanfare.migrations (version, name, checksum) VALUES (99, 'x', 'x')";
    client.batch_execute(sql).await.unwrap();
    let error = refusal().await;
    assert!(
        matches!(error, OpenError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer Fanfare"));
    let sql = "DELETE FROM fanfare.migrations WHERE version = 99;
               UPDATE fanfare.migrations SET checksum = 'x' WHERE version = 2";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(refusal().await, OpenError::OtherSchema { version: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_from_before_epochs_could_change_keeps_its_own() {
    let database = TestDatabase::new();
    let epoch = database.open().await.epoch();
    let client = database.client().await;
    let before = "DROP FUNCTION fanfare.claim_epoch, fanfare.identity_text, fanfare.identity,
                      fanfare.append_all, fanfare.keep_lanes, fanfare.remove_step;
                  DROP FUNCTION fanfare.publish, fanfare.check_publish, fanfare.check_size, fanfare.are_tags,
                      fanfare.is_info, fanfare.commit_queue;
                  DROP TABLE fanfare.app_migrations, fanfare.queue;
                  DROP FUNCTION fanfare.number_queue;
                  ALTER TABLE fanfare.lanes DROP COLUMN of_sql;
                  DELETE FROM fanfare.meta WHERE key <> 'epoch';
                  DELETE FROM fanfare.migrations WHERE version >= 4";
    client.batch_execute(before).await.unwrap();
    let log = database.open().await;
    assert_eq!((log.epoch(), log.origin()), (epoch.clone(), epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_may_open_what_was_migrated() {
    let database = TestDatabase::new();
    let epoch = database.open().await.epoch();
    let client = database.client().await;
    let role = format!("role_{}", uuid::Uuid::now_v7().simple());
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN;
             GRANT USAGE ON SCHEMA fanfare TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA fanfare TO {role};
             GRANT INSERT, UPDATE, DELETE ON fanfare.channels, fanfare.publications,
                 fanfare.idempotency_keys, fanfare.lanes, fanfare.lane_log TO {role};
             GRANT EXECUTE ON FUNCTION fanfare.claim_epoch TO {role}"
        ))
        .await
        .unwrap();
    let url = database.url.replace("//fanfare@", &format!("//{role}@"));
    let log = PostgresLog::connect(&url, "n").await.unwrap();
    assert_eq!(log.epoch(), epoch);
    log.append(&[draft("a", Some("k"))]).await.unwrap();
    log.trim(&[]).await.unwrap();
    // Nor does it need any to take part in a new epoch.
    let elsewhere = "UPDATE fanfare.meta SET value = 'elsewhere' WHERE key = 'database'";
    client.batch_execute(elsewhere).await.unwrap();
    let later = PostgresLog::connect(&url, "n").await.unwrap();
    assert_ne!(later.epoch(), epoch);
    let again = later.append(&[draft("a", Some("k"))]).await.unwrap();
    assert!(again.outcomes[0].duplicate);

    let empty = TestDatabase::new();
    let url = empty.url.replace("//fanfare@", &format!("//{role}@"));
    let error = PostgresLog::connect(&url, "n").await.map(drop).unwrap_err();
    assert!(
        matches!(error, OpenError::Migration { version: 0, .. }),
        "{error}"
    );
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_flushed_whatever_the_default_is() {
    let database = TestDatabase::new();
    drop(database.open().await);
    let client = database.client().await;
    let name = database.url.rsplit('/').next().unwrap();
    client
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off;
             CREATE FUNCTION public.check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF current_setting('synchronous_commit') <> 'on' THEN
                     RAISE 'a crash would take this back';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER check_commit AFTER INSERT ON fanfare.lane_log
                 FOR EACH STATEMENT EXECUTE FUNCTION public.check_commit()"
        ))
        .await
        .unwrap();
    // The check works: a session with the default is caught.
    let beside = database.client().await;
    let sql = "INSERT INTO fanfare.lane_log VALUES (0, 1, 0, '{}', '{}', '{}')";
    assert!(beside.batch_execute(sql).await.is_err());
    database
        .open()
        .await
        .append(&[draft("a", None)])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_is_refused_with_a_reason() {
    let database = TestDatabase::new();
    let refusal = async |url: &str| PostgresLog::connect(url, "n").await.map(drop).unwrap_err();
    for wrong in ["postgres://h:port/d", "postgres:///d", "no URL"] {
        assert!(matches!(refusal(wrong).await, OpenError::Url(_)), "{wrong}");
    }
    let secure = format!("{}?sslmode=require", database.url);
    assert_eq!(refusal(&secure).await, OpenError::TlsRequired);
    let nowhere = format!("postgres://fanfare@{}/x", free_address().unwrap());
    assert!(matches!(refusal(&nowhere).await, OpenError::Unavailable(_)));
    let missing = format!("{}_missing", database.url);
    assert!(matches!(refusal(&missing).await, OpenError::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes() {
    let database = TestDatabase::new();
    let log = database.open().await;
    let silent = database.open().await;
    let client = database.client().await;
    for log in [&log, &silent, &log] {
        let batch = [
            draft("a:1", None),
            draft("a:1", Some("k")),
            draft("b:1", None),
        ];
        log.append(&batch).await.unwrap();
    }
    for (table, column) in [
        ("publications", "time"),
        ("idempotency_keys", "time"),
        ("lane_log", "time"),
        ("lanes", "opened_at"),
    ] {
        let sql = format!("UPDATE fanfare.{table} SET {column} = {column} - $1");
        client.execute(&sql, &[&(2 * DAY_MS)]).await.unwrap();
    }
    log.heartbeat("{}".into()).await.unwrap();
    let last = log
        .append(&[draft("a:1", None), draft("b:1", Some("young"))])
        .await
        .unwrap();
    let day = Some(Duration::from_secs(60 * 60 * 24));
    let rule = |namespace: &str, age_max| Retention {
        namespace: namespace.to_owned(),
        age_max,
        count_max: None,
    };
    let rules = [rule("a", day), rule("b", day.map(|day| day * 3))];
    let trimmed = log.trim(&rules).await.unwrap();
    assert_eq!(
        (trimmed.publications, trimmed.keys, trimmed.lane_batches),
        (4, 1, 3)
    );
    let heads = log.heads(&[channel("a:1"), channel("b:1")]).await.unwrap();
    assert_eq!((heads[0].seq, heads[0].trimmed), (Seq(5), Seq(4)));
    assert_eq!((heads[1].seq, heads[1].trimmed), (Seq(4), Seq::ZERO));
    log.trim(&rules).await.unwrap();
    let lanes = log.lanes().await.unwrap();
    assert_eq!(
        lanes,
        [(last.lane, last.n)].into(),
        "the silent lane is forgotten"
    );
    // The node that was silent for so long is fenced, and goes on in a new lane.
    let batch = [draft("a:1", Some("k")), draft("b:1", Some("young"))];
    let again = silent.append(&batch).await.unwrap();
    assert!(again.lane > last.lane);
    assert!(!again.outcomes[0].duplicate && again.outcomes[1].duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_step_of_what_is_old_goes_and_what_is_young_stays() {
    let database = TestDatabase::new();
    let log = database.open().await;
    log.append(&[draft("a:1", None)]).await.unwrap();
    // As if it had been published to for days: all but the last three are old.
    let sql = format!(
        "INSERT INTO fanfare.publications (channel, seq, id, time, data)
         SELECT channels.id, number, gen_random_uuid(), fanfare.now_ms(), '1'
         FROM fanfare.channels, generate_series(2, 12003) AS number;
         UPDATE fanfare.publications SET time = time - {} WHERE seq <= 12000;
         UPDATE fanfare.channels SET head = 12003",
        2 * DAY_MS
    );
    database.client().await.batch_execute(&sql).await.unwrap();
    let rules = [Retention {
        namespace: "a".to_owned(),
        age_max: Some(Duration::from_secs(60 * 60 * 24)),
        count_max: None,
    }];
    assert_eq!(log.trim(&rules).await.unwrap().publications, 12_000);
    assert_eq!(log.trim(&rules).await.unwrap().publications, 0);
    let heads = log.heads(&[channel("a:1")]).await.unwrap();
    assert_eq!((heads[0].seq, heads[0].trimmed), (Seq(12_003), Seq(12_000)));
}
