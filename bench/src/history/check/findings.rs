//! The rules, and what was found against each.

use std::path::PathBuf;

use serde::Serialize;

use crate::history::check::source::{self, Place};

/// Violations of one rule that are shown; all are counted.
const EVIDENCE_MAX: usize = 5;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Acknowledged means committed.
    LostWrite,
    /// Nothing out of nowhere.
    Phantom,
    /// Once.
    Duplicate,
    /// Numbers without holes.
    Dense,
    /// The same for everybody.
    Agreement,
    /// In order, without a gap.
    Stream,
    /// Not twice.
    Repeat,
    /// A reset is told only when it is true.
    Reset,
    /// All of it.
    Unseen,
    /// Later means later.
    RealTime,
    /// One after the other.
    Fifo,
    /// What was acknowledged can be read.
    StableRead,
}

impl Rule {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 12] = [
        Self::LostWrite,
        Self::Phantom,
        Self::Duplicate,
        Self::Dense,
        Self::Agreement,
        Self::Stream,
        Self::Repeat,
        Self::Reset,
        Self::Unseen,
        Self::RealTime,
        Self::Fifo,
        Self::StableRead,
    ];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost-write",
            Self::Phantom => "phantom",
            Self::Duplicate => "duplicate",
            Self::Dense => "dense",
            Self::Agreement => "agreement",
            Self::Stream => "stream",
            Self::Repeat => "repeat",
            Self::Reset => "reset",
            Self::Unseen => "unseen",
            Self::RealTime => "real-time",
            Self::Fifo => "fifo",
            Self::StableRead => "stable-read",
        }
    }

    /// What it asks, in one line.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::LostWrite => {
                "what was acknowledged is in the log, at that number, with that content"
            }
            Self::Phantom => {
                "what is in the log was published and not refused; what was seen is in the log"
            }
            Self::Duplicate => "a message is in the log once",
            Self::Dense => {
                "the numbers of a channel have no holes, in the log and in every read of it"
            }
            Self::Agreement => {
                "a number of a channel is the same message for everybody, at any time"
            }
            Self::Stream => {
                "a subscriber's numbers go up by one: nothing skipped, nothing out of order"
            }
            Self::Repeat => "a subscriber is given nothing that it had before",
            Self::Reset => "a position is called wrong or overtaken only when it is",
            Self::Unseen => "in the end every subscriber has everything, the last message included",
            Self::RealTime => {
                "what is published after another was acknowledged or seen has a higher number"
            }
            Self::Fifo => "what one connection sends one after the other is numbered in that order",
            Self::StableRead => "a read sees everything that was acknowledged before it began",
        }
    }
}

/// What was found against one rule.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RuleReport {
    /// The rule.
    pub(crate) name: &'static str,
    /// What it asks.
    pub(crate) says: &'static str,
    /// How many things it was asked of.
    pub(crate) checked: u64,
    /// How many of them broke it.
    pub(crate) violations: u64,
    /// The first few.
    pub(crate) evidence: Vec<Evidence>,
}

/// One violation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Evidence {
    /// What happened.
    pub(crate) what: String,
    /// The lines that show it, as `file:line`.
    pub(crate) lines: Vec<String>,
}

/// Collects violations.
#[derive(Debug)]
pub(super) struct Findings {
    files: Vec<PathBuf>,
    rules: Vec<RuleReport>,
}

impl Findings {
    /// Nothing found yet in `files`.
    pub(super) fn new(files: &[PathBuf]) -> Self {
        let rule = |rule: Rule| RuleReport {
            name: rule.name(),
            says: rule.says(),
            checked: 0,
            violations: 0,
            evidence: Vec::new(),
        };
        Self {
            files: files.to_vec(),
            rules: Rule::ALL.into_iter().map(rule).collect(),
        }
    }

    /// A rule is asked of so many more things.
    pub(super) fn asked(&mut self, rule: Rule, count: u64) {
        self.rules[rule as usize].checked += count;
    }

    /// A rule is broken by one thing; the lines at `places` show it.
    pub(super) fn broken(
        &mut self,
        rule: Rule,
        places: &[Option<Place>],
        what: impl FnOnce() -> String,
    ) {
        self.broken_by(rule, 1, places, what);
    }

    /// A rule is broken by `count` things that are shown as one.
    pub(super) fn broken_by(
        &mut self,
        rule: Rule,
        count: u64,
        places: &[Option<Place>],
        what: impl FnOnce() -> String,
    ) {
        let report = &mut self.rules[rule as usize];
        report.violations += count;
        if report.evidence.len() < EVIDENCE_MAX {
            let describe = |place: &Place| source::describe(&self.files, *place);
            report.evidence.push(Evidence {
                what: what(),
                lines: places.iter().flatten().map(describe).collect(),
            });
        }
    }

    /// What was found.
    pub(super) fn into_rules(self) -> Vec<RuleReport> {
        self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_at_their_own_place() {
        for (at, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, at, "{rule:?}");
        }
    }

    #[test]
    fn all_are_counted_and_the_first_are_shown() {
        let mut findings = Findings::new(&["h".into()]);
        let place = |line| Some(Place { file: 0, line });
        for line in 1..=20 {
            findings.broken(Rule::Dense, &[place(line), None], || format!("hole {line}"));
        }
        let rules = findings.into_rules();
        let dense = &rules[Rule::Dense as usize];
        assert_eq!((dense.violations, dense.evidence.len()), (20, EVIDENCE_MAX));
        assert_eq!(dense.evidence[0].lines, ["h:1"]);
    }
}
