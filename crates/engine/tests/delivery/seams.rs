//! What happens while an answer of the log is on its way.

use std::sync::atomic::Ordering::SeqCst;

use fanfare_wire::Seq;

use crate::{
    line::From,
    nodes::{Cluster, wait_for},
};

#[test]
fn the_last_subscriber_that_leaves_when_it_is_truncated_takes_nothing_with_it() {
    let cluster = Cluster::with_shards(1, 1);
    let mut slow = cluster.client(0);
    slow.subscribe_strictly("room", From::Live);
    // More than socket buffers and ring hold, and then it is all gone.
    for _ in 0..4000 {
        cluster.publish(0, "room", 8000);
    }
    cluster.trim("room", 1);
    slow.expect_truncated();
    let mut other = cluster.client(0);
    other.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    other.expect("room", Seq(4001), Seq(4001));
}

#[test]
fn several_refused_subscribers_of_one_channel_take_nothing_with_them() {
    let cluster = Cluster::with_shards(1, 1);
    cluster.gates.heads.close();
    let mut refused: Vec<_> = (0..3).map(|_| cluster.client(0)).collect();
    for client in &mut refused {
        client.ask_strictly("room", From::OtherEpoch(Seq(5)));
    }
    wait_for(|| cluster.gates.heads.waiting() > 0);
    cluster.gates.heads.open();
    for client in &mut refused {
        assert_eq!(client.answer(), "reset");
    }
    let mut other = cluster.client(0);
    other.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    other.expect("room", Seq(1), Seq(1));
}

#[test]
fn a_page_that_was_read_too_early_is_read_again() {
    let cluster = Cluster::with_shards(1, 1);
    for _ in 0..100 {
        cluster.publish(0, "room", 10);
    }
    cluster.gates.reads.close();
    let mut first = cluster.client(0);
    first.subscribe("room", From::After(Seq(0)));
    wait_for(|| cluster.gates.reads.waiting() > 0);
    // The ring no longer reaches 101 after these.
    for _ in 0..300 {
        cluster.publish(0, "room", 10);
    }
    let mut second = cluster.client(0);
    second.subscribe("room", From::After(Seq(100)));
    cluster.gates.reads.open();
    first.expect("room", Seq(1), Seq(400));
    second.expect("room", Seq(101), Seq(400));
}

#[test]
fn what_the_sweep_finds_while_a_channel_becomes_live_is_not_forgotten() {
    let cluster = Cluster::with_shards(2, 1);
    cluster.lose_hints(true);
    // The first sweep has placed its cursors once a message that only it can bring arrives.
    let mut probe = cluster.client(1);
    probe.subscribe("probe", From::Live);
    cluster.publish(0, "probe", 10);
    probe.expect("probe", Seq(1), Seq(1));
    cluster.gates.heads.close();
    let mut client = cluster.client(1);
    client.ask("room", From::Live);
    wait_for(|| cluster.gates.heads.waiting() > 0);
    cluster.publish(0, "room", 10);
    // Once this has arrived, the sweep has seen the one before it too.
    cluster.publish(0, "probe", 10);
    probe.expect("probe", Seq(2), Seq(2));
    cluster.gates.heads.open();
    assert_eq!(client.answer(), "live");
    client.expect("room", Seq(1), Seq(1));
}

#[test]
fn what_a_node_gives_up_says_nothing_about_a_client_that_is_ahead_of_it() {
    let cluster = Cluster::with_shards(2, 1);
    cluster.lose_hints(true);
    let mut behind = cluster.client(1);
    behind.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    behind.expect("room", Seq(1), Seq(1));
    // Healing stands still with the second one in its hands, while the others come and most of them go.
    cluster.gates.reads.close();
    cluster.publish(0, "room", 10);
    wait_for(|| cluster.gates.reads.waiting() > 0);
    for _ in 3..=10 {
        cluster.publish(0, "room", 10);
    }
    cluster.trim("room", 2);
    cluster.gates.heads.close();
    cluster.gates.reads.open();
    wait_for(|| cluster.gates.heads.waiting() == 1);
    // Another node has shown more to this one than healing is about to fetch.
    for _ in 11..=12 {
        cluster.publish(0, "room", 10);
    }
    let mut ahead = cluster.client(1);
    ahead.ask("room", From::After(Seq(12)));
    wait_for(|| cluster.gates.heads.waiting() == 2);
    cluster.gates.heads.give_one();
    behind.expect("room", Seq(2), Seq(2));
    behind.expect_truncated();
    cluster.gates.heads.open();
    assert_eq!(ahead.answer(), "recovered");
    cluster.publish(0, "room", 10);
    ahead.expect("room", Seq(13), Seq(13));
}

#[test]
fn a_head_that_was_read_for_somebody_who_left_judges_nobody_who_came_since() {
    let cluster = Cluster::with_shards(2, 1);
    let mut probe = cluster.client(1);
    probe.subscribe("probe", From::Live);
    // From here on node 1 knows of the room what it reads for its clients.
    cluster.lose_hints(true);
    cluster.gates.sweeps.close();
    wait_for(|| cluster.gates.sweeps.waiting() == 2);
    let mut stays = cluster.client(0);
    stays.subscribe("room", From::Live);
    let mut early = cluster.client(1);
    early.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    early.unsubscribe("room");
    cluster.gates.heads.close();
    early.ask("room", From::After(Seq(1)));
    wait_for(|| cluster.gates.heads.waiting() == 1);
    early.unsubscribe("room");
    early.subscribe("probe", From::Live);
    cluster.publish(0, "room", 10);
    stays.expect("room", Seq(1), Seq(2));
    let mut late = cluster.client(1);
    late.ask("room", From::After(Seq(2)));
    // Answered after the subscribe before it was taken in.
    late.ask("probe", From::Live);
    assert_eq!(late.answer(), "live");
    // The first answer is given, and has time to arrive before the second one.
    cluster.gates.heads.give_one();
    for _ in 0..100 {
        cluster.publish(0, "other", 10);
    }
    cluster.gates.heads.open();
    assert_eq!(late.answer(), "recovered");
}

/// Node 1 sleeps while publications are committed in the lane of node 0 or in a new one, and the lane log forgets them.
fn sleep_through(in_new_lane: bool) {
    let cluster = Cluster::with_shards(2, 1);
    cluster.lose_hints(true);
    let mut client = cluster.client(1);
    client.subscribe("room", From::Live);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(1), Seq(1));
    cluster.gates.sweeps.close();
    wait_for(|| cluster.gates.sweeps.waiting() == 2);
    let lane = cluster.publish_in_new_lane(if in_new_lane { "room" } else { "other" });
    if !in_new_lane {
        cluster.publish(0, "room", 10);
    }
    cluster.forget_lane_log();
    match in_new_lane {
        true => cluster.publish_in(&lane, "other"),
        false => _ = cluster.publish(0, "other", 10),
    }
    // When it wakes up, the log does not answer at first.
    cluster.gates.fail_heads.store(true, SeqCst);
    cluster.gates.sweeps.open();
    let metrics = cluster.engine(1).metrics();
    wait_for(|| metrics.sweep_errors.value() > 0);
    cluster.gates.fail_heads.store(false, SeqCst);
    client.expect("room", Seq(2), Seq(2));
}

#[test]
fn what_a_node_slept_through_is_looked_for_until_the_log_answers() {
    sleep_through(false);
}

#[test]
fn what_a_node_slept_through_in_a_new_lane_is_looked_for() {
    sleep_through(true);
}

#[test]
fn the_bus_is_not_kept_busy_by_a_channel_that_could_not_be_made_live() {
    let cluster = Cluster::with_shards(2, 1);
    let metrics = cluster.engine(1).metrics();
    cluster.gates.fail_heads.store(true, SeqCst);
    let mut refused = cluster.client(1);
    refused.ask("room", From::Live);
    wait_for(|| metrics.subscribe_errors.value() > 0);
    cluster.gates.fail_heads.store(false, SeqCst);
    // The bus hears of this one after it has heard of the other.
    let mut client = cluster.client(1);
    client.subscribe("other", From::Live);
    cluster.publish(0, "room", 10);
    cluster.publish(0, "other", 10);
    client.expect("other", Seq(1), Seq(1));
    wait_for(|| metrics.hints.value() > 0);
    assert_eq!(metrics.hints.value(), 1);
}

#[test]
fn however_many_channels_miss_something_few_reads_run_at_once() {
    const CHANNELS: u64 = 60;
    /// `HEAL_READS_MAX` of the engine.
    const READS_MAX: usize = 16;
    let cluster = Cluster::start(2);
    let mut client = cluster.client(1);
    let names: Vec<String> = (0..CHANNELS).map(|at| format!("room{at}")).collect();
    for name in &names {
        client.subscribe(name, From::Live);
    }
    cluster.gates.reads.close();
    cluster.lose_hints(true);
    for name in &names {
        cluster.publish(0, name, 10);
    }
    wait_for(|| cluster.gates.reads.waiting() == READS_MAX);
    for name in &names {
        cluster.publish(0, name, 10);
        assert!(cluster.gates.reads.waiting() <= READS_MAX);
    }
    cluster.gates.reads.open();
    for name in &names {
        client.expect(name, Seq(1), Seq(2));
    }
}
