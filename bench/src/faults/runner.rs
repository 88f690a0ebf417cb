//! Runs one row: servers, load, fault, quiet, log, judgement.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{ClientArgs, PublishArgs, Via};
use crate::clock::{self, MILLISECOND};
use crate::error::BenchError;
use crate::faults::busy::Ticks;
use crate::faults::judge::{Evidence, judge};
use crate::faults::outcome::{Figure, RowReport, State};
use crate::faults::probe::Probe;
use crate::faults::row::{Load, Row, RowError};
use crate::faults::scene::{Layout, Scene};
use crate::faults::stage::Stage;
use crate::fleet::Fleet;
use crate::mode::{Setup, drain};
use crate::publish::{Ledger, Publisher};
use crate::schedule::Schedule;

/// From the order to publish to the first message.
const LEAD: u64 = 200 * MILLISECOND;

/// How long after the end of the load answers and deliveries are waited for, in seconds.
const DRAIN_SECONDS: f64 = 60.0;

/// After everything has arrived, how long it is listened for what should not.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long clients may take to have everything of a log that replaced another one.
const SETTLE: Duration = Duration::from_secs(5);

/// How often it is looked whether the load is over.
const LOOK: Duration = Duration::from_millis(20);

/// Clients that connect in a second.
const CONNECT_RATE: f64 = 1_000.0;

/// Size of the data of a message, in bytes.
const SIZE: usize = 200;

/// Servers, a load, and what is done to them.
pub(crate) struct Play<'a> {
    /// The servers.
    pub(crate) layout: &'a Layout,
    /// The load.
    pub(crate) load: &'a Load,
    /// What is done while the load is on.
    pub(crate) during: &'a dyn Fn(&mut Stage<'_>) -> Result<(), RowError>,
    /// What is done after it.
    pub(crate) after: &'a dyn Fn(&mut Stage<'_>) -> Result<(), RowError>,
}

/// Runs `row`. Its history is written to `folder` and left there when it breaks a rule, or when `keep` is set.
pub(crate) fn run(row: &Row, short: bool, folder: &Path, keep: bool) -> RowReport {
    let begun = Instant::now();
    let mut report = RowReport {
        number: row.number,
        name: row.name,
        how: row.how,
        promise: row.promise,
        ..RowReport::default()
    };
    let history = folder.join(format!("row-{}.jsonl", row.number));
    let play = Play {
        layout: &row.layout,
        load: &row.load,
        during: &row.during,
        after: &row.after,
    };
    match perform(&play, short, &history) {
        Ok(evidence) => judge(row, evidence, &history, &mut report),
        Err(RowError::Skip(why)) => {
            report.state = State::Skipped;
            report.reasons.push(why);
        }
        Err(error) => {
            report.state = State::Broken;
            report.reasons.push(error.to_string());
        }
    }
    let wanted = match report.state {
        State::Violated | State::Broken => true,
        State::Skipped => false,
        State::Held | State::Missed => keep,
    };
    if wanted && history.exists() {
        report.history = Some(history);
    } else {
        // A file that cannot be removed does not change what was found.
        let _ = fs::remove_file(&history);
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

/// Plays once and records it in a history. Nothing is judged.
pub(crate) fn perform(play: &Play<'_>, short: bool, history: &Path) -> Result<Evidence, RowError> {
    let mut scene = start(play.layout)?;
    let load = play.load;
    let all_channels = load.channels + load.probe_channels;
    let mut setup = Setup::new(&scene.target(), all_channels)?;
    setup.record_to(Some(history))?;
    let recorder = setup
        .recorder()
        .cloned()
        .ok_or(BenchError::Thread("history"))?;

    let clients = load.clients.of(short);
    let client_args = client_args(clients);
    let fleet = setup.fleet(&client_args, true)?;
    setup.connect(&fleet, clients, &client_args)?;
    let mut probe = Probe::new(recorder.clone(), Arc::clone(&setup.channels), &setup.run);
    let reader = setup.reader()?;

    let (rate, seconds) = (load.rate.of(short), load.seconds.of(short));
    let publish_args = publish_args(load.publishers, seconds);
    let mut plan = setup.plan(&publish_args, Via::Http, rate, 0)?;
    plan.channels = Arc::new(setup.channels[..load.channels].to_vec());
    let publisher = Publisher::prepare(plan)?;
    let start = clock::now() + LEAD;
    let schedule = Schedule::new(start, rate, seconds);
    publisher.start(schedule, start)?;
    thread::sleep(Duration::from_nanos(LEAD) + Duration::from_secs_f64(load.warmup));

    let (mut figures, mut notes, mut replaced) = (Vec::new(), Vec::new(), false);
    let mut stage = Stage {
        scene: &mut scene,
        fleet: &fleet,
        probe: &mut probe,
        publisher: &publisher,
        recorder: &recorder,
        channels: Arc::clone(&setup.channels),
        clients,
        probe_channel: load.channels,
        replaced: &mut replaced,
        short,
        figures: &mut figures,
        notes: &mut notes,
    };
    let ticks = Ticks::now();
    (play.during)(&mut stage)?;
    while !publisher.has_finished() {
        thread::sleep(LOOK);
    }
    let busy = ticks.share_until(&Ticks::now());
    (play.after)(&mut stage)?;
    let ledger = publisher.finish()?;

    let incomplete = if replaced {
        // A client goes on at the head of the new log: how much it is owed is for the history to say.
        thread::sleep(SETTLE);
        0
    } else {
        finish_fleet(&fleet, &ledger, &probe, load.channels, all_channels)?
    };
    drop(reader);
    let findings = fleet.finish()?;
    figures.extend(scene.ended().into_iter().map(Figure::violation));
    setup.finish_history()?;
    Ok(Evidence {
        figures,
        notes,
        busy,
        incomplete,
        reconnects: findings.reconnects,
    })
}

fn start(layout: &Layout) -> Result<Scene, RowError> {
    Scene::start(layout).map_err(|error| match error {
        // Nothing but mounting can be refused before a server was started.
        BenchError::Local(error) if error.is_mount() => {
            RowError::Skip(format!("no small disk can be had here: {error}"))
        }
        other => other.into(),
    })
}

/// Waits until everybody has everything that was acknowledged; returns how many have not.
fn finish_fleet(
    fleet: &Fleet,
    ledger: &Ledger,
    probe: &Probe,
    channels: usize,
    all_channels: usize,
) -> Result<usize, BenchError> {
    let mut expected = vec![0; channels];
    ledger.add_to_channels(&mut expected, &mut vec![0; channels]);
    expected.resize(all_channels, 0);
    probe.add_to_channels(&mut expected);
    let incomplete = drain(fleet, expected, DRAIN_SECONDS)?;
    thread::sleep(AFTERMATH);
    Ok(incomplete)
}

/// How `clients` clients connect.
pub(crate) fn client_args(clients: usize) -> ClientArgs {
    ClientArgs {
        clients,
        threads: 1,
        connect_rate: CONNECT_RATE,
        source_addresses: None,
        connect_patience: 60,
    }
}

/// How a row's messages are published.
pub(crate) fn publish_args(publishers: usize, seconds: f64) -> PublishArgs {
    PublishArgs {
        duration: seconds,
        warmup: 0.0,
        size: SIZE,
        publishers: Some(publishers),
        idempotent: true,
        drain: DRAIN_SECONDS,
    }
}
