//! `fanfare bench run`: publish at a fixed rate to subscribers that verify everything.

use std::thread;
use std::time::Duration;

use crate::args::{LoadArgs, RunArgs};
use crate::clock;
use crate::error::BenchError;
use crate::fleet::Fleet;
use crate::mode::{Setup, conclude, judge, judge_publications, publish};
use crate::progress::Progress;
use crate::report::Report;
use crate::system::Sample;

/// After everything has arrived, how long it is listened for what should not.
pub(crate) const AFTERMATH: Duration = Duration::from_millis(500);

/// Runs it.
pub(crate) fn run(args: RunArgs) -> Result<(), BenchError> {
    let mut setup = Setup::new(&args.target, args.load.channels)?;
    setup.record_to(args.load.history.as_deref())?;
    let mut report = setup.report("run", &args);
    measure(&setup, &args.load, &mut report)?;
    conclude(report, &args.load.output)
}

/// Puts the load on the servers of `setup` and fills `report` with what came of it.
pub(crate) fn measure(
    setup: &Setup,
    args: &LoadArgs,
    report: &mut Report,
) -> Result<(), BenchError> {
    let plan = setup.plan(&args.publish, args.via, args.rate, 0)?;
    let pids = &args.output.pids;
    Sample::first(pids)?;

    let fleet = setup.fleet(&args.client, args.reconnect)?;
    let begun = clock::now();
    setup.connect(&fleet, args.client.clients, &args.client)?;
    let ramp_seconds = clock::between(begun, clock::now()).as_secs_f64();
    let subscribed = fleet.live();

    let reader = setup.reader()?;
    let phase = publish(plan, args.rate, &args.publish, Some(&fleet), pids)?;
    let mut expected = vec![0; args.channels];
    phase
        .ledger
        .add_to_channels(&mut expected, &mut vec![0; args.channels]);
    drain(&fleet, expected, args.publish.drain)?;
    let drain_seconds = clock::between(phase.published_at, clock::now()).as_secs_f64();
    thread::sleep(AFTERMATH);
    drop(reader);
    let findings = fleet.finish()?;
    setup.finish_history()?;

    let ledgers = [phase.ledger];
    let mut judged = judge(&findings, &ledgers, args.channels);
    let publications = ledgers[0].report(args.rate);
    judged
        .verdict
        .reasons
        .extend(judge_publications(&publications));
    report.generator = phase.before.generator_until(&phase.after);
    report.processes = phase.before.processes_until(&phase.after, pids);
    judged.report.wanted = args.client.clients;
    judged.report.subscribed = subscribed;
    judged.report.ramp_seconds = ramp_seconds;
    judged.report.per_second =
        phase.deliveries as f64 / report.generator.window_seconds.max(f64::MIN_POSITIVE);
    judged.report.drain_seconds = drain_seconds;
    report.server_versions = findings.versions;
    report.subscribers = Some(judged.report);
    report.publications = Some(publications);
    report.delivery_latency = Some(findings.latency.summary());
    report.ack_latency = Some(ledgers[0].latency().summary());
    report.verdict = judged.verdict;
    Ok(())
}

/// Waits until everybody has everything, or patience has run out; returns how many have not.
pub(crate) fn drain(fleet: &Fleet, expected: Vec<u64>, seconds: f64) -> Result<usize, BenchError> {
    let mut progress = Progress::new("drain");
    let incomplete =
        fleet.wait_complete(expected, Duration::from_secs_f64(seconds), |incomplete| {
            progress.show(0.0, || format!("{incomplete} subscribers lack something"));
        });
    progress.clear();
    incomplete
}
