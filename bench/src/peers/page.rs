//! The page of the comparison: for each load a table of figures and whether the promise holds, then what each server keeps.

use std::fmt::Write as _;

use clap::ValueEnum;

use crate::output::{grouped, ms, table};
use crate::peers::args::Peer;
use crate::peers::keeps::Keeps;
use crate::peers::report::PeersReport;
use crate::peers::trial::Trial;
use crate::plot::{Plot, Scale};
use crate::scenario::distributions;

/// A client process above this share of a processor makes its latencies doubtful.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// The trials of one server under one load.
pub(super) struct Group<'a> {
    trials: Vec<&'a Trial>,
}

impl<'a> Group<'a> {
    /// The one with the median of the 99th percentiles; of an even number, the worse of the two in the middle.
    fn middle(&self) -> &'a Trial {
        let mut trials = self.trials.clone();
        trials.sort_by_key(|trial| trial.p99_us());
        trials[trials.len() / 2]
    }

    /// The trial that was made nearest to another: in the same round, where both are in it.
    fn nearest(&self, other: &Trial) -> &'a Trial {
        let apart = |trial: &&Trial| trial.started_unix_ms.abs_diff(other.started_unix_ms);
        // A group has a trial.
        self.trials
            .iter()
            .copied()
            .min_by_key(apart)
            .unwrap_or(self.trials[0])
    }

    fn peer(&self) -> &'a str {
        &self.trials[0].peer
    }
}

/// All trials: by load, and by server within.
pub(super) fn groups(trials: &[Trial]) -> Vec<Vec<Group<'_>>> {
    let mut loads: Vec<Vec<Group<'_>>> = Vec::new();
    for trial in trials {
        let load = loads
            .iter()
            .position(|load| load[0].trials[0].is_beside(trial));
        let load = load.unwrap_or_else(|| {
            loads.push(Vec::new());
            loads.len() - 1
        });
        let load = &mut loads[load];
        match load.iter_mut().find(|group| group.peer() == trial.peer) {
            Some(group) => group.trials.push(trial),
            None => load.push(Group {
                trials: vec![trial],
            }),
        }
    }
    loads
}

// Writing to a string does not fail, so results are dropped.
pub(super) fn page(report: &PeersReport) -> String {
    let mut page = format!(
        "# Side by side\n\n{}\n\n{ABOUT}\n",
        report.circumstances.describe()
    );
    for load in groups(&report.trials) {
        let point = &load[0].trials[0].point;
        let _ = write!(
            page,
            "\n## {} clients, {} messages a second\n\n{} subscribers in each of {} channels, {} deliveries a second, {} bytes of data.\n\n{}\n",
            grouped(point.clients as f64),
            grouped(point.rate),
            grouped(point.subscribers()),
            grouped(point.channels as f64),
            grouped(point.asked_deliveries_per_second),
            point.size,
            figures(&load)
        );
        let _ = writeln!(page, "{}", costs(&load));
        page.push_str(&promise(&load));
        for group in &load {
            for trial in &group.trials {
                doubts(&mut page, trial);
            }
        }
    }
    let _ = write!(
        page,
        "\n## What each keeps\n\n{KEEPING}\n\n{}",
        keeping(&report.trials)
    );
    let _ = write!(page, "\nVersions:\n\n{}", versions(&report.trials));
    if !report.not_made.is_empty() {
        let rows: Vec<Vec<String>> = report
            .not_made
            .iter()
            .map(|missing| {
                let why = missing.why.split_whitespace().collect::<Vec<_>>().join(" ");
                vec![missing.what.clone(), why.replace('|', "/")]
            })
            .collect();
        let _ = write!(page, "\n{}", table(&["not made", "why"], &rows));
    }
    page
}

const ABOUT: &str = "One server after the other on one machine: started, clients connected, loaded, stopped. All have the same generator (the processes \
that play the scenarios), the same clock, and the same data, in which stands when it should have been sent; latency runs from then \
to the arrival at each subscriber. Messages are posted over HTTP to random nodes, one at a time on each of some connections; to NATS over its own protocol, a ping behind each, \
since it has no HTTP. Fanfare commits each message to PostgreSQL first and is sent an idempotency key with it; of the others none commits \
to a disk before it delivers. *In turns*: a round is one trial of each; with several rounds the trial with the median of the 99th percentiles is shown (of an even number the worse one), and \
the span of all. *Load before* is how many processes wanted a processor in the minute before a trial: on two cores anything above 1 beside the trial before it \
makes latencies doubtful, and anything above 2 makes them a matter of luck.";

const KEEPING: &str = "From their documentation, in the configuration that is measured. Nothing was killed in these runs: what that costs is in \
[reliability.md](../reliability.md) for Fanfare, and was not measured for others.";

fn figures(load: &[Group<'_>]) -> String {
    let head = [
        "server",
        "nodes",
        "delivered",
        "in one order",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "slowest ms",
        "acknowledged p50 ms",
        "acknowledged p99 ms",
        "messages/s",
        "load before",
    ];
    let rows: Vec<Vec<String>> = load
        .iter()
        .map(|group| {
            let trial = group.middle();
            let point = &trial.point;
            let latency = &point.delivery;
            vec![
                trial.peer.clone(),
                point.nodes.to_string(),
                delivered(group),
                order(group),
                ms(latency.p50_us),
                with_span(
                    group,
                    |trial| trial.p99_us() as f64 / 1_000.0,
                    ms(latency.p99_us),
                ),
                ms(latency.p999_us),
                ms(latency.max_us),
                ms(point.ack.p50_us),
                ms(point.ack.p99_us),
                format!("{:.0}", point.achieved_per_second),
                with_span(
                    group,
                    |trial| trial.load_before,
                    format!("{:.1}", trial.load_before),
                ),
            ]
        })
        .collect();
    table(&head, &rows)
}

fn costs(load: &[Group<'_>]) -> String {
    let head = [
        "server",
        "deliveries per server CPU second",
        "cores: nodes",
        "PostgreSQL",
        "Redis",
        "generator",
        "memory of the nodes MiB: connected",
        "at the end",
        "KiB a client",
        "Redis and PostgreSQL MiB",
    ];
    let rows: Vec<Vec<String>> = load
        .iter()
        .map(|group| {
            let trial = group.middle();
            let point = &trial.point;
            // The sum of none is minus zero.
            let cores = |seconds: f64| format!("{:.2}", point.cores(seconds) + 0.0);
            let known = trial.deliveries_per_cpu_second > 0.0;
            let or_unknown = |text: String| if known { text } else { "not known".to_owned() };
            vec![
                trial.peer.clone(),
                or_unknown(with_span(
                    group,
                    |trial| trial.deliveries_per_cpu_second,
                    grouped(trial.deliveries_per_cpu_second),
                )),
                or_unknown(cores(point.cpu.nodes)),
                cores(point.cpu.postgres),
                cores(point.cpu.redis),
                cores(point.cpu.generator),
                or_unknown(format!("{:.0}", trial.nodes_mib)),
                or_unknown(format!("{:.0}", trial.nodes_after_mib)),
                or_unknown(format!("{:.1}", point.node_kib_per_client)),
                format!("{:.0}", trial.stores_after_mib),
            ]
        })
        .collect();
    table(&head, &rows)
}

/// Whether the p99 of Fanfare, commit included, is not above that of each other: by the medians, and in how many rounds. Exactly as
/// measured, nothing is rounded.
fn promise(load: &[Group<'_>]) -> String {
    let ours = load
        .iter()
        .find(|group| group.peer() == Peer::Fanfare.name());
    let Some(ours) = ours else {
        return String::new();
    };
    let head = [
        "p99, commit included, not above",
        "its p99 ms",
        "Fanfare's p99 ms",
        "holds",
        "in rounds",
    ];
    let others = load
        .iter()
        .filter(|group| Peer::from_str(group.peer(), false).is_ok_and(|peer| !peer.is_fanfare()));
    let rows: Vec<Vec<String>> = others
        .map(|group| {
            let (own, its) = (ours.middle().p99_us(), group.middle().p99_us());
            let held = group
                .trials
                .iter()
                .filter(|its| ours.nearest(its).p99_us() <= its.p99_us());
            let holds = match own <= its {
                true => "yes".to_owned(),
                false => format!("**no: {:.2} times**", own as f64 / its.max(1) as f64),
            };
            vec![
                group.peer().to_owned(),
                exact_ms(its),
                exact_ms(own),
                holds,
                format!("{} of {}", held.count(), group.trials.len()),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => table(&head, &rows),
    }
}

fn exact_ms(us: u64) -> String {
    format!("{:.3}", us as f64 / 1_000.0)
}

/// A figure of the trial in the middle with the least and the most of all.
fn with_span(group: &Group<'_>, pick: fn(&Trial) -> f64, shown: String) -> String {
    let all: Vec<f64> = group.trials.iter().map(|trial| pick(trial)).collect();
    if all.len() < 2 {
        return shown;
    }
    let (low, high) = crate::statistics::span(&all);
    let text = |value: f64| match value < 100.0 {
        true => format!("{value:.1}"),
        false => grouped(value),
    };
    format!("{shown} ({} to {})", text(low), text(high))
}

/// Of all trials together.
fn delivered(group: &Group<'_>) -> String {
    let sum = |pick: fn(&Trial) -> u64| group.trials.iter().map(|trial| pick(trial)).sum::<u64>();
    let (expected, missing) = (
        sum(|trial| trial.found.expected),
        sum(|trial| trial.found.missing),
    );
    match missing {
        0 => format!("all of {}", grouped(expected as f64)),
        missing => format!(
            "{:.4} %: {} of {} missing",
            (expected - missing.min(expected)) as f64 / expected.max(1) as f64 * 100.0,
            grouped(missing as f64),
            grouped(expected as f64)
        ),
    }
}

/// Of all trials together.
fn order(group: &Group<'_>) -> String {
    let sum = |pick: fn(&Trial) -> u64| group.trials.iter().map(|trial| pick(trial)).sum::<u64>();
    let reordered = sum(|trial| trial.found.faults.reorders);
    let twice = sum(|trial| trial.found.faults.duplicates);
    let unnumbered = sum(|trial| trial.found.faults.unnumbered);
    let mut parts = Vec::new();
    for (count, what) in [
        (reordered, "out of it"),
        (twice, "twice"),
        (unnumbered, "not checked: no numbers"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", grouped(count as f64)));
        }
    }
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(", "),
    }
}

fn doubts(page: &mut String, trial: &Trial) {
    for reason in &trial.reasons {
        let _ = writeln!(page, "\n{}: {reason}.", trial.peer);
    }
    if trial.point.generator_share > GENERATOR_SHARE_MAX {
        let _ = writeln!(
            page,
            "\n{}: the busiest process of the generator used {:.0} % of a processor, so its latencies are partly its own.",
            trial.peer,
            trial.point.generator_share * 100.0
        );
    }
}

/// The servers of the trials, in the order of the command line.
fn made(trials: &[Trial]) -> impl Iterator<Item = Peer> {
    let all = Peer::value_variants().iter().copied();
    all.filter(|peer| trials.iter().any(|trial| trial.peer == peer.name()))
}

fn keeping(trials: &[Trial]) -> String {
    let rows: Vec<Vec<String>> = made(trials)
        .map(|peer| {
            let keeps = Keeps::of(peer);
            let texts = [keeps.acknowledged, keeps.kept, keeps.resume, keeps.order];
            let mut row = vec![peer.name().to_owned()];
            row.extend(texts.map(str::to_owned));
            row
        })
        .collect();
    let head = [
        "server",
        "an acknowledged message is",
        "kept",
        "a client that was away gets",
        "order",
    ];
    table(&head, &rows).replace("---:", "---")
}

fn versions(trials: &[Trial]) -> String {
    let mut text = String::new();
    for peer in made(trials) {
        let mut versions: Vec<&str> = trials
            .iter()
            .filter(|trial| trial.peer == peer.name())
            .map(|trial| trial.version.as_str())
            .collect();
        versions.dedup();
        let _ = writeln!(text, "- {}: {}", peer.name(), versions.join("; "));
    }
    text
}

/// Of each load the distributions, and what a delivery costs against what it takes.
pub(super) fn plots(trials: &[Trial]) -> Vec<(String, Plot)> {
    let mut plots = Vec::new();
    for load in groups(trials) {
        let point = &load[0].trials[0].point;
        let name = |what: &str| format!("{what}-{}-{}", point.clients, point.rate);
        let subtitle = format!(
            "{} clients, {} messages/s, {} deliveries/s",
            grouped(point.clients as f64),
            grouped(point.rate),
            grouped(point.asked_deliveries_per_second)
        );
        let lines = load
            .iter()
            .map(|group| (group.peer().to_owned(), &group.middle().point.delivery));
        plots.push((
            name("latency"),
            distributions(
                "Delivery latency; Fanfare's with the commit",
                &subtitle,
                lines,
            ),
        ));
        let plot = Plot::new(
            "What a delivery costs, and how long it takes: right and low is good",
            &subtitle,
            (
                "deliveries per processor second of the servers",
                Scale::Logarithmic,
            ),
            ("p99, milliseconds", Scale::Logarithmic),
        );
        let known = load
            .iter()
            .filter(|group| group.middle().deliveries_per_cpu_second > 0.0);
        let plot = known.fold(plot, |plot, group| {
            let trials = group.trials.iter();
            let points = trials.map(|trial| {
                let ms = trial.p99_us().max(10) as f64 / 1_000.0;
                (trial.deliveries_per_cpu_second, ms)
            });
            plot.line(group.peer(), [mean(points)])
        });
        if !plot.series.is_empty() {
            plots.push((name("cost"), plot));
        }
    }
    plots
}

/// The place in the middle of all, on logarithmic axes.
fn mean(points: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (count, x, y) = points.fold((0.0, 0.0, 0.0), |(count, x, y), point| {
        (count + 1.0, x + point.0.ln(), y + point.1.ln())
    });
    ((x / count).exp(), (y / count).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(peer: &str, clients: usize, p99_us: u64) -> Trial {
        let mut trial = Trial {
            peer: peer.to_owned(),
            deliveries_per_cpu_second: 1_000.0,
            ..Trial::default()
        };
        trial.point.clients = clients;
        trial.point.channels = 1;
        trial.point.delivery.p99_us = p99_us;
        trial
    }

    #[test]
    fn trials_are_grouped_by_load_and_server() {
        let trials = [
            trial("fanfare", 10, 1),
            trial("nats", 10, 1),
            trial("fanfare", 20, 1),
            trial("fanfare", 10, 3),
        ];
        let loads = groups(&trials);
        let shape: Vec<Vec<(&str, usize)>> = loads
            .iter()
            .map(|load| {
                load.iter()
                    .map(|group| (group.peer(), group.trials.len()))
                    .collect()
            })
            .collect();
        assert_eq!(
            shape,
            [vec![("fanfare", 2), ("nats", 1)], vec![("fanfare", 1)]]
        );
        assert_eq!(loads[0][0].middle().p99_us(), 3, "the worse one of two");
    }

    #[test]
    fn a_miss_is_told_however_small_it_is() {
        let trials = [
            trial("fanfare", 10, 10_001),
            trial("nats", 10, 10_000),
            trial("nchan", 10, 10_001),
            trial("fanfare-socketio", 10, 1),
        ];
        let text = promise(&groups(&trials)[0]);
        assert!(
            text.contains("| nats | 10.000 | 10.001 | **no: 1.00 times** | 0 of 1 |"),
            "{text}"
        );
        assert!(
            text.contains("| nchan | 10.001 | 10.001 | yes | 1 of 1 |"),
            "{text}"
        );
        assert!(!text.contains("fanfare-socketio"), "{text}");
    }

    #[test]
    fn rounds_are_told_by_the_trial_that_was_nearest() {
        let at = |mut trial: Trial, ms: u64| {
            trial.started_unix_ms = ms;
            trial
        };
        let trials = [
            at(trial("fanfare", 10, 5), 10),
            at(trial("fanfare", 10, 50), 100),
            at(trial("nats", 10, 10), 20),
            at(trial("sockudo", 10, 10), 110),
        ];
        let text = promise(&groups(&trials)[0]);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("nats").ends_with("| 1 of 1 |"), "{text}");
        assert!(line("sockudo").ends_with("| 0 of 1 |"), "{text}");
    }

    #[test]
    fn what_is_missing_is_never_rounded_to_all() {
        let mut one = trial("nats", 10, 1);
        one.found.expected = 100_000_000;
        one.found.missing = 1;
        let trials = [one, trial("nats", 10, 1)];
        let loads = groups(&trials);
        let text = delivered(&loads[0][0]);
        assert!(text.contains("1 of 100,000,000 missing"), "{text}");
        assert_eq!(order(&loads[0][0]), "all");
    }

    #[test]
    fn every_server_says_what_it_keeps_and_is_on_the_plots() {
        let trials: Vec<Trial> = Peer::value_variants()
            .iter()
            .map(|peer| trial(peer.name(), 10, 5_000))
            .collect();
        let text = keeping(&trials);
        assert_eq!(text.lines().count(), 2 + trials.len());
        let plots = plots(&trials);
        assert_eq!(plots.len(), 2);
        for peer in Peer::value_variants() {
            assert!(
                plots[1]
                    .1
                    .svg()
                    .contains(&format!(">{}</text>", peer.name())),
                "{peer:?}"
            );
        }
    }
}
