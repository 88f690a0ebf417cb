//! What stands between the shared state and those who use it: [`SharedState`] goes on with what this node knows while the
//! shared state is away, [`Limiter`] spares it most of the questions about limits.

mod again;
pub(crate) mod fill;
mod keeper;
mod known;
mod limiter;
#[cfg(test)]
mod tests;

pub use keeper::{CALL_MAX, SharedState};
pub use known::{KNOWN_OBJECTS_BYTES_MAX, KNOWN_OBJECTS_MAX};
pub use limiter::{LIMITER_KEYS_MAX, Limiter, WhenAway};
