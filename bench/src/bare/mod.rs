//! The yardstick: a program that accepts WebSockets and writes what has come, one `write` per socket and pass, and
//! nothing else. It commits nothing, keeps nothing, checks nobody and heals nothing.
//!
//! It speaks just enough of the Centrifuge protocol and of `POST /api/publish` to be driven by the same generator, with the
//! same bytes in each frame, as a real server. What it reaches is what the kernel lets one thread reach, so a server's
//! figures can be given as a ratio to it.

mod args;
mod door;
mod feed;
mod launch;
mod server;
mod wire;

pub use self::args::BareArgs;

pub(crate) use self::launch::Yardstick;
pub(crate) use self::server::run;
