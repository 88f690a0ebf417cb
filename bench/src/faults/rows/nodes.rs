//! Nodes that die, hang or are replaced.

use std::time::{Duration, Instant};

use crate::faults::probe::Told;
use crate::faults::row::{Bounds, Load, Row, RowError, scaled};
use crate::faults::scene::Layout;
use crate::faults::stage::{PROBE_PATIENCE, Stage};
use crate::proxy::{Faults, PathFaults};

/// How long a publish may take that is not meant to be answered.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// What this part has.
pub(super) const ROWS: &[Row] = &[
    KILL_LOOP,
    KILL_BEFORE_PUBLISH,
    KILL_BEFORE_COMMIT,
    STOP_AND_GO_ON,
    RESTART_ALL,
    ROLLING,
];

const KILL_LOOP: Row = Row {
    load: Load::seconds(24.0, 9.0),
    during: kill_loop,
    ..Row::new(
        "1",
        "one node killed after the other",
        "kill -9 and a start of the next node every few seconds",
        "its clients are subscribed elsewhere in < 3 s; unknown outcomes are resolved by retries",
    )
};

fn kill_loop(stage: &mut Stage<'_>) -> Result<(), RowError> {
    for round in 0..stage.pick(5, 2) {
        let node = round % stage.scene.nodes.len();
        let back = stage.fault("kill -9 of a node", |stage| {
            stage.scene.nodes[node].kill();
            stage.wait_back()
        })?;
        stage.at_most("clients back", back, "s", 3.0);
        stage.rest(0.5);
        stage.scene.nodes[node].restart()?;
        stage.rest(stage.pick(2.0, 0.5));
    }
    Ok(())
}

const KILL_BEFORE_PUBLISH: Row = Row {
    layout: Layout {
        redis_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(4.0, 3.0),
    after: kill_before_publish,
    bounds: Bounds {
        max_in_window: Some(0.5),
        ..Bounds::NONE
    },
    ..Row::new(
        "2",
        "node killed after COMMIT, before PUBLISH",
        "its way to Redis is a black hole when it commits, and kill -9 follows the acknowledgement; nothing else is published",
        "subscribers elsewhere get it in < 0.5 s by the sweep",
    )
};

fn kill_before_publish(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let up = Faults {
        up: PathFaults {
            black_hole: true,
            ..PathFaults::default()
        },
        ..Faults::default()
    };
    let nodes = stage.scene.nodes.len();
    let rounds = stage.pick(6, 2);
    let mut by_sweep = 0.0;
    for round in 0..rounds {
        let node = round % nodes;
        let others = || (0..nodes).filter(move |other| *other != node);
        let swept = |stage: &Stage<'_>| -> Result<f64, RowError> {
            let name = r#"fanfare_healed_publications_total{cause="sweep"}"#;
            others().map(|other| stage.metric(other, name)).sum()
        };
        let before = swept(stage)?;
        stage.scene.redis_proxies[node].set(up);
        let (_, told) = stage.fault("kill -9 between COMMIT and PUBLISH", |stage| {
            let sent = stage.publish(node);
            stage.scene.nodes[node].kill();
            stage.rest(1.5);
            Ok(sent)
        })?;
        if !matches!(told, Told::Acknowledged { .. }) {
            return Err(RowError::NoEffect(format!("no acknowledgement: {told:?}")));
        }
        by_sweep += swept(stage)? - before;
        // What was held never arrives.
        stage.scene.redis_proxies[node].reset_all();
        stage.scene.redis_proxies[node].heal();
        stage.wait_back()?;
        stage.scene.nodes[node].restart()?;
    }
    stage.tell("killed", rounds as f64, "times");
    // Clients that move there may show a node what it lacks before its sweep does.
    stage.tell("found by the sweep of another node", by_sweep, "times");
    Ok(())
}

const KILL_BEFORE_COMMIT: Row = Row {
    layout: Layout {
        postgres_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(4.0, 3.0),
    after: kill_before_commit,
    ..Row::new(
        "3",
        "node killed in the middle of a commit",
        "its way to PostgreSQL is a black hole, before or behind the request, when it appends; then kill -9",
        "no hole and no lock left: a publish to the same channel takes < 1 s; a retry elsewhere finds what was committed",
    )
};

fn kill_before_commit(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let hole = PathFaults {
        black_hole: true,
        ..PathFaults::default()
    };
    for round in 0..stage.pick(6, 2) {
        let node = round % stage.scene.nodes.len();
        let other = (node + 1) % stage.scene.nodes.len();
        // Request lost, or answer lost: before the commit, or after it.
        let faults = match round % 2 {
            0 => Faults {
                up: hole,
                ..Faults::default()
            },
            _ => Faults {
                down: hole,
                ..Faults::default()
            },
        };
        let message = stage.fault("kill -9 in the middle of a commit", |stage| {
            stage.scene.postgres_proxies[node].set(faults);
            let address = stage.scene.address(node);
            let (message, told) = stage.probe.publish(address, stage.probe_channel, NO_ANSWER);
            stage.scene.nodes[node].kill();
            stage.scene.postgres_proxies[node].reset_all();
            stage.scene.postgres_proxies[node].heal();
            match told {
                Told::Unknown(_) => Ok(message),
                told => Err(RowError::NoEffect(format!("it was answered: {told:?}"))),
            }
        })?;
        let free = stage.publish_until_acknowledged(other, message.channel())?;
        stage.at_most("channel free again", free, "s", 1.0);
        let address = stage.scene.address(other);
        let told = stage.probe.again(address, &message, PROBE_PATIENCE);
        let told = stage.finish_publish(&message, told, address)?;
        if let Told::Acknowledged { duplicate, .. } = told {
            stage.tell(
                if round % 2 == 0 {
                    "requests lost"
                } else {
                    "answers lost"
                },
                f64::from(u32::try_from(round / 2 + 1).unwrap_or(u32::MAX)),
                "",
            );
            if duplicate && round % 2 == 0 {
                stage.violated("a request that never arrived was committed");
            }
        }
        stage.wait_back()?;
        stage.scene.nodes[node].restart()?;
    }
    Ok(())
}

const STOP_AND_GO_ON: Row = Row {
    load: Load::seconds(20.0, 10.0),
    during: stop_and_go_on,
    ..Row::new(
        "4",
        "node stopped for some seconds, then woken",
        "SIGSTOP for 10 s, then SIGCONT",
        "others are unaffected: no publish through them takes > 1 s; what it wakes up with breaks no order",
    )
};

fn stop_and_go_on(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let seconds = stage.pick(10.0, 4.0);
    stage.fault("a node is stopped", |stage| {
        stage.scene.nodes[0].pause();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut channel = 0;
        while Instant::now() < until {
            channel = (channel + 1) % stage.probe_channel;
            let took = stage.publish_until_acknowledged(1, channel)?;
            stage.at_most("publish through another node", took, "s", 1.0);
            stage.rest(0.05);
        }
        stage.scene.nodes[0].resume();
        Ok(())
    })
}

/// Ten thousand clients, as many as the promise names.
const HERD: Load = Load {
    clients: scaled(10_000, 60),
    channels: 100,
    rate: scaled(200.0, 50.0),
    seconds: scaled(40.0, 8.0),
    ..Load::DEFAULT
};

const RESTART_ALL: Row = Row {
    layout: Layout {
        nodes: 4,
        ..Layout::DEFAULT
    },
    load: HERD,
    during: restart_all,
    bounds: Bounds {
        heal: Some(30.0),
        ..Bounds::NONE
    },
    ..Row::new(
        "28",
        "all nodes restarted at once",
        "kill -9 of all nodes under 10,000 clients, all started again together",
        "every client is subscribed and complete in < 30 s, with a bounded number of queries",
    )
};

fn restart_all(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let before = transactions(stage)?;
    let begun = Instant::now();
    stage.fault("all nodes are killed", |stage| {
        Ok(stage.scene.restart_all()?)
    })?;
    stage.tell("nodes started after", begun.elapsed().as_secs_f64(), "s");
    stage.wait_back()?;
    stage.at_most("clients back", begun.elapsed().as_secs_f64(), "s", 30.0);
    let reads = stage.metric_sum("fanfare_page_reads_total")?;
    stage.tell("pages read from the log", reads, "");
    let after = transactions(stage)?;
    stage.tell(
        "transactions of PostgreSQL, the load included",
        after - before,
        "",
    );
    Ok(())
}

/// Transactions that the database has committed and rolled back so far.
fn transactions(stage: &mut Stage<'_>) -> Result<f64, RowError> {
    let sql = "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database";
    let text = stage.scene.postgres()?.execute("postgres", sql)?;
    Ok(text.trim().parse().unwrap_or_default())
}

const ROLLING: Row = Row {
    load: Load::seconds(60.0, 24.0),
    during: rolling,
    ..Row::new(
        "29",
        "rolling deploy",
        "SIGTERM to one node after the other, each started again when it has ended",
        "nothing lost, no gap, and nobody waits longer than 3 s for another node",
    )
};

fn rolling(stage: &mut Stage<'_>) -> Result<(), RowError> {
    for node in 0..stage.pick(stage.scene.nodes.len(), 1) {
        let before = stage.fleet.reconnects();
        let drained = stage.fault("a node is drained", |stage| {
            let begun = Instant::now();
            stage.scene.nodes[node].stop()?;
            Ok(begun.elapsed().as_secs_f64())
        })?;
        stage.tell("drain", drained, "s");
        let back = stage.wait_back()?;
        stage.at_most("last clients back", back, "s", 3.0);
        let moved = stage.fleet.reconnects() - before;
        stage.tell(
            "clients sent away in a second",
            moved as f64 / drained.max(0.001),
            "",
        );
        stage.scene.nodes[node].restart()?;
        stage.rest(1.0);
    }
    Ok(())
}
