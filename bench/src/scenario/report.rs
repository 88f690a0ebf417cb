//! What a scenario writes: all its points, what was not made, and whether every message arrived.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;
use crate::output::{Circumstances, Folder, grouped, table};
use crate::plot::{Plot, Scale};
use crate::report::{LatencySummary, Verdict};
use crate::scenario::point::{Point, points_table};

/// A client process above this share of a processor makes its latencies doubtful.
const GENERATOR_SHARE_MAX: f64 = 0.8;

/// Something that was asked for and not made.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct NotMade {
    /// What.
    pub(crate) what: String,
    /// Why not.
    pub(crate) why: String,
}

/// Where a reading stops to hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Knee {
    /// Which reading.
    pub(crate) reading: String,
    /// What was raised: `clients` or `messages/s`.
    pub(crate) of: String,
    /// The highest that held; absent when none did.
    pub(crate) held: Option<f64>,
    /// The lowest that did not; absent when all did.
    pub(crate) failed: Option<f64>,
    /// Deliveries per second at the highest that held.
    pub(crate) deliveries_per_second: f64,
}

/// One scenario's results.
#[derive(Debug, Serialize)]
pub(super) struct ScenarioReport {
    /// `a`, `c`, `d` or `storm`.
    pub(super) scenario: &'static str,
    /// When and where.
    pub(super) circumstances: Circumstances,
    /// Every option.
    pub(super) parameters: Value,
    /// Measured loads, in the order in which they were made.
    pub(super) points: Vec<Point>,
    /// Where readings stop to hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) knees: Vec<Knee>,
    /// What only one scenario has.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) more: Value,
    /// What was asked for and not made.
    pub(super) not_made: Vec<NotMade>,
    /// Whether every message arrived once and in order.
    pub(super) verdict: Verdict,
    /// What to keep in mind when reading the figures.
    pub(super) warnings: Vec<String>,
    #[serde(skip)]
    folder: Folder,
}

/// What a scenario adds to its page, and its plots.
pub(super) struct Showing {
    /// Title of the page.
    pub(super) title: String,
    /// What was done, in a few sentences.
    pub(super) about: String,
    /// After the table of points.
    pub(super) more: String,
    /// Plots with the names of their files.
    pub(super) plots: Vec<(&'static str, Plot)>,
}

impl ScenarioReport {
    /// An empty one, to be written to `out`.
    ///
    /// # Errors
    /// When the folder cannot be made: better now than after an hour.
    pub(super) fn new(
        scenario: &'static str,
        parameters: &impl Serialize,
        out: &Path,
    ) -> Result<Self, BenchError> {
        Ok(Self {
            scenario,
            circumstances: Circumstances::now(),
            parameters: serde_json::to_value(parameters).unwrap_or_default(),
            points: Vec::new(),
            knees: Vec::new(),
            more: Value::Null,
            not_made: Vec::new(),
            verdict: Verdict::default(),
            warnings: Vec::new(),
            folder: Folder::open(out)?,
        })
    }

    /// Says that something is not made.
    pub(super) fn not_made(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_made.push(NotMade {
            what: what.into(),
            why: why.into(),
        });
    }

    /// Writes everything that there is so far: after each part, so that a run that is broken off leaves what it found.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn save(&mut self, showing: &Showing) -> Result<(), BenchError> {
        self.verdict.passed = self.verdict.reasons.is_empty();
        let page = self.page(showing);
        let stem = format!("scenario-{}", self.scenario);
        self.folder.write(&stem, self, &page, &showing.plots)
    }

    /// Prints the page, and turns what was lost, repeated or out of order into an error.
    ///
    /// # Errors
    /// [`BenchError::Violated`] as said.
    pub(super) fn conclude(mut self, showing: &Showing) -> Result<(), BenchError> {
        self.save(showing)?;
        // Whoever read the page may have gone; the verdict is told all the same.
        let _ = std::io::stdout().write_all(self.page(showing).as_bytes());
        if self.verdict.passed {
            Ok(())
        } else {
            Err(BenchError::Violated {
                reasons: self.verdict.reasons,
            })
        }
    }

    /// Points in which the generator may have measured itself.
    fn doubts(&self) -> Vec<String> {
        let doubtful = |point: &&Point| point.generator_share > GENERATOR_SHARE_MAX;
        let points = self.points.iter().filter(doubtful);
        points
            .map(|point| {
                format!(
                    "{} at {} messages/s to {} clients: the busiest client process used {:.0} % of a processor, so its \
                     latencies are partly its own",
                    point.reading,
                    grouped(point.rate),
                    grouped(point.clients as f64),
                    point.generator_share * 100.0
                )
            })
            .collect()
    }

    // Writing to a string does not fail, so results are dropped.
    fn page(&self, showing: &Showing) -> String {
        let mut page = format!(
            "# {}\n\n{}\n\n{}\n\n",
            showing.title,
            self.circumstances.describe(),
            showing.about
        );
        if !self.points.is_empty() {
            page.push_str(&points_table(&self.points));
        }
        for knee in &self.knees {
            let _ = writeln!(page, "\n{}", knee.describe());
        }
        if !showing.more.is_empty() {
            let _ = writeln!(page, "\n{}", showing.more.trim_end());
        }
        let all_arrived = match self.verdict.reasons.is_empty() {
            true => "Nothing was lost, repeated or out of order.".to_owned(),
            false => format!("**Broken:** {}.", self.verdict.reasons.join("; ")),
        };
        let _ = writeln!(page, "\n{all_arrived}");
        for warning in self.warnings.iter().chain(&self.doubts()) {
            let _ = writeln!(page, "\nWarning: {warning}.");
        }
        if !self.not_made.is_empty() {
            let rows: Vec<Vec<String>> = self
                .not_made
                .iter()
                .map(|missing| vec![missing.what.clone(), missing.why.clone()])
                .collect();
            let _ = write!(page, "\n{}", table(&["not made", "why"], &rows));
        }
        page
    }
}

impl Knee {
    /// The knee of points that were raised step by step. `pick` is what was raised.
    pub(super) fn find(reading: &str, of: &str, points: &[Point], pick: fn(&Point) -> f64) -> Self {
        let of_reading = || points.iter().filter(|point| point.reading == reading);
        let failed = of_reading()
            .filter(|point| !point.held)
            .map(pick)
            .min_by(f64::total_cmp);
        // One that held beyond one that did not was luck.
        let held = of_reading()
            .filter(|point| point.held && failed.is_none_or(|failed| pick(point) < failed))
            .max_by(|a, b| pick(a).total_cmp(&pick(b)));
        Self {
            reading: reading.to_owned(),
            of: of.to_owned(),
            held: held.map(pick),
            failed,
            deliveries_per_second: held.map_or(0.0, |point| point.deliveries_per_second),
        }
    }

    fn describe(&self) -> String {
        let (reading, of) = (&self.reading, &self.of);
        match (self.held, self.failed) {
            (Some(held), Some(failed)) => format!(
                "Knee of {reading}: {} {of} held ({} deliveries/s), {} did not.",
                grouped(held),
                grouped(self.deliveries_per_second),
                grouped(failed)
            ),
            (Some(held), None) => {
                format!(
                    "Knee of {reading}: not reached, {} {of} held.",
                    grouped(held)
                )
            }
            (None, Some(failed)) => {
                format!("Knee of {reading}: below {} {of}.", grouped(failed))
            }
            (None, None) => format!("Knee of {reading}: nothing was measured."),
        }
    }
}

/// Latency distributions in one plot, from the median to the slowest.
pub(crate) fn distributions<'a>(
    title: &str,
    subtitle: &str,
    lines: impl IntoIterator<Item = (String, &'a LatencySummary)>,
) -> Plot {
    let plot = Plot::new(
        title,
        subtitle,
        ("share of deliveries that were quicker", Scale::Percentile),
        ("milliseconds", Scale::Logarithmic),
    );
    lines.into_iter().fold(plot, |plot, (name, latency)| {
        let steps = latency.distribution.iter();
        // Below 10 us nothing is told apart, and a logarithm needs a beginning.
        plot.line(
            &name,
            steps.map(|&(quantile, us)| (quantile * 100.0, us.max(10) as f64 / 1_000.0)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::TempDir;

    fn point(clients: usize, held: bool) -> Point {
        Point {
            reading: "a3".to_owned(),
            clients,
            rate: 1.0,
            held,
            deliveries_per_second: clients as f64,
            ..Point::default()
        }
    }

    fn clients(point: &Point) -> f64 {
        point.clients as f64
    }

    #[test]
    fn the_knee_lies_before_the_first_that_did_not_hold() {
        let points = [
            point(1, true),
            point(2, true),
            point(3, false),
            point(4, true),
        ];
        let knee = Knee::find("a3", "clients", &points, clients);
        assert_eq!((knee.held, knee.failed), (Some(2.0), Some(3.0)));
        assert!(knee.describe().contains("2 clients held"));
        let all = Knee::find("a3", "clients", &points[..2], clients);
        assert_eq!((all.held, all.failed), (Some(2.0), None));
        let none = Knee::find("a3", "clients", &points[2..3], clients);
        assert_eq!((none.held, none.failed), (None, Some(3.0)));
    }

    #[test]
    fn what_was_not_made_is_listed_and_what_broke_is_an_error() {
        let dir = TempDir::new().unwrap();
        let showing = Showing {
            title: "T".to_owned(),
            about: "about".to_owned(),
            more: String::new(),
            plots: Vec::new(),
        };
        let mut report = ScenarioReport::new("c", &1, dir.path()).unwrap();
        report.not_made("16 nodes", "too little memory");
        report.save(&showing).unwrap();
        let page = std::fs::read_to_string(dir.path().join("scenario-c.md")).unwrap();
        assert!(page.contains("| 16 nodes | too little memory |"), "{page}");
        assert!(page.contains("Nothing was lost"));
        report.verdict.reasons.push("3 came twice".to_owned());
        assert!(matches!(
            report.conclude(&showing),
            Err(BenchError::Violated { .. })
        ));
        let page = std::fs::read_to_string(dir.path().join("scenario-c.md")).unwrap();
        assert!(page.contains("**Broken:** 3 came twice."), "{page}");
    }
}
