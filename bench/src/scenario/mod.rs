//! Scenarios: stories with one end on a private cluster, each with its raw figures, a page and plots.
//!
//! A and C ask for more than any single machine can carry when they are taken literally (a million messages for ten
//! thousand clients each are ten billion deliveries). So they are measured in readings that say what they ask for, and
//! the literal one as far as the machine carries it, with the point at which it no longer does.

mod a;
mod args;
mod b;
mod c;
mod d;
mod limits;
mod point;
mod report;
mod stand;
mod storm;

pub use self::args::{
    LoadOptions, Scenario, ScenarioAArgs, ScenarioArgs, ScenarioCArgs, ScenarioDArgs,
    ScenarioStormArgs,
};
pub use self::point::{Cpu, Point};

pub(crate) use self::b::write as write_b;
pub(crate) use self::limits::most_clients;
pub(crate) use self::report::{NotMade, distributions};

use crate::error::BenchError;
use crate::faults::run_scenario_b;

/// Runs the scenario that is asked for.
///
/// # Errors
/// [`BenchError::Violated`] when anything was lost, repeated or out of order; the others when it could not be run. A
/// latency that misses its bound is a figure and no error.
pub(crate) fn run(args: &ScenarioArgs) -> Result<(), BenchError> {
    match &args.scenario {
        Scenario::A(args) => a::run(args),
        Scenario::B(args) => run_scenario_b(args),
        Scenario::C(args) => c::run(args),
        Scenario::D(args) => d::run(args),
        Scenario::Storm(args) => storm::run(args),
    }
}
