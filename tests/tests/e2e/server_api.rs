//! The server API over several nodes, with Redis stopped: what is done with a user's connections happens wherever they are, once, and to
//! nobody who comes later.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::expect::run_over_ws;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

use crate::browser::run_script;

const KEY: &str = "an-api-key-of-the-tests";
const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";

const CONFIG: &str = r#"
[[namespaces]]
name = "room"
subscribe = "authenticated"
history = "subscriber"
presence = "subscriber"
"#;

/// Nodes on one database, whose Redis is gone.
struct Stage {
    database: String,
    redis_url: String,
    nodes: Vec<Node>,
}

impl Stage {
    fn start() -> Self {
        let mut redis = servers::redis();
        let mut stage = Self {
            database: servers::database(),
            redis_url: redis.url(),
            nodes: Vec::new(),
        };
        stage.add();
        stage.add();
        redis.kill();
        // They know each other, and where they are reached.
        for node in &stage.nodes {
            eventually("a node knows both", || {
                let info = api(node).call("info", &json!({})).ok()?;
                (info["nodes"].as_array()?.len() == 2).then_some(())
            });
        }
        stage
    }

    fn add(&mut self) {
        let number = self.nodes.len() + 1;
        self.nodes.push(servers::start(NodeOptions {
            postgres: Some(self.database.clone()),
            redis: Some(self.redis_url.clone()),
            name: Some(format!("node-{number}")),
            config: Some(CONFIG.to_owned()),
            ..servers::closed(KEY, SECRET)
        }));
    }
}

fn api(node: &Node) -> Api {
    Api::with_key(node.address(), KEY)
}

/// A connection of a user's session, and its id.
#[track_caller]
fn connected(node: &Node, user: &str, session: &str) -> (Client, String) {
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, &json!({ "sub": user, "jti": session }));
    let reply = client.command("connect", json!({ "token": token }));
    let id = reply["connect"]["client"].as_str();
    let id = id.unwrap_or_else(|| panic!("{reply}")).to_owned();
    (client, id)
}

#[test]
fn commands_reach_a_users_connections_on_all_nodes() {
    let mut stage = Stage::start();
    let mut api = api(&stage.nodes[0]);
    let (mut here, _) = connected(&stage.nodes[0], "ann", "phone");
    let (mut there, there_id) = connected(&stage.nodes[1], "ann", "laptop");
    let (mut other, _) = connected(&stage.nodes[0], "bob", "phone");
    let call = |api: &mut Api, method: &str, request: Value| {
        assert_eq!(
            api.call(method, &request).unwrap(),
            json!({}),
            "{method} {request}"
        );
    };

    // Subscribe: all of them, with what was published before.
    let epoch = api.publish("room:1", json!(1)).epoch;
    let since = json!({ "offset": 0, "epoch": epoch });
    let request = json!({ "user": "ann", "channel": "room:1", "data": { "by": "api" }, "recover_since": since });
    call(&mut api, "subscribe", request);
    for client in [&mut here, &mut there] {
        let push = client.push("room:1", "subscribe");
        assert_eq!(push["data"], json!({ "by": "api" }), "{push}");
        assert_eq!(push["recovered"], true, "{push}");
    }
    api.publish("room:1", json!(2));
    for client in [&mut here, &mut there] {
        run_over_ws(client, "room:1", 1, 2);
    }
    // A position of another log is told to be one.
    let foreign = json!({ "user": "ann", "channel": "room:2", "recover_since": { "offset": 9, "epoch": "another" } });
    call(&mut api, "subscribe", foreign);
    assert_eq!(there.push("room:2", "subscribe")["reset"], true);
    assert_eq!(here.push("room:2", "subscribe")["reset"], true);

    // One connection, or one session, and not the others.
    call(
        &mut api,
        "unsubscribe",
        json!({ "user": "ann", "channel": "room:1", "client": there_id }),
    );
    assert_eq!(there.push("room:1", "unsubscribe")["code"], 2000);
    call(
        &mut api,
        "unsubscribe",
        json!({ "user": "ann", "channel": "room:2", "session": "phone" }),
    );
    assert_eq!(here.push("room:2", "unsubscribe")["code"], 2000);
    api.publish("room:1", json!(3));
    api.publish("room:2", json!(1));
    run_over_ws(&mut here, "room:1", 3, 3);
    run_over_ws(&mut there, "room:2", 1, 1);

    // Disconnect: all but those that are named, for the reason that is given.
    let request = json!({ "user": "ann", "disconnect": { "code": 4100, "reason": "\"moved\"" }, "whitelist": [there_id] });
    call(&mut api, "disconnect", request);
    assert_eq!(here.end(), End::Close(4100, "\"moved\"".to_owned()));

    // A node that starts later carries out nothing of the past, and everything from then on.
    stage.add();
    let (mut late, _) = connected(&stage.nodes[2], "ann", "tablet");
    call(
        &mut api,
        "subscribe",
        json!({ "user": "ann", "channel": "room:3" }),
    );
    assert_eq!(late.push("room:3", "subscribe")["positioned"], true);
    assert!(late.pushes().is_empty());
    assert_eq!(there.push("room:3", "subscribe")["positioned"], true);
    stage.nodes[1].kill();
    stage.nodes[1].restart().unwrap();
    let (mut back, _) = connected(&stage.nodes[1], "ann", "laptop");

    // Refresh, and the end of all.
    let soon = jwt::seconds_from_now(600);
    call(
        &mut api,
        "refresh",
        json!({ "user": "ann", "expire_at": soon }),
    );
    call(
        &mut api,
        "refresh",
        json!({ "user": "ann", "session": "tablet", "expired": true }),
    );
    assert!(matches!(late.end(), End::Close(3005, _)));
    assert!(back.pushes().is_empty() && back.is_open());
    call(&mut api, "disconnect", json!({ "user": "ann" }));
    assert_eq!(back.end(), End::Close(3503, "force disconnect".to_owned()));
    assert!(
        other.pushes().is_empty() && other.is_open(),
        "nobody has named bob"
    );
}

#[test]
fn channels_are_counted_on_all_nodes() {
    let mut stage = Stage::start();
    let mut clients: Vec<(Client, String)> = Vec::new();
    for (node, channels) in [(0, &["room:a", "room:b"][..]), (1, &["room:b", "room:c"])] {
        let (mut client, id) = connected(&stage.nodes[node], "ann", "s");
        for channel in channels {
            client.subscribe(channel);
        }
        clients.push((client, id));
    }
    let all = json!({ "room:a": { "num_clients": 1 }, "room:b": { "num_clients": 2 }, "room:c": { "num_clients": 1 } });
    for node in &stage.nodes {
        let listed = api(node).call("channels", &json!({})).unwrap();
        assert_eq!(listed, json!({ "channels": all }));
        let some = api(node)
            .call("channels", &json!({ "pattern": "*:[b-z]" }))
            .unwrap();
        assert_eq!(
            some,
            json!({ "channels": {} }),
            "brackets stand for themselves"
        );
        let some = api(node)
            .call("channels", &json!({ "pattern": "?oom:b*" }))
            .unwrap();
        assert_eq!(some["channels"], json!({ "room:b": { "num_clients": 2 } }));
    }
    drop(clients.pop());
    eventually("who has left is not counted", || {
        let listed = api(&stage.nodes[0]).call("channels", &json!({})).unwrap();
        (listed["channels"].as_object().unwrap().len() == 2).then_some(())
    });
    // What cannot be asked is said to be missing.
    stage.nodes[1].pause();
    let listed = api(&stage.nodes[0]).call("channels", &json!({})).unwrap();
    assert_eq!(listed["degraded"], true, "{listed}");
    assert_eq!(listed["channels"]["room:a"], json!({ "num_clients": 1 }));
    stage.nodes[1].resume();
}

#[test]
fn removed_history_is_gone_everywhere_and_numbers_go_on() {
    let stage = Stage::start();
    let mut apis = [api(&stage.nodes[0]), api(&stage.nodes[1])];
    let (mut reader, _) = connected(&stage.nodes[1], "ann", "s");
    reader.subscribe("room:1");
    let mut epoch = String::new();
    for number in 1..=300 {
        epoch = apis[0].publish("room:1", json!(number)).epoch;
    }
    run_over_ws(&mut reader, "room:1", 1, 300);
    let removed = apis[0].call("history_remove", &json!({ "channel": "room:1" }));
    assert_eq!(removed.unwrap(), json!({}));
    for api in &mut apis {
        let page = api
            .call("history", &json!({ "channel": "room:1" }))
            .unwrap();
        assert_eq!(
            (&page["publications"], &page["offset"]),
            (&json!([]), &json!(300))
        );
    }
    assert_eq!(apis[1].publish("room:1", json!("next")).offset, 301);
    run_over_ws(&mut reader, "room:1", 301, 301);
    // Whoever is behind is told, on either node, though both had it in memory a moment ago.
    for node in &stage.nodes {
        eventually("the node has heard of it", || {
            let (mut late, _) = connected(node, "bob", "s");
            let told = late.subscribe_from("room:1", 295, &epoch);
            let is_told = told["truncated"] == true && told["oldest"] == 301;
            assert!(is_told || told["recovered"] == true, "{told}");
            is_told.then_some(())
        });
        let (mut late, _) = connected(node, "bob", "s");
        let told = late.subscribe_from("room:1", 300, &epoch);
        assert_eq!(told["recovered"], true, "{told}");
        run_over_ws(&mut late, "room:1", 301, 301);
    }
    let since = json!({ "channel": "room:1", "since": { "offset": 5, "epoch": epoch } });
    let page = apis[1].call("history", &since).unwrap();
    assert_eq!(page["truncated"], json!({ "oldest": 301 }), "{page}");
    // A channel that never was has nothing to remove.
    let removed = apis[0].call("history_remove", &json!({ "channel": "room:never" }));
    assert_eq!(removed.unwrap(), json!({}));
}

#[test]
fn a_batch_answers_each_of_its_commands() {
    let node = servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    });
    let mut api = api(&node);
    let batch = |api: &mut Api, request: Value| {
        let body = request.to_string();
        let response = api
            .post("/api/batch", "application/json", body.as_bytes())
            .unwrap();
        (response.status, response.json())
    };
    let publish = |number: u64| json!({ "publish": { "channel": "room:1", "data": number } });
    let commands = json!([
        publish(1),
        publish(2),
        { "history": { "channel": "room:1", "limit": 1, "reverse": true } },
        { "publish": { "channel": "nowhere:1", "data": 1 } },
        { "publish": { "channel": "room:1" } },
        { "unknown": {} },
        { "batch": { "commands": [] } },
        { "publish": {}, "history": {} },
        7,
        { "disconnect": { "user": "ann" } },
    ]);
    let (status, answer) = batch(&mut api, json!({ "commands": commands }));
    assert_eq!(status, 200);
    let replies = answer["replies"].as_array().unwrap();
    let offset = |reply: &Value| reply["publish"]["offset"].as_u64();
    assert_eq!(
        (offset(&replies[0]), offset(&replies[1])),
        (Some(1), Some(2)),
        "one after the other"
    );
    assert_eq!(replies[2]["history"]["publications"][0]["data"], 2);
    let codes: Vec<&Value> = replies[3..9]
        .iter()
        .map(|reply| &reply["error"]["code"])
        .collect();
    assert_eq!(codes, [102, 107, 104, 104, 107, 107], "{answer}");
    assert_eq!(replies[9], json!({ "disconnect": {} }));
    let many: Vec<Value> = (3..=500).map(publish).collect();
    let (_, answer) = batch(&mut api, json!({ "commands": many, "parallel": true }));
    let mut offsets: Vec<u64> = answer["replies"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(offset)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (3..=500).collect::<Vec<u64>>());
    for wrong in [
        json!({}),
        json!([]),
        json!({ "commands": [] }),
        json!({ "commands": vec![publish(1); 1001] }),
    ] {
        assert_eq!(batch(&mut api, wrong).0, 400);
    }
    assert_eq!(api.history("room:1").head, 500);
}

#[test]
fn commands_that_name_nobody_or_nothing_are_refused() {
    let node = servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    });
    let mut api = api(&node);
    let past = jwt::seconds_from_now(-10);
    for (method, request, code) in [
        ("subscribe", json!({ "channel": "room:1" }), 107),
        (
            "subscribe",
            json!({ "user": "a", "channel": "nowhere:1" }),
            102,
        ),
        (
            "subscribe",
            json!({ "user": "a", "channel": "_fanfare:commands" }),
            102,
        ),
        (
            "subscribe",
            json!({ "user": "a", "channel": "bad name" }),
            107,
        ),
        (
            "subscribe",
            json!({ "user": "a", "channel": "room:1", "expire_at": past }),
            107,
        ),
        (
            "subscribe",
            json!({ "user": "a", "channel": "room:1", "b64data": "eA==" }),
            107,
        ),
        (
            "subscribe",
            json!({ "user": "a", "channel": "room:1", "info": "x".repeat(9000) }),
            106,
        ),
        (
            "unsubscribe",
            json!({ "user": "a", "channel": "room:1", "client": "no id" }),
            107,
        ),
        ("disconnect", json!({}), 107),
        ("disconnect", json!({ "user": "u".repeat(300) }), 107),
        (
            "disconnect",
            json!({ "user": "a", "disconnect": { "code": 1000 } }),
            107,
        ),
        (
            "disconnect",
            json!({ "user": "a", "disconnect": { "code": 4000, "reason": "r".repeat(200) } }),
            107,
        ),
        (
            "disconnect",
            json!({ "user": "a", "whitelist": ["no id"] }),
            107,
        ),
        ("refresh", json!({ "expired": true }), 107),
        (
            "history_remove",
            json!({ "channel": "_fanfare:revocations" }),
            102,
        ),
    ] {
        match api.call(method, &request) {
            Err(Refusal::Api { code: found, .. }) if found == code => {}
            answer => panic!("{method} {request}: {answer:?}"),
        }
    }
    for (method, request) in [
        ("subscribe", json!({ "user": "a" })),
        ("subscribe", json!({ "user": 7, "channel": "room:1" })),
        ("disconnect", json!({ "user": "a", "disconnect": {} })),
        ("refresh", json!({ "user": "a", "expire_at": "soon" })),
        ("channels", json!({ "pattern": "p".repeat(256) })),
        ("history_remove", json!({})),
    ] {
        match api.call(method, &request) {
            Err(Refusal::Status(400, _)) => {}
            answer => panic!("{method} {request}: {answer:?}"),
        }
    }
    // Without the key nothing is done.
    let stranger = Api::new(node.address()).call("disconnect", &json!({ "user": "a" }));
    assert!(
        matches!(stranger, Err(Refusal::Status(401, _))),
        "{stranger:?}"
    );
}

/// An event stream of a user's session.
#[track_caller]
fn stream(node: &Node, token: &Value, channels: &str) -> Stream {
    let bearer = format!("Bearer {}", jwt::sign(SECRET, token));
    let path = format!("/events?{channels}");
    let mut stream = Stream::open_path(node.address(), &path, &[("authorization", &bearer)]);
    stream.expect("ready");
    stream
}

#[test]
fn commands_reach_event_streams_on_all_nodes() {
    let stage = Stage::start();
    let mut here = api(&stage.nodes[0]);
    let there = &stage.nodes[1];
    let open = |user: &str, session: &str| {
        let token = json!({ "sub": user, "jti": session });
        stream(there, &token, "channel=room:1&channel=room:2")
    };
    let (mut first, mut second, mut other) = (open("ann", "1"), open("ann", "2"), open("bob", "3"));
    let mut call = |method: &str, request: Value| {
        let result = here.call(method, &request);
        assert_eq!(
            result.unwrap_or_else(|refusal| panic!("{refusal:?}")),
            json!({})
        );
    };
    call(
        "unsubscribe",
        json!({ "user": "ann", "session": "1", "channel": "room:1" }),
    );
    let ended = json!({ "channel": "room:1", "code": 2000, "reason": "server unsubscribe" });
    assert_eq!(first.expect("unsubscribe"), ended);
    // It is nothing that a stream could be told.
    call("subscribe", json!({ "user": "ann", "channel": "room:3" }));
    let mut publisher = api(&stage.nodes[0]);
    for channel in ["room:1", "room:3", "room:2"] {
        publisher.publish(channel, json!(channel));
    }
    assert_eq!(first.expect("message")["data"], "room:2");
    for stream in [&mut second, &mut other] {
        assert_eq!(stream.expect("message")["data"], "room:1");
        assert_eq!(stream.expect("message")["data"], "room:2");
    }
    // What comes back has the channel again, from where it was.
    let has = first.last_id().expect("an id").to_owned();
    let bearer = jwt::sign(SECRET, &json!({ "sub": "ann" }));
    let headers = [
        ("authorization", &*format!("Bearer {bearer}")),
        ("last-event-id", &*has),
    ];
    let path = "/events?channel=room:1&channel=room:2";
    let mut back = Stream::open_path(there.address(), path, &headers);
    back.expect("ready");
    assert_eq!(back.expect("message")["data"], "room:1");

    let who = json!({ "code": 4500, "reason": "enough" });
    call(
        "disconnect",
        json!({ "user": "ann", "session": "2", "disconnect": who }),
    );
    assert_eq!(second.expect("disconnect"), who);
    second.end();
    call(
        "refresh",
        json!({ "user": "ann", "session": "1", "expired": true }),
    );
    first.end();
    let soon = jwt::seconds_from_now(2);
    call("refresh", json!({ "user": "bob", "expire_at": soon }));
    other.end();
    publisher.publish("room:1", json!("still"));
    assert_eq!(back.expect("message")["data"], "still");
}

#[test]
fn commands_reach_socket_io_clients_on_all_nodes() {
    let stage = Stage::start();
    let token =
        |user: &str, session: &str| jwt::sign(SECRET, &json!({ "sub": user, "jti": session }));
    let [here, there] = [&stage.nodes[0], &stage.nodes[1]];
    let arguments = [
        "--url",
        &there.url(),
        "--other",
        &here.url(),
        "--api-key",
        KEY,
        "--token",
        &token("ann", "1"),
        "--other-token",
        &token("bob", "2"),
    ];
    run_script("socketio-commands.mjs", &arguments, &[here, there]);
}
