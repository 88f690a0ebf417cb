//! Redis gone, Redis hanging, PostgreSQL restarting: the server stays up, loses nothing and recovers by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fanfare_bench::local::{Node, NodeOptions, Postgres};
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::expect::{dense, run_over_ws};
use fanfare_tests::servers::{self, Cluster};
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

/// Publications before, during and after an outage.
const EACH: u64 = 30;

/// Connections that publish with idempotency keys, and retry.
const RETRYING: u64 = 4;

/// Keys of each.
const KEYS_EACH: u64 = 120;

/// The ways in which the database goes down under them: in good order, as in a crash, and without a word.
const ENDS: [fn(&mut Postgres); 3] = [
    |postgres| postgres.stop().unwrap(),
    Postgres::kill,
    Postgres::kill_first_process,
];

#[test]
fn redis_stopped_and_started_again() {
    through_an_outage_of_redis(
        |cluster| cluster.redis.kill(),
        |cluster| {
            cluster.redis.restart().unwrap();
        },
    );
}

#[test]
fn redis_hanging() {
    through_an_outage_of_redis(
        |cluster| cluster.redis.pause(),
        |cluster| cluster.redis.resume(),
    );
}

#[test]
fn redis_absent_at_the_start() {
    let mut redis = servers::redis();
    redis.kill();
    let database = servers::database();
    let nodes = two_nodes(&database, &redis.url());
    let mut clients = nodes.each_ref().map(|node| Client::connect(node.address()));
    for client in &mut clients {
        client.subscribe("channel");
    }
    let mut api = Api::new(nodes[0].address());
    publish(&mut api, 1);
    for client in &mut clients {
        run_over_ws(client, "channel", 1, EACH);
    }
    redis.restart().unwrap();
    publish(&mut api, EACH + 1);
    for client in &mut clients {
        run_over_ws(client, "channel", EACH + 1, 2 * EACH);
    }
}

#[test]
fn postgres_stopped_and_started_again() {
    let mut postgres = servers::postgres();
    let url = postgres.create_database("app").unwrap();
    let mut node = servers::start(NodeOptions {
        postgres: Some(url),
        ..servers::dev()
    });
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let mut api = Api::new(node.address());
    publish(&mut api, 1);
    run_over_ws(&mut client, "channel", 1, EACH);

    postgres.stop().unwrap();
    match api.try_publish("channel", json!("refused")) {
        Err(Refusal::Api { message, .. }) => assert!(!message.is_empty()),
        Err(Refusal::Status(500..=599, _)) => {}
        answer => panic!("a publish without a database: {answer:?}"),
    }
    eventually("the node says that it is not ready", || {
        (api.get("/health/ready").ok()?.status == 503).then_some(())
    });
    assert_eq!(api.get("/health/live").unwrap().status, 200);
    assert!(client.is_open(), "a connected client was sent away");

    postgres.restart().unwrap();
    eventually("publishes succeed again", || {
        api.try_publish("channel", json!("again")).ok()
    });
    eventually("the node says that it is ready", || {
        (api.get("/health/ready").ok()?.status == 200).then_some(())
    });
    let history = api.history("channel");
    dense(&history);
    let received = run_over_ws(&mut client, "channel", EACH + 1, history.head);
    let logged = history
        .publications
        .iter()
        .skip(EACH as usize)
        .map(|one| one.data.clone());
    assert_eq!(received, logged.collect::<Vec<_>>());
    assert!(node.ended().is_none(), "{}", node.stderr());
}

/// The database crashes under publishers that retry with their idempotency keys: every key is committed once, at the
/// place that was acknowledged, whatever had become of the commit that got no answer.
#[test]
fn postgres_crashing_under_publishers_that_retry() {
    let mut postgres = servers::postgres();
    let database = postgres.create_database("app").unwrap();
    let redis = servers::redis();
    let nodes = two_nodes(&database, &redis.url());
    let addresses = nodes.each_ref().map(Node::address);
    let mut client = Client::connect(addresses[1]);
    client.subscribe("channel");

    let count = AtomicU64::new(0);
    let all = RETRYING * KEYS_EACH;
    let (acknowledged, received) = thread::scope(|scope| {
        // Who does not read is taken for gone.
        let reader = scope.spawn(|| run_over_ws(&mut client, "channel", 1, all));
        let publishers: Vec<_> = (0..RETRYING)
            .map(|publisher| {
                let count = &count;
                scope.spawn(move || publish_with_retries(&addresses, publisher, count))
            })
            .collect();
        for (before, end) in (1..).zip(ENDS) {
            let enough = before * all / (ENDS.len() as u64 + 1);
            eventually("publishers are at work", || {
                (count.load(Ordering::Relaxed) >= enough).then_some(())
            });
            end(&mut postgres);
            postgres.restart().unwrap();
        }
        let acknowledged: Vec<(String, u64)> = publishers
            .into_iter()
            .flat_map(|publisher| publisher.join().unwrap())
            .collect();
        (acknowledged, reader.join().unwrap())
    });

    // The last publishes may all have gone through the other node.
    let mut api = Api::new(addresses[0]);
    let position = json!({ "channel": "channel", "limit": 0 });
    eventually("the database is there again", || {
        api.call("history", &position).ok()
    });
    let history = api.history("channel");
    dense(&history);
    assert_eq!(history.head, all, "every key once");
    for (key, offset) in acknowledged {
        let found = &history.publications[offset as usize - 1].data;
        assert_eq!(found, &json!(key), "offset {offset}");
    }
    let kept: Vec<&Value> = history.publications.iter().map(|it| &it.data).collect();
    assert_eq!(received.iter().collect::<Vec<_>>(), kept);
}

/// Publishes its keys one after the other, each through one node and the next until it is acknowledged.
fn publish_with_retries(
    addresses: &[SocketAddr],
    publisher: u64,
    count: &AtomicU64,
) -> Vec<(String, u64)> {
    let mut apis: Vec<Api> = addresses.iter().map(|&address| Api::new(address)).collect();
    let mut turn = publisher as usize;
    (0..KEYS_EACH)
        .map(|number| {
            let key = format!("{publisher}-{number}");
            let request = json!({ "channel": "channel", "data": key, "idempotency_key": key });
            let published = eventually("a publish is acknowledged", || {
                turn += 1;
                let nodes = apis.len();
                apis[turn % nodes].try_publish_request(&request).ok()
            });
            count.fetch_add(1, Ordering::Relaxed);
            (key, published.offset)
        })
        .collect()
}

/// Publishes `EACH` numbers from `first` on.
fn publish(api: &mut Api, first: u64) {
    for number in first..first + EACH {
        let published = api.publish("channel", json!(number));
        assert_eq!(published.offset, number);
    }
}

/// Law 1 and law 3: without the bus publishes succeed, and the sweep of the lane log brings everyone everything.
fn through_an_outage_of_redis(begin: impl Fn(&mut Cluster), end: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::start(2);
    let mut api = Api::new(cluster.nodes[0].address());
    let mut clients: Vec<Client> = cluster
        .nodes
        .iter()
        .map(|node| Client::connect(node.address()))
        .collect();
    for client in &mut clients {
        client.subscribe("channel");
    }
    publish(&mut api, 1);
    begin(&mut cluster);
    publish(&mut api, EACH + 1);
    for client in &mut clients {
        run_over_ws(client, "channel", 1, 2 * EACH);
    }
    // A channel that nobody had subscribed to before the outage.
    let mut late = Client::connect(cluster.nodes[1].address());
    late.subscribe("late");
    api.publish("late", json!("during"));
    run_over_ws(&mut late, "late", 1, 1);

    end(&mut cluster);
    publish(&mut api, 2 * EACH + 1);
    for client in &mut clients {
        run_over_ws(client, "channel", 2 * EACH + 1, 3 * EACH);
    }
    eventually("every node reports its bus as well again", || {
        let ready = cluster.nodes.iter().all(|node| {
            let response = Api::new(node.address()).get("/health/ready");
            response.is_ok_and(|response| response.status == 200)
        });
        ready.then_some(())
    });
    let mut other_way = Api::new(cluster.nodes[1].address());
    publish(&mut other_way, 3 * EACH + 1);
    other_way.publish("late", json!("after"));
    for client in &mut clients {
        run_over_ws(client, "channel", 3 * EACH + 1, 4 * EACH);
    }
    run_over_ws(&mut late, "late", 2, 2);
}

/// Two nodes of a cluster.
pub(crate) fn two_nodes(database: &str, redis: &str) -> [Node; 2] {
    ["node-1", "node-2"].map(|name| {
        servers::start(NodeOptions {
            postgres: Some(database.to_owned()),
            redis: Some(redis.to_owned()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    })
}
