//! The ring: the recent publications of a live channel, by reference.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fanfare_wire::{Run, Seq};
use tokio::time::Instant;

/// A ring keeps at most this many runs (a run is a batch of at least one publication).
pub(crate) const RING_RUNS_MAX: usize = 256;
/// A ring keeps at most this many bytes.
pub(crate) const RING_BYTES_MAX: usize = 1 << 20;
/// A ring forgets what is older.
pub(crate) const RING_AGE_MAX: Duration = Duration::from_secs(120);

/// The recent runs of a channel, consecutive, oldest first. The newest run is always kept until it is too old.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    runs: VecDeque<(Instant, Arc<Run>)>,
    bytes: usize,
}

/// What a ring has for a reader.
#[derive(Debug)]
pub(crate) enum Recent {
    /// The reader has seen all there is.
    Nothing,
    /// What follows, oldest first; the first run may begin before the reader's position.
    Runs(Vec<Arc<Run>>),
    /// The ring no longer reaches the reader's position: read the log.
    Gone,
}

impl Ring {
    /// Adds the run that follows the newest one. After a jump over a hole the older ones are forgotten.
    pub(crate) fn push(&mut self, run: Arc<Run>, now: Instant) {
        let follows = self
            .runs
            .back()
            .is_none_or(|(_, newest)| newest.last().next() == run.first());
        if !follows {
            self.runs.clear();
            self.bytes = 0;
        }
        self.bytes += run.weight();
        self.runs.push_back((now, run));
        while self.runs.len() > RING_RUNS_MAX
            || (self.bytes > RING_BYTES_MAX && self.runs.len() > 1)
        {
            self.drop_oldest();
        }
    }

    /// Forgets what is older than [`RING_AGE_MAX`].
    pub(crate) fn expire(&mut self, now: Instant) {
        let old = |added: &Instant| now.saturating_duration_since(*added) > RING_AGE_MAX;
        while self.runs.front().is_some_and(|(added, _)| old(added)) {
            self.drop_oldest();
        }
    }

    /// Forgets what is up to and including a number, and what came in one run with it.
    pub(crate) fn forget(&mut self, up_to: Seq) {
        while self
            .runs
            .front()
            .is_some_and(|(_, run)| run.first() <= up_to)
        {
            self.drop_oldest();
        }
    }

    /// What follows `seq` in a channel whose head is `head`: at most about `bytes_max` bytes of it, but always
    /// something if there is anything.
    pub(crate) fn after(&self, seq: Seq, head: Seq, bytes_max: usize) -> Recent {
        if seq >= head {
            return Recent::Nothing;
        }
        match self.runs.front() {
            Some((_, oldest)) if oldest.first() <= seq.next() => {}
            _ => return Recent::Gone,
        }
        let start = self.runs.partition_point(|(_, run)| run.last() <= seq);
        if start == self.runs.len() {
            // The head has jumped over what this node could not fetch in time.
            return Recent::Gone;
        }
        let mut bytes = 0;
        let mut runs = Vec::new();
        for (_, run) in self.runs.range(start..) {
            if bytes > bytes_max {
                break;
            }
            bytes += run.weight();
            runs.push(Arc::clone(run));
        }
        Recent::Runs(runs)
    }

    /// The oldest number that is still here.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.runs.front().map(|(_, run)| run.first())
    }

    /// The newest run.
    pub(crate) fn newest(&self) -> Option<&Arc<Run>> {
        self.runs.back().map(|(_, run)| run)
    }

    fn drop_oldest(&mut self) {
        if let Some((_, run)) = self.runs.pop_front() {
            self.bytes -= run.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    fn seqs(recent: Recent) -> Vec<(u64, u64)> {
        match recent {
            Recent::Runs(runs) => runs
                .iter()
                .map(|run| (run.first().0, run.last().0))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reader_gets_what_follows_its_position() {
        let mut ring = Ring::default();
        let now = Instant::now();
        for numbers in [5..=6, 7..=7, 8..=10] {
            ring.push(run(numbers), now);
        }
        let after = |seq| ring.after(Seq(seq), Seq(10), usize::MAX);
        assert!(matches!(after(3), Recent::Gone));
        assert_eq!(seqs(after(4)), [(5, 6), (7, 7), (8, 10)]);
        assert_eq!(seqs(after(6)), [(7, 7), (8, 10)]);
        assert_eq!(seqs(after(9)), [(8, 10)]);
        assert!(matches!(after(10), Recent::Nothing));
        assert!(matches!(after(11), Recent::Nothing));
        assert_eq!(seqs(ring.after(Seq(4), Seq(10), 1)), [(5, 6)]);
    }

    #[test]
    fn what_was_removed_is_forgotten() {
        let mut ring = Ring::default();
        let now = Instant::now();
        for numbers in [5..=6, 7..=9, 10..=10] {
            ring.push(run(numbers), now);
        }
        ring.forget(Seq(4));
        assert_eq!(ring.oldest(), Some(Seq(5)));
        ring.forget(Seq(8));
        assert_eq!(ring.oldest(), Some(Seq(10)));
        ring.forget(Seq(10));
        assert_eq!((ring.oldest(), ring.bytes), (None, 0));
        assert!(matches!(ring.after(Seq(9), Seq(10), 1), Recent::Gone));
    }

    #[test]
    fn a_ring_is_bounded_by_runs_and_age() {
        let mut ring = Ring::default();
        let now = Instant::now();
        for number in 1..=1000 {
            ring.push(run(number..=number), now);
        }
        assert_eq!(ring.oldest(), Some(Seq(1000 - RING_RUNS_MAX as u64 + 1)));
        ring.expire(now + RING_AGE_MAX + Duration::from_secs(1));
        assert_eq!(ring.oldest(), None);
        assert!(matches!(ring.after(Seq(999), Seq(1000), 1), Recent::Gone));
        assert_eq!(ring.bytes, 0);
    }
}
