//! The report as a table for people.

use std::fmt::Write;

use crate::report::{
    ClusterReport, LatencySummary, PublicationReport, RateStep, Report, SubscriberReport,
};

/// Width of the first column, in characters.
const LABEL: usize = 22;

/// The whole table.
pub(crate) fn render(report: &Report) -> String {
    let mut table = Table(String::new());
    let machine = &report.machine;
    table.title(&format!(
        "fanfare bench {}, run {}",
        report.command, report.run
    ));
    table.row(
        "machine",
        &format!(
            "{} x {}, {} MiB, Linux {}",
            machine.cores, machine.cpu, machine.memory_mib, machine.kernel
        ),
    );
    if !report.server_versions.is_empty() {
        table.row("server", &report.server_versions.join(", "));
    }
    if let Some(cluster) = &report.cluster {
        table.row("cluster", &describe(cluster));
    }
    if let Some(subscribers) = &report.subscribers {
        table.subscribers(subscribers, report.command != "idle");
    }
    if let Some(publications) = &report.publications {
        table.publications(publications);
    }
    if report.delivery_latency.is_some() || report.ack_latency.is_some() {
        table.latencies(report);
    }
    table.idle(report);
    table.steps(report);
    table.processes(report);
    for warning in &report.warnings {
        table.row("WARNING", warning);
    }
    table.verdict(report);
    table.0
}

struct Table(String);

impl Table {
    // Writing to a string does not fail, so results are dropped throughout.

    fn title(&mut self, title: &str) {
        let _ = writeln!(self.0, "{title}");
    }

    fn row(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.0, "  {label:<LABEL$}{text}");
    }

    fn subscribers(&mut self, subscribers: &SubscriberReport, published: bool) {
        self.row(
            "subscribers",
            &format!(
                "{} of {} in {:.1} s",
                subscribers.subscribed, subscribers.wanted, subscribers.ramp_seconds
            ),
        );
        if published {
            let expected = subscribers.expected;
            let arrived = expected.saturating_sub(subscribers.missing);
            let share = if expected > 0 {
                arrived as f64 / expected as f64 * 100.0
            } else {
                0.0
            };
            let mut text = format!("{} of {expected} ({share:.4} %)", subscribers.delivered);
            if subscribers.per_second > 0.0 {
                let _ = write!(text, ", {:.0}/s", subscribers.per_second);
            }
            self.row("deliveries", &text);
            let faults = &subscribers.faults;
            self.row(
                "violations",
                &format!(
                    "{} holes, {} duplicates, {} reorders, {} other",
                    faults.holes,
                    faults.duplicates,
                    faults.reorders,
                    faults.unnumbered
                        + subscribers.excess
                        + subscribers.mismatched
                        + subscribers.repeated
                        + subscribers.malformed
                ),
            );
        }
        if subscribers.reconnects > 0 {
            self.row(
                "reconnects",
                &format!(
                    "{}, recovered {}, not recovered {}",
                    subscribers.reconnects, subscribers.recovered, subscribers.unrecovered
                ),
            );
        }
        for (reason, count) in &subscribers.closed {
            self.row("closed", &format!("{count} x {reason}"));
        }
    }

    fn publications(&mut self, publications: &PublicationReport) {
        self.row(
            "published",
            &format!(
                "{} of {}; {:.1}/s of {:.1}/s asked for",
                publications.acknowledged,
                publications.scheduled,
                publications.achieved_per_second,
                publications.offered_per_second
            ),
        );
        if publications.refused + publications.unknown + publications.unsent + publications.retries
            > 0
        {
            self.row(
                "",
                &format!(
                    "{} refused, {} unanswered, {} unsent, {} retries, {} known already",
                    publications.refused,
                    publications.unknown,
                    publications.unsent,
                    publications.retries,
                    publications.duplicates
                ),
            );
        }
        for (error, count) in &publications.errors {
            self.row("error", &format!("{count} x {error}"));
        }
        self.row(
            "sent late, p99",
            &format!("{} ms", ms(publications.sent_late_p99_us)),
        );
    }

    fn latencies(&mut self, report: &Report) {
        let _ = writeln!(
            self.0,
            "\n  {:<LABEL$}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "latency in ms", "p50", "p90", "p95", "p99", "p99.9", "max"
        );
        for (label, latency) in [
            ("delivery", &report.delivery_latency),
            ("acknowledgement", &report.ack_latency),
        ] {
            if let Some(latency) = latency {
                let columns = [
                    latency.p50_us,
                    latency.p90_us,
                    latency.p95_us,
                    latency.p99_us,
                    latency.p999_us,
                    latency.max_us,
                ];
                let text: String = columns.iter().map(|&us| format!("{:>9}", ms(us))).collect();
                self.row(label, &text);
            }
        }
        self.0.push('\n');
    }

    fn idle(&mut self, report: &Report) {
        for step in &report.idle_steps {
            self.row(
                &format!("{} connections", step.connections),
                &format!("{} KiB resident", step.rss_kib),
            );
        }
        if let Some(fit) = &report.idle_fit {
            self.row(
                "per connection",
                &format!(
                    "{:.2} KiB (and {:.0} KiB without any)",
                    fit.kib_per_connection, fit.base_kib
                ),
            );
        }
    }

    fn steps(&mut self, report: &Report) {
        if report.rate_steps.is_empty() {
            return;
        }
        let _ = writeln!(
            self.0,
            "\n  {:>10}{:>12}{:>12}{:>10}{:>14}{:>10}{:>10}{:>10}{:>8}",
            "asked/s",
            "acked/s",
            "deliveries",
            "CPU s",
            "per CPU s",
            "p50 ms",
            "p99 ms",
            "load gen",
            "held"
        );
        if report
            .rate_steps
            .iter()
            .any(|step| step.yardstick.is_some())
        {
            // Belongs to the line before.
            self.0.pop();
            let _ = writeln!(self.0, "{:>14}{:>8}", "bare per s", "ratio");
        }
        for step in &report.rate_steps {
            let latency = step.delivery_latency.as_ref().or(step.ack_latency.as_ref());
            let at = |pick: fn(&LatencySummary) -> u64| {
                latency.map_or_else(String::new, |latency| ms(pick(latency)))
            };
            let _ = writeln!(
                self.0,
                "  {:>10}{:>12.1}{:>12}{:>10.2}{:>14}{:>10}{:>10}{:>9.0}%{:>8}{}",
                step.offered_per_second,
                step.achieved_per_second,
                step.deliveries,
                step.server_cpu_seconds,
                per_cpu(step),
                at(|latency| latency.p50_us),
                at(|latency| latency.p99_us),
                step.generator_share * 100.0,
                if step.held { "yes" } else { "NO" },
                beside(step)
            );
        }
        if let Some(knee) = report.knee_per_second {
            self.row("highest that held", &format!("{knee:.0}/s"));
        }
        self.0.push('\n');
    }

    fn processes(&mut self, report: &Report) {
        for process in &report.processes {
            self.row(
                &format!(
                    "{} {}",
                    process.label.as_ref().unwrap_or(&process.name),
                    process.pid
                ),
                &format!(
                    "{:.2} s CPU ({:.0} % of one), {} to {} KiB (peak {}), {} context switches{}",
                    process.cpu_seconds,
                    process.cpu_share * 100.0,
                    process.rss_before_kib,
                    process.rss_after_kib,
                    process.rss_peak_kib,
                    process.context_switches,
                    if process.gone { ", GONE" } else { "" }
                ),
            );
        }
        let generator = &report.generator;
        self.row(
            "load generator",
            &format!(
                "{:.2} s CPU in {:.1} s ({:.0} % of the machine), busiest thread {:.0} %",
                generator.cpu_seconds,
                generator.window_seconds,
                generator.machine_share * 100.0,
                generator.busiest_thread_share * 100.0
            ),
        );
    }

    fn verdict(&mut self, report: &Report) {
        if report.verdict.passed {
            self.row("RESULT", "held");
            return;
        }
        for reason in &report.verdict.reasons {
            self.row("RESULT", &format!("NOT held: {reason}"));
        }
        if let Some(first) = &report.verdict.first_violation {
            self.row("first violation", first);
        }
    }
}

fn describe(cluster: &ClusterReport) -> String {
    let mut text = match cluster.nodes {
        1 => "1 node".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    match &cluster.postgres_version {
        Some(version) => {
            let _ = write!(text, ", PostgreSQL {version}");
        }
        None => text.push_str(" on its embedded log"),
    }
    if let Some(version) = &cluster.redis_version {
        let _ = write!(text, ", Redis {version}");
    }
    text
}

/// What the yardstick reached, and the ratio to it.
fn beside(step: &RateStep) -> String {
    step.yardstick.as_ref().map_or_else(String::new, |bare| {
        format!(
            "{:>14.0}{:>8.2}",
            bare.deliveries_per_cpu_second, bare.ratio
        )
    })
}

fn per_cpu(step: &RateStep) -> String {
    if step.deliveries_per_cpu_second > 0.0 {
        format!("{:.0}", step.deliveries_per_cpu_second)
    } else {
        "-".to_owned()
    }
}

/// Microseconds as milliseconds with what precision is worth showing.
fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if ms < 10.0 {
        format!("{ms:.2}")
    } else {
        format!("{ms:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_short() {
        assert_eq!(ms(1_234), "1.23");
        assert_eq!(ms(12_345), "12.3");
        assert_eq!(ms(0), "0.00");
    }

    #[test]
    fn a_cluster_is_told_by_its_parts() {
        let mut cluster = ClusterReport {
            nodes: 4,
            postgres_version: Some("15.2".to_owned()),
            redis_version: Some("7.0".to_owned()),
        };
        assert_eq!(describe(&cluster), "4 nodes, PostgreSQL 15.2, Redis 7.0");
        cluster = ClusterReport {
            nodes: 1,
            ..ClusterReport::default()
        };
        assert_eq!(describe(&cluster), "1 node on its embedded log");
    }
}
