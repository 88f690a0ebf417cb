//! Without `--dev` everything that was not granted is refused, and tokens of `fanfare token` grant.

use std::process::Command;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::expect::run_over_ws;
use fanfare_tests::http::Http;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";

const CONFIG: &str = r#"
[[namespaces]]
name = "news"
subscribe = "authenticated"
history = "authenticated"

[[namespaces]]
name = "board"
subscribe = "authenticated"
publish = "authenticated"
history = "nobody"
"#;

#[test]
fn a_connection_without_a_valid_token_is_refused() {
    let node = start();
    let check = |case: &str, request: Value, expected: Result<u64, u16>| {
        let mut client = Client::open(node.address());
        client.send_command("connect", request);
        match (client.answer(), expected) {
            (Ok(reply), Ok(code)) => assert_eq!(reply["error"]["code"], code, "{case}: {reply}"),
            (Err(End::Close(code, _)), Err(expected)) => assert_eq!(code, expected, "{case}"),
            (answer, _) => panic!("{case}: {answer:?} instead of {expected:?}"),
        }
    };
    let of = |arguments: &[&str]| json!({ "token": token(arguments) });
    check("no token", json!({}), Err(INVALID_TOKEN));
    check(
        "no JWT",
        json!({ "token": "no token at all" }),
        Err(INVALID_TOKEN),
    );
    check(
        "another secret",
        of(&["--secret", "another-secret-of-enough-bytes-here"]),
        Err(INVALID_TOKEN),
    );
    // {"alg":"none"} . {"sub":"u"} . no signature
    let unsigned = json!({ "token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0." });
    check("unsigned", unsigned, Err(INVALID_TOKEN));
    let mut forged = token(&["--secret", SECRET, "--user", "alice"]);
    let middle = forged.find('.').unwrap() + 3;
    let other = if forged.as_bytes()[middle] == b'A' {
        "B"
    } else {
        "A"
    };
    forged.replace_range(middle..=middle, other);
    check("forged", json!({ "token": forged }), Err(INVALID_TOKEN));
    let signed = |claims: Value| json!({ "token": jwt::sign(SECRET, &claims) });
    let hour_ago = jwt::seconds_from_now(-3_600);
    check(
        "expired",
        signed(json!({ "sub": "alice", "exp": hour_ago })),
        Ok(TOKEN_EXPIRED),
    );
    check("no claims", signed(json!("alice")), Err(INVALID_TOKEN));
    check(
        "a user that is no text",
        signed(json!({ "sub": { "a": 1 } })),
        Err(INVALID_TOKEN),
    );
    check(
        "an expiry that is no number",
        signed(json!({ "exp": "never" })),
        Err(INVALID_TOKEN),
    );
    let header = json!({ "alg": "HS512", "typ": "JWT" });
    let mislabelled = jwt::sign_with_header(SECRET, &header, &json!({ "sub": "alice" }));
    check(
        "another algorithm",
        json!({ "token": mislabelled }),
        Err(INVALID_TOKEN),
    );
    let of_channel = of(&["--secret", SECRET, "--user", "alice", "--channel", "news:x"]);
    check("of a subscription", of_channel, Err(INVALID_TOKEN));
}

#[test]
fn a_connection_gets_what_its_namespace_grants_and_nothing_else() {
    let node = start();
    let mut client = connect(&node, "alice");
    let error = |reply: Value| reply["error"]["code"].as_u64();
    client.subscribe("news:x");
    client.subscribe("board:x");
    let publish = |channel: &str| json!({ "channel": channel, "data": 1 });
    assert_eq!(
        error(client.command("publish", publish("news:x"))),
        Some(DENIED)
    );
    let reply = client.command("publish", publish("board:x"));
    assert!(reply.get("publish").is_some(), "{reply}");
    run_over_ws(&mut client, "board:x", 1, 1);
    let history = |channel: &str| json!({ "channel": channel, "limit": 10 });
    assert_eq!(
        error(client.command("history", history("board:x"))),
        Some(DENIED)
    );
    let reply = client.command("history", history("news:x"));
    assert!(reply.get("history").is_some(), "{reply}");
    for channel in ["plain", "unknown-namespace:x"] {
        let reply = client.command("subscribe", json!({ "channel": channel }));
        assert!(
            [Some(DENIED), Some(UNKNOWN_CHANNEL)].contains(&error(reply)),
            "{channel}"
        );
        let reply = client.command("publish", publish(channel));
        assert!(
            [Some(DENIED), Some(UNKNOWN_CHANNEL)].contains(&error(reply)),
            "{channel}"
        );
        let reply = client.command("history", history(channel));
        assert!(
            [Some(DENIED), Some(UNKNOWN_CHANNEL)].contains(&error(reply)),
            "{channel}"
        );
    }
    Api::with_key(node.address(), KEY).publish("news:x", json!("to those who may"));
    assert_eq!(
        run_over_ws(&mut client, "news:x", 1, 1),
        [json!("to those who may")]
    );
}

#[test]
fn a_subscription_token_grants_its_channel_to_its_user() {
    let node = start();
    let mut client = connect(&node, "alice");
    let subscribe = |client: &mut Client, arguments: &[&str]| {
        let token = token(arguments);
        client.command("subscribe", json!({ "channel": "private", "token": token }))
    };
    let code = |reply: &Value| reply["error"]["code"].as_u64();
    let reply = subscribe(
        &mut client,
        &["--secret", SECRET, "--user", "alice", "--channel", "other"],
    );
    assert_eq!(code(&reply), Some(DENIED), "of another channel: {reply}");
    let reply = subscribe(
        &mut client,
        &["--secret", SECRET, "--user", "bob", "--channel", "private"],
    );
    assert_eq!(code(&reply), Some(DENIED), "of another user: {reply}");
    let reply = subscribe(
        &mut client,
        &[
            "--secret",
            "another-secret-of-enough-bytes-here",
            "--channel",
            "private",
        ],
    );
    assert_eq!(code(&reply), Some(DENIED), "of another secret: {reply}");
    let reply = subscribe(&mut client, &["--secret", SECRET, "--user", "alice"]);
    assert_eq!(code(&reply), Some(DENIED), "a connection token: {reply}");
    let claims = json!({
        "sub": "alice", "channel": "private", "exp": jwt::seconds_from_now(-3_600),
    });
    let request = json!({ "channel": "private", "token": jwt::sign(SECRET, &claims) });
    let reply = client.command("subscribe", request);
    assert_eq!(code(&reply), Some(TOKEN_EXPIRED), "expired: {reply}");
    let reply = subscribe(
        &mut client,
        &[
            "--secret",
            SECRET,
            "--user",
            "alice",
            "--channel",
            "private",
        ],
    );
    assert!(reply.get("subscribe").is_some(), "{reply}");
    Api::with_key(node.address(), KEY).publish("private", json!("secret"));
    assert_eq!(run_over_ws(&mut client, "private", 1, 1), [json!("secret")]);
}

#[test]
fn the_api_wants_its_key() {
    let node = start();
    let body = br#"{"channel":"channel","data":1}"#;
    let status = |header: Option<(&str, &str)>| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(header);
        Http::once(node.address(), "POST", "/api/publish", &headers, body)
            .unwrap()
            .status
    };
    assert_eq!(status(None), 401);
    assert_eq!(status(Some(("x-api-key", "wrong"))), 401);
    assert_eq!(status(Some(("x-api-key", ""))), 401);
    assert_eq!(status(Some(("x-api-key", &KEY[..KEY.len() - 1]))), 401);
    assert_eq!(status(Some(("authorization", KEY))), 401);
    assert_eq!(status(Some(("x-api-key", KEY))), 200);
    assert_eq!(
        status(Some(("authorization", &format!("apikey {KEY}")))),
        200
    );
}

#[test]
fn a_node_without_a_key_or_a_secret_refuses_everything() {
    let options = NodeOptions {
        binary: servers::binary(),
        ..NodeOptions::default()
    };
    let node = servers::start(options);
    match Api::new(node.address()).try_publish("channel", json!(1)) {
        Err(Refusal::Status(401, _)) => {}
        answer => panic!("{answer:?}"),
    }
    match Api::with_key(node.address(), "").try_publish("channel", json!(1)) {
        Err(Refusal::Status(401, _)) => {}
        answer => panic!("{answer:?}"),
    }
    for request in [json!({}), json!({ "token": token(&["--secret", SECRET]) })] {
        let mut client = Client::open(node.address());
        client.send_command("connect", request);
        match client.answer() {
            Err(End::Close(INVALID_TOKEN, _)) => {}
            answer => panic!("{answer:?}"),
        }
    }
}

#[test]
fn an_event_stream_without_a_token_is_refused() {
    let node = start();
    for path in ["/events?channel=news:x", "/events?channel=plain"] {
        let response = Http::once(node.address(), "GET", path, &[], &[]).unwrap();
        assert!(
            [401, 403].contains(&response.status),
            "{path}: {}",
            response.status
        );
    }
}

#[test]
fn secrets_do_not_appear_in_the_logs() {
    let node = start();
    let mut client = connect(&node, "alice");
    client.subscribe("news:x");
    let mut api = Api::with_key(node.address(), "a-wrong-key-with-a-word");
    assert!(api.try_publish("channel", json!(1)).is_err());
    let log = node.stderr();
    for secret in [SECRET, KEY, "a-wrong-key-with-a-word", "eyJ"] {
        assert!(!log.contains(secret), "{secret} in the log: {log}");
    }
}

// The codes of the Centrifuge protocol.
const INVALID_TOKEN: u16 = 3500;
const TOKEN_EXPIRED: u64 = 109;
const DENIED: u64 = 103;
const UNKNOWN_CHANNEL: u64 = 102;

fn start() -> Node {
    servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    })
}

#[track_caller]
fn connect(node: &Node, user: &str) -> Client {
    let mut client = Client::open(node.address());
    let reply = client.command(
        "connect",
        json!({ "token": token(&["--secret", SECRET, "--user", user]) }),
    );
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

/// What `fanfare token` prints.
#[track_caller]
fn token(arguments: &[&str]) -> String {
    let output = Command::new(servers::binary())
        .arg("token")
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    token
}
