//! The fault runner: for each row of a matrix, private servers under load, a fault, quiet, and a judgement of
//! everything that clients did and saw.
//!
//! Two kinds of promise are told apart. What is lost, repeated, out of order or skipped breaks a rule of the history, on
//! any machine, under any load. How long something took is compared with its bound only where the machine was not
//! overloaded, and fails the full form only.

mod args;
mod busy;
mod guests;
mod judge;
mod outcome;
mod probe;
mod row;
mod rows;
mod runner;
mod scenario;
mod scene;
mod stage;
mod table;

pub use self::args::{FaultsArgs, ScenarioBArgs};

pub(crate) use self::probe::exchange;
pub(crate) use self::scenario::{ScenarioBFigures, run as run_scenario_b};

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::BenchError;
use crate::faults::outcome::RowReport;
use crate::faults::row::Row;
use crate::report::{Machine, write_json};
use crate::system;

/// The report in the folder of a run.
const REPORT_FILE: &str = "faults.json";

/// All of a run, as it is written.
#[derive(Debug, Serialize)]
struct Report<'a> {
    generator_version: &'static str,
    short: bool,
    machine: &'a Machine,
    rows: &'a [RowReport],
}

/// Runs the rows that are asked for, one after the other.
///
/// # Errors
/// [`BenchError::Violated`] when a rule was broken, a row could not be run, or, in the full form, a bound was missed.
pub(crate) fn run(args: &FaultsArgs) -> Result<(), BenchError> {
    let rows = choose(&args.rows)?;
    if args.list {
        for row in rows {
            say(&format!(
                "{:>3}  {}: {}\n     {}\n",
                row.number, row.name, row.how, row.promise
            ));
        }
        return Ok(());
    }
    let folder = folder(args.out.as_deref())?;
    let machine = system::machine();
    let mut reports = Vec::with_capacity(rows.len());
    for row in &rows {
        // People see what is going on; nobody has to.
        let _ = writeln!(std::io::stderr(), "row {}: {}", row.number, row.name);
        let report = runner::run(row, args.short, &folder, args.keep);
        say(&table::lines(&report));
        reports.push(report);
        // Written after each row, so that a run that is broken off leaves what it found.
        write_reports(args, &folder, &machine, &reports)?;
    }
    say(&table::summary(&reports));
    say(&format!("report: {}\n", folder.join(REPORT_FILE).display()));
    let failed = reports.iter().filter(|report| report.fails(args.short));
    let reasons: Vec<String> = failed
        .map(|report| format!("row {} {}", report.number, report.state.word()))
        .collect();
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(BenchError::Violated { reasons })
    }
}

fn choose(wanted: &[String]) -> Result<Vec<Row>, BenchError> {
    let all = rows::all();
    if wanted.is_empty() {
        return Ok(all);
    }
    let find = |number: &String| {
        let row = all.iter().find(|row| row.number == number.trim());
        row.copied().ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|row| row.number).collect();
            BenchError::option(
                "--rows",
                format!("no row {number}; there are {}", known.join(", ")),
            )
        })
    };
    wanted.iter().map(find).collect()
}

fn folder(out: Option<&Path>) -> Result<PathBuf, BenchError> {
    let folder = out.map_or_else(
        || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let ms = now.map_or(0, |since| since.as_millis());
            std::env::temp_dir().join(format!("fanfare-faults-{ms:x}"))
        },
        Path::to_owned,
    );
    fs::create_dir_all(&folder).map_err(|source| BenchError::Report {
        path: folder.clone(),
        source,
    })?;
    Ok(folder)
}

fn write_reports(
    args: &FaultsArgs,
    folder: &Path,
    machine: &Machine,
    rows: &[RowReport],
) -> Result<(), BenchError> {
    let report = Report {
        generator_version: env!("CARGO_PKG_VERSION"),
        short: args.short,
        machine,
        rows,
    };
    write_json(&folder.join(REPORT_FILE), &report)?;
    match &args.markdown {
        Some(path) => write_markdown(path, &table::markdown(rows, machine)),
        None => Ok(()),
    }
}

/// Puts the table into a page between its marks; a page without them, or none, is replaced by it.
fn write_markdown(path: &Path, table: &str) -> Result<(), BenchError> {
    let page = fs::read_to_string(path).unwrap_or_default();
    let text = between_marks(&page, table).unwrap_or_else(|| table.to_owned());
    fs::write(path, text).map_err(|source| BenchError::Report {
        path: path.to_owned(),
        source,
    })
}

/// Where the table of a page begins and ends.
const MARKS: (&str, &str) = ("<!-- fault matrix -->\n", "<!-- end of fault matrix -->");

fn between_marks(page: &str, table: &str) -> Option<String> {
    let begin = page.find(MARKS.0)? + MARKS.0.len();
    let end = begin + page[begin..].find(MARKS.1)?;
    Some(format!("{}{table}{}", &page[..begin], &page[end..]))
}

/// Whoever read the output may have gone; the verdict is told all the same.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_between_its_marks() {
        let page = format!("before\n{}old\n{}\nafter\n", MARKS.0, MARKS.1);
        let expected = page.replace("old", "new");
        assert_eq!(between_marks(&page, "new\n"), Some(expected));
        assert_eq!(between_marks("a page", "new"), None);
    }

    #[test]
    fn rows_are_chosen_by_their_numbers() {
        let chosen = choose(&["34".to_owned(), " 5".to_owned()]).unwrap();
        let numbers: Vec<&str> = chosen.iter().map(|row| row.number).collect();
        assert_eq!(numbers, ["34", "5"]);
        assert_eq!(choose(&[]).unwrap().len(), rows::all().len());
        let unknown = choose(&["99".to_owned()])
            .err()
            .map(|error| error.to_string());
        assert!(unknown.is_some_and(|text| text.contains("no row 99")));
    }
}
