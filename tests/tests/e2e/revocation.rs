//! What was opened with a token ends when the token is revoked: on all nodes, without Redis, and for nodes that start
//! later.

use fanfare_bench::local::Node;
use fanfare_tests::api::Api;
use fanfare_tests::http::Http;
use fanfare_tests::jwt;
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::ws::{Client, End};
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";
const INVALID_TOKEN: u16 = 3500;

const CONFIG: &str = r#"
[[namespaces]]
name = "news"
subscribe = "authenticated"
history = "authenticated"
"#;

#[test]
fn a_revoked_user_is_out_on_all_nodes_and_stays_out() {
    let database = servers::database();
    let mut redis = servers::redis();
    let redis_url = redis.url();
    let start = || {
        let mut options = servers::closed(KEY, SECRET);
        options.postgres = Some(database.clone());
        options.redis = Some(redis_url.clone());
        options.config = Some(CONFIG.to_owned());
        servers::start(options)
    };
    let nodes = [start(), start()];
    let (alice, bob) = (token("alice", "a1"), token("bob", "b1"));
    let mut hers = nodes.each_ref().map(|node| connected(node, &alice));
    let mut stream = events(&nodes[1], &alice);
    stream.expect("ready");
    let mut his = nodes.each_ref().map(|node| connected(node, &bob));
    // A revocation needs no Redis.
    redis.kill();
    revoke(&nodes[0], json!({ "user": "alice" }));
    for client in &mut hers {
        assert!(matches!(client.end(), End::Close(INVALID_TOKEN, _)));
    }
    stream.end();
    for client in &mut his {
        assert!(client.is_open());
    }
    for node in &nodes {
        assert_eq!(refused(node, &alice), INVALID_TOKEN);
        assert_eq!(status_of_events(node, &alice), 401);
    }
    let third = start();
    assert_eq!(refused(&third, &alice), INVALID_TOKEN);
    connected(&third, &bob);
    // Whoever signs in again is let in.
    let later = jwt::seconds_from_now(5);
    let fresh = jwt::sign(SECRET, &json!({ "sub": "alice", "iat": later }));
    connected(&third, &fresh);
}

#[test]
fn a_revoked_session_is_out_and_the_users_others_stay() {
    let node = servers::start(servers::closed(KEY, SECRET));
    let (phone, laptop) = (token("alice", "phone"), token("alice", "laptop"));
    let mut of_phone = connected(&node, &phone);
    let mut of_laptop = connected(&node, &laptop);
    revoke(&node, json!({ "session": "phone" }));
    assert!(matches!(of_phone.end(), End::Close(INVALID_TOKEN, _)));
    assert_eq!(refused(&node, &phone), INVALID_TOKEN);
    assert!(of_laptop.is_open());
    assert!(Api::with_key(node.address(), KEY).metric("revocations") >= 1.0);
}

#[test]
fn a_revocation_that_names_nobody_or_two_is_refused() {
    let node = servers::start(servers::closed(KEY, SECRET));
    let mut api = Api::with_key(node.address(), KEY);
    for request in [
        json!({}),
        json!({ "user": "" }),
        json!({ "user": "a", "session": "b" }),
        json!({ "user": "u".repeat(300) }),
    ] {
        assert!(api.call("revoke", &request).is_err(), "{request}");
    }
    // Nobody reads or writes the list but through this method.
    let hidden = json!({ "channel": "_fanfare:revocations", "data": { "user": { "user": "a" } } });
    assert!(api.call("publish", &hidden).is_err());
    let open = servers::start(servers::dev());
    let mut client = Client::connect(open.address());
    let reply = client.command("subscribe", json!({ "channel": "_fanfare:revocations" }));
    assert!(reply.get("error").is_some(), "{reply}");
}

fn token(user: &str, session: &str) -> String {
    let now = jwt::seconds_from_now(0);
    jwt::sign(SECRET, &json!({ "sub": user, "jti": session, "iat": now }))
}

fn connected(node: &Node, token: &str) -> Client {
    let mut client = Client::open(node.address());
    let reply = client.command("connect", json!({ "token": token }));
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

/// The close code of a connection that is refused.
fn refused(node: &Node, token: &str) -> u16 {
    let mut client = Client::open(node.address());
    client.send_command("connect", json!({ "token": token }));
    match client.answer() {
        Err(End::Close(code, _)) => code,
        other => panic!("not refused: {other:?}"),
    }
}

fn revoke(node: &Node, whom: Value) {
    let mut api = Api::with_key(node.address(), KEY);
    let result = api.call("revoke", &whom);
    assert!(result.is_ok(), "{result:?}");
}

fn events(node: &Node, token: &str) -> Stream {
    let bearer = format!("Bearer {token}");
    Stream::open_path(
        node.address(),
        "/events?channel=news%3Aa",
        &[("authorization", &bearer)],
    )
}

fn status_of_events(node: &Node, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let answer = Http::once(
        node.address(),
        "GET",
        "/events?channel=news%3Aa",
        &headers,
        &[],
    );
    answer.unwrap().status
}
