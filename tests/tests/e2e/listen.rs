//! Centrifuge clients that only listen: over a WebSocket, an HTTP stream and server-sent events.

use fanfare_bench::local::NodeOptions;
use fanfare_tests::stream::Stream;
use fanfare_tests::wait::patience;
use fanfare_tests::{api::Api, jwt, servers};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use tungstenite::protocol::WebSocket;
use tungstenite::{Message, client};

const UNI_STREAM: &str = "/connection/uni_http_stream";
const UNI_EVENTS: &str = "/connection/uni_sse";
const UNI_WEBSOCKET: &str = "/connection/uni_websocket";
const KEY: &str = "an-api-key-of-the-tests";
const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";

/// The ways to listen: over each of the transports, with the connect request in the address, in the body, or as the first
/// message.
const WAYS: [&str; 5] = [
    "a stream",
    "events",
    "events of a POST",
    "a WebSocket",
    "the address of a WebSocket",
];

/// Whichever way it listens.
enum Listener {
    Stream(Box<Stream>),
    Socket(Box<WebSocket<TcpStream>>),
}

impl Listener {
    /// Opens one of [`WAYS`].
    fn open(way: &str, address: SocketAddr, request: &Value) -> Self {
        let body = request.to_string();
        let query = format!("?cf_connect={}", escaped(&body));
        match way {
            "a stream" => Self::Stream(Box::new(Stream::post(address, UNI_STREAM, &body))),
            "events" => Self::Stream(Box::new(Stream::get(
                address,
                &format!("{UNI_EVENTS}{query}"),
            ))),
            "events of a POST" => Self::Stream(Box::new(Stream::post(address, UNI_EVENTS, &body))),
            "the address of a WebSocket" => Self::Socket(Self::socket(address, &query)),
            _ => {
                let mut socket = Self::socket(address, "");
                socket.send(&body);
                Self::Socket(socket)
            }
        }
    }

    fn socket(address: SocketAddr, query: &str) -> Box<WebSocket<TcpStream>> {
        let stream = TcpStream::connect_timeout(&address, patience()).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        let url = format!("ws://{address}{UNI_WEBSOCKET}{query}");
        Box::new(client(url, stream).expect("an upgrade").0)
    }

    /// The next push that is no ping.
    #[track_caller]
    fn push(&mut self) -> Value {
        loop {
            let push = match self {
                Self::Stream(stream) => stream.message(),
                Self::Socket(socket) => match socket.read().expect("a message") {
                    Message::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
                    _ => continue,
                },
            };
            if push != json!({}) {
                return push;
            }
        }
    }

    /// Whether nothing follows; for a WebSocket the code that says so.
    #[track_caller]
    fn end(&mut self) -> Option<u16> {
        match self {
            Self::Stream(stream) => {
                assert_eq!(stream.until_end(), None);
                None
            }
            Self::Socket(socket) => match socket.read() {
                Ok(Message::Close(Some(frame))) => Some(frame.code.into()),
                other => panic!("no close frame: {other:?}"),
            },
        }
    }
}

trait Say {
    fn send(&mut self, text: &str);
}

impl Say for Box<WebSocket<TcpStream>> {
    fn send(&mut self, text: &str) {
        WebSocket::send(self, Message::text(text)).unwrap();
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn whoever_listens_is_told_where_it_stands_and_what_it_missed() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let epoch = api.publish("past", json!(1)).epoch;
    api.publish("past", json!(2));
    api.publish("other", json!("before"));
    let request = json!({ "subs": {
        "past": { "recover": true, "offset": 1, "epoch": epoch },
        "lost": { "recover": true, "offset": 9, "epoch": "another" },
        "other": {},
    } });
    for way in WAYS {
        let mut listener = Listener::open(way, node.address(), &request);
        let connect = listener.push();
        let connect = &connect["connect"];
        assert!(connect["client"].is_string(), "{way}: {connect}");
        assert_eq!(connect["ping"], 25, "{way}");
        assert_eq!(connect["pong"], Value::Null, "{way}");
        let subs = &connect["subs"];
        let at = |channel: &str| (&subs[channel]["offset"], &subs[channel]["recovered"]);
        assert_eq!(at("past"), (&json!(1), &json!(true)), "{way}: {subs}");
        assert_eq!(subs["lost"]["reset"], true, "{way}: {subs}");
        assert_eq!(subs["lost"]["was_recovering"], true, "{way}: {subs}");
        assert_eq!(subs["other"]["epoch"], json!(epoch), "{way}: {subs}");
        let missed = listener.push();
        let missed = (
            &missed["channel"],
            &missed["pub"]["offset"],
            &missed["pub"]["data"],
        );
        assert_eq!(missed, (&json!("past"), &json!(2), &json!(2)), "{way}");
        let number = api.publish("other", json!(way)).offset;
        let live = listener.push();
        assert_eq!(live["channel"], "other", "{way}: {live}");
        assert_eq!(live["pub"]["offset"], number, "{way}: {live}");
        assert_eq!(live["pub"]["data"], way, "{live}");
    }
}

#[test]
fn a_token_names_the_channels() {
    let mut options = servers::closed(KEY, SECRET);
    options.config = Some("drain_seconds = 1\n[channels]\nsubscribe = \"nobody\"\n".to_owned());
    let mut node = servers::start(options);
    let mut api = Api::with_key(node.address(), KEY);
    let claims = json!({
        "sub": "ada", "iat": jwt::seconds_from_now(-5), "channels": ["news", "ada"],
    });
    let request = json!({
        "token": jwt::sign(SECRET, &claims),
        "subs": { "secret": { "recover": true, "offset": 0 } },
    });
    let mut listeners: Vec<(&str, Listener)> = Vec::new();
    for way in WAYS {
        let mut listener = Listener::open(way, node.address(), &request);
        let connect = listener.push();
        let subs = connect["connect"]["subs"].as_object().unwrap();
        let names: Vec<_> = subs.keys().map(String::as_str).collect();
        assert_eq!(names, ["ada", "news"], "{way}");
        let why = json!({ "code": 103, "reason": "permission denied" });
        let refused = json!({ "channel": "secret", "unsubscribe": why });
        assert_eq!(listener.push(), refused, "{way}");
        api.publish("secret", json!(0));
        api.publish("ada", json!(way));
        let push = listener.push();
        assert_eq!(
            (&push["channel"], &push["pub"]["data"]),
            (&json!("ada"), &json!(way))
        );
        listeners.push((way, listener));
    }
    for (way, listener) in &mut listeners {
        // What those who came later were told.
        while *way != WAYS[4] && listener.push()["pub"]["data"] != WAYS[4] {}
        if let Listener::Socket(socket) = listener {
            // Nothing is heard from whoever only listens.
            socket.send(r#"{"id":2,"publish":{"channel":"ada","data":1}}"#);
            socket.send("nonsense");
        }
    }
    node.ask_to_stop();
    let bye = json!({ "disconnect": { "code": 3001, "reason": "shutdown" } });
    for (way, mut listener) in listeners {
        assert_eq!(listener.push(), bye, "{way}");
        let code = listener.end();
        assert_eq!(code, way.contains("WebSocket").then_some(3001), "{way}");
    }
}

#[test]
fn whoever_may_not_listen_is_told_so() {
    let mut options = servers::closed(KEY, SECRET);
    options.config = Some("subscriptions_per_connection_max = 2\n".to_owned());
    let node = servers::start(options);
    let token = |claims: Value| jwt::sign(SECRET, &claims);
    let many: Vec<String> = (0..3).map(|number| format!("c{number}")).collect();
    let expired = token(json!({ "sub": "a", "exp": jwt::seconds_from_now(-60) }));
    for (request, code) in [
        (json!({}), 3500),
        (json!({ "token": "nonsense" }), 3500),
        (json!({ "token": expired }), 3005),
        (
            json!({ "token": token(json!({ "sub": "a", "channels": many })) }),
            3505,
        ),
        (
            json!({ "token": token(json!({ "sub": "a" })), "subs": { "bad name": {} } }),
            3501,
        ),
    ] {
        for way in WAYS {
            let mut listener = Listener::open(way, node.address(), &request);
            let push = listener.push();
            assert_eq!(push["disconnect"]["code"], code, "{way}: {push}");
            let closed = listener.end();
            assert_eq!(closed, way.contains("WebSocket").then_some(code), "{way}");
        }
    }
}

#[test]
fn a_first_message_that_is_no_connect_request_ends_a_websocket() {
    let node = servers::start(servers::dev());
    let mut socket = Listener::socket(node.address(), "");
    socket.send("nonsense");
    let mut listener = Listener::Socket(socket);
    assert_eq!(listener.push()["disconnect"]["code"], 3501);
    assert_eq!(listener.end(), Some(3501));
    // Frames that are wrong are no matter of the protocol.
    let mut socket = Listener::socket(node.address(), "");
    WebSocket::send(&mut socket, Message::binary(&b"{}"[..])).unwrap();
    assert_eq!(Listener::Socket(socket).end(), Some(1003));
}

#[test]
fn whoever_asks_is_told_who_joins() {
    let config = "[channels]\nsubscribe = \"anyone\"\npresence = \"anyone\"\njoin_leave = true\n";
    let node = servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    });
    let request = json!({ "subs": { "lobby": { "join_leave": true } } });
    for way in WAYS {
        let mut listener = Listener::open(way, node.address(), &request);
        let connect = listener.push();
        let own = connect["connect"]["client"].clone();
        // Others that have left may still be told of.
        loop {
            let push = listener.push();
            assert_eq!(push["channel"], "lobby", "{way}");
            if push["join"]["info"]["client"] == own {
                break;
            }
        }
    }
}
