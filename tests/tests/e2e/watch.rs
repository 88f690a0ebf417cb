//! The watch party with the official Socket.IO client: alone on the embedded database, and on two nodes, whose Redis hangs
//! for a while and of which one dies.

use std::process::{Command, Stdio};

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::{repository, servers};

/// What the nodes of a cluster sign with: who is known to one is known to all.
const SECRET: &str = "the secret of two nodes, 32 bytes";

#[test]
fn a_party_on_one_node() {
    let node = servers::start(servers::dev());
    party(&[&node], &["--url", &node.url()]);
}

#[test]
fn a_party_on_two_nodes_of_which_one_is_killed() {
    let (redis, database) = (servers::redis(), servers::database());
    let start = |name: &str| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            token_secret: Some(SECRET.to_owned()),
            ..servers::dev()
        })
    };
    let nodes = [start("one"), start("two")];
    let [one, two] = &nodes;
    let (shared, victim) = (redis.pid().to_string(), two.pid().to_string());
    let arguments = [
        "--url",
        &one.url(),
        "--other",
        &two.url(),
        "--redis",
        &shared,
        "--victim",
        &victim,
        "--patience",
        "30",
    ];
    party(&[one, two], &arguments);
}

#[track_caller]
fn party(nodes: &[&Node], arguments: &[&str]) {
    let folder = repository().join("tests/browser");
    assert!(
        folder.join("node_modules/socket.io-client").is_dir(),
        "the packages of tests/browser are not installed: run `npm ci` there"
    );
    let output = Command::new("node")
        .arg("watch.mjs")
        .args(arguments)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("`node` could not be started (install nodejs): {error}"),
    };
    let said: Vec<String> = nodes.iter().map(|node| node.stderr()).collect();
    assert!(
        output.status.success(),
        "watch.mjs ended with {}\n{}\n{}\nthe servers said:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        said.join("\n---\n")
    );
    println!("{}", String::from_utf8_lossy(&output.stdout));
}
