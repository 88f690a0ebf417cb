//! The official client, a real `EventSource` and the page itself, in Node.js and in headless Chromium.
//!
//! The scripts are in `tests/browser`; each takes `--url` of a node open to everybody and ends with 0 when all is well.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::{repository, servers, wait::patience};

/// What a script says when it wants the server to be killed, or started again.
const KILL: &str = "please: kill";
const START: &str = "please: start";

#[test]
fn the_official_client() {
    run("centrifuge-client.mjs");
}

#[test]
fn the_official_client_in_protobuf() {
    let node = servers::start(servers::dev());
    let arguments = ["--url", &node.url(), "--protobuf", "--far", "10000"];
    run_script("centrifuge-client.mjs", &arguments, &[&node]);
}

#[test]
fn the_official_client_that_was_away_for_a_hundred_thousand_publications() {
    let node = servers::start(servers::dev());
    let arguments = ["--url", &node.url(), "--count", "100000"];
    run_script("far-behind.mjs", &arguments, &[&node]);
}

#[test]
fn a_real_event_source() {
    run("eventsource.mjs");
}

#[test]
fn event_sources_that_are_turned_away() {
    let config = "connections_per_second = 1\nconnections_burst = 1\n";
    let options = NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    };
    run_at("turned-away.mjs", options);
}

#[test]
fn the_page() {
    run("page.mjs");
}

#[track_caller]
fn run(script: &str) {
    run_at(script, servers::dev());
}

#[track_caller]
fn run_at(script: &str, options: NodeOptions) {
    let node = servers::start(options);
    run_script(script, &["--url", &node.url()], &[&node]);
}

/// Runs a script; what it and the nodes said is told if it fails.
#[track_caller]
pub(crate) fn run_script(script: &str, arguments: &[&str], nodes: &[&Node]) {
    let folder = repository().join("tests/browser");
    assert!(
        folder.join("node_modules").is_dir(),
        "the packages of tests/browser are not installed: run `npm ci` there"
    );
    let output = Command::new("node")
        .arg(script)
        .args(arguments)
        .args(["--patience", &patience().as_secs().to_string()])
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
        "{script} ended with {}\n{}\n{}\nthe servers said:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        said.join("\n")
    );
}

/// Runs a script, and does to the node what it asks for.
#[track_caller]
pub(crate) fn converse(script: &str, arguments: &[String], node: &mut Node) {
    let mut child = Command::new("node")
        .arg(script)
        .args(arguments)
        .args(["--patience", &patience().as_secs().to_string()])
        .args(std::env::var("FANFARE_SCREENSHOTS").map(|folder| format!("--screenshots={folder}")))
        .current_dir(repository().join("tests/browser"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut said = String::new();
    let mut servers_said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.as_str() {
            KILL => {
                servers_said.push_str(&node.stderr());
                node.kill();
            }
            START => node.restart().unwrap(),
            _ => {}
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().unwrap();
    assert!(
        status.success(),
        "{script} ended with {status}\n{said}\n{}\nthe server said:\n{servers_said}\n{}",
        errors.join().unwrap_or_default(),
        node.stderr()
    );
}
