//! What an app delivers to its own source: kept once, on whatever node, in the order of its key, and collapsed like the rest.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_ingress::{
    Delivery, HandleError, Handler, Place, SubmitError, Unfit, publish::Publish,
    submit::DEDUP_BYTES_MAX,
};
use fanfare_wire::ChannelName;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    on_both,
    scene::{Database, Node, SOURCE, eventually, source},
};

on_both!(
    what_many_nodes_submit_is_kept_once_and_in_order,
    what_is_submitted_collapses_with_what_is_delivered,
);

fn publishing(database: &Database, name: &str) -> Node {
    let channel = ChannelName::parse("events").unwrap();
    let mut source = source(Arc::new(Publish::new(channel, 500)));
    source.terms.body_bytes_max = 1000;
    Node::start(database, name, source)
}

fn submit(node: &Node, body: &Value, dedup: &str) -> Result<bool, SubmitError> {
    let body = Bytes::from(body.to_string());
    node.block_on(node.ingress.submitter().submit(SOURCE, body, dedup))
}

fn what_many_nodes_submit_is_kept_once_and_in_order(database: &Database) {
    let nodes = [publishing(database, "a"), publishing(database, "b")];
    for number in 0..20 {
        let body = json!({ "n": number });
        match number % 3 {
            0 => nodes[number % 2].keep(&body),
            _ => {
                let dedup = format!("slot:{number}");
                let kept = nodes
                    .iter()
                    .map(|node| submit(node, &body, &dedup).unwrap());
                assert_eq!(kept.filter(|is_new| *is_new).count(), 1);
            }
        }
    }
    let published = eventually("all is worked off", || {
        let published = nodes[0].published("events");
        (published.len() == 20).then_some(published)
    });
    let numbers: Vec<i64> = published
        .iter()
        .map(|it| it["n"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let count = |name| {
        nodes
            .iter()
            .map(|node| node.metric(name, None))
            .sum::<u64>()
    };
    assert_eq!(count("webhooks_accepted"), 20);
    assert_eq!(count("webhooks_duplicates"), 13);
}

/// Handles one delivery for each permit that it is given.
struct Newest {
    permits: Semaphore,
    seen: Mutex<Vec<i64>>,
}

impl Handler for Newest {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        Ok(Place {
            key: "mailbox".to_owned(),
            rank: body["id"].as_i64().unwrap(),
        })
    }

    fn supersedes(&self) -> bool {
        true
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            let rank = self.place(delivery).unwrap().rank;
            self.seen.lock().unwrap().push(rank);
            self.permits.acquire().await.unwrap().forget();
            Ok(Transaction::default())
        })
    }
}

fn what_is_submitted_collapses_with_what_is_delivered(database: &Database) {
    let handler = Arc::new(Newest {
        permits: Semaphore::new(0),
        seen: Mutex::default(),
    });
    let mut source = source(Arc::clone(&handler) as _);
    source.terms.lease = std::time::Duration::from_secs(60);
    let node = Node::start(database, "a", source);
    node.keep(&json!({"id": 5}));
    eventually("the first is worked on", || {
        (*handler.seen.lock().unwrap() == [5]).then_some(())
    });
    assert_eq!(submit(&node, &json!({"id": 0}), "look"), Ok(true));
    node.keep(&json!({"id": 7}));
    assert_eq!(submit(&node, &json!({"id": 6}), "look again"), Ok(true));
    handler.permits.add_permits(10);
    eventually("one end for all that waited", || {
        (node.metric("webhooks_worked", Some(("end", "done"))) == 2).then_some(())
    });
    assert_eq!(*handler.seen.lock().unwrap(), [5, 7]);
}

#[test]
fn what_cannot_be_kept_is_refused_with_its_reason() {
    let database = Database::sqlite();
    let node = publishing(&database, "a");
    let submitter = node.ingress.submitter();
    let submit = |source: &str, body: &str, dedup: &str| {
        let body = Bytes::from(body.to_owned());
        node.block_on(submitter.submit(source, body, dedup))
    };
    assert_eq!(submit("nobody", "{}", "1"), Err(SubmitError::UnknownSource));
    let long = format!("\"{}\"", "x".repeat(1000));
    assert_eq!(submit(SOURCE, &long, "1"), Err(SubmitError::TooLong));
    let rather_long = format!("\"{}\"", "x".repeat(600));
    assert_eq!(
        submit(SOURCE, &rather_long, "1"),
        Err(SubmitError::Unfit(Unfit::TooLong))
    );
    assert!(matches!(
        submit(SOURCE, "{", "1"),
        Err(SubmitError::Unfit(Unfit::Refuse(_)))
    ));
    for dedup in ["", "a\0", &"x".repeat(DEDUP_BYTES_MAX + 1)] {
        assert_eq!(submit(SOURCE, "{}", dedup), Err(SubmitError::Dedup));
    }
    let longest = "x".repeat(DEDUP_BYTES_MAX);
    assert_eq!(submit(SOURCE, "{}", &longest), Ok(true));
    assert_eq!(submit(SOURCE, "[]", &longest), Ok(false));
    eventually("what was kept is published", || {
        (node.published("events") == [json!({})]).then_some(())
    });
}
