//! The mail page in headless Chromium: on a server with Google's stand-in beside it, which is killed and started again, and on the
//! demonstration that `--dev` gives.
//!
//! The scripts are `tests/browser/mail-page.mjs` and `mail-demo.mjs`.

use std::net::SocketAddr;

use fanfare_bench::local::{NodeOptions, free_address};
use fanfare_stand_in::{Google, pubsub::PushConfig};
use fanfare_tests::servers;

use crate::browser::{converse, run_script};

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
