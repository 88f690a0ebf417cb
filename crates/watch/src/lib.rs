//! The watch party.
mod instant;
pub mod playback;
pub mod turn;
