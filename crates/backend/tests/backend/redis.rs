//! The bus over a real Redis: the contract, and what only Redis can do to a bus.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fanfare_backend::redis::{BusCounters, PREFIX_DEFAULT, RedisBus};
use fanfare_bench::local::Redis;
use fanfare_engine::{
    contract::bus::{BusNetwork, EPOCH, Node, PATIENCE, check_all, deliver, new_channel, numbered},
    port::{BoxFuture, Bus, BusHealth},
};
use fanfare_wire::{ChannelName, Epoch};

/// One Redis and the way in which it is broken.
struct Rig {
    redis: Mutex<Redis>,
    fault: Fault,
}

enum Fault {
    /// Killed and started again, empty.
    Crash,
    /// Stopped and continued: connections stay open and nothing is answered.
    Hang,
}

impl Rig {
    fn start(fault: Fault) -> Self {
        Self {
            redis: Mutex::new(Redis::start().expect("a Redis for the test")),
            fault,
        }
    }

    fn redis(&self) -> MutexGuard<'_, Redis> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bus(&self) -> Arc<RedisBus> {
        self.bus_at(&self.redis().url())
    }

    fn bus_at(&self, url: &str) -> Arc<RedisBus> {
        let epoch = Epoch::parse(EPOCH).expect("an epoch");
        Arc::new(RedisBus::connect(url, &epoch, PREFIX_DEFAULT).expect("a usable URL"))
    }

    /// Runs a command over a connection of its own.
    async fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.redis().url()).expect("a usable URL");
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer: redis::Value = command
            .query_async(&mut connection)
            .await
            .expect("an answer");
        answer
    }
}

impl BusNetwork for Rig {
    fn join(&self) -> Arc<dyn Bus> {
        self.bus()
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        let mut redis = self.redis();
        match self.fault {
            Fault::Crash => redis.kill(),
            Fault::Hang => redis.pause(),
        }
        Box::pin(async {})
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        let mut redis = self.redis();
        match self.fault {
            Fault::Crash => redis.restart().expect("Redis starts again"),
            Fault::Hang => redis.resume(),
        }
        Box::pin(async {})
    }
}

/// Waits for a condition that no event tells of.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, met)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"));
}

pub(super) fn value(counter: &AtomicU64) -> u64 {
    counter.load(SeqCst)
}

pub(super) fn started(bus: &Arc<RedisBus>) -> (Node, Arc<BusCounters>) {
    (Node::start(Arc::clone(bus) as Arc<dyn Bus>), bus.counters())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_when_redis_crashes() {
    check_all(&Rig::start(Fault::Crash)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_when_redis_hangs() {
    check_all(&Rig::start(Fault::Hang)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_redis_and_finds_it_later() {
    let rig = Rig::start(Fault::Crash);
    rig.break_path().await;
    let (node, counters) = started(&rig.bus());
    assert_eq!(node.bus.health(), BusHealth::Down);
    let channel = new_channel();
    assert!(!node.bus.subscribe(vec![channel.clone()]).await);
    node.bus
        .publish((1..=50).map(|number| numbered(&channel, number)).collect());
    rig.mend_path().await;
    node.await_up().await;
    eventually("the hints that waited reach Redis", || {
        value(&counters.published) == 50
    })
    .await;
    assert_eq!(value(&counters.dropped), 0);
    deliver(
        &node,
        &node,
        vec![numbered(&channel, 51)],
        &[(&channel, 51)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_leaves_nothing_behind() {
    let rig = Rig::start(Fault::Crash);
    let bus = rig.bus();
    let (node, counters) = started(&bus);
    let channel = new_channel();
    node.bus
        .publish((1..=50).map(|number| numbered(&channel, number)).collect());
    assert!(!bus.flush().await || value(&counters.published) == 50);
    node.await_up().await;
    let flushed = async { while !bus.flush().await {} };
    tokio::time::timeout(PATIENCE, flushed)
        .await
        .expect("Redis takes them");
    assert_eq!(value(&counters.published), 50);
    rig.break_path().await;
    node.await_down().await;
    node.bus.publish(vec![numbered(&channel, 51)]);
    assert!(!bus.flush().await, "nobody took it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_channels_are_asked_for_again() {
    let rig = Rig::start(Fault::Crash);
    let (sender, receiver) = (Node::join(&rig).await, Node::join(&rig).await);
    let channels: Vec<ChannelName> = (0..2000).map(|_| new_channel()).collect();
    receiver
        .subscribe(&channels.iter().collect::<Vec<_>>())
        .await;
    let ups = (sender.ups(), receiver.ups());
    rig.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("both nodes come back", || {
        sender.ups() > ups.0 && receiver.ups() > ups.1
    })
    .await;
    let hints = channels
        .iter()
        .map(|channel| numbered(channel, 1))
        .collect();
    let awaited: Vec<_> = channels.iter().map(|channel| (channel, 1)).collect();
    deliver(&sender, &receiver, hints, &awaited).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_is_cut_off_sends_again() {
    let rig = Rig::start(Fault::Crash);
    let bus = rig.bus();
    let (sender, counters) = started(&bus);
    let receiver = Node::join(&rig).await;
    sender.await_up().await;
    let channel = new_channel();
    receiver.subscribe(&[&channel]).await;
    for number in 1..=20 {
        sender.bus.publish(vec![numbered(&channel, number)]);
        // Ends the publishing connections of both nodes; the listening ones are of another type.
        rig.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
    deliver(&sender, &receiver, Vec::new(), &[(&channel, 20)]).await;
    let mut head = 0;
    for hint in receiver.hints(&channel) {
        assert!(hint.n <= head + 1, "{} after {head}", hint.n);
        head = head.max(hint.n);
    }
    eventually("the lost connections are counted", || {
        value(&counters.reconnects) > 0
    })
    .await;
    eventually("Redis took them all", || value(&counters.published) == 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hint_is_counted_and_does_no_harm() {
    let rig = Rig::start(Fault::Crash);
    let (node, counters) = started(&rig.bus());
    let (channel, other) = (new_channel(), new_channel());
    node.await_up().await;
    node.subscribe(&[&channel]).await;
    let topic = format!("{PREFIX_DEFAULT}:{EPOCH}:c:{channel}");
    rig.command(&["PUBLISH", &topic, "rubbish"]).await;
    rig.command(&["PUBLISH", &topic, ""]).await;
    eventually("both are counted", || value(&counters.decode_errors) == 2).await;

    let misplaced = numbered(&other, 1).encode();
    let client = redis::Client::open(rig.redis().url()).expect("a usable URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(&topic).arg(&misplaced[..]);
    let heard: u64 = publish
        .query_async(&mut connection)
        .await
        .expect("an answer");
    assert_eq!(heard, 1);
    eventually("a hint of another channel is counted", || {
        value(&counters.decode_errors) == 3
    })
    .await;

    deliver(&node, &node, vec![numbered(&channel, 1)], &[(&channel, 1)]).await;
    assert!(node.hints(&other).is_empty());
    eventually("the hint is counted", || value(&counters.received) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_of_different_epochs_do_not_hear_each_other() {
    let rig = Rig::start(Fault::Crash);
    let node = Node::join(&rig).await;
    let epoch = Epoch::parse("another").expect("an epoch");
    let url = rig.redis().url();
    let foreign = RedisBus::connect(&url, &epoch, PREFIX_DEFAULT).expect("a usable URL");
    let foreign = Node::start(Arc::new(foreign));
    foreign.await_up().await;
    let channel = new_channel();
    foreign.subscribe(&[&channel]).await;
    node.subscribe(&[&channel]).await;
    let heard = rig
        .command(&[
            "PUBSUB",
            "NUMSUB",
            &format!("{PREFIX_DEFAULT}:{EPOCH}:c:{channel}"),
        ])
        .await;
    let redis::Value::Array(fields) = heard else {
        panic!("{heard:?}")
    };
    assert_eq!(fields[1], redis::Value::Int(1));
    deliver(&node, &node, vec![numbered(&channel, 1)], &[(&channel, 1)]).await;
    assert!(foreign.hints(&channel).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_and_a_password_open_a_closed_redis() {
    let rig = Rig::start(Fault::Crash);
    let allowed = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">pass:w@rd",
        "&fanfare:*",
        "+@all",
    ];
    rig.command(&allowed).await;
    rig.command(&["ACL", "SETUSER", "default", "resetpass", ">unguessable"])
        .await;
    let address = rig.redis().address();
    let (refused, _) = started(&rig.bus_at(&format!("redis://app:wrong@{address}")));
    let (node, _) = started(&rig.bus_at(&format!("redis://app:pass%3Aw%40rd@{address}")));
    node.await_up().await;
    let channel = new_channel();
    node.subscribe(&[&channel]).await;
    deliver(&node, &node, vec![numbered(&channel, 1)], &[(&channel, 1)]).await;
    assert_eq!(refused.bus.health(), BusHealth::Down);
    assert_eq!(refused.ups(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_became_a_replica_is_not_used() {
    let rig = Rig::start(Fault::Crash);
    let node = Node::join(&rig).await;
    let nobody = fanfare_bench::local::free_address()
        .expect("a free port")
        .port()
        .to_string();
    rig.command(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    node.await_down().await;
    rig.command(&["REPLICAOF", "NO", "ONE"]).await;
    node.await_up().await;
}
