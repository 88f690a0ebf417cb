//! Networks that part, shake, or swallow.

use std::time::{Duration, Instant};

use crate::faults::guests::Guests;
use crate::faults::row::{Load, Row, RowError, Scaled};
use crate::faults::scene::Layout;
use crate::faults::stage::Stage;
use crate::proxy::{Content, Faults, PathFaults, Proxy};

/// What this part has.
pub(super) const ROWS: &[Row] = &[PARTED, SHAKING, HALF_OPEN];

/// Everything held in one direction.
const HOLE: PathFaults = PathFaults {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    rate: None,
    black_hole: true,
    cut_after: None,
};

const PARTED: Row = Row {
    layout: Layout {
        redis_proxies: true,
        postgres_proxies: true,
        client_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(50.0, 18.0),
    during: parted,
    ..Row::new(
        "23",
        "partitions",
        "one node and PostgreSQL, one node and Redis, clients and one node in either direction: each a black hole for some seconds",
        "publishes through another node take < 1 s; one order, no hole",
    )
};

fn parted(stage: &mut Stage<'_>) -> Result<(), RowError> {
    type Paths = for<'a> fn(&'a Stage<'_>) -> &'a Proxy;
    let postgres: Paths = |stage| &stage.scene.postgres_proxies[0];
    let redis: Paths = |stage| &stage.scene.redis_proxies[0];
    let clients: Paths = |stage| &stage.scene.client_proxies[0];
    let up = Faults {
        up: HOLE,
        ..Faults::default()
    };
    let down = Faults {
        down: HOLE,
        ..Faults::default()
    };
    let partitions = [
        (
            "a node and PostgreSQL are parted",
            postgres,
            Faults::black_hole(),
        ),
        ("a node and Redis are parted", redis, Faults::black_hole()),
        ("a node hears nothing of PostgreSQL", postgres, down),
        ("a node hears nothing of Redis", redis, down),
        ("a node hears nothing of its clients", clients, up),
        ("clients hear nothing of a node", clients, down),
    ];
    let count = stage.pick(6, 3);
    for (name, path, faults) in partitions.into_iter().take(count) {
        let seconds = stage.pick(6.0, 2.0);
        stage.fault(name, |stage| {
            path(stage).set(faults);
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                let took = stage.publish_until_acknowledged(1, stage.probe_channel)?;
                stage.at_most("publish through another node", took, "s", 1.0);
                stage.rest(0.1);
            }
            path(stage).heal();
            Ok(())
        })?;
        stage.rest(stage.pick(1.0, 0.5));
    }
    Ok(())
}

const SHAKING: Row = Row {
    layout: Layout {
        client_proxies: true,
        ..Layout::DEFAULT
    },
    load: Load::seconds(16.0, 8.0),
    during: shaking,
    ..Row::new(
        "24",
        "clients on a bad network",
        "every read and write of every client and publisher is put off by up to 100 ms",
        "nothing but the latency changes",
    )
};

fn shaking(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let seconds = stage.pick(10.0, 4.0);
    let faults = Faults::both(PathFaults {
        jitter: Duration::from_millis(100),
        ..PathFaults::default()
    });
    stage.fault("clients' network shakes", |stage| {
        for proxy in &stage.scene.client_proxies {
            proxy.set(faults);
        }
        stage.rest(seconds);
        for proxy in &stage.scene.client_proxies {
            proxy.heal();
        }
        Ok(())
    })
}

const HALF_OPEN: Row = Row {
    load: Load {
        rate: Scaled {
            full: 100.0,
            short: 20.0,
        },
        ..Load::seconds(50.0, 50.0)
    },
    during: half_open,
    ..Row::new(
        "25",
        "clients vanish without a word",
        "the way of 200 clients becomes a black hole",
        "their connections are gone in < 60 s",
    )
};

/// Twice what is promised.
const REAPED_PATIENCE: Duration = Duration::from_secs(120);

fn half_open(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let connections = "fanfare_connections";
    let before = stage.metric(0, connections)?;
    let proxy = Proxy::start(stage.scene.address(0), Content::Bytes)?;
    let count = stage.pick(200, 20);
    let guests = Guests::join(stage, &[proxy.address()], count)?;
    let with = stage.metric(0, connections)?;
    if with < before + count as f64 {
        return Err(RowError::NoEffect(format!(
            "{with} connections after {before}"
        )));
    }
    let gone = stage.fault("clients vanish", |stage| {
        proxy.set(Faults::black_hole());
        stage.wait_for(REAPED_PATIENCE, "the end of their connections", |stage| {
            stage
                .metric(0, connections)
                .is_ok_and(|now| now <= with - count as f64)
        })
    })?;
    stage.at_most("reaped", gone, "s", 60.0);
    drop(guests);
    Ok(())
}
