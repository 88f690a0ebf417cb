//! The door: new connections come in at a pace and as many as there is room for; who is turned away is told when to come
//! back, in a way that its kind of client can hear.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::http::{Http, Response};
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{self, Client};
use serde_json::json;

/// Room in a node, and how many want it at once.
const ROOM: usize = 20;
const HERD: usize = 80;

const TOO_MANY_REQUESTS: u64 = 111;

#[test]
fn a_herd_is_let_in_at_a_pace_and_told_when_to_come_back() {
    let node = start("connections_per_second = 1\nconnections_burst = 2\n");
    let api = Api::new(node.address());
    let refused = eventually("somebody is turned away", || {
        let answer = upgrade(node.address());
        (answer.status != 101).then_some(answer)
    });
    assert_told(&refused, "too many new connections");
    let refused = eventually("an event stream is turned away", || {
        let answer = get(node.address(), &[]);
        (answer.status != 200).then_some(answer)
    });
    assert_told(&refused, "too many new connections");
    assert!(api.metric("connections_refused_total{reason=\"rate\"}") >= 2.0);
    assert!(api.metric("connections_refused_total{reason=\"full\"}") == 0.0);
    // What stays is not in the way, and those who come back in time are let in.
    Api::new(node.address()).publish("channel", json!("x"));
    eventually("a client is let in", || {
        Client::try_open(node.address()).ok().map(drop)
    });
}

/// A native `EventSource` gives up for ever on a status that is not 200.
#[test]
fn an_event_source_is_turned_away_with_a_stream_that_ends() {
    let node = start("connections_per_second = 1\nconnections_burst = 1\n");
    let headers = [("accept", "text/event-stream"), ("last-event-id", "e-1-7")];
    let away = eventually("an event source is turned away", || {
        let away = get(node.address(), &headers);
        away.header("retry-after").is_some().then_some(away)
    });
    assert_eq!(away.status, 200);
    assert_eq!(away.header("content-type"), Some("text/event-stream"));
    let text = away.text();
    assert!(text.ends_with("\n\n"), "{text}");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    assert!(field("retry:").parse::<u64>().is_ok(), "{text}");
    assert_eq!(field("id:"), "e-1-7", "its position is repeated");
    assert_eq!(field("data:"), "", "nothing is dispatched");
}

/// A database that is down for a while must not end an `EventSource` either.
#[test]
fn an_event_source_comes_back_to_a_node_whose_log_was_down() {
    let mut postgres = servers::postgres();
    let url = postgres.create_database("app").unwrap();
    let node = servers::start(NodeOptions {
        postgres: Some(url),
        ..servers::dev()
    });
    postgres.stop().unwrap();
    let refused = get(node.address(), &[]);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], 100, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    let away = get(node.address(), &[("accept", "text/event-stream")]);
    assert_eq!(away.status, 200, "{}", away.text());
    assert!(away.text().starts_with("retry:"), "{}", away.text());
    let api = Api::new(node.address());
    assert_eq!(api.metric("connections_refused_total{reason=\"log\"}"), 2.0);
    assert_eq!(api.metric("seats_taken"), 0.0);
    postgres.restart().unwrap();
    eventually("it is let in", || {
        let answer = get(node.address(), &[("accept", "text/event-stream")]);
        answer.header("retry-after").is_none().then_some(())
    });
}

#[test]
fn there_is_room_for_so_many_however_many_come_at_once() {
    let node = start(&format!("max_connections = {ROOM}\n"));
    let address = node.address();
    let api = Api::new(address);
    let barrier = Barrier::new(HERD);
    let mut open: Vec<Client> = thread::scope(|scope| {
        let herd: Vec<_> = (0..HERD)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    Client::try_open(address).ok()
                })
            })
            .collect();
        herd.into_iter()
            .filter_map(|it| it.join().unwrap())
            .collect()
    });
    assert_eq!(open.len(), ROOM, "as many as there is room for");
    let full = "connections_refused_total{reason=\"full\"}";
    assert_eq!(api.metric(full), (HERD - ROOM) as f64);
    assert_told(&upgrade(address), "too many connections");
    // Every way to end gives the seat back: a close, a break, a bad request, an event stream.
    drop(open.split_off(ROOM / 2));
    for client in &mut open {
        client.send_text("this is no command");
    }
    eventually("all seats are free", || {
        (api.metric("seats_taken") == 0.0).then_some(())
    });
    for _ in 0..ROOM {
        Stream::open(address, &["channel"], None).expect("ready");
    }
    eventually("all seats are free again", || {
        (api.metric("seats_taken") == 0.0).then_some(())
    });
    // A request that comes to nothing takes none.
    assert_eq!(get_path(address, "/events", &[]).status, 400);
    assert_eq!(get_path(address, ws::PATH, &[]).status, 426);
    assert_eq!(api.metric("seats_taken"), 0.0);
    let again: Vec<Client> = (0..ROOM).map(|_| Client::connect(address)).collect();
    assert_eq!(again.len(), ROOM);
}

#[test]
fn who_may_not_read_takes_nobodys_turn() {
    let node = start("connections_per_second = 1\nconnections_burst = 1\n");
    let address = node.address();
    for _ in 0..20 {
        let stranger = [("authorization", "Bearer nonsense")];
        let refused = get_path(address, "/events?channel=channel", &stranger);
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
    Stream::open(address, &["channel"], None).expect("ready");
}

fn start(config: &str) -> Node {
    servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    })
}

/// A refusal for machines and people: 503, when to come back in whole seconds and exactly, and why.
#[track_caller]
fn assert_told(refused: &Response, why: &str) {
    assert_eq!(refused.status, 503, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["code"], TOO_MANY_REQUESTS, "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{error}");
    let exactly = error["retry_after_ms"].as_u64().unwrap();
    let seconds = refused.header("retry-after").unwrap();
    assert_eq!(seconds.parse::<u64>().unwrap(), exactly.div_ceil(1000));
    assert!((500..=31_000).contains(&exactly), "{exactly}");
}

/// Asks for a WebSocket, and hangs up.
fn upgrade(address: SocketAddr) -> Response {
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    get_path(address, ws::PATH, &headers)
}

/// Asks for an event stream; reads the whole answer if it has an end.
fn get(address: SocketAddr, headers: &[(&str, &str)]) -> Response {
    let path = "/events?channel=channel";
    let mut http = Http::connect(address).unwrap();
    http.send("GET", path, headers, &[]).unwrap();
    let head = http.read_head().unwrap();
    if head.header("content-length").is_none() {
        return head;
    }
    get_rest(http, head)
}

fn get_rest(mut http: Http, mut head: Response) -> Response {
    let length = head.header("content-length").unwrap().parse().unwrap();
    head.body = http.read_exactly(length).unwrap();
    head
}

fn get_path(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    Http::once(address, "GET", path, headers, &[]).unwrap()
}
