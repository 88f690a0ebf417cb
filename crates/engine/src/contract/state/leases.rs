//! Leases: members, capacity, what is told of them, and how they end.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    LONG, Node, SHORT, StateNetwork, Told, joined, json, lease, lease_of_its_own, left, new_key,
    until,
};
use crate::port::state::{Entered, Lease};

const FIRST: Entered = Entered::Held { first: true };
const AGAIN: Entered = Entered::Held { first: false };

/// Connections of one member, on any node, are one member: told once when it comes, and once when its last one goes.
pub async fn connections_of_one_member_are_one_member(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(network, &channel).await;
    let [a, b, c] = [(); 3].map(|()| lease(&scope, "ann"));
    assert_eq!(first.enter(&a).await, FIRST);
    assert_eq!(second.enter(&b).await, AGAIN);
    let more = [c.clone(), lease(&scope, "bob")];
    let answers = second.state.enter(&more).await;
    let answers = answers.unwrap_or_else(|error| panic!("enter failed: {error}"));
    assert_eq!(
        answers,
        [AGAIN, FIRST],
        "an answer for each, in their order"
    );
    assert_eq!(first.count(&scope).await, (4, 2));
    news.expect(&joined(&a)).await;
    news.expect(&joined(&more[1])).await;

    assert!(!first.leave(&a.held).await, "two connections are left");
    assert!(!second.leave(&c.held).await, "one is left");
    assert!(second.leave(&b.held).await, "it was the last one");
    assert_eq!(second.count(&scope).await, (1, 1));
    news.expect(&left(&b)).await;
    assert_eq!(first.enter(&a).await, FIRST, "who left comes anew");
    news.expect(&joined(&a)).await;
}

/// Leases that are told for themselves begin and end with a word each, however many their member has, and once however they end.
pub async fn each_lease_is_told_where_that_is_wanted(network: &dyn StateNetwork) {
    let (node, victim) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(network, &channel).await;
    let [a, b, c] = [(); 3].map(|()| lease_of_its_own(&scope, "ann"));
    assert_eq!(node.enter(&a).await, FIRST);
    news.expect(&joined(&a)).await;
    assert_eq!(victim.enter(&b).await, AGAIN);
    news.expect(&joined(&b)).await;
    assert_eq!(node.enter(&c).await, AGAIN);
    news.expect(&joined(&c)).await;
    assert_eq!(node.enter(&c).await, AGAIN, "it was there");
    assert_eq!(node.count(&scope).await, (3, 1));
    assert!(!node.leave(&a.held).await, "its member has two more");
    news.expect(&left(&a)).await;
    network.kill(&victim.state).await;
    news.expect(&left(&b)).await;
    assert!(node.leave(&c.held).await, "its member's last");
    news.expect(&left(&c)).await;
    news.expect_nothing(&node, &scope).await;
}

/// Who is there already keeps its place, and what is known of it is replaced.
pub async fn a_holder_keeps_its_place(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(network, &channel).await;
    let only = Lease {
        capacity: Some(1),
        ..lease(&scope, "ann")
    };
    assert_eq!(node.enter(&only).await, FIRST);
    news.expect(&joined(&only)).await;
    let changed = Lease {
        info: json(r#"{"user":"ann","muted":true}"#),
        ..only.clone()
    };
    assert_eq!(node.enter(&changed).await, AGAIN);
    assert_eq!(node.count(&scope).await, (1, 1));
    let holders = node.state.leases(&scope, 10).await;
    let holders = holders.unwrap_or_else(|error| panic!("leases failed: {error}"));
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].holder, changed.held.holder);
    assert_eq!(holders[0].member, "ann");
    assert_eq!(holders[0].info, changed.info, "the lease was replaced");
    news.expect_nothing(&node, &scope).await;
    let other = Lease {
        capacity: Some(1),
        ..lease(&scope, "bob")
    };
    assert_eq!(node.enter(&other).await, Entered::Full);
    let same_member = Lease {
        capacity: Some(1),
        ..lease(&scope, "ann")
    };
    assert_eq!(node.enter(&same_member).await, AGAIN, "no other member");
}

/// However many come at once, on however many nodes, no more members than fit get in, and as many as fit do.
pub async fn capacity_is_never_exceeded(network: &dyn StateNetwork) {
    const CAPACITY: u32 = 7;
    const MEMBERS: usize = 60;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(network).await);
    }
    let (scope, channel) = new_key("seats");
    let mut news = Told::of(network, &channel).await;
    let mut comers = Vec::new();
    for number in 0..MEMBERS {
        let state = Arc::clone(&nodes[number % nodes.len()].state);
        let wish = Lease {
            capacity: Some(CAPACITY),
            ..lease(&scope, &format!("m{number}"))
        };
        comers.push(tokio::spawn(async move {
            let leases = [wish];
            let answers = state.enter(&leases).await;
            let answers = answers.unwrap_or_else(|error| panic!("enter failed: {error}"));
            let [wish] = leases;
            (answers == [FIRST]).then_some(wish)
        }));
    }
    let mut inside = Vec::new();
    for comer in comers {
        inside.extend(comer.await.unwrap_or_else(|error| panic!("{error}")));
    }
    let capacity = usize::try_from(CAPACITY).unwrap_or(usize::MAX);
    assert_eq!(inside.len(), capacity, "as many as there is room for");
    let count = u64::from(CAPACITY);
    assert_eq!(nodes[0].count(&scope).await, (count, count));
    let mut came = BTreeSet::new();
    for _ in 0..CAPACITY {
        came.insert(format!("{:?}", news.next().await));
    }
    let expected = inside.iter().map(|lease| format!("{:?}", joined(lease)));
    assert_eq!(came, expected.collect(), "who got in was told");

    let late = Lease {
        capacity: Some(CAPACITY),
        ..lease(&scope, "late")
    };
    assert_eq!(nodes[1].enter(&late).await, Entered::Full);
    assert!(nodes[2].leave(&inside[0].held).await);
    news.expect(&left(&inside[0])).await;
    assert_eq!(nodes[1].enter(&late).await, FIRST, "a seat was given back");
    news.expect(&joined(&late)).await;
}

/// A lease ends once: what is not there can be neither given back nor renewed.
pub async fn what_is_given_back_is_gone_once(network: &dyn StateNetwork) {
    let (node, other) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("voice");
    let mut news = Told::of(network, &channel).await;
    let own = Lease {
        ttl: Some(LONG),
        ..lease(&scope, "ann")
    };
    assert!(!node.leave(&own.held).await, "it was never there");
    assert!(!node.renew(&own.held).await, "it was never there");
    assert_eq!(node.enter(&own).await, FIRST);
    news.expect(&joined(&own)).await;
    assert!(node.renew(&own.held).await);
    assert!(node.leave(&own.held).await);
    news.expect(&left(&own)).await;
    assert!(!node.leave(&own.held).await, "it was given back");
    assert!(!other.leave(&own.held).await, "it was given back");
    assert!(!node.renew(&own.held).await, "it was given back");
    assert_eq!(node.count(&scope).await, (0, 0));
    news.expect_nothing(&node, &scope).await;
}

/// Counts are those of the leases that are there, whatever came and went.
pub async fn counts_follow_who_is_there(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (scope, _) = new_key("presence");
    assert_eq!(first.count(&scope).await, (0, 0), "nobody was there");
    let all: Vec<Lease> = (0..120)
        .map(|number| lease(&scope, &format!("m{}", number % 40)))
        .collect();
    for (chunk, node) in all.chunks(60).zip([&first, &second]) {
        let answers = node.state.enter(chunk).await;
        let answers = answers.unwrap_or_else(|error| panic!("enter failed: {error}"));
        assert_eq!(answers.len(), chunk.len());
    }
    assert_eq!(second.count(&scope).await, (120, 40));
    let gone: Vec<_> = all[..80].iter().map(|lease| lease.held.clone()).collect();
    let answers = first.state.leave(&gone).await;
    let answers = answers.unwrap_or_else(|error| panic!("leave failed: {error}"));
    assert!(answers.iter().all(|last| !last), "each has one more");
    assert_eq!(second.count(&scope).await, (40, 40));
    let gone: Vec<_> = all[80..].iter().map(|lease| lease.held.clone()).collect();
    let answers = second.state.leave(&gone).await;
    let answers = answers.unwrap_or_else(|error| panic!("leave failed: {error}"));
    assert!(answers.iter().all(|last| *last), "each was the last one");
    assert_eq!(first.count(&scope).await, (0, 0));
}

/// A list holds who is there, once each, and no more than asked for.
pub async fn a_list_is_no_longer_than_asked(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (scope, _) = new_key("presence");
    let all: Vec<Lease> = (0..10)
        .map(|number| lease(&scope, &format!("m{number}")))
        .collect();
    let entered = node.state.enter(&all).await;
    assert!(entered.is_ok(), "{entered:?}");
    for (limit, expected) in [(0, 0), (4, 4), (10, 10), (1000, 10)] {
        let holders = node.state.leases(&scope, limit).await;
        let holders = holders.unwrap_or_else(|error| panic!("leases failed: {error}"));
        assert_eq!(holders.len(), expected, "limit {limit}");
        let distinct: BTreeSet<_> = holders.iter().map(|holder| holder.holder).collect();
        assert_eq!(distinct.len(), expected, "somebody is there twice");
        for holder in holders {
            let known = all.iter().find(|lease| lease.held.holder == holder.holder);
            let known = known.map(|lease| (&lease.member, &lease.info));
            assert_eq!(known, Some((&holder.member, &holder.info)));
        }
    }
    let (empty, _) = new_key("presence");
    let nobody = node.state.leases(&empty, 10).await;
    assert!(nobody.is_ok_and(|holders| holders.is_empty()));
}

/// A lease with a time to live of its own ends unless it is renewed, and is told to have left, once.
pub async fn a_lease_ends_without_renewal(network: &dyn StateNetwork) {
    let (node, other) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("voice");
    let mut news = Told::of(network, &channel).await;
    let [kept, let_go] = ["ann", "bob"].map(|member| Lease {
        ttl: Some(2 * SHORT),
        ..lease(&scope, member)
    });
    let forever = lease(&scope, "eve");
    for lease in [&kept, &let_go, &forever] {
        assert_eq!(node.enter(lease).await, FIRST);
        news.expect(&joined(lease)).await;
    }
    // If the machine sleeps for longer than the lease lasts, it has to be taken anew: that proves nothing, so try again.
    let ended = || async {
        if !node.renew(&kept.held).await {
            node.enter(&kept).await;
        }
        (other.count(&scope).await.1 == 2).then_some(())
    };
    until("the end of a lease", ended).await;
    assert!(!node.renew(&let_go.held).await, "it has ended");
    let (mut bob, mut ann) = (0, 0);
    let is_gone = || async { (other.count(&scope).await == (1, 1)).then_some(()) };
    until("the end of a lease that is no longer renewed", is_gone).await;
    assert!(!node.leave(&kept.held).await, "it has ended");
    node.enter(&lease(&scope, "witness")).await;
    loop {
        let told = news.next().await;
        bob += i32::from(told == left(&let_go));
        ann += i32::from(told == left(&kept)) - i32::from(told == joined(&kept));
        if format!("{told:?}").contains("witness") {
            break;
        }
    }
    assert_eq!((bob, ann), (1, 1), "each end is told once");
}

/// What a node held ends when it is dead, each lease once though several nodes may notice; what others hold stays.
pub async fn a_dead_node_leaves_once(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let victim = Node::join(network).await;
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(network, &channel).await;
    let survivor = lease(&scope, "survivor");
    assert_eq!(first.enter(&survivor).await, FIRST);
    news.expect(&joined(&survivor)).await;
    let lost: Vec<Lease> = (0..20)
        .map(|number| lease(&scope, &format!("m{number}")))
        .collect();
    for lease in &lost {
        assert_eq!(victim.enter(lease).await, FIRST);
        news.expect(&joined(lease)).await;
    }
    network.kill(&victim.state).await;
    let ended = || async { (second.count(&scope).await == (1, 1)).then_some(()) };
    until("the end of a dead node's leases", ended).await;
    let mut gone = BTreeSet::new();
    for _ in &lost {
        gone.insert(format!("{:?}", news.next().await));
    }
    let expected = lost.iter().map(|lease| format!("{:?}", left(lease)));
    assert_eq!(
        gone,
        expected.collect(),
        "all of them are told to have left"
    );
    news.expect_nothing(&second, &scope).await;
    assert!(!second.leave(&lost[0].held).await, "it is gone");
    assert!(
        first.leave(&survivor.held).await,
        "it was there all the time"
    );
}

/// A member with connections on two nodes outlives one of them, and is told to have left when the other one goes.
pub async fn a_member_stays_while_one_node_has_it(network: &dyn StateNetwork) {
    let (node, victim) = (Node::join(network).await, Node::join(network).await);
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(network, &channel).await;
    let [here, there] = [(); 2].map(|()| lease(&scope, "ann"));
    assert_eq!(victim.enter(&there).await, FIRST);
    news.expect(&joined(&there)).await;
    assert_eq!(node.enter(&here).await, AGAIN);
    network.kill(&victim.state).await;
    let ended = || async { (node.count(&scope).await == (1, 1)).then_some(()) };
    until("the end of a dead node's lease", ended).await;
    news.expect_nothing(&node, &scope).await;
    assert!(node.leave(&here.held).await, "it was the last one");
    news.expect(&left(&here)).await;
}
