//! Newer deliveries supersede older ones, and none is dropped while one is worked on.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use fanfare_engine::port::{BoxFuture, Transaction};
use fanfare_ingress::{Delivery, HandleError, Handler, Place, Unfit};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    on_both,
    scene::{Database, Node, eventually, source},
};

on_both!(
    only_the_newest_of_those_that_wait_is_handled,
    what_fails_is_superseded_too,
);

/// Handles one delivery for each permit that it is given.
struct Newest {
    permits: Semaphore,
    seen: Mutex<Vec<i64>>,
    fails: AtomicBool,
}

impl Newest {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(0),
            seen: Mutex::default(),
            fails: AtomicBool::new(false),
        })
    }

    fn seen(&self) -> Vec<i64> {
        self.seen.lock().unwrap().clone()
    }
}

fn rank(delivery: &Delivery) -> i64 {
    let body: Value = serde_json::from_slice(&delivery.body).unwrap();
    body["id"].as_i64().unwrap()
}

impl Handler for Newest {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        Ok(Place {
            key: "mailbox".to_owned(),
            rank: rank(delivery),
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
            self.seen.lock().unwrap().push(rank(delivery));
            if self.fails.load(SeqCst) {
                return Err(HandleError::retry("not now"));
            }
            self.permits.acquire().await.unwrap().forget();
            Ok(Transaction::default())
        })
    }
}

fn patient(handler: &Arc<Newest>) -> fanfare_ingress::Source {
    let mut source = source(Arc::clone(handler) as _);
    source.terms.lease = std::time::Duration::from_secs(60);
    source
}

fn only_the_newest_of_those_that_wait_is_handled(database: &Database) {
    let handler = Newest::new();
    let node = Node::start(database, "a", patient(&handler));
    node.keep(&json!({"id": 5}));
    eventually("the first is worked on", || {
        (handler.seen() == [5]).then_some(())
    });
    // They come while one runs, and not in order.
    for id in [7, 9, 6, 8] {
        node.keep(&json!({ "id": id }));
    }
    handler.permits.add_permits(1);
    eventually("the newest is next", || {
        (handler.seen() == [5, 9]).then_some(())
    });
    // What comes now, older or not, has another turn: it is not known whether the one that runs will see it.
    node.keep(&json!({"id": 4}));
    handler.permits.add_permits(10);
    eventually("nothing is left", || {
        (node.metric("webhooks_worked", Some(("end", "done"))) == 3).then_some(())
    });
    assert_eq!(handler.seen(), [5, 9, 4]);
}

fn what_fails_is_superseded_too(database: &Database) {
    let handler = Newest::new();
    handler.fails.store(true, SeqCst);
    let node = Node::start(database, "a", patient(&handler));
    node.keep(&json!({"id": 1}));
    eventually("it fails", || (handler.seen().len() > 2).then_some(()));
    node.keep(&json!({"id": 2}));
    eventually("the newer one is tried", || {
        (handler.seen().last() == Some(&2)).then_some(())
    });
    handler.fails.store(false, SeqCst);
    handler.permits.add_permits(10);
    eventually("one end for both", || {
        (node.metric("webhooks_worked", Some(("end", "done"))) == 1).then_some(())
    });
    eventually("nothing is left", || {
        (node.metric("webhooks_waiting", None) == 0).then_some(())
    });
}
