//! The official client, a real `EventSource` and the page itself, in Node.js and in headless Chromium.
//!
//! The scripts are in `tests/browser`; each takes `--url` of a node open to everybody and ends with 0 when all is well.

use std::process::{Command, Stdio};

use fanfare_bench::local::NodeOptions;
use fanfare_tests::{repository, servers};

#[test]
fn the_official_client() {
    run("centrifuge-client.mjs");
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
    let folder = repository().join("tests/browser");
    assert!(
        folder.join("node_modules").is_dir(),
        "the packages of tests/browser are not installed: run `npm ci` there"
    );
    let node = servers::start(options);
    let output = Command::new("node")
        .arg(script)
        .args(["--url", &node.url()])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("`node` could not be started (install nodejs): {error}"),
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
