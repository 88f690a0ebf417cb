//! What the options of a namespace do to its channels, and the terms of one subscription to it: channels that keep nothing, limits,
//! recovery, who is seen, until when. Who may do what is in `namespaces.rs`.

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

use crate::namespaces::{CONFIG, KEY, NOT_AVAILABLE, RIGHTS, SECRET, connect, exercise, start};

const LIMIT_EXCEEDED: u64 = 106;
const TOKEN_EXPIRED: u64 = 109;
const TOO_MANY: u64 = 111;

#[test]
fn what_is_told_now_or_never_reaches_those_who_are_there_on_all_nodes() {
    let (database, redis) = (servers::database(), servers::redis());
    let node = || {
        servers::start(NodeOptions {
            config: Some(CONFIG.to_owned()),
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            ..servers::closed(KEY, SECRET)
        })
    };
    let nodes = [node(), node()];
    let mut here = connect(&nodes[0], json!({"sub": "ann", "info": {"name": "Ann"}}));
    let mut there = connect(&nodes[1], json!({"sub": "bob"}));
    for client in [&mut here, &mut there] {
        assert_eq!(client.subscribe("typing:1"), json!({}));
    }
    let reply = here.command(
        "publish",
        json!({"channel": "typing:1", "data": {"on": true}}),
    );
    assert_eq!(reply["publish"], json!({}), "{reply}");
    for client in [&mut here, &mut there] {
        let told = client.publication("typing:1");
        assert_eq!(told["data"], json!({"on": true}));
        assert_eq!(told["info"]["conn_info"], json!({"name": "Ann"}));
        for absent in ["offset", "epoch", "time"] {
            assert!(told.get(absent).is_none(), "{told}");
        }
    }
    let mut api = Api::with_key(nodes[1].address(), KEY);
    let request = json!({"channel": "typing:1", "data": "api", "tags": {"a": "b"}});
    assert_eq!(api.call("publish", &request).unwrap(), json!({}));
    for client in [&mut here, &mut there] {
        let told = client.publication("typing:1");
        assert_eq!(
            (&told["data"], &told["tags"]["a"]),
            (&json!("api"), &json!("b"))
        );
    }
    // With channels that keep something in one call: each as it is.
    let request = json!({"channels": ["typing:1", "anyone:b", "typing:2"], "data": "all"});
    let answer = api.call("broadcast", &request).unwrap();
    assert_eq!(answer["responses"][0], json!({"result": {}}));
    assert_eq!(answer["responses"][1]["result"]["offset"], 1);
    assert_eq!(answer["responses"][2], json!({"result": {}}));
    assert_eq!(here.publication("typing:1")["data"], "all");
    assert_eq!(there.publication("typing:1")["data"], "all");
}

#[test]
fn who_asks_for_what_is_kept_nowhere_is_told_so() {
    let node = start(CONFIG);
    let mut client = connect(
        &node,
        json!({"sub": "ann", "caps": [
            {"channels": ["typing:1"], "allow": RIGHTS},
        ]}),
    );
    assert_eq!(exercise(&mut client, "pub", "typing:1"), None);
    assert_eq!(
        exercise(&mut client, "hst", "typing:1"),
        Some(NOT_AVAILABLE)
    );
    let request = json!({"channel": "typing:1", "recover": true, "offset": 0});
    let reply = client.command("subscribe", request);
    assert_eq!(reply["error"]["code"], NOT_AVAILABLE, "{reply}");
    let mut api = Api::with_key(node.address(), KEY);
    let refused = |answer: Result<Value, Refusal>| match answer {
        Err(Refusal::Api { code, .. }) => code,
        answer => panic!("{answer:?}"),
    };
    let history = api.call("history", &json!({"channel": "typing:1"}));
    assert_eq!(refused(history), NOT_AVAILABLE);
    let once = json!({"channel": "typing:1", "data": 1, "idempotency_key": "k"});
    assert_eq!(refused(api.call("publish", &once)), NOT_AVAILABLE);
    // An event stream of it has no position to come back with, and nothing to be told of when it does.
    let mut stream = Stream::open(node.address(), &["typing:1"], None);
    stream.expect("ready");
    let id = stream.last_id().unwrap().to_owned();
    // What comes before a stream is there is not told to it.
    wait_for(&mut api, 1);
    api.call("publish", &json!({"channel": "typing:1", "data": 2}))
        .unwrap();
    let told = stream.expect("message");
    assert_eq!((&told["data"], told.get("offset")), (&json!(2), None));
    assert_eq!(stream.last_id(), Some(&*id));
    let mut again = Stream::open(node.address(), &["typing:1"], Some(&id));
    assert_eq!(again.event().name, "ready");
    wait_for(&mut api, 2);
    api.call("publish", &json!({"channel": "typing:1", "data": 3}))
        .unwrap();
    let next = again.event();
    assert_eq!(next.name, "message", "{next:?}");
}

/// Waits until so many are in `typing:1`.
#[track_caller]
fn wait_for(api: &mut Api, count: u64) {
    eventually("the streams are there", || {
        let stats = api.call("presence_stats", &json!({"channel": "typing:1"}));
        (stats.ok()?["num_clients"] == count).then_some(())
    });
}

#[test]
fn a_namespace_without_recovery_has_history_and_begins_live() {
    let node = start(CONFIG);
    let mut api = Api::with_key(node.address(), KEY);
    let first = api.publish("forgetful:x", json!(1));
    let mut client = Client::connect(node.address());
    let result = client.subscribe_from("forgetful:x", 0, &first.epoch);
    assert!(result.get("recoverable").is_none(), "{result}");
    assert_eq!(result["was_recovering"], true, "{result}");
    assert!(result.get("recovered").is_none(), "{result}");
    api.publish("forgetful:x", json!(2));
    assert_eq!(client.publication("forgetful:x")["offset"], 2);
    let reply = client.command("history", json!({"channel": "forgetful:x", "limit": 9}));
    let count = reply["history"]["publications"].as_array().unwrap().len();
    assert_eq!(count, 2, "{reply}");
    // One subscription may have it otherwise.
    let mut ann = connect(&node, json!({"sub": "ann"}));
    let claims = json!({"sub": "ann", "channel": "forgetful:x", "override": {"force_recovery": {"value": true}}});
    let request = json!({
        "channel": "forgetful:x", "recover": true, "offset": 0, "epoch": first.epoch,
        "token": jwt::sign(SECRET, &claims),
    });
    let reply = ann.command("subscribe", request);
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    assert_eq!(ann.publication("forgetful:x")["offset"], 1);
}

#[test]
fn a_namespace_has_limits_of_its_own() {
    let node = start(CONFIG);
    let mut client = Client::connect(node.address());
    let publish = |client: &mut Client, data: &str| {
        client.command("publish", json!({"channel": "limited:x", "data": data}))
    };
    let long = "x".repeat(30);
    let reply = publish(&mut client, &long);
    assert_eq!(reply["error"]["code"], LIMIT_EXCEEDED, "{reply}");
    let mut api = Api::with_key(node.address(), KEY);
    match api.try_publish("limited:x", json!(long)) {
        Err(Refusal::Api { code, .. }) => assert_eq!(code, LIMIT_EXCEEDED),
        answer => panic!("{answer:?}"),
    }
    // What was refused is no turn. A hundred are more than any machine lets through at one a second.
    let mut taken = 0;
    let refused = (0..100).find_map(|_| {
        let reply = publish(&mut client, "x");
        taken += usize::from(reply.get("publish").is_some());
        reply.get("error").cloned()
    });
    let refused = refused.expect("a publish that comes too early");
    assert!(taken >= 3, "{taken}");
    assert_eq!(refused["code"], TOO_MANY, "{refused}");
    assert_eq!(refused["temporary"], true, "{refused}");
    let wait = refused["retry_after_ms"].as_u64().unwrap();
    assert!((1..=1000).contains(&wait), "{refused}");
    // Others have turns of their own, and other namespaces no bound.
    let mut other = Client::connect(node.address());
    assert!(publish(&mut other, "x").get("publish").is_some());
    for _ in 0..10 {
        assert_eq!(exercise(&mut client, "pub", "anyone:x"), None);
    }
    let reply = client.command("history", json!({"channel": "limited:x", "limit": -1}));
    let count = reply["history"]["publications"].as_array().unwrap().len();
    assert_eq!(count, 2, "{reply}");
}

#[test]
fn a_subscription_token_says_how_its_subscription_is_seen() {
    let node = start(CONFIG);
    let mut watcher = Client::connect(node.address());
    let request = json!({"channel": "members:x", "join_leave": true});
    watcher.command("subscribe", request);
    watcher.push("members:x", "join");
    let subscribe = |user: &str, claims: Value| {
        let mut client = connect(&node, json!({"sub": user, "info": {"name": user}}));
        let mut all = json!({"sub": user, "channel": "members:x"});
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let request = json!({"channel": "members:x", "token": jwt::sign(SECRET, &all)});
        let reply = client.command("subscribe", request);
        assert!(reply.get("subscribe").is_some(), "{reply}");
        client
    };
    let unseen = json!({"override": {"presence": {"value": false}}});
    let quiet = json!({"override": {"join_leave": {"value": false}}});
    let _unseen = subscribe("unseen", unseen);
    let _quiet = subscribe("quiet", quiet);
    // {"seat":1}
    let mut ann = subscribe(
        "ann",
        json!({"info": {"seat": 0}, "b64info": "eyJzZWF0IjoxfQ=="}),
    );
    // The first of them that is told of.
    let joined = watcher.push("members:x", "join");
    let expected = (&json!("ann"), &json!({"name": "ann"}), &json!({"seat": 1}));
    let info = &joined["info"];
    assert_eq!(
        (&info["user"], &info["conn_info"], &info["chan_info"]),
        expected
    );
    let reply = watcher.command("presence", json!({"channel": "members:x"}));
    let mut users: Vec<_> = reply["presence"]["presence"]
        .as_object()
        .unwrap()
        .values()
        .collect();
    users.sort_by_key(|info| info["user"].to_string());
    let names: Vec<_> = users.iter().map(|info| &info["user"]).collect();
    assert_eq!(names, ["", "ann", "quiet"]);
    assert_eq!(users[1]["chan_info"], json!({"seat": 1}));
    ann.command("publish", json!({"channel": "members:x", "data": 1}));
    assert_eq!(
        watcher.publication("members:x")["info"]["chan_info"],
        json!({"seat": 1})
    );
    // Told of joins without asking, and not told though it asks.
    let mut forced = subscribe(
        "forced",
        json!({"override": {"force_push_join_leave": {"value": true}}}),
    );
    assert_eq!(forced.push("members:x", "join")["info"]["user"], "forced");
}

#[test]
fn a_connection_may_stay_for_another_time_than_its_token_is_good_for() {
    let node = start(CONFIG);
    let expires = |claims: Value| {
        let mut client = Client::open(node.address());
        let token = jwt::sign(SECRET, &claims);
        let reply = client.command("connect", json!({"token": token}));
        match reply["error"]["code"].as_u64() {
            Some(code) => Err(code),
            None => Ok(reply["connect"]["ttl"].as_u64()),
        }
    };
    let (past, soon) = (jwt::seconds_from_now(-60), jwt::seconds_from_now(3_600));
    assert_eq!(expires(json!({"exp": soon, "expire_at": 0})), Ok(None));
    let later = expires(json!({"exp": soon, "expire_at": soon + 3_600}));
    assert!(later.unwrap().unwrap() > 3_600);
    assert_eq!(
        expires(json!({"exp": past, "expire_at": soon})),
        Err(TOKEN_EXPIRED)
    );
    assert_eq!(
        expires(json!({"exp": soon, "expire_at": past})),
        Err(TOKEN_EXPIRED)
    );
    let mut client = connect(&node, json!({"sub": "ann"}));
    let mut subscribe = |expire_at: i64| {
        let claims =
            json!({"sub": "ann", "channel": "closed:x", "exp": soon, "expire_at": expire_at});
        let request = json!({"channel": "closed:x", "token": jwt::sign(SECRET, &claims)});
        let reply = client.command("subscribe", request);
        client.command("unsubscribe", json!({"channel": "closed:x"}));
        reply
    };
    assert!(subscribe(0)["subscribe"].get("ttl").is_none());
    assert!(
        subscribe(soon + 3_600)["subscribe"]["ttl"]
            .as_u64()
            .unwrap()
            > 3_600
    );
    assert_eq!(subscribe(past)["error"]["code"], TOKEN_EXPIRED);
}

#[test]
fn pings_come_as_often_as_is_said() {
    let config = "[centrifuge]\nping_seconds = 1\npong_seconds = 1\n";
    let node = servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    });
    let mut client = Client::open(node.address());
    client.answer_pings = false;
    let reply = client.command("connect", json!({}));
    assert_eq!(reply["connect"]["ping"], 1, "{reply}");
    assert_eq!(client.end(), End::Close(3012, "no pong".to_owned()));
}
