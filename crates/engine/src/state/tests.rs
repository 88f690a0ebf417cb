//! The keeper on a state in memory that goes away, hangs, forgets, and takes nodes for dead. The clock is paused: times are
//! exact.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use fanfare_wire::{ChannelName, News, NewsBody};
use proptest::prelude::*;
use tokio::{sync::mpsc, time::Instant};

use super::*;
use crate::{
    contract::state::{
        self as contract, Node, StateNetwork, Told, change, joined, json, lease, left, new_key,
    },
    memory::state::{MemoryState, MemoryStates},
    metrics::Metrics,
    port::{
        BoxFuture, State,
        state::{Changed, Expected, Held, Lease, NODE_LEASE, StateEvents, StateHealth, StateKey},
    },
};

/// Within so long all is well again after the shared state has come back.
const CONVERGED: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(3600);

/// Nodes whose states are kept.
#[derive(Default)]
struct Rig {
    states: MemoryStates,
    nodes: Mutex<Vec<Pair>>,
    ears: Mutex<Vec<MemoryState>>,
}

/// A kept state and the one below.
type Pair = (Arc<dyn State>, Arc<MemoryState>);

/// A kept state of a node, and the way to what it shares.
struct Kept {
    node: Node,
    below: Arc<MemoryState>,
    metrics: Arc<Metrics>,
}

impl std::ops::Deref for Kept {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Rig {
    fn kept(&self) -> (Arc<dyn State>, Arc<MemoryState>, Arc<Metrics>) {
        let below = Arc::new(self.states.join());
        let metrics = Arc::new(Metrics::default());
        let kept = SharedState::new(Arc::clone(&below) as Arc<dyn State>, Arc::clone(&metrics));
        (Arc::new(kept), below, metrics)
    }

    async fn node(&self) -> Kept {
        let (state, below, metrics) = self.kept();
        let node = Node::start(state);
        node.await_up().await;
        // The first look has to be over: it compares nothing with nothing.
        tokio::time::sleep(Duration::from_millis(10)).await;
        Kept {
            node,
            below,
            metrics,
        }
    }

    fn holders(&self, scope: &StateKey) -> BTreeSet<uuid::Uuid> {
        let eye = self.states.join();
        let holders = eye.step(|store, _, _| store.leases(scope, usize::MAX));
        holders.into_iter().map(|holder| holder.holder).collect()
    }
}

impl StateNetwork for Rig {
    fn join(&self) -> Arc<dyn State> {
        let (state, below, _) = self.kept();
        self.nodes.lock().unwrap().push((Arc::clone(&state), below));
        state
    }

    fn kill<'a>(&'a self, node: &'a Arc<dyn State>) -> BoxFuture<'a, ()> {
        for (state, below) in self.nodes.lock().unwrap().iter() {
            if Arc::ptr_eq(state, node) {
                below.kill();
            }
        }
        Box::pin(async {})
    }

    fn listen<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> BoxFuture<'a, mpsc::UnboundedReceiver<News>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let ear = self.states.join();
        let channel = channel.clone();
        ear.start(Arc::new(Ear { channel, sender }));
        self.ears.lock().unwrap().push(ear);
        Box::pin(async { receiver })
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        unreachable!("the checks of outages are not those of a kept state")
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        unreachable!("the checks of outages are not those of a kept state")
    }

    fn lose_everything(&self) -> BoxFuture<'_, ()> {
        self.states.lose_everything();
        Box::pin(async {})
    }
}

struct Ear {
    channel: ChannelName,
    sender: mpsc::UnboundedSender<News>,
}

impl StateEvents for Ear {
    fn on_news(&self, news: News) {
        if news.channel == self.channel {
            let _ = self.sender.send(news);
        }
    }

    fn on_up(&self) {}

    fn on_down(&self) {}
}

async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn bodies(node: &Node) -> Vec<NewsBody> {
    node.news().into_iter().map(|news| news.body).collect()
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    contract::check_connected(&Rig::default()).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_lived_through_and_made_good() {
    let rig = Rig::default();
    let (a, b) = (rig.node().await, rig.node().await);
    let [(scope, channel), (key, _)] = ["presence", "object"].map(new_key);
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|member| lease(&scope, member));
    a.enter(&ann).await;
    b.enter(&bob).await;
    let version = a.put(&key, "1", LONG).await;
    let mut told = Told::of(&rig, &channel).await;
    let ups = a.ups();
    a.below.cut();
    b.below.cut();
    a.await_down().await;
    b.await_down().await;
    wait(Duration::from_millis(10)).await;
    assert_eq!(a.state.health(), StateHealth::Down);
    assert_eq!(a.downs(), 1);

    assert_eq!(a.count(&scope).await, (1, 1), "what it knows itself");
    let before = a.news().len();
    a.enter(&cy).await;
    assert!(a.leave(&ann.held).await);
    wait(Duration::from_millis(10)).await;
    assert_eq!(bodies(&a)[before..], [joined(&cy), left(&ann)], "told here");
    assert_eq!(a.count(&scope).await, (1, 1));
    assert_eq!(a.object(&key).await.unwrap().version, version);
    let wanted = change(Expected::Version(version), Some("2"), LONG);
    let Changed::Done { version, .. } = a.change(&key, wanted).await else {
        panic!("what it knows can be changed")
    };
    // Not so long that the one who listens takes them for dead.
    wait(Duration::from_secs(5)).await;
    assert_eq!((a.ups(), a.state.health()), (ups, StateHealth::Down));

    a.below.mend();
    b.below.mend();
    wait(CONVERGED).await;
    assert_eq!(a.state.health(), StateHealth::Up);
    assert!(a.ups() > ups);
    let there = BTreeSet::from([bob.held.holder, cy.held.holder]);
    assert_eq!(rig.holders(&scope), there);
    assert_eq!(b.count(&scope).await, (2, 2));
    let object = b.object(&key).await.unwrap();
    assert_eq!((object.version, object.value), (version, json("2")));
    told.expect(&joined(&cy)).await;
    told.expect(&left(&ann)).await;
    told.expect_nothing(&b, &scope).await;
    assert!(b.leave(&bob.held).await);
    told.expect(&left(&bob)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_without_a_word_is_put_back_without_a_word() {
    let rig = Rig::default();
    let (a, b) = (rig.node().await, rig.node().await);
    let [(scope, channel), (key, _), (removed, _)] = ["presence", "a", "b"].map(new_key);
    let [ann, bob] = ["ann", "bob"].map(|member| lease(&scope, member));
    let own = Lease {
        ttl: Some(LONG),
        ..lease(&scope, "cy")
    };
    a.enter(&ann).await;
    b.enter(&bob).await;
    b.enter(&own).await;
    let version = a.put(&key, "1", LONG).await;
    a.put(&removed, "1", LONG).await;
    a.change(&removed, change(Expected::Anything, None, LONG))
        .await;
    let mut told = Told::of(&rig, &channel).await;
    for _ in 0..3 {
        rig.states.lose_everything();
        wait(CONVERGED).await;
        let there = [&ann, &bob, &own].map(|lease| lease.held.holder);
        assert_eq!(rig.holders(&scope), BTreeSet::from(there));
        assert_eq!(b.object(&key).await.unwrap().version, version);
        assert_eq!(b.object(&removed).await, None);
    }
    told.expect_nothing(&a, &scope).await;
    assert!(a.metrics.state_asserted.value() >= 6);
    assert_eq!(a.state.health(), StateHealth::Up, "it was there");
    assert!(a.leave(&ann.held).await);
    told.expect(&left(&ann)).await;
    assert!(b.leave(&own.held).await);
    told.expect(&left(&own)).await;
}

#[tokio::test(start_paused = true)]
async fn who_left_while_everything_was_lost_is_told_to_have_left() {
    let rig = Rig::default();
    let (a, b) = (rig.node().await, rig.node().await);
    let (scope, channel) = new_key("presence");
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|member| lease(&scope, member));
    let bob_on_b = lease(&scope, "bob");
    for lease in [&ann, &bob, &cy] {
        a.enter(lease).await;
    }
    b.enter(&bob_on_b).await;
    let mut told = Told::of(&rig, &channel).await;
    a.below.cut();
    b.below.cut();
    a.await_down().await;
    rig.states.lose_everything();
    a.leave(&ann.held).await;
    a.leave(&bob.held).await;
    let dan = lease(&scope, "dan");
    a.enter(&dan).await;
    a.leave(&dan.held).await;
    a.below.mend();
    b.below.mend();
    wait(CONVERGED).await;
    told.expect(&left(&ann)).await;
    told.expect_nothing(&b, &scope).await;
    let there = [&cy, &bob_on_b].map(|lease| lease.held.holder);
    assert_eq!(rig.holders(&scope), BTreeSet::from(there));
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_for_dead_is_announced_again() {
    let rig = Rig::default();
    let (a, b) = (rig.node().await, rig.node().await);
    let (scope, channel) = new_key("presence");
    let ann = lease(&scope, "ann");
    a.enter(&ann).await;
    // Taken again without an announcement, as those do who hear that the state is back.
    let mut again = ann.clone();
    again.announce.as_mut().unwrap().joined = None;
    a.enter(&again).await;
    wait(2 * NODE_LEASE).await;
    let mut told = Told::of(&rig, &channel).await;
    a.below.cut();
    wait(NODE_LEASE + Duration::from_secs(2)).await;
    told.expect(&left(&ann)).await;
    assert_eq!(b.count(&scope).await, (0, 0));
    a.below.mend();
    wait(CONVERGED).await;
    told.expect(&joined(&ann)).await;
    told.expect_nothing(&b, &scope).await;
    assert_eq!(b.count(&scope).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_call_hangs_and_nothing_is_left_of_those_that_were_given_up() {
    let rig = Rig::default();
    let a = rig.node().await;
    let (scope, _) = new_key("presence");
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|member| lease(&scope, member));
    a.enter(&ann).await;
    a.enter(&bob).await;
    a.below.hang();
    let moment = Duration::from_millis(100);
    let given_up = a.state.leave(std::slice::from_ref(&ann.held));
    assert!(tokio::time::timeout(moment, given_up).await.is_err());
    let given_up = a.state.enter(std::slice::from_ref(&cy));
    assert!(tokio::time::timeout(moment, given_up).await.is_err());
    let began = Instant::now();
    assert_eq!(a.count(&scope).await.0, 1, "bob, by what is known here");
    assert!(began.elapsed() <= CALL_MAX + moment);
    assert_eq!(a.state.health(), StateHealth::Down);
    let began = Instant::now();
    a.count(&scope).await;
    assert!(
        began.elapsed() < moment,
        "from then on it is not waited for"
    );
    a.below.mend();
    wait(CONVERGED).await;
    assert_eq!(a.state.health(), StateHealth::Up);
    assert_eq!(rig.holders(&scope), BTreeSet::from([bob.held.holder]));
}

#[tokio::test(start_paused = true)]
async fn it_starts_without_the_shared_state() {
    let rig = Rig::default();
    let (state, below, _) = rig.kept();
    below.cut();
    let a = Node::start(state);
    assert_eq!(a.state.health(), StateHealth::Down);
    let [(scope, channel), (key, _)] = ["presence", "object"].map(new_key);
    let mut told = Told::of(&rig, &channel).await;
    let ann = lease(&scope, "ann");
    a.enter(&ann).await;
    let version = a.put(&key, "1", LONG).await;
    below.mend();
    wait(CONVERGED).await;
    assert_eq!(a.state.health(), StateHealth::Up);
    told.expect(&joined(&ann)).await;
    let b = rig.node().await;
    assert_eq!(b.object(&key).await.unwrap().version, version);
    assert_eq!(b.count(&scope).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_during_an_outage_the_newer_wins_everywhere() {
    let rig = Rig::default();
    let (a, b) = (rig.node().await, rig.node().await);
    let [(both, _), (gone, _), (ended, _)] = ["a", "b", "c"].map(new_key);
    for key in [&both, &gone, &ended] {
        a.put(key, "1", LONG).await;
    }
    // Somebody else removed one of them before, which this node does not know.
    b.change(&ended, change(Expected::Anything, None, LONG))
        .await;
    a.below.cut();
    b.below.cut();
    a.await_down().await;
    b.await_down().await;
    a.put(&both, "2", LONG).await;
    a.change(&gone, change(Expected::Anything, None, LONG))
        .await;
    wait(Duration::from_secs(1)).await;
    b.put(&both, "3", LONG).await;
    b.below.mend();
    wait(CONVERGED).await;
    a.below.mend();
    wait(CONVERGED).await;
    for node in [&a, &b] {
        assert_eq!(node.object(&both).await.unwrap().value, json("3"));
        assert_eq!(node.object(&gone).await, None, "removed meanwhile");
        assert_eq!(node.object(&ended).await, None, "not brought back");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Enter(usize, usize),
    Leave(usize, usize),
    Put(usize, usize),
    Remove(usize, usize),
    Cut(usize),
    Hang(usize),
    Mend(usize),
    Lose,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..2_usize;
    prop_oneof![
        5 => (node(), 0..6_usize).prop_map(|(node, which)| Act::Enter(node, which)),
        4 => (node(), 0..6_usize).prop_map(|(node, which)| Act::Leave(node, which)),
        3 => (node(), 0..3_usize).prop_map(|(node, which)| Act::Put(node, which)),
        1 => (node(), 0..3_usize).prop_map(|(node, which)| Act::Remove(node, which)),
        2 => node().prop_map(Act::Cut),
        1 => node().prop_map(Act::Hang),
        4 => node().prop_map(Act::Mend),
        1 => Just(Act::Lose),
        4 => (0..6_000_u64).prop_map(Act::Wait),
    ]
}

/// Plays what happens, and compares what is shared in the end with what each node's connections hold.
async fn play(acts: Vec<Act>) {
    let rig = Rig::default();
    let nodes = [rig.node().await, rig.node().await];
    let (scope, _) = new_key("presence");
    let keys: Vec<StateKey> = (0..3).map(|_| new_key("object").0).collect();
    let leases: Vec<Vec<Lease>> = (0..2)
        .map(|_| {
            let member = |number: usize| lease(&scope, &format!("m{}", number % 4));
            (0..6).map(member).collect()
        })
        .collect();
    let mut held: BTreeSet<Held> = BTreeSet::new();
    for act in acts {
        match act {
            Act::Enter(node, which) => {
                let lease = &leases[node][which];
                nodes[node].enter(lease).await;
                held.insert(lease.held.clone());
            }
            Act::Leave(node, which) => {
                let lease = &leases[node][which];
                nodes[node].leave(&lease.held).await;
                held.remove(&lease.held);
            }
            Act::Put(node, which) => {
                nodes[node].put(&keys[which], "1", LONG).await;
            }
            Act::Remove(node, which) => {
                let removal = change(Expected::Anything, None, LONG);
                nodes[node].change(&keys[which], removal).await;
            }
            Act::Cut(node) => nodes[node].below.cut(),
            Act::Hang(node) => nodes[node].below.hang(),
            Act::Mend(node) => nodes[node].below.mend(),
            Act::Lose => rig.states.lose_everything(),
            Act::Wait(millis) => wait(Duration::from_millis(millis)).await,
        }
    }
    nodes.iter().for_each(|node| node.below.mend());
    // A call that hangs, and then all that it takes.
    wait(CALL_MAX + CONVERGED).await;
    let expected: BTreeSet<_> = held.iter().map(|held| held.holder).collect();
    assert_eq!(rig.holders(&scope), expected);
    for key in &keys {
        let [one, other] = [nodes[0].object(key).await, nodes[1].object(key).await];
        assert_eq!(one, other);
    }
    for node in &nodes {
        assert_eq!(node.state.health(), StateHealth::Up);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happened, when all is well again the shared state holds exactly what the nodes hold.
    #[test]
    fn it_converges(acts in proptest::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(acts));
    }
}
