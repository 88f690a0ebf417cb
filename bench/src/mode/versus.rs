//! `fanfare bench fanout` with its yardstick: the bare loop and the server in turns, at each rate, under the same load by
//! the same generator. Both keep their clients all the time, so that nobody connects anew between two turns.

use std::net::SocketAddr;
use std::time::Duration;

use crate::args::{FanoutArgs, TargetArgs};
use crate::bare::Yardstick;
use crate::counters::NodeCounters;
use crate::crowd::Crowd;
use crate::error::BenchError;
use crate::latency::Latency;
use crate::mode::run::AFTERMATH;
use crate::mode::{Judged, Setup, judge, judge_publications, publish_watched, reached};
use crate::publish::Ledger;
use crate::report::{RateStep, Report, YardstickStep, write_us};
use crate::system::Sample;

/// One of the two.
struct Contender {
    setup: Setup,
    crowd: Crowd,
    pids: Vec<u32>,
    addresses: Vec<SocketAddr>,
    first: u64,
    expected: Vec<u64>,
    ledgers: Vec<Ledger>,
    ramp_seconds: f64,
}

/// All turns of one contender at one rate.
struct Turns {
    step: RateStep,
    latency: Latency,
    ack: Latency,
    /// Deliveries per processor second, by round.
    rounds: Vec<f64>,
    reasons: Vec<String>,
}

/// Measures the server of `setup` beside the yardstick and fills `report`.
pub(crate) fn run(args: &FanoutArgs, setup: Setup, report: &mut Report) -> Result<(), BenchError> {
    let yardstick = Yardstick::start()?;
    let bare_target = TargetArgs {
        urls: vec![format!("http://{}", yardstick.address())],
        publish_urls: Vec::new(),
        api_key: None,
        token: None,
        token_secret: None,
        ..args.target.clone()
    };
    let bare_setup = Setup::new(&bare_target, 1)?;
    let addresses = setup.publish_addresses();
    let mut bare = Contender::ready(
        args,
        bare_setup,
        vec![yardstick.pid()],
        vec![yardstick.address()],
    )?;
    let mut server = Contender::ready(args, setup, args.output.pids.clone(), addresses)?;

    let before = Sample::take(&server.pids);
    for &rate in &args.rates {
        let mut both = [Turns::new(), Turns::new()];
        for _ in 0..args.rounds {
            for (contender, turns) in [&mut bare, &mut server].into_iter().zip(&mut both) {
                contender.turn(args, rate, turns)?;
            }
        }
        let [yard, turns] = both;
        for (name, turns) in [("the yardstick", &yard), ("the server", &turns)] {
            let told = turns.reasons.iter();
            report
                .verdict
                .reasons
                .extend(told.map(|reason| format!("{name} at {rate}/s: {reason}")));
        }
        report.rate_steps.push(combine(turns, yard));
    }
    std::thread::sleep(AFTERMATH);
    let after = Sample::take(&server.pids);
    report.generator = before.generator_until(&after);
    report.processes = before.processes_until(&after, &server.pids);

    let (judged, _) = bare.judge(args)?;
    let broken = judged.verdict.reasons.into_iter();
    report
        .verdict
        .reasons
        .extend(broken.map(|reason| format!("the yardstick: {reason}")));
    let (judged, versions) = server.judge(args)?;
    report.server_versions = versions;
    report.subscribers = Some(judged.report);
    report.verdict.reasons.extend(judged.verdict.reasons);
    report.verdict.first_violation = judged.verdict.first_violation;
    Ok(())
}

impl Contender {
    /// Connects its clients.
    fn ready(
        args: &FanoutArgs,
        setup: Setup,
        pids: Vec<u32>,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, BenchError> {
        let crowd = setup.crowd(&args.client, false)?;
        let patience = Duration::from_secs(args.client.connect_patience);
        let ramp_seconds = crowd.connect_to(args.client.clients, patience)?;
        Ok(Self {
            setup,
            crowd,
            pids,
            addresses,
            first: 0,
            expected: vec![0],
            ledgers: Vec::new(),
            ramp_seconds,
        })
    }

    /// Measures it once at `rate`.
    fn turn(&mut self, args: &FanoutArgs, rate: f64, turns: &mut Turns) -> Result<(), BenchError> {
        let plan = self.setup.plan(&args.publish, args.via, rate, self.first)?;
        // Servers of another kind tell nothing; the ratio does not depend on it.
        let mut counted: Vec<Option<NodeCounters>> = Vec::with_capacity(2);
        let mut processes = self.pids.clone();
        processes.extend(self.crowd.pids());
        let addresses = &self.addresses;
        let phase = publish_watched(
            plan,
            rate,
            &args.publish,
            Some(&self.crowd),
            &processes,
            &mut || {
                counted.push(NodeCounters::read(addresses).ok());
                Ok(())
            },
        )?;
        phase.ledger.add_to_channels(&mut self.expected, &mut [0]);
        let incomplete = self
            .crowd
            .wait_complete(&self.expected, args.publish.drain)?;
        let publications = phase.ledger.report(rate);
        self.first += publications.scheduled;
        let broken = judge_publications(&publications);
        let held = broken.is_empty() && incomplete == 0 && reached(&publications, &args.publish);
        turns.reasons.extend(broken);
        turns.latency.merge(&self.crowd.take_latency()?);
        turns.ack.merge(phase.ledger.latency());

        let used = phase.before.processes_until(&phase.after, &processes);
        let (servers, clients) = used.split_at(self.pids.len());
        let cpu: f64 = servers.iter().map(|process| process.cpu_seconds).sum();
        let busiest = clients.iter().map(|process| process.cpu_share);
        let own = phase.before.generator_until(&phase.after);
        let share = busiest.fold(own.busiest_thread_share, f64::max);
        let counters = match counted[..] {
            [Some(before), Some(after)] => Some(after.since(before)),
            _ => None,
        };
        turns.add(&RateStep {
            offered_per_second: publications.offered_per_second,
            achieved_per_second: publications.achieved_per_second,
            deliveries: phase.deliveries,
            server_cpu_seconds: cpu,
            generator_share: share,
            held,
            counters,
            ..RateStep::default()
        });
        self.ledgers.push(phase.ledger);
        Ok(())
    }

    fn judge(self, args: &FanoutArgs) -> Result<(Judged, Vec<String>), BenchError> {
        let findings = self.crowd.finish()?;
        let mut judged = judge(&findings, &self.ledgers, 1);
        judged.report.wanted = args.client.clients;
        judged.report.subscribed = findings.received.len();
        judged.report.ramp_seconds = self.ramp_seconds;
        Ok((judged, findings.versions))
    }
}

impl Turns {
    fn new() -> Self {
        Self {
            step: RateStep {
                held: true,
                counters: Some(NodeCounters::default()),
                ..RateStep::default()
            },
            latency: Latency::new(),
            ack: Latency::new(),
            rounds: Vec::new(),
            reasons: Vec::new(),
        }
    }

    fn add(&mut self, turn: &RateStep) {
        let rounds = self.rounds.len() as f64;
        self.rounds
            .push(per_cpu_second(turn.deliveries, turn.server_cpu_seconds));
        let step = &mut self.step;
        step.offered_per_second = turn.offered_per_second;
        step.achieved_per_second =
            (step.achieved_per_second * rounds + turn.achieved_per_second) / (rounds + 1.0);
        step.deliveries += turn.deliveries;
        step.server_cpu_seconds += turn.server_cpu_seconds;
        step.generator_share = step.generator_share.max(turn.generator_share);
        step.held &= turn.held;
        step.counters = match (step.counters, turn.counters) {
            (Some(sum), Some(counters)) => Some(sum.plus(counters)),
            _ => None,
        };
    }
}

/// The server's turns with those of the yardstick beside them.
fn combine(turns: Turns, yard: Turns) -> RateStep {
    let server = per_cpu_second(turns.step.deliveries, turns.step.server_cpu_seconds);
    let bare = per_cpu_second(yard.step.deliveries, yard.step.server_cpu_seconds);
    let pairs = turns.rounds.iter().zip(&yard.rounds);
    let price = |step: &RateStep| write_us(step.server_cpu_seconds, step.counters.as_ref()?);
    let prices = price(&yard.step).zip(price(&turns.step));
    RateStep {
        deliveries_per_cpu_second: server,
        delivery_latency: Some(turns.latency.summary()),
        ack_latency: Some(turns.ack.summary()),
        yardstick: Some(YardstickStep {
            deliveries: yard.step.deliveries,
            cpu_seconds: yard.step.server_cpu_seconds,
            deliveries_per_cpu_second: bare,
            counters: yard.step.counters.unwrap_or_default(),
            ratio: ratio(server, bare),
            write_ratio: prices.map(|(bare, server)| bare / server),
            ratios: pairs.map(|(&server, &bare)| ratio(server, bare)).collect(),
            delivery_latency: Some(yard.latency.summary()),
            held: yard.step.held,
        }),
        ..turns.step
    }
}

fn per_cpu_second(deliveries: u64, cpu_seconds: f64) -> f64 {
    if cpu_seconds > 0.0 {
        deliveries as f64 / cpu_seconds
    } else {
        0.0
    }
}

/// 0 where the yardstick used too little to be counted: such a run is too short to tell.
fn ratio(server: f64, bare: f64) -> f64 {
    if bare > 0.0 { server / bare } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rounds: &[(u64, f64)], counters: Option<NodeCounters>) -> Turns {
        let mut turns = Turns::new();
        for &(deliveries, server_cpu_seconds) in rounds {
            turns.add(&RateStep {
                achieved_per_second: deliveries as f64,
                deliveries,
                server_cpu_seconds,
                held: true,
                counters,
                ..RateStep::default()
            });
        }
        turns
    }

    #[test]
    fn the_ratio_is_that_of_all_rounds_together() {
        let step = combine(
            turns(&[(100, 1.0), (100, 3.0)], None),
            turns(&[(100, 1.0), (100, 1.0)], None),
        );
        let yardstick = step.yardstick.unwrap();
        assert_eq!(step.deliveries_per_cpu_second, 50.0);
        assert_eq!(yardstick.ratio, 0.5);
        assert_eq!((yardstick.ratios[0], yardstick.ratios[1] * 3.0), (1.0, 1.0));
        assert_eq!((step.achieved_per_second, step.held), (100.0, true));
        assert_eq!(
            (step.counters, yardstick.write_ratio),
            (None, None),
            "one turn without them is enough"
        );
    }

    #[test]
    fn whoever_writes_seldom_is_cheap_for_a_delivery_and_dear_for_a_write() {
        let counted = |writes| {
            Some(NodeCounters {
                writes,
                ..NodeCounters::default()
            })
        };
        let step = combine(
            turns(&[(100, 1.0)], counted(10)),
            turns(&[(100, 2.0)], counted(100)),
        );
        let yardstick = step.yardstick.unwrap();
        assert_eq!(yardstick.ratio, 2.0);
        assert_eq!(yardstick.write_ratio, Some(0.2));
    }

    #[test]
    fn too_short_a_run_has_no_ratio() {
        let step = combine(turns(&[(100, 1.0)], None), turns(&[(100, 0.0)], None));
        assert_eq!(step.yardstick.unwrap().ratio, 0.0);
    }
}
