//! Order of a key, and effect exactly once, whatever fails.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fanfare_engine::port::{
    BoxFuture, Transaction,
    tables::{Finish, Step},
};
use fanfare_ingress::{Delivery, HandleError, Handler, Place, Terms, Unfit};
use fanfare_wire::{ChannelName, Draft, Json};
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::sleep};
use uuid::Uuid;

use crate::{
    on_both,
    scene::{Database, Node, eventually, quick, source},
};

on_both!(
    each_key_has_its_order_and_effects_happen_once,
    one_key_is_worked_on_by_one_node_at_a_time,
    long_work_keeps_its_claim,
    a_node_that_stops_gives_its_work_back,
    an_effect_that_was_there_before_counts_as_done,
    who_has_lost_its_claim_commits_nothing,
);

/// Publishes into the channel of the key, and fails by a plan that a seed makes.
struct Stumbling {
    seed: u64,
    /// Of 16 attempts, how many fail.
    fails: u64,
    at_work: Mutex<HashMap<String, usize>>,
    most_at_once: AtomicUsize,
    takes: Duration,
}

impl Stumbling {
    fn new(seed: u64, fails: u64) -> Self {
        Self {
            seed,
            fails,
            at_work: Mutex::default(),
            most_at_once: AtomicUsize::new(0),
            takes: Duration::ZERO,
        }
    }

    async fn stumble(&self, delivery: &Delivery) -> Result<Transaction, HandleError> {
        sleep(self.takes).await;
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        let channel = ChannelName::parse(&format!("out:{}", body["key"].as_str().unwrap()));
        let data = Json::parse(&delivery.body).unwrap();
        let mut effect = Transaction {
            drafts: vec![Draft::new(channel.unwrap(), Uuid::now_v7(), data)],
            ..Transaction::default()
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, &delivery.body, delivery.attempt).hash(&mut hasher);
        let chance = hasher.finish();
        if chance % 16 >= self.fails {
            return Ok(effect);
        }
        match chance / 16 % 4 {
            0 => Err(HandleError::retry("by the plan")),
            1 => panic!("by the plan"),
            2 => {
                effect.steps.push(Step::none("SELECT 1", Vec::new()));
                Ok(effect)
            }
            _ => {
                sleep(Duration::from_millis(chance / 64 % 30)).await;
                Ok(effect)
            }
        }
    }
}

impl Handler for Stumbling {
    fn place(&self, delivery: &Delivery) -> Result<Place, Unfit> {
        let body: Value =
            serde_json::from_slice(&delivery.body).map_err(|_| Unfit::Refuse("not JSON"))?;
        let key = body["key"].as_str().ok_or(Unfit::Refuse("no key"))?;
        Ok(Place::of(key))
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            let key = self.place(delivery).unwrap().key;
            let at_once = {
                let mut at_work = self.at_work.lock().unwrap();
                let count = at_work.entry(key.clone()).or_default();
                *count += 1;
                *count
            };
            self.most_at_once.fetch_max(at_once, SeqCst);
            let leave = Leave(self, key);
            let result = self.stumble(delivery).await;
            drop(leave);
            result
        })
    }
}

/// Counts one less, also after a panic.
struct Leave<'a>(&'a Stumbling, String);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.at_work.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

/// What is delivered, in order: keys, and whether each delivery comes twice.
fn deliveries() -> impl Strategy<Value = Vec<(u8, bool)>> {
    proptest::collection::vec((0_u8..3, any::<bool>()), 1..25)
}

fn each_key_has_its_order_and_effects_happen_once(database: &Database) {
    // Each case takes nodes and commits: a few, and others in each run.
    let config = Config {
        cases: 5,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    };
    let case = AtomicUsize::new(0);
    proptest!(config, |(plan in deliveries(), seed: u64, dies_after in 0_usize..25)| {
        let case = case.fetch_add(1, SeqCst);
        play(database, case, &plan, seed, dies_after);
    });
}

/// Two nodes, of which one dies in the middle, and another comes.
fn play(database: &Database, case: usize, plan: &[(u8, bool)], seed: u64, dies_after: usize) {
    let handler = Arc::new(Stumbling::new(seed, 8));
    let start = |name: &str| {
        let name = format!("{name}-{case}");
        Node::start(database, &name, source(Arc::clone(&handler) as _))
    };
    let (mut first, second) = (Some(start("a")), start("b"));
    let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (number, (key, twice)) in plan.iter().enumerate() {
        if number == dies_after
            && let Some(first) = first.take()
        {
            first.die();
        }
        let key = format!("{case}-{key}");
        let body = json!({"key": key, "n": number});
        // Alternately through both.
        let node = first
            .as_ref()
            .filter(|_| number % 2 == 0)
            .unwrap_or(&second);
        let answer = node.deliver(&body, 0).unwrap();
        prop_assert_status(answer.status);
        if *twice {
            let again = node.deliver(&body, 0).unwrap();
            prop_assert_status(again.status);
            // The clock may have gone on by a second, and the signature with it.
            let duplicate =
                serde_json::from_slice::<Value>(&again.body).unwrap()["duplicate"] == true;
            if !duplicate {
                expected.entry(key.clone()).or_default().push(body.clone());
            }
        }
        expected.entry(key).or_default().push(body);
    }
    for (key, expected) in expected {
        let channel = format!("out:{key}");
        let published = eventually(&format!("all of {channel} is done"), || {
            let published = second.published(&channel);
            (published.len() >= expected.len()).then_some(published)
        });
        assert_eq!(published, expected, "{channel}");
    }
    eventually("nothing waits any more", || {
        (second.metric("webhooks_waiting", None) == 0).then_some(())
    });
}

#[track_caller]
fn prop_assert_status(status: u16) {
    assert_eq!(status, 200);
}

fn one_key_is_worked_on_by_one_node_at_a_time(database: &Database) {
    let handler = Arc::new(Stumbling {
        takes: Duration::from_millis(5),
        ..Stumbling::new(3, 4)
    });
    // No claim ends before its work does.
    let patient = || {
        let mut source = source(Arc::clone(&handler) as _);
        source.terms.lease = Duration::from_secs(60);
        source
    };
    let nodes = [
        Node::start(database, "a", patient()),
        Node::start(database, "b", patient()),
    ];
    for number in 0..40 {
        let key = format!("k{}", number % 2);
        nodes[number / 2 % 2].keep(&json!({"key": key, "n": number}));
    }
    for key in ["k0", "k1"] {
        eventually("all is done", || {
            (nodes[0].published(&format!("out:{key}")).len() == 20).then_some(())
        });
    }
    assert_eq!(handler.most_at_once.load(SeqCst), 1);
}

fn long_work_keeps_its_claim(database: &Database) {
    let handler = Arc::new(Stumbling {
        takes: Duration::from_millis(1500),
        ..Stumbling::new(0, 0)
    });
    let short = || {
        let mut source = source(Arc::clone(&handler) as _);
        source.terms = Terms {
            lease: Duration::from_millis(500),
            ..quick()
        };
        source
    };
    let nodes = [
        Node::start(database, "a", short()),
        Node::start(database, "b", short()),
    ];
    nodes[0].keep(&json!({"key": "k", "n": 1}));
    nodes[1].keep(&json!({"key": "k", "n": 2}));
    let published = eventually("both are done", || {
        let published = nodes[0].published("out:k");
        (published.len() >= 2).then_some(published)
    });
    let numbers: Vec<_> = published.iter().map(|data| data["n"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(2)]);
}

fn a_node_that_stops_gives_its_work_back(database: &Database) {
    let slow = Arc::new(Stumbling {
        takes: Duration::from_secs(3600),
        ..Stumbling::new(0, 0)
    });
    let mut source_of_slow = source(Arc::clone(&slow) as _);
    // Nobody waits for the end of this one.
    source_of_slow.terms.lease = Duration::from_secs(3600);
    let first = Node::start(database, "a", source_of_slow);
    first.keep(&json!({"key": "k", "n": 1}));
    eventually("it works", || {
        (slow.most_at_once.load(SeqCst) == 1).then_some(())
    });
    first.block_on(first.ingress.stop());
    let second = Node::start(database, "b", source(Arc::new(Stumbling::new(0, 0))));
    eventually("the other has done it", || {
        (second.published("out:k").len() == 1).then_some(())
    });
}

/// Publishes what a step of its own gives for each delivery, under the idempotency key that the delivery names.
struct Keyed;

impl Handler for Keyed {
    fn place(&self, _: &Delivery) -> Result<Place, Unfit> {
        Ok(Place::of("all"))
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            let body: Value = serde_json::from_slice(&delivery.body).unwrap();
            let channel = ChannelName::parse("out").unwrap();
            let data = Json::parse(&delivery.body).unwrap();
            let mut draft = Draft::new(channel, Uuid::now_v7(), data);
            draft.idempotency_key = body["once"].as_str().map(str::to_owned);
            let sql = "SELECT CAST($1 AS BIGINT) + 10";
            Ok(Transaction {
                steps: vec![Step::some(sql, vec![body["n"].as_i64().into()])],
                drafts: vec![draft],
                finish: Some(Finish::new(|rows, drafts| {
                    let number = rows[0][0].int(0).ok_or("no number")?;
                    let data = json!({ "n": number }).to_string();
                    drafts[0].data = Json::parse(data.as_bytes()).unwrap();
                    Ok(())
                })),
            })
        })
    }
}

fn an_effect_that_was_there_before_counts_as_done(database: &Database) {
    let node = Node::start(database, "a", source(Arc::new(Keyed)));
    for (number, once) in ["x", "x", "y"].iter().enumerate() {
        node.keep(&json!({"n": number, "once": once}));
    }
    eventually("all are done", || {
        (node.metric("webhooks_worked", Some(("end", "done"))) == 3).then_some(())
    });
    let published = node.published("out");
    let numbers: Vec<_> = published.iter().map(|data| data["n"].clone()).collect();
    assert_eq!(numbers, [json!(10), json!(12)]);
}

/// Publishes; the first time only when it is let go, hanging or waiting.
struct Held {
    hangs: bool,
    begun: AtomicBool,
    let_go: AtomicBool,
    held: i64,
}

impl Held {
    fn new(hangs: bool, held: i64) -> Arc<Self> {
        Arc::new(Self {
            hangs,
            begun: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
            held,
        })
    }
}

impl Handler for Held {
    fn place(&self, _: &Delivery) -> Result<Place, Unfit> {
        Ok(Place::of("all"))
    }

    fn handle<'a>(
        &'a self,
        delivery: &'a Delivery,
    ) -> BoxFuture<'a, Result<Transaction, HandleError>> {
        Box::pin(async {
            let body: Value = serde_json::from_slice(&delivery.body).unwrap();
            if body["n"] == self.held {
                self.begun.store(true, SeqCst);
                let a_little = Duration::from_millis(5);
                let is_held = || !self.let_go.load(SeqCst);
                if self.hangs {
                    // As a process that is stopped: its claim cannot be renewed either. The rest of the node goes on, which it
                    // would not if this thread were the one that waits for sockets.
                    block_in_place(|| {
                        while is_held() {
                            std::thread::sleep(a_little);
                        }
                    });
                }
                while is_held() {
                    sleep(a_little).await;
                }
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

fn who_has_lost_its_claim_commits_nothing(database: &Database) {
    let (hanging, waiting) = (Held::new(true, 1), Held::new(false, 2));
    let first = Node::start(database, "a", source(Arc::clone(&hanging) as _));
    first.keep(&json!({"n": 1}));
    first.keep(&json!({"n": 2}));
    eventually("the first node hangs", || {
        hanging.begun.load(SeqCst).then_some(())
    });
    let second = Node::start(database, "b", source(Arc::clone(&waiting) as _));
    eventually(
        "the second node has done the first and begun the second",
        || waiting.begun.load(SeqCst).then_some(()),
    );
    hanging.let_go.store(true, SeqCst);
    eventually("the first node has noticed", || {
        (first.metric("webhooks_worked", Some(("end", "lost"))) == 1).then_some(())
    });
    waiting.let_go.store(true, SeqCst);
    let published = eventually("both are done", || {
        let published = second.published("out");
        (published.len() >= 2).then_some(published)
    });
    let numbers: Vec<_> = published.iter().map(|data| data["n"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(2)]);
}
