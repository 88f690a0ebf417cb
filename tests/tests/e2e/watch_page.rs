//! The watch party's page in headless Chromium, over two nodes on one PostgreSQL and one Redis, and on one node alone.
//!
//! The script is `tests/browser/watch-page.mjs`; it asserts no timing but that the videos come together in the end.
//! `make watch-sync` measures how far they are from each other.

use fanfare_bench::local::Node;
use fanfare_tests::servers::{self, Cluster};

use crate::browser::run_script;

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
    let arguments = ["--url", &node.url(), "--other", &other.url()];
    run_script("watch-page.mjs", &arguments, &[node, other]);
}
