//! The benchmarks, and what they have in common: setting up, one phase of publishing, judging, reporting.

pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod commits;
pub(crate) mod fanout;
pub(crate) mod fanout_page;
pub(crate) mod heads;
pub(crate) mod idle;
pub(crate) mod run;
pub(crate) mod servers;
pub(crate) mod versus;

mod judge;
mod phase;
mod setup;

pub(crate) use self::judge::{Judged, judge, judge_publications, reached};
pub(crate) use self::phase::{Phase, publish, publish_watched};
pub(crate) use self::run::drain;
pub(crate) use self::setup::{Setup, conclude, not_negative, positive};
