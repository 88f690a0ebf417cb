//! The state that nodes share over Redis: when it is there, and when Redis is not fit for it.

use std::net::SocketAddr;

use fanfare_bench::local::{NodeOptions, Redis};
use fanfare_tests::api::Api;
use fanfare_tests::servers::{self, Cluster};
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::json;

#[track_caller]
fn set_policy(redis: &Redis, policy: &str) {
    let set = redis.execute(&["CONFIG", "SET", "maxmemory-policy", policy]);
    if let Err(error) = set {
        panic!("{error}");
    }
}

#[track_caller]
fn await_state(address: SocketAddr, state: &str) {
    let api = Api::new(address);
    eventually(&format!("state {state}"), || {
        let ready = api.get("/health/ready").ok()?;
        (ready.status == 200 && ready.json()["state"] == state).then_some(())
    });
}

/// A message goes from one node to the other.
#[track_caller]
fn carries([from, to]: [SocketAddr; 2]) {
    let mut client = Client::connect(to);
    client.subscribe("channel");
    Api::new(from).publish("channel", json!("all the same"));
    assert_eq!(client.publication("channel")["data"], json!("all the same"));
}

#[test]
fn a_redis_that_may_evict_state_is_refused_and_messages_go_on() {
    let redis = servers::redis();
    set_policy(&redis, "allkeys-lru");
    let database = servers::database();
    let nodes = ["node-1", "node-2"].map(|name| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    });
    for node in &nodes {
        await_state(node.address(), "down");
        let api = Api::new(node.address());
        eventually("the refusal is counted", || {
            (api.metric("state_refused_total") > 0.0).then_some(())
        });
        assert_eq!(api.metric("state_degraded"), 1.0);
        let words = node.stderr();
        let named = words.matches("maxmemory-policy noeviction").count();
        assert_eq!(named, 1, "said once, with what to set: {words}");
    }
    carries([nodes[0].address(), nodes[1].address()]);

    set_policy(&redis, "volatile-ttl");
    for node in &nodes {
        await_state(node.address(), "up");
    }
    set_policy(&redis, "allkeys-random");
    for node in &nodes {
        await_state(node.address(), "down");
    }
    carries([nodes[1].address(), nodes[0].address()]);
}

#[test]
fn the_state_is_away_with_redis_and_comes_back_with_it() {
    let mut cluster = Cluster::start(1);
    let address = cluster.nodes[0].address();
    await_state(address, "up");
    cluster.redis.kill();
    await_state(address, "down");
    if let Err(error) = cluster.redis.restart() {
        panic!("{error}");
    }
    await_state(address, "up");
    let apart = servers::start(NodeOptions {
        postgres: Some(servers::database()),
        ..servers::dev()
    });
    await_state(apart.address(), "down");
    let alone = servers::start(servers::dev());
    await_state(alone.address(), "local");
}
