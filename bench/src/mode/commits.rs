//! `fanfare bench commits`: durable publishes a second, with nobody listening.
//!
//! That nobody listens does not mean that the server is believed: at the end, one subscription to each channel asks
//! for its head, which must be exactly what was acknowledged.

use crate::args::CommitsArgs;
use crate::error::BenchError;
use crate::mode::heads::Books;
use crate::mode::{Phase, Setup, conclude, judge_publications, positive, publish, reached};
use crate::report::{PublicationReport, RateStep, Report};
use crate::system::{self, Sample};

/// Rates that `--ramp` tries at most.
const TRIES_MAX: usize = 16;

/// How far the first tries of `--ramp` lie apart.
const STRIDE: f64 = 1.5;

/// The search ends when the lowest rate that failed is this close to the highest that held.
const CLOSE_ENOUGH: f64 = 1.05;

/// Runs it.
pub(crate) fn run(args: CommitsArgs) -> Result<(), BenchError> {
    let setup = Setup::new(&args.target, args.channels)?;
    positive("--p99-max-ms", args.p99_max_ms)?;
    setup.plan(&args.publish, args.via, args.rate, 0)?;
    if args.verify {
        // One connection for each channel.
        system::check_open_files(args.channels)?;
    }
    Sample::first(&args.output.pids)?;
    let mut report = setup.report("commits", &args);
    let mut bench = Commits {
        args: &args,
        setup,
        first: 0,
        books: Books::new(args.channels),
    };
    if args.ramp {
        bench.ramp(&mut report)?;
    } else {
        let (phase, publications) = bench.phase(args.rate)?;
        report.verdict.reasons = judge_publications(&publications);
        bench.fill(&mut report, &phase, publications);
    }
    if args.verify {
        let (reasons, versions) = bench.books.judge(&bench.setup);
        report.verdict.reasons.extend(reasons);
        report.server_versions = versions;
    }
    conclude(report, &args.output)
}

struct Commits<'a> {
    args: &'a CommitsArgs,
    setup: Setup,
    /// Number of the next message.
    first: u64,
    /// What was acknowledged.
    books: Books,
}

impl Commits<'_> {
    fn phase(&mut self, rate: f64) -> Result<(Phase, PublicationReport), BenchError> {
        let args = self.args;
        let plan = self.setup.plan(&args.publish, args.via, rate, self.first)?;
        let phase = publish(plan, rate, &args.publish, None, &args.output.pids)?;
        phase
            .ledger
            .add_to_channels(&mut self.books.acknowledged, &mut self.books.unknown);
        let publications = phase.ledger.report(rate);
        self.first += publications.scheduled;
        Ok((phase, publications))
    }

    fn ramp(&mut self, report: &mut Report) -> Result<(), BenchError> {
        let bound = self.args.p99_max_ms;
        let pids = &self.args.output.pids;
        let mut search = Search::new(self.args.rate);
        for _ in 0..TRIES_MAX {
            let Some(rate) = search.next() else { break };
            let (phase, publications) = self.phase(rate)?;
            let held = judge_publications(&publications).is_empty()
                && reached(&publications, &self.args.publish)
                && phase.ledger.latency().percentile_ms(99.0) <= bound;
            search.learn(rate, held);
            report.rate_steps.push(RateStep {
                held,
                ..phase.rate_step(&publications, pids)
            });
            if held || report.publications.is_none() {
                self.fill(report, &phase, publications);
            }
        }
        report.knee_per_second = search.held;
        if search.held.is_none() {
            let reason = format!("no rate that was tried held p99 below {bound} ms");
            report.verdict.reasons.push(reason);
        }
        Ok(())
    }

    fn fill(&self, report: &mut Report, phase: &Phase, publications: PublicationReport) {
        report.generator = phase.before.generator_until(&phase.after);
        report.processes = phase
            .before
            .processes_until(&phase.after, &self.args.output.pids);
        report.ack_latency = Some(phase.ledger.latency().summary());
        report.publications = Some(publications);
    }
}

/// Looks for the highest rate that holds: in strides until one fails (or, downwards, holds), then by halves.
#[derive(Debug)]
struct Search {
    first: f64,
    held: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    fn new(first: f64) -> Self {
        Self {
            first,
            held: None,
            failed: None,
        }
    }

    fn next(&self) -> Option<f64> {
        let rate = match (self.held, self.failed) {
            (None, None) => self.first,
            (Some(held), None) => held * STRIDE,
            (None, Some(failed)) => failed / STRIDE,
            (Some(held), Some(failed)) if failed / held <= CLOSE_ENOUGH => return None,
            (Some(held), Some(failed)) => f64::midpoint(held, failed),
        };
        // One that ends too small or as the one before would lead nowhere.
        let rate = rate.round();
        (rate >= 1.0 && self.held != Some(rate) && self.failed != Some(rate)).then_some(rate)
    }

    fn learn(&mut self, rate: f64, held: bool) {
        let known = if held {
            &mut self.held
        } else {
            &mut self.failed
        };
        *known = Some(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knee(first: f64, truth: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(first);
        let mut tries = 0;
        while let Some(rate) = search.next().filter(|_| tries < TRIES_MAX) {
            search.learn(rate, rate <= truth);
            tries += 1;
        }
        (search.held, tries)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for first in [1_000.0, 20_000.0, 100_000.0] {
            let (held, tries) = knee(first, 31_000.0);
            let held = held.unwrap();
            assert!(
                (29_000.0..=31_000.0).contains(&held),
                "{held} from {first} in {tries}"
            );
        }
    }

    #[test]
    fn the_search_ends_where_nothing_holds() {
        assert_eq!(knee(10.0, 0.0).0, None);
        assert!(knee(1e9, 0.0).1 <= TRIES_MAX);
        assert_eq!(knee(1.0, 2.5).0, Some(2.0));
    }
}
