//! A PostgreSQL server.

use std::time::Duration;

use tokio_postgres::{
    Client, Config, Error, NoTls,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::{Finding, judge_flush, measure};
use crate::postgres::{MAJOR_VERSION_MIN, SESSIONS_MAX, describe};

/// How long the server may take to let a session in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long all questions together may take.
const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Sessions that should be free: two servers' worth.
const FREE_SESSIONS_MIN: i64 = 2 * SESSIONS_MAX as i64;

/// Examines the PostgreSQL behind a URL: reachable, recent, writable, with room for our schema, safe, and quick to commit.
pub async fn examine_postgres(url: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(client) = connect(url, &mut findings).await else {
        return findings;
    };
    let examining = examine(&client, &mut findings);
    let result = tokio::time::timeout(EXAMINATION_TIMEOUT, examining).await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => findings.push(Finding::fail(format!(
            "a question failed: {}",
            describe(&error)
        ))),
        Err(_) => findings.push(Finding::fail(format!(
            "no answer within {EXAMINATION_TIMEOUT:?}; is the server overloaded?"
        ))),
    }
    findings
}

async fn connect(url: &str, findings: &mut Vec<Finding>) -> Option<Client> {
    let mut config: Config = match url.parse() {
        Ok(config) => config,
        Err(error) => {
            findings.push(Finding::fail(format!(
                "the URL is not valid: {}",
                describe(&error)
            )));
            return None;
        }
    };
    if config.get_ssl_mode() == SslMode::Require {
        findings.push(Finding::fail(
            "the URL has sslmode=require, but this version does not speak TLS to PostgreSQL; use sslmode=disable on a \
             private network, or a TLS tunnel on this machine",
        ));
        return None;
    }
    let place = place(&config);
    if config.get_hosts().len() > 1 {
        // As a server does: the one that takes writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    match tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await {
        Ok(Ok((client, connection))) => {
            // Ends with the client; its errors come out of the client's calls.
            tokio::spawn(connection);
            findings.push(Finding::ok(format!("{place} lets us in")));
            Some(client)
        }
        Ok(Err(error)) => {
            findings.push(Finding::fail(format!(
                "{place} does not let us in: {}",
                describe(&error)
            )));
            None
        }
        Err(_) => {
            findings.push(Finding::fail(format!(
                "{place} does not answer within {CONNECT_TIMEOUT:?}; check the address, the firewall and the server"
            )));
            None
        }
    }
}

async fn examine(client: &Client, findings: &mut Vec<Finding>) -> Result<(), Error> {
    findings.push(version(client).await?);
    let standby: bool = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await?
        .get(0);
    if standby {
        findings.push(Finding::fail(
            "the server is a standby; use the address of the primary",
        ));
        return Ok(());
    }
    findings.extend(writable(client).await?);
    findings.push(schema(client).await?);
    findings.extend(rights(client).await?);
    findings.extend(applications(client).await?);
    findings.extend(safety(client).await?);
    findings.extend(replication(client).await?);
    findings.push(identity(client).await?);
    findings.push(sessions(client).await?);
    findings.push(flush(client).await);
    Ok(())
}

async fn version(client: &Client) -> Result<Finding, Error> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
            &[],
        )
        .await?;
    let (number, text): (i32, String) = (row.get(0), row.get(1));
    if number / 10_000 >= MAJOR_VERSION_MIN {
        return Ok(Finding::ok(format!("version {text}")));
    }
    Ok(Finding::fail(format!(
        "version {text} is too old; Fanfare needs {MAJOR_VERSION_MIN} or later"
    )))
}

async fn schema(client: &Client) -> Result<Finding, Error> {
    let row = client
        .query_one(
            "SELECT current_user::text, current_database()::text,
                    to_regnamespace('fanfare') IS NOT NULL,
                    coalesce(has_schema_privilege(to_regnamespace('fanfare')::oid, 'USAGE'), false),
                    has_database_privilege(current_database(), 'CREATE')",
            &[],
        )
        .await?;
    let (user, database): (String, String) = (row.get(0), row.get(1));
    let (exists, usable, creatable): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
    Ok(match (exists, usable, creatable) {
        (true, true, _) => Finding::ok(format!("the schema fanfare is there and open to {user}")),
        (true, false, _) => Finding::fail(format!(
            "the schema fanfare is not open to {user}; connect as its owner, or GRANT what it needs"
        )),
        (false, _, true) => Finding::ok(format!(
            "the schema fanfare is not there yet, and {user} may make it"
        )),
        (false, _, false) => Finding::fail(format!(
            "{user} may not make the schema fanfare; run: GRANT CREATE ON DATABASE \"{database}\" TO \"{user}\""
        )),
    })
}

/// What a server needs that is given to nobody by default.
async fn rights(client: &Client) -> Result<Option<Finding>, Error> {
    let sql = "SELECT current_user::text,
                   has_function_privilege(to_regprocedure('fanfare.claim_epoch(text, text)')::oid, 'EXECUTE')";
    let row = client.query_one(sql, &[]).await?;
    let (user, may): (String, Option<bool>) = (row.get(0), row.get(1));
    Ok((may == Some(false)).then(|| {
        Finding::fail(format!(
            "{user} may not begin a new epoch, as a failover or a restore needs; run: \
             GRANT EXECUTE ON FUNCTION fanfare.claim_epoch TO \"{user}\""
        ))
    }))
}

/// Who publishes from SQL, and whether their transactions may.
async fn applications(client: &Client) -> Result<Option<Finding>, Error> {
    let sql = "SELECT coalesce(string_agg(DISTINCT coalesce(rolname, 'everybody'), ', '), ''),
                   current_setting('default_transaction_isolation')
               FROM pg_proc CROSS JOIN LATERAL aclexplode(proacl) AS given
               LEFT JOIN pg_roles ON pg_roles.oid = given.grantee
               WHERE pronamespace = to_regnamespace('fanfare') AND proname = 'publish'
                   AND given.grantee <> proowner";
    let row = client.query_one(sql, &[]).await?;
    Ok(judge_applications(row.get(0), row.get(1)))
}

fn judge_applications(roles: &str, isolation: &str) -> Option<Finding> {
    match (roles, isolation) {
        ("", _) => None,
        (roles, "read committed" | "read uncommitted") => {
            Some(Finding::ok(format!("{roles} may publish from SQL")))
        }
        (roles, level) => Some(Finding::warn(format!(
            "{roles} may publish from SQL, which needs READ COMMITTED, but transactions of this database begin at {level} \
             by default; those that publish must begin with BEGIN ISOLATION LEVEL READ COMMITTED"
        ))),
    }
}

async fn writable(client: &Client) -> Result<Option<Finding>, Error> {
    let sql = "SELECT current_setting('default_transaction_read_only')";
    let read_only: String = client.query_one(sql, &[]).await?.get(0);
    Ok((read_only == "on").then(|| {
        Finding::fail(
            "default_transaction_read_only is on: nothing can be published; set it off, or use the address of the primary",
        )
    }))
}

/// What a failover would lose.
async fn replication(client: &Client) -> Result<Option<Finding>, Error> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM pg_stat_replication),
                    current_setting('synchronous_standby_names'), current_setting('synchronous_commit')",
            &[],
        )
        .await?;
    Ok(judge_replication(row.get(0), row.get(1), row.get(2)))
}

fn judge_replication(
    standbys: i64,
    synchronous_names: &str,
    synchronous_commit: &str,
) -> Option<Finding> {
    let finding = match (synchronous_names, synchronous_commit) {
        ("", _) if standbys == 0 => return None,
        ("", _) => Finding::warn(format!(
            "{standbys} standbys follow, none of them synchronously: a failover loses the messages that were acknowledged \
             last; the log then begins a new epoch and clients are told. To lose none, set synchronous_standby_names"
        )),
        (_, "local") => Finding::warn(
            "synchronous_commit is local: commits do not wait for the synchronous standbys, and a failover can lose \
             acknowledged messages; set it to on",
        ),
        (_, "remote_write") => Finding::warn(
            "synchronous_commit is remote_write: a failover after a power failure of the standby can lose acknowledged \
             messages; set it to on",
        ),
        (names, _) if standbys == 0 => Finding::warn(format!(
            "synchronous_standby_names is {names:?}, but no standby follows: commits wait for it, and publishes fail \
             meanwhile"
        )),
        (names, _) => Finding::ok(format!("commits wait for the standbys {names:?}")),
    };
    Some(finding)
}

/// Whether a server can tell that the database behind it was promoted or restored.
async fn identity(client: &Client) -> Result<Finding, Error> {
    let sql = "SELECT bool_and(has_function_privilege(name, 'EXECUTE')) FROM unnest(ARRAY[
                   'pg_control_system()', 'pg_current_wal_insert_lsn()', 'pg_walfile_name(pg_lsn)'
               ]) AS name";
    let told: bool = client.query_one(sql, &[]).await?.get(0);
    Ok(match told {
        true => Finding::ok(
            "the server tells its identity and timeline, so that a failover or restore is noticed",
        ),
        false => Finding::warn(
            "the server does not tell its identity and timeline to this user, so a failover or restore may go unnoticed; \
             let an administrator GRANT it EXECUTE ON FUNCTION pg_control_system(), pg_current_wal_insert_lsn(), \
             pg_walfile_name(pg_lsn), or begin a new epoch by hand afterwards (docs/postgres.md)",
        ),
    })
}

async fn safety(client: &Client) -> Result<Vec<Finding>, Error> {
    let row = client
        .query_one(
            "SELECT current_setting('fsync'), current_setting('full_page_writes'),
                    current_setting('synchronous_commit')",
            &[],
        )
        .await?;
    Ok(judge_safety(row.get(0), row.get(1), row.get(2)))
}

fn judge_safety(fsync: &str, full_page_writes: &str, synchronous_commit: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if fsync == "on" {
        findings.push(Finding::ok("fsync is on"));
    } else {
        findings.push(Finding::fail(
            "fsync is off: a power failure loses acknowledged messages and may ruin the database; set fsync = on",
        ));
    }
    if full_page_writes != "on" {
        findings.push(Finding::warn(
            "full_page_writes is off, which is safe only on a file system that never tears a page (ZFS); elsewhere set \
             full_page_writes = on",
        ));
    }
    findings.push(match synchronous_commit {
        "off" => Finding::warn(
            "synchronous_commit is off; Fanfare turns it on for its own sessions, but what the application commits \
             itself can be lost in a crash",
        ),
        level => Finding::ok(format!("synchronous_commit is {level}")),
    });
    findings
}

async fn sessions(client: &Client) -> Result<Finding, Error> {
    let row = client
        .query_one(
            "SELECT current_setting('max_connections')::bigint,
                    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
            &[],
        )
        .await?;
    let (max, used): (i64, i64) = (row.get(0), row.get(1));
    let text = format!("{used} of max_connections = {max} sessions are in use");
    if max - used >= FREE_SESSIONS_MIN {
        return Ok(Finding::ok(text));
    }
    Ok(Finding::warn(format!(
        "{text}; each server takes up to {SESSIONS_MAX}, so raise max_connections"
    )))
}

/// Commits that write to the log of the database and to nothing else.
async fn flush(client: &Client) -> Finding {
    let as_a_server = "SELECT set_config('synchronous_commit', 'on', false)
                       WHERE current_setting('synchronous_commit') = 'off'";
    let commit = async || {
        client
            .batch_execute("SELECT pg_logical_emit_message(true, 'fanfare-doctor', '')")
            .await
    };
    let measured = match client.batch_execute(as_a_server).await {
        Ok(()) => measure(commit).await,
        Err(error) => Err(error),
    };
    match measured {
        Ok(time) => judge_flush("a commit", time),
        Err(error) => Finding::warn(format!(
            "the time of a commit could not be measured: {}",
            describe(&error)
        )),
    }
}

/// Hosts and ports, never the credentials.
fn place(config: &Config) -> String {
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let ports = config.get_ports();
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    format!("PostgreSQL at {}", hosts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn a_server_that_does_not_flush_is_refused() {
        let check = |settings: [&str; 3], grade: Grade| {
            let findings = judge_safety(settings[0], settings[1], settings[2]);
            let worst = findings.iter().map(|finding| finding.grade).max();
            assert_eq!(worst, Some(grade), "{findings:?}");
        };
        check(["on", "on", "on"], Grade::Ok);
        check(["on", "on", "remote_apply"], Grade::Ok);
        check(["on", "on", "off"], Grade::Warn);
        check(["on", "off", "on"], Grade::Warn);
        check(["off", "on", "on"], Grade::Fail);
    }

    #[test]
    fn what_a_failover_would_lose_is_said() {
        let grade = |standbys, names, commit| {
            judge_replication(standbys, names, commit).map(|finding| finding.grade)
        };
        assert_eq!(grade(0, "", "on"), None);
        assert_eq!(grade(2, "", "on"), Some(Grade::Warn));
        assert_eq!(grade(1, "a", "local"), Some(Grade::Warn));
        assert_eq!(grade(1, "a", "remote_write"), Some(Grade::Warn));
        assert_eq!(grade(0, "a", "on"), Some(Grade::Warn));
        assert_eq!(grade(1, "a", "on"), Some(Grade::Ok));
        assert_eq!(grade(1, "a", "remote_apply"), Some(Grade::Ok));
    }

    #[test]
    fn applications_need_read_committed() {
        let grade = |roles, level| judge_applications(roles, level).map(|finding| finding.grade);
        assert_eq!(grade("", "serializable"), None);
        assert_eq!(grade("shop", "read committed"), Some(Grade::Ok));
        assert_eq!(grade("shop", "serializable"), Some(Grade::Warn));
    }

    #[test]
    fn a_place_has_no_credentials() {
        let config: Config = "postgres://u:hidden@a:1,b:2/d".parse().unwrap();
        assert_eq!(place(&config), "PostgreSQL at a:1, b:2");
        let config: Config = "host=/run/postgresql user=u password=hidden"
            .parse()
            .unwrap();
        assert_eq!(place(&config), "PostgreSQL at /run/postgresql:5432");
    }
}
