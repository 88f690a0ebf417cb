//! Several nodes on one PostgreSQL and one Redis are one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::expect::{all_over_ws, dense, run_over_sse, run_over_ws};
use fanfare_tests::servers::{self, Cluster};
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

const CHANNELS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Connections that publish at once.
const PUBLISHERS: u64 = 4;

/// Publications of each.
const PUBLICATIONS_EACH: u64 = 150;

#[test]
fn two_nodes_deliver_everything_in_order_to_everyone() {
    everyone_gets_everything(2);
}

#[test]
fn four_nodes_deliver_everything_in_order_to_everyone() {
    everyone_gets_everything(4);
}

#[test]
fn every_node_knows_the_others() {
    let mut cluster = Cluster::start(3);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address()).collect();
    let names = |address: SocketAddr| -> Vec<String> {
        let info = Api::new(address).call("info", &json!({})).unwrap();
        let nodes = info["nodes"].as_array().unwrap();
        let mut names: Vec<_> = nodes
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    for &address in &addresses {
        eventually("all nodes are known", || {
            (names(address) == ["node-1", "node-2", "node-3"]).then_some(())
        });
    }
    cluster.nodes[2].kill();
    eventually("a dead node is forgotten", || {
        (names(addresses[0]) == ["node-1", "node-2"]).then_some(())
    });
}

#[test]
fn clients_of_a_killed_node_go_on_at_another() {
    let mut cluster = Cluster::start(2);
    let [first, second] = [cluster.nodes[0].address(), cluster.nodes[1].address()];
    let mut client = Client::connect(first);
    client.subscribe("channel");
    let mut api = Api::new(second);
    for number in 1..=20 {
        api.publish("channel", json!(number));
    }
    run_over_ws(&mut client, "channel", 1, 20);
    cluster.nodes[0].kill();
    client.end();
    let mut epoch = String::new();
    for number in 21..=40 {
        epoch = api.publish("channel", json!(number)).epoch;
    }
    let mut client = Client::connect(second);
    let subscribed = client.subscribe_from("channel", 20, &epoch);
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    let received = run_over_ws(&mut client, "channel", 21, 40);
    assert_eq!(received, (21..=40).map(Value::from).collect::<Vec<_>>());
}

/// A node that hangs in the middle of its work holds no lock that others need, and goes on where it was.
#[test]
fn a_hanging_node_holds_nobody_up() {
    const COUNT: u64 = 60;
    let mut cluster = Cluster::start(2);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address()).collect();
    let mut clients: Vec<Client> = addresses.iter().map(|&one| Client::connect(one)).collect();
    for client in &mut clients {
        client.subscribe("channel");
    }
    thread::scope(|scope| {
        let hanging = addresses[0];
        let through_the_hanging = scope.spawn(move || {
            let mut api = Api::new(hanging);
            for number in 0..COUNT {
                api.publish("channel", json!({ "through": 1, "number": number }));
            }
        });
        let mut api = Api::new(addresses[1]);
        for number in 0..COUNT {
            // In the middle of its work, whatever it is just doing.
            match number {
                10 | 30 => cluster.nodes[0].pause(),
                20 | 40 => cluster.nodes[0].resume(),
                _ => {}
            }
            api.publish("channel", json!({ "through": 2, "number": number }));
        }
        through_the_hanging.join().unwrap();
    });
    let history = Api::new(addresses[1]).history("channel");
    dense(&history);
    assert_eq!(history.head, 2 * COUNT);
    for client in &mut clients {
        all_over_ws(client, "channel", &history);
    }
}

#[test]
fn two_clusters_on_one_redis_do_not_hear_each_other() {
    let redis = servers::redis();
    let start = |name: &str| {
        servers::start(NodeOptions {
            postgres: Some(servers::database()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    };
    let [staging, production] = [start("staging"), start("production")];
    let mut client = Client::connect(production.address());
    client.subscribe("channel");
    Api::new(staging.address()).publish("channel", json!("of staging"));
    Api::new(production.address()).publish("channel", json!("of production"));
    assert_eq!(
        run_over_ws(&mut client, "channel", 1, 1),
        [json!("of production")]
    );
    assert!(client.take_publication("channel").is_none());
}

/// Subscribers on every node, over both wires; publishers that go from node to node; everyone must see every channel
/// whole and in the order of the log.
fn everyone_gets_everything(size: usize) {
    let cluster = Cluster::start(size);
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address()).collect();
    let mut clients: Vec<Client> = addresses
        .iter()
        .flat_map(|&address| [address; 2])
        .map(Client::connect)
        .collect();
    for client in &mut clients {
        for channel in CHANNELS {
            client.subscribe(channel);
        }
    }
    let mut streams: Vec<(&str, Stream)> = Vec::new();
    for &address in &addresses {
        for channel in CHANNELS {
            let mut stream = Stream::open(address, &[channel], None);
            stream.expect("ready");
            streams.push((channel, stream));
        }
    }

    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let addresses = &addresses;
            scope.spawn(move || publish_everywhere(addresses, publisher));
        }
    });

    let mut api = Api::new(addresses[0]);
    let mut logs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for channel in CHANNELS {
        let history = api.history(channel);
        dense(&history);
        logs.insert(
            channel,
            history
                .publications
                .into_iter()
                .map(|one| one.data)
                .collect(),
        );
    }
    let committed: usize = logs.values().map(Vec::len).sum();
    assert_eq!(committed as u64, PUBLISHERS * PUBLICATIONS_EACH);
    for client in &mut clients {
        for (channel, log) in &logs {
            assert_eq!(&run_over_ws(client, channel, 1, log.len() as u64), log);
        }
    }
    for (channel, stream) in &mut streams {
        let log = &logs[channel];
        assert_eq!(&run_over_sse(stream, channel, 1, log.len() as u64), log);
    }
}

/// Each publication goes to another node and another channel than the one before, in a pattern of the publisher's own.
fn publish_everywhere(addresses: &[SocketAddr], publisher: u64) {
    let mut apis: Vec<Api> = addresses.iter().map(|&address| Api::new(address)).collect();
    // A linear congruential generator: spread out, and the same in every run.
    let mut state = publisher * 7_919 + 1;
    for number in 0..PUBLICATIONS_EACH {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let draw = (state >> 33) as usize;
        let channel = CHANNELS[draw % CHANNELS.len()];
        let node = draw / CHANNELS.len() % apis.len();
        apis[node].publish(channel, json!({ "publisher": publisher, "number": number }));
    }
}
