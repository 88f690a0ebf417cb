//! What a server says of itself: whether it may drop state at will, and whether it is the one that was asked before.
//!
//! With `allkeys-…` Redis removes any key when it is full, and one slow subscriber is enough to fill it. Everything here has a
//! time to live, so `volatile-…` would drop state as well, but what ends soonest first with `volatile-ttl`: what its
//! owners renew all the time. INFO tells the policy also to users that may not read the configuration.

use redis::{RedisError, aio::MultiplexedConnection, cmd};

/// What a server says about eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// `maxmemory-policy`.
    pub(crate) policy: String,
    /// `maxmemory` in bytes; 0: none.
    pub(crate) limit: u64,
    /// Keys that were evicted since it was started.
    pub(crate) evicted: u64,
}

impl Eviction {
    /// Asks a server. `None` if it does not tell this user.
    ///
    /// # Errors
    /// The server did not answer at all.
    pub(crate) async fn ask(
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Self>, RedisError> {
        let Some(memory) = info(connection, "memory").await? else {
            return Ok(None);
        };
        let stats = info(connection, "stats").await?.unwrap_or_default();
        Ok(Self::parse(&memory, &stats))
    }

    /// What has to be changed before the server may keep state, if anything.
    pub(crate) fn objection(&self) -> Option<String> {
        self.policy.starts_with("allkeys-").then(|| {
            format!(
                "maxmemory-policy is {}: when Redis is full it removes any key, live state included; set \
                 `maxmemory-policy noeviction` (or `volatile-ttl`) there, or give the state a Redis of its own",
                self.policy
            )
        })
    }

    fn parse(memory: &str, stats: &str) -> Option<Self> {
        Some(Self {
            policy: field(memory, "maxmemory_policy")?.to_owned(),
            limit: number(memory, "maxmemory"),
            evicted: number(stats, "evicted_keys"),
        })
    }
}

/// The name of the server's process, another one after each start. `None` if it does not tell this user.
///
/// # Errors
/// The server did not answer at all.
pub(super) async fn run_of(
    connection: &mut MultiplexedConnection,
) -> Result<Option<String>, RedisError> {
    let told = info(connection, "server").await?;
    Ok(told.and_then(|told| field(&told, "run_id").map(str::to_owned)))
}

async fn info(
    connection: &mut MultiplexedConnection,
    section: &str,
) -> Result<Option<String>, RedisError> {
    let answer: Result<String, RedisError> = cmd("INFO").arg(section).query_async(connection).await;
    match answer {
        Ok(text) => Ok(Some(text)),
        Err(error) if super::super::topology::is_answer(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn number(info: &str, name: &str) -> u64 {
    field(info, name)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_spares_nothing_is_refused() {
        let told = |policy: &str| {
            let memory = format!("# Memory\r\nmaxmemory:1024\r\nmaxmemory_policy:{policy}\r\n");
            Eviction::parse(&memory, "# Stats\r\nevicted_keys:7\r\n").unwrap()
        };
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            let objection = told(policy).objection().unwrap();
            assert!(
                objection.contains(policy) && objection.contains("maxmemory-policy noeviction")
            );
        }
        for policy in ["noeviction", "volatile-ttl", "volatile-lru"] {
            assert_eq!(told(policy).objection(), None);
        }
        assert_eq!(
            (told("noeviction").limit, told("noeviction").evicted),
            (1024, 7)
        );
        assert_eq!(Eviction::parse("maxmemory:1", ""), None);
    }
}
