//! The examinations of live servers: well ones, ones that are not well, and ones that are not there.

use fanfare_backend::{
    doctor::{Finding, Grade, examine_postgres, examine_redis},
    postgres::PostgresLog,
};
use fanfare_bench::local::{Postgres, Redis, RedisCluster, Sentinels, free_address};

#[track_caller]
fn assert_well(findings: &[Finding], count: usize) {
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.grade == Grade::Fail)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(findings.len() >= count, "{findings:#?}");
}

/// There is a finding of this grade with these words, and none that shows a password or has two lines.
#[track_caller]
fn assert_found(findings: &[Finding], grade: Grade, words: &str) {
    let found = findings
        .iter()
        .any(|finding| finding.grade == grade && finding.text.contains(words));
    assert!(found, "no {grade} with {words:?}: {findings:#?}");
    for Finding { text, .. } in findings {
        assert!(
            !text.contains("hidden") && text.lines().count() == 1,
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_examined() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create_database("app").unwrap();
    let findings = examine_postgres(&url).await;
    assert_well(&findings, 7);
    assert_found(&findings, Grade::Ok, "may make it");
    assert_found(&findings, Grade::Ok, "version 1");
    let commit = |finding: &Finding| finding.text.starts_with("a commit: ");
    assert!(findings.iter().any(commit), "{findings:#?}");

    postgres
        .execute("app", "CREATE ROLE guest LOGIN PASSWORD 'hidden'")
        .unwrap();
    postgres
        .execute("app", "ALTER ROLE guest SET synchronous_commit = off")
        .unwrap();
    let address = postgres.address();
    let guest = examine_postgres(&format!("postgres://guest:hidden@{address}/app")).await;
    assert_found(
        &guest,
        Grade::Fail,
        "GRANT CREATE ON DATABASE \"app\" TO \"guest\"",
    );
    assert_found(&guest, Grade::Warn, "synchronous_commit is off");
    // What a node has set up, and whom an operator has let in.
    drop(PostgresLog::connect(&url, "node").await.unwrap());
    let grants = "GRANT USAGE ON SCHEMA fanfare TO guest; GRANT EXECUTE ON FUNCTION fanfare.publish TO guest";
    postgres.execute("app", grants).unwrap();
    assert_found(
        &examine_postgres(&url).await,
        Grade::Ok,
        "guest may publish from SQL",
    );
    let guest = examine_postgres(&format!("postgres://guest:hidden@{address}/app")).await;
    assert_found(
        &guest,
        Grade::Fail,
        "GRANT EXECUTE ON FUNCTION fanfare.claim_epoch TO \"guest\"",
    );
    let missing = examine_postgres(&format!("postgres://guest:hidden@{address}/missing")).await;
    assert_found(&missing, Grade::Fail, "missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_would_lose_is_found() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create_database("app").unwrap();
    assert_found(&examine_postgres(&url).await, Grade::Ok, "is noticed");
    let replica = postgres.start_replica().unwrap();
    let standby = examine_postgres(&replica.url("app")).await;
    assert_found(&standby, Grade::Fail, "is a standby");
    let one_of_both = format!(
        "postgres://fanfare@{},{}/app",
        replica.address(),
        postgres.address()
    );
    let followed = examine_postgres(&one_of_both).await;
    assert_found(&followed, Grade::Warn, "none of them synchronously");
    let hidden =
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; CREATE ROLE guest LOGIN";
    postgres.execute("app", hidden).unwrap();
    let guest = examine_postgres(&url.replace("//fanfare@", "//guest@")).await;
    assert_found(&guest, Grade::Warn, "may go unnoticed");
    postgres
        .execute(
            "app",
            "ALTER ROLE fanfare SET default_transaction_read_only = on",
        )
        .unwrap();
    let fenced = examine_postgres(&url).await;
    assert_found(&fenced, Grade::Fail, "nothing can be published");
}

#[tokio::test]
async fn a_postgres_that_is_not_there_is_a_failure() {
    let address = free_address().unwrap();
    let absent = examine_postgres(&format!("postgres://u:hidden@{address}/app")).await;
    assert_found(&absent, Grade::Fail, &address.to_string());
    assert_found(
        &examine_postgres("postgres://u:hidden@h:x/").await,
        Grade::Fail,
        "not valid",
    );
    let url = format!("postgres://u:hidden@{address}/app?sslmode=require");
    assert_found(&examine_postgres(&url).await, Grade::Fail, "TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_examined() {
    let redis = Redis::start().unwrap();
    let findings = examine_redis(&redis.url()).await;
    assert_well(&findings, 7);
    assert_found(&findings, Grade::Ok, "it is a master");
    assert_found(&findings, Grade::Ok, "a bus is up");
    assert_found(&findings, Grade::Ok, "state works");

    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for words in [
        &[
            "CONFIG",
            "SET",
            "maxmemory",
            "100mb",
            "maxmemory-policy",
            "allkeys-lru",
        ][..],
        &[
            "CONFIG",
            "SET",
            "client-output-buffer-limit",
            "pubsub 1mb 0 0",
        ],
        &[
            "ACL",
            "SETUSER",
            "guest",
            "on",
            ">hidden",
            "+@all",
            "resetchannels",
        ],
        &[
            "ACL",
            "SETUSER",
            "meek",
            "on",
            ">hidden",
            "+ping",
            "+hello",
            "+client",
            "+@pubsub",
            "&fanfare:*",
        ],
        // The least of docs/redis.md.
        &[
            "ACL",
            "SETUSER",
            "clerk",
            "on",
            ">hidden",
            "~fanfare:*",
            "&fanfare:*",
            "+ping",
            "+publish",
            "+subscribe",
            "+unsubscribe",
            "+role",
            "+info",
            "+eval",
            "+evalsha",
            "+script",
            "+time",
            "+get",
            "+set",
            "+del",
            "+exists",
            "+pexpire",
            "+hget",
            "+hset",
            "+hmget",
            "+hdel",
            "+hexists",
            "+hincrby",
            "+hlen",
            "+hscan",
            "+sadd",
            "+srem",
            "+sscan",
            "+zadd",
            "+zrem",
            "+zrange",
            "+zrangebyscore",
            "+zscore",
        ],
    ] {
        let mut command = redis::cmd(words[0]);
        let answer: String = command
            .arg(&words[1..])
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(answer, "OK");
    }
    let address = redis.address();
    let guest = examine_redis(&format!("redis://guest:hidden@{address}")).await;
    assert_found(&guest, Grade::Fail, "maxmemory-policy noeviction");
    assert_found(
        &guest,
        Grade::Warn,
        "client-output-buffer-limit pubsub is 1048576",
    );
    assert_found(&guest, Grade::Fail, "allow the user the channels fanfare:*");
    let answer: String = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory-policy", "volatile-ttl"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(answer, "OK");
    let meek = examine_redis(&format!("redis://meek:hidden@{address}")).await;
    assert_found(&meek, Grade::Warn, "INFO");
    assert_found(&meek, Grade::Ok, "a bus is up");
    assert_found(&meek, Grade::Fail, "allow the user the keys fanfare:*");
    let clerk = examine_redis(&format!("redis://clerk:hidden@{address}")).await;
    assert_well(&clerk, 8);
    assert_found(&clerk, Grade::Ok, "maxmemory-policy is volatile-ttl");
    assert_found(&clerk, Grade::Ok, "state works");
    // Whatever it left behind goes by itself, and soon.
    let none_left = async {
        loop {
            let size = redis::cmd("DBSIZE");
            let keys: i64 = size.query_async(&mut connection).await.unwrap();
            if keys == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), none_left)
        .await
        .expect("the keys of the examinations go");
    let stranger = examine_redis(&format!("redis://stranger:hidden@{address}")).await;
    assert_found(&stranger, Grade::Fail, "WRONGPASS");

    let nobody = free_address().unwrap().port().to_string();
    let mut command = redis::cmd("REPLICAOF");
    let answer: String = command
        .arg("127.0.0.1")
        .arg(&nobody)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(answer, "OK");
    let replica = examine_redis(&redis.url()).await;
    assert_found(&replica, Grade::Fail, "use the address of the master");
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_a_failure() {
    let address = free_address().unwrap();
    let absent = examine_redis(&format!("redis://u:hidden@{address}")).await;
    assert_found(&absent, Grade::Fail, &address.to_string());
    assert_found(
        &examine_redis("redis://u:hidden@h:x").await,
        Grade::Fail,
        "not valid",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_their_master_are_examined() {
    let mut set = Sentinels::start().unwrap();
    let url = set.url();
    let findings = examine_redis(&url).await;
    assert_well(&findings, 10);
    assert_found(&findings, Grade::Ok, "names the master");
    assert_found(&findings, Grade::Ok, "it is a master");
    assert_found(&findings, Grade::Ok, "a bus is up");

    let wrong = examine_redis(&url.replace("/main", "/other")).await;
    assert_found(&wrong, Grade::Fail, "No such master");
    let one = url.replace("redis+sentinel://", "redis+sentinel://:hidden@");
    let (first, _) = one.split_once(',').unwrap();
    let one = examine_redis(&format!("{first}/main")).await;
    assert_found(&one, Grade::Warn, "one sentinel only");
    assert_found(&one, Grade::Ok, "names the master");

    set.kill_master_and_sentinels().unwrap();
    let absent = examine_redis(&url).await;
    assert_found(&absent, Grade::Warn, "does not name the master");
    assert_found(&absent, Grade::Fail, "sentinel");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_examined() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let url = cluster.url();
    let findings = examine_redis(&url).await;
    assert_well(&findings, 3 + 1 + 3 * 6 + 2);
    assert_found(&findings, Grade::Ok, "cluster_state:ok");
    assert_found(&findings, Grade::Ok, "client-output-buffer-limit pubsub");
    assert_found(&findings, Grade::Ok, "a bus is up");
    assert_found(&findings, Grade::Ok, "state works");

    let alone = Redis::start().unwrap();
    let single = examine_redis(&format!("redis+cluster://:hidden@{}", alone.address())).await;
    assert_found(&single, Grade::Fail, "cluster support disabled");

    let addresses = cluster.addresses();
    cluster.kill(0);
    let absent = examine_redis(&url).await;
    assert_found(&absent, Grade::Warn, &addresses[0].to_string());
    assert!(absent.iter().any(|finding| finding.grade == Grade::Fail));
}
