//! What every [`State`] promises, as checks that run against any implementation.
//!
//! Each check makes its own nodes and its own keys, so they can run side by side on one network, except for those in
//! [`outage`], which break it for everybody. A check panics with a sentence when a promise is broken. None of them says how
//! long something may take: what must end in the end is waited for, and what must not end yet is compared with something
//! that was to end no earlier.

pub mod buckets;
pub mod leases;
pub mod objects;
pub mod outage;

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare_wire::{ChannelName, Json, News, NewsBody};
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

use crate::port::{
    BoxFuture, State,
    state::{
        Announce, Change, Changed, Entered, Expected, Held, Lease, Object, Per, StateError,
        StateEvents, StateHealth, StateKey, Tell,
    },
};

/// How long a check waits for what must come before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a check looks at what it waits for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A short time to live.
const SHORT: Duration = Duration::from_millis(700);

/// A time to live that no check sees the end of.
const LONG: Duration = Duration::from_secs(3600);

/// Nodes that share a state under test.
pub trait StateNetwork: Send + Sync {
    /// Makes a node's state, not yet started.
    fn join(&self) -> Arc<dyn State>;

    /// Ends a node that was made by [`join`](Self::join) as `kill -9` would: it does nothing any more, not even say good-bye.
    fn kill<'a>(&'a self, node: &'a Arc<dyn State>) -> BoxFuture<'a, ()>;

    /// Hears what the subscribers of a channel are told after this has returned, in the order in which it arrives at one of
    /// the nodes, or at one who listens beside them.
    fn listen<'a>(
        &'a self,
        channel: &'a ChannelName,
    ) -> BoxFuture<'a, mpsc::UnboundedReceiver<News>>;

    /// Takes the state away from all nodes; it loses nothing.
    fn break_path(&self) -> BoxFuture<'_, ()>;

    /// Gives it back.
    fn mend_path(&self) -> BoxFuture<'_, ()>;

    /// Loses everything that the state holds, while all nodes are connected (as `FLUSHALL` does).
    fn lose_everything(&self) -> BoxFuture<'_, ()>;
}

macro_rules! run {
    ($network:ident: $($part:ident :: $check:ident),* $(,)?) => {
        $(
            eprintln!("state contract: {}::{}", stringify!($part), stringify!($check));
            $part::$check($network).await;
        )*
    };
}

/// Runs all checks, those that break the network last.
pub async fn check_all(network: &dyn StateNetwork) {
    check_connected(network).await;
    run![network:
        outage::calls_fail_while_it_is_away,
        outage::an_absence_of_the_state_is_no_death,
        outage::a_loss_is_noticed,
    ];
}

/// Runs the checks that do not break the network.
pub async fn check_connected(network: &dyn StateNetwork) {
    run![network:
        objects::a_value_comes_back_as_it_was,
        objects::a_change_happens_if_it_was_expected,
        objects::one_writer_wins_each_version,
        objects::versions_only_grow,
        objects::what_is_not_changed_ends,
        objects::a_conflict_renews_nothing,
        objects::change_and_news_are_one_step,
        objects::what_is_put_back_never_hides_what_is_newer,
        leases::connections_of_one_member_are_one_member,
        leases::each_lease_is_told_where_that_is_wanted,
        leases::a_holder_keeps_its_place,
        leases::capacity_is_never_exceeded,
        leases::what_is_given_back_is_gone_once,
        leases::counts_follow_who_is_there,
        leases::a_list_is_no_longer_than_asked,
        leases::a_lease_ends_without_renewal,
        leases::a_dead_node_leaves_once,
        leases::a_member_stays_while_one_node_has_it,
        buckets::it_begins_full_and_refuses_beyond,
        buckets::nodes_together_never_take_more_than_there_is,
        buckets::it_fills_evenly,
        buckets::a_refusal_says_when_to_come_back,
        buckets::more_than_fits_is_never_granted,
    ];
}

/// A started state and what it has reported; for tests of implementations that go beyond the contract.
pub struct Node {
    /// The state.
    pub state: Arc<dyn State>,
    events: Arc<Recorder>,
}

impl Node {
    /// Joins the network, starts the state and waits until it is there.
    pub async fn join(network: &dyn StateNetwork) -> Self {
        let node = Self::start(network.join());
        node.await_up().await;
        node
    }

    /// Starts a state.
    pub fn start(state: Arc<dyn State>) -> Self {
        let events = Arc::new(Recorder::default());
        state.start(Arc::clone(&events) as Arc<dyn StateEvents>);
        Self { state, events }
    }

    /// Waits until the state is there.
    pub async fn await_up(&self) {
        let up = || async { (self.state.health() != StateHealth::Down).then_some(()) };
        until("the state that comes up", up).await;
    }

    /// Waits until the state is known to be away.
    pub async fn await_down(&self) {
        let down = || async { (self.state.health() == StateHealth::Down).then_some(()) };
        until("the state that goes down", down).await;
    }

    /// How often `on_up` was called.
    #[must_use]
    pub fn ups(&self) -> usize {
        self.events.ups.load(Ordering::SeqCst)
    }

    /// How often `on_down` was called.
    #[must_use]
    pub fn downs(&self) -> usize {
        self.events.downs.load(Ordering::SeqCst)
    }

    /// News that came through the events of this node.
    #[must_use]
    pub fn news(&self) -> Vec<News> {
        self.events.news().clone()
    }

    /// Changes an object and expects success. Returns the version.
    pub async fn put(&self, key: &StateKey, value: &str, ttl: Duration) -> u64 {
        let change = change(Expected::Anything, Some(value), ttl);
        match self.change(key, change).await {
            Changed::Done { version, .. } => version,
            conflict => panic!("a change that expects anything ended in {conflict:?}"),
        }
    }

    /// Changes an object.
    pub async fn change(&self, key: &StateKey, change: Change) -> Changed {
        succeed("change", self.state.change(key, change)).await
    }

    /// Reads an object.
    pub async fn object(&self, key: &StateKey) -> Option<Object> {
        succeed("object", self.state.object(key)).await
    }

    /// Takes one lease.
    pub async fn enter(&self, lease: &Lease) -> Entered {
        let leases = std::slice::from_ref(lease);
        let answers = succeed("enter", self.state.enter(leases)).await;
        assert_eq!(answers.len(), 1, "one answer for each lease");
        answers[0]
    }

    /// Gives one lease back.
    pub async fn leave(&self, held: &Held) -> bool {
        let answers = succeed("leave", self.state.leave(std::slice::from_ref(held))).await;
        assert_eq!(answers.len(), 1, "one answer for each lease");
        answers[0]
    }

    /// Renews one lease.
    pub async fn renew(&self, held: &Held) -> bool {
        let answers = succeed("renew", self.state.renew(std::slice::from_ref(held))).await;
        assert_eq!(answers.len(), 1, "one answer for each lease");
        answers[0]
    }

    /// Connections and members of a scope.
    pub async fn count(&self, scope: &StateKey) -> (u64, u64) {
        let count = succeed("count", self.state.count(scope)).await;
        (count.holders, count.members)
    }
}

/// What the subscribers of one channel were told, in order.
pub struct Told {
    channel: ChannelName,
    news: mpsc::UnboundedReceiver<News>,
}

impl Told {
    /// Hears a channel from now on.
    pub async fn of(network: &dyn StateNetwork, channel: &ChannelName) -> Self {
        Self {
            channel: channel.clone(),
            news: network.listen(channel).await,
        }
    }

    /// The next news.
    pub async fn next(&mut self) -> NewsBody {
        let news = patient("news", self.news.recv()).await;
        let news = news.unwrap_or_else(|| panic!("the listener ended"));
        assert_eq!(news.channel, self.channel, "news of another channel");
        news.body
    }

    /// The next news, which have to be these.
    pub async fn expect(&mut self, expected: &NewsBody) {
        assert_eq!(&self.next().await, expected, "other news than expected");
    }

    /// Checks that nothing was told but what was asked for already: somebody comes to the scope, and that is the next that
    /// is heard. News of one key keep their order, so whatever was told before had to come first.
    pub async fn expect_nothing(&mut self, node: &Node, scope: &StateKey) {
        let lease = lease(scope, &format!("witness-{}", Uuid::new_v4()));
        node.enter(&lease).await;
        self.expect(&joined(&lease)).await;
        node.leave(&lease.held).await;
        self.expect(&left(&lease)).await;
    }
}

/// A key that no other check uses, and the channel that is told of it.
pub fn new_key(kind: &str) -> (StateKey, ChannelName) {
    let name = format!("check:{}", Uuid::new_v4());
    let channel = ChannelName::parse(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let key = StateKey::of(kind, &channel).unwrap_or_else(|error| panic!("{kind}: {error}"));
    (key, channel)
}

/// A change without news.
pub fn change(expected: Expected, value: Option<&str>, ttl: Duration) -> Change {
    Change {
        expected,
        value: value.map(json),
        ttl,
        tell: None,
    }
}

/// A change that is told.
pub fn told(change: Change) -> Change {
    Change {
        tell: Some(Tell { tags: None }),
        ..change
    }
}

/// A lease of a new connection, announced, for as long as its node lives.
pub fn lease(scope: &StateKey, member: &str) -> Lease {
    let holder = Uuid::new_v4();
    let info = json(&format!(r#"{{"user":"{member}"}}"#));
    Lease {
        held: Held {
            scope: scope.clone(),
            holder,
        },
        member: member.to_owned(),
        info: info.clone(),
        ttl: None,
        capacity: None,
        announce: Some(Announce {
            per: Per::Member,
            joined: Some(NewsBody::Join { info: info.clone() }),
            left: NewsBody::Leave { info },
        }),
    }
}

/// The same, told for itself and not for its member.
pub fn lease_of_its_own(scope: &StateKey, member: &str) -> Lease {
    let mut lease = lease(scope, member);
    let announce = lease.announce.iter_mut();
    announce.for_each(|announce| announce.per = Per::Lease);
    let info = json(&format!(r#"{{"client":"{}"}}"#, lease.held.holder));
    lease.info = info.clone();
    if let Some(announce) = &mut lease.announce {
        announce.joined = Some(NewsBody::Join { info: info.clone() });
        announce.left = NewsBody::Leave { info };
    }
    lease
}

/// What is told when the member of a lease comes.
pub fn joined(lease: &Lease) -> NewsBody {
    NewsBody::Join {
        info: lease.info.clone(),
    }
}

/// What is told when the member of a lease leaves.
pub fn left(lease: &Lease) -> NewsBody {
    NewsBody::Leave {
        info: lease.info.clone(),
    }
}

/// A JSON text.
pub fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Waits for something that must come in the end.
pub async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// Looks again and again until there is something.
pub async fn until<T, F>(what: &str, look: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    patient(what, found).await
}

async fn succeed<T>(what: &str, call: impl Future<Output = Result<T, StateError>>) -> T {
    let result = patient(what, call).await;
    result.unwrap_or_else(|error| panic!("{what} failed on a healthy state: {error}"))
}

#[derive(Default)]
struct Recorder {
    news: Mutex<Vec<News>>,
    ups: AtomicUsize,
    downs: AtomicUsize,
}

impl Recorder {
    fn news(&self) -> MutexGuard<'_, Vec<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateEvents for Recorder {
    fn on_news(&self, news: News) {
        self.news().push(news);
    }

    fn on_up(&self) {
        self.ups.fetch_add(1, Ordering::SeqCst);
    }

    fn on_down(&self) {
        self.downs.fetch_add(1, Ordering::SeqCst);
    }
}
