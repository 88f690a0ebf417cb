//! SIGTERM: who is there is sent away in slices and told to come back, what was taken is finished and answered, and
//! newcomers are told that the node is about to end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::hold::Hold;
use fanfare_tests::http::Http;
use fanfare_tests::repository;
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::{SetOnDrop, eventually, patience};
use fanfare_tests::ws::{Client, End};
use serde_json::json;

const DATABASE: &str = "app";
const SHUTDOWN: u16 = 3001;

/// Longer than anything here takes: what happens sooner does not happen because the window has ended.
const LONG_WINDOW: &str = "drain_seconds = 600\n";

#[test]
fn what_was_taken_is_answered_before_its_client_is_sent_away() {
    let postgres = servers::postgres();
    let url = postgres.create_database(DATABASE).unwrap();
    let mut node = servers::start(NodeOptions {
        postgres: Some(url),
        config: Some(LONG_WINDOW.to_owned()),
        ..servers::dev()
    });
    let address = node.address();
    let api = Api::new(address);
    let mut client = Client::connect(address);
    let id = thread::scope(|scope| {
        let (id, published) = Hold::commits(&postgres, DATABASE, |hold| {
            let id = client.send_command("publish", json!({ "channel": "ws", "data": 1 }));
            let publish = || Api::new(address).publish("http", json!(1));
            let published = scope.spawn(publish);
            eventually("both wait", || {
                // One may be in flight.
                (api.metric("publishes_waiting") >= 1.0).then_some(())
            });
            node.ask_to_stop();
            eventually("the node says that it is not ready", || {
                let ready = api.get("/health/ready").ok()?;
                (ready.status == 503 && ready.json()["draining"] == true).then_some(())
            });
            assert_newcomers_are_told(&node);
            assert!(client.is_open(), "sent away without its answer");
            hold.release();
            (id, published)
        });
        assert_eq!(published.join().unwrap().offset, 1);
        id
    });
    let reply = client.answer().unwrap();
    assert_eq!(reply["id"], id, "{reply}");
    assert!(reply.get("publish").is_some(), "{reply}");
    assert_eq!(client.end(), End::Close(SHUTDOWN, "shutdown".to_owned()));
    let status = eventually("the node ends", || node.ended());
    assert!(status.success(), "{status}: {}", node.stderr());
    let rows = postgres.execute(DATABASE, "SELECT count(*) FROM fanfare.publications");
    assert_eq!(rows.unwrap().trim(), "2");
}

#[track_caller]
fn assert_newcomers_are_told(node: &Node) {
    let path = "/events?channel=channel";
    let away = Http::once(node.address(), "GET", path, &[], &[]).unwrap();
    assert_eq!(away.status, 503, "{}", away.text());
    assert!(away.header("retry-after").is_some(), "{:?}", away.headers);
    let message = away.json()["error"]["message"].to_string();
    assert!(message.contains("shutting down"), "{message}");
    assert!(Client::try_open(node.address()).is_err());
}

#[test]
fn an_event_stream_is_told_when_to_come_back() {
    let mut node = servers::start(servers::dev());
    let mut stream = Stream::open(node.address(), &["channel"], None);
    stream.expect("ready");
    assert!(stream.take_retry_ms().is_some());
    node.ask_to_stop();
    stream.end();
    let retry_ms = stream.take_retry_ms();
    assert!(
        retry_ms.is_some_and(|ms| (500..2_500).contains(&ms)),
        "{retry_ms:?}"
    );
}

#[test]
fn clients_are_sent_away_in_slices() {
    const CLIENTS: usize = 60;
    // Ten slices each second, for as long as nobody waits here.
    let mut node = servers::start(NodeOptions {
        config: Some("drain_seconds = 60\n".to_owned()),
        ..servers::dev()
    });
    let api = Api::new(node.address());
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::connect(node.address()))
        .collect();
    node.ask_to_stop();
    let left = eventually("the first ones are sent away", || {
        let left = api.metric("connections");
        (left < CLIENTS as f64).then_some(left)
    });
    assert!(left > 0.0, "all were sent away at once");
    for client in &mut clients {
        assert_eq!(client.end(), End::Close(SHUTDOWN, "shutdown".to_owned()));
    }
    let status = eventually("the node ends", || node.ended());
    assert!(status.success(), "{status}: {}", node.stderr());
}

#[test]
fn a_node_without_clients_ends_at_once() {
    let mut node = servers::start(NodeOptions {
        config: Some(LONG_WINDOW.to_owned()),
        ..servers::dev()
    });
    Api::new(node.address()).publish("channel", json!(1));
    // Far sooner than its window, or this would wait in vain.
    let status = node.stop().unwrap();
    assert!(status.success(), "{status}: {}", node.stderr());
}

/// Two nodes are restarted one after the other under an official client and somebody who publishes: nobody notices.
#[test]
fn the_official_client_misses_nothing_while_all_servers_are_restarted() {
    let redis = servers::redis();
    let database = servers::database();
    let mut nodes = ["node-1", "node-2"].map(|name| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            config: Some("drain_seconds = 1\n".to_owned()),
            ..servers::dev()
        })
    });
    let addresses = nodes.each_ref().map(Node::address);
    let mut client = Command::new("node")
        .arg("rolling.mjs")
        .args(["--url", &nodes[0].url(), "--other", &nodes[1].url()])
        .args(["--channel", "rolling"])
        .args(["--patience", &patience().as_secs().to_string()])
        .current_dir(repository().join("tests/browser"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
    let subscribed = said.find(|line| line.as_ref().unwrap().contains("subscribed"));

    let over = AtomicBool::new(subscribed.is_none());
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                publish_anywhere(&addresses, &format!("{number}"));
            }
        });
        // However this ends, the publisher does too.
        let _end = SetOnDrop(&over);
        if subscribed.is_some() {
            // Back and forth: wherever the client is, it is sent away; and not before it is back.
            for _ in 0..4 {
                let place = eventually("the client is connected", || {
                    let has_it = |at: &usize| Api::new(addresses[*at]).metric("connections") > 0.0;
                    (0..nodes.len()).find(has_it)
                });
                let node = &mut nodes[place];
                let status = node.stop().unwrap();
                assert!(status.success(), "{status}: {}", node.stderr());
                node.restart().unwrap();
            }
        }
    });
    publish_anywhere(&addresses, "end");
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    let mut error = String::new();
    let stderr = client.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut error).unwrap();
    let status = client.wait().unwrap();
    assert!(status.success(), "{status}\n{}\n{error}", rest.join("\n"));
}

/// Publishes through whichever node takes it, once.
fn publish_anywhere(addresses: &[SocketAddr; 2], data: &str) {
    let request = json!({ "channel": "rolling", "data": data, "idempotency_key": data });
    let mut turn = 0;
    eventually("a publish is acknowledged", || {
        turn += 1;
        let mut api = Api::new(addresses[turn % 2]);
        api.try_publish_request(&request).ok()
    });
}
