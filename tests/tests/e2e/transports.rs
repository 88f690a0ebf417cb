//! Centrifuge over HTTP streams and server-sent events: the official client, commands that meet another node, and input that
//! is wrong. `listen.rs` has clients that only listen.

use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::http::Http;
use fanfare_tests::stream::{Stream, emulate};
use fanfare_tests::wait::eventually;
use fanfare_tests::{api::Api, jwt, servers, servers::Cluster};
use serde_json::json;

use crate::browser::run_script;
use crate::socketio::acquainted;

const HTTP_STREAM: &str = "/connection/http_stream";
const KEY: &str = "an-api-key-of-the-tests";
const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";

#[track_caller]
fn on_one_node(arguments: &[&str]) {
    let node = servers::start(servers::dev());
    let url = node.url();
    let arguments = [&["--url", &url], arguments].concat();
    run_script("centrifuge-client.mjs", &arguments, &[&node]);
}

#[test]
fn the_official_client_over_an_http_stream() {
    on_one_node(&["--transport", "http_stream"]);
}

#[test]
fn the_official_client_over_an_http_stream_in_protobuf() {
    on_one_node(&["--transport", "http_stream", "--protobuf"]);
}

#[test]
fn the_official_client_over_server_sent_events() {
    on_one_node(&["--transport", "sse"]);
}

#[test]
fn the_official_client_whose_requests_go_to_two_nodes_in_turns() {
    let cluster = acquainted();
    let [near, far] = [&cluster.nodes[0], &cluster.nodes[1]];
    for transport in [
        &["--transport", "http_stream"][..],
        &["--transport", "http_stream", "--protobuf"],
        &["--transport", "sse"],
    ] {
        let (near_url, far_url) = (near.url(), far.url());
        let urls = ["--url", &near_url, "--other", &far_url];
        run_script(
            "centrifuge-client.mjs",
            &[&urls, transport].concat(),
            &[near, far],
        );
    }
}

#[test]
fn the_official_client_without_a_token_is_refused_over_streams() {
    let node = servers::start(servers::closed(KEY, SECRET));
    for transport in ["http_stream", "sse"] {
        let url = node.url();
        let arguments = ["--url", &url, "--transport", transport, "--expect-refused"];
        run_script("centrifuge-client.mjs", &arguments, &[&node]);
    }
}

#[test]
fn a_stream_says_that_it_is_one() {
    let node = servers::start(servers::dev());
    let events = "/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D";
    let connect = r#"{"id":1,"connect":{}}"#;
    for (mut stream, kind) in [
        (Stream::get(node.address(), events), "text/event-stream"),
        (
            Stream::post(node.address(), "/connection/sse", connect),
            "text/event-stream",
        ),
        (
            Stream::post(node.address(), HTTP_STREAM, connect),
            "application/x-ndjson",
        ),
    ] {
        assert_eq!(stream.head.status, 200);
        assert_eq!(stream.head.header("content-type"), Some(kind));
        assert_eq!(stream.head.header("cache-control"), Some("no-store"));
        assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
        let reply = stream.message();
        assert_eq!(reply["connect"]["pong"], true, "{reply}");
        assert!(reply["connect"]["session"].is_string(), "{reply}");
    }
}

#[test]
fn commands_meet_any_node_and_are_lost_with_their_own() {
    let mut cluster: Cluster = acquainted();
    let [near, far] = [cluster.nodes[0].address(), cluster.nodes[1].address()];
    let mut stream = Stream::connect(near);
    let id = stream.command(far, "subscribe", json!({ "channel": "a" }));
    assert_eq!(stream.reply(id)["subscribe"]["positioned"], true);
    let id = stream.command(far, "publish", json!({ "channel": "a", "data": "x" }));
    let mut came = [stream.message(), stream.message()];
    came.sort_by_key(|it| it["id"].is_null());
    assert_eq!(came[0]["id"], id);
    assert_eq!(came[1]["push"]["pub"]["data"], "x", "{came:?}");
    // A session of a node that is there, but not this one; and one of a node that nobody knows.
    let mut guessed = stream.session().to_owned();
    guessed.replace_range(guessed.len() - 4.., "????");
    let foreign = format!("{}{}", "?".repeat(12), &guessed[12..]);
    for session in [&guessed, &foreign, "", "s"] {
        for node in [near, far] {
            let expected = if session.is_empty() { 400 } else { 404 };
            assert_eq!(emulate(node, session, "{}").status, expected, "{session}");
        }
    }
    cluster.nodes[0].kill();
    let gone = emulate(far, stream.session(), "{}");
    assert_eq!(gone.status, 404, "{}", gone.text());
}

#[test]
fn what_is_wrong_in_a_request_is_refused_before_there_is_a_stream() {
    // Two seats: who is refused gives his back.
    let node = servers::start(NodeOptions {
        config: Some("max_connections = 2\n".to_owned()),
        ..servers::dev()
    });
    let long = vec![b'x'; 200 << 10];
    let json = ("content-type", "application/json");
    let foreign = ("origin", "https://evil.example");
    for (method, path, header, body, status) in [
        ("GET", HTTP_STREAM, json, &b""[..], 405),
        ("POST", HTTP_STREAM, json, b"", 400),
        ("POST", HTTP_STREAM, json, &long, 413),
        ("POST", HTTP_STREAM, foreign, b"{}", 403),
        ("GET", "/connection/sse", json, b"", 400),
        (
            "GET",
            "/connection/sse?cf_connect=x",
            ("sec-fetch-site", "cross-site"),
            b"",
            403,
        ),
        ("POST", "/connection/sse", json, &long, 413),
        ("GET", "/emulation", json, b"", 405),
        ("POST", "/emulation", json, b"nonsense", 400),
        ("POST", "/emulation", json, b"\xff\x00", 400),
        ("POST", "/emulation", json, &long, 413),
        ("POST", "/emulation", foreign, b"{}", 403),
        ("OPTIONS", "/emulation", foreign, b"", 403),
        (
            "POST",
            "/connection/uni_http_stream",
            json,
            b"nonsense",
            400,
        ),
        ("POST", "/connection/uni_sse", json, &long, 413),
        ("GET", "/connection/uni_sse?cf_connect=7", json, b"", 400),
    ] {
        let response = Http::once(node.address(), method, path, &[header], body).unwrap();
        assert_eq!(
            response.status,
            status,
            "{method} {path}: {}",
            response.text()
        );
    }
}

#[test]
fn listed_pages_of_other_origins_may_ask() {
    const PAGE: &str = "https://app.example";
    let config = format!("allowed_origins = [\"{PAGE}\"]\n");
    let node = servers::start(NodeOptions {
        config: Some(config),
        ..servers::dev()
    });
    let origin = [("origin", PAGE)];
    for path in [HTTP_STREAM, "/connection/sse", "/emulation"] {
        let answer = Http::once(node.address(), "OPTIONS", path, &origin, b"").unwrap();
        assert_eq!(answer.status, 204, "{path}");
        let allowed = |name| answer.header(name).unwrap_or_default();
        assert_eq!(allowed("access-control-allow-origin"), PAGE, "{path}");
        assert!(allowed("access-control-allow-methods").contains("POST"));
        assert_eq!(allowed("access-control-allow-headers"), "content-type");
    }
    let refused = Http::once(node.address(), "POST", "/emulation", &origin, b"").unwrap();
    let allowed = refused.header("access-control-allow-origin");
    assert_eq!((refused.status, allowed), (400, Some(PAGE)));
}

#[test]
fn commands_that_are_none_end_the_stream_with_the_code_of_the_protocol() {
    let node = servers::start(servers::dev());
    let bad = json!({ "push": { "disconnect": { "code": 3501, "reason": "bad request" } } });
    for first in ["nonsense", r#"{"id":1,"ping":{}}"#, "{}"] {
        let mut stream = Stream::post(node.address(), HTTP_STREAM, first);
        assert_eq!(stream.message(), bad, "{first}");
        assert_eq!(stream.until_end(), None, "{first}");
    }
    for later in ["nonsense", r#"{"id":2,"connect":{}}"#, "{}"] {
        let mut stream = Stream::connect(node.address());
        assert_eq!(emulate(node.address(), stream.session(), later).status, 204);
        assert_eq!(stream.message(), bad, "{later}");
        assert_eq!(stream.until_end(), None, "{later}");
        assert_eq!(emulate(node.address(), stream.session(), "{}").status, 404);
    }
}

#[test]
fn a_message_as_long_as_may_be_goes_up_and_a_longer_one_does_not() {
    let node = servers::start(servers::dev());
    let mut stream = Stream::connect(node.address());
    // Quotation marks, which are escaped twice on their way.
    let longest = "\"".repeat((32 << 10) - 1);
    let reply = stream.asked("publish", json!({ "channel": "a", "data": longest }));
    assert_eq!(reply["publish"], json!({}), "{reply}");
    let longer = "x".repeat(64 << 10);
    let reply = stream.asked("publish", json!({ "channel": "a", "data": longer }));
    assert_eq!(reply["error"]["code"], 106, "{reply}");
    let far_longer = "x".repeat(100 << 10);
    let response = emulate(node.address(), stream.session(), &far_longer);
    assert_eq!(response.status, 413);
}

#[test]
fn a_client_that_posts_more_than_it_reads_is_heard_no_faster_than_it_reads() {
    /// Bodies, with so many commands each: more than a connection may have under way.
    const BODIES: u32 = 4;
    const COMMANDS: u32 = 12;
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    for number in 0..10 {
        api.publish("long", json!(format!("{number}{}", "x".repeat(10_000))));
    }
    let mut stream = Stream::connect(node.address());
    let session = stream.session().to_owned();
    let address = node.address();
    let flood = thread::spawn(move || {
        for body in 0..BODIES {
            let command = |id| {
                let history = json!({ "channel": "long", "limit": 10 });
                json!({ "id": id, "history": history }).to_string()
            };
            let first = 1000 + body * COMMANDS;
            let commands: Vec<_> = (first..first + COMMANDS).map(command).collect();
            assert_eq!(emulate(address, &session, &commands.join("\n")).status, 204);
        }
    });
    for _ in 0..BODIES * COMMANDS {
        // Of those in one body, any may be answered first; or be too many.
        let reply = stream.message();
        let publications = reply["history"]["publications"].as_array();
        let answered = publications.is_some_and(|it| it.len() == 10);
        assert!(answered || reply["error"]["code"] == 111, "{reply}");
    }
    flood.join().unwrap();
}

#[test]
fn a_stream_is_told_why_it_ends() {
    let mut options = servers::closed(KEY, SECRET);
    options.config = Some("drain_seconds = 1\n".to_owned());
    let mut node = servers::start(options);
    let claims = json!({ "sub": "ada", "iat": jwt::seconds_from_now(-5) });
    let connect = json!({ "id": 1, "connect": { "token": jwt::sign(SECRET, &claims) } });
    let mut revoked = Stream::post(node.address(), HTTP_STREAM, &connect.to_string());
    assert!(revoked.message()["connect"]["session"].is_string());
    let claims = json!({ "sub": "bob", "iat": jwt::seconds_from_now(-5) });
    let connect = json!({ "id": 1, "connect": { "token": jwt::sign(SECRET, &claims) } });
    let mut drained = Stream::post(node.address(), HTTP_STREAM, &connect.to_string());
    assert!(drained.message()["connect"]["session"].is_string());
    let mut api = Api::with_key(node.address(), KEY);
    api.call("revoke", &json!({ "user": "ada" })).unwrap();
    let end =
        |code: u16, reason| json!({ "push": { "disconnect": { "code": code, "reason": reason } } });
    assert_eq!(revoked.message(), end(3500, "invalid token"));
    assert_eq!(revoked.until_end(), None);
    node.ask_to_stop();
    assert_eq!(drained.message(), end(3001, "shutdown"));
    assert_eq!(drained.until_end(), None);
}

#[test]
fn a_full_node_turns_streams_away() {
    let config = "max_connections = 1\n";
    let node: Node = servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    });
    let mut stream = Stream::connect(node.address());
    let connect = r#"{"id":1,"connect":{}}"#;
    let refused = Stream::post(node.address(), HTTP_STREAM, connect);
    assert_eq!(refused.head.status, 503);
    assert!(refused.head.header("retry-after").is_some());
    let listening = Stream::post(node.address(), "/connection/uni_http_stream", "{}");
    assert_eq!(listening.head.status, 503);
    assert_eq!(stream.asked("ping", json!({}))["ping"], json!({}));
    drop(stream);
    eventually("the seat is free", || {
        let again = Stream::post(node.address(), HTTP_STREAM, connect);
        (again.head.status == 200).then_some(())
    });
}
