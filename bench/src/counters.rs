//! What servers count of themselves, read from outside: `/metrics` of nodes, `INFO` of Redis, the statistics of PostgreSQL.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::faults::exchange;
use crate::local::{LocalError, Postgres, Redis};

/// How long a node may take to tell its metrics: under full load it is in no hurry.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often Redis is asked.
const TRIES_MAX: u32 = 5;

/// What nodes have counted, all together. All counters only go up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeCounters {
    /// Publications acknowledged.
    pub publications: u64,
    /// Batches committed.
    pub batches: u64,
    /// Publications written to connections.
    pub deliveries: u64,
    /// Writes of publications: fewer than deliveries where several left together.
    pub writes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// Passes over the cursors of a channel.
    pub passes: u64,
    /// Hints that came over the bus.
    pub hints: u64,
    /// Sweeps of the lane log.
    pub sweeps: u64,
    /// Times that a connection was full.
    pub lagging: u64,
}

impl NodeCounters {
    /// Reads those of all `addresses` and adds them up.
    ///
    /// # Errors
    /// When one does not answer.
    pub(crate) fn read(addresses: &[SocketAddr]) -> Result<Self, BenchError> {
        let mut all = Self::default();
        for &address in addresses {
            let (_, body) = exchange(address, "GET", "/metrics", "", PATIENCE)
                .map_err(|source| BenchError::system("read the metrics of a node", source))?;
            let text = String::from_utf8_lossy(&body);
            all.each(Self::parse(&text), |sum, value| *sum += value);
        }
        Ok(all)
    }

    /// Reads them from metrics in text form; what is not told stays 0. The first word of a name is the program's.
    fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(' ') else {
                continue;
            };
            let name = name.split_once('_').map_or("", |(_, name)| name);
            let place = match name {
                "publications_total" => &mut counters.publications,
                "batches_total" => &mut counters.batches,
                "deliveries_total" => &mut counters.deliveries,
                "writes_total" => &mut counters.writes,
                "written_bytes_total" => &mut counters.written_bytes,
                "passes_total" => &mut counters.passes,
                "hints_total" => &mut counters.hints,
                "sweeps_total" => &mut counters.sweeps,
                "lagging_total" => &mut counters.lagging,
                _ => continue,
            };
            *place = value.trim().parse().unwrap_or_default();
        }
        counters
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(mut self, earlier: Self) -> Self {
        self.each(earlier, |value, earlier| {
            *value = value.saturating_sub(earlier);
        });
        self
    }

    /// Both together.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.each(other, |sum, value| *sum += value);
        self
    }

    fn each(&mut self, other: Self, merge: impl Fn(&mut u64, u64)) {
        merge(&mut self.publications, other.publications);
        merge(&mut self.batches, other.batches);
        merge(&mut self.deliveries, other.deliveries);
        merge(&mut self.writes, other.writes);
        merge(&mut self.written_bytes, other.written_bytes);
        merge(&mut self.passes, other.passes);
        merge(&mut self.hints, other.hints);
        merge(&mut self.sweeps, other.sweeps);
        merge(&mut self.lagging, other.lagging);
    }
}

/// What a Redis has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisCounters {
    /// Commands.
    pub commands: u64,
    /// Of those, `PUBLISH` and `SPUBLISH`.
    pub publishes: u64,
    /// Microseconds within those.
    pub publish_us: u64,
    /// Bytes that came.
    pub input_bytes: u64,
    /// Bytes that went.
    pub output_bytes: u64,
}

impl RedisCounters {
    /// Asks `redis`.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn read(redis: &Redis) -> Result<Self, LocalError> {
        let stats = patiently(|| redis.execute(&["INFO", "stats"]))?;
        let commands = patiently(|| redis.execute(&["INFO", "commandstats"]))?;
        Ok(Self::parse(&format!("{stats}\n{commands}")))
    }

    fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.trim().split_once(':') else {
                continue;
            };
            let number = || value.parse().unwrap_or_default();
            match name {
                "total_commands_processed" => counters.commands = number(),
                "total_net_input_bytes" => counters.input_bytes = number(),
                "total_net_output_bytes" => counters.output_bytes = number(),
                "cmdstat_publish" | "cmdstat_spublish" => {
                    for part in value.split(',') {
                        match part.split_once('=') {
                            Some(("calls", calls)) => {
                                counters.publishes += calls.parse().unwrap_or(0);
                            }
                            Some(("usec", us)) => {
                                counters.publish_us += us.parse().unwrap_or(0);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        counters
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            commands: self.commands.saturating_sub(earlier.commands),
            publishes: self.publishes.saturating_sub(earlier.publishes),
            publish_us: self.publish_us.saturating_sub(earlier.publish_us),
            input_bytes: self.input_bytes.saturating_sub(earlier.input_bytes),
            output_bytes: self.output_bytes.saturating_sub(earlier.output_bytes),
        }
    }
}

/// What a PostgreSQL has counted. Its sessions hand their counts in about once a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostgresCounters {
    /// Transactions committed.
    pub commits: u64,
    /// Bytes of the write-ahead log; its place says it, at once.
    pub wal_bytes: u64,
    /// Flushes of the write-ahead log.
    pub wal_syncs: u64,
}

impl PostgresCounters {
    /// Asks `postgres` about `database`.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn read(postgres: &Postgres, database: &str) -> Result<Self, LocalError> {
        let sql = "SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()), \
                   pg_current_wal_insert_lsn() - '0/0', wal_sync FROM pg_stat_wal";
        Ok(Self::parse(&postgres.execute(database, sql)?))
    }

    fn parse(row: &str) -> Self {
        let mut columns = row
            .trim()
            .split('|')
            .map(|column| column.parse().unwrap_or_default());
        let mut next = || columns.next().unwrap_or_default();
        Self {
            commits: next(),
            wal_bytes: next(),
            wal_syncs: next(),
        }
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            commits: self.commits.saturating_sub(earlier.commits),
            wal_bytes: self.wal_bytes.saturating_sub(earlier.wal_bytes),
            wal_syncs: self.wal_syncs.saturating_sub(earlier.wal_syncs),
        }
    }
}

/// Asks again what was not answered in time: under full load that says nothing but that the load is full.
fn patiently(ask: impl Fn() -> Result<String, LocalError>) -> Result<String, LocalError> {
    let mut answer = ask();
    for _ in 1..TRIES_MAX {
        if answer.is_ok() {
            break;
        }
        answer = ask();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_their_whole_names() {
        let text = "# HELP x\nfanfare_deliveries_total 10\nfanfare_news_deliveries_total 99\n\
                    fanfare_writes_total 4\nfanfare_connections 7\nbare_passes_total 2\n";
        let counters = NodeCounters::parse(text);
        let expected = NodeCounters {
            deliveries: 10,
            writes: 4,
            passes: 2,
            ..NodeCounters::default()
        };
        assert_eq!(counters, expected);
        let twice = counters.plus(counters);
        assert_eq!((twice.deliveries, twice.since(counters)), (20, counters));
    }

    #[test]
    fn what_redis_says_is_read() {
        let text = "# Stats\r\ntotal_commands_processed:12\r\ntotal_net_output_bytes:300\r\n\
                    cmdstat_publish:calls=5,usec=40,usec_per_call=8.00\r\n\
                    cmdstat_spublish:calls=2,usec=10\r\ncmdstat_ping:calls=3,usec=1\r\n";
        let expected = RedisCounters {
            commands: 12,
            publishes: 7,
            publish_us: 50,
            output_bytes: 300,
            ..RedisCounters::default()
        };
        assert_eq!(RedisCounters::parse(text), expected);
        assert_eq!(expected.since(expected), RedisCounters::default());
    }

    #[test]
    fn what_postgres_says_is_read() {
        let expected = PostgresCounters {
            commits: 3,
            wal_bytes: 400,
            wal_syncs: 5,
        };
        assert_eq!(PostgresCounters::parse("3|400|5\n"), expected);
        assert_eq!(PostgresCounters::parse(""), PostgresCounters::default());
    }
}
