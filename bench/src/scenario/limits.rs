//! How many clients this machine holds: open files of each process, and memory.

use crate::crowd::{PER_PROCESS, PROCESSES_MAX};
use crate::system;

/// Files that a node has open beside its clients: databases, publishers, listeners, and the reserve that it keeps.
const NODE_FILES: u64 = 600;

/// Memory for one client, KiB: both ends of the socket with something in their buffers, the node's and the generator's state.
const CLIENT_KIB: u64 = 32;

/// The share of the free memory that clients may take.
const MEMORY_SHARE: f64 = 0.6;

/// The most clients, and what limits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Clients in all.
    pub(crate) clients: usize,
    /// What does not allow more.
    pub(crate) reason: String,
}

/// The most clients that so many nodes may have on this machine.
pub(crate) fn most_clients(nodes: usize) -> Limit {
    limit(
        nodes,
        system::open_files_max(),
        system::available_memory_mib(),
    )
}

fn limit(nodes: usize, open_files: u64, memory_mib: u64) -> Limit {
    let per_node = open_files.saturating_sub(NODE_FILES) as usize;
    let by_memory = (memory_mib as f64 * MEMORY_SHARE * 1024.0 / CLIENT_KIB as f64) as usize;
    let limits = [
        (
            nodes * per_node,
            format!("{open_files} open files for each of {nodes} nodes"),
        ),
        (
            by_memory,
            format!("{memory_mib} MiB of free memory, {CLIENT_KIB} KiB for a client"),
        ),
        (
            PER_PROCESS * PROCESSES_MAX,
            format!("{PROCESSES_MAX} processes of subscribers"),
        ),
    ];
    let least = limits.into_iter().min_by_key(|(clients, _)| *clients);
    // There are three.
    let (clients, reason) = least.unwrap_or_default();
    Limit { clients, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts_and_is_named() {
        let files = limit(2, 20_000, 20_000);
        assert_eq!(files.clients, 38_800);
        assert!(files.reason.contains("open files"), "{}", files.reason);
        let memory = limit(16, 20_000, 1_000);
        assert_eq!(memory.clients, 19_200);
        assert!(memory.reason.contains("memory"), "{}", memory.reason);
        assert!(limit(32, 1 << 30, 1 << 30).reason.contains("processes"));
        assert_eq!(limit(1, 100, 1_000).clients, 0);
    }
}
