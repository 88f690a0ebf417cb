//! A channel that several nodes publish into while a flush is slow: one of them commits for all, and none is needed for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::expect::{all_over_ws, dense};
use fanfare_tests::servers;
use fanfare_tests::wait::{SetOnDrop, eventually};
use fanfare_tests::ws::{Client, meanwhile};
use serde_json::{Value, json};

const NODES: usize = 3;
/// Connections that publish through each node at once.
const PUBLISHERS: usize = 4;
/// Makes each flush take 20 ms longer, for a lone session as well.
const SLOW: [&str; 3] = [
    "ALTER SYSTEM SET commit_siblings = 0",
    "ALTER SYSTEM SET commit_delay = 20000",
    "SELECT pg_reload_conf()",
];

/// The owner is killed in the middle. What it had not answered is sent again through others, with the same key; what
/// others had handed to it they commit themselves.
#[test]
fn nodes_leave_a_contended_channel_to_one_of_them_and_survive_it() {
    let postgres = servers::postgres();
    let url = postgres.create_database("owned").unwrap();
    for sql in SLOW {
        postgres.execute("postgres", sql).unwrap();
    }
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|_| {
            servers::start(NodeOptions {
                postgres: Some(url.clone()),
                ..servers::dev()
            })
        })
        .collect();
    let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
    let mut clients: Vec<Client> = addresses.iter().map(|one| Client::connect(*one)).collect();
    for client in &mut clients {
        client.subscribe("channel");
    }
    let (done, acknowledged) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let numbers = AtomicU64::new(0);
    let work = || {
        thread::scope(|scope| {
            let _ending = SetOnDrop(&done);
            for publisher in 0..NODES * PUBLISHERS {
                let (addresses, done, numbers) = (&addresses, &done, &numbers);
                let acknowledged = &acknowledged;
                let publish = move || {
                    while !done.load(SeqCst) {
                        let key = format!("{}", numbers.fetch_add(1, SeqCst));
                        let offset = publish_somewhere(addresses, publisher % NODES, &key);
                        let is_new = acknowledged.lock().unwrap().insert(offset);
                        assert!(is_new, "two messages have the number {offset}");
                    }
                };
                scope.spawn(publish);
            }
            let metric = |node: usize, name: &str| Api::new(addresses[node]).metric(name);
            let owner = eventually("a node commits for others", || {
                (0..NODES).find(|node| metric(*node, "forward_taken_total") > 100.0)
            });
            let other = (owner + 1) % NODES;
            eventually("another node hands on what it takes", || {
                (metric(other, "forwarded_total") > 20.0).then_some(())
            });
            nodes[owner].kill();
            let so_far = acknowledged.lock().unwrap().len();
            eventually("the others go on", || {
                (acknowledged.lock().unwrap().len() > so_far + 500).then_some(())
            });
            owner
        })
    };
    let owner = meanwhile(&mut clients, work);
    let reader = addresses[(owner + 1) % NODES];
    let history = Api::new(reader).history("channel");
    dense(&history);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(history.head, acknowledged.len() as u64);
    let key = |data: &Value| data["key"].as_str().unwrap().to_owned();
    let keys: BTreeSet<String> = history
        .publications
        .iter()
        .map(|it| key(&it.data))
        .collect();
    assert_eq!(keys.len() as u64, history.head, "a message is there twice");
    for (number, client) in clients.iter_mut().enumerate() {
        if number != owner {
            all_over_ws(client, "channel", &history);
        }
    }
}

/// Publishes a message until some node has acknowledged it.
fn publish_somewhere(addresses: &[SocketAddr], first: usize, key: &str) -> u64 {
    let request = json!({ "channel": "channel", "data": { "key": key }, "idempotency_key": key });
    let mut tries = first..;
    eventually("a message is acknowledged", || {
        let node = addresses[tries.next()? % addresses.len()];
        let published = Api::new(node).try_publish_request(&request).ok()?;
        Some(published.offset)
    })
}
