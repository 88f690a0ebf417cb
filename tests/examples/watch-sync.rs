//! Measures how far two browsers are from each other that watch the same room on two nodes: a private PostgreSQL and
//! Redis, two nodes, a line of 500±100 ms before the second one, and `tests/browser/watch-sync.mjs`.
//!
//! `make watch-sync` builds what it needs and runs it; arguments go to the script.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use fanfare_bench::proxy::{Content, Faults, PathFaults, Proxy};
use fanfare_tests::repository;
use fanfare_tests::servers::Cluster;

/// What the slow line adds in each direction: 400 ms, and up to 200 ms more.
const DELAY: Duration = Duration::from_millis(400);
const JITTER: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cluster = Cluster::start(2);
    let [left, right] = &cluster.nodes[..] else {
        unreachable!("two were started")
    };
    let slow = match Proxy::start(right.address(), Content::Bytes) {
        Ok(proxy) => proxy,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    slow.set(Faults::both(PathFaults {
        delay: DELAY,
        jitter: JITTER,
        ..PathFaults::default()
    }));
    let status = Command::new("node")
        .arg("watch-sync.mjs")
        .args(["--url", &left.url(), "--other", &right.url()])
        .args(["--slow", &format!("http://{}", slow.address())])
        .args(std::env::args_os().skip(1))
        .current_dir(repository().join("tests/browser"))
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("`node` could not be started (install nodejs): {error}");
            ExitCode::FAILURE
        }
    }
}
