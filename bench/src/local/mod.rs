//! Real servers as child processes of a benchmark or a test: a private PostgreSQL, a private Redis (one server, a set with
//! sentinels, or a cluster), `fanfare serve`.
//!
//! Each server listens on a free loopback port, keeps its files in a temporary directory of its own, and dies with its
//! handle and with this process, whichever goes first, however it goes. Nothing here touches a server that it did not
//! start, and nothing is downloaded: what is missing is named in the error together with the package that has it.
//!
//! Everything blocks; there is no runtime to bring along. `process` has what they have in common.

mod disk;
mod error;
mod node;
mod postgres;
mod process;
mod redis;
mod redis_cluster;
mod resp;
mod sentinel;
mod tempdir;

pub use self::disk::SmallDisk;
pub use self::error::LocalError;
pub use self::node::{Node, NodeOptions};
pub use self::postgres::{Postgres, Session};
pub use self::redis::Redis;
pub use self::redis_cluster::RedisCluster;
pub use self::sentinel::Sentinels;
pub use self::tempdir::TempDir;

pub(crate) use self::process::{Process, find_program, read_log};

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to become ready, or to end after it was asked to, before that counts as a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a start is tried again on another port when some other process was quicker to take the first one.
pub const PORT_ATTEMPTS_MAX: usize = 5;

/// The ports that [`free_address`] chooses from: below those that Linux gives to outgoing connections by itself, so
/// that a server which was killed finds its port free again when it comes back.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A loopback address that nothing listens on at this moment.
///
/// The port is given back before the caller takes it, so another process may get it first: starters here try again
/// up to [`PORT_ATTEMPTS_MAX`] times. One process is not given the same port twice before all have had their turn.
///
/// # Errors
/// [`LocalError::Io`] when all ports are taken.
pub fn free_address() -> Result<SocketAddr, LocalError> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Processes started one after the other begin far from each other.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(641)));
    let mut refusal = io::Error::other("every port was tried");
    for _ in PORTS {
        let step = next.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u32;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + step as u16));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => refusal = error,
        }
    }
    Err(LocalError::io("find a free port", refusal))
}

/// Looks again and again until `look` finds something; after `patience` that is an error which says what was awaited.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, LocalError> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            let source = io::Error::new(io::ErrorKind::TimedOut, "it did not happen in time");
            return Err(LocalError::io(format!("see that {what}"), source));
        }
        thread::sleep(process::POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_are_free() {
        let first = free_address().unwrap();
        let second = free_address().unwrap();
        assert_ne!(first, second);
        assert!(first.ip().is_loopback());
        assert!(PORTS.contains(&first.port()));
        TcpListener::bind(first).unwrap();
    }
}
