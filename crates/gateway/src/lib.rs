//! Centrifuge, SSE and HTTP in front of the Fanfare engine.
pub mod token;
