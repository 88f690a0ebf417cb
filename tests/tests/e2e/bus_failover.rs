//! A bus of several Redis servers loses one of them: messages go on, and hints find the new way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_bench::local::{NodeOptions, RedisCluster, Sentinels};
use fanfare_tests::api::Api;
use fanfare_tests::expect::dense;
use fanfare_tests::servers;
use fanfare_tests::wait::{SetOnDrop, eventually};
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

/// Enough to need every master of a small cluster.
const CHANNELS: usize = 8;

/// Between one publication and the next.
const PACE: Duration = Duration::from_millis(5);

#[test]
fn messages_go_on_when_the_sentinels_replace_the_master() {
    let set = Sentinels::start().unwrap();
    let url = set.url();
    let set = Mutex::new(set);
    through_a_loss(
        &url,
        |_| {
            let mut set = set.lock().unwrap();
            let old = set.kill_master().unwrap();
            set.wait_for_new_master(old).unwrap();
        },
        || set.lock().unwrap().restart().unwrap(),
    );
}

#[test]
fn messages_go_on_when_a_cluster_loses_a_master_for_a_while() {
    let cluster = RedisCluster::start(3).unwrap();
    let url = cluster.url();
    let cluster = Mutex::new(cluster);
    through_a_loss(
        &url,
        |nodes| {
            cluster.lock().unwrap().kill(1);
            for node in nodes {
                await_bus(node, "down");
            }
        },
        || cluster.lock().unwrap().restart(1).unwrap(),
    );
}

/// Two nodes, publishers that never pause, subscribers of every channel on both nodes: all see all, in order, while a server
/// of the bus is lost and comes back; and afterwards hints travel again.
fn through_a_loss(url: &str, lose: impl FnOnce([SocketAddr; 2]), restore: impl FnOnce()) {
    let database = servers::database();
    let nodes = ["node-1", "node-2"].map(|name| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(url.to_owned()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    });
    let addresses = nodes.each_ref().map(|node| node.address());
    for address in addresses {
        await_bus(address, "up");
    }
    let channels: Vec<String> = (0..CHANNELS)
        .map(|number| format!("channel-{number}"))
        .collect();
    let over = AtomicBool::new(false);
    let mut received: BTreeMap<&str, Vec<Vec<Value>>> = BTreeMap::new();
    thread::scope(|scope| {
        // Also when the test fails here: publishers must end for it to end.
        let ending = SetOnDrop(&over);
        let mut readers = Vec::new();
        for address in addresses {
            for channel in &channels {
                let mut client = Client::connect(address);
                client.subscribe(channel);
                readers.push((channel, scope.spawn(move || read_to_end(client, channel))));
            }
        }
        for address in addresses {
            let (channels, over) = (&channels, &over);
            scope.spawn(move || publish_until(address, channels, over));
        }
        let reconnects = addresses.map(|address| metric(address, "fanfare_bus_reconnects_total"));
        lose(addresses);
        restore();
        for (address, before) in addresses.into_iter().zip(reconnects) {
            eventually("the bus came back after a loss", || {
                (metric(address, "fanfare_bus_reconnects_total") > before).then_some(())
            });
            await_bus(address, "up");
        }
        for address in addresses {
            let before = metric(address, "fanfare_bus_received_total");
            eventually("hints travel again", || {
                (metric(address, "fanfare_bus_received_total") > before).then_some(())
            });
        }
        drop(ending);
        for (channel, reader) in readers {
            received
                .entry(channel)
                .or_default()
                .push(reader.join().unwrap());
        }
    });
    let mut api = Api::new(addresses[0]);
    for channel in &channels {
        let history = api.history(channel);
        dense(&history);
        let logged: Vec<_> = history
            .publications
            .into_iter()
            .map(|one| one.data)
            .collect();
        assert!(received[channel.as_str()].iter().all(|all| all.len() > 2));
        // Both publishers write their end; readers stop at the second, which is the last of all.
        assert!(received[channel.as_str()].iter().all(|all| *all == logged));
    }
}

/// What an operator would see of the bus of a node.
fn await_bus(address: SocketAddr, state: &str) {
    eventually("the bus is as it should be", || {
        let ready = Api::new(address).get("/health/ready").ok()?;
        (ready.json()["bus"] == state).then_some(())
    });
}

fn metric(address: SocketAddr, name: &str) -> u64 {
    let text = Api::new(address).get("/metrics").unwrap().text();
    let sample = text.lines().find_map(|line| line.strip_prefix(name));
    match sample.and_then(|value| value.trim().parse().ok()) {
        Some(value) => value,
        None => panic!("no {name} in {text}"),
    }
}

/// Publishes into every channel through one node, again and again, and last its end.
fn publish_until(address: SocketAddr, channels: &[String], over: &AtomicBool) {
    let mut api = Api::new(address);
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        for channel in channels {
            api.publish(channel, json!({ "number": number }));
            thread::sleep(PACE);
        }
        number += 1;
    }
    for channel in channels {
        api.publish(channel, json!("end"));
    }
}

/// Everything that a subscriber receives, each the next after the one before, up to the end of both publishers.
fn read_to_end(mut client: Client, channel: &str) -> Vec<Value> {
    let mut received = Vec::new();
    let mut ends = 0;
    while ends < 2 {
        let mut publication = client.publication(channel);
        assert_eq!(publication["offset"], received.len() + 1, "in {channel}");
        let data = publication["data"].take();
        ends += usize::from(data == "end");
        received.push(data);
    }
    received
}
