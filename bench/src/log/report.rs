//! What both commands write: figures of every load, and whether the log has what it acknowledged.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::BenchError;
use crate::output::{Circumstances, Folder};
use crate::plot::Plot;
use crate::report::Verdict;

/// The results of one command. `P` is one of its loads.
#[derive(Debug, Serialize)]
pub(super) struct LogReport<P> {
    /// When and where.
    pub(super) circumstances: Circumstances,
    /// Every option.
    pub(super) parameters: Value,
    /// Measured loads, in the order in which they were made.
    pub(super) points: Vec<P>,
    /// Whether every message that was acknowledged is in the log.
    pub(super) verdict: Verdict,
    /// What to keep in mind when reading the figures.
    pub(super) warnings: Vec<String>,
    #[serde(skip)]
    folder: Folder,
}

/// How it is shown.
pub(super) struct Showing {
    /// Title of the page.
    pub(super) title: &'static str,
    /// What was done, then the figures.
    pub(super) text: String,
    /// Plots with the names of their files.
    pub(super) plots: Vec<(&'static str, Plot)>,
}

impl<P: Serialize> LogReport<P> {
    /// An empty one, to be written to `out`.
    ///
    /// # Errors
    /// When the folder cannot be made: better now than after an hour.
    pub(super) fn new(parameters: &impl Serialize, out: &Path) -> Result<Self, BenchError> {
        Ok(Self {
            circumstances: Circumstances::now(),
            parameters: serde_json::to_value(parameters).unwrap_or_default(),
            points: Vec::new(),
            verdict: Verdict::default(),
            warnings: Vec::new(),
            folder: Folder::open(out)?,
        })
    }

    /// Takes what [`Stand::finish`](super::stand::Stand::finish) found.
    pub(super) fn take(&mut self, (reasons, warnings): (Vec<String>, Vec<String>)) {
        self.verdict.reasons.extend(reasons);
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Writes what there is so far under `stem`: a run that is broken off leaves what it found.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn save(&mut self, stem: &str, showing: &Showing) -> Result<(), BenchError> {
        self.verdict.passed = self.verdict.reasons.is_empty();
        let page = self.page(showing);
        self.folder.write(stem, self, &page, &showing.plots)
    }

    /// Prints the page, and turns what is missing from the log into an error.
    ///
    /// # Errors
    /// [`BenchError::Violated`] as said.
    pub(super) fn conclude(mut self, stem: &str, showing: &Showing) -> Result<(), BenchError> {
        self.save(stem, showing)?;
        // Whoever read the page may have gone; the verdict is told all the same.
        let _ = std::io::stdout().write_all(self.page(showing).as_bytes());
        match self.verdict.passed {
            true => Ok(()),
            false => Err(BenchError::Violated {
                reasons: self.verdict.reasons,
            }),
        }
    }

    // Writing to a string does not fail, so results are dropped.
    fn page(&self, showing: &Showing) -> String {
        let mut page = format!(
            "# {}\n\n{}\n\n{}\n",
            showing.title,
            self.circumstances.describe(),
            showing.text.trim_end()
        );
        let whole = match self.verdict.reasons.is_empty() {
            true => "The log has exactly what it acknowledged.".to_owned(),
            false => format!("**Broken:** {}.", self.verdict.reasons.join("; ")),
        };
        let _ = writeln!(page, "\n{whole}");
        for warning in &self.warnings {
            let _ = writeln!(page, "\nWarning: {warning}.");
        }
        page
    }
}
