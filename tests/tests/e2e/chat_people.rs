//! The chat's members on two nodes: who follows a conversation, and what is over when somebody is put out of it.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::http::Http;
use fanfare_tests::servers;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use serde_json::{Value, json};

/// What the nodes sign with: who is known to one is known to all.
const SECRET: &str = "the secret of two nodes, 32 bytes";
const ALICE: &str = "xoxp-dev-alice";
const BOB: &str = "xoxp-dev-bob";
const BOB_ID: &str = "U0BOB000000";
const TEAM: &str = "chat.team:T0DEMO00000";
const GENERAL: &str = "chat:C0GENERAL00";
const DENIED: u64 = 103;
/// Who is there is not told of the conversation's channels at all.
const NOT_AVAILABLE: u64 = 108;

#[test]
fn whoever_is_put_out_is_out_on_all_nodes() {
    let (redis, database) = (servers::redis(), servers::database());
    let start = |name: &str| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            token_secret: Some(SECRET.to_owned()),
            ..servers::dev()
        })
    };
    let nodes = [start("one"), start("two")];
    follow_and_be_put_out(&nodes);
}

#[test]
fn nobody_follows_what_is_not_for_them() {
    let node = servers::start(servers::dev());
    let secret = make(&node, "secret");
    let secret = format!("chat:{secret}");
    let mut bob = connect(&node, BOB);
    let mut nobody = Client::connect(node.address());
    for channel in [
        &*secret,
        "chat.user:U0ALICE0000",
        "chat.app:A0BOT000000",
        "chat:C0FORGED000",
        "chat.team:T0FORGED000",
    ] {
        for client in [&mut bob, &mut nobody] {
            for (command, request) in [
                ("subscribe", json!({ "channel": channel })),
                (
                    "subscribe",
                    json!({ "channel": channel, "recover": true, "offset": 0, "epoch": "" }),
                ),
                ("history", json!({ "channel": channel, "limit": 1 })),
                ("presence", json!({ "channel": channel })),
                ("publish", json!({ "channel": channel, "data": 1 })),
            ] {
                let reply = client.command(command, request);
                let code = reply["error"]["code"].as_u64();
                assert!(
                    code == Some(DENIED) || (command == "presence" && code == Some(NOT_AVAILABLE)),
                    "{command} {channel}: {reply}"
                );
            }
        }
    }
    for channel in [TEAM, GENERAL, &format!("chat.user:{BOB_ID}")] {
        let reply = nobody.command("subscribe", json!({ "channel": channel }));
        assert_eq!(reply["error"]["code"], DENIED, "{channel}: {reply}");
        let reply = bob.command("subscribe", json!({ "channel": channel }));
        assert!(reply.get("subscribe").is_some(), "{channel}: {reply}");
        let forged = json!({ "channel": channel, "data": { "type": "message" } });
        let reply = bob.command("publish", forged);
        assert_eq!(reply["error"]["code"], DENIED, "{channel}: {reply}");
    }
    // Whoever is here is present in the workspace's channel.
    let presence = bob.command("presence", json!({ "channel": TEAM }));
    assert!(presence.to_string().contains(BOB_ID), "{presence}");
    let answer = call(&node, ALICE, "users.getPresence", json!({ "user": BOB_ID }));
    assert_eq!(answer["presence"], "active", "{answer}");
    let answer = call(
        &node,
        BOB,
        "users.getPresence",
        json!({ "user": "U0ALICE0000" }),
    );
    assert_eq!(answer["presence"], "away", "{answer}");
    let dev = Http::once(node.address(), "GET", "/chat/dev", &[], b"").unwrap();
    assert_eq!(dev.json()["users"][1]["token"], BOB);
    let door = call(&node, "", "chat.door", json!({}));
    assert_eq!(
        (&door["ok"], &door["sign_up"]),
        (&json!(true), &json!(true))
    );
}

fn follow_and_be_put_out(nodes: &[Node; 2]) {
    let [one, two] = nodes;
    let id = make(one, "plans");
    make(two, "more");
    let channel = format!("chat:{id}");
    let mut bob = connect(two, BOB);
    let own = format!("chat.user:{BOB_ID}");
    bob.subscribe(&own);
    let users = json!({ "channel": id, "users": BOB_ID });
    call(one, ALICE, "conversations.invite", users.clone());
    assert_eq!(bob.publication(&own)["data"]["type"], "group_joined");
    bob.subscribe(&channel);
    let said = json!({ "channel": id, "text": "hello" });
    let ts = call(one, ALICE, "chat.postMessage", said)["ts"].clone();
    assert_eq!(bob.publication(&channel)["data"]["text"], "hello");
    call(one, ALICE, "conversations.typing", json!({ "channel": id }));
    let typing = bob.publication(&channel);
    assert_eq!(typing["data"]["type"], "user_typing", "{typing}");
    // Put out on one node: the subscription on the other ends, and none begins again.
    call(
        one,
        ALICE,
        "conversations.kick",
        json!({ "channel": id, "user": BOB_ID }),
    );
    bob.push(&channel, "unsubscribe");
    let again = bob.command("subscribe", json!({ "channel": channel }));
    assert_eq!(again["error"]["code"], DENIED, "{again}");
    for node in nodes {
        for (method, more) in [
            ("conversations.history", json!({})),
            ("conversations.replies", json!({ "ts": ts })),
            ("conversations.info", json!({})),
            ("conversations.members", json!({})),
            ("conversations.typing", json!({})),
            ("conversations.join", json!({})),
            ("chat.postMessage", json!({ "text": "x" })),
        ] {
            let mut args = more;
            args["channel"] = id.as_str().into();
            let answer = ask(node, BOB, method, &args);
            assert_eq!(answer["error"], "channel_not_found", "{method}: {answer}");
        }
    }
    let after = json!({ "channel": id, "text": "without bob" });
    call(two, ALICE, "chat.postMessage", after);
    let users = json!({ "channel": TEAM });
    bob.command("subscribe", users);
    // That it has gone is the last that it hears: the event, and the message of it.
    while let Some(told) = bob.take_publication(&channel) {
        let data = &told["data"];
        let is_farewell =
            data["type"] == "member_left_channel" || data["subtype"] == "channel_leave";
        assert!(is_farewell, "{told}");
    }
    // With the account everything ends, the connection included.
    call(one, ALICE, "chat.deactivate", json!({ "user": BOB_ID }));
    let End::Close(code, _) = bob.end() else {
        panic!("the connection broke")
    };
    assert!((3500..4000).contains(&code), "SDKs come again after {code}");
    for node in nodes {
        let answer = ask(node, BOB, "client.token", &json!({}));
        assert_eq!(answer["error"], "invalid_auth", "{answer}");
    }
}

/// A private channel of alice's; its id.
fn make(node: &Node, name: &str) -> String {
    // The app makes its tables after the server listens.
    eventually("the chat", || {
        let answer = ask(node, ALICE, "auth.test", &json!({}));
        (answer["ok"] == true).then_some(())
    });
    let args = json!({ "name": name, "is_private": true });
    let made = call(node, ALICE, "conversations.create", args);
    made["channel"]["id"].as_str().unwrap().to_owned()
}

/// A page of somebody's.
#[track_caller]
fn connect(node: &Node, token: &str) -> Client {
    let token = call(node, token, "client.token", json!({}))["token"].clone();
    let mut client = Client::open(node.address());
    let reply = client.command("connect", json!({ "token": token }));
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

/// Calls a method that must succeed.
#[track_caller]
fn call(node: &Node, token: &str, method: &str, args: Value) -> Value {
    let answer = ask(node, token, method, &args);
    assert_eq!(answer["ok"], true, "{method} {args}: {answer}");
    answer
}

fn ask(node: &Node, token: &str, method: &str, args: &Value) -> Value {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/json")];
    if !token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    let path = format!("/v1/{method}");
    let body = args.to_string();
    let answer = Http::once(node.address(), "POST", &path, &headers, body.as_bytes());
    answer.unwrap().json()
}
