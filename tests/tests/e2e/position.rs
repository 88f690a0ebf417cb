//! Subscribing with a position: any distance back, on any node, without a hole or a repeat where log, ring and live meet.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfare_bench::local::{NodeOptions, TempDir};
use fanfare_tests::api::{Api, History, publish_many};
use fanfare_tests::expect::{dense, ready_and, run_over_sse, run_over_ws};
use fanfare_tests::servers::{self, Cluster};
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::{SetOnDrop, eventually};
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

/// More than any ring of recent publications holds.
const FAR: u64 = 5_000;

/// Clients that come with a position while publishers run.
const COMERS: u64 = 12;

/// Publications that a channel has when the first of them comes.
const HEAD_START: u64 = 1_500;

#[test]
fn a_client_may_come_from_any_position() {
    let node = servers::start(servers::dev());
    let address = node.address();
    let history = fill(address, "channel", FAR);
    let log: Vec<Value> = history
        .publications
        .iter()
        .map(|one| one.data.clone())
        .collect();
    for start in [0, 1, FAR / 2, FAR - 300, FAR - 1, FAR] {
        let mut client = Client::connect(address);
        let subscribed = client.subscribe_from("channel", start, &history.epoch);
        assert_eq!(subscribed["recovered"], true, "from {start}: {subscribed}");
        assert_eq!(
            subscribed["was_recovering"], true,
            "from {start}: {subscribed}"
        );
        assert_eq!(
            subscribed["offset"].as_u64().unwrap_or(0),
            start,
            "{subscribed}"
        );
        assert_eq!(subscribed["epoch"], history.epoch.as_str(), "{subscribed}");
        let received = run_over_ws(&mut client, "channel", start + 1, FAR);
        assert!(
            received == log[start as usize..],
            "from {start}: other data than the log's"
        );
    }
}

#[test]
fn a_client_without_a_position_begins_at_the_head() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let published = (1..=3)
        .map(|number| api.publish("channel", json!(number)))
        .last();
    let mut client = Client::connect(node.address());
    let subscribed = client.subscribe("channel");
    assert_eq!(subscribed["recoverable"], true, "{subscribed}");
    assert_eq!(subscribed["offset"], 3, "{subscribed}");
    assert_eq!(
        subscribed["epoch"].as_str(),
        published.as_ref().map(|one| one.epoch.as_str())
    );
    assert!(subscribed.get("recovered").is_none(), "{subscribed}");
    api.publish("channel", json!(4));
    assert_eq!(run_over_ws(&mut client, "channel", 4, 4), [json!(4)]);
}

#[test]
fn a_position_of_another_log_is_told_and_begins_at_the_head() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let epoch = api.publish("channel", json!(1)).epoch;
    let check = |case: &str, offset: u64, epoch: &str, head: u64| {
        let mut client = Client::connect(node.address());
        let subscribed = client.subscribe_from("channel", offset, epoch);
        assert_eq!(subscribed["was_recovering"], true, "{case}: {subscribed}");
        assert!(
            subscribed.get("recovered").is_none(),
            "{case}: {subscribed}"
        );
        assert_eq!(subscribed["reset"], true, "{case}: {subscribed}");
        assert_eq!(subscribed["offset"], head, "{case}: {subscribed}");
        assert_ne!(subscribed["epoch"], "another", "{case}: {subscribed}");
        client
    };
    let mut clients = [
        check("ahead of the head", 2, &epoch, 1),
        check("far ahead of the head", u64::MAX, &epoch, 1),
        check("of another epoch", 1, "another", 1),
        check("of another epoch and ahead", 900, "another", 1),
    ];
    // Flag 2 asks to be refused rather than to begin at the head.
    let mut client = Client::connect(node.address());
    let request = json!({
        "channel": "channel", "recover": true, "offset": 2, "epoch": epoch, "flag": 2,
    });
    let reply = client.command("subscribe", request);
    assert_eq!(reply["error"]["code"], 112, "{reply}");

    api.publish("channel", json!(2));
    for client in &mut clients {
        assert_eq!(run_over_ws(client, "channel", 2, 2), [json!(2)]);
    }
}

#[test]
fn unsubscribed_and_back_with_the_position() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let epoch = api.publish("channel", json!(1)).epoch;
    run_over_ws(&mut client, "channel", 1, 1);
    let reply = client.command("unsubscribe", json!({ "channel": "channel" }));
    assert!(reply.get("unsubscribe").is_some(), "{reply}");
    api.publish("channel", json!(2));
    api.publish(
        "other",
        json!("a round trip, so that what should not come would have come"),
    );
    client.subscribe("other");
    assert!(client.take_publication("channel").is_none());
    let subscribed = client.subscribe_from("channel", 1, &epoch);
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    assert_eq!(run_over_ws(&mut client, "channel", 2, 2), [json!(2)]);
}

#[test]
fn clients_that_come_back_while_others_publish_miss_nothing_over_websocket() {
    let cluster = Cluster::start(2);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address()).collect();
    let epoch = fill(addresses[0], "channel", HEAD_START).epoch;
    let (mut clients, history) = while_publishing(&addresses, |address, start| {
        let mut client = Client::connect(address);
        let subscribed = client.subscribe_from("channel", start, &epoch);
        assert_eq!(subscribed["recovered"], true, "from {start}: {subscribed}");
        client
    });
    for (start, client) in &mut clients {
        let received = run_over_ws(client, "channel", *start + 1, history.head);
        let log = history.publications.iter().skip(*start as usize);
        assert!(
            log.map(|one| &one.data).eq(&received),
            "from {start}: other data than the log's"
        );
    }
}

#[test]
fn clients_that_come_back_while_others_publish_miss_nothing_over_sse() {
    let cluster = Cluster::start(2);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address()).collect();
    let mut first = Stream::open(addresses[0], &["channel"], None);
    first.expect("ready");
    fill(addresses[0], "channel", HEAD_START);
    let ids: Vec<String> = (0..HEAD_START)
        .map(|_| {
            first.expect("message");
            first.last_id().map(str::to_owned).unwrap_or_default()
        })
        .collect();
    let (mut streams, history) = while_publishing(&addresses, |address, start| {
        // The first id is that of publication 1; who has seen nothing has no id to come with.
        let id = ids.get(start as usize - 1).map(String::as_str);
        let mut stream = Stream::open(address, &["channel"], id);
        stream.expect("ready");
        stream
    });
    for (start, stream) in &mut streams {
        let received = run_over_sse(stream, "channel", *start + 1, history.head);
        let log = history.publications.iter().skip(*start as usize);
        assert!(
            log.map(|one| &one.data).eq(&received),
            "from {start}: other data than the log's"
        );
    }
}

#[test]
fn an_event_stream_of_one_channel_resumes_from_far_back() {
    let node = servers::start(servers::dev());
    let mut stream = Stream::open(node.address(), &["channel"], None);
    let ready = stream.expect("ready");
    assert_eq!(ready["channels"]["channel"]["offset"], 0, "{ready}");
    let published = Api::new(node.address()).publish("channel", json!("first"));
    assert_eq!(ready["epoch"], published.epoch.as_str(), "{ready}");
    let first = stream.event();
    assert_eq!(first.name, "message");
    for field in ["channel", "offset", "id", "time", "data"] {
        assert!(
            first.data.get(field).is_some(),
            "no {field} in {}",
            first.data
        );
    }
    let id = first.id.unwrap();
    drop(stream);

    let history = fill(node.address(), "channel", FAR);
    let mut by_header = Stream::open(node.address(), &["channel"], Some(&id));
    let path = format!("/events?channel=channel&last_event_id={}", escape(&id));
    let mut by_query = Stream::open_path(node.address(), &path, &[]);
    for stream in [&mut by_header, &mut by_query] {
        stream.expect("ready");
        let received = run_over_sse(stream, "channel", 2, history.head);
        let log = history.publications.iter().skip(1);
        assert!(
            log.map(|one| &one.data).eq(&received),
            "other data than the log's"
        );
    }
}

#[test]
fn an_event_stream_of_several_channels_resumes_at_another_node() {
    const CHANNELS: [&str; 3] = ["one", "two", "three:with-a-colon"];
    let cluster = Cluster::start(2);
    let [first, second] = [cluster.nodes[0].address(), cluster.nodes[1].address()];
    let mut stream = Stream::open(first, &CHANNELS, None);
    stream.expect("ready");
    let mut api = Api::new(first);
    // Uneven, so that a position that is only one number would be seen to be wrong.
    let publish = |api: &mut Api, round: u64| {
        for (index, channel) in CHANNELS.iter().enumerate() {
            for number in 0..=index as u64 * 3 {
                api.publish(channel, json!({ "round": round, "number": number }));
            }
        }
    };
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut take = |stream: &mut Stream, count: usize| {
        for _ in 0..count {
            let data = stream.expect("message");
            let channel = data["channel"].as_str().unwrap_or_default().to_owned();
            let offset = seen.entry(channel).or_default();
            *offset += 1;
            assert_eq!(data["offset"], *offset, "{data}");
        }
    };
    const PER_ROUND: usize = 1 + 4 + 7;
    for round in 0..10 {
        publish(&mut api, round);
    }
    // Leaves in the middle of a round, and comes back at the other node after more.
    take(&mut stream, 7 * PER_ROUND + 5);
    let id = stream.last_id().map(str::to_owned).unwrap();
    drop(stream);
    for round in 10..60 {
        publish(&mut api, round);
    }
    let mut stream = Stream::open(second, &CHANNELS, Some(&id));
    stream.expect("ready");
    take(&mut stream, 53 * PER_ROUND - 5);
    publish(&mut api, 60);
    take(&mut stream, PER_ROUND);
    for channel in CHANNELS {
        assert_eq!(seen[channel], api.history(channel).head, "{channel}");
    }
}

#[test]
fn an_event_stream_with_the_id_of_another_database_is_told_of_the_reset() {
    let nodes = [
        servers::start(servers::dev()),
        servers::start(servers::dev()),
    ];
    let mut apis = nodes.each_ref().map(|node| Api::new(node.address()));
    let mut stream = Stream::open(nodes[0].address(), &["channel"], None);
    stream.expect("ready");
    apis[0].publish("channel", json!(1));
    let id = stream.event().id.unwrap();
    apis[1].publish("channel", json!("in the other database"));
    let stream = Stream::open(nodes[1].address(), &["channel"], Some(&id));
    goes_on_after_a_reset(stream, &mut apis[1]);
}

#[test]
fn a_position_ahead_of_a_database_that_was_put_back_is_told_as_a_reset() {
    let dir = TempDir::new().unwrap();
    let [data, saved] = [dir.path().join("data"), dir.path().join("saved")];
    let options = NodeOptions {
        data: Some(data.clone()),
        ..servers::dev()
    };
    let mut node = servers::start(options);
    let epoch = Api::new(node.address()).publish("channel", json!(1)).epoch;
    node.stop().unwrap();
    copy_files(&data, &saved);
    node.restart().unwrap();
    let mut stream = Stream::open(node.address(), &["channel"], None);
    stream.expect("ready");
    let mut api = Api::new(node.address());
    for number in 2..=9 {
        api.publish("channel", json!(number));
    }
    run_over_sse(&mut stream, "channel", 2, 9);
    let id = stream.last_id().map(str::to_owned).unwrap();
    node.stop().unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy_files(&saved, &data);
    node.restart().unwrap();

    let mut api = Api::new(node.address());
    assert_eq!(
        api.history("channel").head,
        1,
        "the saved database has one publication"
    );
    let mut client = Client::connect(node.address());
    let subscribed = client.subscribe_from("channel", 9, &epoch);
    assert!(subscribed.get("recovered").is_none(), "{subscribed}");
    assert_eq!(subscribed["offset"], 1, "{subscribed}");
    let stream = Stream::open(node.address(), &["channel"], Some(&id));
    goes_on_after_a_reset(stream, &mut api);
}

/// The stream says `reset` with the offset from which it goes on, and goes on from there.
#[track_caller]
fn goes_on_after_a_reset(mut stream: Stream, api: &mut Api) {
    let reset = ready_and(&mut stream, "reset");
    assert_eq!(reset["channel"], "channel", "{reset}");
    let Some(offset) = reset["offset"].as_u64() else {
        panic!("no offset in {reset}")
    };
    let published = api.publish("channel", json!("after the reset"));
    let mut received = run_over_sse(&mut stream, "channel", offset + 1, published.offset);
    assert_eq!(received.pop(), Some(json!("after the reset")));
}

/// Publishes from several connections at once until the channel has `count` publications more, and gives its history.
fn fill(address: SocketAddr, channel: &str, count: u64) -> History {
    publish_many(
        address,
        channel,
        count,
        |number| json!({ "number": number }),
    );
    let history = Api::new(address).history(channel);
    dense(&history);
    history
}

/// While publishers go on through all nodes, opens one subscription after the other at a position of its own; then ends
/// the publishing. Gives each subscription with its position, and the final history.
fn while_publishing<S>(
    addresses: &[SocketAddr],
    mut open: impl FnMut(SocketAddr, u64) -> S,
) -> (Vec<(u64, S)>, History) {
    let stop = AtomicBool::new(false);
    let head = AtomicU64::new(HEAD_START);
    let comers = thread::scope(|scope| {
        for publisher in 0..addresses.len() as u64 {
            let (stop, head) = (&stop, &head);
            scope.spawn(move || {
                let mut api = Api::new(addresses[publisher as usize]);
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let data = json!({ "publisher": publisher, "number": number });
                    let published = api.publish("channel", data);
                    head.fetch_max(published.offset, Ordering::Relaxed);
                }
            });
        }
        // Dropped also when an assertion in `open` ends this closure early, so that the publishers end too.
        let _stop = SetOnDrop(&stop);
        (0..COMERS)
            .map(|comer| {
                let before = head.load(Ordering::Relaxed);
                let start = (HEAD_START - comer * (HEAD_START / COMERS)).max(1);
                let address = addresses[comer as usize % addresses.len()];
                let subscription = open(address, start);
                eventually("publishers go on beside the newcomer", || {
                    (head.load(Ordering::Relaxed) > before + 5).then_some(())
                });
                (start, subscription)
            })
            .collect()
    });
    let history = Api::new(addresses[0]).history("channel");
    dense(&history);
    (comers, history)
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Percent-encodes everything that is not a letter or digit.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
