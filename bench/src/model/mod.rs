//! `fanfare bench model`: from measured unit costs to what any load needs: nodes, processors, Redis and PostgreSQL.
//!
//! The unit costs come out of the raw figures that the other commands leave in one folder; nothing is assumed where something
//! was measured, and what was not measured is refused with the command that measures it. docs/capacity.md has the equations.

mod args;
mod check;
mod costs;
mod page;
mod predict;
mod sources;

pub use self::args::ModelArgs;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::BenchError;
use crate::model::costs::UnitCosts;
use crate::model::predict::{Prediction, predict};
use crate::model::sources::Sources;
use crate::output::{Circumstances, Folder};
use crate::report::write_json;

/// The measured costs, apart from the predictions, so that they can be changed and used again.
const COSTS_FILE: &str = "unit-costs.json";

/// Runs it.
///
/// # Errors
/// When there are no costs, or a file cannot be read or written.
pub(crate) fn run(args: &ModelArgs) -> Result<(), BenchError> {
    let machine = args.machine()?;
    let sources = Sources::read(&args.from)?;
    let costs = match &args.costs {
        Some(path) => read_costs(path)?,
        None => sources.costs()?,
    };
    let comparisons = check::compare(&sources, &costs);
    let workloads = args.workloads()?;
    let predictions: Vec<Prediction> = workloads
        .iter()
        .map(|workload| predict(&costs, workload, &machine))
        .collect();
    let page = page::render(&costs, &machine, &predictions, &comparisons);
    if let Some(out) = &args.out {
        let circumstances = Circumstances {
            build: sources.build().to_owned(),
            ..Circumstances::now()
        };
        let raw = serde_json::json!({
            "circumstances": circumstances,
            "costs": costs,
            "predictions": predictions,
            "comparisons": comparisons,
        });
        let folder = Folder::open(out)?;
        write_json(&out.join(COSTS_FILE), &costs)?;
        folder.write("model", &raw, &page, &[])?;
    }
    // Whoever read the page may have gone.
    let _ = std::io::stdout().write_all(page.as_bytes());
    Ok(())
}

fn read_costs(path: &Path) -> Result<UnitCosts, BenchError> {
    let read = fs::read(path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.map_err(|source| BenchError::option("--costs", format!("{}: {source}", path.display())))
}
