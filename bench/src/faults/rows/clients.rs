//! Clients that are slow, hostile, many, or of one mind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::guests::Guests;
use crate::faults::probe::{self, Told};
use crate::faults::row::{Bounds, Load, Row, RowError, scaled};
use crate::faults::stage::{PROBE_PATIENCE, Stage};
use crate::proxy::{Content, Faults, PathFaults, Proxy};
use crate::system::Sample;

/// What this part has.
pub(super) const ROWS: &[Row] = &[SLOW, HOT, HOSTILE, SAME_KEY, CONCURRENT];

const SLOW: Row = Row {
    load: Load::seconds(24.0, 12.0),
    during: slow,
    bounds: Bounds {
        p99_in_window: Some(0.1),
        ..Bounds::NONE
    },
    ..Row::new(
        "26",
        "slow readers",
        "30 further clients take 2 kB/s of a channel that has far more, for 10 s",
        "others are unaffected (p99 < 100 ms), no node gains more than 64 MiB, the slow ones catch up without a gap",
    )
};

fn slow(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let proxy = Proxy::start(stage.scene.address(0), Content::Bytes)?;
    let count = stage.pick(30, 5);
    let guests = Guests::join(stage, &[proxy.address()], count)?;
    let pid = stage.scene.nodes[0].pid();
    let memory = Sample::take(&[pid]).rss_kib();
    let seconds = stage.pick(10.0, 3.0);
    stage.fault("slow readers", |stage| {
        proxy.set(Faults {
            down: PathFaults {
                rate: NonZeroU64::new(2_000),
                ..PathFaults::default()
            },
            ..Faults::default()
        });
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            stage.publish_until_acknowledged(1, stage.probe_channel)?;
        }
        Ok(())
    })?;
    let grown = Sample::take(&[pid]).rss_kib().saturating_sub(memory) as f64 / 1_024.0;
    stage.at_most("memory gained", grown, "MiB", 64.0);
    proxy.heal();
    let begun = Instant::now();
    guests.leave_complete(stage)?;
    stage.tell("caught up after", begun.elapsed().as_secs_f64(), "s");
    Ok(())
}

const HOT: Row = Row {
    load: Load {
        channels: 1,
        rate: scaled(1_000.0, 150.0),
        clients: scaled(100, 30),
        ..Load::seconds(14.0, 8.0)
    },
    during: hot,
    bounds: Bounds {
        p99_in_window: Some(0.1),
        ..Bounds::NONE
    },
    ..Row::new(
        "30",
        "one hot channel",
        "all traffic goes to one channel, single messages to another",
        "p99 < 100 ms; a publish to the other channel takes < 0.25 s",
    )
};

fn hot(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let until = Instant::now() + Duration::from_secs_f64(stage.pick(10.0, 4.0));
    stage.fault("one hot channel", |stage| {
        let mut round = 0;
        while Instant::now() < until {
            let node = round % stage.scene.nodes.len();
            let took = stage.publish_until_acknowledged(node, stage.probe_channel)?;
            stage.at_most("publish to another channel", took, "s", 0.25);
            stage.rest(0.05);
            round += 1;
        }
        Ok(())
    })
}

const HOSTILE: Row = Row {
    load: Load::seconds(16.0, 9.0),
    during: hostile,
    ..Row::new(
        "31",
        "hostile input",
        "oversized and malformed requests and frames, endless headers, noise, on 32 connections at a time",
        "refused; no node ends or gains more than 64 MiB; no other client is disconnected",
    )
};

/// Connections that send noise at the same time.
const HOSTILES: usize = 32;

fn hostile(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let reconnects = stage.fleet.reconnects();
    let pid = stage.scene.nodes[0].pid();
    let memory = Sample::take(&[pid]).rss_kib();
    let address = stage.scene.address(0);
    let until = Instant::now() + Duration::from_secs_f64(stage.pick(8.0, 3.0));
    let sent = stage.fault("hostile input", |_| {
        let threads: Vec<_> = (0..HOSTILES)
            .map(|number| thread::spawn(move || attack(address, number, until)))
            .collect();
        let sent = threads.into_iter().map(|one| one.join().unwrap_or(0));
        Ok(sent.sum::<u64>())
    })?;
    stage.tell("attempts", sent as f64, "");
    let grown = Sample::take(&[pid]).rss_kib().saturating_sub(memory) as f64 / 1_024.0;
    stage.at_most("memory gained", grown, "MiB", 64.0);
    let lost = stage.fleet.reconnects() - reconnects;
    stage.at_most("clients disconnected", lost as f64, "", 0.0);
    Ok(())
}

/// Sends one kind of nonsense after the other until the time is over; how many.
fn attack(address: SocketAddr, number: usize, until: Instant) -> u64 {
    let upgrade = "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let mut attempts = 0;
    while Instant::now() < until {
        let mut bytes = Vec::new();
        match (number as u64 + attempts) % 6 {
            0 => {
                let head = "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
                bytes.extend(head.as_bytes());
                bytes.resize(head.len() + 1_000_000, b'x');
            }
            1 => bytes.extend(b"POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"data\":["),
            2 => {
                bytes.extend(b"GET / HTTP/1.1\r\nX: ");
                bytes.resize(500_000, b'y');
            }
            3 => {
                // A frame that says it is as long as can be.
                bytes.extend(upgrade.as_bytes());
                bytes.extend([0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
            }
            4 => {
                bytes.extend(upgrade.as_bytes());
                bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'{', b'{']);
            }
            _ => bytes.extend((0..4_096_u32).map(|byte| (byte.wrapping_mul(197) >> 3) as u8)),
        }
        // Whatever it answers, or whether it hangs up, is its own affair.
        let _ = say(address, &bytes);
        attempts += 1;
    }
    attempts
}

fn say(address: SocketAddr, bytes: &[u8]) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.write_all(bytes)?;
    stream.read(&mut [0; 1_024])
}

const SAME_KEY: Row = Row {
    load: Load::seconds(8.0, 6.0),
    during: same_key,
    ..Row::new(
        "34",
        "one key through two nodes at once",
        "the same message with the same idempotency key is published through two nodes at the same moment",
        "both are told the same position",
    )
};

fn same_key(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let addresses = [stage.scene.address(0), stage.scene.address(1)];
    let (mut both, mut twice) = (0_u32, 0_u32);
    for _ in 0..stage.pick(300, 60) {
        let message = stage.probe.message(stage.probe_channel);
        let told = thread::scope(|scope| {
            let sent = addresses.map(|address| {
                let message = &message;
                scope.spawn(move || probe::post(address, message, PROBE_PATIENCE))
            });
            sent.map(|one| {
                let failed = |_| Told::Unknown("a thread failed".to_owned());
                one.join().unwrap_or_else(failed)
            })
        });
        let places = told.each_ref().map(place);
        if let [Some(one), Some(other)] = &places {
            both += 1;
            if one.0 != other.0 {
                stage.violated(format!("two positions of one key: {told:?}"));
            }
            twice += u32::from(!one.1 && !other.1);
        }
        let known = told[usize::from(places[0].is_none())].clone();
        stage.probe.note(&message, &known);
        stage.finish_publish(&message, known, addresses[0])?;
    }
    if both == 0 {
        return Err(RowError::NoEffect("never were both answered".to_owned()));
    }
    stage.tell("pairs answered", f64::from(both), "");
    if twice > 0 {
        stage.violated(format!(
            "{twice} keys: neither answer was called a duplicate"
        ));
    }
    Ok(())
}

/// The position that was told, and whether it was called a duplicate.
fn place(told: &Told) -> Option<((u64, &str), bool)> {
    match told {
        Told::Acknowledged {
            offset,
            epoch,
            duplicate,
        } => Some(((*offset, epoch), *duplicate)),
        Told::Refused(_) | Told::Unknown(_) => None,
    }
}

const CONCURRENT: Row = Row {
    load: Load {
        clients: scaled(60, 20),
        channels: 1,
        rate: scaled(100_000.0, 100_000.0),
        seconds: scaled(0.05, 0.01),
        publishers: 1_000,
        warmup: 0.0,
        ..Load::DEFAULT
    },
    ..Row::new(
        "35",
        "a thousand sends at once into one channel",
        "1,000 connections to three nodes publish 5,000 messages, all due within 50 ms",
        "no inversion: what was acknowledged before another was sent has the lower number",
    )
};
