//! What the end to end tests of Fanfare are made of: small blocking clients of its public protocols, and the servers
//! that the tests start.
//!
//! The clients know the wire and nothing else: no type of the product is used, so that a mistake in one cannot hide
//! in both. They panic with a sentence when the server breaks its contract, and give a `Result` where a test means to
//! look at a refusal.

pub mod api;
pub mod backend;
pub mod expect;
pub mod hold;
pub mod http;
pub mod jwt;
pub mod mail;
pub mod schema;
pub mod servers;
pub mod slow;
pub mod sse;
pub mod stream;
pub mod wait;
pub mod webhook;
pub mod ws;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or_else(|| tests.clone(), PathBuf::from)
}
