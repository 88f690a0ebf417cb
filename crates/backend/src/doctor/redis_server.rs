//! One server of Redis.

use std::time::Duration;

use redis::{RedisError, Value, aio::MultiplexedConnection, cmd};

use super::{Finding, measure};
use crate::redis::{Access, Endpoint, Eviction};

/// How long Redis may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A round trip slower than this is felt by every client.
const PING_SLOW: Duration = Duration::from_millis(5);

/// The smallest buffer for subscribers that rides out a burst, in bytes: the default of Redis.
const PUBSUB_BUFFER_MIN: u64 = 32 << 20;

/// Examines a server that hints would pass through: reachable, of at least this major version, a master, and quick. Without an answer
/// there is one finding, an error.
pub(super) async fn examine_server(
    access: &Access,
    endpoint: &Endpoint,
    major_version_min: u32,
) -> Result<Vec<Finding>, Finding> {
    let mut connection = match access.connect(endpoint, ANSWER_TIMEOUT).await {
        Ok(connection) => connection,
        Err(error) => {
            let words = access.describe(&error);
            return Err(Finding::fail(format!(
                "Redis at {endpoint} does not let us in: {words}"
            )));
        }
    };
    Ok(vec![
        Finding::ok(format!("Redis at {endpoint} lets us in")),
        version(&mut connection, major_version_min).await,
        role(&mut connection).await,
        ping(&mut connection, access).await,
        eviction(&mut connection).await,
        buffers(&mut connection).await,
    ])
}

async fn version(connection: &mut MultiplexedConnection, least: u32) -> Finding {
    let answer: Result<String, RedisError> =
        cmd("INFO").arg("server").query_async(connection).await;
    let Ok(info) = answer else {
        return Finding::warn("the version is not told to this user; allow it INFO");
    };
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let version = line.unwrap_or_default().trim();
    match version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
    {
        Some(major) if major >= least => Finding::ok(format!("version {version}")),
        Some(_) => Finding::fail(format!(
            "version {version} is too old; Fanfare needs {least} or later"
        )),
        None => Finding::warn("the server does not tell its version"),
    }
}

async fn role(connection: &mut MultiplexedConnection) -> Finding {
    let answer: Result<Value, RedisError> = cmd("ROLE").query_async(connection).await;
    let Ok(Value::Array(fields)) = answer else {
        return Finding::warn("the role is not told to this user; allow it ROLE");
    };
    match fields.first() {
        Some(Value::BulkString(role)) if role == b"master" => Finding::ok("it is a master"),
        Some(Value::BulkString(role)) => Finding::fail(format!(
            "it is a {}, whose subscribers alone would hear us; use the address of the master",
            String::from_utf8_lossy(role)
        )),
        _ => Finding::warn("the server does not tell its role"),
    }
}

async fn ping(connection: &mut MultiplexedConnection, access: &Access) -> Finding {
    let ping = async || {
        let answer: Result<String, RedisError> = cmd("PING").query_async(connection).await;
        answer.map(drop)
    };
    match measure(ping).await {
        Ok(time) => {
            let millis = time.as_secs_f64() * 1e3;
            if time <= PING_SLOW {
                Finding::ok(format!("a round trip: {millis:.2} ms"))
            } else {
                Finding::warn(format!(
                    "a round trip: {millis:.1} ms, which every message pays; put Redis nearer to the servers"
                ))
            }
        }
        Err(error) => Finding::fail(format!("PING failed: {}", access.describe(&error))),
    }
}

async fn eviction(connection: &mut MultiplexedConnection) -> Finding {
    let Ok(Some(eviction)) = Eviction::ask(connection).await else {
        return Finding::warn(
            "maxmemory-policy is not told to this user; allow it INFO, and make sure it is noeviction or volatile-ttl",
        );
    };
    if let Some(objection) = eviction.objection() {
        return Finding::fail(format!("{objection}; until then shared state is refused"));
    }
    let policy = &eviction.policy;
    if eviction.evicted > 0 {
        return Finding::warn(format!(
            "{} keys were evicted since it was started (maxmemory-policy {policy}); presence and other state may have \
             been among them: raise maxmemory",
            eviction.evicted
        ));
    }
    Finding::ok(format!("maxmemory-policy is {policy}"))
}

async fn buffers(connection: &mut MultiplexedConnection) -> Finding {
    let Some(limits) = setting(connection, "client-output-buffer-limit").await else {
        return Finding::warn(
            "client-output-buffer-limit is not told to this user; the default will do",
        );
    };
    judge_buffers(&limits)
}

/// `limits` is a list of class, hard limit, soft limit and seconds.
fn judge_buffers(limits: &str) -> Finding {
    let words: Vec<&str> = limits.split_whitespace().collect();
    let of_pubsub = words
        .chunks(4)
        .find(|limit| limit.first() == Some(&"pubsub"));
    let hard = of_pubsub.and_then(|limit| limit.get(1)?.parse::<u64>().ok());
    match hard {
        None => Finding::warn("client-output-buffer-limit has no entry for pubsub"),
        Some(0) => Finding::warn(
            "client-output-buffer-limit pubsub is unlimited: one slow server can fill the memory of Redis; set it to \
             \"pubsub 64mb 16mb 60\"",
        ),
        Some(bytes) if bytes < PUBSUB_BUFFER_MIN => Finding::warn(format!(
            "client-output-buffer-limit pubsub is {bytes} bytes: a burst cuts servers off; set it to \"pubsub 64mb 16mb 60\""
        )),
        Some(bytes) => Finding::ok(format!(
            "client-output-buffer-limit pubsub is {} MiB",
            bytes >> 20
        )),
    }
}

/// A setting of the server; `None` if this user may not read it.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let answer: Result<Vec<(String, String)>, RedisError> = cmd("CONFIG")
        .arg("GET")
        .arg(name)
        .query_async(connection)
        .await;
    answer
        .ok()?
        .into_iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn the_buffer_of_subscribers_is_neither_small_nor_endless() {
        let check = |limits: &str, grade: Grade| {
            assert_eq!(judge_buffers(limits).grade, grade, "{limits}");
        };
        check(
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
            Grade::Ok,
        );
        check(
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 0 0",
            Grade::Warn,
        );
        check(
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 0 0 0",
            Grade::Warn,
        );
        check("normal 0 0 0", Grade::Warn);
        check("", Grade::Warn);
    }
}
