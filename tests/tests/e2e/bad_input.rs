//! Bad input over WebSocket gets its documented error or close code, and nobody else notices.
//!
//! The codes are the Centrifuge protocol's, and RFC 6455's where the frame itself is wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use fanfare_bench::local::Node;
use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::wait::patience;
use fanfare_tests::ws::{Client, End};
use serde_json::{Value, json};

use self::Answer::{Close, Either, Error};

// Error codes: the connection stays.
const METHOD_NOT_FOUND: u64 = 104;
const ALREADY_SUBSCRIBED: u64 = 105;
const BAD_REQUEST: u64 = 107;

// Close codes of the protocol: never to come back with the same.
const CLOSE_INVALID_TOKEN: u16 = 3500;
const CLOSE_BAD_REQUEST: u16 = 3501;

// Close codes of RFC 6455.
const CLOSE_PROTOCOL_ERROR: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_NOT_UTF8: u16 = 1007;
const CLOSE_TOO_BIG: u16 = 1009;

/// More than a frame or the data of a publication may have.
const TOO_MANY_BYTES: usize = 8 * 1024 * 1024;

/// What a case must be answered with.
enum Answer {
    /// A reply with this error code.
    Error(u64),
    /// The end, with this close code.
    Close(u16),
    /// This error code or that close code.
    Either(u64, u16),
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
            (Error(error) | Either(error, _), Ok(reply)) => code(reply) == Some(*error),
            (Close(close) | Either(_, close), Err(End::Close(got, _))) => got == close,
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

#[test]
fn texts_that_are_no_commands() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let text = |text: &str| {
        let mut client = Client::connect(address);
        client.send_text(text);
        client
    };
    let deep = format!(
        r#"{{"id":2,"publish":{{"channel":"c","data":{}}}"#,
        "[".repeat(30_000)
    );
    let cases = vec![
        ("no JSON", text("hello"), Close(CLOSE_BAD_REQUEST)),
        (
            "half JSON",
            text(r#"{"id":2,"subscribe":{"channel":"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        ("no object", text("[1,2,3]"), Close(CLOSE_BAD_REQUEST)),
        ("a number", text("7"), Close(CLOSE_BAD_REQUEST)),
        (
            "no id",
            text(r#"{"subscribe":{"channel":"c"}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "the id 0",
            text(r#"{"id":0,"subscribe":{"channel":"c"}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "an id below 0",
            text(r#"{"id":-1,"subscribe":{"channel":"c"}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "an id that is too big",
            text(r#"{"id":4294967296,"subscribe":{"channel":"c"}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "a channel that is a number",
            text(r#"{"id":2,"subscribe":{"channel":7}}"#),
            Either(BAD_REQUEST, CLOSE_BAD_REQUEST),
        ),
        (
            "an offset below 0",
            text(r#"{"id":2,"subscribe":{"channel":"c","recover":true,"offset":-1}}"#),
            Either(BAD_REQUEST, CLOSE_BAD_REQUEST),
        ),
        (
            "nesting without an end",
            text(&deep),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "an unknown command",
            text(r#"{"id":2,"fly":{}}"#),
            Either(METHOD_NOT_FOUND, CLOSE_BAD_REQUEST),
        ),
        (
            "an id alone",
            text(r#"{"id":2}"#),
            Either(METHOD_NOT_FOUND, CLOSE_BAD_REQUEST),
        ),
        (
            "a pong without a ping",
            text("{}"),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "a second connect",
            text(r#"{"id":2,"connect":{}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
    ];
    run(cases, &mut node);
}

#[test]
fn commands_before_connect() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let first = |text: &str| {
        let mut client = Client::open(address);
        client.send_text(text);
        client
    };
    let subscribe = r#"{"id":1,"subscribe":{"channel":"c"}}"#;
    let publish = r#"{"id":1,"publish":{"channel":"c","data":1}}"#;
    let bad_token = r#"{"id":1,"connect":{"token":"bad"}}"#;
    let cases = vec![
        (
            "subscribe first",
            first(subscribe),
            Close(CLOSE_BAD_REQUEST),
        ),
        ("publish first", first(publish), Close(CLOSE_BAD_REQUEST)),
        ("a pong first", first("{}"), Close(CLOSE_BAD_REQUEST)),
        (
            "no JSON first",
            first("GET / HTTP/1.1"),
            Close(CLOSE_BAD_REQUEST),
        ),
        ("a bad token", first(bad_token), Close(CLOSE_INVALID_TOKEN)),
    ];
    run(cases, &mut node);
    let history = Api::new(address).history("c");
    assert_eq!(history.head, 0, "a publish before connect was taken");
}

#[test]
fn commands_that_make_no_sense() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let command = |method: &str, request: Value| {
        let mut client = Client::connect(address);
        client.send_command(method, request);
        client
    };
    let subscribe = |channel: &str| command("subscribe", json!({ "channel": channel }));
    let publish = |channel: &str| command("publish", json!({ "channel": channel, "data": 1 }));
    let mut twice = Client::connect(address);
    twice.subscribe("c");
    twice.send_command("subscribe", json!({ "channel": "c" }));
    let long = "x".repeat(256);
    let either = || Either(BAD_REQUEST, CLOSE_BAD_REQUEST);
    let cases = vec![
        ("subscribe to nothing", subscribe(""), either()),
        (
            "subscribe with a space",
            subscribe("two words"),
            Error(BAD_REQUEST),
        ),
        (
            "subscribe with a quote",
            subscribe("quote\""),
            Error(BAD_REQUEST),
        ),
        (
            "subscribe with a line break",
            subscribe("line\nbreak"),
            Error(BAD_REQUEST),
        ),
        (
            "subscribe outside ASCII",
            subscribe("ümlaut"),
            Error(BAD_REQUEST),
        ),
        (
            "subscribe to 256 bytes",
            subscribe(&long),
            Error(BAD_REQUEST),
        ),
        ("subscribe twice", twice, Error(ALREADY_SUBSCRIBED)),
        ("publish to nothing", publish(""), either()),
        (
            "publish with a space",
            publish("two words"),
            Error(BAD_REQUEST),
        ),
        ("publish to 256 bytes", publish(&long), Error(BAD_REQUEST)),
        (
            "publish without data",
            command("publish", json!({ "channel": "c" })),
            Error(BAD_REQUEST),
        ),
        (
            "unsubscribe from nothing",
            command("unsubscribe", json!({})),
            either(),
        ),
        (
            "history of nothing",
            command("history", json!({})),
            either(),
        ),
        (
            "history of two words",
            command("history", json!({ "channel": "a b" })),
            Error(BAD_REQUEST),
        ),
        (
            "an rpc",
            command("rpc", json!({ "method": "x" })),
            Error(METHOD_NOT_FOUND),
        ),
    ];
    run(cases, &mut node);
    let mut longest = Client::connect(address);
    longest.subscribe(&"x".repeat(255));
}

#[test]
fn frames_that_break_the_rules_of_websocket() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let raw = |bytes: &[u8]| {
        let mut client = Client::connect(address);
        client.send_raw(bytes);
        client
    };
    let binary = {
        let mut client = Client::connect(address);
        client.send_binary(&[0xde, 0xad, 0xbe, 0xef]);
        client
    };
    let protocol_error = || Close(CLOSE_PROTOCOL_ERROR);
    let cases = vec![
        (
            "no UTF-8",
            raw(&frame(TEXT, &[0xff, 0xfe, 0xfd])),
            Close(CLOSE_NOT_UTF8),
        ),
        (
            "half a character",
            raw(&frame(TEXT, "ü".as_bytes().split_at(1).0)),
            Close(CLOSE_NOT_UTF8),
        ),
        ("binary garbage", binary, Close(CLOSE_UNSUPPORTED)),
        ("no mask", raw(&[TEXT, 2, b'{', b'}']), protocol_error()),
        (
            "an unknown opcode",
            raw(&frame(0x83, b"{}")),
            protocol_error(),
        ),
        ("a reserved bit", raw(&frame(0xc1, b"{}")), protocol_error()),
        (
            "a ping of 126 bytes",
            raw(&frame(0x89, &[0; 126])),
            protocol_error(),
        ),
        (
            "a ping in pieces",
            raw(&frame(0x09, b"x")),
            protocol_error(),
        ),
        (
            "a continuation of nothing",
            raw(&frame(0x80, b"{}")),
            protocol_error(),
        ),
        (
            "a frame of 2^62 bytes",
            raw(&header_of(TEXT, 1 << 62)),
            Close(CLOSE_TOO_BIG),
        ),
        (
            "a frame that is too long",
            raw(&header_of(TEXT, TOO_MANY_BYTES as u64)),
            Close(CLOSE_TOO_BIG),
        ),
    ];
    run(cases, &mut node);
}

#[test]
fn data_over_the_limit() {
    let mut node = servers::start(servers::dev());
    let mut bystander = Bystander::new(&node);
    let mut client = Client::connect(node.address());
    let text = "x".repeat(TOO_MANY_BYTES);
    client.send_command("publish", json!({ "channel": "c", "data": text }));
    // The server may close while the client still writes; the system then throws the close code away.
    match client.end() {
        End::Close(code, _) => assert_eq!(code, CLOSE_TOO_BIG),
        End::Broken => {}
    }
    bystander.check("one frame");

    let mut client = Client::connect(node.address());
    let piece = vec![b'x'; 64 * 1024];
    client.send_raw(&frame(0x01, &piece));
    for _ in 0..TOO_MANY_BYTES / piece.len() {
        client.send_raw(&frame(0x00, &piece));
    }
    match client.end() {
        End::Close(code, _) => assert_eq!(code, CLOSE_TOO_BIG),
        End::Broken => {}
    }
    bystander.check("many frames of one message");
    assert_eq!(Api::new(node.address()).history("c").head, 0);
    assert!(node.ended().is_none(), "{}", node.stderr());
}

#[test]
fn a_message_in_pieces_and_with_pings_between_is_good() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    let text = br#"{"id":900,"subscribe":{"channel":"in-pieces"}}"#;
    let (head, tail) = text.split_at(20);
    client.send_raw(&frame(0x01, head));
    client.send_raw(&frame(0x89, b"are you there"));
    client.send_raw(&frame(0x80, tail));
    let reply = client.answer().unwrap();
    assert_eq!(reply["id"], 900, "{reply}");
    assert!(reply.get("subscribe").is_some(), "{reply}");
}

#[test]
fn several_commands_in_one_frame_are_answered_in_order() {
    let node = servers::start(servers::dev());
    let mut client = Client::open(node.address());
    client.send_text(concat!(
        r#"{"id":1,"connect":{}}"#,
        "\n",
        r#"{"id":2,"subscribe":{"channel":"a"}}"#,
        "\n",
        r#"{"id":3,"subscribe":{"channel":"b"}}"#,
        "\n"
    ));
    for id in 1..=3 {
        let reply = client.answer().unwrap();
        assert_eq!(reply["id"], id, "{reply}");
        assert!(reply.get("error").is_none(), "{reply}");
    }
}

#[test]
fn bytes_that_are_no_http() {
    let mut node = servers::start(servers::dev());
    let mut bystander = Bystander::new(&node);
    let garbage: [(&str, &[u8]); 4] = [
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        ("zeros", &[0; 512]),
        ("no version", b"GET /\r\n\r\n"),
        ("a header without an end", &[b'x'; 256 * 1024]),
    ];
    for (case, bytes) in garbage {
        is_sent_away(node.address(), case, bytes);
        bystander.check(case);
    }
    // Handshakes that ask for what is not there.
    for path in ["/connection/nothing", "/connection"] {
        let response = Api::new(node.address()).get(path).unwrap();
        assert_eq!(response.status, 404, "{path}");
    }
    let plain = Api::new(node.address())
        .get("/connection/websocket")
        .unwrap();
    assert!((400..500).contains(&plain.status), "{}", plain.status);
    bystander.check("a plain GET of the WebSocket's path");
    assert!(node.ended().is_none(), "{}", node.stderr());
}

/// The server ends a connection that sends `bytes`, with or without a word.
#[track_caller]
fn is_sent_away(address: SocketAddr, case: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    // It may close before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{case}");
    }
}

/// First byte of a whole text frame.
const TEXT: u8 = 0x81;

/// The mask that all frames here use.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header_of(first, payload.len() as u64);
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ MASK[index % 4]),
    );
    bytes
}

/// The header of a masked frame, with its mask.
fn header_of(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}
