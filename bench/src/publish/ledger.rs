//! The books of the publisher: what became of every message.

use std::collections::BTreeMap;

use crate::fleet::count_reason;
use crate::history::{Event, Recorder};
use crate::latency::Latency;
use crate::report::PublicationReport;
use crate::schedule::Schedule;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not sent yet, or sent and to be sent again.
    Unsent,
    /// Sent, no answer yet.
    Sent,
    /// Sent again after a try of which nobody knows, no answer yet.
    SentAgain,
    /// Committed, by the server's word.
    Acknowledged,
    /// Not committed, by the server's word.
    Refused,
    /// Sent, and nobody knows.
    Unknown,
}

/// What an acknowledgement says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The number of the message in its channel, where the server tells it.
    pub(crate) offset: Option<u64>,
    /// The epoch; empty where the server does not tell it.
    pub(crate) epoch: String,
    /// An earlier try had been committed.
    pub(crate) duplicate: bool,
}

/// What became of every message of a schedule.
#[derive(Debug)]
pub(crate) struct Ledger {
    first: u64,
    schedule: Schedule,
    measure_from: u64,
    fates: Vec<Fate>,
    /// Offsets by message, where the server told them; 0 elsewhere.
    offsets: Vec<u64>,
    acknowledged: u64,
    acknowledged_in_window: u64,
    /// When the schedule's last answer came.
    last_ack: u64,
    latency: Latency,
    late: Latency,
    retries: u64,
    duplicates: u64,
    failures: u64,
    errors: BTreeMap<String, u64>,
    /// Where final outcomes are recorded as well.
    recorder: Option<Recorder>,
}

impl Ledger {
    /// Empty books for the messages `first..` of `schedule`. Final outcomes go to `recorder`, too.
    pub(crate) fn new(
        first: u64,
        schedule: Schedule,
        measure_from: u64,
        recorder: Option<Recorder>,
    ) -> Self {
        let total = schedule.total() as usize;
        Self {
            first,
            schedule,
            measure_from,
            fates: vec![Fate::Unsent; total],
            offsets: Vec::new(),
            acknowledged: 0,
            acknowledged_in_window: 0,
            last_ack: 0,
            latency: Latency::new(),
            late: Latency::new(),
            retries: 0,
            duplicates: 0,
            failures: 0,
            errors: BTreeMap::new(),
            recorder,
        }
    }

    /// The schedule that is worked through.
    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Number of the message at `index` of the schedule.
    pub(crate) fn number(&self, index: u64) -> u64 {
        self.first + index
    }

    /// Message `index` is handed to a socket.
    pub(crate) fn sent(&mut self, index: u64, now: u64) {
        self.fates[index as usize] = Fate::Sent;
        let intended = self.schedule.intended(index);
        if intended >= self.measure_from {
            self.late.record(intended, now);
        }
    }

    /// Message `index` is sent once more, on connection `line`.
    pub(crate) fn sent_again(&mut self, index: u64, line: usize, now: u64) {
        self.fates[index as usize] = Fate::SentAgain;
        self.retries += 1;
        let op = self.number(index);
        self.record(|| Event::Retry {
            t: now,
            op,
            p: line as u32,
        });
    }

    /// Message `index` was acknowledged.
    pub(crate) fn acknowledge(&mut self, index: u64, told: Told, now: u64) {
        let Some(fate) = self.fates.get_mut(index as usize) else {
            return;
        };
        if *fate == Fate::Acknowledged {
            return;
        }
        *fate = Fate::Acknowledged;
        self.acknowledged += 1;
        self.duplicates += u64::from(told.duplicate);
        self.last_ack = now;
        if let Some(offset) = told.offset {
            if self.offsets.is_empty() {
                self.offsets.resize(self.fates.len(), 0);
            }
            self.offsets[index as usize] = offset;
        }
        let intended = self.schedule.intended(index);
        if intended >= self.measure_from {
            self.latency.record(intended, now);
        }
        if now >= self.measure_from && now < self.schedule.end() {
            self.acknowledged_in_window += 1;
        }
        let op = self.number(index);
        self.record(|| Event::Ok {
            t: now,
            op,
            g: (!told.epoch.is_empty()).then_some(told.epoch.into()),
            s: told.offset,
            duplicate: told.duplicate,
        });
    }

    /// Message `index` was refused: it was not committed, unless an earlier try of it was.
    pub(crate) fn refused(&mut self, index: u64, error: String, now: u64) {
        match self.fates.get_mut(index as usize) {
            Some(fate @ Fate::Sent) => *fate = Fate::Refused,
            Some(Fate::SentAgain) => return self.given_up(index, error, now),
            _ => return self.note(error),
        }
        let op = self.number(index);
        self.record(|| Event::Fail {
            t: now,
            op,
            why: error.clone().into(),
        });
        self.note(error);
    }

    /// Nobody knows what became of message `index`, and it is to be tried again.
    pub(crate) fn unanswered(&mut self, index: u64, error: String) {
        if let Some(fate @ (Fate::Sent | Fate::SentAgain)) = self.fates.get_mut(index as usize) {
            *fate = Fate::Unknown;
        }
        self.note(error);
    }

    /// Nobody knows what became of message `index`, and nobody asks any more.
    pub(crate) fn given_up(&mut self, index: u64, error: String, now: u64) {
        let op = self.number(index);
        self.record(|| Event::Info {
            t: now,
            op,
            why: error.clone().into(),
        });
        self.unanswered(index, error);
    }

    /// Something failed that is not about one message.
    pub(crate) fn note(&mut self, error: String) {
        self.failures += 1;
        count_reason(&mut self.errors, error, 1);
    }

    /// No more answers are waited for.
    pub(crate) fn close(&mut self) {
        for fate in &mut self.fates {
            if matches!(fate, Fate::Sent | Fate::SentAgain) {
                *fate = Fate::Unknown;
            }
        }
    }

    fn record(&self, event: impl FnOnce() -> Event<'static>) {
        if let Some(recorder) = &self.recorder {
            recorder.record(event());
        }
    }

    /// How many were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many failures there were.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// From the intended time to the acknowledgement, warm-up left out.
    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    /// When the last acknowledgement came; 0 when there was none.
    pub(crate) fn last_ack(&self) -> u64 {
        self.last_ack
    }

    /// Adds the acknowledged and the unknown ones to the counts of their channels.
    pub(crate) fn add_to_channels(&self, acknowledged: &mut [u64], unknown: &mut [u64]) {
        let channels = acknowledged.len() as u64;
        for (index, fate) in self.fates.iter().enumerate() {
            let channel = ((self.first + index as u64) % channels) as usize;
            match fate {
                Fate::Acknowledged => acknowledged[channel] += 1,
                Fate::Unknown => unknown[channel] += 1,
                Fate::Unsent | Fate::Sent | Fate::SentAgain | Fate::Refused => {}
            }
        }
    }

    /// Number and offset of each message whose offset the server told.
    pub(crate) fn told_offsets(&self) -> impl Iterator<Item = (u64, u64)> {
        let told = self
            .offsets
            .iter()
            .enumerate()
            .filter(|(_, offset)| **offset != 0);
        told.map(|(index, &offset)| (self.first + index as u64, offset))
    }

    /// What goes into the report.
    pub(crate) fn report(&self, offered: f64) -> PublicationReport {
        let count = |fate| self.fates.iter().filter(|known| **known == fate).count() as u64;
        let window = self.schedule.end().saturating_sub(self.measure_from) as f64 / 1e9;
        PublicationReport {
            offered_per_second: offered,
            achieved_per_second: if window > 0.0 {
                self.acknowledged_in_window as f64 / window
            } else {
                0.0
            },
            scheduled: self.fates.len() as u64,
            acknowledged: self.acknowledged,
            refused: count(Fate::Refused),
            unknown: count(Fate::Unknown),
            unsent: count(Fate::Unsent),
            retries: self.retries,
            duplicates: self.duplicates,
            errors: self.errors.clone(),
            sent_late_p99_us: (self.late.percentile_ms(99.0) * 1_000.0) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;

    #[test]
    fn every_message_has_one_fate() {
        let schedule = Schedule::new(SECOND, 10.0, 1.0);
        let mut ledger = Ledger::new(100, schedule, SECOND + SECOND / 2, None);
        for index in 0..9 {
            ledger.sent(index, schedule.intended(index));
        }
        let told = |offset, duplicate| Told {
            offset: Some(offset),
            epoch: "e".to_owned(),
            duplicate,
        };
        ledger.acknowledge(0, told(1, false), SECOND + 1);
        ledger.acknowledge(0, told(1, false), SECOND + 2);
        ledger.acknowledge(6, told(2, true), SECOND + 900_000_000);
        ledger.acknowledge(99, told(2, false), SECOND);
        ledger.refused(1, "api 103".to_owned(), SECOND);
        ledger.close();
        let report = ledger.report(10.0);
        assert_eq!((report.scheduled, report.acknowledged), (10, 2));
        assert_eq!((report.refused, report.unknown, report.unsent), (1, 6, 1));
        assert_eq!((report.duplicates, report.errors["api 103"]), (1, 1));
        assert!((report.achieved_per_second - 2.0).abs() < 1e-6);
        assert_eq!(
            ledger.latency().summary().count,
            1,
            "the other one was warm-up"
        );
        let (mut acknowledged, mut unknown) = (vec![0; 2], vec![0; 2]);
        ledger.add_to_channels(&mut acknowledged, &mut unknown);
        assert_eq!((acknowledged, unknown), (vec![2, 0], vec![3, 3]));
        assert_eq!(
            ledger.told_offsets().collect::<Vec<_>>(),
            [(100, 1), (106, 2)]
        );
    }

    #[test]
    fn a_refusal_after_a_try_without_an_answer_says_nothing() {
        let mut ledger = Ledger::new(0, Schedule::new(0, 3.0, 1.0), 0, None);
        for index in 0..3 {
            ledger.sent(index, 0);
            ledger.unanswered(index, "io".to_owned());
            ledger.sent_again(index, 0, 1);
        }
        ledger.refused(0, "api 102".to_owned(), 2);
        ledger.acknowledge(1, Told::default(), 2);
        ledger.refused(1, "api 102".to_owned(), 3);
        ledger.close();
        let report = ledger.report(1.0);
        assert_eq!(
            (report.refused, report.acknowledged, report.unknown),
            (0, 1, 2)
        );
    }
}
