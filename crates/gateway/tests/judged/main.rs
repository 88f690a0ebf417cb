//! An app judges its channels: real gateways on engines in memory, with a judge that answers when it is let.

mod client;
mod race;
mod rights;
mod scene;
