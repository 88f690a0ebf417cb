//! The bus over the master that sentinels choose: the contract, and every way in which a master is replaced.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanfare_backend::redis::{PREFIX_DEFAULT, RedisBus};
use fanfare_bench::local::Sentinels;
use fanfare_engine::{
    contract::bus::{BusNetwork, EPOCH, Node, check_all, new_channel, numbered},
    port::{BoxFuture, Bus, BusHealth},
};
use fanfare_wire::{ChannelName, Epoch};

use super::redis::eventually;

/// A set of servers and sentinels. Its path breaks with its master, and a new master mends it.
struct Rig {
    set: Mutex<Sentinels>,
}

impl Rig {
    fn start() -> Self {
        Self {
            set: Mutex::new(Sentinels::start().expect("a set for the test")),
        }
    }

    fn set(&self) -> MutexGuard<'_, Sentinels> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two nodes, of which the second has subscribed to a channel.
    async fn pair(&self) -> (Node, Node, ChannelName) {
        let (sender, receiver) = (Node::join(self).await, Node::join(self).await);
        let channel = new_channel();
        receiver.subscribe(&[&channel]).await;
        (sender, receiver, channel)
    }
}

impl BusNetwork for Rig {
    fn join(&self) -> Arc<dyn Bus> {
        let epoch = Epoch::parse(EPOCH).expect("an epoch");
        let bus = RedisBus::connect(&self.set().url(), &epoch, PREFIX_DEFAULT);
        Arc::new(bus.expect("a usable URL"))
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        let killed = self.set().kill_master_and_sentinels();
        killed.expect("a master to kill");
        Box::pin(async {})
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        let restarted = self.set().restart_sentinels();
        restarted.expect("the sentinels start again");
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_when_the_master_is_replaced() {
    check_all(&Rig::start()).await;
}

/// Publishes a hint and waits until it arrives. It may be lost if one of the two nodes reports a break, and only then.
async fn hear(sender: &Node, receiver: &Node, channel: &ChannelName, number: u64) {
    let arrived = || receiver.hints(channel).iter().any(|hint| hint.n == number);
    while !arrived() {
        sender.await_up().await;
        receiver.await_up().await;
        let ups = || (sender.ups(), receiver.ups());
        let before = ups();
        sender.bus.publish(vec![numbered(channel, number)]);
        eventually("the hint arrives, or a break is reported", || {
            arrived() || ups() != before
        })
        .await;
    }
}

/// Replaces the master by `fault`, and checks that the bus says so, blocks nobody, and works with the new one.
async fn through_a_failover(rig: &Rig, fault: impl FnOnce(&mut Sentinels)) {
    let (sender, receiver, channel) = rig.pair().await;
    hear(&sender, &receiver, &channel, 1).await;
    let ups = (sender.ups(), receiver.ups());
    let old = rig.set().master_address().expect("a master");
    fault(&mut rig.set());
    // Taken whatever the state of the path; nobody waits for Redis.
    sender.bus.publish(vec![numbered(&channel, 2)]);
    // There is an `Up` only after a `Down`.
    eventually("both nodes were down and came up again", || {
        sender.ups() > ups.0 && receiver.ups() > ups.1
    })
    .await;
    let new = rig.set().wait_for_new_master(old).expect("a new master");
    assert_ne!(new, old);
    hear(&sender, &receiver, &channel, 3).await;
    // The old one comes back, believing that it still is the master; nobody must fall for it.
    rig.set().resume();
    rig.set().restart().expect("what was killed starts again");
    let late = Node::join(rig).await;
    hear(&late, &receiver, &channel, 4).await;
    rig.set().wait_until_safe().expect("all follow the new one");
    hear(&sender, &receiver, &channel, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_left_for_the_new_one() {
    let kill = |set: &mut Sentinels| {
        set.kill_master().expect("a master to kill");
    };
    through_a_failover(&Rig::start(), kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_master_is_left_for_the_new_one() {
    let pause = |set: &mut Sentinels| {
        set.pause_master().expect("a master to pause");
    };
    through_a_failover(&Rig::start(), pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_master_is_left_for_the_new_one() {
    let order = |set: &mut Sentinels| set.order_failover().expect("the order is taken");
    through_a_failover(&Rig::start(), order).await;
}

/// The sentinel that is named first misses a failover; when it can be asked again it says what used to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_missed_a_failover_holds_nobody() {
    let rig = Rig::start();
    let (sender, receiver, channel) = rig.pair().await;
    let (old, ups) = {
        let mut set = rig.set();
        set.pause_sentinel(0);
        let ups = (sender.ups(), receiver.ups());
        (set.pause_master().expect("a master to pause"), ups)
    };
    let new = rig.set().wait_for_new_master(old);
    new.expect("the other sentinels are enough");
    rig.set().resume();
    rig.set().resume_sentinel(0);
    let late = Node::join(&rig).await;
    eventually("both nodes were down and came up again", || {
        sender.ups() > ups.0 && receiver.ups() > ups.1
    })
    .await;
    for (number, node) in (1..).zip([&late, &sender]) {
        hear(node, &receiver, &channel, number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sentinels_it_is_down_and_says_so() {
    let rig = Rig::start();
    rig.break_path().await;
    let node = Node::start(rig.join());
    let channel = new_channel();
    assert!(!node.bus.subscribe(vec![channel.clone()]).await);
    node.bus.publish(vec![numbered(&channel, 1)]);
    assert_eq!(node.bus.health(), BusHealth::Down);
    rig.mend_path().await;
    node.await_up().await;
    hear(&node, &node, &channel, 2).await;
}

/// With most sentinels silent, the master might have been replaced without a word: it is not believed, well as it looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sentinel_of_three_is_not_enough() {
    let rig = Rig::start();
    let node = Node::join(&rig).await;
    rig.set().pause_sentinel(0);
    rig.set().pause_sentinel(1);
    node.await_down().await;
    rig.set().resume_sentinel(0);
    node.await_up().await;
    let channel = new_channel();
    node.subscribe(&[&channel]).await;
    hear(&node, &node, &channel, 1).await;
}

/// Servers that want a user and a password, and sentinels that know neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_asked_without_a_password_that_they_do_not_know() {
    let rig = Rig::start();
    let addresses = rig.set().addresses();
    let url = rig.set().url();
    for address in addresses {
        let client = redis::Client::open(format!("redis://{address}")).expect("a usable URL");
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        let mut rule = redis::cmd("ACL");
        rule.arg(&["SETUSER", "app", "on", ">pass:w@rd", "&fanfare:*", "+@all"]);
        let answer: String = rule.query_async(&mut connection).await.expect("an answer");
        assert_eq!(answer, "OK");
    }
    let url = url.replace("://", "://app:pass%3Aw%40rd@");
    let epoch = Epoch::parse(EPOCH).expect("an epoch");
    let bus = RedisBus::connect(&url, &epoch, PREFIX_DEFAULT).expect("a usable URL");
    let node = Node::start(Arc::new(bus));
    node.await_up().await;
    let channel = new_channel();
    node.subscribe(&[&channel]).await;
    hear(&node, &node, &channel, 1).await;
}
