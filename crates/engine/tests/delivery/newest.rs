//! Subscribers that want the newest publication alone: they begin with it, and are given no other when they lag.

use fanfare_wire::Seq;

use crate::{
    line::{Client, From},
    nodes::Cluster,
};

fn subscribe(cluster: &Cluster, node: usize, seen: Option<u64>, becomes: &str) -> Client {
    let mut client = cluster.client(node);
    let answer = client.subscribe("room", From::Newest(seen.map(Seq)));
    assert_eq!(answer, becomes, "{seen:?}");
    client
}

#[test]
fn who_subscribes_is_given_the_newest_unless_it_has_it() {
    let cluster = Cluster::start(2);
    let mut first = subscribe(&cluster, 0, None, "recovered");
    cluster.publish(0, "room", 10);
    first.expect("room", Seq(1), Seq(1));
    for _ in 2..=5 {
        cluster.publish(0, "room", 10);
    }
    assert_eq!(first.read_up_to("room", 5).last(), Some(&5));
    // On either node, with the ring and without.
    let begin = |seen, becomes| [0, 1].map(|node| subscribe(&cluster, node, seen, becomes));
    let given = [begin(None, "recovered"), begin(Some(2), "recovered")];
    let mut given: Vec<_> = given.into_iter().flatten().collect();
    for client in &mut given {
        client.expect("room", Seq(5), Seq(5));
    }
    let mut has_it = begin(Some(5), "recovered");
    cluster.publish(1, "room", 10);
    for client in given.iter_mut().chain(&mut has_it).chain([&mut first]) {
        client.expect("room", Seq(6), Seq(6));
    }
    // Of another log it is the newest all the same.
    let mut stranger = cluster.client(0);
    stranger.subscribe("room", From::Newest(Some(Seq(99))));
    stranger.expect("room", Seq(6), Seq(6));
}

#[test]
fn what_is_gone_is_not_waited_for() {
    let cluster = Cluster::start(1);
    for _ in 0..200 {
        cluster.publish(0, "room", 10);
    }
    cluster.trim("room", 1);
    let mut client = subscribe(&cluster, 0, None, "recovered");
    client.expect("room", Seq(200), Seq(200));
    cluster.trim("room", 0);
    cluster
        .engine(0)
        .forget(&channel(), &cluster.engine(0).epoch(), Seq(200));
    let mut none = subscribe(&cluster, 0, None, "recovered");
    let mut lost = subscribe(&cluster, 0, Some(150), "truncated 201");
    let mut has_it = subscribe(&cluster, 0, Some(200), "recovered");
    cluster.publish(0, "room", 10);
    for client in [&mut client, &mut none, &mut lost, &mut has_it] {
        client.expect("room", Seq(201), Seq(201));
    }
}

#[test]
fn who_reads_slowly_comes_to_the_newest_without_all_before_it() {
    const LAST: u64 = 4000;
    let cluster = Cluster::with_shards(2, 1);
    let mut clients = [0, 1].map(|node| subscribe(&cluster, node, None, "recovered"));
    let mut all = cluster.client(0);
    all.subscribe("room", From::Live);
    // More than socket buffers and ring hold.
    for number in 1..=LAST {
        cluster.publish(0, "room", 8000);
        if number == LAST / 2 {
            cluster.trim("room", 1);
        }
    }
    for client in &mut clients {
        let read = client.read_up_to("room", LAST);
        assert!(read.is_sorted_by(|one, next| one < next), "{read:?}");
        assert!(read.len() < LAST as usize / 2, "{} came", read.len());
    }
    cluster.publish(1, "room", 10);
    for client in &mut clients {
        client.expect("room", Seq(LAST + 1), Seq(LAST + 1));
    }
    drop(all);
}

fn channel() -> fanfare_wire::ChannelName {
    fanfare_wire::ChannelName::parse("room").unwrap()
}
