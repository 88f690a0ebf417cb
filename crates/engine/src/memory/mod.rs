//! In-memory twins of the ports: for tests, for the simulation, and where one process is all there is.

pub mod absent;
pub mod bus;
pub mod log;
pub mod peers;
pub mod state;
pub mod tables;
