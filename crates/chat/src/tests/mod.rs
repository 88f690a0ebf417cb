//! The app on the real database, as two nodes that share it and the state.

mod attempts;
mod client;
mod house;
mod later;
mod marks;
mod oracle;
mod pages;
pub(crate) mod people;
mod talk;
