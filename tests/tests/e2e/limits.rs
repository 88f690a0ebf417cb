//! What has an end: tokens, patience with silent clients, room for connections and subscriptions; and foreign pages.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::http::{Http, Response};
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{self, Client, End};
use fanfare_tests::{expect, jwt, servers};
use serde_json::json;

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";

/// Seconds that a token lasts which is to run out while the test looks on.
const SHORT: i64 = 3;

// Close codes, an unsubscribe code and an error code of the Centrifuge protocol.
const CONNECTION_EXPIRED: u16 = 3005;
const NO_PONG: u16 = 3012;
const STALE: u16 = 3502;
const SUBSCRIPTION_EXPIRED: u64 = 2501;
const LIMIT_EXCEEDED: u64 = 106;

const CONFIG: &str = r#"
[channels]
subscribe = "authenticated"
publish = "authenticated"
history = "authenticated"
"#;

#[test]
fn a_connection_ends_with_its_token_unless_it_brings_a_new_one() {
    let node = closed();
    let token = |seconds: i64| {
        let expiry = jwt::seconds_from_now(seconds);
        jwt::sign(SECRET, &json!({ "sub": "alice", "exp": expiry }))
    };
    let connect = || {
        let mut client = Client::open(node.address());
        let reply = client.command("connect", json!({ "token": token(SHORT) }));
        assert_eq!(reply["connect"]["expires"], true, "{reply}");
        assert!(
            reply["connect"]["ttl"]
                .as_i64()
                .is_some_and(|ttl| ttl <= SHORT),
            "{reply}"
        );
        client.subscribe("channel");
        client
    };
    let mut kept = connect();
    let reply = kept.command("refresh", json!({ "token": token(3_600) }));
    assert!(reply.get("refresh").is_some(), "{reply}");
    let mut lost = connect();
    // Whoever is looked at reads, and answers pings.
    eventually("the one with the old token is gone", || {
        assert!(kept.is_open());
        (!lost.is_open()).then_some(())
    });
    assert_eq!(
        lost.end(),
        End::Close(CONNECTION_EXPIRED, "connection expired".to_owned())
    );
    Api::with_key(node.address(), KEY).publish("channel", json!("after"));
    assert_eq!(
        expect::run_over_ws(&mut kept, "channel", 1, 1),
        [json!("after")]
    );
}

#[test]
fn a_subscription_ends_with_its_token_unless_it_is_brought_a_new_one() {
    let node = closed();
    let token = |channel: &str, seconds: i64| {
        let expiry = jwt::seconds_from_now(seconds);
        jwt::sign(
            SECRET,
            &json!({ "sub": "alice", "channel": channel, "exp": expiry }),
        )
    };
    let mut client = Client::open(node.address());
    let connection = jwt::sign(SECRET, &json!({ "sub": "alice" }));
    let reply = client.command("connect", json!({ "token": connection }));
    assert!(reply.get("connect").is_some(), "{reply}");
    for channel in ["kept", "lost"] {
        let request = json!({ "channel": channel, "token": token(channel, SHORT) });
        let reply = client.command("subscribe", request);
        assert_eq!(reply["subscribe"]["expires"], true, "{reply}");
    }
    let request = json!({ "channel": "kept", "token": token("kept", 3_600) });
    let reply = client.command("sub_refresh", request);
    assert!(reply.get("sub_refresh").is_some(), "{reply}");
    let push = client.push("lost", "unsubscribe");
    assert_eq!(push["code"], SUBSCRIPTION_EXPIRED, "{push}");
    let mut api = Api::with_key(node.address(), KEY);
    api.publish("lost", json!("unheard"));
    api.publish("kept", json!("heard"));
    assert_eq!(
        expect::run_over_ws(&mut client, "kept", 1, 1),
        [json!("heard")]
    );
    assert!(client.take_publication("lost").is_none());
}

#[test]
fn silent_clients_are_sent_away_and_those_that_answer_are_not() {
    let node = servers::start(servers::dev());
    let mut unconnected = Client::open(node.address());
    let mut silent = Client::connect(node.address());
    silent.answer_pings = false;
    let mut good = Client::connect(node.address());
    good.subscribe("channel");
    // Whoever is looked at reads, and answers pings.
    eventually("the silent ones are gone", || {
        assert!(good.is_open());
        (!unconnected.is_open() && !silent.is_open()).then_some(())
    });
    assert_eq!(unconnected.end(), End::Close(STALE, "stale".to_owned()));
    assert_eq!(silent.end(), End::Close(NO_PONG, "no pong".to_owned()));
    Api::new(node.address()).publish("channel", json!(1));
    expect::run_over_ws(&mut good, "channel", 1, 1);
}

#[test]
fn a_connection_has_room_for_so_many_subscriptions() {
    let config = Some("subscriptions_per_connection_max = 3\n".to_owned());
    let node = servers::start(NodeOptions {
        config,
        ..servers::dev()
    });
    let mut client = Client::connect(node.address());
    for channel in ["a", "b", "c"] {
        client.subscribe(channel);
    }
    let reply = client.command("subscribe", json!({ "channel": "d" }));
    assert_eq!(reply["error"]["code"], LIMIT_EXCEEDED, "{reply}");
    client.command("unsubscribe", json!({ "channel": "a" }));
    client.subscribe("d");
    Client::connect(node.address()).subscribe("a");
}

#[test]
fn a_node_has_room_for_so_many_connections() {
    let config = Some("max_connections = 2\n".to_owned());
    let node = servers::start(NodeOptions {
        config,
        ..servers::dev()
    });
    let first = Client::connect(node.address());
    let mut second = Client::connect(node.address());
    for refused in [
        upgrade(&node.url(), None),
        get(&node.url(), "/events?channel=channel"),
    ] {
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(
            refused.header("retry-after").is_some(),
            "{:?}",
            refused.headers
        );
    }
    second.subscribe("channel");
    drop(first);
    eventually("there is room again", || {
        Client::try_open(node.address()).ok().map(drop)
    });
}

#[test]
fn pages_of_other_origins_may_not_connect() {
    let node = closed();
    let refused = upgrade(&node.url(), Some("http://evil.example"));
    assert_eq!(refused.status, 403, "{}", refused.text());
    let own = upgrade(&node.url(), Some(&node.url()));
    assert_eq!(own.status, 101, "{}", own.text());
}

/// A client that trickles its request, or sends none, is cut off; one that has asked before may take its time.
#[test]
fn a_request_head_has_to_come_in_time() {
    let node = servers::start(servers::dev());
    let mut keeps = Http::connect(node.address()).unwrap();
    keeps.request("GET", "/health/live", &[], &[]).unwrap();
    let mut trickles: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(node.address()).unwrap())
        .collect();
    for socket in &mut trickles {
        socket.set_nonblocking(true).unwrap();
    }
    let mut head = b"GET /health/live HTTP/1.1\r\nhost: ".iter().cycle();
    eventually("those who trickle are cut off", || {
        let byte = [*head.next().unwrap()];
        // The first says nothing at all.
        for socket in &mut trickles[1..] {
            let _ = socket.write_all(&byte);
        }
        trickles.retain_mut(|socket| {
            let end = socket.read(&mut [0; 1]);
            matches!(end, Err(error) if error.kind() == ErrorKind::WouldBlock)
        });
        trickles.is_empty().then_some(())
    });
    let answer = keeps.request("GET", "/health/live", &[], &[]).unwrap();
    assert_eq!(answer.status, 200);
}

/// Open files that a node may have, and clients that want one.
const FILES: usize = 128;
const CLIENTS: usize = 200;

/// Out of descriptors, a node refuses newcomers at once, keeps those who are there, does not spin, and recovers.
#[test]
fn a_node_without_descriptors_serves_on() {
    let mut node = servers::start(servers::dev());
    // Not by a script that this test writes: what one process has open for writing cannot be run while another test forks.
    let limited = Command::new("prlimit")
        .args(["--pid", &node.pid().to_string()])
        .arg(format!("--nofile={FILES}"))
        .status();
    assert!(limited.unwrap().success());
    let mut api = Api::new(node.address());
    api.publish("channel", json!(1));
    let mut clients: Vec<Client> = (0..CLIENTS)
        .filter_map(|_| Client::try_open(node.address()).ok())
        .collect();
    assert!(clients.len() < FILES, "more than there are descriptors");
    assert!(clients.len() > FILES / 4, "only {}", clients.len());
    for client in &mut clients {
        let reply = client.command("connect", json!({}));
        assert!(reply.get("connect").is_some(), "{reply}");
    }
    let mut last = clients.pop().unwrap();
    last.subscribe("channel");
    api.publish("channel", json!(2));
    assert_eq!(expect::run_over_ws(&mut last, "channel", 2, 2), [json!(2)]);
    drop(clients);
    eventually("newcomers are served again", || {
        Client::try_open(node.address()).ok().map(drop)
    });
    let errors = api.metric("accept_errors_total");
    assert!(errors >= 1.0);
    // One in ten milliseconds at most; a loop that spins makes some ten thousand a second.
    let uptime = api.metric("uptime_seconds") + 1.0;
    assert!(errors <= 100.0 * uptime, "{errors} in {uptime} s");
    assert!(node.ended().is_none(), "{}", node.stderr());
}

fn closed() -> fanfare_bench::local::Node {
    servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    })
}

/// Asks for a WebSocket as a page of some origin would.
#[track_caller]
fn upgrade(url: &str, origin: Option<&str>) -> Response {
    let mut headers = vec![
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend(origin.map(|origin| ("origin", origin)));
    request(url, ws::PATH, &headers)
}

#[track_caller]
fn get(url: &str, path: &str) -> Response {
    request(url, path, &[])
}

#[track_caller]
fn request(url: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let address = url.trim_start_matches("http://").parse().unwrap();
    Http::once(address, "GET", path, headers, &[]).unwrap()
}
