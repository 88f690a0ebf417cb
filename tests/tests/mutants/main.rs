//! The checker is worth what it catches: servers that break one promise each, under the same load as one that keeps all.
//!
//! `fanfare-sabotaged` is the program with faults built in. It is built by
//! `cargo build -p fanfare-server --features sabotage --bin fanfare-sabotaged`.

mod trial;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::wait::eventually;

use crate::trial::{Server, Trial, Verdict};

/// Twelve thousand messages, in frames of many.
const CROWD: &str = "--clients 4 --channels 2 --via ws --rate 4000 --duration 3";

/// Two hundred messages in one channel.
const TAIL: &str = "--clients 3 --channels 1 --rate 200 --duration 1";

/// A load that goes on while its only server dies and comes back.
const CRASH: &str = "--clients 4 --channels 2 --rate 150 --duration 4 --reconnect";

/// Two writers in one channel.
const RACE: &str = "--clients 4 --channels 1 --rate 150 --duration 3 --reconnect";

fn alone(server: Server, load: &str) -> Verdict {
    let (binary, environment) = server.program();
    let node = servers::start(NodeOptions {
        binary,
        environment,
        ..servers::dev()
    });
    Trial::begin(&[node], server.drain(), load).verdict()
}

#[test]
fn a_crowd_is_served_well_by_the_clean_build() {
    alone(Server::Clean, CROWD).assert_clean();
}

#[test]
fn one_dropped_in_ten_thousand_is_caught() {
    let verdict = alone(Server::Sabotaged("drop:10000"), CROWD);
    verdict.assert_broken("stream");
    assert_eq!(
        verdict.broken("lost-write"),
        0,
        "the log has it: {verdict:?}"
    );
}

#[test]
fn two_swapped_are_caught() {
    let verdict = alone(Server::Sabotaged("swap:2000"), CROWD);
    verdict.assert_broken("stream");
    assert_eq!(verdict.broken("repeat"), 0, "{verdict:?}");
}

#[test]
fn one_repeated_is_caught() {
    let verdict = alone(Server::Sabotaged("repeat:10000"), CROWD);
    verdict.assert_broken("repeat");
    assert_eq!(verdict.broken("stream"), 0, "{verdict:?}");
}

#[test]
fn the_last_message_arrives_with_the_clean_build() {
    alone(Server::Clean, TAIL).assert_clean();
}

#[test]
fn the_last_message_dropped_is_caught() {
    let verdict = alone(Server::Sabotaged("drop-number:200"), TAIL);
    verdict.assert_broken("unseen");
    assert_eq!(
        verdict.broken("stream"),
        0,
        "nothing came after it: {verdict:?}"
    );
}

/// The node is killed in the middle of the load, and started again.
fn killed(server: Server) -> Verdict {
    let (binary, environment) = server.program();
    let mut node = servers::start(NodeOptions {
        binary,
        environment,
        ..servers::dev()
    });
    let mut api = Api::new(node.address());
    let mut nodes = vec![node];
    let trial = Trial::begin(&nodes, server.drain(), CRASH);
    eventually("the load is under way", || {
        (api.history("bench:run:0").head > 100).then_some(())
    });
    node = nodes.remove(0);
    node.kill();
    node.restart().unwrap();
    let verdict = trial.verdict();
    let lost = &verdict.report["counts"]["lost"];
    assert!(lost.as_u64() > Some(0), "killed too late: {verdict:?}");
    verdict
}

#[test]
fn a_kill_loses_nothing_of_the_clean_build() {
    killed(Server::Clean).assert_clean();
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    let verdict = killed(Server::Sabotaged("ack-before-commit:200"));
    verdict.assert_broken("lost-write");
}

/// Two nodes on one database, in which `sql` was run after they had started.
fn race(sql: Option<&str>) -> Verdict {
    const DATABASE: &str = "race";
    let postgres = servers::postgres();
    let redis = servers::redis();
    let database = postgres.create_database(DATABASE).unwrap();
    let node = || {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            ..servers::dev()
        })
    };
    let nodes = [node(), node()];
    if let Some(sql) = sql {
        postgres.execute(DATABASE, sql).unwrap();
    }
    Trial::begin(&nodes, Server::Clean.drain(), RACE).verdict()
}

#[test]
fn two_writers_in_one_channel_are_ordered_by_the_clean_build() {
    race(None).assert_clean();
}

#[test]
fn numbers_from_an_ordinary_sequence_are_caught() {
    let sql = include_str!("numbered_by_a_sequence.sql");
    // The program is the clean one; what breaks the promise is in the database.
    let verdict = race(Some(sql));
    verdict.assert_broken("dense");
}
