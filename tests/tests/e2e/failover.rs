//! The database is replaced under running nodes: those who were connected are told, and nobody is shown two messages
//! under one position.

use std::collections::BTreeMap;

use fanfare_bench::local::{Node, NodeOptions, Postgres};
use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::expect::{dense, ready_and, run_over_sse, run_over_ws};
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End, meanwhile};
use serde_json::{Value, json};

/// Publications that the replica has.
const KEPT: u64 = 20;

/// Publications that were acknowledged and never reached it.
const LOST: u64 = 7;

/// Publications after the failover; more than were lost, so that every lost number is given out again.
const AFTER: u64 = 12;

/// How the server tells a client that what it has seen is not in the log any more.
const INSUFFICIENT_STATE: u16 = 3010;

#[test]
fn a_replica_that_lagged_takes_over_and_everybody_is_told() {
    let mut primary = servers::postgres();
    primary.create_database("app").unwrap();
    let replica = primary.start_replica().unwrap();
    let redis = servers::redis();
    let url = format!(
        "postgres://fanfare@{},{}/app?target_session_attrs=read-write",
        primary.address(),
        replica.address()
    );
    let mut nodes = ["node-1", "node-2"].map(|name| {
        servers::start(NodeOptions {
            postgres: Some(url.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    });
    let mut readers = nodes.each_ref().map(Reader::connect);
    let before = publish(&nodes[0], 1, KEPT, "kept");
    replica.wait_replayed(&primary).unwrap();
    stop_following(&primary, &replica);
    publish(&nodes[1], KEPT + 1, KEPT + LOST, "lost");
    for reader in &mut readers {
        reader.read("channel", 1, KEPT + LOST);
    }

    primary.kill();
    replica.promote().unwrap();
    let go_on = || publish(&nodes[0], KEPT + 1, KEPT + AFTER, "after");
    let after = meanwhile(readers.iter_mut().map(|reader| &mut reader.ws), go_on);
    assert_ne!(after, before, "the epoch did not change");
    for reader in readers {
        reader.end_of_epoch();
    }
    for node in &nodes {
        comes_back_to_a_reset(node, &before, &after);
        let mut api = Api::new(node.address());
        let history = api.history("channel");
        dense(&history);
        assert_eq!((history.head, &history.epoch), (KEPT + AFTER, &after));
        assert!(
            history
                .publications
                .iter()
                .all(|one| one.data["part"] != "lost")
        );
        let since = json!({ "offset": KEPT, "epoch": before });
        let old = api.call(
            "history",
            &json!({ "channel": "channel", "limit": 5, "since": since }),
        );
        assert!(matches!(old, Err(Refusal::Api { .. })), "{old:?}");
        assert_eq!(api.get("/health/ready").unwrap().status, 200);
    }
    // And the two are one server again, hints included.
    let mut clients = nodes.each_ref().map(|node| Client::connect(node.address()));
    for client in &mut clients {
        client.subscribe("channel");
    }
    publish(&nodes[1], KEPT + AFTER + 1, KEPT + AFTER + 10, "later");
    for client in &mut clients {
        run_over_ws(client, "channel", KEPT + AFTER + 1, KEPT + AFTER + 10);
    }
    for node in &mut nodes {
        assert!(node.ended().is_none(), "{}", node.stderr());
    }
}

/// A client of each kind, on one node.
struct Reader {
    ws: Client,
    sse: Stream,
    seen: BTreeMap<u64, Value>,
}

impl Reader {
    fn connect(node: &Node) -> Self {
        let mut ws = Client::connect(node.address());
        ws.subscribe("channel");
        let mut sse = Stream::open(node.address(), &["channel"], None);
        sse.expect("ready");
        Self {
            ws,
            sse,
            seen: BTreeMap::new(),
        }
    }

    fn read(&mut self, channel: &str, first: u64, last: u64) {
        let over_ws = run_over_ws(&mut self.ws, channel, first, last);
        let over_sse = run_over_sse(&mut self.sse, channel, first, last);
        assert_eq!(over_ws, over_sse);
        self.seen.extend((first..).zip(over_ws));
    }

    /// The end comes before anything of the new history.
    fn end_of_epoch(mut self) {
        let end = End::Close(INSUFFICIENT_STATE, "insufficient state".to_owned());
        assert_eq!(self.ws.end(), end);
        assert_eq!(self.ws.take_publication("channel"), None);
        eventually("the stream is ended", || {
            (!self.sse.is_open()).then_some(())
        });
        assert_eq!(self.sse.take_event(), None);
        assert_eq!(self.seen.len() as u64, KEPT + LOST);
    }
}

fn comes_back_to_a_reset(node: &Node, before: &str, after: &str) {
    for offset in [KEPT + LOST, KEPT, 1] {
        let mut client = Client::connect(node.address());
        let told = client.subscribe_from("channel", offset, before);
        assert_eq!(told["recovered"], Value::Null, "{offset}: {told}");
        assert_eq!(told["reset"], true, "{offset}: {told}");
        assert_eq!(told["epoch"], *after);
    }
    let head = KEPT + AFTER;
    let mut stream = Stream::open(node.address(), &["channel"], None);
    stream.expect("ready");
    let id = stream.last_id().unwrap().replace(after, before);
    let mut stream = Stream::open(node.address(), &["channel"], Some(&id));
    let reset = ready_and(&mut stream, "reset");
    assert_eq!(
        (&reset["channel"], &reset["offset"]),
        (&json!("channel"), &json!(head))
    );
}

/// Publishes the numbers `first..=last`, trying again while the database is away. Gives the epoch.
fn publish(node: &Node, first: u64, last: u64, part: &str) -> String {
    let mut api = Api::new(node.address());
    let mut epoch = None;
    for number in first..=last {
        let request = json!({
            "channel": "channel",
            "data": { "number": number, "part": part },
            "idempotency_key": format!("{part}-{number}"),
        });
        let published = eventually("a publish is acknowledged", || {
            api.try_publish_request(&request).ok()
        });
        assert_eq!(published.offset, number);
        let epoch = epoch.get_or_insert_with(|| published.epoch.clone());
        assert_eq!(epoch, &published.epoch);
    }
    epoch.unwrap_or_default()
}

fn stop_following(primary: &Postgres, replica: &Postgres) {
    let stop = "ALTER SYSTEM SET primary_conninfo = ''";
    replica.execute("postgres", stop).unwrap();
    replica
        .execute("postgres", "SELECT pg_reload_conf()")
        .unwrap();
    eventually("the replica follows no more", || {
        let following = primary.execute("app", "SELECT count(*) FROM pg_stat_replication");
        (following.unwrap().trim() == "0").then_some(())
    });
}
