//! The chat with the official clients of Slack, unchanged but for their base URL: the Web API, and Socket Mode on one node and on two, of which
//! Redis and one node are killed, or one is told to stop.
//!
//! The scripts are in `tests/browser` and `tests/python`.

use std::process::{Command, Stdio};

use fanfare_bench::local::Node;
use fanfare_tests::{repository, servers, wait::patience};

use crate::browser::run_script;

#[test]
fn the_official_client_of_the_web_api() {
    let node = servers::start(servers::dev());
    run_script("chat-sdk.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn a_day_in_a_workspace() {
    let node = servers::start(servers::dev());
    run_script("chat-scenario.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn the_official_client_of_socket_mode_and_the_bot_of_the_documentation() {
    let node = servers::start(servers::dev());
    run_script("chat-sockets.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn the_official_client_in_python() {
    let node = servers::start(servers::dev());
    run_python("chat_sdk.py", &["--url", &node.url()], &node);
}

#[test]
fn two_nodes_of_which_redis_and_one_are_killed() {
    let cluster = servers::Cluster::start(2);
    let [one, two] = &cluster.nodes[..] else {
        panic!("two nodes were started");
    };
    let (redis, victim) = (cluster.redis.pid().to_string(), two.pid().to_string());
    let arguments = [
        "--url",
        &one.url(),
        "--other",
        &two.url(),
        "--redis",
        &redis,
        "--victim",
        &victim,
    ];
    run_script("chat-nodes.mjs", &arguments, &[one, two]);
}

#[test]
fn a_node_that_stops_sends_its_apps_to_another() {
    let cluster = servers::Cluster::start(2);
    let [one, two] = &cluster.nodes[..] else {
        panic!("two nodes were started");
    };
    let leaver = two.pid().to_string();
    let arguments = [
        "--url",
        &one.url(),
        "--other",
        &two.url(),
        "--leaver",
        &leaver,
    ];
    run_script("chat-nodes.mjs", &arguments, &[one, two]);
}

/// Runs a script with the packages of `tests/python`; what it and the node said is told if it fails.
#[track_caller]
fn run_python(script: &str, arguments: &[&str], node: &Node) {
    let folder = repository().join("tests/python");
    let python = folder.join(".venv/bin/python");
    assert!(
        python.is_file(),
        "the packages of tests/python are not installed: run `make python-packages`"
    );
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .args(["--patience", &patience().as_secs().to_string()])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("python could not be started: {error}"),
    };
    assert!(
        output.status.success(),
        "{script} ended with {}\n{}\n{}\nthe server said:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        node.stderr()
    );
}
