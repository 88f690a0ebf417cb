//! The watch party's page in headless Chromium, over two nodes on one PostgreSQL and one Redis, and on one node alone.
//!
//! The script is `tests/browser/watch-page.mjs`; it asserts no timing but that the videos come together in the end.
//! `make watch-sync` measures how far they are from each other.

use std::process::{Command, Stdio};

use fanfare_bench::local::Node;
use fanfare_tests::repository;
use fanfare_tests::servers::{self, Cluster};

#[test]
fn two_browsers_watch_together_over_two_nodes() {
    let cluster = Cluster::start(2);
    check(&cluster.nodes[0], &cluster.nodes[1]);
}

#[test]
fn two_browsers_watch_together_on_one_node_with_nothing_beside_it() {
    let node = servers::start(servers::dev());
    check(&node, &node);
}

#[track_caller]
fn check(node: &Node, other: &Node) {
    let folder = repository().join("tests/browser");
    assert!(
        folder.join("node_modules").is_dir(),
        "the packages of tests/browser are not installed: run `npm ci` there"
    );
    let output = Command::new("node")
        .arg("watch-page.mjs")
        .args(["--url", &node.url(), "--other", &other.url()])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("`node` could not be started (install nodejs): {error}"),
    };
    assert!(
        output.status.success(),
        "watch-page.mjs ended with {}\n{}\n{}\nthe servers said:\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        node.stderr(),
        other.stderr()
    );
}
