//! The official Socket.IO client: on one node and on two, and when its node ends. The scripts are in `tests/browser`.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::{api::Api, jwt, servers, servers::Cluster, wait::eventually};
use serde_json::json;

use crate::browser::run_script;

#[test]
fn the_official_socketio_client_on_one_node() {
    let node = servers::start(servers::dev());
    run_script("socketio-client.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn the_official_socketio_client_on_two_nodes() {
    let cluster = acquainted();
    let [near, far] = [&cluster.nodes[0], &cluster.nodes[1]];
    let arguments = ["--url", &near.url(), "--other", &far.url()];
    run_script("socketio-client.mjs", &arguments, &[near, far]);
}

#[test]
fn socketio_clients_go_on_elsewhere_when_their_node_is_killed() {
    ends_with("SIGKILL");
}

#[test]
fn socketio_clients_go_on_elsewhere_when_their_node_is_drained() {
    ends_with("SIGTERM");
}

#[test]
fn a_socketio_client_is_told_what_retention_has_removed() {
    let config = "retention_interval = \"100ms\"\n[[namespaces]]\nname = \"demo\"\nsubscribe = \"anyone\"\n\
                  publish = \"anyone\"\nhistory = \"anyone\"\nhistory_max_count = 10\n";
    let node = servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    });
    run_script("socketio-truncated.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn socketio_clients_are_let_in_by_tokens() {
    const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
    const KEY: &str = "an-api-key-of-the-tests";
    let mut options = servers::closed(KEY, SECRET);
    let config = "[[namespaces]]\nname = \"private\"\nhistory = \"subscriber\"\n";
    options.config = Some(config.to_owned());
    let node = servers::start(options);
    let expires = jwt::seconds_from_now(3600);
    let connection = json!({ "sub": "alice", "iat": jwt::seconds_from_now(0), "exp": expires });
    let subscription = json!({ "sub": "alice", "channel": "private:a", "exp": expires });
    let arguments = [
        "--url",
        &node.url(),
        "--api-key",
        KEY,
        "--token",
        &jwt::sign(SECRET, &connection),
        "--subscription-token",
        &jwt::sign(SECRET, &subscription),
    ];
    run_script("socketio-tokens.mjs", &arguments, &[&node]);
}

fn ends_with(signal: &str) {
    let cluster = acquainted();
    let [ended, other] = [&cluster.nodes[0], &cluster.nodes[1]];
    let pid = ended.pid().to_string();
    let arguments = [
        "--url",
        &ended.url(),
        "--other",
        &other.url(),
        "--pid",
        &pid,
        "--signal",
        signal,
    ];
    run_script("socketio-crash.mjs", &arguments, &[ended, other]);
}

/// Two nodes that have heard of each other.
pub(crate) fn acquainted() -> Cluster {
    let cluster = Cluster::start(2);
    for node in &cluster.nodes {
        eventually("a node knows both", || knows_both(node));
    }
    cluster
}

fn knows_both(node: &Node) -> Option<()> {
    let info = Api::new(node.address()).call("info", &json!({})).ok()?;
    (info["nodes"].as_array()?.len() == 2).then_some(())
}
