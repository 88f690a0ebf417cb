//! The judgement: what subscribers saw against what was acknowledged.

use crate::args::PublishArgs;
use crate::fleet::Findings;
use crate::publish::Ledger;
use crate::report::{PublicationReport, SubscriberReport, Verdict};

/// A rate counts as reached when this share of it was acknowledged.
const REACHED: f64 = 0.98;

/// The subscribers' part of a report.
#[derive(Debug)]
pub(crate) struct Judged {
    /// Their figures.
    pub(crate) report: SubscriberReport,
    /// What did not hold.
    pub(crate) verdict: Verdict,
}

impl Judged {
    /// Leaves out that not everything has arrived: what did arrive must be right all the same.
    pub(crate) fn forgive_missing(&mut self) {
        self.report.incomplete = 0;
        self.verdict.reasons = reasons(&self.report);
    }
}

/// Compares what the subscribers of `channels` channels found with the books of every phase.
pub(crate) fn judge(findings: &Findings, ledgers: &[Ledger], channels: usize) -> Judged {
    let mut acknowledged = vec![0; channels];
    let mut unknown = vec![0; channels];
    let mut mismatched = findings.mismatched;
    for ledger in ledgers {
        ledger.add_to_channels(&mut acknowledged, &mut unknown);
        for (n, offset) in ledger.told_offsets() {
            let channel = (n % channels as u64) as usize;
            mismatched += u64::from(findings.contents.differs(channel, offset, n) == Some(true));
        }
    }
    let mut report = SubscriberReport {
        faults: findings.faults,
        mismatched,
        repeated: findings.contents.repeated(),
        malformed: findings.malformed,
        reconnects: findings.reconnects,
        recovered: findings.recovered,
        unrecovered: findings.unrecovered,
        closed: findings.closed.clone(),
        ..SubscriberReport::default()
    };
    for &(channel, received) in &findings.received {
        let least = acknowledged[channel as usize];
        report.expected += least;
        report.delivered += received;
        report.incomplete += usize::from(received < least);
        report.missing += least.saturating_sub(received);
        report.excess += received.saturating_sub(least + unknown[channel as usize]);
    }
    let verdict = Verdict {
        reasons: reasons(&report),
        first_violation: findings
            .first_violation
            .as_ref()
            .map(|violation| violation.1.clone()),
        ..Verdict::default()
    };
    Judged { report, verdict }
}

fn reasons(report: &SubscriberReport) -> Vec<String> {
    let faults = &report.faults;
    let mut reasons: Vec<String> = [
        (faults.holes, "offsets were skipped and never came"),
        (faults.duplicates, "deliveries came twice"),
        (faults.reorders, "deliveries came out of order"),
        (
            faults.unnumbered,
            "deliveries had no offset (turn on history and recovery for the channels)",
        ),
        (report.excess, "deliveries were more than was published"),
        (
            report.mismatched,
            "deliveries carried another message than the same offset elsewhere",
        ),
        (report.repeated, "messages were delivered under two offsets"),
        (
            report.malformed,
            "messages could not be read or belonged elsewhere",
        ),
        (
            report.unrecovered,
            "subscribers came back and were not recovered",
        ),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if report.incomplete > 0 {
        reasons.push(format!(
            "{} subscribers did not receive everything, {} deliveries are missing",
            report.incomplete, report.missing
        ));
    }
    reasons
}

/// What did not hold on the publisher's side.
pub(crate) fn judge_publications(report: &PublicationReport) -> Vec<String> {
    let mut reasons: Vec<String> = [
        (report.refused, "publications were refused"),
        (report.unknown, "publications were never answered"),
        (report.unsent, "publications could not be sent in time"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if report.acknowledged == 0 {
        reasons.push("nothing was acknowledged".to_owned());
    }
    reasons
}

/// Whether the publisher kept up with its schedule: as good as all of the rate was acknowledged within the window.
pub(crate) fn reached(report: &PublicationReport, args: &PublishArgs) -> bool {
    // One message more or less at either end of the window says nothing.
    let edges = 2.0 / args.duration;
    report.achieved_per_second + edges >= report.offered_per_second * REACHED
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::latency::Latency;
    use crate::publish::Told;
    use crate::schedule::Schedule;
    use crate::verify::{Contents, StreamFaults};

    /// One channel, messages 0 to 2 acknowledged at offsets 1 to 3.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(0, Schedule::new(0, 3.0, 1.0), 0, None);
        for index in 0..3 {
            ledger.sent(index, 0);
            let told = Told {
                offset: Some(index + 1),
                ..Told::default()
            };
            ledger.acknowledge(index, told, 1);
        }
        ledger
    }

    fn findings(messages: &[u64], received: &[u64]) -> Findings {
        let mut contents = Contents::new(1);
        contents.begin(0, 0);
        for (index, &n) in messages.iter().enumerate() {
            contents.note(0, index as u64 + 1, n);
        }
        Findings {
            latency: Latency::new(),
            replay: Latency::new(),
            rejoin: Latency::new(),
            cuts: 0,
            contents,
            received: received.iter().map(|&count| (0, count)).collect(),
            faults: StreamFaults::default(),
            mismatched: 0,
            malformed: 0,
            reconnects: 0,
            recovered: 0,
            unrecovered: 0,
            closed: BTreeMap::new(),
            first_violation: None,
            versions: Vec::new(),
        }
    }

    #[test]
    fn a_complete_run_holds() {
        let judged = judge(&findings(&[0, 1, 2], &[3, 3]), &[ledger()], 1);
        assert_eq!((judged.report.expected, judged.report.delivered), (6, 6));
        assert_eq!(judged.verdict.reasons, Vec::<String>::new());
        assert!(judge_publications(&ledger().report(3.0)).is_empty());
    }

    #[test]
    fn a_lost_tail_is_found_although_the_stream_has_no_hole() {
        let judged = judge(&findings(&[0, 1, 2], &[3, 2]), &[ledger()], 1);
        assert_eq!((judged.report.incomplete, judged.report.missing), (1, 1));
        assert_eq!(judged.verdict.reasons.len(), 1);
        let mut judged = judge(&findings(&[0, 1, 2, 2], &[3, 2]), &[ledger()], 1);
        judged.forgive_missing();
        assert_eq!(
            judged.verdict.reasons.len(),
            1,
            "one under two offsets is still found"
        );
    }

    #[test]
    fn more_than_was_published_is_found() {
        let judged = judge(&findings(&[0, 1, 2, 1], &[4]), &[ledger()], 1);
        assert_eq!((judged.report.excess, judged.report.repeated), (1, 1));
        let mut with_unknown = Ledger::new(3, Schedule::new(0, 1.0, 1.0), 0, None);
        with_unknown.sent(0, 0);
        with_unknown.given_up(0, "io".to_owned(), 1);
        let judged = judge(
            &findings(&[0, 1, 2, 3], &[4, 3]),
            &[ledger(), with_unknown],
            1,
        );
        assert!(
            judged.verdict.reasons.is_empty(),
            "an unknown one may come or not"
        );
    }

    #[test]
    fn an_acknowledgement_that_names_another_offset_is_found() {
        let judged = judge(&findings(&[1, 0, 2], &[3]), &[ledger()], 1);
        assert_eq!(judged.report.mismatched, 2);
    }

    #[test]
    fn publications_that_failed_are_reasons() {
        let mut ledger = Ledger::new(0, Schedule::new(0, 4.0, 1.0), 0, None);
        ledger.sent(0, 0);
        ledger.refused(0, "api 103".to_owned(), 1);
        ledger.sent(1, 0);
        ledger.close();
        assert_eq!(judge_publications(&ledger.report(4.0)).len(), 4);
    }
}
