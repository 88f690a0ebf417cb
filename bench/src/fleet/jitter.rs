//! Connections that are cut on purpose: whose turn it is when, and for how long they stay away.

use serde::{Deserialize, Serialize};

use crate::clock::{MILLISECOND, SECOND};
use crate::random::Random;

/// A connection that is not up when its turn comes has it this much later, in nanoseconds.
pub(crate) const AGAIN_AFTER: u64 = 500 * MILLISECOND;

/// When each subscriber is cut. Times are nanoseconds of [`crate::clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Jitter {
    /// Nobody is cut before this.
    pub(crate) from: u64,
    /// Nobody is cut after this.
    pub(crate) until: u64,
    /// From one cut to the next, the time away left out.
    pub(crate) every: u64,
    /// How long a subscriber stays away.
    pub(crate) offline: u64,
    /// All at the same moment, instead of each at a time of its own.
    pub(crate) together: bool,
}

impl Jitter {
    /// When a subscriber is cut for the first time. Each alone: after a third of the interval, within the next whole one.
    pub(crate) fn first(&self, random: &mut Random) -> u64 {
        if self.together {
            self.from + self.every
        } else {
            self.from + self.every / 3 + random.below(self.every)
        }
    }

    /// When it is cut again after a cut at `now`. Each alone: up to a third later, so that they do not fall into step.
    pub(crate) fn next(&self, now: u64, random: &mut Random) -> u64 {
        if self.together {
            // From the schedule and not from the clock, so that nobody drifts away from the others.
            let round = self.every + self.offline;
            let begun = self.from + self.every;
            begun + (now.saturating_sub(begun) / round + 1) * round
        } else {
            now + self.offline + self.every + random.below(self.every / 3)
        }
    }
}

/// Seconds of an option as nanoseconds.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jitter(together: bool) -> Jitter {
        Jitter {
            from: 100 * SECOND,
            until: 200 * SECOND,
            every: 15 * SECOND,
            offline: 2 * SECOND,
            together,
        }
    }

    #[test]
    fn those_who_are_cut_together_stay_together() {
        let mut random = Random::new(1);
        let jitter = jitter(true);
        assert_eq!(jitter.first(&mut random), 115 * SECOND);
        for late in [0, 1, SECOND] {
            assert_eq!(jitter.next(115 * SECOND + late, &mut random), 132 * SECOND);
            assert_eq!(jitter.next(132 * SECOND + late, &mut random), 149 * SECOND);
        }
    }

    #[test]
    fn those_who_are_cut_alone_are_spread() {
        let mut random = Random::new(1);
        let jitter = jitter(false);
        let firsts: Vec<u64> = (0..1_000).map(|_| jitter.first(&mut random)).collect();
        let (least, most) = (firsts.iter().min().unwrap(), firsts.iter().max().unwrap());
        assert!(*least >= 105 * SECOND && *least < 107 * SECOND, "{least}");
        assert!(*most < 120 * SECOND && *most > 118 * SECOND, "{most}");
        for _ in 0..100 {
            let next = jitter.next(0, &mut random);
            assert!((17 * SECOND..22 * SECOND).contains(&next), "{next}");
        }
    }
}
