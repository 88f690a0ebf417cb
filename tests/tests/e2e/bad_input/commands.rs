//! Texts and commands.

use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

use super::Answer::{Close, Error};
use super::{
    ALREADY_SUBSCRIBED, BAD_REQUEST, CLOSE_BAD_REQUEST, CLOSE_INVALID_TOKEN, LIMIT_EXCEEDED,
    METHOD_NOT_FOUND, NOT_AVAILABLE, run,
};

/// Bytes of data that are too many, and yet not too many for a frame.
const DATA_BYTES: usize = 70_000;

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
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "an offset below 0",
            text(r#"{"id":2,"subscribe":{"channel":"c","recover":true,"offset":-1}}"#),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "nesting without an end",
            text(&deep),
            Close(CLOSE_BAD_REQUEST),
        ),
        (
            "an unknown command",
            text(r#"{"id":2,"fly":{}}"#),
            Error(METHOD_NOT_FOUND),
        ),
        ("an id alone", text(r#"{"id":2}"#), Error(METHOD_NOT_FOUND)),
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
    let cases = vec![
        ("subscribe to nothing", subscribe(""), Error(BAD_REQUEST)),
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
        ("publish to nothing", publish(""), Error(BAD_REQUEST)),
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
            "publish too much",
            command(
                "publish",
                json!({ "channel": "c", "data": "x".repeat(DATA_BYTES) }),
            ),
            Error(LIMIT_EXCEEDED),
        ),
        (
            "unsubscribe from nothing",
            command("unsubscribe", json!({})),
            Error(BAD_REQUEST),
        ),
        (
            "history of nothing",
            command("history", json!({})),
            Error(BAD_REQUEST),
        ),
        (
            "history of two words",
            command("history", json!({ "channel": "a b" })),
            Error(BAD_REQUEST),
        ),
        (
            "an rpc",
            command("rpc", json!({ "method": "x" })),
            Error(NOT_AVAILABLE),
        ),
    ];
    run(cases, &mut node);
    let mut longest = Client::connect(address);
    longest.subscribe(&"x".repeat(255));
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
