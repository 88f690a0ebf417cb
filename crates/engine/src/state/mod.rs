//! What stands between the shared state and those who use it.

pub(crate) mod fill;
