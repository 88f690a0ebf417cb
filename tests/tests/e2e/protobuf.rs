//! The Centrifuge protocol in Protobuf, frame by frame: who speaks it, what it shares with JSON, and what is no Protobuf.
//!
//! `browser.rs` has the official client. The frames here are written by hand, so that they can be wrong.

use std::net::{SocketAddr, TcpStream};

use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::wait::patience;
use fanfare_tests::ws::{Client, PATH};
use serde_json::json;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::protocol::WebSocket;
use tungstenite::{Message, client};

/// Where the requests stand in a command, as (number << 3 | 2).
const CONNECT: u8 = 0x22;
const SUBSCRIBE: u8 = 0x2a;
const PUBLISH: u8 = 0x3a;
const PING: u8 = 0x5a;

/// The server's ping and the client's pong.
const EMPTY: &[u8] = &[0];

const SUBPROTOCOL: &str = "centrifuge-protobuf";

/// What comes over a socket.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Binary(Vec<u8>),
    Text(String),
    Close(u16),
    Broken,
}

/// A socket that takes any frame.
pub(crate) struct Raw(WebSocket<TcpStream>);

impl Raw {
    /// Opens it; `offer` is the header with subprotocols. Also gives the one that the server chose.
    #[track_caller]
    fn open(address: SocketAddr, query: &str, offer: Option<&str>) -> (Self, Option<String>) {
        let stream = TcpStream::connect_timeout(&address, patience()).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        let uri = format!("ws://{address}{PATH}{query}").parse().unwrap();
        let mut request = ClientRequestBuilder::new(uri);
        if let Some(offer) = offer {
            request = request.with_sub_protocol(offer);
        }
        let (socket, response) = client(request, stream).expect("an upgrade");
        let chosen = response.headers().get("sec-websocket-protocol");
        let chosen = chosen.map(|it| it.to_str().unwrap().to_owned());
        (Self(socket), chosen)
    }

    /// A client that is connected.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let (mut raw, _) = Self::open(address, "", Some(SUBPROTOCOL));
        raw.send(&command(1, CONNECT, b""));
        let reply = raw.binary();
        assert_eq!(reply[1..4], [8, 1, 0x2a], "connect was refused: {reply:x?}");
        raw
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        // The server may have closed already, having seen enough; the read side tells how.
        let _ = self.0.send(Message::Binary(frame.to_vec().into()));
    }

    fn send_text(&mut self, text: &str) {
        let _ = self.0.send(Message::Text(text.into()));
    }

    fn next(&mut self) -> Came {
        match self.0.read() {
            Ok(Message::Binary(bytes)) => Came::Binary(bytes.to_vec()),
            Ok(Message::Text(text)) => Came::Text(text.as_str().to_owned()),
            Ok(Message::Close(frame)) => {
                frame.map_or(Came::Broken, |it| Came::Close(it.code.into()))
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => Came::Broken,
        }
    }

    /// The next binary frame that is no ping.
    #[track_caller]
    pub(crate) fn binary(&mut self) -> Vec<u8> {
        loop {
            match self.next() {
                Came::Binary(frame) if frame == EMPTY => self.send(EMPTY),
                Came::Binary(frame) => return frame,
                other => panic!("no binary frame: {other:?}"),
            }
        }
    }
}

/// A command with one request; all lengths are below 128.
pub(crate) fn command(id: u8, request: u8, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u8::try_from(bytes).ok().filter(|it| *it < 128).unwrap();
    let head = [length(4 + body.len()), 8, id, request, length(body.len())];
    [&head, body].concat()
}

/// A text or bytes, in the field whose tag is given.
pub(crate) fn text(tag: u8, text: &[u8]) -> Vec<u8> {
    let head = [tag, u8::try_from(text.len()).unwrap()];
    [&head, text].concat()
}

fn publish(id: u8, channel: &str, data: &[u8]) -> Vec<u8> {
    let body = [text(0x0a, channel.as_bytes()), text(0x12, data)].concat();
    command(id, PUBLISH, &body)
}

fn subscribe(id: u8, channel: &str) -> Vec<u8> {
    command(id, SUBSCRIBE, &text(0x0a, channel.as_bytes()))
}

fn holds(frame: &[u8], part: &[u8]) -> bool {
    frame.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_client_chooses_its_encoding() {
    let node = servers::start(servers::dev());
    for (query, offer, protobuf) in [
        ("", None, false),
        ("", Some("centrifuge-json"), false),
        ("", Some(SUBPROTOCOL), true),
        ("?format=protobuf", None, true),
        ("?a=b&cf_protocol=protobuf", None, true),
        ("?format=json", None, false),
        ("?cf_protocol=json", Some(SUBPROTOCOL), true),
    ] {
        let (mut raw, chosen) = Raw::open(node.address(), query, offer);
        assert_eq!(chosen.as_deref(), offer, "{query} {offer:?}");
        if protobuf {
            raw.send(&command(1, CONNECT, b""));
            assert!(matches!(raw.next(), Came::Binary(_)), "{query} {offer:?}");
        } else {
            raw.send_text(r#"{"id":1,"connect":{}}"#);
            assert!(matches!(raw.next(), Came::Text(_)), "{query} {offer:?}");
        }
    }
}

#[test]
fn clients_of_both_encodings_share_a_channel() {
    let node = servers::start(servers::dev());
    let mut json = Client::connect(node.address());
    json.subscribe("room:both");
    let mut raw = Raw::connect(node.address());
    // Two commands in one frame, and their replies in their order.
    raw.send(&[subscribe(2, "room:both"), command(3, PING, b"")].concat());
    let replies = [raw.binary(), raw.binary()];
    assert!(replies.contains(&vec![4, 8, 3, 0x62, 0]), "{replies:x?}");

    raw.send(&publish(4, "room:both", br#"{"a" : 1.0}"#));
    let publication = json.publication("room:both");
    assert_eq!(publication["data"], json!({ "a": 1.0 }), "{publication}");
    assert!(publication["info"]["client"].is_string(), "{publication}");
    let frames = [raw.binary(), raw.binary()];
    assert!(frames.contains(&vec![4, 8, 4, 0x42, 0]), "{frames:x?}");
    let is_push = |frame: &Vec<u8>| holds(frame, br#"{"a" : 1.0}"#);
    assert!(frames.iter().any(is_push), "{frames:x?}");

    json.command(
        "publish",
        json!({ "channel": "room:both", "data": "from JSON" }),
    );
    let push = raw.binary();
    assert!(holds(&push, br#""from JSON""#), "{push:x?}");
    assert_eq!(json.publication("room:both")["offset"], 2);
}

#[test]
fn data_that_is_no_json_is_refused_and_the_connection_stays() {
    let node = servers::start(servers::dev());
    let mut raw = Raw::connect(node.address());
    for (data, why) in [
        (&b"\xff\x00"[..], &b"data is not a JSON text"[..]),
        (b"{\"a\":", b"data is not a JSON text"),
        (b"", b"bad request"),
    ] {
        raw.send(&publish(7, "room:binary", data));
        let reply = raw.binary();
        // The error of command 7: code 107 and its words.
        assert_eq!(reply[1..4], [8, 7, 0x12], "{reply:x?}");
        assert_eq!(reply[5..7], [8, 107], "{reply:x?}");
        assert!(holds(&reply, why), "{reply:x?}");
    }
    assert_eq!(Api::new(node.address()).history("room:binary").head, 0);
    raw.send(&publish(8, "room:binary", b"null"));
    assert_eq!(raw.binary(), [4, 8, 8, 0x42, 0]);
}

#[test]
fn what_is_no_protobuf_ends_its_connection_and_no_other() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let mut bystander = Client::connect(address);
    bystander.subscribe("bystander");
    let mut api = Api::new(address);
    let ping = command(9, PING, b"");
    for (case, frame, code) in [
        ("garbage", b"\xde\xad\xbe\xef".to_vec(), 3501),
        ("JSON", br#"{"id":2,"ping":{}}"#.to_vec(), 3501),
        ("a length beyond the frame", vec![0x7f, 8, 1], 3501),
        (
            "a length beyond the memory",
            [vec![0xff; 9], vec![1]].concat(),
            3501,
        ),
        (
            "a text that is no UTF-8",
            command(2, SUBSCRIBE, &text(0x0a, b"\xff")),
            3501,
        ),
        (
            "a channel that is a number",
            command(2, SUBSCRIBE, &[8, 1]),
            3501,
        ),
        ("a group", command(2, SUBSCRIBE, &[0x0b, 0x0c]), 3501),
        ("no id", vec![2, PING, 0], 3501),
        ("a second connect", command(2, CONNECT, b""), 3501),
        ("a pong without a ping", EMPTY.to_vec(), 3501),
        ("too many commands", ping.repeat(5000), 3501),
        ("a frame that is too long", vec![0; 1 << 20], 1009),
    ] {
        let mut raw = Raw::connect(address);
        raw.send(&frame);
        // What was asked before the frame went wrong is answered.
        let end = loop {
            match raw.next() {
                Came::Binary(_) => {}
                end => break end,
            }
        };
        assert_eq!(end, Came::Close(code), "{case}");
        api.publish("bystander", json!(case));
        assert_eq!(bystander.publication("bystander")["data"], case);
    }
    let (mut first, _) = Raw::open(address, "", Some(SUBPROTOCOL));
    first.send(&subscribe(1, "c"));
    assert_eq!(
        first.next(),
        Came::Close(3501),
        "a subscribe before connect"
    );
    let mut text = Raw::connect(address);
    text.send_text(r#"{"id":2,"ping":{}}"#);
    assert_eq!(text.next(), Came::Close(1003), "a text frame");
    assert!(node.ended().is_none(), "{}", node.stderr());
    assert!(!node.stderr().contains("panicked"), "{}", node.stderr());
}

#[test]
fn the_server_pings_with_an_empty_message_and_takes_one_as_the_pong() {
    let node = servers::start(servers::dev());
    let mut raw = Raw::connect(node.address());
    // It comes within 25 seconds.
    let ping = raw.next();
    assert_eq!(ping, Came::Binary(EMPTY.to_vec()));
    raw.send(EMPTY);
    raw.send(&command(2, PING, b""));
    assert_eq!(raw.next(), Came::Binary(vec![4, 8, 2, 0x62, 0]));
    raw.send(EMPTY);
    assert_eq!(raw.next(), Came::Close(3501), "a second pong");
}
