//! Channels whose names say which users they are for.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::http::Http;
use fanfare_tests::ws::Client;
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";
const DENIED: u64 = 103;

const CONFIG: &str = r#"
[channels]
allow_user_limited_channels = true

[[namespaces]]
name = "dialog"
subscribe = "anyone"
publish = "anyone"
history = "anyone"
presence = "anyone"
allow_user_limited_channels = true

[[namespaces]]
name = "own"
history = "subscriber"
allow_user_limited_channels = true
personal_channels = true

[[namespaces]]
name = "plain"
subscribe = "authenticated"
"#;

#[test]
fn a_channel_that_names_its_users_is_for_them_alone() {
    let node = start();
    let mut ann = connect(&node, "ann");
    let mut eve = connect(&node, "eve");
    let mut nobody = connect(&node, "");
    ann.subscribe("#ann");
    ann.subscribe("dialog:7#ann,bob");
    for client in [&mut eve, &mut nobody] {
        for channel in ["#ann", "#", "dialog:7#ann,bob", "dialog:7#", "dialog:7#,"] {
            for (command, request) in [
                ("subscribe", json!({"channel": channel})),
                ("publish", json!({"channel": channel, "data": 1})),
                ("history", json!({"channel": channel, "limit": 1})),
            ] {
                assert_eq!(
                    code(client.command(command, request)),
                    Some(DENIED),
                    "{command} {channel}"
                );
            }
        }
        let asked = client.command("presence", json!({"channel": "dialog:7#ann,bob"}));
        assert_eq!(code(asked), Some(DENIED));
    }
    // Who is not limited goes by the namespace as ever, and a token lets in whom it says.
    eve.subscribe("dialog:open");
    eve.subscribe("plain:x#ann");
    let token = jwt::sign(
        SECRET,
        &json!({"sub": "eve", "channel": "dialog:7#ann,bob"}),
    );
    let reply = eve.command(
        "subscribe",
        json!({"channel": "dialog:7#ann,bob", "token": token}),
    );
    assert!(reply.get("subscribe").is_some(), "{reply}");
    ann.command(
        "publish",
        json!({"channel": "dialog:7#ann,bob", "data": "hello"}),
    );
    for client in [&mut ann, &mut eve] {
        assert_eq!(client.publication("dialog:7#ann,bob")["data"], "hello");
    }
    Api::with_key(node.address(), KEY).publish("#ann", json!("to ann"));
    assert_eq!(ann.publication("#ann")["data"], "to ann");
}

#[test]
fn a_user_is_subscribed_to_its_own_channel_with_the_connection() {
    let node = start();
    let mut api = Api::with_key(node.address(), KEY);
    let connect = |request: Value| {
        let mut client = Client::open(node.address());
        let reply = client.command("connect", request);
        (client, reply["connect"]["subs"].clone())
    };
    let token = |user: &str| jwt::sign(SECRET, &json!({ "sub": user }));
    let (mut ann, subs) = connect(json!({ "token": token("ann") }));
    assert!(subs["own:#ann"]["epoch"].is_string(), "{subs}");
    let (mut eve, subs) = connect(json!({ "token": token("eve") }));
    assert!(subs["own:#eve"].is_object(), "{subs}");
    assert_eq!(
        code(eve.command("subscribe", json!({ "channel": "own:#ann" }))),
        Some(DENIED)
    );
    let first = api.publish("own:#ann", json!(1));
    assert_eq!(ann.publication("own:#ann")["data"], 1);
    drop(ann);
    api.publish("own:#ann", json!(2));
    let since = json!({ "recover": true, "offset": first.offset, "epoch": first.epoch });
    let since = json!({ "own:#ann": since });
    let (mut ann, subs) = connect(json!({ "token": token("ann"), "subs": since }));
    assert_eq!(subs["own:#ann"]["recovered"], true, "{subs}");
    assert_eq!(ann.publication("own:#ann")["data"], 2);
}

#[test]
fn an_event_stream_is_held_to_the_names_too() {
    let node = start();
    let status = |user: &str| {
        let token = jwt::sign(SECRET, &json!({"sub": user}));
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        // A channel that is not there keeps the stream of whoever may read the other from beginning.
        let path = "/events?channel=dialog:7%23ann,bob&channel=nowhere:x";
        Http::once(node.address(), "GET", path, &headers, &[])
            .unwrap()
            .status
    };
    assert_eq!(status("ann"), 404);
    assert_eq!(status("eve"), 403);
    assert_eq!(status(""), 403);
}

fn start() -> Node {
    servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    })
}

#[track_caller]
fn connect(node: &Node, user: &str) -> Client {
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, &json!({"sub": user}));
    let reply = client.command("connect", json!({"token": token}));
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

fn code(reply: Value) -> Option<u64> {
    reply["error"]["code"].as_u64()
}
