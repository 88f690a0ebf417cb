//! Engine.IO's long-polling, request by request: what no official client does, and a node must bear all the same.

use std::thread;

use fanfare_bench::local::Node;
use fanfare_tests::http::{Http, Response};
use fanfare_tests::servers;
use serde_json::Value;

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
    let response = session.post(&body);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    session.poll_until("40{");
}

#[test]
fn a_packet_with_an_attachment_for_a_namespace_that_was_left_is_dropped() {
    let node = servers::start(servers::dev());
    let session = Session::open(&node);
    let late = r#"451-["late",{"_placeholder":true,"num":0}]"#;
    let response = session.post(&["40", "41", late, "bAQID", "40"].join("\x1e"));
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    session.poll_until("40{");
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
    fn poll_until(&self, packet: &str) {
        let is_it = |payload: String| payload.split(SEPARATOR).any(|it| it.starts_with(packet));
        while !is_it(self.poll()) {}
    }

    fn post(&self, body: &str) -> Response {
        Http::once(self.address, "POST", &self.path, &[], body.as_bytes()).unwrap()
    }
}
