//! Redis away, hanging, losing, killing connections, forgetting.

use crate::faults::probe::Told;
use crate::faults::row::{Bounds, Load, Row, RowError};
use crate::faults::scene::Layout;
use crate::faults::stage::Stage;
use crate::proxy::{Faults, PathFaults, PushFaults};

/// What this part has.
pub(super) const ROWS: &[Row] = &[
    AWAY,
    HANGING,
    LOSING,
    BUFFER_LIMIT,
    FORGETTING,
    REPLACED,
    CUTTING,
];

/// With Redis down, deliveries go on by the sweep.
const STILL_LIVE: Bounds = Bounds {
    heal: Some(2.0),
    p99_in_window: Some(0.25),
    max_in_window: None,
};

const AWAY: Row = Row {
    load: Load::seconds(42.0, 12.0),
    during: away,
    bounds: STILL_LIVE,
    ..Row::new(
        "5",
        "Redis killed, and back empty",
        "kill -9, 30 s later a new one without data",
        "deliveries go on with p99 < 250 ms, and are as before < 2 s after",
    )
};

fn away(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let seconds = stage.pick(30.0, 4.0);
    stage.fault("Redis is away", |stage| {
        stage.scene.redis()?.kill();
        stage.rest(seconds);
        stage.scene.redis()?.restart()?;
        Ok(())
    })?;
    let up = stage.wait_bus(true)?;
    stage.tell("bus called up again", up, "s");
    Ok(())
}

const HANGING: Row = Row {
    load: Load::seconds(24.0, 12.0),
    during: hanging,
    bounds: Bounds {
        heal: Some(2.0),
        p99_in_window: Some(0.25),
        max_in_window: Some(0.5),
    },
    ..Row::new(
        "6",
        "Redis hangs",
        "SIGSTOP for 10 s, then SIGCONT",
        "noticed in < 2 s by every node; deliveries go on with p99 < 250 ms, none takes > 0.5 s",
    )
};

fn hanging(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let seconds = stage.pick(10.0, 4.0);
    stage.fault("Redis hangs", |stage| {
        stage.scene.redis()?.pause();
        let noticed = stage.wait_bus(false)?;
        stage.at_most("noticed", noticed, "s", 2.0);
        stage.rest((seconds - noticed).max(0.0));
        stage.scene.redis()?.resume();
        Ok(())
    })?;
    let up = stage.wait_bus(true)?;
    stage.tell("bus called up again", up, "s");
    Ok(())
}

const LOSING: Row = Row {
    layout: Layout {
        redis_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(16.0, 8.0),
    during: losing,
    after: losing_the_last,
    bounds: Bounds {
        max_in_window: Some(0.5),
        ..Bounds::NONE
    },
    ..Row::new(
        "7",
        "Redis loses, repeats and reorders messages",
        "a proxy drops 5 %, repeats 5 % and puts off 10 % of what each node is sent; then it drops the last message of a burst",
        "every message is there in < 0.5 s, the last one of a burst included",
    )
};

fn losing(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let seconds = stage.pick(10.0, 4.0);
    let faults = Faults {
        pushes: PushFaults {
            drop: 0.05,
            repeat: 0.05,
            reorder: 0.10,
        },
        ..Faults::default()
    };
    stage.fault("Redis loses, repeats and reorders", |stage| {
        stage
            .scene
            .redis_proxies
            .iter()
            .for_each(|proxy| proxy.set(faults));
        stage.rest(seconds);
        stage
            .scene
            .redis_proxies
            .iter()
            .for_each(crate::proxy::Proxy::heal);
        Ok(())
    })?;
    let passed = stage.scene.redis_proxies.iter().map(|proxy| proxy.passed());
    let (mut dropped, mut repeated, mut reordered) = (0, 0, 0);
    for passed in passed {
        dropped += passed.dropped;
        repeated += passed.repeated;
        reordered += passed.reordered;
    }
    if dropped == 0 || repeated == 0 || reordered == 0 {
        return Err(RowError::NoEffect(format!(
            "{dropped} dropped, {repeated} repeated, {reordered} reordered"
        )));
    }
    stage.tell("dropped", dropped as f64, "");
    stage.tell("repeated", repeated as f64, "");
    stage.tell("reordered", reordered as f64, "");
    Ok(())
}

fn losing_the_last(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let faults = Faults {
        pushes: PushFaults {
            drop: 1.0,
            ..PushFaults::default()
        },
        ..Faults::default()
    };
    for round in 0..stage.pick(10, 3) {
        let node = round % stage.scene.nodes.len();
        for _ in 0..5 {
            stage.publish(node);
        }
        stage.fault("the last message is lost", |stage| {
            // Short enough for a node not to miss its own heartbeat, which is dropped too.
            stage
                .scene
                .redis_proxies
                .iter()
                .for_each(|proxy| proxy.set(faults));
            let (_, told) = stage.publish(node);
            stage.rest(0.1);
            stage
                .scene
                .redis_proxies
                .iter()
                .for_each(crate::proxy::Proxy::heal);
            stage.rest(0.6);
            match told {
                Told::Acknowledged { .. } => Ok(()),
                told => Err(RowError::NoEffect(format!("no acknowledgement: {told:?}"))),
            }
        })?;
    }
    Ok(())
}

const BUFFER_LIMIT: Row = Row {
    layout: Layout {
        redis_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(20.0, 12.0),
    during: buffer_limit,
    ..Row::new(
        "8",
        "Redis ends a node that reads too slowly",
        "the way to one node is held while large messages come, and Redis keeps 64 KiB for a subscriber",
        "it heals, and no client is disconnected",
    )
};

fn buffer_limit(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let before = stage.fleet.reconnects();
    let limit = "pubsub 65536 65536 0";
    stage
        .scene
        .redis()?
        .execute(&["CONFIG", "SET", "client-output-buffer-limit", limit])?;
    let held = Faults {
        down: PathFaults {
            black_hole: true,
            ..PathFaults::default()
        },
        ..Faults::default()
    };
    // What the kernel buffers on the way has to be filled before Redis keeps anything, quicker than the load would.
    let topic = "return redis.call('PUBSUB', 'CHANNELS')[1]";
    let topic = stage.scene.redis()?.execute(&["EVAL", topic, "0"])?;
    let ballast = "x".repeat(64 << 10);
    let rounds = stage.pick(5, 2);
    for _ in 0..rounds {
        let known = disconnections(stage);
        stage.fault("one node does not read", |stage| {
            stage.scene.redis_proxies[0].set(held);
            stage.wait("Redis ends a subscriber", |stage| {
                if let Ok(redis) = stage.scene.redis() {
                    // A refusal shows in the count, which stays.
                    let _ = redis.execute(&["PUBLISH", &topic, &ballast]);
                }
                disconnections(stage) > known
            })?;
            stage.scene.redis_proxies[0].heal();
            Ok(())
        })?;
        stage.wait_bus(true)?;
        stage.rest(0.5);
    }
    let ended = disconnections(stage);
    stage.tell("subscribers ended by Redis", ended as f64, "");
    let lost = stage.fleet.reconnects() - before;
    stage.at_most("clients disconnected", lost as f64, "", 0.0);
    Ok(())
}

/// How often Redis ended a client for the size of its buffer: its log says so in every version.
fn disconnections(stage: &mut Stage<'_>) -> usize {
    let log = stage.scene.redis().map(|redis| redis.log());
    log.map_or(0, |log| log.matches("overcoming of output buffer").count())
}

const FORGETTING: Row = Row {
    load: Load::seconds(14.0, 8.0),
    during: forgetting,
    bounds: Bounds {
        max_in_window: Some(0.5),
        ..Bounds::NONE
    },
    ..Row::new(
        "9",
        "Redis emptied, and out of memory",
        "FLUSHALL every 200 ms, then maxmemory 1 byte without eviction",
        "messages are unaffected",
    )
};

fn forgetting(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let rounds = stage.pick(25, 10);
    stage.fault("FLUSHALL", |stage| {
        for _ in 0..rounds {
            stage.scene.redis()?.execute(&["FLUSHALL"])?;
            stage.rest(0.2);
        }
        Ok(())
    })?;
    let seconds = stage.pick(5.0, 2.0);
    stage.fault("out of memory", |stage| {
        let redis = stage.scene.redis()?;
        redis.execute(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
        redis.execute(&["CONFIG", "SET", "maxmemory", "1"])?;
        if redis.execute(&["SET", "one", "more"]).is_ok() {
            return Err(RowError::NoEffect("Redis still takes writes".to_owned()));
        }
        stage.rest(seconds);
        stage
            .scene
            .redis()?
            .execute(&["CONFIG", "SET", "maxmemory", "0"])?;
        Ok(())
    })
}

const REPLACED: Row = Row {
    layout: Layout {
        sentinels: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(40.0, 20.0),
    during: replaced,
    bounds: STILL_LIVE,
    ..Row::new(
        "10",
        "sentinels replace the Redis master",
        "the master is killed; later the next one hangs, and wakes when it has been replaced",
        "deliveries go on with p99 < 250 ms, and are as before < 2 s after",
    )
};

fn replaced(stage: &mut Stage<'_>) -> Result<(), RowError> {
    stage.fault("the master is killed", |stage| {
        let old = stage.scene.sentinels()?.kill_master()?;
        stage.scene.sentinels()?.wait_for_new_master(old)?;
        Ok(())
    })?;
    let up = stage.wait_bus(true)?;
    stage.tell("bus up after the replacement", up, "s");
    stage.rest(1.0);
    stage.scene.sentinels()?.restart()?;
    stage.scene.sentinels()?.wait_until_safe()?;
    stage.fault("the master hangs", |stage| {
        let old = stage.scene.sentinels()?.pause_master()?;
        stage.scene.sentinels()?.wait_for_new_master(old)?;
        Ok(())
    })?;
    let up = stage.wait_bus(true)?;
    stage.tell("bus up after the replacement", up, "s");
    stage.rest(1.0);
    // It believes that it is the master still, until the sentinels tell it.
    stage.fault("the former master wakes", |stage| {
        stage.scene.sentinels()?.resume();
        stage.rest(2.0);
        Ok(())
    })
}

const CUTTING: Row = Row {
    load: Load::seconds(16.0, 9.0),
    during: cutting,
    bounds: Bounds {
        max_in_window: Some(0.5),
        ..Bounds::NONE
    },
    ..Row::new(
        "11",
        "subscriptions killed every second",
        "CLIENT KILL TYPE pubsub once a second for 10 s",
        "every message is there in < 0.5 s; no client is disconnected",
    )
};

fn cutting(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let before = stage.fleet.reconnects();
    let rounds = stage.pick(10, 4);
    let killed = stage.fault("subscriptions are killed", |stage| {
        let mut killed = 0;
        for _ in 0..rounds {
            let answer = stage
                .scene
                .redis()?
                .execute(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
            killed += answer.parse::<u64>().unwrap_or(0);
            stage.rest(1.0);
        }
        Ok(killed)
    })?;
    if killed == 0 {
        return Err(RowError::NoEffect("Redis knew no subscriber".to_owned()));
    }
    stage.tell("killed", killed as f64, "subscriptions");
    let lost = stage.fleet.reconnects() - before;
    stage.at_most("clients disconnected", lost as f64, "", 0.0);
    Ok(())
}
