//! The state over a real Redis: the contract on one server and on a cluster, and what only Redis can do to a state.

mod kept;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use fanfare_backend::redis::{PREFIX_DEFAULT, RedisBus, state::RedisState};
use fanfare_bench::local::{Redis, RedisCluster, Sentinels};
use fanfare_engine::{
    contract::state::{
        Node, StateNetwork, Told, change, check_all, joined, lease, left, new_key, patient, until,
    },
    port::{
        BoxFuture, Bus, BusEvent, BusEvents, State,
        state::{Bucket, Changed, Entered, Expected, Held, Lease, StateError, Taken},
    },
};
use fanfare_wire::{ChannelName, Epoch, News};
use redis::FromRedisValue;
use tokio::sync::mpsc;

/// Masters of the cluster.
const MASTERS: usize = 3;

/// The one that hangs.
const LOST: usize = 1;

const MINUTE: Duration = Duration::from_secs(60);

/// Some Redis, its nodes, and somebody who listens beside them.
struct Rig {
    servers: Mutex<Servers>,
    /// Whoever has ended is gone.
    nodes: Mutex<Vec<Weak<RedisState>>>,
    bus: Arc<RedisBus>,
    ear: Arc<Ear>,
}

enum Servers {
    Single(Redis),
    Cluster(RedisCluster),
}

/// News by channel.
#[derive(Default)]
struct Ear(Mutex<HashMap<ChannelName, mpsc::UnboundedSender<News>>>);

impl Rig {
    fn single() -> Self {
        Self::of(Servers::Single(Redis::start().expect("a Redis")))
    }

    fn of(servers: Servers) -> Self {
        let url = servers.url();
        let bus = RedisBus::connect(&url, &origin(), PREFIX_DEFAULT).expect("a usable URL");
        let (bus, ear) = (Arc::new(bus), Arc::new(Ear::default()));
        bus.start(Arc::clone(&ear) as Arc<dyn BusEvents>);
        Self {
            servers: Mutex::new(servers),
            nodes: Mutex::default(),
            bus,
            ear,
        }
    }

    fn state(&self) -> Arc<RedisState> {
        let url = lock(&self.servers).url();
        let state = RedisState::connect(&url, &origin(), PREFIX_DEFAULT).expect("a usable URL");
        let state = Arc::new(state);
        lock(&self.nodes).push(Arc::downgrade(&state));
        state
    }

    /// Asks every server.
    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Vec<T> {
        let addresses = lock(&self.servers).addresses();
        let mut answers = Vec::new();
        for address in addresses {
            let client = redis::Client::open(format!("redis://{address}")).expect("an address");
            let connection = client.get_multiplexed_async_connection().await;
            let mut connection = connection.expect("a connection");
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            answers.push(
                command
                    .query_async(&mut connection)
                    .await
                    .expect("an answer"),
            );
        }
        answers
    }

    fn redis<T>(&self, act: impl FnOnce(&mut Redis) -> T) -> T {
        match &mut *lock(&self.servers) {
            Servers::Single(redis) => act(redis),
            Servers::Cluster(_) => panic!("one server is meant"),
        }
    }
}

impl Servers {
    fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Single(redis) => vec![redis.address()],
            Self::Cluster(cluster) => cluster.addresses(),
        }
    }
}

impl StateNetwork for Rig {
    fn join(&self) -> Arc<dyn State> {
        self.state()
    }

    fn kill<'a>(&'a self, node: &'a Arc<dyn State>) -> BoxFuture<'a, ()> {
        let dead = Arc::as_ptr(node).cast::<()>();
        for state in lock(&self.nodes).iter().filter_map(Weak::upgrade) {
            if Arc::as_ptr(&state).cast::<()>() == dead {
                state.halt();
            }
        }
        Box::pin(async {})
    }

    fn listen<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> BoxFuture<'a, mpsc::UnboundedReceiver<News>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.ear.0).insert(channel.clone(), sender);
        Box::pin(async move {
            let confirmed = async {
                while !self.bus.subscribe(vec![channel.clone()]).await {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            patient("a subscription", confirmed).await;
            receiver
        })
    }

    fn break_path(&self) -> BoxFuture<'_, ()> {
        match &mut *lock(&self.servers) {
            Servers::Single(redis) => redis.pause(),
            Servers::Cluster(cluster) => cluster.pause(LOST),
        }
        Box::pin(async {})
    }

    fn mend_path(&self) -> BoxFuture<'_, ()> {
        match &mut *lock(&self.servers) {
            Servers::Single(redis) => redis.resume(),
            Servers::Cluster(cluster) => cluster.resume(LOST),
        }
        Box::pin(async {})
    }

    fn lose_everything(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.ask::<String>(&["FLUSHALL"]).await;
        })
    }
}

impl BusEvents for Ear {
    fn on_event(&self, event: BusEvent) {
        if let BusEvent::News(news) = event
            && let Some(listener) = lock(&self.0).get(&news.channel)
        {
            // A check that has ended listens no more.
            let _ = listener.send(news);
        }
    }
}

fn origin() -> Epoch {
    Epoch::parse("contract").expect("an epoch")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_one_server() {
    check_all(&Rig::single()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_a_cluster() {
    let cluster = RedisCluster::start(MASTERS).expect("a cluster");
    check_all(&Rig::of(Servers::Cluster(cluster))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_any_key_is_refused_until_it_is_set_right() {
    let rig = Rig::single();
    let set = |policy: &'static str| {
        rig.redis(|redis| {
            let done = redis.execute(&["CONFIG", "SET", "maxmemory-policy", policy]);
            done.expect("the policy is set");
        });
    };
    set("allkeys-lru");
    let state = rig.state();
    let node = Node::start(Arc::clone(&state) as Arc<dyn State>);
    let refused = || async { matches!(state.trouble(), Some(StateError::Unfit(_))).then_some(()) };
    until("the refusal", refused).await;
    let (key, _) = new_key("object");
    let Err(StateError::Unfit(words)) = node.state.object(&key).await else {
        panic!("state of a server that may drop it");
    };
    assert!(
        words.contains("allkeys-lru") && words.contains("maxmemory-policy noeviction"),
        "{words}"
    );
    assert_eq!(node.ups(), 0);

    set("noeviction");
    node.await_up().await;
    node.put(&key, "1", MINUTE).await;

    // It is looked at again while all is well.
    set("allkeys-lfu");
    until("the refusal", refused).await;
    // At the start, and now; it is told a moment after it is so.
    until("its end", || async { (node.downs() == 2).then_some(()) }).await;
    set("volatile-ttl");
    node.await_up().await;
    assert!(node.object(&key).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_redis_and_outlives_its_restart() {
    let rig = Rig::single();
    rig.redis(Redis::kill);
    let node = Node::start(rig.state());
    node.await_down().await;
    let (key, _) = new_key("object");
    let answer = node.state.object(&key).await;
    assert!(
        matches!(answer, Err(StateError::Unavailable(_))),
        "{answer:?}"
    );
    let mut version = 0;
    for up in 1..=3 {
        rig.redis(|redis| redis.restart().expect("Redis starts"));
        until("on_up", || async { (node.ups() >= up).then_some(()) }).await;
        assert_eq!(node.object(&key).await, None, "a restart has lost it");
        let next = node.put(&key, "1", MINUTE).await;
        assert!(next > version, "{next} after {version}");
        version = next;
        let lease = lease(&key, "ann");
        assert_eq!(node.enter(&lease).await, Entered::Held { first: true });
        let downs = node.downs();
        rig.redis(Redis::kill);
        until("on_down", || async { (node.downs() > downs).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_immortal() {
    let rig = Rig::single();
    let (node, other) = (Node::join(&rig).await, Node::join(&rig).await);
    let (scope, _) = new_key("voice");
    node.put(&new_key("object").0, "1", MINUTE).await;
    let removal = change(Expected::Anything, None, MINUTE);
    node.change(&new_key("object").0, removal).await;
    let short = Lease {
        ttl: Some(Duration::from_millis(10)),
        ..lease(&scope, "short")
    };
    let mortal = Lease {
        ttl: Some(MINUTE),
        ..lease(&scope, "mortal")
    };
    for lease in [&mortal, &lease(&scope, "eternal"), &short] {
        node.enter(lease).await;
    }
    let bucket = Bucket {
        capacity: 10,
        refill: 1,
        period: MINUTE,
    };
    let taken = node.state.take(&scope, bucket, 1).await;
    assert!(matches!(taken, Ok(Taken::Granted { left: 9 })));
    // A dead node, and an object whose version is ahead of the clock.
    let (ahead, _) = new_key("object");
    node.put(&ahead, "1", MINUTE).await;
    let mut object = node.object(&ahead).await.expect("it was put");
    object.version += 10_000_000_000;
    let version = object.version;
    let asserted = node.state.assert_object(&ahead, &object, MINUTE).await;
    assert_eq!(asserted.ok(), Some(version));
    other.enter(&lease(&scope, "other")).await;
    rig.kill(&other.state).await;
    let gone = || async { (node.count(&scope).await.0 == 2).then_some(()) };
    until("the end of a dead node's lease", gone).await;

    let keys: Vec<String> = rig.ask::<Vec<String>>(&["KEYS", "*"]).await.remove(0);
    assert!(keys.len() >= 11, "{keys:?}");
    for key in &keys {
        assert!(key.starts_with("fanfare:contract:"), "{key}");
        let left: i64 = rig.ask(&["PTTL", key]).await[0];
        // -2: it went in this moment.
        assert!(left > 0 || left == -2, "{key} lives for ever");
    }

    // What ended and began anew grows on from a version that only the floor remembers.
    let name = format!("fanfare:contract:object:{}", ahead.as_str());
    assert_eq!(rig.ask::<i64>(&["DEL", &name]).await[0], 1);
    assert!(node.put(&ahead, "2", MINUTE).await > version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_nodes_left_behind_ends_when_one_is_back() {
    let rig = Rig::single();
    let (first, second) = (Node::join(&rig).await, Node::join(&rig).await);
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(&rig, &channel).await;
    let [ann, bob] = ["ann", "bob"].map(|member| lease(&scope, member));
    first.enter(&ann).await;
    second.enter(&bob).await;
    news.expect(&joined(&ann)).await;
    news.expect(&joined(&bob)).await;
    rig.kill(&first.state).await;
    rig.kill(&second.state).await;
    // Longer than a lease, and longer than nobody may look without everybody being forgiven.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let third = Node::join(&rig).await;
    let gone = || async { (third.count(&scope).await == (0, 0)).then_some(()) };
    until("the end of what dead nodes held", gone).await;
    let mut told = [news.next().await, news.next().await];
    told.sort_by_key(|body| format!("{body:?}"));
    assert_eq!(told, [left(&ann), left(&bob)]);
    news.expect_nothing(&third, &scope).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_well_does_not_keep_others_waiting() {
    let rig = Rig::single();
    let leaving = rig.state();
    let node = Node::start(Arc::clone(&leaving) as Arc<dyn State>);
    node.await_up().await;
    let witness = Node::join(&rig).await;
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(&rig, &channel).await;
    let ann = lease(&scope, "ann");
    node.enter(&ann).await;
    news.expect(&joined(&ann)).await;
    leaving.retire().await.expect("Redis is told");
    // A dead node that said nothing, for comparison.
    let (other_scope, _) = new_key("presence");
    let silent = Node::join(&rig).await;
    silent.enter(&lease(&other_scope, "bob")).await;
    rig.kill(&silent.state).await;
    let gone = || async { (witness.count(&scope).await == (0, 0)).then_some(()) };
    until("the end of what was held", gone).await;
    news.expect(&left(&ann)).await;
    assert_eq!(witness.count(&other_scope).await, (1, 1));
    assert!(node.state.enter(&[ann]).await.is_err(), "it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_were_forgotten_are_given_again() {
    let rig = Rig::single();
    let node = Node::join(&rig).await;
    let (key, _) = new_key("object");
    for round in 0..3 {
        rig.ask::<String>(&["SCRIPT", "FLUSH"]).await;
        node.put(&key, &round.to_string(), MINUTE).await;
        let wanted = change(Expected::Nothing, Some("1"), MINUTE);
        let refused = node.change(&key, wanted).await;
        assert!(matches!(refused, Changed::Conflict { current: Some(_) }));
    }
    assert_eq!((node.ups(), node.downs()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_lease_was_lost_goes_on_under_another_name() {
    let rig = Rig::single();
    let node = Node::join(&rig).await;
    let (scope, channel) = new_key("presence");
    let mut news = Told::of(&rig, &channel).await;
    let [kept, lost] = ["kept", "lost"].map(|member| lease(&scope, member));
    for lease in [&kept, &lost] {
        node.enter(lease).await;
        news.expect(&joined(lease)).await;
    }
    // Only its own lease: the others are still there, under a name that nobody renews.
    rig.ask::<i64>(&["DEL", "fanfare:contract:nodes"]).await;
    assert_eq!(node.enter(&kept).await, Entered::Held { first: false });
    until("on_up again", || async { (node.ups() >= 2).then_some(()) }).await;
    // What is not taken anew ends.
    let gone = || async { (node.count(&scope).await == (1, 1)).then_some(()) };
    until("the end of what was held under the old name", gone).await;
    news.expect(&left(&lost)).await;
    news.expect_nothing(&node, &scope).await;
    assert!(node.leave(&kept.held).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_copy_brings_back_ends() {
    let rig = Rig::single();
    let node = Node::join(&rig).await;
    let (scope, _) = new_key("presence");
    let [stays, goes] = ["stays", "goes"].map(|member| lease(&scope, member));
    node.enter(&stays).await;
    node.enter(&goes).await;
    rig.ask::<String>(&["SAVE"]).await;
    assert!(node.leave(&goes.held).await);
    let ups = node.ups();
    rig.redis(Redis::kill);
    rig.redis(|redis| redis.restart().expect("Redis starts"));
    until("on_up", || async { (node.ups() > ups).then_some(()) }).await;
    // Its owner takes it anew; of the other one nobody knows any more.
    assert_eq!(node.enter(&stays).await, Entered::Held { first: false });
    let gone = || async { (node.count(&scope).await == (1, 1)).then_some(()) };
    until("the end of what was given back", gone).await;
    assert!(node.leave(&stays.held).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_leases_are_few_calls() {
    const SCOPES: usize = 300;
    const LEASES: usize = 20_000;
    let rig = Rig::single();
    let node = Node::join(&rig).await;
    let scopes: Vec<_> = (0..SCOPES).map(|_| new_key("presence").0).collect();
    let leases: Vec<Lease> = (0..LEASES)
        .map(|number| Lease {
            ttl: (number % 2 == 0).then_some(MINUTE),
            ..lease(&scopes[number % 7 * number % SCOPES], &format!("m{number}"))
        })
        .collect();
    let held: Vec<Held> = leases.iter().map(|lease| lease.held.clone()).collect();
    let entered = patient("enter", node.state.enter(&leases)).await;
    assert_eq!(
        entered.ok(),
        Some(vec![Entered::Held { first: true }; LEASES])
    );
    let renewed = patient("renew", node.state.renew(&held)).await;
    assert_eq!(renewed.ok(), Some(vec![true; LEASES]));
    let (gone, stay) = held.split_at(LEASES / 3);
    let left = patient("leave", node.state.leave(gone)).await;
    assert_eq!(left.ok(), Some(vec![true; gone.len()]));
    let renewed = patient("renew", node.state.renew(&held))
        .await
        .expect("answers");
    let (of_gone, of_stay) = renewed.split_at(gone.len());
    assert!(!of_gone.iter().any(|there| *there) && of_stay.iter().all(|there| *there));
    let mut holders = 0;
    for scope in &scopes {
        holders += node.count(scope).await.0;
    }
    assert_eq!(usize::try_from(holders).ok(), Some(stay.len()));
    let largest = &scopes[0];
    let listed = node.state.leases(largest, LEASES).await.expect("a list");
    assert_eq!(listed.len() as u64, node.count(largest).await.0);
    let calls: String = rig.ask::<String>(&["INFO", "commandstats"]).await.remove(0);
    let calls = calls
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="))
        .and_then(|rest| rest.split(',').next()?.parse::<usize>().ok());
    assert!(calls.is_some_and(|calls| calls < LEASES / 10), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_use_is_kept_and_what_is_not_is_forgotten() {
    let rig = Rig::single();
    let state = rig.state();
    let node = Node::start(Arc::clone(&state) as Arc<dyn State>);
    node.await_up().await;
    let scopes: Vec<_> = (0..200).map(|_| new_key("presence").0).collect();
    for scope in &scopes {
        node.enter(&lease(scope, "ann")).await;
    }
    let mut keys = Vec::new();
    for kind in ["leases", "members", "scopes"] {
        let pattern = format!("fanfare:contract:{kind}:*");
        keys.extend(rig.ask::<Vec<String>>(&["KEYS", &pattern]).await.remove(0));
    }
    assert_eq!(keys.len(), 2 * scopes.len() + 1);
    let index = keys.last().expect("the index of the node").clone();
    for key in &keys {
        rig.ask::<i64>(&["PEXPIRE", key, "60000"]).await;
    }
    // A scope that others have emptied meanwhile.
    let (gone, _) = new_key("presence");
    rig.ask::<i64>(&["SADD", &index, gone.as_str()]).await;
    state.keep().await.expect("Redis answers");
    for key in &keys {
        let left: i64 = rig.ask(&["PTTL", key]).await[0];
        assert!(left > 60_000, "{key} was not kept");
    }
    let known: i64 = rig.ask(&["SCARD", &index]).await[0];
    assert_eq!(usize::try_from(known).ok(), Some(scopes.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_the_sentinels() {
    let mut set = Sentinels::start().expect("sentinels");
    let state = RedisState::connect(&set.url(), &origin(), PREFIX_DEFAULT).expect("a usable URL");
    let node = Node::start(Arc::new(state));
    node.await_up().await;
    let (key, _) = new_key("object");
    let before = node.put(&key, "1", MINUTE).await;
    let object = node.object(&key).await.expect("it was put");
    let (ups, old) = (node.ups(), set.kill_master().expect("a master to kill"));
    set.wait_for_new_master(old).expect("a new master");
    until("on_up", || async { (node.ups() > ups).then_some(()) }).await;
    // The new master may or may not have what was changed last: its owner puts it back.
    let version = node.state.assert_object(&key, &object, MINUTE).await;
    assert_eq!(version.ok(), Some(before));
    assert!(node.put(&key, "2", MINUTE).await > before);
}
