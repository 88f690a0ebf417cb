//! `fanfare bench fanout`: one channel with everybody in it, at several rates.

use std::thread;

use crate::args::FanoutArgs;
use crate::clock;
use crate::error::BenchError;
use crate::mode::run::{AFTERMATH, drain};
use crate::mode::servers::{ServerOptions, Servers};
use crate::mode::{
    Setup, conclude, fanout_page, judge, judge_publications, publish, reached, versus,
};
use crate::output::Folder;
use crate::report::{RateStep, Report};
use crate::system::Sample;

/// Rates of one benchmark.
const RATES_MAX: usize = 64;

/// Turns at each rate.
const ROUNDS_MAX: usize = 100;

/// Runs it.
pub(crate) fn run(mut args: FanoutArgs) -> Result<(), BenchError> {
    if args.rates.is_empty() || args.rates.len() > RATES_MAX {
        return Err(BenchError::option(
            "--rates",
            format!("must be 1 to {RATES_MAX} numbers"),
        ));
    }
    if args.rounds == 0 || args.rounds > ROUNDS_MAX {
        return Err(BenchError::option(
            "--rounds",
            format!("must be 1 to {ROUNDS_MAX}"),
        ));
    }
    let servers = if args.own {
        Some(start(&mut args)?)
    } else {
        None
    };
    let setup = Setup::new(&args.target, 1)?;
    for &rate in &args.rates {
        setup.plan(&args.publish, args.via, rate, 0)?;
    }
    Sample::first(&args.output.pids)?;
    let mut report = setup.report("fanout", &args);
    if args.yardstick && !args.output.pids.is_empty() {
        versus::run(&args, setup, &mut report)?;
    } else {
        if args.yardstick {
            report.warnings.push(
                "without --pid or --own there is no processor time, and no ratio to the yardstick"
                    .to_owned(),
            );
        }
        alone(&args, &setup, &mut report)?;
    }
    if let Some(mut servers) = servers {
        report.verdict.reasons.extend(servers.ended());
        report.warnings.extend(servers.stop());
    }
    report.verdict.passed = report.verdict.reasons.is_empty();
    if let Some(out) = &args.out {
        let (page, plots) = fanout_page::render(&report, args.client.clients, args.publish.size);
        Folder::open(out)?.write("fanout", &report, &page, &plots)?;
    }
    conclude(report, &args.output)
}

/// One node, which takes the place of those of the command line.
fn start(args: &mut FanoutArgs) -> Result<Servers, BenchError> {
    let servers = Servers::start(&ServerOptions {
        nodes: 1,
        sqlite: true,
        node_threads: None,
        ..ServerOptions::default()
    })?;
    args.target = servers.target();
    args.output.pids = servers
        .processes()
        .into_iter()
        .map(|(_, pid)| pid)
        .collect();
    Ok(servers)
}

/// The server alone, with its clients in this process.
fn alone(args: &FanoutArgs, setup: &Setup, report: &mut Report) -> Result<(), BenchError> {
    let pids = &args.output.pids;
    let before = Sample::first(pids)?;
    let fleet = setup.fleet(&args.client, false)?;
    let begun = clock::now();
    setup.connect(&fleet, args.client.clients, &args.client)?;
    let ramp_seconds = clock::between(begun, clock::now()).as_secs_f64();
    let subscribed = fleet.live();

    let mut ledgers = Vec::new();
    let mut expected = vec![0];
    let mut first = 0;
    for &rate in &args.rates {
        let plan = setup.plan(&args.publish, args.via, rate, first)?;
        let phase = publish(plan, rate, &args.publish, Some(&fleet), pids)?;
        phase.ledger.add_to_channels(&mut expected, &mut [0]);
        let incomplete = drain(&fleet, expected.clone(), args.publish.drain)?;
        let publications = phase.ledger.report(rate);
        first += publications.scheduled;
        let broken = judge_publications(&publications);
        let held = broken.is_empty() && incomplete == 0 && reached(&publications, &args.publish);
        report.verdict.reasons.extend(
            broken
                .into_iter()
                .map(|reason| format!("at {rate}/s: {reason}")),
        );
        report.rate_steps.push(RateStep {
            delivery_latency: Some(fleet.take_latency()?.summary()),
            held,
            ..phase.rate_step(&publications, pids)
        });
        ledgers.push(phase.ledger);
    }
    thread::sleep(AFTERMATH);
    let after = Sample::take(pids);
    let findings = fleet.finish()?;

    let mut judged = judge(&findings, &ledgers, 1);
    report.generator = before.generator_until(&after);
    report.processes = before.processes_until(&after, pids);
    judged.report.wanted = args.client.clients;
    judged.report.subscribed = subscribed;
    judged.report.ramp_seconds = ramp_seconds;
    report.server_versions = findings.versions;
    report.subscribers = Some(judged.report);
    report.verdict.reasons.extend(judged.verdict.reasons);
    report.verdict.first_violation = judged.verdict.first_violation;
    Ok(())
}
