//! Bad input over WebSocket gets its documented error or close code, and nobody else notices.
//!
//! The codes are the Centrifuge protocol's, and RFC 6455's where the frame itself is wrong.

mod commands;
mod frames;

use fanfare_bench::local::Node;
use fanfare_tests::api::Api;
use fanfare_tests::ws::{Client, End};
use serde_json::{Value, json};

use self::Answer::{Close, Error};

// Error codes: the connection stays.
const METHOD_NOT_FOUND: u64 = 104;
const NOT_AVAILABLE: u64 = 108;
const ALREADY_SUBSCRIBED: u64 = 105;
const LIMIT_EXCEEDED: u64 = 106;
const BAD_REQUEST: u64 = 107;

// Close codes of the protocol: never to come back with the same.
const CLOSE_INVALID_TOKEN: u16 = 3500;
const CLOSE_BAD_REQUEST: u16 = 3501;

// Close codes of RFC 6455.
const CLOSE_PROTOCOL_ERROR: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_NOT_UTF8: u16 = 1007;
const CLOSE_TOO_BIG: u16 = 1009;

/// What a case must be answered with.
enum Answer {
    /// A reply with this error code.
    Error(u64),
    /// The end, with this close code.
    Close(u16),
}

/// A client that must not notice anything.
struct Bystander {
    client: Client,
    api: Api,
    offset: u64,
}

impl Bystander {
    fn new(node: &Node) -> Self {
        let mut client = Client::connect(node.address());
        client.subscribe("bystander");
        Self {
            client,
            api: Api::new(node.address()),
            offset: 0,
        }
    }

    #[track_caller]
    fn check(&mut self, case: &str) {
        self.offset += 1;
        self.api.publish("bystander", json!(case));
        let publication = self.client.publication("bystander");
        assert_eq!(
            publication["offset"], self.offset,
            "after {case}: {publication}"
        );
        assert_eq!(publication["data"], case, "{publication}");
        assert!(self.client.is_open(), "after {case}");
        assert_eq!(self.client.pushes(), Vec::<Value>::new(), "after {case}");
    }
}

/// Runs one case after the other, each on a connection of its own, beside a bystander.
#[track_caller]
fn run(cases: Vec<(&str, Client, Answer)>, node: &mut Node) {
    let mut bystander = Bystander::new(node);
    for (case, mut client, expected) in cases {
        let answer = client.answer();
        let code = |reply: &Value| reply["error"]["code"].as_u64();
        let as_expected = match (&expected, &answer) {
            (Error(error), Ok(reply)) => code(reply) == Some(*error),
            (Close(close), Err(End::Close(got, _))) => got == close,
            _ => false,
        };
        assert!(as_expected, "{case}: {answer:?}");
        if answer.is_ok() {
            let reply = client.command("subscribe", json!({ "channel": "still-alive" }));
            assert!(reply.get("subscribe").is_some(), "after {case}: {reply}");
        }
        bystander.check(case);
    }
    assert!(node.ended().is_none(), "{}", node.stderr());
    assert!(!node.stderr().contains("panicked"), "{}", node.stderr());
}
