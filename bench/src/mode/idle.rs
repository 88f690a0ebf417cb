//! `fanfare bench idle`: memory per idle subscribed connection, as a slope over several numbers of them.

use std::thread;
use std::time::Duration;

use crate::args::IdleArgs;
use crate::clock;
use crate::error::BenchError;
use crate::mode::setup::not_negative;
use crate::mode::{Setup, conclude};
use crate::report::{IdleFit, IdleStep, SubscriberReport};
use crate::slope;
use crate::system::Sample;

/// Runs it.
pub(crate) fn run(args: IdleArgs) -> Result<(), BenchError> {
    let pids = &args.output.pids;
    if pids.is_empty() {
        return Err(BenchError::option(
            "--pid",
            "is needed: the process whose memory is to be read",
        ));
    }
    if args.steps < 2 || args.steps > args.client.clients {
        return Err(BenchError::option(
            "--steps",
            "must be at least 2, and at most --clients",
        ));
    }
    let settle = Duration::from_secs_f64(not_negative("--settle", args.settle)?);
    let setup = Setup::new(&args.target, args.channels)?;
    let before = Sample::first(pids)?;
    let mut report = setup.report("idle", &args);
    let fleet = setup.fleet(&args.client, false)?;
    report.idle_steps.push(IdleStep {
        connections: 0,
        rss_kib: before.rss_kib(),
    });
    let begun = clock::now();
    for step in 1..=args.steps {
        let clients = args.client.clients * step / args.steps;
        setup.connect(&fleet, clients, &args.client)?;
        thread::sleep(settle);
        let connections = fleet.live();
        if connections < clients {
            report.verdict.reasons.push(format!(
                "{} of {clients} connections were lost",
                clients - connections
            ));
        }
        report.idle_steps.push(IdleStep {
            connections,
            rss_kib: Sample::take(pids).rss_kib(),
        });
    }
    let after = Sample::take(pids);
    let ramp_seconds = clock::between(begun, clock::now()).as_secs_f64();
    let subscribed = fleet.live();
    let findings = fleet.finish()?;
    // What a server sets up for its first connections is not the price of one more.
    let points: Vec<(f64, f64)> = report
        .idle_steps
        .iter()
        .skip(1)
        .map(|step| (step.connections as f64, step.rss_kib as f64))
        .collect();
    report.idle_fit = slope::fit(&points).map(|(base_kib, kib_per_connection)| IdleFit {
        kib_per_connection,
        base_kib,
    });
    report.generator = before.generator_until(&after);
    report.processes = before.processes_until(&after, pids);
    report.server_versions = findings.versions;
    report.subscribers = Some(SubscriberReport {
        wanted: args.client.clients,
        subscribed,
        ramp_seconds,
        closed: findings.closed,
        ..SubscriberReport::default()
    });
    conclude(report, &args.output)
}
