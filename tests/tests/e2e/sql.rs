//! Publish from SQL: what an application commits beside the nodes reaches the subscribers of all of them, and is there for
//! whoever comes back.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fanfare_bench::local::Postgres;
use fanfare_tests::api::Api;
use fanfare_tests::expect::{all_over_ws, dense, run_over_sse, run_over_ws};
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, meanwhile};
use serde_json::{Value, json};

use crate::outage::two_nodes;

#[test]
fn what_psql_commits_reaches_the_subscribers_of_all_nodes() {
    let (postgres, database) = server();
    let redis = servers::redis();
    let nodes = two_nodes(&database, &redis.url());
    let mut clients: Vec<Client> = nodes
        .iter()
        .map(|node| Client::connect(node.address()))
        .collect();
    for client in &mut clients {
        client.subscribe("room");
        client.subscribe("other");
    }
    let mut stream = Stream::open(nodes[1].address(), &["room"], None);
    stream.expect("ready");
    postgres
        .execute(
            "app",
            "CREATE TABLE orders (id int PRIMARY KEY);
             BEGIN;
             INSERT INTO orders VALUES (1);
             SELECT fanfare.publish('room', '{\"order\": 1}', tags => '{\"kind\": \"order\"}', info => '{\"user\": \"u\"}');
             SAVEPOINT one;
             SELECT fanfare.publish('room', '\"never\"');
             ROLLBACK TO one;
             COMMIT;
             BEGIN; SELECT fanfare.publish('room', '\"never\"'); ROLLBACK;",
        )
        .unwrap();
    for client in &mut clients {
        let publication = client.publication("room");
        assert_eq!(publication["offset"], 1, "{publication}");
        assert_eq!(publication["data"], json!({ "order": 1 }));
        assert_eq!(publication["tags"], json!({ "kind": "order" }));
        assert_eq!(publication["info"]["user"], "u");
    }
    // Between publishes through nodes, and of many at once in two channels.
    let mut api = Api::new(nodes[0].address());
    let epoch = api.publish("room", json!("by a node")).epoch;
    let many = "SELECT count(fanfare.publish(name, to_jsonb(number)))
                FROM generate_series(3, 302) AS number, unnest(ARRAY['room', 'other']) AS name";
    postgres.execute("app", many).unwrap();
    assert_eq!(api.publish("room", json!("the last")).offset, 303);
    for client in &mut clients {
        let received = run_over_ws(client, "room", 2, 303);
        assert_eq!(
            received[1..301],
            (3..=302).map(Value::from).collect::<Vec<_>>()
        );
        run_over_ws(client, "other", 1, 300);
    }
    run_over_sse(&mut stream, "room", 1, 303);
    // Whoever comes back gets the same, at either node.
    for node in &nodes {
        let history = Api::new(node.address()).history("room");
        dense(&history);
        let mut back = Client::connect(node.address());
        let subscribed = back.subscribe_from("room", 0, &epoch);
        assert_eq!(subscribed["recovered"], true, "{subscribed}");
        all_over_ws(&mut back, "room", &history);
        let sample = "healed_publications_total{cause=\"unannounced\"}";
        let seen = Api::new(node.address()).metric(sample);
        assert!(seen > 0.0, "the sweep knows why it brings them");
    }
}

/// Processes of an application are killed in the middle of their transactions, again and again.
#[test]
fn an_application_that_is_killed_leaves_rows_and_publications_in_agreement() {
    const WRITERS: usize = 4;
    const KILLS: usize = 8;
    let (postgres, database) = server();
    let redis = servers::redis();
    let nodes = two_nodes(&database, &redis.url());
    postgres
        .execute(
            "app",
            "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY)",
        )
        .unwrap();
    let mut client = Client::connect(nodes[0].address());
    client.subscribe("room");
    let work = || {
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (postgres, database) = (&postgres, &database);
                scope.spawn(move || {
                    for kill in 0..KILLS {
                        let before = orders(postgres).len();
                        let mut psql = write_for_ever(database);
                        eventually("orders are committed", || {
                            (orders(postgres).len() > before).then_some(())
                        });
                        // Somewhere in a transaction.
                        thread::sleep(Duration::from_micros(
                            (3_700 * writer + 1_300 * kill) as u64,
                        ));
                        psql.kill().unwrap();
                        psql.wait().unwrap();
                    }
                });
            }
        })
    };
    meanwhile([&mut client], work);
    let busy = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'orders'";
    eventually("the sessions of the killed have ended", || {
        (postgres.execute("app", busy).unwrap().trim() == "0").then_some(())
    });
    let rows = orders(&postgres);
    let history = Api::new(nodes[1].address()).history("room");
    dense(&history);
    assert_eq!(history.head, rows.len() as u64);
    all_over_ws(&mut client, "room", &history);
    let mut back = Client::connect(nodes[1].address());
    back.subscribe_from("room", 0, &history.epoch);
    let mut received = run_over_ws(&mut back, "room", 1, history.head);
    received.sort_by_key(Value::as_u64);
    assert_eq!(received, rows);
}

/// A server of its own with an empty database, which `psql` is sent to.
fn server() -> (Postgres, String) {
    let postgres = servers::postgres();
    let database = postgres.create_database("app").unwrap();
    (postgres, database)
}

/// The numbers of all orders.
fn orders(postgres: &Postgres) -> Vec<Value> {
    let rows = postgres
        .execute("app", "SELECT id FROM orders ORDER BY id")
        .unwrap();
    let number = |row: &str| row.trim().parse::<u64>().unwrap().into();
    rows.lines().map(number).collect()
}

/// `psql`, which commits one order after the other, each with its publication, until it is killed.
fn write_for_ever(database: &str) -> Child {
    let sql = "SELECT 'BEGIN', 'INSERT INTO orders DEFAULT VALUES',
                   'SELECT fanfare.publish(''room'', to_jsonb(currval(''orders_id_seq'')))', 'COMMIT'
               FROM generate_series(1, 100000) \\gexec";
    Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--dbname", database])
        .env("PGAPPNAME", "orders")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            let input = child.stdin.take();
            input.map_or(Ok(()), |mut input| input.write_all(sql.as_bytes()))?;
            Ok(child)
        })
        .unwrap()
}
