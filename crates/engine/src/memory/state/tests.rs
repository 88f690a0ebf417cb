//! The contract, and what only the memory can be asked.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::{
    contract::state::{self as contract, StateNetwork, change, json, lease, new_key},
    port::state::Expected,
};

/// The network of the contract: all nodes are cut and mended together.
#[derive(Default)]
struct Rig {
    states: MemoryStates,
    nodes: Mutex<Vec<Arc<MemoryState>>>,
    /// Those who only listen.
    ears: Mutex<Vec<MemoryState>>,
}

impl StateNetwork for Rig {
    fn join(&self) -> Arc<dyn State> {
        let node = Arc::new(self.states.join());
        lock(&self.nodes).push(Arc::clone(&node));
        node
    }

    fn kill<'a>(&'a self, node: &'a Arc<dyn State>) -> BoxFuture<'a, ()> {
        let is_it =
            |other: &&Arc<MemoryState>| std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(node));
        lock(&self.nodes).iter().find(is_it).unwrap().kill();
        Box::pin(async {})
    }

    fn listen<'a>(
        &'a self,
        channel: &'a fanfare_wire::ChannelName,
    ) -> BoxFuture<'a, mpsc::UnboundedReceiver<News>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let ear = self.states.join();
        let channel = channel.clone();
        ear.start(Arc::new(Ear { channel, sender }));
        lock(&self.ears).push(ear);
        Box::pin(async { receiver })
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        lock(&self.nodes).iter().for_each(|node| node.cut());
        lock(&self.ears).iter().for_each(MemoryState::cut);
        Box::pin(async {})
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        lock(&self.nodes).iter().for_each(|node| node.mend());
        lock(&self.ears).iter().for_each(MemoryState::mend);
        Box::pin(async {})
    }

    fn lose_everything(&self) -> BoxFuture<'_, ()> {
        self.states.lose_everything();
        Box::pin(async {})
    }
}

struct Ear {
    channel: fanfare_wire::ChannelName,
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

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    contract::check_all(&Rig::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_the_contract_of_one_step_with_threads() {
    let rig = Rig::default();
    contract::objects::one_writer_wins_each_version(&rig).await;
    contract::objects::change_and_news_are_one_step(&rig).await;
    contract::leases::capacity_is_never_exceeded(&rig).await;
    contract::leases::counts_follow_who_is_there(&rig).await;
    contract::buckets::nodes_together_never_take_more_than_there_is(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_what_has_ended() {
    let states = MemoryStates::new();
    let (node, other) = (states.join(), states.join());
    struct Deaf;
    impl StateEvents for Deaf {
        fn on_news(&self, _: News) {}
        fn on_up(&self) {}
        fn on_down(&self) {}
    }
    node.start(Arc::new(Deaf));
    other.start(Arc::new(Deaf));
    let second = Duration::from_secs(1);
    let bucket = Bucket {
        capacity: 2,
        refill: 1,
        period: second,
    };
    let (key, _) = new_key("k");
    let set = change(Expected::Anything, Some("1"), second);
    node.change(&key, set).await.unwrap();
    let mut own = lease(&key, "ann");
    own.ttl = Some(second);
    node.enter(&[own, lease(&key, "bob")]).await.unwrap();
    node.take(&key, bucket, 2).await.unwrap();
    assert_eq!(node.step(|store, _, _| store.sizes()), [1, 2, 1]);
    tokio::time::sleep(3 * second).await;
    assert_eq!(other.step(|store, _, _| store.sizes()), [0, 1, 0]);
    node.kill();
    tokio::time::sleep(NODE_LEASE + 2 * second).await;
    assert_eq!(other.step(|store, _, _| store.sizes()), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_outside_can_grow_is_bounded() {
    let node = MemoryState::alone();
    let hour = Duration::from_secs(3600);
    let mut bucket = Bucket {
        capacity: 1,
        refill: 1,
        period: 2 * hour,
    };
    let key = |number: usize| StateKey::parse(&format!("bucket/{number}")).unwrap();
    let take = |number, bucket| node.step(|store, _, now| store.take(&key(number), bucket, 1, now));
    let granted = Taken::Granted { left: 0 };
    assert_eq!(take(0, bucket), granted);
    bucket.period = hour;
    for number in 1..=BUCKETS_MAX {
        assert_eq!(take(number, bucket), granted);
    }
    assert_eq!(node.step(|store, _, _| store.sizes()), [0, 0, BUCKETS_MAX]);
    bucket.period = 2 * hour;
    let taken = take(0, bucket);
    assert!(matches!(taken, Taken::Refused { .. }), "it fills last");

    let big = format!("\"{}\"", "x".repeat(OBJECTS_BYTES_MAX / 4));
    let put = |name: &str| {
        let key = StateKey::parse(name).unwrap();
        let change = change(Expected::Anything, Some(&big), hour);
        node.step(|store, _, now| store.change(&key, &change, now))
    };
    for name in ["o/1", "o/2", "o/3", "o/3"] {
        assert!(put(name).is_ok());
    }
    assert!(matches!(put("o/4"), Err(StateError::Unavailable(_))));
    let key = StateKey::parse("o/1").unwrap();
    let removal = change(Expected::Anything, None, hour);
    let removed = node.step(|store, _, now| store.change(&key, &removal, now));
    assert!(removed.is_ok());
    assert!(put("o/4").is_ok(), "what was removed gives its room back");
}

#[tokio::test(start_paused = true)]
async fn who_changes_its_member_leaves_and_comes() {
    let node = MemoryState::alone();
    let (scope, _) = new_key("presence");
    let first = Lease {
        capacity: Some(1),
        ..lease(&scope, "ann")
    };
    let mut second = Lease {
        held: first.held.clone(),
        ..lease(&scope, "bob")
    };
    second.capacity = Some(1);
    let enter =
        |lease| node.step(|store, id, now| (store.enter(id, lease, now), store.take_news()));
    let (entered, news) = enter(&first);
    assert_eq!(entered, Entered::Held { first: true });
    assert_eq!(news.len(), 1);
    let (entered, news) = enter(&second);
    assert_eq!(entered, Entered::Held { first: true });
    let bodies: Vec<_> = news.into_iter().map(|news| news.body).collect();
    assert_eq!(bodies, [contract::left(&first), contract::joined(&second)]);
    let count = node.step(|store, _, _| store.count(&scope));
    assert_eq!((count.holders, count.members), (1, 1));
}

#[derive(Debug, Clone)]
enum Act {
    Enter {
        node: usize,
        holder: usize,
        member: usize,
        ttl: Option<u64>,
        capped: bool,
    },
    Renew(usize),
    Leave(usize),
    Touch(usize),
    Wait(u64),
    ReapNodes,
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    let enter = (
        0..3_usize,
        0..12_usize,
        0..5_usize,
        any::<bool>(),
        1..8_u64,
        any::<bool>(),
    );
    prop_oneof![
        6 => enter.prop_map(|(node, holder, member, own, ttl, capped)| Act::Enter {
            node, holder, member, ttl: own.then_some(ttl), capped,
        }),
        2 => (0..12_usize).prop_map(Act::Renew),
        4 => (0..12_usize).prop_map(Act::Leave),
        3 => (0..3_usize).prop_map(Act::Touch),
        3 => (0..6_u64).prop_map(Act::Wait),
        2 => Just(Act::ReapNodes),
        1 => Just(Act::Forget),
    ]
}

/// The most members of a capped scope.
const CAPACITY: u32 = 3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever happens: members come and leave in turns, counts are those of the list, and no index keeps what is gone.
    #[test]
    fn leases_keep_their_books(acts in proptest::collection::vec(act(), 1..120)) {
        let (scope, _) = new_key("presence");
        let nodes: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
        let holders: Vec<Uuid> = (0..12).map(|_| Uuid::new_v4()).collect();
        let held = |holder: usize| Held { scope: scope.clone(), holder: holders[holder] };
        let mut store = Store::default();
        let mut present = BTreeSet::new();
        let mut now = 1_000_000;
        for act in acts {
            store.reap(now);
            match act {
                Act::Enter { node, holder, member, ttl, capped } => {
                    let wish = Lease {
                        held: held(holder),
                        ttl: ttl.map(Duration::from_secs),
                        capacity: capped.then_some(CAPACITY),
                        ..lease(&scope, &member.to_string())
                    };
                    let was_there = store.count(&scope).members;
                    let entered = store.enter(nodes[node], &wish, now);
                    if capped && entered == (Entered::Held { first: true }) {
                        let members = store.count(&scope).members;
                        prop_assert!(members <= u64::from(CAPACITY) || members <= was_there);
                    }
                }
                Act::Renew(holder) => { store.renew(&held(holder), now); }
                Act::Leave(holder) => { store.end(&held(holder)); }
                Act::Touch(node) => { store.touch(nodes[node], now); }
                Act::Wait(seconds) => now += seconds * 1_000_000,
                Act::ReapNodes => store.reap_nodes(now),
                Act::Forget => { store = Store::default(); present.clear(); }
            }
            store.reap(now);
            for news in store.take_news() {
                match news.body {
                    fanfare_wire::NewsBody::Join { info } => {
                        prop_assert!(present.insert(info.as_bytes().to_vec()), "came twice");
                    }
                    fanfare_wire::NewsBody::Leave { info } => {
                        prop_assert!(present.remove(info.as_bytes()), "left twice");
                    }
                    fanfare_wire::NewsBody::Message { .. } => prop_assert!(false),
                }
            }
            let listed = store.leases(&scope, usize::MAX);
            let mut members: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
            for holder in &listed {
                *members.entry(holder.info.as_bytes().to_vec()).or_default() += 1;
            }
            prop_assert!(members.keys().eq(present.iter()));
            let count = store.count(&scope);
            prop_assert_eq!(count.holders, listed.len() as u64);
            prop_assert_eq!(count.members, members.len() as u64);
            prop_assert!(store.indexes_fit());
        }
    }

    /// Versions grow with every change of a key, however clocks and assertions go, and a removal hides what is older.
    #[test]
    fn versions_only_grow(steps in proptest::collection::vec((0..3_u8, 0..4_u64, -5..5_i64), 1..80)) {
        let (key, _) = new_key("object");
        let mut store = Store::default();
        let (mut now, mut last) = (1_000, 0_u64);
        let ttl = Duration::from_secs(3600);
        for (kind, wait, ahead) in steps {
            now += wait;
            store.reap(now);
            if kind == 2 {
                let object = Object {
                    value: json("3"),
                    version: last.saturating_add_signed(ahead),
                    changed_at: 0,
                };
                let there = store.put_back(&key, &Was::from(&object), ttl, now).unwrap();
                prop_assert_eq!(there, last.max(object.version));
                last = there;
                continue;
            }
            let value = (kind == 0).then_some("1");
            let changed = store.change(&key, &change(Expected::Anything, value, ttl), now);
            let Ok(Changed::Done { version, .. }) = changed else {
                panic!("{changed:?}")
            };
            prop_assert!(version > last);
            prop_assert_eq!(store.object(&key).is_some(), kind == 0);
            last = version;
        }
    }
}
