//! One contract suite per port: checks that every implementation passes, the in-memory twins first.

pub mod bus;
pub mod log;
pub mod peers;
pub mod state;
pub mod tables;
