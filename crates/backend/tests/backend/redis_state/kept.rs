//! What keeps state while the shared one is away, on a real Redis that forgets, hangs and dies.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use fanfare_engine::{
    Metrics,
    contract::state::{
        Node, StateNetwork, Told, change, check_connected, json, lease, left, new_key, until,
    },
    port::{
        BoxFuture, State,
        state::{Changed, Expected, Lease, StateHealth, StateKey},
    },
    state::SharedState,
};
use fanfare_wire::{ChannelName, News};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{MINUTE, Rig, lock};

/// Nodes whose states are kept.
struct KeptRig {
    rig: Rig,
    nodes: Mutex<Vec<Pair>>,
}

/// A kept state, and the one on Redis below it.
type Pair = (Arc<dyn State>, Arc<dyn State>);

impl KeptRig {
    fn new() -> Self {
        Self {
            rig: Rig::single(),
            nodes: Mutex::default(),
        }
    }

    /// Waits until these leases, and no others, are those of a scope on Redis.
    async fn until_held(&self, eye: &Node, scope: &StateKey, leases: &[&Lease]) {
        let expected: BTreeSet<Uuid> = leases.iter().map(|lease| lease.held.holder).collect();
        until("the leases that are held", || async {
            let holders = eye.state.leases(scope, 100).await.ok()?;
            let holders: BTreeSet<Uuid> = holders.iter().map(|holder| holder.holder).collect();
            (holders == expected).then_some(())
        })
        .await;
    }
}

impl StateNetwork for KeptRig {
    fn join(&self) -> Arc<dyn State> {
        let below = self.rig.join();
        let kept = SharedState::new(Arc::clone(&below), Arc::new(Metrics::default()));
        let kept: Arc<dyn State> = Arc::new(kept);
        lock(&self.nodes).push((Arc::clone(&kept), below));
        kept
    }

    fn kill<'a>(&'a self, node: &'a Arc<dyn State>) -> BoxFuture<'a, ()> {
        let nodes = lock(&self.nodes);
        let pair = nodes.iter().find(|(kept, _)| Arc::ptr_eq(kept, node));
        let below = Arc::clone(&pair.expect("a node of this network").1);
        Box::pin(async move { self.rig.kill(&below).await })
    }

    fn listen<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> BoxFuture<'a, mpsc::UnboundedReceiver<News>> {
        self.rig.listen(channel)
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        self.rig.break_path()
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        self.rig.mend_path()
    }

    fn lose_everything(&self) -> BoxFuture<'_, ()> {
        self.rig.lose_everything()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    check_connected(&KeptRig::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_forgot_is_put_back_without_a_word() {
    let network = KeptRig::new();
    let (a, b) = (Node::join(&network).await, Node::join(&network).await);
    let eye = Node::join(&network.rig).await;
    let [(scope, channel), (key, _)] = ["presence", "object"].map(new_key);
    let [ann, bob] = ["ann", "bob"].map(|member| lease(&scope, member));
    a.enter(&ann).await;
    b.enter(&bob).await;
    let version = a.put(&key, "1", 10 * MINUTE).await;
    let mut told = Told::of(&network, &channel).await;
    for _ in 0..2 {
        network.lose_everything().await;
        network.until_held(&eye, &scope, &[&ann, &bob]).await;
        until("the object", || async {
            (eye.object(&key).await?.version == version).then_some(())
        })
        .await;
    }
    told.expect_nothing(&a, &scope).await;
    assert!(a.leave(&ann.held).await);
    told.expect(&left(&ann)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_what_happened_meanwhile_is_made_good() {
    let network = KeptRig::new();
    let (a, b) = (Node::join(&network).await, Node::join(&network).await);
    let [(scope, channel), (key, _)] = ["presence", "object"].map(new_key);
    let [ann, bob, cy] = ["ann", "bob", "cy"].map(|member| lease(&scope, member));
    a.enter(&ann).await;
    b.enter(&bob).await;
    let version = a.put(&key, "1", 10 * MINUTE).await;

    network.rig.redis(super::Redis::kill);
    a.await_down().await;
    b.await_down().await;
    assert_eq!(a.count(&scope).await, (1, 1), "what it knows itself");
    assert!(a.leave(&ann.held).await);
    a.enter(&cy).await;
    let wanted = change(Expected::Version(version), Some("2"), 10 * MINUTE);
    let changed = a.change(&key, wanted).await;
    let Changed::Done { version: newer, .. } = changed else {
        panic!("{changed:?}")
    };
    assert!(newer > version);

    network
        .rig
        .redis(|redis| redis.restart().expect("Redis starts"));
    let eye = Node::join(&network.rig).await;
    network.until_held(&eye, &scope, &[&bob, &cy]).await;
    let object = until("the object", || eye.object(&key)).await;
    assert_eq!((object.version, object.value), (newer, json("2")));
    until("both nodes", || async {
        let up = [&a, &b].map(|node| node.state.health() == StateHealth::Up);
        (up == [true, true]).then_some(())
    })
    .await;
    let mut told = Told::of(&network, &channel).await;
    assert!(b.leave(&bob.held).await);
    while told.next().await != left(&bob) {}
    assert!(a.leave(&cy.held).await);
    told.expect(&left(&cy)).await;
}
