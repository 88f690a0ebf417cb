//! Many clients that come back at once: what the node has in memory serves them all, and the log is asked as often as
//! there are pages to read, not as often as there are clients.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use fanfare_wire::{ChannelName, Seq};

use crate::{
    line::{Client, From},
    nodes::{Cluster, wait_for},
};

const CLIENTS: usize = 200;
const SHARDS: usize = 2;

#[test]
fn those_at_the_head_or_within_the_ring_do_not_touch_the_log() {
    let cluster = Cluster::with_shards(1, SHARDS);
    let _live: Vec<Client> = (0..SHARDS).map(|_| live(&cluster)).collect();
    for _ in 0..100 {
        cluster.publish(0, "room", 10);
    }
    // Whoever asks the log now waits for ever.
    let asked = asked(&cluster);
    cluster.gates.heads.close();
    cluster.gates.reads.close();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| cluster.client(0)).collect();
    let position = |at: usize| Seq([100, 99, 50, 1, 0][at % 5]);
    for (at, client) in clients.iter_mut().enumerate() {
        let answer = client.subscribe("room", From::After(position(at)));
        assert_eq!(answer, "recovered");
    }
    cluster.publish(0, "room", 10);
    for (at, client) in clients.iter_mut().enumerate() {
        client.expect("room", position(at).next(), Seq(101));
    }
    assert_eq!(self::asked(&cluster), asked);
}

#[test]
fn those_from_far_back_share_the_reads_of_the_log() {
    const PUBLICATIONS: u64 = 1_000;
    const PAGES: usize = 8;
    let cluster = Cluster::with_shards(1, SHARDS);
    // Nobody is subscribed: the ring will hold none of it.
    for _ in 0..PUBLICATIONS {
        cluster.publish(0, "room", 10);
    }
    let _live: Vec<Client> = (0..SHARDS).map(|_| live(&cluster)).collect();
    let (heads, reads) = asked(&cluster);
    cluster.gates.heads.close();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| cluster.client(0)).collect();
    for client in &mut clients {
        client.ask("room", From::After(Seq(0)));
        // Answered from memory: so the question before it has reached the shard.
        assert_eq!(client.subscribe("other", From::Live), "live");
    }
    cluster.gates.heads.open();
    for client in &mut clients {
        assert_eq!(client.answer(), "recovered");
        client.expect("room", Seq(1), Seq(PUBLICATIONS));
    }
    let (heads_after, reads_after) = asked(&cluster);
    // For each shard one read that was under way, and one for all who came since.
    assert!(heads_after - heads <= 2 * SHARDS, "{heads} {heads_after}");
    assert_eq!(reads_after - reads, PAGES);
}

#[test]
fn those_who_ask_for_heads_together_are_answered_together() {
    let cluster = Cluster::with_shards(1, 1);
    cluster.publish(0, "room", 10);
    cluster.gates.heads.close();
    let (before, _) = asked(&cluster);
    let readers = [(ChannelName::parse("room").unwrap(), Some(Seq(0)))];
    let epoch = cluster.engine(0).epoch();
    let mut questions: Vec<_> = (0..CLIENTS)
        .map(|_| Box::pin(cluster.engine(0).heads(&epoch, &readers)))
        .collect();
    let mut cx = Context::from_waker(Waker::noop());
    for question in &mut questions {
        assert!(pin!(question).as_mut().poll(&mut cx).is_pending());
    }
    wait_for(|| cluster.gates.heads.waiting() > 0);
    cluster.gates.heads.open();
    for question in questions {
        let heads = cluster.block_on(question).unwrap();
        assert_eq!(heads[0].seq, Seq(1));
    }
    let (after, _) = asked(&cluster);
    assert!(after - before <= 2, "{before} {after}");
}

/// A client that keeps two channels live.
fn live(cluster: &Cluster) -> Client {
    let mut client = cluster.client(0);
    client.subscribe("room", From::Live);
    client.subscribe("other", From::Live);
    client
}

/// How often heads and pages were asked for.
fn asked(cluster: &Cluster) -> (usize, usize) {
    (cluster.gates.heads.asked(), cluster.gates.reads.asked())
}
