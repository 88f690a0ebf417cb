//! The log is put back to an earlier state under running nodes, as by a backup or a replica that lagged: nobody is given
//! what belongs to the other history, and everybody is told.

use fanfare_wire::Seq;

use crate::{
    line::From,
    nodes::{Cluster, wait_for},
};

/// Payload bytes, so that publications of the two histories can be told apart.
const BEFORE: usize = 10;
const AFTER: usize = 20;

#[test]
fn everybody_is_sent_to_begin_anew_and_is_told() {
    let cluster = Cluster::start(2);
    let mut clients: Vec<_> = (0..6).map(|at| cluster.client(at % 2)).collect();
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    for _ in 0..7 {
        cluster.publish(0, "room", BEFORE);
    }
    let backup = cluster.snapshot();
    for _ in 0..3 {
        cluster.publish(1, "room", BEFORE);
    }
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(10));
    }
    cluster.restore(backup, "second");
    // Numbers that the clients have seen on other publications, and more.
    for number in 8..=12 {
        assert_eq!(
            cluster.publish(number % 2, "room", AFTER),
            Seq(number as u64)
        );
    }
    for client in &mut clients {
        client.expect_sent_away();
    }
    for (at, seq) in [(0, 10), (1, 10), (0, 8), (1, 0)] {
        let mut client = cluster.client(at);
        let told = client.subscribe("room", From::In("memory", Seq(seq)));
        assert_eq!(told, "reset", "node {at}, position {seq}");
    }
    for at in 0..2 {
        let mut client = cluster.client(at);
        let told = client.subscribe("room", From::In("second", Seq(7)));
        assert_eq!(told, "recovered");
        client.expect("room", Seq(8), Seq(12));
        assert_eq!(client.smallest_payload(), AFTER);
        assert_eq!(cluster.epoch_changes(at), 1);
    }
}

#[test]
fn a_node_that_nothing_is_published_through_hears_of_it() {
    let cluster = Cluster::start(2);
    cluster.cut(1);
    let mut client = cluster.client(1);
    client.subscribe("room", From::Live);
    cluster.publish(0, "room", BEFORE);
    client.expect("room", Seq(1), Seq(1));
    let backup = cluster.snapshot();
    cluster.restore(backup, "second");
    client.expect_sent_away();
    let mut client = cluster.client(1);
    assert_eq!(
        client.subscribe("room", From::In("memory", Seq(1))),
        "reset"
    );
    cluster.publish(0, "room", AFTER);
    client.expect("room", Seq(2), Seq(2));
}

#[test]
fn pages_of_the_other_history_are_not_given_to_anybody() {
    let cluster = Cluster::with_shards(1, 1);
    let empty = cluster.snapshot();
    for _ in 0..400 {
        cluster.publish(0, "room", BEFORE);
    }
    let mut first = cluster.client(0);
    first.subscribe("room", From::After(Seq(0)));
    first.expect("room", Seq(1), Seq(400));
    // The pages are in memory now. One more is read, and its answer held back.
    for _ in 0..400 {
        cluster.publish(0, "other", BEFORE);
    }
    cluster.gates.reads.close();
    let mut late = cluster.client(0);
    late.subscribe("other", From::After(Seq(0)));
    wait_for(|| cluster.gates.reads.waiting() > 0);
    cluster.restore(empty, "second");
    for _ in 0..400 {
        cluster.publish(0, "room", AFTER);
        cluster.publish(0, "other", AFTER);
    }
    let mut clients: Vec<_> = ["room", "other"]
        .map(|name| (name, cluster.client(0)))
        .into();
    for (name, client) in &mut clients {
        client.subscribe(name, From::In("second", Seq(0)));
    }
    cluster.gates.reads.open();
    for (name, client) in &mut clients {
        client.expect(name, Seq(1), Seq(400));
        assert_eq!(client.smallest_payload(), AFTER);
    }
    late.expect_sent_away();
}

#[test]
fn a_subscribe_that_is_under_way_goes_on_in_the_new_epoch() {
    let cluster = Cluster::with_shards(1, 1);
    let empty = cluster.snapshot();
    for _ in 0..5 {
        cluster.publish(0, "room", BEFORE);
    }
    cluster.gates.heads.close();
    let mut live = cluster.client(0);
    live.ask("room", From::Live);
    let mut resumed = cluster.client(0);
    resumed.ask("room", From::In("memory", Seq(3)));
    wait_for(|| cluster.gates.heads.waiting() > 0);
    cluster.restore(empty, "second");
    cluster.publish(0, "room", AFTER);
    cluster.gates.heads.open();
    // The answer, unless the node was quicker to send them away.
    assert!(["live", ""].contains(&&*live.last_answer()));
    assert!(["reset", ""].contains(&&*resumed.last_answer()));
    let mut again = cluster.client(0);
    let told = again.subscribe("room", From::In("memory", Seq(3)));
    assert_eq!(told, "reset");
    cluster.publish(0, "room", AFTER);
    again.expect("room", Seq(2), Seq(2));
}
