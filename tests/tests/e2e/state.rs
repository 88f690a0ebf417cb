//! Channels of the kind `state`: whoever subscribes is given the newest publication, and nothing before it, over every wire.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

use crate::browser::run_script;

const CHANNEL: &str = "score:1";

fn start() -> Node {
    let config = "
        [[namespaces]]
        name = \"score\"
        kind = \"state\"
        history = \"nobody\"
        ";
    servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    })
}

fn subscribe(client: &mut Client, request: Value) -> Value {
    let reply = client.command("subscribe", request);
    assert!(reply.get("subscribe").is_some(), "{reply}");
    reply["subscribe"].clone()
}

#[test]
fn the_official_clients_are_given_the_newest() {
    let node = start();
    run_script("state.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn a_subscribe_is_recovered_whatever_was_missed() {
    let node = start();
    let mut api = Api::new(node.address());
    let mut epoch = String::new();
    for number in 1..=400 {
        let published = api.publish(CHANNEL, json!(number));
        epoch = published.epoch;
    }
    let mut fresh = Client::connect(node.address());
    let result = subscribe(&mut fresh, json!({ "channel": CHANNEL }));
    let expected = json!({
        "recoverable": true, "epoch": epoch, "offset": 399, "recovered": true, "positioned": true
    });
    assert_eq!(result, expected);
    assert_eq!(fresh.publication(CHANNEL)["data"], 400);
    let back = |offset: u64, epoch: &str| {
        let mut client = Client::connect(node.address());
        let request =
            json!({ "channel": CHANNEL, "recover": true, "offset": offset, "epoch": epoch });
        let result = subscribe(&mut client, request);
        assert_eq!(result["recovered"], true, "{result}");
        assert_eq!(result["was_recovering"], true, "{result}");
        client
    };
    let mut behind = [back(3, &epoch), back(1000, "another")];
    for client in &mut behind {
        assert_eq!(client.publication(CHANNEL)["data"], 400);
    }
    let mut up_to_date = back(400, &epoch);
    let plain = Client::connect(node.address());
    drop(plain);
    api.publish(CHANNEL, json!("last"));
    for client in behind.iter_mut().chain([&mut up_to_date, &mut fresh]) {
        assert_eq!(client.publication(CHANNEL)["data"], "last");
    }
}

#[test]
fn event_streams_and_connections_begin_with_the_newest() {
    let node = start();
    let mut api = Api::new(node.address());
    for number in 1..=3 {
        api.publish(CHANNEL, json!(number));
    }
    let mut stream = Stream::open(node.address(), &[CHANNEL], None);
    stream.expect("ready");
    assert_eq!(stream.expect("message")["data"], 3);
    let has = stream.last_id().expect("an id").to_owned();
    for number in 4..=6 {
        api.publish(CHANNEL, json!(number));
    }
    let mut back = Stream::open(node.address(), &[CHANNEL], Some(&has));
    back.expect("ready");
    assert_eq!(back.expect("message")["data"], 6);
    let has = back.last_id().expect("an id").to_owned();
    let mut again = Stream::open(node.address(), &[CHANNEL], Some(&has));
    again.expect("ready");
    api.publish(CHANNEL, json!(7));
    assert_eq!(again.expect("message")["data"], 7);
    // What clients that only listen name themselves is told with their connection.
    let connect = json!({ "subs": { CHANNEL: {}, "plain": {} } }).to_string();
    let path = format!("/connection/uni_sse?cf_connect={}", encoded(&connect));
    let mut listening = Stream::open_path(node.address(), &path, &[]);
    let connected = listening.event().data;
    let sub = &connected["connect"]["subs"][CHANNEL];
    assert_eq!(
        (&sub["recovered"], &sub["offset"]),
        (&json!(true), &json!(6)),
        "{connected}"
    );
    assert_eq!(listening.event().data["pub"]["data"], 7);
}

/// As it stands in an address.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
