//! A retry with the same idempotency key gets the first position back, through whichever node it comes.

use std::thread;

use fanfare_tests::api::Api;
use fanfare_tests::expect;
use fanfare_tests::servers::{self, Cluster};
use serde_json::json;

/// Keys that are each published by all writers at once.
const KEYS: usize = 25;

/// Writers, spread over the nodes.
const WRITERS: usize = 6;

#[test]
fn a_retry_gets_the_first_position_back() {
    let mut node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let first = api.publish_once("channel", json!("first"), "key-1");
    assert!(!first.duplicate);
    let between = api.publish("channel", json!("between"));
    assert_eq!(between.offset, first.offset + 1);
    let again = api.publish_once("channel", json!("first"), "key-1");
    assert_eq!(
        (again.offset, &again.epoch, again.duplicate),
        (first.offset, &first.epoch, true)
    );
    let elsewhere = api.publish_once("other-channel", json!("first"), "key-1");
    assert!(!elsewhere.duplicate, "a key belongs to its channel");

    node.kill();
    node.restart().unwrap();
    let mut api = Api::new(node.address());
    let after_kill = api.publish_once("channel", json!("first"), "key-1");
    assert_eq!(
        (after_kill.offset, after_kill.duplicate),
        (first.offset, true)
    );
    assert_eq!(api.history("channel").head, 2);
}

#[test]
fn a_retry_through_another_node_gets_the_first_position_back() {
    let cluster = Cluster::start(2);
    let mut one = Api::new(cluster.nodes[0].address());
    let mut two = Api::new(cluster.nodes[1].address());
    let first = one.publish_once("channel", json!("first"), "key-1");
    one.publish("channel", json!("between"));
    let again = two.publish_once("channel", json!("first"), "key-1");
    assert_eq!(
        (again.offset, &again.epoch, again.duplicate),
        (first.offset, &first.epoch, true)
    );
    assert_eq!(two.history("channel").head, 2);
}

#[test]
fn writers_at_once_through_two_nodes_commit_each_key_once() {
    let cluster = Cluster::start(2);
    let answers: Vec<Vec<_>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let address = cluster.nodes[writer % cluster.nodes.len()].address();
                scope.spawn(move || {
                    let mut api = Api::new(address);
                    (0..KEYS)
                        .map(|key| {
                            api.publish_once(
                                "channel",
                                json!({ "key": key }),
                                &format!("key-{key}"),
                            )
                        })
                        .collect()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let history = Api::new(cluster.nodes[0].address()).history("channel");
    expect::dense(&history);
    assert_eq!(history.head, KEYS as u64);
    for key in 0..KEYS {
        let of_key: Vec<_> = answers.iter().map(|answers| &answers[key]).collect();
        let first: Vec<_> = of_key.iter().filter(|answer| !answer.duplicate).collect();
        assert_eq!(first.len(), 1, "key {key}: {of_key:?}");
        let offset = first[0].offset;
        assert!(
            of_key.iter().all(|answer| answer.offset == offset),
            "key {key}: {of_key:?}"
        );
        let data = &history.publications[offset as usize - 1].data;
        assert_eq!(data, &json!({ "key": key }), "offset {offset}");
    }
}
