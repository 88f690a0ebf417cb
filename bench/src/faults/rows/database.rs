//! PostgreSQL dying, hanging, full, slow or locked.

use crate::faults::row::{Load, Row, RowError};
use crate::faults::rows::full_disk;
use crate::faults::scene::{DATABASE, Layout, PUBLICATIONS};
use crate::faults::stage::Stage;
use crate::proxy::{Faults, PathFaults};
use crate::random::Random;
use crate::system::Sample;

/// What this part has.
pub(super) const ROWS: &[Row] = &[
    RESTARTED,
    CUT_DURING_COMMIT,
    PAUSED,
    DISK_FULL,
    SLOW_FLUSH,
    LOCKED,
    FAILOVER,
];

/// How much memory a node may gain while it cannot commit, in MiB.
const GROWTH_MAX: f64 = 64.0;

const RESTARTED: Row = Row {
    load: Load::seconds(36.0, 14.0),
    during: restarted,
    ..Row::new(
        "12",
        "PostgreSQL killed and started again",
        "kill -9 of its first process; an immediate stop; an ordinary stop",
        "publishes are acknowledged again < 5 s after its start",
    )
};

fn restarted(stage: &mut Stage<'_>) -> Result<(), RowError> {
    type End = fn(&mut Stage<'_>) -> Result<(), RowError>;
    let ends: [(&str, End); 3] = [
        ("kill -9 of PostgreSQL", |stage| {
            stage.scene.postgres()?.kill_first_process();
            Ok(())
        }),
        ("immediate stop of PostgreSQL", |stage| {
            stage.scene.postgres()?.kill();
            Ok(())
        }),
        ("stop of PostgreSQL", |stage| {
            Ok(stage.scene.postgres()?.stop()?)
        }),
    ];
    let count = stage.pick(3, 2);
    for (name, end) in ends.into_iter().take(count) {
        stage.fault(name, |stage| {
            end(stage)?;
            stage.rest(1.0);
            stage.scene.postgres()?.restart()?;
            Ok(())
        })?;
        for node in 0..stage.scene.nodes.len() {
            let took = stage.publish_until_acknowledged(node, stage.probe_channel)?;
            stage.at_most("acknowledged again", took, "s", 5.0);
        }
        stage.rest(stage.pick(4.0, 0.5));
    }
    Ok(())
}

const CUT_DURING_COMMIT: Row = Row {
    layout: Layout {
        postgres_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(28.0, 12.0),
    during: cut_during_commit,
    ..Row::new(
        "13",
        "sessions end during COMMIT",
        "pg_terminate_backend for all sessions, then connections reset after a random number of request or answer bytes",
        "each outcome is resolved: nothing lost, nothing twice",
    )
};

fn cut_during_commit(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
    );
    let rounds = stage.pick(10, 4);
    let ended = stage.fault("sessions are terminated", |stage| {
        let mut ended = 0;
        for _ in 0..rounds {
            let count = stage.scene.postgres()?.execute("postgres", &end)?;
            ended += count.trim().parse::<u64>().unwrap_or(0);
            stage.rest(0.4);
        }
        Ok(ended)
    })?;
    stage.tell("sessions terminated", ended as f64, "");
    let mut random = Random::new(13);
    let before: u64 = connections(stage);
    stage.fault("connections are cut", |stage| {
        for round in 0..stage.pick(20, 6) {
            let path = PathFaults {
                cut_after: Some(random.below(2_000)),
                ..PathFaults::default()
            };
            let faults = match round % 2 {
                0 => Faults {
                    up: path,
                    ..Faults::default()
                },
                _ => Faults {
                    down: path,
                    ..Faults::default()
                },
            };
            for proxy in &stage.scene.postgres_proxies {
                proxy.set(faults);
            }
            stage.rest(0.1);
            for proxy in &stage.scene.postgres_proxies {
                proxy.heal();
            }
            stage.rest(0.5);
        }
        Ok(())
    })?;
    let cut = connections(stage) - before;
    if ended == 0 || cut == 0 {
        return Err(RowError::NoEffect("nothing was cut".to_owned()));
    }
    stage.tell("connections opened again", cut as f64, "");
    Ok(())
}

/// Connections to PostgreSQL that were opened so far.
fn connections(stage: &Stage<'_>) -> u64 {
    let passed = stage.scene.postgres_proxies.iter().map(|one| one.passed());
    passed.map(|passed| passed.connections).sum()
}

const PAUSED: Row = Row {
    load: Load::seconds(24.0, 10.0),
    during: paused,
    ..Row::new(
        "14",
        "PostgreSQL hangs",
        "SIGSTOP to all of its processes for 10 s",
        "no client is disconnected, no node gains more than 64 MiB, publishes go on < 5 s after",
    )
};

fn paused(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let reconnects = stage.fleet.reconnects();
    let memory = memory_mib(stage);
    let seconds = stage.pick(10.0, 4.0);
    stage.fault("PostgreSQL hangs", |stage| {
        stage.scene.postgres()?.pause_all();
        stage.rest(seconds);
        let grown = (memory_mib(stage) - memory) / stage.scene.nodes.len() as f64;
        stage.at_most("memory gained by a node", grown.max(0.0), "MiB", GROWTH_MAX);
        stage.scene.postgres()?.resume_all();
        Ok(())
    })?;
    let took = stage.publish_until_acknowledged(0, stage.probe_channel)?;
    stage.at_most("acknowledged again", took, "s", 5.0);
    let lost = stage.fleet.reconnects() - reconnects;
    stage.at_most("clients disconnected", lost as f64, "", 0.0);
    Ok(())
}

/// Resident memory of all nodes, MiB.
fn memory_mib(stage: &Stage<'_>) -> f64 {
    let pids: Vec<u32> = stage.scene.nodes.iter().map(|node| node.pid()).collect();
    Sample::take(&pids).rss_kib() as f64 / 1_024.0
}

const DISK_FULL: Row = Row {
    layout: Layout {
        disk_mib: Some(192),
        ..Layout::DEFAULT
    },
    load: Load::seconds(30.0, 14.0),
    during: disk_full,
    ..Row::new(
        "15",
        "PostgreSQL's disk is full",
        "its data lies on a file system of 192 MiB in memory that is filled, and emptied again",
        "no acknowledgement without a commit; publishes go on when there is room",
    )
};

fn disk_full(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let rest = stage.pick(4.0, 1.0);
    let refused = full_disk::fill_and_relieve(stage, rest)?;
    if stage.scene.postgres()?.ended().is_some() {
        stage.note("PostgreSQL ended by itself and was started again");
        stage.scene.postgres()?.restart()?;
    }
    full_disk::finish(stage, refused, 10.0)
}

const SLOW_FLUSH: Row = Row {
    load: Load {
        channels: 1,
        ..Load::seconds(26.0, 10.0)
    },
    during: slow_flush,
    ..Row::new(
        "16",
        "slow flush",
        "commit_delay of 2, 10 and 50 ms, all traffic in one channel",
        "nodes take turns and batches grow: no publish takes more than two turns of every node (6 flushes) and 0.15 s",
    )
};

fn slow_flush(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let postgres = stage.scene.postgres()?;
    postgres.execute("postgres", "ALTER SYSTEM SET commit_siblings = 0")?;
    for ms in [2_u32, 10, 50] {
        let postgres = stage.scene.postgres()?;
        let micros = ms * 1_000;
        postgres.execute(
            "postgres",
            &format!("ALTER SYSTEM SET commit_delay = {micros}"),
        )?;
        postgres.execute("postgres", "SELECT pg_reload_conf()")?;
        stage.rest(0.5);
        let rounds = stage.pick(40, 10);
        let took = stage.fault(&format!("a flush takes {ms} ms"), |stage| {
            let mut took = Vec::new();
            for round in 0..rounds {
                let node = round % stage.scene.nodes.len();
                took.push(stage.publish_until_acknowledged(node, 0)?);
            }
            Ok(took)
        })?;
        let mut took = took;
        took.sort_by(f64::total_cmp);
        let flush = f64::from(ms) / 1_000.0;
        stage.tell(&format!("median at {ms} ms"), took[took.len() / 2], "s");
        let slowest = took.last().copied().unwrap_or_default();
        let turns = 2.0 * stage.scene.nodes.len() as f64;
        let bound = turns * flush + 0.15;
        stage.at_most(&format!("slowest at {ms} ms"), slowest, "s", bound);
    }
    let postgres = stage.scene.postgres()?;
    postgres.execute("postgres", "ALTER SYSTEM RESET commit_delay")?;
    postgres.execute("postgres", "SELECT pg_reload_conf()")?;
    Ok(())
}

const LOCKED: Row = Row {
    load: Load::seconds(34.0, 12.0),
    during: locked,
    ..Row::new(
        "17",
        "somebody locks the table of publications",
        "LOCK TABLE for 3 s and for 9 s, then VACUUM FULL, from another session",
        "refused or late, never lost; publishes go on < 2 s after the lock is gone",
    )
};

fn locked(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let table = PUBLICATIONS;
    let locks: &[u32] = stage.pick(&[3, 9], &[2]);
    for seconds in locks {
        let sql = format!("LOCK TABLE {table}; SELECT pg_sleep({seconds})");
        beside(stage, &format!("{table} is locked for {seconds} s"), &sql)?;
        stage.rest(1.0);
    }
    beside(stage, "VACUUM FULL", &format!("VACUUM FULL {table}"))
}

/// Runs SQL in another session, and publishes when it has ended.
fn beside(stage: &mut Stage<'_>, name: &str, sql: &str) -> Result<(), RowError> {
    stage.fault(name, |stage| {
        let mut session = stage.scene.postgres()?.begin(DATABASE, sql)?;
        stage.wait("the other session ends", |_| session.ended().is_some())?;
        match session.ended() {
            Some(status) if status.success() => Ok(()),
            _ => Err(RowError::NoEffect(format!("`{sql}` failed"))),
        }
    })?;
    let took = stage.publish_until_acknowledged(0, stage.probe_channel)?;
    stage.at_most("acknowledged again", took, "s", 2.0);
    Ok(())
}

const FAILOVER: Row = Row {
    layout: Layout {
        postgres_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(24.0, 14.0),
    during: failover,
    ..Row::new(
        "18",
        "an asynchronous replica takes over",
        "replication stops, a second of commits later the primary is killed and the replica promoted",
        "the epoch changes and every client is told; what was lost with the old one is reported, nothing else is",
    )
};

fn failover(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let primary = stage.scene.postgres()?;
    let replica = primary.start_replica()?;
    replica.wait_replayed(primary)?;
    stage.epoch_fault("a replica takes over", |stage| {
        replica.execute("postgres", "ALTER SYSTEM SET primary_conninfo = ''")?;
        replica.execute("postgres", "SELECT pg_reload_conf()")?;
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
        stage.wait("the end of replication", |_| {
            replica
                .execute("postgres", receivers)
                .is_ok_and(|count| count.trim() == "0")
        })?;
        stage.rest(1.0);
        stage.scene.postgres()?.kill();
        replica.promote()?;
        Ok(stage.scene.replace_postgres(replica)?)
    })?;
    for node in 0..stage.scene.nodes.len() {
        let took = stage.publish_until_acknowledged(node, stage.probe_channel)?;
        stage.at_most("acknowledged again", took, "s", 5.0);
    }
    Ok(())
}
