//! Acceptance: the one place on a node where the order of a channel's publications is decided.
//!
//! Hints come from the node's own lanes, from the bus and from the log, late, twice and in any order. An intake lets a
//! publication pass only if it is the one after the head; it drops what it has seen, keeps what comes too early, and
//! says which hole has to be fetched from the log. No IO and no clock: the simulation runs this code.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_wire::{Run, Seq};
use tokio::time::Instant;

use crate::{
    port::Head,
    ring::{Recent, Ring},
};

/// Runs that came too early and wait for a hole to be filled; beyond this the newest are dropped and fetched later.
pub(crate) const EARLY_RUNS_MAX: usize = 256;

/// The acceptance state of one channel on one node.
#[derive(Debug)]
pub(crate) struct Intake {
    /// The last number that was let pass.
    head: Seq,
    /// The last number that is known to exist.
    known: Seq,
    /// The last number that retention removed, as far as is known.
    trimmed: Seq,
    ring: Ring,
    early: BTreeMap<Seq, Arc<Run>>,
}

impl Intake {
    /// Starts at a head read from the log.
    pub(crate) fn new(head: Head) -> Self {
        Self {
            head: head.seq,
            known: head.seq,
            trimmed: head.trimmed,
            ring: Ring::default(),
            early: BTreeMap::new(),
        }
    }

    /// The last number that was let pass.
    pub(crate) fn head(&self) -> Head {
        Head {
            seq: self.head,
            trimmed: self.trimmed,
        }
    }

    /// Takes a run from anywhere and returns the runs that may be delivered now, in order.
    pub(crate) fn offer(&mut self, run: &Arc<Run>, now: Instant) -> Vec<Arc<Run>> {
        self.known = self.known.max(run.last());
        let Some(rest) = run.after(self.head) else {
            return Vec::new();
        };
        if rest.first() > self.head.next() {
            self.keep_early(rest);
            return Vec::new();
        }
        let mut passed = Vec::with_capacity(1);
        self.pass(rest, now, &mut passed);
        self.pass_early(now, &mut passed);
        passed
    }

    /// Hears that the channel reaches `head`, without the publications. Returns whether that is news.
    pub(crate) fn hear(&mut self, head: Head) -> bool {
        self.trimmed = self.trimmed.max(head.trimmed);
        self.known = self.known.max(head.seq);
        self.known > self.head
    }

    /// What has to be fetched: everything that is missing lies after the first number, up to and including the second.
    /// Publications in between may be here already: one read of all is cheaper than a read for each hole.
    pub(crate) fn hole(&self) -> Option<(Seq, Seq)> {
        let mut end = self.known;
        for run in self.early.values().rev() {
            if run.last() < end {
                break;
            }
            end = Seq(run.first().0 - 1);
        }
        (end > self.head).then_some((self.head, end))
    }

    /// Gives up what retention removed before this node could fetch it: the head moves to `trimmed`. Returns the runs
    /// that may be delivered now: those that came too early and follow what was given up.
    pub(crate) fn skip_trimmed(&mut self, trimmed: Seq, now: Instant) -> Vec<Arc<Run>> {
        self.trimmed = self.trimmed.max(trimmed);
        self.head = self.head.max(trimmed);
        self.known = self.known.max(self.head);
        let mut passed = Vec::new();
        self.pass_early(now, &mut passed);
        passed
    }

    /// Forgets publications that were removed from the log. Returns the runs that may be delivered now, as
    /// [`skip_trimmed`](Self::skip_trimmed) does.
    pub(crate) fn forget(&mut self, trimmed: Seq, now: Instant) -> Vec<Arc<Run>> {
        self.ring.forget(trimmed);
        self.skip_trimmed(trimmed, now)
    }

    /// What the ring has after `seq`.
    pub(crate) fn recent(&self, seq: Seq, bytes_max: usize) -> Recent {
        self.ring.after(seq, self.head, bytes_max)
    }

    /// Whether the ring reaches a reader at `seq`.
    pub(crate) fn reaches(&self, seq: Seq) -> bool {
        seq == self.head
            || (seq < self.head
                && self
                    .ring
                    .oldest()
                    .is_some_and(|oldest| oldest <= seq.next()))
    }

    /// Forgets what is too old for the ring.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.ring.expire(now);
    }

    fn pass(&mut self, run: Arc<Run>, now: Instant, passed: &mut Vec<Arc<Run>>) {
        self.head = run.last();
        if let Some(newest) = self.ring.newest() {
            run.follow(newest);
        }
        self.ring.push(Arc::clone(&run), now);
        passed.push(run);
    }

    /// Lets those pass that came too early and are next now.
    fn pass_early(&mut self, now: Instant, passed: &mut Vec<Arc<Run>>) {
        while let Some((_, run)) = self.early.first_key_value() {
            if run.first() > self.head.next() {
                break;
            }
            if let Some((_, run)) = self.early.pop_first()
                && let Some(rest) = run.after(self.head)
            {
                self.pass(rest, now, passed);
            }
        }
    }

    fn keep_early(&mut self, run: Arc<Run>) {
        let longer = self
            .early
            .get(&run.first())
            .is_none_or(|known| known.last() < run.last());
        if longer {
            self.early.insert(run.first(), run);
        }
        if self.early.len() > EARLY_RUNS_MAX {
            self.early.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::run;

    fn intake(head: u64) -> Intake {
        Intake::new(Head {
            seq: Seq(head),
            trimmed: Seq::ZERO,
        })
    }

    fn offer(intake: &mut Intake, first: u64, last: u64) -> Vec<(u64, u64)> {
        let passed = intake.offer(&run(first..=last), Instant::now());
        passed
            .iter()
            .map(|run| (run.first().0, run.last().0))
            .collect()
    }

    #[test]
    fn only_the_next_one_passes() {
        let mut intake = intake(4);
        assert_eq!(offer(&mut intake, 3, 4), []);
        assert_eq!(offer(&mut intake, 7, 8), []);
        assert_eq!(intake.hole(), Some((Seq(4), Seq(6))));
        assert_eq!(offer(&mut intake, 5, 5), [(5, 5)]);
        assert_eq!(intake.hole(), Some((Seq(5), Seq(6))));
        assert_eq!(offer(&mut intake, 11, 11), []);
        assert_eq!(intake.hole(), Some((Seq(5), Seq(10))));
        assert_eq!(offer(&mut intake, 4, 6), [(6, 6), (7, 8)]);
        assert_eq!(intake.hole(), Some((Seq(8), Seq(10))));
        assert_eq!(offer(&mut intake, 9, 10), [(9, 10), (11, 11)]);
        assert_eq!(intake.hole(), None);
    }

    #[test]
    fn a_lost_tail_is_a_hole_once_it_is_heard_of() {
        let mut intake = intake(4);
        assert!(!intake.hear(Head {
            seq: Seq(4),
            trimmed: Seq(1)
        }));
        assert!(intake.hear(Head {
            seq: Seq(6),
            trimmed: Seq(1)
        }));
        assert_eq!(intake.hole(), Some((Seq(4), Seq(6))));
        assert_eq!(offer(&mut intake, 5, 6), [(5, 6)]);
        assert_eq!(intake.hole(), None);
    }

    #[test]
    fn what_came_early_passes_when_what_was_before_it_is_given_up() {
        let mut intake = intake(4);
        assert_eq!(offer(&mut intake, 9, 10), []);
        assert_eq!(offer(&mut intake, 13, 13), []);
        let passed = intake.skip_trimmed(Seq(8), Instant::now());
        let passed: Vec<u64> = passed.iter().map(|run| run.first().0).collect();
        assert_eq!((passed, intake.head().seq), (vec![9], Seq(10)));
        assert_eq!(intake.hole(), Some((Seq(10), Seq(12))));
    }

    proptest! {
        /// Whatever the bus does to the hints, what passes is each number once and in order; and once the holes are
        /// fetched, all of it.
        #[test]
        fn order_does_not_depend_on_the_bus(
            cuts in prop::collection::vec(1_u64..5, 1..40),
            shuffle in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut runs = Vec::new();
            let mut next = 1;
            for length in cuts {
                runs.push((next, next + length - 1));
                next += length;
            }
            let mut intake = intake(0);
            let mut seen = Vec::new();
            let take = |intake: &mut Intake, first: u64, last: u64, seen: &mut Vec<u64>| {
                for (first, last) in offer(intake, first, last) {
                    seen.extend(first..=last);
                }
            };
            for index in shuffle {
                let (first, last) = *index.get(&runs);
                take(&mut intake, first, last, &mut seen);
            }
            intake.hear(Head { seq: Seq(next - 1), trimmed: Seq::ZERO });
            while let Some((after, to)) = intake.hole() {
                take(&mut intake, after.0 + 1, to.0, &mut seen);
            }
            prop_assert_eq!(seen, (1..next).collect::<Vec<_>>());
        }
    }
}
