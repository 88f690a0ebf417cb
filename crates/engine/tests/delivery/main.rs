//! The whole engine, several nodes in one process, real sockets: what a subscriber reads is every publication once, in
//! order, whatever the bus loses, however slowly it reads, and wherever it comes back.

mod epoch;
mod follower;
mod gate;
mod herd;
mod line;
mod newest;
mod news;
mod nodes;
mod owner;
mod presence;
mod seams;
mod selection;
mod tail;
mod transact;

use std::time::Duration;

use fanfare_engine::metrics::Cause;
use fanfare_wire::Seq;

use crate::{
    line::{Client, From},
    nodes::{Cluster, wait_for},
};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn subscribers_of_all_nodes_read_everything_in_order() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = (0..9).map(|at| cluster.client(at % 3)).collect();
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    for number in 1..=300 {
        cluster.publish(number % 3, "room", 10);
    }
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(300));
    }
}

#[test]
fn hints_that_the_bus_loses_are_healed_the_last_one_included() {
    let cluster = Cluster::start(2);
    let mut client = cluster.client(1);
    client.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(1), Seq(1));
    cluster.lose_hints(true);
    for _ in 2..=20 {
        cluster.publish(0, "room", 10);
    }
    client.expect("room", Seq(2), Seq(20));
    cluster.lose_hints(false);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(21), Seq(21));
}

#[test]
fn a_bus_that_is_down_costs_nothing_but_time() {
    let cluster = Cluster::start(2);
    let mut client = cluster.client(1);
    client.subscribe("room", From::Live);
    cluster.cut(1);
    for _ in 1..=5 {
        cluster.publish(0, "room", 10);
    }
    client.expect("room", Seq(1), Seq(5));
    // A channel that nobody on this node knew when the bus was cut.
    client.subscribe("other", From::Live);
    cluster.publish(0, "other", 10);
    client.expect("other", Seq(1), Seq(1));
    cluster.mend(1);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(6), Seq(6));
}

#[test]
fn what_was_healed_is_counted_by_cause_and_time() {
    let cluster = Cluster::start(2);
    let metrics = cluster.engine(1).metrics();
    let healed = |cause| {
        let healed = metrics.healed(cause);
        (
            healed.publications.value(),
            healed.seconds.counts().iter().sum::<u64>(),
        )
    };
    let mut client = cluster.client(1);
    client.subscribe("room", From::Live);
    let ups = metrics.bus_ups.value();
    // Sweeps that begin from now on see the world as it is then.
    let sweep_anew = || {
        let before = metrics.sweeps.value();
        wait_for(|| metrics.sweeps.value() > before + 1);
    };
    sweep_anew();
    // The last hint is lost: only the sweep can show it.
    cluster.lose_hints(true);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(1), Seq(1));
    // Counted a moment after it was delivered.
    wait_for(|| healed(Cause::Sweep) == (1, 1));
    assert_eq!(healed(Cause::Down), (0, 0));
    cluster.lose_hints(false);
    // Without the bus the sweep is the way of delivery.
    cluster.cut(1);
    sweep_anew();
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(2), Seq(2));
    wait_for(|| healed(Cause::Down) == (1, 1));
    wait_for(|| metrics.bus_downs.value() == 1);
    wait_for(|| metrics.bus_down_ms.value() > 0);
    cluster.mend(1);
    wait_for(|| metrics.bus_ups.value() == ups + 1);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(3), Seq(3));
    assert_eq!(healed(Cause::Sweep), (1, 1));
    assert!(metrics.healed(Cause::Sweep).seconds.sum_seconds() > 0.0);
}

#[test]
fn any_position_streams_on_into_live() {
    let cluster = Cluster::start(2);
    for _ in 0..2000 {
        cluster.publish(0, "room", 10);
    }
    // While more is published, clients come from everywhere: the beginning, page borders, near the head, the head.
    let starts = [0, 1, 127, 128, 129, 1000, 1919, 1920, 1999, 2000];
    let mut clients = Vec::new();
    for (at, start) in starts.into_iter().enumerate() {
        let mut client = cluster.client(at % 2);
        client.subscribe("room", From::After(Seq(start)));
        cluster.publish(at % 2, "room", 10);
        clients.push((client, start));
    }
    for (client, start) in &mut clients {
        client.expect("room", Seq(*start + 1), Seq(2010));
    }
}

#[test]
fn a_position_that_is_not_of_this_log_is_told() {
    let cluster = Cluster::start(1);
    for _ in 0..10 {
        cluster.publish(0, "room", 10);
    }
    let mut client = cluster.client(0);
    assert_eq!(client.subscribe("room", From::After(Seq(11))), "reset");
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(11), Seq(11));
    let mut client = cluster.client(0);
    assert_eq!(client.subscribe("room", From::OtherEpoch(Seq(3))), "reset");
    cluster.trim("room", 4);
    let mut client = cluster.client(0);
    assert_eq!(client.subscribe("room", From::After(Seq(0))), "truncated 8");
    client.expect("room", Seq(8), Seq(11));
}

#[test]
fn who_has_missed_too_much_goes_on_later_though_all_is_there() {
    let cluster = Cluster::start(1);
    for _ in 0..1000 {
        cluster.publish(0, "room", 10);
    }
    // From the log at first, then from memory: no difference.
    for _ in 0..2 {
        let check = |missed_max, from, answer: &str| {
            let mut client = cluster.client(0);
            let place = From::Within(Seq(from), missed_max);
            assert_eq!(client.subscribe("room", place), answer);
            client
        };
        let mut within = check(5, 995, "recovered");
        within.expect("room", Seq(996), Seq(1000));
        let mut beyond = check(5, 994, "truncated 996");
        beyond.expect("room", Seq(996), Seq(1000));
        check(0, 1000, "recovered");
        check(0, 999, "truncated 1001");
        check(5, 1001, "reset");
        let mut far = check(1000, 0, "recovered");
        far.expect("room", Seq(1), Seq(1000));
    }
}

#[test]
fn a_client_ahead_of_its_node_is_not_sent_back() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client(1);
    here.subscribe("room", From::Live);
    cluster.cut(1);
    cluster.lose_hints(true);
    for _ in 0..3 {
        cluster.publish(0, "room", 10);
    }
    // It has seen 3 elsewhere; this node may not have heard of any yet.
    let mut moved = cluster.client(1);
    assert_eq!(moved.subscribe("room", From::After(Seq(3))), "recovered");
    cluster.publish(0, "room", 10);
    moved.expect("room", Seq(4), Seq(4));
    here.expect("room", Seq(1), Seq(4));
}

#[test]
fn a_slow_reader_reads_everything_and_disturbs_nobody() {
    let cluster = Cluster::start(1);
    let mut slow = cluster.client(0);
    slow.subscribe("room", From::Live);
    slow.subscribe("other", From::Live);
    let mut quick = cluster.client(0);
    quick.subscribe("room", From::Live);
    // Far more than socket buffers and ring hold together.
    let messages = 4000;
    for _ in 0..messages {
        cluster.publish(0, "room", 8000);
        cluster.publish(0, "other", 10);
    }
    quick.expect("room", Seq(1), Seq(messages));
    slow.expect_both(("room", messages), ("other", messages));
}

#[test]
fn clients_that_come_and_go_read_every_message_once() {
    let cluster = Cluster::start(2);
    let mut position = Seq::ZERO;
    for round in 0..60_u64 {
        let mut client = cluster.client((round % 2) as usize);
        assert_eq!(client.subscribe("room", From::After(position)), "recovered");
        for number in 0..=round % 5 {
            cluster.publish((number % 2) as usize, "room", 10);
        }
        let head = Seq(position.0 + round % 5 + 1);
        client.expect("room", position.next(), head);
        if round % 7 == 3 {
            client.unsubscribe("room");
            cluster.publish(0, "room", 10);
            assert_eq!(client.subscribe("room", From::After(head)), "recovered");
            client.expect("room", head.next(), head.next());
            position = head.next();
        } else {
            position = head;
        }
    }
}
