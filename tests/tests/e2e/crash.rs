//! What was acknowledged is there after `kill -9`, and the numbers have no holes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::{Api, Published};
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{expect, servers};
use serde_json::{Value, json};

/// How often a node is killed right after one acknowledgement.
const SINGLE_ROUNDS: u64 = 12;

/// How often a node is killed in the middle of a storm.
const STORM_ROUNDS: u64 = 4;

/// Acknowledgements that a storm must have brought before the kill.
const STORM_ACKS: u64 = 150;

/// Connections that publish at once in a storm.
const STORM_PUBLISHERS: u64 = 6;

/// Close code of the Centrifuge protocol that sends a client to another node.
const SHUTDOWN: u16 = 3001;

const STORM_CHANNELS: [&str; 3] = ["storm-a", "storm-b", "storm-c"];

#[test]
fn an_acknowledged_publication_survives_a_kill_on_sqlite() {
    kill_after_each_acknowledgement(servers::dev());
}

#[test]
fn an_acknowledged_publication_survives_a_kill_on_postgres() {
    kill_after_each_acknowledgement(on_postgres());
}

#[test]
fn a_storm_of_publications_survives_kills_on_sqlite() {
    kill_in_a_storm(servers::dev());
}

#[test]
fn a_storm_of_publications_survives_kills_on_postgres() {
    kill_in_a_storm(on_postgres());
}

#[test]
fn a_polite_end_keeps_what_was_acknowledged_too() {
    let mut node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let published = Api::new(node.address()).publish("channel", json!("before"));
    let status = node.stop().unwrap();
    assert!(status.success(), "{status}: {}", node.stderr());
    assert_eq!(client.publication("channel")["data"], json!("before"));
    assert_eq!(client.end(), End::Close(SHUTDOWN, "shutdown".to_owned()));
    node.restart().unwrap();
    let history = Api::new(node.address()).history("channel");
    assert_eq!(history.epoch, published.epoch);
    assert_eq!(history.publications[0].data, json!("before"));
}

fn on_postgres() -> NodeOptions {
    NodeOptions {
        postgres: Some(servers::database()),
        ..servers::dev()
    }
}

fn kill_after_each_acknowledgement(options: NodeOptions) {
    let mut node = servers::start(options);
    let mut epoch = None;
    for round in 1..=SINGLE_ROUNDS {
        let published = Api::new(node.address()).publish("channel", json!({ "round": round }));
        node.kill();
        node.restart().unwrap();
        assert_eq!(published.offset, round);
        let epoch = epoch.get_or_insert_with(|| published.epoch.clone());
        assert_eq!(&published.epoch, epoch, "the epoch changed with a restart");
        let history = Api::new(node.address()).history("channel");
        expect::dense(&history);
        assert_eq!(
            history.head, round,
            "publication {round} was acknowledged and then lost"
        );
        assert_eq!(
            history.publications[round as usize - 1].data,
            json!({ "round": round })
        );
    }
}

/// Several connections publish as fast as they can until the node dies under them. Every acknowledged publication must
/// stand at its place afterwards; those without an answer may stand or not, but once at most.
fn kill_in_a_storm(options: NodeOptions) {
    let mut node = servers::start(options);
    let mut acknowledged: BTreeMap<(String, u64), Value> = BTreeMap::new();
    for round in 1..=STORM_ROUNDS {
        let address = node.address();
        let count = AtomicU64::new(0);
        let answers = thread::scope(|scope| {
            let publishers: Vec<_> = (0..STORM_PUBLISHERS)
                .map(|publisher| {
                    let count = &count;
                    scope.spawn(move || publish_until_the_end(address, round, publisher, count))
                })
                .collect();
            eventually("the storm is under way", || {
                (count.load(Ordering::Relaxed) >= STORM_ACKS).then_some(())
            });
            node.kill();
            publishers
                .into_iter()
                .flat_map(|publisher| publisher.join().unwrap())
                .collect::<Vec<_>>()
        });
        for (channel, published, data) in answers {
            let before = acknowledged.insert((channel, published.offset), data);
            assert_eq!(
                before, None,
                "two publications were given the offset {}",
                published.offset
            );
        }
        node.restart().unwrap();
        let mut api = Api::new(node.address());
        for channel in STORM_CHANNELS {
            let history = api.history(channel);
            expect::dense(&history);
            let mut seen = BTreeMap::new();
            for publication in &history.publications {
                let before = seen.insert(publication.data.to_string(), publication.offset);
                assert_eq!(
                    before, None,
                    "{} stands twice in {channel}",
                    publication.data
                );
            }
            let of_channel = acknowledged.iter().filter(|((name, _), _)| name == channel);
            for ((_, offset), data) in of_channel {
                let found = history
                    .publications
                    .get(*offset as usize - 1)
                    .map(|one| &one.data);
                assert_eq!(
                    found,
                    Some(data),
                    "offset {offset} of {channel} after a kill"
                );
            }
        }
    }
}

fn publish_until_the_end(
    address: SocketAddr,
    round: u64,
    publisher: u64,
    count: &AtomicU64,
) -> Vec<(String, Published, Value)> {
    let mut api = Api::new(address);
    let mut answers = Vec::new();
    for number in publisher.. {
        let channel = STORM_CHANNELS[number as usize % STORM_CHANNELS.len()];
        let data = json!({ "round": round, "publisher": publisher, "number": number });
        let Ok(published) = api.try_publish(channel, data.clone()) else {
            break;
        };
        count.fetch_add(1, Ordering::Relaxed);
        answers.push((channel.to_owned(), published, data));
    }
    answers
}
