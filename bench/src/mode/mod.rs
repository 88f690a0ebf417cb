//! The benchmarks, and what they have in common: setting up, one phase of publishing, judging, reporting.

pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod commits;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod run;

mod judge;
mod phase;
mod setup;

pub(crate) use self::judge::{judge, judge_publications, reached};
pub(crate) use self::phase::{Phase, publish};
pub(crate) use self::run::drain;
pub(crate) use self::setup::{Setup, conclude, positive};
