//! The mail page in headless Chromium: on a server with Google's stand-in beside it, which is killed and started again, and on the
//! demonstration that `--dev` gives.
//!
//! The scripts are `tests/browser/mail-page.mjs` and `mail-demo.mjs`.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use fanfare_bench::local::{Node, NodeOptions, free_address};
use fanfare_stand_in::{Google, pubsub::PushConfig};
use fanfare_tests::{repository, servers, wait::patience};

use crate::browser::run_script;

/// What the script says when it wants the server to be killed, or started again.
const KILL: &str = "please: kill";
const START: &str = "please: start";

#[test]
fn the_mailbox_follows_gmail_through_crashes_and_over_both_transports() {
    let address = free_address().unwrap();
    let google = Google::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let audience = format!("http://{address}/webhooks/gmail");
    let push = PushConfig::default();
    let service_account = push.service_account.clone();
    google.set_push(PushConfig {
        endpoint: audience.clone(),
        audience,
        ..push
    });
    let mut node = servers::start(NodeOptions {
        listen: Some(address.to_string()),
        config: Some(config(address, &google.url(), &service_account)),
        ..servers::closed("a key of this test", "a secret of this test, long enough")
    });
    let google_url = google.url();
    let arguments = ["--url", &node.url(), "--google", &google_url].map(str::to_owned);
    converse("mail-page.mjs", &arguments, &mut node);
}

#[test]
fn the_demonstration_does_on_another_device_what_is_pressed() {
    let node = servers::start(servers::dev());
    run_script("mail-demo.mjs", &["--url", &node.url()], &[&node]);
}

fn config(address: SocketAddr, google: &str, service_account: &str) -> String {
    format!(
        "[mail]
enabled = true
public_url = \"http://{address}\"
client_id = \"client\"
client_secret = \"secret\"
topic = \"projects/test/topics/gmail\"
service_account = \"{service_account}\"
encryption_key = \"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"
streams_per_user_max = 3
auth_url = \"{google}/o/oauth2/v2/auth\"
token_url = \"{google}/token\"
revoke_url = \"{google}/revoke\"
gmail_url = \"{google}\"
jwks_url = \"{google}/certs\"
"
    )
}

/// Runs a script, and does to the node what it asks for.
#[track_caller]
fn converse(script: &str, arguments: &[String], node: &mut Node) {
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
