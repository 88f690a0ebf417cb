//! Gives a target bytes until something does not hold, or the time is over.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::{Outcome, Target, mutate::mutate, random::Random};

/// Most inputs that are kept to go on from, beside the seeds.
const KEPT_MAX: usize = 10_000;

/// How often the clock is looked at.
const RUNS_PER_LOOK: u64 = 64;

/// How a hunt ended.
#[derive(Debug)]
pub struct Report {
    /// How many inputs were given to the target.
    pub runs: u64,
    /// How many different outcomes there were.
    pub outcomes: usize,
    /// The shortest bytes for which something does not hold, as far as that could be found.
    pub found: Option<Vec<u8>>,
}

/// When a hunt ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so long.
    Time(Duration),
    /// After so many inputs.
    Runs(u64),
}

/// Hunts. The seeds come first, as they are. The same seed of numbers gives the same inputs.
#[must_use]
pub fn hunt(target: &Target, seed: u64, until: Until) -> Report {
    let started = Instant::now();
    let mut random = Random::new(seed);
    let mut corpus = (target.seeds)();
    let seeds = corpus.len();
    let mut outcomes: HashSet<Outcome> = HashSet::new();
    let mut runs: u64 = 0;
    loop {
        let is_over = match until {
            Until::Time(time) => runs.is_multiple_of(RUNS_PER_LOOK) && started.elapsed() >= time,
            Until::Runs(runs_max) => runs >= runs_max,
        };
        if is_over {
            return Report {
                runs,
                outcomes: outcomes.len(),
                found: None,
            };
        }
        let input = match usize::try_from(runs).ok().and_then(|run| corpus.get(run)) {
            Some(seed) if runs < seeds as u64 => seed.clone(),
            _ => made_of(&corpus, target.words, &mut random),
        };
        runs += 1;
        match tried(target, &input) {
            Some(outcome) => {
                if outcomes.insert(outcome) && corpus.len() < seeds + KEPT_MAX {
                    corpus.push(input);
                }
            }
            None => {
                return Report {
                    runs,
                    outcomes: outcomes.len(),
                    found: Some(shortened(target, input)),
                };
            }
        }
    }
}

fn made_of(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(corpus).cloned().unwrap_or_default();
    let other = random.of(corpus).map_or(&[][..], Vec::as_slice);
    mutate(&mut input, words, other, random);
    input
}

/// What a target makes of some bytes; `None` if something does not hold.
fn tried(target: &Target, input: &[u8]) -> Option<Outcome> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).ok()
}

/// Leaves out what is not needed, in pieces that get smaller.
fn shortened(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + length).min(input.len()));
            match tried(target, &shorter) {
                None => input = shorter,
                Some(_) => at += length,
            }
        }
        length /= 2;
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cannot take a bracket that is closed behind the word.
    const BROKEN: Target = Target {
        name: "broken",
        run: |bytes| {
            let word = bytes.windows(4).position(|it| it == b"word");
            let closed = word.is_some_and(|at| bytes[at..].contains(&b'}'));
            assert!(!closed, "a bracket behind the word");
            Outcome::of((word.is_some(), bytes.contains(&b'}')))
        },
        seeds: || vec![b"hello".to_vec()],
        words: &[b"word"],
    };

    #[test]
    fn what_does_not_hold_is_found_and_made_short() {
        let report = hunt(&BROKEN, 1, Until::Runs(1_000_000));
        assert_eq!(report.found.as_deref(), Some(&b"word}"[..]));
        assert!(report.outcomes >= 2);
    }

    #[test]
    fn a_hunt_ends() {
        let sound = Target {
            run: |bytes| Outcome::of(bytes.len()),
            ..BROKEN
        };
        let report = hunt(&sound, 1, Until::Runs(1_000));
        assert_eq!((report.runs, report.found), (1_000, None));
        assert!(hunt(&sound, 1, Until::Time(Duration::ZERO)).runs < 1_000);
    }
}
