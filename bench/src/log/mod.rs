//! The log by itself: durable publishes with nobody listening. `fanfare bench log` raises the rate until acknowledgements no
//! longer hold their bound, `fanfare bench soak` keeps one rate for long and watches what that leaves behind.

mod args;
mod ladder;
mod report;
mod soak;
mod stand;
mod tables;

pub use self::args::{LogArgs, LogKind, SoakArgs, Traffic};

pub(crate) use self::ladder::run;
pub(crate) use self::soak::run as run_soak;
