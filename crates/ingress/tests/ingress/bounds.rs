//! What is refused: the documented status, and a counter for each reason.

use std::{io::Write as _, net::TcpStream, sync::Arc};

use axum::http::Method;
use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_ingress::{Delivery, HandleError, Handler, Place, Unfit, publish::Publish};
use fanfare_wire::ChannelName;
use serde_json::json;

use crate::scene::{Database, Node, SOURCE, eventually, json_of, signed, source, unix_seconds};

fn node(database: &Database) -> Node {
    let channel = ChannelName::parse("events").unwrap();
    let mut source = source(Arc::new(Publish::new(channel, 1000)));
    source.terms.body_bytes_max = 2000;
    Node::start(database, "a", source)
}

#[test]
fn bad_input_has_its_status_and_its_counter() {
    let database = Database::sqlite();
    let node = node(&database);
    let now = unix_seconds();
    let long = format!("\"{}\"", "x".repeat(2000));
    let rather_long = format!("\"{}\"", "x".repeat(1500));
    let check = |status: u16,
                 reason: &str,
                 method: Method,
                 source: &str,
                 body: &str,
                 headers: &[(&str, String)]| {
        let answer = node.send(method, source, body.as_bytes(), headers).unwrap();
        assert_eq!(answer.status, status, "{reason}");
        assert_eq!(json_of(&answer)["error"]["reason"], reason);
        let count = node.metric("webhooks_refused", Some(("reason", reason)));
        assert!(count > 0, "{reason} is not counted");
        if status == 405 {
            assert_eq!(answer.header("allow"), Some("POST"));
        }
    };
    let good = signed(now, b"{}");
    let stale = signed(now - 400, b"{}");
    let other = signed(now, b"[]");
    check(404, "unknown_source", Method::POST, "nobody", "{}", &good);
    check(405, "method", Method::GET, SOURCE, "", &good);
    check(405, "method", Method::DELETE, SOURCE, "{}", &good);
    check(401, "unsigned", Method::POST, SOURCE, "{}", &[]);
    check(401, "stale", Method::POST, SOURCE, "{}", &stale);
    check(401, "signature", Method::POST, SOURCE, "{}", &other);
    check(
        413,
        "too_long",
        Method::POST,
        SOURCE,
        &long,
        &signed(now, long.as_bytes()),
    );
    check(
        413,
        "too_long",
        Method::POST,
        SOURCE,
        &rather_long,
        &signed(now, rather_long.as_bytes()),
    );
    check(400, "unfit", Method::POST, SOURCE, "{", &signed(now, b"{"));
    assert_eq!(node.metric("webhooks_accepted", None), 0);
    assert!(node.published("events").is_empty());
}

#[test]
fn a_replay_is_acknowledged_and_has_no_effect() {
    let database = Database::sqlite();
    let node = node(&database);
    let headers = signed(unix_seconds(), b"{\"a\":1}");
    let send = || {
        json_of(
            &node
                .send(Method::POST, SOURCE, b"{\"a\":1}", &headers)
                .unwrap(),
        )
    };
    assert_eq!(send(), json!({"accepted": true}));
    for _ in 0..5 {
        assert_eq!(send(), json!({"accepted": true, "duplicate": true}));
    }
    eventually("it is published", || {
        (node.metric("webhooks_worked", Some(("end", "done"))) == 1).then_some(())
    });
    assert_eq!(node.published("events"), [json!({"a": 1})]);
    assert_eq!(node.metric("webhooks_duplicates", None), 5);
}

#[test]
fn too_many_that_wait_are_refused_until_some_are_done() {
    let channel = ChannelName::parse("events").unwrap();
    let mut full = source(Arc::new(Publish::new(channel, 1000)));
    full.terms.waiting_max = 3;
    // Nobody works.
    full.terms.workers = 1;
    full.terms.lease = std::time::Duration::from_secs(3600);
    let database = Database::sqlite();
    let node = Node::start(&database, "a", full);
    node.block_on(node.ingress.stop());
    let mut number = 0;
    let refused = eventually("it is full", || {
        number += 1;
        let answer = node.deliver(&json!({ "n": number }), 0).unwrap();
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(json_of(&refused)["error"]["reason"], "full");
    assert!(refused.header("retry-after").is_some());
    let channel = ChannelName::parse("events").unwrap();
    let worker = Node::start(
        &database,
        "b",
        source(Arc::new(Publish::new(channel, 1000))),
    );
    eventually("there is room again", || {
        number += 1;
        let answer = node.deliver(&json!({ "n": number }), 0).unwrap();
        (answer.status == 200).then_some(())
    });
    drop(worker);
}

/// Nothing is for it, and keys that cannot be kept are asked for.
struct Nobody;

impl Handler for Nobody {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        match &delivery.body[..] {
            b"0" => Err(Unfit::Ignore("nobody here")),
            b"1" => Ok(Place::of("")),
            _ => Ok(Place::of("k".repeat(1000))),
        }
    }

    fn handle<'a>(&'a self, _: &'a Delivery) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async { Err(HandleError::Dead("nothing is kept".to_owned())) })
    }
}

#[test]
fn what_concerns_nobody_is_acknowledged_and_forgotten() {
    let database = Database::sqlite();
    let node = Node::start(&database, "a", source(Arc::new(Nobody)));
    let ignored = node.deliver(&json!(0), 0).unwrap();
    assert_eq!(ignored.status, 200);
    assert_eq!(
        json_of(&ignored),
        json!({"accepted": false, "ignored": true})
    );
    assert_eq!(
        node.metric("webhooks_refused", Some(("reason", "ignored"))),
        1
    );
    for unkeyed in [1, 2] {
        assert_eq!(node.deliver(&json!(unkeyed), 0).unwrap().status, 400);
    }
    assert_eq!(node.metric("webhooks_accepted", None), 0);
}

#[test]
fn requests_that_hang_are_bounded_and_those_without_a_signature_take_no_place() {
    const UNDER_WAY_MAX: usize = 64;
    let database = Database::sqlite();
    let node = node(&database);
    let headers = signed(unix_seconds(), b"{}");
    // The head of a request whose body does not come.
    let hang = |headers: &[(&str, String)]| {
        let mut head =
            format!("POST /webhooks/{SOURCE} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let unsigned: Vec<TcpStream> = (0..2 * UNDER_WAY_MAX).map(|_| hang(&[])).collect();
    assert_eq!(node.deliver(&json!(1), 0).unwrap().status, 200);
    // More than there are places: some may come too late, behind one of the deliveries below.
    let signed: Vec<TcpStream> = (0..2 * UNDER_WAY_MAX).map(|_| hang(&headers)).collect();
    let refused = eventually("no place is left", || {
        let answer = node.deliver(&json!(2), 0).unwrap();
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(json_of(&refused)["error"]["reason"], "busy");
    assert!(refused.header("retry-after").is_some());
    drop((unsigned, signed));
    eventually("there is room again", || {
        (node.deliver(&json!(3), 0).unwrap().status == 200).then_some(())
    });
}
