//! Subscriptions that the server makes: with the connection, by the token's claims, and when the application asks for them.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::expect::run_over_ws;
use fanfare_tests::stream::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

use crate::browser::run_script;

const KEY: &str = "an-api-key-of-the-tests";
const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";

/// Nobody subscribes by itself, and who is there is told.
const CONFIG: &str = r#"
subscriptions_per_connection_max = 4

[[namespaces]]
name = "news"
history = "subscriber"
presence = "subscriber"
join_leave = true
"#;

fn options() -> NodeOptions {
    NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    }
}

fn api(node: &Node) -> Api {
    Api::with_key(node.address(), KEY)
}

/// A connection, and the reply to its connect.
#[track_caller]
fn connected(node: &Node, claims: &Value, subs: Value) -> (Client, Value) {
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, claims);
    let mut reply = client.command("connect", json!({ "token": token, "subs": subs }));
    assert!(reply.get("connect").is_some(), "{reply}");
    (client, reply["connect"].take())
}

#[test]
fn the_official_client_over_the_death_of_a_node() {
    for protobuf in [false, true] {
        let (database, redis) = (servers::database(), servers::redis());
        let nodes = ["node-1", "node-2"].map(|name| {
            servers::start(NodeOptions {
                postgres: Some(database.clone()),
                redis: Some(redis.url()),
                name: Some(name.to_owned()),
                ..options()
            })
        });
        let token = jwt::sign(
            SECRET,
            &json!({
                "sub": "ann", "channels": ["news:feed"],
                "subs": { "news:alerts": { "data": { "severity": "all" } } },
            }),
        );
        let [url, other] = nodes.each_ref().map(Node::url);
        let pid = nodes[0].pid().to_string();
        let mut arguments = vec![
            "--url",
            &url,
            "--other",
            &other,
            "--pid",
            &pid,
            "--token",
            &token,
            "--user",
            "ann",
            "--api-key",
            KEY,
        ];
        if protobuf {
            arguments.push("--protobuf");
        }
        run_script("server-subs.mjs", &arguments, &nodes.each_ref());
    }
}

#[test]
fn a_token_subscribes_its_client_and_it_comes_back_from_any_distance() {
    const MISSED: u64 = 700;
    let node = servers::start(options());
    let mut api = api(&node);
    let claims = json!({
        "sub": "ann", "channels": ["news:a"],
        "subs": {
            "news:b": { "data": [1], "info": { "role": "host" }, "override": { "force_push_join_leave": { "value": true } } },
            "news:c": { "override": { "presence": { "value": false } } },
            "nowhere:x": {},
        },
    });
    let (mut client, reply) = connected(&node, &claims, json!({}));
    let subs = reply["subs"].as_object().unwrap();
    let names: Vec<&str> = subs.keys().map(String::as_str).collect();
    assert_eq!(names, ["news:a", "news:b", "news:c"], "{reply}");
    let epoch = subs["news:a"]["epoch"].as_str().unwrap();
    assert_eq!(
        subs["news:a"],
        json!({ "recoverable": true, "epoch": epoch, "positioned": true })
    );
    assert_eq!(subs["news:b"]["data"], json!([1]));
    // It is told of itself where it is told of others, with what its subscription says.
    let join = client.push("news:b", "join");
    assert_eq!(join["info"]["client"], reply["client"]);
    assert_eq!(join["info"]["chan_info"], json!({ "role": "host" }));
    let count = |api: &mut Api, channel: &str| {
        let stats = api.call("presence_stats", &json!({ "channel": channel }));
        stats.unwrap()["num_clients"].clone()
    };
    eventually("it is there", || {
        (count(&mut api, "news:a") == 1).then_some(())
    });
    assert_eq!(count(&mut api, "news:c"), 0, "it is hidden there");
    for number in 1..=10 {
        api.publish("news:a", json!(number));
    }
    run_over_ws(&mut client, "news:a", 1, 10);
    drop(client);

    for number in 11..=10 + MISSED {
        api.publish("news:a", json!(number));
    }
    let position = json!({ "recover": true, "offset": 10, "epoch": epoch });
    // Who has no leave for a channel gets none by a position.
    let subs = json!({
        "news:a": position, "news:b": { "recover": true, "offset": 0, "epoch": "another" }, "news:other": position, "bad name": {},
    });
    let (mut client, reply) = connected(&node, &claims, subs);
    let found = &reply["subs"];
    assert_eq!(found.as_object().unwrap().len(), 3, "{reply}");
    assert_eq!(found["news:a"]["recovered"], true, "{reply}");
    assert_eq!(found["news:a"]["offset"], 10, "{reply}");
    assert_eq!(found["news:b"]["was_recovering"], true, "{reply}");
    assert_eq!(found["news:b"]["reset"], true, "{reply}");
    let received = run_over_ws(&mut client, "news:a", 11, 10 + MISSED);
    assert_eq!(
        received,
        (11..=10 + MISSED).map(Value::from).collect::<Vec<_>>()
    );
}

#[test]
fn what_stands_behind_a_connect_waits_for_it_and_a_client_takes_over_what_it_subscribes_to() {
    let node = servers::start(options());
    let token = jwt::sign(
        SECRET,
        &json!({ "sub": "ann", "channels": ["news:a", "news:b"] }),
    );
    let mut api = api(&node);
    let epoch = api.publish("news:a", json!(1)).epoch;
    let connect = json!({ "id": 1, "connect": { "token": token } });
    let since = json!({ "channel": "news:a", "recover": true, "offset": 0, "epoch": epoch });
    let subscribe = json!({ "id": 2, "subscribe": since });
    let again = json!({ "id": 3, "subscribe": { "channel": "news:a" } });
    let ping = json!({ "id": 4, "ping": {} });
    let mut client = Client::open(node.address());
    client.send_text(&format!("{connect}\n{subscribe}\n{again}\n{ping}"));
    let replies: Vec<Value> = (0..4).map(|_| client.answer().unwrap()).collect();
    let of = |id: u64| replies.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!(replies[0]["id"], 1, "{replies:?}");
    let subs = &replies[0]["connect"]["subs"];
    assert_eq!(subs["news:a"]["offset"], 1, "{replies:?}");
    assert_eq!(of(2)["subscribe"]["recovered"], true, "{replies:?}");
    assert_eq!(of(3)["error"]["code"], 105, "{replies:?}");
    assert!(of(4).get("ping").is_some(), "{replies:?}");
    // From where it asked to go on, and each once.
    api.publish("news:a", json!(2));
    api.publish("news:b", json!("b"));
    run_over_ws(&mut client, "news:a", 1, 2);
    run_over_ws(&mut client, "news:b", 1, 1);
    assert!(client.pushes().is_empty());
    // It is there once, and leaves for good when it unsubscribes.
    let stats = json!({ "channel": "news:a" });
    assert_eq!(
        api.call("presence_stats", &stats).unwrap()["num_clients"],
        1
    );
    client.command("unsubscribe", json!({ "channel": "news:a" }));
    eventually("it has left", || {
        let counted = api.call("presence_stats", &stats).unwrap();
        (counted["num_clients"] == 0).then_some(())
    });
}

#[test]
fn more_channels_than_a_connection_may_have_end_it() {
    let node = servers::start(options());
    let many: Vec<String> = (0..5).map(|number| format!("news:{number}")).collect();
    let token = jwt::sign(SECRET, &json!({ "sub": "ann", "channels": many }));
    let mut client = Client::open(node.address());
    client.send_command("connect", json!({ "token": token }));
    assert!(matches!(client.end(), End::Close(3505, _)));
    // The application cannot give it more either; what comes later proves that the rest was heard.
    let four = json!({ "sub": "bob", "channels": many[..4] });
    let (mut client, _) = connected(&node, &four, json!({}));
    let mut api = api(&node);
    for (method, channel) in [
        ("subscribe", "news:more"),
        ("unsubscribe", "news:0"),
        ("subscribe", "news:4"),
    ] {
        let request = json!({ "user": "bob", "channel": channel });
        api.call(method, &request).unwrap();
    }
    assert_eq!(client.push("news:0", "unsubscribe")["code"], 2000);
    assert_eq!(client.push("news:4", "subscribe")["positioned"], true);
    assert!(client.pushes().is_empty());
}

#[test]
fn subscriptions_of_the_server_end_when_they_are_over() {
    let node = servers::start(options());
    let soon = jwt::seconds_from_now(1);
    let claims =
        json!({ "sub": "ann", "subs": { "news:a": { "expire_at": soon - 60 }, "news:b": {} } });
    let (mut client, reply) = connected(&node, &claims, json!({}));
    assert_eq!(reply["subs"].as_object().unwrap().len(), 1, "{reply}");
    // An end that is near is told with the subscription.
    let request = json!({ "user": "ann", "channel": "news:c", "expire_at": soon + 600 });
    api(&node).call("subscribe", &request).unwrap();
    let subscribed = client.push("news:c", "subscribe");
    assert_eq!(subscribed["expires"], true, "{subscribed}");
    assert!(subscribed["ttl"].as_u64().unwrap() <= 601, "{subscribed}");
}

#[test]
fn whoever_only_listens_is_told_what_the_application_does() {
    let node = servers::start(options());
    let mut api = api(&node);
    let token = jwt::sign(
        SECRET,
        &json!({ "sub": "ann", "subs": { "news:a": { "data": "hello" } } }),
    );
    let request = json!({ "token": token }).to_string();
    let mut stream = Stream::post(node.address(), "/connection/uni_http_stream", &request);
    let connect = stream.message();
    assert_eq!(
        connect["connect"]["subs"]["news:a"]["data"], "hello",
        "{connect}"
    );
    let epoch = api.publish("news:b", json!(1)).epoch;
    api.publish("news:b", json!(2));
    assert_eq!(
        stream_call(
            &mut api,
            "subscribe",
            json!({ "channel": "news:b", "recover_since": { "offset": 1, "epoch": epoch } })
        ),
        json!({})
    );
    let push = stream.message();
    assert_eq!(
        (&push["channel"], &push["subscribe"]["offset"]),
        (&json!("news:b"), &json!(1)),
        "{push}"
    );
    assert_eq!(stream.message()["pub"]["data"], 2);
    let until = jwt::seconds_from_now(500);
    stream_call(&mut api, "refresh", json!({ "expire_at": until }));
    let push = stream.message();
    assert_eq!(push["refresh"]["expires"], true, "{push}");
    stream_call(&mut api, "refresh", json!({}));
    assert_eq!(stream.message(), json!({ "refresh": {} }));
    stream_call(&mut api, "unsubscribe", json!({ "channel": "news:b" }));
    let push = stream.message();
    assert_eq!(push["unsubscribe"]["code"], 2000, "{push}");
    stream_call(&mut api, "refresh", json!({ "expired": true }));
    assert_eq!(stream.message()["disconnect"]["code"], 3005);
    assert_eq!(stream.until_end(), None);
}

/// A call for the connections of ann.
fn stream_call(api: &mut Api, method: &str, mut request: Value) -> Value {
    request["user"] = json!("ann");
    api.call(method, &request).unwrap()
}
