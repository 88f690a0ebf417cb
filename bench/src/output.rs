//! A folder of results: for each run the raw figures as JSON, a page with the tables, and plots; and a list of all runs,
//! with those that were not made.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::BenchError;
use crate::plot::Plot;
use crate::report::{Machine, write_json};
use crate::system;

/// Every run that there is: the stem of its files, and what it is.
const RUNS: [(&str, &str); 12] = [
    (
        "log",
        "durable publishes at rising rates on SQLite and PostgreSQL",
    ),
    (
        "soak",
        "durable publishes for long: latency, sizes and dead rows by the minute",
    ),
    (
        "fanout",
        "one channel, deliveries per processor second beside the bare loop",
    ),
    (
        "scenario-a",
        "4 nodes, 10,000 clients, 1,000 messages a second, in four readings",
    ),
    (
        "scenario-b",
        "Redis goes away at the 500th of 1,000 messages",
    ),
    ("scenario-c", "2, 4, 8 and 16 nodes"),
    ("scenario-d", "one message to the largest channel"),
    ("scenario-storm", "every connection is cut again and again"),
    ("peers", "other servers beside this one under the same load"),
    (
        "chat",
        "a workspace with a million messages: loaded, searched, talked in",
    ),
    ("idle", "memory of an idle connection"),
    (
        "model",
        "what a load needs, by the unit costs of the others",
    ),
];

/// The list of all runs.
const INDEX: &str = "README.md";

/// Under which circumstances a run was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    /// Version of generator and nodes.
    pub(crate) version: String,
    /// `release` or `debug`; figures of a debug build say nothing about speed.
    pub(crate) build: String,
    /// When it began, milliseconds since 1970.
    pub(crate) started_unix_ms: u64,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Processes that wanted a processor before it began, on average over a minute: anything near the number of processors
    /// makes latencies doubtful.
    pub(crate) load_before: f64,
    /// Version of PostgreSQL, where there was one.
    pub(crate) postgres_version: Option<String>,
    /// Version of Redis, where there was one.
    pub(crate) redis_version: Option<String>,
}

impl Circumstances {
    /// Those of this moment.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: system::build().to_owned(),
            started_unix_ms: since.map_or(0, |since| since.as_millis() as u64),
            machine: system::machine(),
            load_before: system::load_average(),
            postgres_version: None,
            redis_version: None,
        }
    }

    /// One paragraph for people.
    pub(crate) fn describe(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "Fanfare {} ({} build), {}, {} x {}, {} MiB, Linux {}; load before the run {:.2}",
            self.version,
            self.build,
            date(self.started_unix_ms),
            machine.cores,
            machine.cpu,
            machine.memory_mib,
            machine.kernel,
            self.load_before
        );
        // Writing to a string does not fail.
        for (name, version) in [
            ("PostgreSQL", &self.postgres_version),
            ("Redis", &self.redis_version),
        ] {
            if let Some(version) = version {
                let _ = write!(text, "; {name} {version}");
            }
        }
        text.push_str(". Load generator and servers share the machine.");
        if self.build == "debug" {
            text.push_str(" **A debug build: these figures say nothing about speed.**");
        }
        text
    }
}

/// Where results are written.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(path: &Path) -> Result<Self, BenchError> {
        fs::create_dir_all(path).map_err(|source| BenchError::Report {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Writes the raw figures, the page and the plots of one run, and the list of all runs anew. Plots are (name, plot) and
    /// named `STEM-NAME.svg`; the page shows them at its end.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(
        &self,
        stem: &str,
        raw: &impl Serialize,
        page: &str,
        plots: &[(&str, Plot)],
    ) -> Result<(), BenchError> {
        write_json(&self.path.join(format!("{stem}.json")), raw)?;
        let mut page = page.to_owned();
        for (name, plot) in plots {
            let file = format!("{stem}-{name}.svg");
            self.text(&file, &plot.svg())?;
            // Writing to a string does not fail.
            let _ = write!(page, "\n![{}]({file})\n", plot.title);
        }
        let _ = write!(page, "\nRaw figures: [{stem}.json]({stem}.json)\n");
        self.text(&format!("{stem}.md"), &page)?;
        self.text(INDEX, &self.index())
    }

    fn text(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|source| BenchError::Report { path, source })
    }

    /// The list of all runs, from what is in the folder.
    fn index(&self) -> String {
        let mut text =
            "# Runs\n\nWritten by `fanfare bench`; [how to repeat them](../benchmarks.md).\n\n\
                        | run | what | when | build |\n|---|---|---|---|\n"
                .to_owned();
        if !self.path.ends_with("docs/benchmarks") {
            // Elsewhere the page is not beside it.
            text = text.replace("; [how to repeat them](../benchmarks.md)", "");
        }
        for (stem, what) in RUNS {
            let (name, when, build) = match self.made(stem) {
                Some((name, when, build)) => (name, when, build),
                None => (stem.to_owned(), "not made".to_owned(), String::new()),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {name} | {what} | {when} | {build} |");
        }
        text
    }

    /// Name, date and build of a run that was made.
    fn made(&self, stem: &str) -> Option<(String, String, String)> {
        let raw = fs::read(self.path.join(format!("{stem}.json"))).ok()?;
        let raw: Value = serde_json::from_slice(&raw).ok()?;
        let circumstances = raw.get("circumstances").unwrap_or(&raw);
        let when = circumstances.get("started_unix_ms")?.as_u64()?;
        let build = circumstances.get("build").and_then(Value::as_str);
        let page = format!("{stem}.md");
        let target = match self.path.join(&page).exists() {
            true => page,
            false => format!("{stem}.json"),
        };
        Some((
            format!("[{stem}]({target})"),
            date(when),
            build.unwrap_or("not told").to_owned(),
        ))
    }
}

/// The day of a time, as 2026-11-21.
pub(crate) fn date(unix_ms: u64) -> String {
    // Days since 1970-01-01 to a date of the Gregorian calendar, counted in eras of 400 years from 0000-03-01.
    let days = (unix_ms / 86_400_000) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A table in Markdown. The first column is text, the others are numbers and stand to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = line(&head);
    text.push_str("|---|");
    text.push_str(&"---:|".repeat(head.len().saturating_sub(1)));
    text.push('\n');
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

/// Microseconds as milliseconds, with what precision is worth showing.
pub(crate) fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    match ms {
        short if short < 10.0 => format!("{short:.2}"),
        middle if middle < 100.0 => format!("{middle:.1}"),
        long => format!("{long:.0}"),
    }
}

/// A whole number with a comma between thousands.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 {
        text.insert(0, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::TempDir;
    use crate::plot::Scale;

    #[test]
    fn days_have_their_dates() {
        for (ms, expected) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_795_291_596_828, "2026-11-21"),
            (4_102_444_799_000, "2099-12-31"),
        ] {
            assert_eq!(date(ms), expected);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        let cases = [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1_000.0, "-1,000"),
        ];
        for (value, expected) in cases {
            assert_eq!(grouped(value), expected);
        }
        assert_eq!(
            (ms(1_234), ms(45_670), ms(345_678)),
            ("1.23".into(), "45.7".into(), "346".into())
        );
    }

    #[test]
    fn a_run_is_written_and_listed_and_others_are_not_made() {
        let dir = TempDir::new().unwrap();
        let folder = Folder::open(&dir.path().join("deep/er")).unwrap();
        let raw = serde_json::json!({"circumstances": Circumstances { started_unix_ms: 951_782_400_000, build: "release".into(), ..Circumstances::default() }});
        let plot = Plot::new("t", "s", ("x", Scale::Linear), ("y", Scale::Linear));
        folder
            .write("scenario-c", &raw, "# C\n", &[("nodes", plot)])
            .unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join("deep/er").join(name)).unwrap();
        assert!(read("scenario-c.md").contains("](scenario-c-nodes.svg)"));
        assert!(read("scenario-c-nodes.svg").starts_with("<svg"));
        let index = read(INDEX);
        assert!(
            index.contains("| [scenario-c](scenario-c.md) |")
                && index.contains("2000-02-29 | release |"),
            "{index}"
        );
        assert!(
            index.contains("| scenario-a | ")
                && index.matches("not made").count() == RUNS.len() - 1
        );
        assert!(!index.contains("../benchmarks.md"));
    }

    #[test]
    fn the_list_of_the_repository_is_that_of_its_files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
        let folder = Folder::open(&path).unwrap();
        let written = fs::read_to_string(path.join(INDEX)).unwrap();
        assert_eq!(
            written,
            folder.index(),
            "any `fanfare bench scenario` writes it anew"
        );
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let text = table(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(text, "| a | b |\n|---|---:|\n| 1 | 2 |\n");
    }
}
