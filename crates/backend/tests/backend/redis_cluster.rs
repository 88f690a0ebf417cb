//! The bus over a Redis Cluster: the contract, slots that move, masters that are lost.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare_backend::redis::{PREFIX_DEFAULT, RedisBus};
use fanfare_bench::local::RedisCluster;
use fanfare_engine::{
    contract::bus::{BusNetwork, EPOCH, Node, check_all, deliver, new_channel, numbered},
    port::{BoxFuture, Bus},
};
use fanfare_wire::{ChannelName, Epoch};
use redis::{FromRedisValue, RedisError};

use super::redis::{eventually, started, value};

/// Masters of each cluster here.
const MASTERS: usize = 3;

/// The master that is lost.
const LOST: usize = 1;

/// Channels that surely are spread over all masters.
const CHANNELS: usize = 300;

/// A cluster and the way in which one of its masters is lost.
struct Rig {
    cluster: Mutex<RedisCluster>,
    fault: Fault,
}

enum Fault {
    /// Killed and started again.
    Crash,
    /// Stopped and continued.
    Hang,
}

impl Rig {
    fn start(fault: Fault) -> Self {
        Self {
            cluster: Mutex::new(RedisCluster::start(MASTERS).expect("a cluster for the test")),
            fault,
        }
    }

    fn cluster(&self) -> MutexGuard<'_, RedisCluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bus(&self) -> Arc<RedisBus> {
        let epoch = Epoch::parse(EPOCH).expect("an epoch");
        let bus = RedisBus::connect(&self.cluster().url(), &epoch, PREFIX_DEFAULT);
        Arc::new(bus.expect("a usable URL"))
    }

    /// The slot of the topic of a channel that some node has subscribed to.
    async fn slot_of(&self, channel: &ChannelName) -> u16 {
        let addresses = self.cluster().addresses();
        for address in &addresses {
            let pattern = format!("*:c:{channel}");
            let topics: Vec<String> = ask(*address, &["PUBSUB", "SHARDCHANNELS", &pattern])
                .await
                .expect("an answer");
            if let [topic] = topics.as_slice() {
                let slot = ask(*address, &["CLUSTER", "KEYSLOT", topic]).await;
                return slot.expect("a slot");
            }
        }
        panic!("nobody has subscribed to {channel}");
    }
}

/// Asks a server something over a connection of its own.
async fn ask<T: FromRedisValue>(address: SocketAddr, words: &[&str]) -> Result<T, RedisError> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connection).await
}

impl BusNetwork for Rig {
    fn join(&self) -> Arc<dyn Bus> {
        self.bus()
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        let mut cluster = self.cluster();
        match self.fault {
            Fault::Crash => cluster.kill(LOST),
            Fault::Hang => cluster.pause(LOST),
        }
        Box::pin(async {})
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        let mut cluster = self.cluster();
        match self.fault {
            Fault::Crash => cluster.restart(LOST).expect("the master starts again"),
            Fault::Hang => cluster.resume(LOST),
        }
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_when_a_master_crashes() {
    check_all(&Rig::start(Fault::Crash)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_when_a_master_hangs() {
    check_all(&Rig::start(Fault::Hang)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_all_masters_are_asked_for_again() {
    let rig = Rig::start(Fault::Crash);
    let (sender, receiver) = (Node::join(&rig).await, Node::join(&rig).await);
    let channels: Vec<ChannelName> = (0..CHANNELS).map(|_| new_channel()).collect();
    receiver
        .subscribe(&channels.iter().collect::<Vec<_>>())
        .await;
    let addresses = rig.cluster().addresses();
    for address in addresses {
        let topics: Result<Vec<String>, _> =
            ask(address, &["PUBSUB", "SHARDCHANNELS", "*:c:*"]).await;
        let count = topics.expect("an answer").len();
        assert!(count > CHANNELS / 10, "{address} has {count} topics");
    }
    for number in 1..=2 {
        let hints = channels.iter().map(|channel| numbered(channel, number));
        let awaited: Vec<_> = channels.iter().map(|channel| (channel, number)).collect();
        deliver(&sender, &receiver, hints.collect(), &awaited).await;
        if number == 1 {
            let ups = (sender.ups(), receiver.ups());
            rig.break_path().await;
            receiver.await_down().await;
            rig.mend_path().await;
            eventually("both nodes were down and came up again", || {
                sender.ups() > ups.0 && receiver.ups() > ups.1
            })
            .await;
        }
    }
}

/// The slot of a channel moves away under a subscriber and a publisher: the subscriber is told by the server, the
/// publisher by the refusal of its hint, which then takes the new way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_channels_along() {
    let rig = Rig::start(Fault::Crash);
    let (sender, counters) = started(&rig.bus());
    let receiver = Node::join(&rig).await;
    sender.await_up().await;
    let channel = new_channel();
    receiver.subscribe(&[&channel]).await;
    let slot = rig.slot_of(&channel).await;
    let first = rig.cluster().owner_of(slot).expect("an owner");
    let mut published = 0;
    for step in 1..=2 * MASTERS {
        let ups = receiver.ups();
        let to = (first + step) % MASTERS;
        rig.cluster().move_slot(slot, to).expect("the slot moves");
        published += 1;
        sender.bus.publish(vec![numbered(&channel, published)]);
        eventually("the subscriber was down and came up again", || {
            receiver.ups() > ups
        })
        .await;
        eventually("the hint is taken", || {
            value(&counters.published) >= published
        })
        .await;
        published += 1;
        let hints = vec![numbered(&channel, published)];
        deliver(&sender, &receiver, hints, &[(&channel, published)]).await;
        assert_eq!(rig.slot_of(&channel).await, slot);
        assert_eq!(rig.cluster().owner_of(slot), Some(to));
    }
}

/// A cluster in which nobody may publish while a part is missing is down as a whole, and loses no hint that waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_wait_for_a_master_that_is_away() {
    let rig = Rig::start(Fault::Crash);
    let (sender, counters) = started(&rig.bus());
    sender.await_up().await;
    rig.break_path().await;
    sender.await_down().await;
    let channels: Vec<ChannelName> = (0..CHANNELS).map(|_| new_channel()).collect();
    let hints = channels.iter().map(|channel| numbered(channel, 1));
    sender.bus.publish(hints.collect());
    rig.mend_path().await;
    eventually("every hint is taken", || {
        value(&counters.published) >= CHANNELS as u64
    })
    .await;
    assert_eq!(value(&counters.dropped), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_is_found() {
    let rig = Rig::start(Fault::Crash);
    let replica = rig.cluster().add_replica(LOST).expect("a replica");
    let (sender, receiver) = (Node::join(&rig).await, Node::join(&rig).await);
    let channels: Vec<ChannelName> = (0..CHANNELS).map(|_| new_channel()).collect();
    receiver
        .subscribe(&channels.iter().collect::<Vec<_>>())
        .await;
    let ups = (sender.ups(), receiver.ups());
    rig.break_path().await;
    eventually("both nodes were down and came up again", || {
        sender.ups() > ups.0 && receiver.ups() > ups.1
    })
    .await;
    let address = rig.cluster().addresses()[replica];
    let topics: Vec<String> = ask(address, &["PUBSUB", "SHARDCHANNELS", "*:c:*"])
        .await
        .expect("an answer");
    assert!(!topics.is_empty(), "the replica has nobody to tell");
    let hints = channels.iter().map(|channel| numbered(channel, 1));
    let awaited: Vec<_> = channels.iter().map(|channel| (channel, 1)).collect();
    deliver(&sender, &receiver, hints.collect(), &awaited).await;
}
