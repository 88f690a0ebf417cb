//! `fanfare bench check`: judges histories that `--history` wrote.

use std::fs;
use std::io::Write;

use crate::args::CheckArgs;
use crate::error::BenchError;
use crate::history::{CheckReport, check};

/// Runs it.
pub(crate) fn run(args: &CheckArgs) -> Result<(), BenchError> {
    conclude(&check(&args.files)?, args)
}

fn conclude(report: &CheckReport, args: &CheckArgs) -> Result<(), BenchError> {
    // Whoever read the table may have gone; the verdict is told all the same.
    let _ = std::io::stdout().write_all(report.table().as_bytes());
    if let Some(path) = &args.json {
        let written = serde_json::to_vec_pretty(report)
            .map_err(std::io::Error::from)
            .and_then(|mut text| {
                text.push(b'\n');
                fs::write(path, text)
            });
        written.map_err(|source| BenchError::Report {
            path: path.clone(),
            source,
        })?;
    }
    if report.passed {
        Ok(())
    } else {
        Err(BenchError::Violated {
            reasons: report.reasons(),
        })
    }
}
