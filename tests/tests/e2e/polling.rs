//! Engine.IO's long-polling, request by request: what no official client does, and a node must bear all the same.

use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::http::{Http, Response};
use fanfare_tests::servers;
use serde_json::{Value, json};

/// Packets of a flood.
const FLOOD: usize = 100_000;
/// The longest answer to one poll, in bytes: what may wait for it, and for the connection behind it, with something to spare.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
const SEPARATOR: char = '\x1e';

#[test]
fn a_client_that_posts_more_than_it_polls_is_read_no_faster_than_it_polls() {
    let node = servers::start(servers::dev());
    let session = Session::open(&node);
    // Each is answered: there is no such namespace.
    let flood = session.clone();
    let posting = thread::spawn(move || flood.post(&vec!["40/x"; FLOOD].join("\x1e")));
    let mut answered = 0;
    while answered < FLOOD {
        let payload = session.poll();
        assert!(
            payload.len() <= PAYLOAD_BYTES_MAX,
            "{} bytes for one poll",
            payload.len()
        );
        let refused = payload
            .split(SEPARATOR)
            .filter(|it| it.starts_with("44/x,"));
        answered += refused.count();
    }
    assert_eq!(answered, FLOOD);
    let response = posting.join().unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

#[test]
fn a_client_that_comes_and_goes_in_one_breath_is_served_in_the_end() {
    let node = servers::start(servers::dev());
    let session = Session::open(&node);
    let body = format!("{}40", "40\x1e41\x1e".repeat(2_000));
    session.say(&body);
    session.poll_until("40{");
}

#[test]
fn a_packet_with_an_attachment_for_a_namespace_that_was_left_is_dropped() {
    let node = servers::start(servers::dev());
    let session = Session::open(&node);
    let late = r#"451-["late",{"_placeholder":true,"num":0}]"#;
    session.say(&["40", "41", late, "bAQID", "40"].join("\x1e"));
    session.poll_until("40{");
}

#[test]
fn who_comes_back_is_told_again_who_joins() {
    let config = "[channels]\nsubscribe = \"anyone\"\nhistory = \"anyone\"\npresence = \"anyone\"\njoin_leave = true\n";
    let node = servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    });
    let first = Session::open(&node);
    first.say("40");
    first.poll_until("40{");
    first.say(r#"420["subscribe","lobby",{"join_leave":true}]"#);
    let position = first.poll_until(r#"42["fanfare:position","#);
    let (_, position) = position.split_once(',').unwrap();
    let position: String = serde_json::from_str(position.trim_end_matches(']')).unwrap();
    let auth = json!({ "pid": "anyone", "offset": position });
    let again = Session::open(&node);
    again.say(&format!("40{auth}"));
    let entered = again.poll_until("40{");
    assert!(entered.contains(r#""pid":"anyone""#), "{entered}");
    let other = Session::open(&node);
    other.say("40");
    other.poll_until("40{");
    other.say(r#"420["subscribe","lobby"]"#);
    // Its own, or the other's.
    again.poll_until(r#"42["join","#);
}

/// A session over long-polling.
#[derive(Clone)]
struct Session {
    address: std::net::SocketAddr,
    path: String,
}

impl Session {
    fn open(node: &Node) -> Self {
        let path = "/socket.io/?EIO=4&transport=polling";
        let response = Http::once(node.address(), "GET", path, &[], b"").unwrap();
        let text = response.text();
        let handshake: Value = serde_json::from_str(text.trim_start_matches('0')).unwrap();
        let sid = handshake["sid"].as_str().unwrap();
        Self {
            address: node.address(),
            path: format!("{path}&sid={sid}"),
        }
    }

    fn poll(&self) -> String {
        let response = Http::once(self.address, "GET", &self.path, &[], b"").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        response.text()
    }

    /// Polls until a packet comes that begins so.
    fn poll_until(&self, packet: &str) -> String {
        loop {
            let payload = self.poll();
            let mut packets = payload.split(SEPARATOR);
            if let Some(found) = packets.find(|it| it.starts_with(packet)) {
                return found.to_owned();
            }
        }
    }

    /// Posts what is taken.
    fn say(&self, body: &str) {
        let response = self.post(body);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }

    fn post(&self, body: &str) -> Response {
        Http::once(self.address, "POST", &self.path, &[], body.as_bytes()).unwrap()
    }
}
