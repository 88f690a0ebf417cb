//! What a row came to.

use std::path::PathBuf;

use serde::Serialize;

/// How a row ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Everything held.
    #[default]
    Held,
    /// Nothing was lost, repeated or reordered, but a figure is above its bound.
    Missed,
    /// A rule of the history was broken.
    Violated,
    /// It could not be run to its end.
    Broken,
    /// This machine cannot run it.
    Skipped,
}

/// One number that a row found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// What was counted or measured.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// What was promised at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound: Option<f64>,
}

/// Unit of a [`Figure`] that stands for something that must not be.
const VIOLATION: &str = "violation";

impl Figure {
    /// Something that must not be.
    pub(crate) fn violation(what: String) -> Self {
        Self {
            name: what,
            value: 1.0,
            unit: VIOLATION,
            bound: Some(0.0),
        }
    }

    /// Whether it is something that must not be, whatever the load.
    pub(crate) fn is_violation(&self) -> bool {
        self.unit == VIOLATION
    }

    /// Whether it is not above what was promised.
    pub(crate) fn holds(&self) -> bool {
        self.bound.is_none_or(|bound| self.value <= bound)
    }

    /// `name 0.21 s (≤ 0.5)`.
    pub(crate) fn text(&self) -> String {
        if self.is_violation() {
            return self.name.clone();
        }
        let digits = if self.value.fract() == 0.0 || self.value >= 100.0 {
            0
        } else if self.value >= 1.0 {
            2
        } else {
            3
        };
        let mut text = format!("{} {:.digits$}", self.name, self.value);
        if !self.unit.is_empty() {
            text.push_str(&format!(" {}", self.unit));
        }
        if let Some(bound) = self.bound {
            // To the millisecond: bounds may be sums.
            let bound = (bound * 1_000.0).round() / 1_000.0;
            text.push_str(&format!(" (≤ {bound})"));
        }
        text
    }
}

/// What is written and printed of a row.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RowReport {
    /// Its number in the matrix.
    pub(crate) number: &'static str,
    /// The fault.
    pub(crate) name: &'static str,
    /// How it was brought about.
    pub(crate) how: &'static str,
    /// What was promised.
    pub(crate) promise: &'static str,
    /// How it ended.
    pub(crate) state: State,
    /// Why, unless everything held.
    pub(crate) reasons: Vec<String>,
    /// Messages that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Publications that clients received.
    pub(crate) deliveries: u64,
    /// Rules that the history breaks.
    pub(crate) violations: u64,
    /// Longest time from the end of a fault until deliveries were as quick as before, in seconds.
    pub(crate) heal_seconds: Option<f64>,
    /// What the row measured.
    pub(crate) figures: Vec<Figure>,
    /// What is worth saying beside it.
    pub(crate) notes: Vec<String>,
    /// Share of the machine's processors that were busy during the load, 0 to 1.
    pub(crate) busy: f64,
    /// How long the whole row took, in seconds.
    pub(crate) seconds: f64,
    /// The history, when it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<PathBuf>,
}

impl RowReport {
    /// Whether the run fails with it: a miss counts in the full form only, as times depend on the machine.
    pub(crate) fn fails(&self, short: bool) -> bool {
        match self.state {
            State::Held | State::Skipped => false,
            State::Missed => !short,
            State::Violated | State::Broken => true,
        }
    }
}

impl State {
    /// The word in the tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "MISS",
            Self::Violated => "VIOLATED",
            Self::Broken => "BROKEN",
            Self::Skipped => "skipped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_its_bound_and_whether_it_holds() {
        let mut figure = Figure {
            name: "noticed".to_owned(),
            value: 1.234,
            unit: "s",
            bound: Some(2.0),
        };
        assert!(figure.holds());
        assert_eq!(figure.text(), "noticed 1.23 s (≤ 2)");
        figure.value = 3.0;
        assert!(!figure.holds() && !figure.is_violation());
        let violation = Figure::violation("two answers".to_owned());
        assert!(!violation.holds() && violation.is_violation());
        assert_eq!(violation.text(), "two answers");
    }
}
