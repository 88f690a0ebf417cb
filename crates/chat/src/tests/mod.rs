//! The app on the real database, as two nodes that share it and the state.

mod client;
mod house;
mod marks;
mod oracle;
