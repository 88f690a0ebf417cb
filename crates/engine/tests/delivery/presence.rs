//! Who is in a channel, on several nodes: told once, a short absence not at all, and answered while the state is away.

use std::sync::Arc;

use fanfare_engine::{Announced, Attendance, Attendee, port::state::NODE_LEASE};
use fanfare_wire::{ChannelName, Json, Seq};
use uuid::Uuid;

use crate::{
    line::{Client, From},
    nodes::{Cluster, wait_for},
};

fn enter(cluster: &Cluster, node: usize, user: &str) -> Attendance {
    enter_as(cluster, node, user, Announced::PerUser)
}

fn enter_as(cluster: &Cluster, node: usize, user: &str, announced: Announced) -> Attendance {
    let client = Uuid::new_v4();
    let who = Arc::new(Attendee {
        client,
        user: user.into(),
        info: Json::parse(format!("{{\"user\":\"{user}\"}}").as_bytes()).unwrap(),
    });
    let presence = cluster.engine(node).presence();
    presence.enter(&room(), &who, announced)
}

fn room() -> ChannelName {
    ChannelName::parse("room").unwrap()
}

/// Connections and members, as a node answers.
fn count(cluster: &Cluster, node: usize) -> (u64, u64, bool) {
    let counted = cluster.block_on(cluster.engine(node).presence().count(&room()));
    (
        counted.count.holders,
        counted.count.members,
        counted.degraded,
    )
}

/// The members that a node lists, sorted.
fn members(cluster: &Cluster, node: usize) -> (Vec<String>, bool) {
    let members = cluster.block_on(cluster.engine(node).presence().members(&room()));
    assert_eq!(members.total, None);
    let mut names: Vec<_> = members.holders.into_iter().map(|it| it.member).collect();
    names.sort_unstable();
    (names, members.degraded)
}

fn watcher(cluster: &Cluster, node: usize) -> Client {
    let mut client = cluster.client(node);
    client.subscribe("room", From::Live);
    client
}

fn join(user: &str) -> String {
    format!("join {{\"user\":\"{user}\"}}")
}

fn leave(user: &str) -> String {
    format!("leave {{\"user\":\"{user}\"}}")
}

#[test]
fn a_member_joins_and_leaves_once_on_all_nodes() {
    let cluster = Cluster::start(2);
    let mut watchers = [watcher(&cluster, 0), watcher(&cluster, 1)];
    let first = enter(&cluster, 0, "ann");
    // An answer knows of everybody who came to its node before.
    assert_eq!(count(&cluster, 0), (1, 1, false));
    let second = enter(&cluster, 1, "ann");
    let bob = enter(&cluster, 1, "bob");
    assert_eq!(count(&cluster, 1), (3, 2, false));
    assert_eq!(members(&cluster, 0).0, ["ann", "ann", "bob"]);
    for watcher in &mut watchers {
        assert_eq!(watcher.expect_news(2), [join("ann"), join("bob")]);
    }
    first.leave();
    assert_eq!(count(&cluster, 0), (2, 2, false));
    second.leave();
    bob.leave();
    for watcher in &mut watchers {
        assert_eq!(watcher.expect_news(2), [leave("ann"), leave("bob")]);
    }
    assert_eq!(count(&cluster, 0), (0, 0, false));
}

#[test]
fn each_connection_joins_and_leaves_where_that_is_told() {
    let cluster = Cluster::start(2);
    let mut watchers = [watcher(&cluster, 0), watcher(&cluster, 1)];
    let enter = |node| enter_as(&cluster, node, "ann", Announced::PerClient);
    let first = enter(0);
    assert_eq!(count(&cluster, 0), (1, 1, false));
    let second = enter(1);
    assert_eq!(count(&cluster, 1), (2, 1, false));
    for watcher in &mut watchers {
        assert_eq!(watcher.expect_news(2), [join("ann"), join("ann")]);
    }
    first.leave();
    for watcher in &mut watchers {
        assert_eq!(watcher.expect_news(1), [leave("ann")]);
    }
    assert_eq!(count(&cluster, 0), (1, 1, false));
    cluster.state(1).kill();
    assert_eq!(watchers[0].expect_news(1), [leave("ann")]);
    wait_for(|| count(&cluster, 0) == (0, 0, false));
    drop(second);
}

#[test]
fn a_drop_shows_nothing_if_the_member_is_back_elsewhere() {
    let cluster = Cluster::start(2);
    let mut watcher = watcher(&cluster, 0);
    let before = enter(&cluster, 0, "ann");
    let gone = enter(&cluster, 0, "gone");
    assert_eq!(watcher.expect_news(2), [join("ann"), join("gone")]);
    drop(gone);
    drop(before);
    let _back = enter(&cluster, 1, "ann");
    assert_eq!(watcher.expect_news(1), [leave("gone")]);
    wait_for(|| count(&cluster, 1) == (1, 1, false));
    cluster.publish(0, "room", 10);
    watcher.expect("room", Seq(1), Seq(1));
    assert_eq!(watcher.take_news(), [""; 0]);
}

#[test]
fn a_herd_is_entered_together_and_questions_are_shared() {
    let cluster = Cluster::start(2);
    let herd: Vec<_> = (0..3000)
        .map(|number| enter(&cluster, number % 2, &format!("u{number}")))
        .collect();
    wait_for(|| count(&cluster, 0) == (3000, 3000, false));
    let presence = cluster.engine(0).presence();
    let members = cluster.block_on(presence.members(&room()));
    assert_eq!(members.holders.len(), fanfare_engine::PRESENCE_LIST_MAX);
    assert_eq!(members.total, Some(3000));
    for attendance in herd {
        attendance.leave();
    }
    wait_for(|| count(&cluster, 1) == (0, 0, false));
}

#[test]
fn while_the_state_is_away_a_node_answers_with_what_it_knows() {
    let cluster = Cluster::start(2);
    let _ann = enter(&cluster, 0, "ann");
    let _bob = enter(&cluster, 1, "bob");
    wait_for(|| count(&cluster, 0) == (2, 2, false));
    cluster.state(0).cut();
    assert_eq!(count(&cluster, 0), (1, 1, true));
    let carl = enter(&cluster, 0, "carl");
    assert_eq!(
        members(&cluster, 0),
        (vec!["ann".into(), "carl".into()], true)
    );
    assert_eq!(members(&cluster, 1).0, ["ann", "bob"]);
    let mut watcher = watcher(&cluster, 1);
    cluster.state(0).mend();
    assert_eq!(watcher.expect_news(1), [join("carl")], "told late, once");
    wait_for(|| count(&cluster, 0) == (3, 3, false));
    carl.leave();
    assert_eq!(watcher.expect_news(1), [leave("carl")]);
}

#[test]
fn what_the_state_lost_is_asserted_again_without_a_word() {
    let cluster = Cluster::start(1);
    let mut watcher = watcher(&cluster, 0);
    let ann = enter(&cluster, 0, "ann");
    assert_eq!(watcher.expect_news(1), [join("ann")]);
    wait_for(|| count(&cluster, 0) == (1, 1, false));
    cluster.states().lose_everything();
    assert_eq!(count(&cluster, 0), (0, 0, false));
    wait_for(|| count(&cluster, 0) == (1, 1, false));
    ann.leave();
    assert_eq!(watcher.expect_news(1), [leave("ann")]);
}

#[test]
fn the_members_of_a_dead_node_leave_once() {
    let cluster = Cluster::start(3);
    let mut watchers = [watcher(&cluster, 0), watcher(&cluster, 1)];
    let _dead = [enter(&cluster, 2, "ann"), enter(&cluster, 2, "bob")];
    let _stays = enter(&cluster, 1, "bob");
    wait_for(|| count(&cluster, 0) == (3, 2, false));
    for watcher in &mut watchers {
        let mut news = watcher.expect_news(2);
        news.sort_unstable();
        assert_eq!(news, [join("ann"), join("bob")]);
    }
    cluster.state(2).kill();
    assert!(NODE_LEASE < crate::PATIENCE);
    for watcher in &mut watchers {
        assert_eq!(watcher.expect_news(1), [leave("ann")]);
    }
    wait_for(|| count(&cluster, 0) == (1, 1, false));
    cluster.publish(0, "room", 10);
    for watcher in &mut watchers {
        watcher.expect("room", Seq(1), Seq(1));
        assert_eq!(watcher.take_news(), [""; 0]);
    }
}
