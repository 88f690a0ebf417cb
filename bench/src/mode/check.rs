//! `fanfare bench check`: judges histories that `--history` wrote.

use std::io::Write;

use crate::args::CheckArgs;
use crate::error::BenchError;
use crate::history::{CheckReport, check};
use crate::report::write_json;

/// Runs it.
pub(crate) fn run(args: &CheckArgs) -> Result<(), BenchError> {
    conclude(&check(&args.files)?, args)
}

fn conclude(report: &CheckReport, args: &CheckArgs) -> Result<(), BenchError> {
    // Whoever read the table may have gone; the verdict is told all the same.
    let _ = std::io::stdout().write_all(report.table().as_bytes());
    if let Some(path) = &args.json {
        write_json(path, report)?;
    }
    if report.passed {
        Ok(())
    } else {
        Err(BenchError::Violated {
            reasons: report.reasons(),
        })
    }
}
