//! What may not be published is refused in the call, and an application may do nothing else.

use fanfare_engine::port::Log;
use tokio_postgres::error::SqlState;

use super::{open, texts};
use crate::postgres::{TestDatabase, count, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused_in_the_call() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let refused = async |arguments: &str, code: SqlState, words: &str| {
        let sql = format!("BEGIN; SELECT fanfare.publish({arguments})");
        let error = client.batch_execute(&sql).await.unwrap_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), code, "{arguments}: {error}");
        assert!(error.message().contains(words), "{arguments}: {error}");
    };
    let wrong = SqlState::INVALID_PARAMETER_VALUE;
    for name in [
        "''",
        "NULL",
        "'two words'",
        "'q\"'",
        r"'b\'",
        r"E'n\n'",
        "'ü'",
        "repeat('x', 256)",
    ] {
        refused(&format!("{name}, '1'"), wrong.clone(), "a channel name").await;
    }
    refused(
        "'_fanfare:revocations', '1'",
        wrong.clone(),
        "the server's own",
    )
    .await;
    refused(
        "'a', '{\"a\"'",
        SqlState::INVALID_TEXT_REPRESENTATION,
        "json",
    )
    .await;
    refused(
        "'a', NULL",
        SqlState::NULL_VALUE_NOT_ALLOWED,
        "data is NULL",
    )
    .await;
    refused("'a', '1', repeat('x', 129)", wrong.clone(), "128 bytes").await;
    for tags in ["[]", "{\"a\":1}", "\"a\""] {
        refused(
            &format!("'a', '1', tags => '{tags}'"),
            wrong.clone(),
            "tags are",
        )
        .await;
    }
    for info in ["[]", "{\"user\":1}", "{\"usr\":\"u\"}"] {
        refused(
            &format!("'a', '1', info => '{info}'"),
            wrong.clone(),
            "info is",
        )
        .await;
    }
    let large = SqlState::PROGRAM_LIMIT_EXCEEDED;
    refused(
        "'a', to_jsonb(repeat('x', 65535))",
        large.clone(),
        "65537 bytes",
    )
    .await;
    let tags = "'a', '1', tags => jsonb_build_object('a', repeat('x', 4096))";
    refused(tags, large.clone(), "4096 bytes").await;
    let many = "'a', '1') FROM generate_series(1, 10001) AS t (i";
    refused(many, large.clone(), "10000 publications").await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let sql = format!("BEGIN ISOLATION LEVEL {level}; SELECT fanfare.publish('a', '1')");
        let error = client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    assert!(texts(&log, "a").await.is_empty());
    // Just allowed, and what an operator allows.
    let allowed = [
        "SELECT fanfare.publish(repeat('x', 255), 'null', repeat('k', 128))",
        "SELECT fanfare.publish('a', to_jsonb(repeat('x', 65534)))",
        "SELECT count(fanfare.publish('a', '1')) FROM generate_series(1, 10000)",
        "INSERT INTO fanfare.meta VALUES ('sql_message_bytes_max', '70000')",
        "SELECT fanfare.publish('a', to_jsonb(repeat('x', 65535)))",
    ];
    for sql in allowed {
        client.batch_execute(sql).await.unwrap();
    }
    assert_eq!(texts(&log, "a").await.len(), 10_002);
    refused(
        "'a', to_jsonb(repeat('x', 70000))",
        large,
        "more than 70000",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_what_was_given() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let sql = r#"SELECT fanfare.publish('a', E'{"text": "one\\ntwo \\u00e9", "n": [1.50, null]}', tags => '{"b": "1"}',
                     info => '{"user": "u", "conn_info": {"name": "U"}}')"#;
    client.batch_execute(sql).await.unwrap();
    let read = read_all(&log, "a").await;
    let text = |json: &fanfare_wire::Json| String::from_utf8(json.as_bytes().to_vec()).unwrap();
    // As jsonb writes it, in UTF-8 and on one line.
    assert_eq!(
        text(&read[0].data),
        r#"{"n": [1.50, null], "text": "one\ntwo é"}"#
    );
    assert_eq!(read[0].tags.as_ref().map(text).unwrap(), r#"{"b": "1"}"#);
    let info = read[0].info.as_ref().map(text).unwrap();
    assert_eq!(info, r#"{"user": "u", "conn_info": {"name": "U"}}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_publish_and_nothing_else() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let role = format!("role_{}", uuid::Uuid::now_v7().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA fanfare TO {role};
         GRANT CREATE ON SCHEMA public TO {role}"
    );
    client.batch_execute(&grants).await.unwrap();
    let url = database.url.replace("//fanfare@", &format!("//{role}@"));
    let app = crate::postgres::client(&url).await;
    let denied = async |sql: &str| {
        let error = app.batch_execute(sql).await.unwrap_err();
        app.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{sql}: {error}"
        );
    };
    denied("SELECT fanfare.publish('a', '1')").await;
    let grant = format!("GRANT EXECUTE ON FUNCTION fanfare.publish TO {role}");
    client.batch_execute(&grant).await.unwrap();
    // Its own functions and operators are never taken for those that are meant.
    let traps = "CREATE FUNCTION public.octet_length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trap'; END $$;
                 CREATE FUNCTION public.append(bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'trap'; END $$;
                 CREATE TEMP TABLE queue (xact xid8);
                 CREATE TEMP TABLE lanes (id bigint);
                 SET search_path = public, pg_catalog";
    app.batch_execute(traps).await.unwrap();
    app.batch_execute("SELECT fanfare.publish('a', '1', 'k')")
        .await
        .unwrap();
    assert_eq!(texts(&log, "a").await, ["1"]);
    for table in [
        "channels",
        "publications",
        "idempotency_keys",
        "lanes",
        "lane_log",
        "queue",
        "meta",
    ] {
        denied(&format!("SELECT * FROM fanfare.{table}")).await;
        denied(&format!("DELETE FROM fanfare.{table}")).await;
        denied(&format!("SELECT FROM fanfare.{table} FOR UPDATE")).await;
        denied(&format!(
            "BEGIN; LOCK TABLE fanfare.{table} IN ACCESS SHARE MODE"
        ))
        .await;
    }
    denied("INSERT INTO fanfare.queue (xact, place) VALUES (pg_current_xact_id(), 0)").await;
    denied("UPDATE fanfare.channels SET head = 0").await;
    denied("SELECT fanfare.claim_epoch('e', NULL)").await;
    denied("SELECT fanfare.open_lane('n', NULL, NULL)").await;
    denied("SELECT fanfare.heartbeat(1, NULL, 0)").await;
    denied("SELECT fanfare.trim_lanes(0)").await;
    denied("SELECT fanfare.commit_queue(pg_current_xact_id())").await;
    denied("SELECT fanfare.append(1, 1, '{a}', '{1}', '{1}', '{}', '{}', NULL, NULL, NULL)").await;
    denied(
        "CREATE TABLE public.own (xact xid8, place int);
         CREATE TRIGGER own AFTER INSERT ON public.own FOR EACH ROW EXECUTE FUNCTION fanfare.number_queue()",
    )
    .await;
    denied("ALTER TABLE fanfare.queue DISABLE TRIGGER number_queue").await;
    denied("CREATE TABLE fanfare.own ()").await;
    assert_eq!(texts(&log, "a").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_a_role_of_their_own_go_on_after_the_migration() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let role = format!("role_{}", uuid::Uuid::now_v7().simple());
    let before = format!(
        "CREATE ROLE {role};
         DROP FUNCTION fanfare.publish, fanfare.check_publish, fanfare.check_size, fanfare.are_tags,
             fanfare.is_info, fanfare.commit_queue, fanfare.remove_step;
         DROP TABLE fanfare.queue;
         DROP FUNCTION fanfare.number_queue;
         ALTER TABLE fanfare.lanes DROP COLUMN of_sql;
         DELETE FROM fanfare.migrations WHERE version >= 7;
         GRANT EXECUTE ON FUNCTION fanfare.claim_epoch TO PUBLIC;
         GRANT INSERT ON fanfare.lanes TO {role}"
    );
    client.batch_execute(&before).await.unwrap();
    drop(log);
    database.open().await.heartbeat("{}".into()).await.unwrap();
    let may = format!(
        "SELECT has_function_privilege('{role}', 'fanfare.claim_epoch(text, text)', 'EXECUTE')::int::bigint"
    );
    assert_eq!(count(&client, &may).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_flushed_whatever_the_session_says() {
    let database = TestDatabase::new();
    let (log, client) = open(&database).await;
    let check = "CREATE FUNCTION public.check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     IF current_setting('synchronous_commit') <> 'on' THEN
                         RAISE 'a crash would take this back';
                     END IF;
                     RETURN NULL;
                 END $$;
                 CREATE CONSTRAINT TRIGGER check_commit AFTER INSERT ON fanfare.lane_log
                     DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.check_commit();
                 SET synchronous_commit = off";
    client.batch_execute(check).await.unwrap();
    // The check works, and runs when the functions have returned.
    let beside = "INSERT INTO fanfare.lane_log VALUES (0, 1, 0, '{}', '{}', '{}')";
    client.batch_execute(beside).await.unwrap_err();
    client
        .batch_execute("SELECT fanfare.publish('a', '1')")
        .await
        .unwrap();
    let setting = client
        .query_one("SHOW synchronous_commit", &[])
        .await
        .unwrap();
    assert_eq!(setting.get::<_, &str>(0), "off", "for this commit only");
    assert_eq!(texts(&log, "a").await, ["1"]);
}
