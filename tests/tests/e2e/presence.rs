//! Who is in a channel: lists, counts, joins and leaves, over all nodes and wires, and who may ask.

use std::net::SocketAddr;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

use crate::browser::run_script;

// Error codes of the Centrifuge protocol.
const UNKNOWN_CHANNEL: u64 = 102;
const DENIED: u64 = 103;
const BAD_REQUEST: u64 = 107;
const NOT_AVAILABLE: u64 = 108;

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";

const CONFIG: &str = r#"
[[namespaces]]
name = "room"
subscribe = "authenticated"
presence = "subscriber"
join_leave = true
join_leave_per = "user"

[[namespaces]]
name = "desk"
subscribe = "authenticated"
presence = "subscriber"
join_leave = true

[[namespaces]]
name = "quiet"
subscribe = "authenticated"
presence = "authenticated"

[[namespaces]]
name = "secret"
subscribe = "authenticated"
presence = "nobody"
join_leave = true

[[namespaces]]
name = "off"
subscribe = "authenticated"
"#;

/// A node that knows users by their tokens.
fn options() -> NodeOptions {
    NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    }
}

/// Two nodes of one server, with users.
fn two_nodes() -> (Vec<Node>, fanfare_bench::local::Redis) {
    let (redis, database) = (servers::redis(), servers::database());
    let node = |number: usize| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(format!("node-{number}")),
            ..options()
        })
    };
    ((1..=2).map(node).collect(), redis)
}

fn token(user: &str) -> String {
    jwt::sign(SECRET, &json!({ "sub": user, "info": { "of": user } }))
}

/// Connects a user. Gives the connection's identity too.
#[track_caller]
fn connect(address: SocketAddr, user: &str) -> (Client, String) {
    let mut client = Client::open(address);
    let reply = client.command("connect", json!({ "token": token(user) }));
    let id = reply["connect"]["client"].as_str();
    let id = id.unwrap_or_else(|| panic!("connect was refused: {reply}"));
    (client, id.to_owned())
}

/// Subscribes, and wants to be told who joins and leaves.
#[track_caller]
fn watch(client: &mut Client, channel: &str) {
    let reply = client.command(
        "subscribe",
        json!({ "channel": channel, "join_leave": true }),
    );
    assert!(reply.get("subscribe").is_some(), "{reply}");
}

/// Connections and users of a channel.
#[track_caller]
fn stats(api: &mut Api, channel: &str) -> (u64, u64) {
    let result = api.call("presence_stats", &json!({ "channel": channel }));
    let result = result.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(result.get("degraded"), None, "{result}");
    let number = |name: &str| result[name].as_u64().unwrap_or_else(|| panic!("{result}"));
    (number("num_clients"), number("num_users"))
}

#[track_caller]
fn until_stats(api: &mut Api, channel: &str, expected: (u64, u64)) {
    eventually(&format!("{expected:?} in {channel}"), || {
        (stats(api, channel) == expected).then_some(())
    });
}

/// What a client was told of joins and leaves so far.
fn told(client: &mut Client) -> Vec<String> {
    let word = |push: &Value| {
        ["join", "leave"].iter().find_map(|kind| {
            let user = push.get(kind)?["info"]["user"].as_str()?;
            Some(format!("{kind} {user}"))
        })
    };
    client.pushes().iter().filter_map(word).collect()
}

fn error(reply: &Value) -> Option<u64> {
    reply["error"]["code"].as_u64()
}

#[test]
fn a_first_try_shows_who_is_there_on_every_wire() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let mut client = Client::open(node.address());
    let connected = client.command("connect", json!({}));
    let id = connected["connect"]["client"].as_str().unwrap().to_owned();
    watch(&mut client, "lobby");
    // Who asks is in the list that it gets.
    let reply = client.command("presence", json!({ "channel": "lobby" }));
    let expected = json!({ &id: { "user": "", "client": &id } });
    assert_eq!(
        reply["presence"],
        json!({ "presence": expected }),
        "{reply}"
    );
    let reply = client.command("presence_stats", json!({ "channel": "lobby" }));
    let expected = json!({ "num_clients": 1, "num_users": 1 });
    assert_eq!(reply["presence_stats"], expected, "{reply}");
    let own = client.push("lobby", "join");
    assert_eq!(own["info"]["client"], id);

    let path = "/events?channel=lobby&join_leave=true";
    let mut stream = Stream::open_path(node.address(), path, &[]);
    stream.expect("ready");
    let joined = stream.expect("join");
    assert_eq!(joined["channel"], "lobby");
    let of_stream = joined["info"]["client"].clone();
    assert_eq!(client.push("lobby", "join")["info"]["client"], of_stream);
    until_stats(&mut api, "lobby", (2, 2));
    let list = api
        .call("presence", &json!({ "channel": "lobby" }))
        .unwrap();
    let list = list["presence"].as_object().unwrap();
    assert_eq!(list.len(), 2);
    assert!(list.contains_key(of_stream.as_str().unwrap()));
    // A stream that was not asked to tell shows publications only, whatever else happens.
    let mut plain = Stream::open(node.address(), &["lobby"], None);
    plain.expect("ready");
    client.command("unsubscribe", json!({ "channel": "lobby" }));
    // Its own join, and that of the plain one, come before.
    let left = loop {
        let event = stream.event();
        match &*event.name {
            "leave" => break event,
            _ => assert_eq!(event.name, "join"),
        }
    };
    assert_eq!(left.data["info"]["client"], id);
    assert_eq!(left.id, None, "a position is that of publications");
    api.publish("lobby", json!(1));
    let publication = plain.event();
    assert_eq!(
        (&*publication.name, publication.data["offset"].as_u64()),
        ("message", Some(1))
    );
    assert_eq!(stream.expect("message")["offset"], 1);
}

#[test]
fn who_may_ask_is_said_for_each_namespace() {
    let node = servers::start(options());
    let mut api = Api::with_key(node.address(), KEY);
    let (mut client, _) = connect(node.address(), "ann");
    let check = |client: &mut Client, channel: &str, expected: Option<u64>| {
        for command in ["presence", "presence_stats"] {
            let reply = client.command(command, json!({ "channel": channel }));
            assert_eq!(error(&reply), expected, "{command} {channel}: {reply}");
        }
    };
    check(&mut client, "room:1", Some(DENIED));
    check(&mut client, "quiet:1", None);
    check(&mut client, "secret:1", Some(DENIED));
    check(&mut client, "off:1", Some(NOT_AVAILABLE));
    check(&mut client, "plain", Some(NOT_AVAILABLE));
    check(&mut client, "nowhere:1", Some(UNKNOWN_CHANNEL));
    check(&mut client, "", Some(BAD_REQUEST));
    check(&mut client, "a b", Some(BAD_REQUEST));
    watch(&mut client, "room:1");
    check(&mut client, "room:1", None);
    // Asked for, and not permitted or not there: nothing is told.
    watch(&mut client, "secret:1");
    watch(&mut client, "quiet:1");
    let (mut other, _) = connect(node.address(), "bob");
    for channel in ["secret:1", "quiet:1", "room:1"] {
        other.subscribe(channel);
    }
    assert_eq!(client.push("room:1", "join")["info"]["user"], "ann");
    assert_eq!(client.push("room:1", "join")["info"]["user"], "bob");
    until_stats(&mut api, "secret:1", (2, 2));
    until_stats(&mut api, "quiet:1", (2, 2));
    assert_eq!(told(&mut client), [""; 0]);
    assert_eq!(told(&mut other), [""; 0], "it did not ask");

    let refused = |api: &mut Api, channel: Value| match api
        .call("presence", &json!({ "channel": channel }))
    {
        Err(Refusal::Api { code, .. }) => Ok(code),
        Err(Refusal::Status(status, _)) => Err(status),
        other => panic!("{channel}: {other:?}"),
    };
    assert_eq!(refused(&mut api, json!("off:1")), Ok(NOT_AVAILABLE));
    assert_eq!(refused(&mut api, json!("nowhere:1")), Ok(UNKNOWN_CHANNEL));
    assert_eq!(refused(&mut api, json!("a b")), Ok(BAD_REQUEST));
    assert_eq!(refused(&mut api, json!(7)), Err(400));
    assert_eq!(refused(&mut api, json!(null)), Err(400));
    let mut stranger = Api::new(node.address());
    assert_eq!(refused(&mut stranger, json!("room:1")), Err(401));
}

#[test]
fn a_user_joins_and_leaves_once_and_a_short_absence_is_not_shown() {
    let node = servers::start(options());
    coming_and_going(&[node.address(), node.address()]);
}

#[test]
fn two_nodes_are_one_room() {
    let (nodes, _redis) = two_nodes();
    coming_and_going(&[nodes[0].address(), nodes[1].address()]);
}

/// A user with connections everywhere: one join, one leave, and nothing when a connection is lost and made again.
fn coming_and_going(at: &[SocketAddr; 2]) {
    let mut api = Api::with_key(at[0], KEY);
    let mut api_there = Api::with_key(at[1], KEY);
    let (mut watcher, watching) = connect(at[0], "wendy");
    watch(&mut watcher, "room:1");
    assert_eq!(watcher.push("room:1", "join")["info"]["user"], "wendy");
    let (mut first, id) = connect(at[0], "ann");
    let (mut second, other) = connect(at[1], "ann");
    first.subscribe("room:1");
    let joined = watcher.push("room:1", "join");
    let expected = json!({ "user": "ann", "client": id, "conn_info": { "of": "ann" } });
    assert_eq!(joined, json!({ "info": expected }));
    second.subscribe("room:1");
    until_stats(&mut api, "room:1", (3, 2));
    until_stats(&mut api_there, "room:1", (3, 2));
    for api in [&mut api, &mut api_there] {
        let list = api
            .call("presence", &json!({ "channel": "room:1" }))
            .unwrap();
        let list = list["presence"].as_object().unwrap();
        let mut clients: Vec<_> = list.keys().collect();
        clients.sort();
        let mut expected = [&watching, &id, &other];
        expected.sort();
        assert_eq!(clients, expected);
        assert_eq!(list[&id]["conn_info"]["of"], "ann");
    }
    first.command("unsubscribe", json!({ "channel": "room:1" }));
    until_stats(&mut api, "room:1", (2, 2));
    // Its last connection is lost; it is back at once, elsewhere.
    drop(second);
    let (mut back, back_id) = connect(at[0], "ann");
    back.subscribe("room:1");
    // The lost one is listed for some seconds, and then no more.
    eventually("the lost connection is gone", || {
        let list = api.call("presence", &json!({ "channel": "room:1" })).ok()?;
        let list = list["presence"].as_object()?;
        (list.len() == 2 && list.contains_key(&back_id)).then_some(())
    });
    assert_eq!(told(&mut watcher), [""; 0]);
    back.command("unsubscribe", json!({ "channel": "room:1" }));
    assert_eq!(watcher.push("room:1", "leave")["info"]["user"], "ann");
    until_stats(&mut api_there, "room:1", (1, 1));
    let (mut gone, _) = connect(at[1], "gone");
    gone.subscribe("room:1");
    assert_eq!(watcher.push("room:1", "join")["info"]["user"], "gone");
    drop(gone);
    assert_eq!(watcher.push("room:1", "leave")["info"]["user"], "gone");
    until_stats(&mut api, "room:1", (1, 1));
    assert_eq!(told(&mut watcher), [""; 0]);
}

#[test]
fn each_connection_of_a_user_joins_and_leaves_where_nothing_else_is_said() {
    let (nodes, _redis) = two_nodes();
    let mut api = Api::with_key(nodes[0].address(), KEY);
    let (mut watcher, watching) = connect(nodes[0].address(), "ann");
    watch(&mut watcher, "desk:1");
    let joined = |watcher: &mut Client| watcher.push("desk:1", "join")["info"]["client"].clone();
    let left = |watcher: &mut Client| watcher.push("desk:1", "leave")["info"]["client"].clone();
    assert_eq!(joined(&mut watcher), watching);
    let (mut first, first_id) = connect(nodes[1].address(), "ann");
    first.subscribe("desk:1");
    assert_eq!(joined(&mut watcher), first_id);
    let (mut second, second_id) = connect(nodes[0].address(), "ann");
    second.subscribe("desk:1");
    assert_eq!(joined(&mut watcher), second_id);
    let (mut lost, lost_id) = connect(nodes[1].address(), "ann");
    lost.subscribe("desk:1");
    assert_eq!(joined(&mut watcher), lost_id);
    until_stats(&mut api, "desk:1", (4, 1));
    second.command("unsubscribe", json!({ "channel": "desk:1" }));
    assert_eq!(left(&mut watcher), second_id);
    // Who is lost might come back; who says good-bye does not.
    drop(lost);
    first.close();
    assert_eq!(left(&mut watcher), first_id);
    assert_eq!(left(&mut watcher), lost_id);
    until_stats(&mut api, "desk:1", (1, 1));
    assert_eq!(told(&mut watcher), [""; 0]);
}

#[test]
fn the_members_of_a_killed_node_leave_once() {
    let (mut nodes, _redis) = two_nodes();
    let mut api = Api::with_key(nodes[0].address(), KEY);
    let (mut watcher, _) = connect(nodes[0].address(), "wendy");
    watch(&mut watcher, "room:1");
    let (mut ann, _) = connect(nodes[1].address(), "ann");
    let (mut bob, _) = connect(nodes[1].address(), "bob");
    let (mut bob_here, _) = connect(nodes[0].address(), "bob");
    for client in [&mut ann, &mut bob, &mut bob_here] {
        client.subscribe("room:1");
    }
    until_stats(&mut api, "room:1", (4, 3));
    for _ in 0..3 {
        watcher.push("room:1", "join");
    }
    nodes[1].kill();
    assert_eq!(watcher.push("room:1", "leave")["info"]["user"], "ann");
    until_stats(&mut api, "room:1", (2, 2));
    assert_eq!(told(&mut watcher), [""; 0]);
}

#[test]
fn a_node_that_stops_says_who_has_left() {
    let (mut nodes, _redis) = two_nodes();
    let (mut watcher, _) = connect(nodes[0].address(), "wendy");
    watch(&mut watcher, "room:1");
    let (mut moves, _) = connect(nodes[1].address(), "moves");
    let (mut leaves, _) = connect(nodes[1].address(), "leaves");
    for client in [&mut moves, &mut leaves] {
        client.subscribe("room:1");
    }
    for _ in 0..3 {
        watcher.push("room:1", "join");
    }
    // It is back elsewhere before it is sent away.
    let (mut moved, _) = connect(nodes[0].address(), "moves");
    moved.subscribe("room:1");
    nodes[1].ask_to_stop();
    assert_eq!(watcher.push("room:1", "leave")["info"]["user"], "leaves");
    let mut api = Api::with_key(nodes[0].address(), KEY);
    until_stats(&mut api, "room:1", (2, 2));
    assert_eq!(told(&mut watcher), [""; 0]);
}

#[test]
fn without_redis_a_node_answers_with_what_it_knows_and_says_so() {
    let (nodes, mut redis) = two_nodes();
    let mut api = Api::with_key(nodes[0].address(), KEY);
    let (mut here, _) = connect(nodes[0].address(), "here");
    let (mut there, _) = connect(nodes[1].address(), "there");
    here.subscribe("room:1");
    there.subscribe("room:1");
    until_stats(&mut api, "room:1", (2, 2));
    redis.kill();
    let request = json!({ "channel": "room:1" });
    eventually("a degraded answer", || {
        let result = api.call("presence", &request).ok()?;
        let list = result["presence"].as_object()?;
        let only_here = list.len() == 1 && list.values().all(|info| info["user"] == "here");
        (result["degraded"] == true && only_here).then_some(())
    });
    let reply = here.command("presence_stats", request.clone());
    assert_eq!(reply["presence_stats"]["degraded"], true, "{reply}");
    redis.restart().expect("Redis starts again");
    eventually("everybody is there again", || {
        let result = api.call("presence_stats", &request).ok()?;
        let whole = result["num_clients"] == 2 && result.get("degraded").is_none();
        whole.then_some(())
    });
}

#[test]
fn the_official_client_sees_who_is_there() {
    let (nodes, _redis) = two_nodes();
    let arguments = [
        "--url",
        &nodes[0].url(),
        "--other",
        &nodes[1].url(),
        "--channel",
        "room:sdk",
        "--token",
        &token("wendy"),
        "--other-token",
        &token("ann"),
    ];
    run_script("presence.mjs", &arguments, &[&nodes[0], &nodes[1]]);
}
