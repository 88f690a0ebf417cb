//! Dead letters: what is given up is kept, shown and replayed, and what is behind it goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_ingress::{Delivery, HandleError, Handler, Place, Unfit};
use fanfare_wire::{ChannelName, Draft, Json};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    on_both,
    scene::{Database, Node, eventually, source},
};

on_both!(
    dead_letters_are_listed_and_replayed,
    attempts_are_bounded,
    a_delivery_that_kills_nodes_is_given_up,
);

/// Publishes, except what says `bad`, while it is strict.
struct Strict {
    strict: AtomicBool,
    retries: bool,
    attempts: AtomicUsize,
}

impl Strict {
    fn new(retries: bool) -> Arc<Self> {
        Arc::new(Self {
            strict: AtomicBool::new(true),
            retries,
            attempts: AtomicUsize::new(0),
        })
    }
}

impl Handler for Strict {
    fn place(&self, _: &Delivery) -> Result<Place, Unfit> {
        Ok(Place::of("all"))
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            let body: Value = serde_json::from_slice(&delivery.body).unwrap();
            if body["bad"] == true && self.strict.load(SeqCst) {
                self.attempts.fetch_add(1, SeqCst);
                return Err(match self.retries {
                    true => HandleError::retry("still bad"),
                    false => HandleError::Dead("it is bad".to_owned()),
                });
            }
            let channel = ChannelName::parse("out").unwrap();
            let data = Json::parse(&delivery.body).unwrap();
            Ok(Transaction {
                drafts: vec![Draft::new(channel, Uuid::now_v7(), data)],
                ..Transaction::default()
            })
        })
    }
}

fn numbers(node: &Node) -> Vec<i64> {
    let published = node.published("out");
    published
        .iter()
        .map(|data| data["n"].as_i64().unwrap())
        .collect()
}

fn dead_letters_are_listed_and_replayed(database: &Database) {
    let handler = Strict::new(false);
    let node = Node::start(database, "a", source(Arc::clone(&handler) as _));
    for number in 0..4 {
        node.keep(&json!({"n": number, "bad": number % 2 == 0}));
    }
    eventually("what is not bad is done", || {
        (numbers(&node) == [1, 3]).then_some(())
    });
    let list = || node.post_json("webhooks_dead", &json!({}))["result"]["dead"].clone();
    let dead = eventually("both are dead", || {
        Some(list()).filter(|dead| dead.as_array().unwrap().len() == 2)
    });
    assert_eq!(dead[0]["reason"], "it is bad");
    assert_eq!(dead[0]["source"], "test");
    assert_eq!(dead[0]["attempts"], 1);
    let body: Value = serde_json::from_str(dead[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"n": 0, "bad": true}));
    let none = node.post_json("webhooks_dead", &json!({"source": "other"}));
    assert_eq!(none["result"]["dead"], json!([]));
    // Page by page.
    let after = json!({"after": {"died": dead[0]["died"], "id": dead[0]["id"]}});
    let rest = node.post_json("webhooks_dead", &after)["result"]["dead"].clone();
    assert_eq!(rest, json!([dead[1]]));
    // Replayed too early it dies again, under its id.
    let id = dead[1]["id"].clone();
    let replay = |request: Value| node.post_json("webhooks_replay", &request);
    assert_eq!(
        replay(json!({"ids": [id, "no-such"]}))["result"]["replayed"],
        json!([id])
    );
    eventually("it is dead again", || {
        let dead = list();
        (dead.as_array().unwrap().len() == 2).then_some(())
    });
    handler.strict.store(false, SeqCst);
    let replayed = replay(json!({"source": "test"}))["result"]["replayed"].clone();
    assert_eq!(replayed.as_array().unwrap().len(), 2);
    eventually("both are done", || {
        (numbers(&node) == [1, 3, 0, 2]).then_some(())
    });
    assert_eq!(list(), json!([]));
    assert_eq!(
        replay(json!({"source": "test"}))["result"]["replayed"],
        json!([])
    );
    for wrong in [
        json!({}),
        json!({"ids": [1]}),
        json!({"ids": [], "source": "test"}),
        json!({"x": 1}),
    ] {
        assert_eq!(replay(wrong)["error"]["code"], 107);
    }
}

fn attempts_are_bounded(database: &Database) {
    let handler = Strict::new(true);
    let mut bounded = source(Arc::clone(&handler) as _);
    bounded.terms.attempts_max = 3;
    let node = Node::start(database, "a", bounded);
    node.keep(&json!({"n": 0, "bad": true}));
    node.keep(&json!({"n": 1}));
    eventually("the next one is done", || {
        (numbers(&node) == [1]).then_some(())
    });
    assert_eq!(handler.attempts.load(SeqCst), 3);
    let dead = node.post_json("webhooks_dead", &json!({}))["result"]["dead"].clone();
    assert_eq!(dead[0]["reason"], "still bad");
    assert_eq!(dead[0]["attempts"], 3);
}

/// Never ends.
struct Poison;

impl Handler for Poison {
    fn place(&self, _: &Delivery) -> Result<Place, Unfit> {
        Ok(Place::of("all"))
    }

    fn handle<'a>(&'a self, _: &'a Delivery) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(std::future::pending())
    }
}

fn a_delivery_that_kills_nodes_is_given_up(database: &Database) {
    let poisoned = || {
        let mut source = source(Arc::new(Poison));
        source.terms.attempts_max = 2;
        source.terms.lease = std::time::Duration::from_millis(300);
        source
    };
    let mut node = Node::start(database, "0", poisoned());
    node.keep(&json!({"n": 0}));
    let mut died = 0;
    let reason = eventually("it is given up", || {
        let dead = node.post_json("webhooks_dead", &json!({}))["result"]["dead"].clone();
        if let Some(reason) = dead[0]["reason"].as_str() {
            return Some(reason.to_owned());
        }
        died += 1;
        let next = Node::start(database, &died.to_string(), poisoned());
        std::mem::replace(&mut node, next).die();
        // Long enough for a look at what is ready.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        None
    });
    assert!(reason.contains("nodes died"), "{reason}");
}
