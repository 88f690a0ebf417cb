//! Limiters on a state in memory that counts what it is asked. The clock is paused: times are exact.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::{
    contract::state::new_key,
    memory::state::{MemoryState, MemoryStates},
    port::{
        BoxFuture,
        state::{
            Change, Changed, Count, Entered, Held, Holder, Lease, Object, StateError, StateEvents,
        },
    },
};

/// Counts the questions about buckets.
struct Counting {
    state: MemoryState,
    takes: AtomicU64,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StateError>>;

impl State for Counting {
    fn start(&self, events: Arc<dyn StateEvents>) {
        self.state.start(events);
    }
    fn health(&self) -> StateHealth {
        self.state.health()
    }
    fn object<'a>(&'a self, key: &'a StateKey) -> Answer<'a, Option<Object>> {
        self.state.object(key)
    }
    fn change<'a>(&'a self, key: &'a StateKey, change: Change) -> Answer<'a, Changed> {
        self.state.change(key, change)
    }
    fn assert_object<'a>(
        &'a self,
        key: &'a StateKey,
        object: &'a Object,
        ttl: Duration,
    ) -> Answer<'a, u64> {
        self.state.assert_object(key, object, ttl)
    }
    fn enter<'a>(&'a self, leases: &'a [Lease]) -> Answer<'a, Vec<Entered>> {
        self.state.enter(leases)
    }
    fn renew<'a>(&'a self, leases: &'a [Held]) -> Answer<'a, Vec<bool>> {
        self.state.renew(leases)
    }
    fn leave<'a>(&'a self, leases: &'a [Held]) -> Answer<'a, Vec<bool>> {
        self.state.leave(leases)
    }
    fn leases<'a>(&'a self, scope: &'a StateKey, limit: usize) -> Answer<'a, Vec<Holder>> {
        self.state.leases(scope, limit)
    }
    fn count<'a>(&'a self, scope: &'a StateKey) -> Answer<'a, Count> {
        self.state.count(scope)
    }
    fn take<'a>(&'a self, key: &'a StateKey, bucket: Bucket, tokens: u32) -> Answer<'a, Taken> {
        self.takes.fetch_add(1, Relaxed);
        Box::pin(async move {
            // The way to a shared state takes its time.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.state.take(key, bucket, tokens).await
        })
    }
}

struct Rig {
    limiter: Arc<Limiter>,
    state: Arc<Counting>,
    metrics: Arc<Metrics>,
}

fn node(states: &MemoryStates, when_away: WhenAway, nodes: usize) -> Rig {
    let state = Arc::new(Counting {
        state: states.join(),
        takes: AtomicU64::new(0),
    });
    let metrics = Arc::new(Metrics::default());
    let limiter = Limiter::new(
        Arc::clone(&state) as Arc<dyn State>,
        when_away,
        Arc::new(move || nodes),
        Arc::clone(&metrics),
    );
    Rig {
        limiter: Arc::new(limiter),
        state,
        metrics,
    }
}

fn bucket(capacity: u32, refill: u32, seconds: u64) -> Bucket {
    Bucket {
        capacity,
        refill,
        period: Duration::from_secs(seconds),
    }
}

fn is_granted(taken: Taken) -> bool {
    matches!(taken, Taken::Granted { .. })
}

/// Several nodes at once, `wishes` each at the same time every `pause`, for `seconds`. Returns what was granted and how
/// often the state was asked, by all together.
async fn storm(bucket: Bucket, wishes: usize, pause: Duration, seconds: u64) -> (u32, u64) {
    let states = MemoryStates::new();
    let nodes: Vec<Rig> = (0..3).map(|_| node(&states, WhenAway::Refuse, 3)).collect();
    let (key, _) = new_key("limit");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut granted = 0;
    while Instant::now() < end {
        let mut tasks = tokio::task::JoinSet::new();
        for node in &nodes {
            for _ in 0..wishes {
                let (limiter, key) = (Arc::clone(&node.limiter), key.clone());
                tasks.spawn(async move { is_granted(limiter.take(&key, bucket, 1).await) });
            }
        }
        for taken in tasks.join_all().await {
            granted += u32::from(taken);
        }
        tokio::time::sleep(pause).await;
    }
    let asked = nodes
        .iter()
        .map(|node| node.state.takes.load(Relaxed))
        .sum();
    (granted, asked)
}

#[tokio::test(start_paused = true)]
async fn nodes_together_keep_the_limit_and_spare_the_state() {
    let pause = Duration::from_millis(7);
    for (bucket, wishes, what) in [
        (bucket(20, 100, 1), 5, "many too many"),
        (bucket(5, 1, 1), 3, "a small limit"),
        (bucket(1000, 5000, 1), 20, "a large limit"),
    ] {
        let seconds = 20;
        let (granted, asked) = storm(bucket, wishes, pause, seconds).await;
        let rate = f64::from(bucket.refill) / bucket.period.as_secs_f64();
        let most = f64::from(bucket.capacity) + rate * (seconds as f64 + 1.0);
        assert!(f64::from(granted) <= most, "{what}: {granted} of {most}");
        let share = f64::from(granted) / most;
        assert!(share > 0.75, "{what}: only {granted} of {most}");
        // Ten a second, twice where the first question was too much; and the beginning.
        assert!(
            asked <= 3 * (seconds * 20 + 20),
            "{what}: asked {asked} times"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_stay_within_the_limit_are_not_refused_and_cost_little() {
    let (granted, asked) = storm(bucket(100, 2000, 1), 2, Duration::from_millis(10), 20).await;
    // 3 nodes with 2 wishes each 11 or 12 ms.
    let wished = granted;
    assert!(wished >= 3 * 2 * 20_000 / 13, "{granted}");
    assert!(asked <= 3 * 20 * 13, "asked {asked} times");
}

#[tokio::test(start_paused = true)]
async fn one_after_the_other_gets_all_there_is_and_a_time_that_is_right() {
    let states = MemoryStates::new();
    let node = node(&states, WhenAway::Refuse, 2);
    let (key, _) = new_key("limit");
    let bucket = bucket(5, 1, 2);
    for number in 0..5 {
        let taken = node.limiter.take(&key, bucket, 1).await;
        assert!(is_granted(taken), "token {number}: {taken:?}");
    }
    let Taken::Refused { retry_after } = node.limiter.take(&key, bucket, 1).await else {
        panic!("there were five")
    };
    assert!(retry_after <= Duration::from_secs(2));
    let asked = node.state.takes.load(Relaxed);
    for _ in 0..100 {
        let again = node.limiter.take(&key, bucket, 1).await;
        assert!(!is_granted(again), "nothing was added yet");
    }
    assert_eq!(node.state.takes.load(Relaxed), asked, "nothing to ask");
    tokio::time::sleep(retry_after).await;
    assert!(is_granted(node.limiter.take(&key, bucket, 1).await));
    let too_many = node.limiter.take(&key, bucket, 6).await;
    let never = Taken::Refused {
        retry_after: Duration::MAX,
    };
    assert_eq!(too_many, never);
}

#[tokio::test(start_paused = true)]
async fn a_state_without_other_nodes_is_asked_each_time() {
    let metrics = Arc::new(Metrics::default());
    let state = Arc::new(MemoryState::alone());
    let nodes = Arc::new(|| 1);
    let limiter = Limiter::new(state, WhenAway::Refuse, nodes, Arc::clone(&metrics));
    let (key, _) = new_key("limit");
    for left in (0..5).rev() {
        let taken = limiter.take(&key, bucket(5, 1, 1), 1).await;
        assert_eq!(taken, Taken::Granted { left });
    }
    let taken = limiter.take(&key, bucket(5, 1, 1), 1).await;
    let retry_after = Duration::from_secs(1);
    assert_eq!(taken, Taken::Refused { retry_after }, "exact");
    assert_eq!(metrics.limits_granted.value(), 5);
    assert_eq!(metrics.limits_refused.value(), 1);
    assert_eq!(metrics.limits_degraded.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_state_is_away_it_does_as_it_was_told() {
    let states = MemoryStates::new();
    let (key, _) = new_key("limit");
    let bucket = bucket(9, 9, 1);
    for (when_away, expected) in [
        (WhenAway::Refuse, 0),
        (WhenAway::Local, 3),
        (WhenAway::Allow, 20),
    ] {
        let node = node(&states, when_away, 3);
        node.state.state.cut();
        let mut granted = 0;
        for _ in 0..20 {
            granted += u64::from(is_granted(node.limiter.take(&key, bucket, 1).await));
        }
        assert_eq!(granted, expected, "{when_away:?}");
        assert_eq!(node.metrics.limits_degraded.value(), 20);
        assert_eq!(node.metrics.limits_granted.value(), expected);
        assert_eq!(node.state.takes.load(Relaxed), 0, "it is known to be away");
        if when_away == WhenAway::Local {
            tokio::time::sleep(Duration::from_millis(334)).await;
            let taken = node.limiter.take(&key, bucket, 1).await;
            assert!(is_granted(taken), "a third of nine a second");
            let whole = node.limiter.take(&key, bucket, 9).await;
            assert!(!is_granted(whole), "its share is used up");
        }
        node.state.state.mend();
        let taken = node.limiter.take(&key, bucket, 1).await;
        assert!(is_granted(taken), "the shared bucket is full");
    }
}

#[tokio::test(start_paused = true)]
async fn it_remembers_no_more_keys_than_it_may() {
    let states = MemoryStates::new();
    let node = node(&states, WhenAway::Local, 1);
    node.state.state.cut();
    let bucket = bucket(1, 1, 3600);
    let size = || node.limiter.keys.lock().unwrap().slots.len();
    for number in 0..LIMITER_KEYS_MAX + 1000 {
        let key = StateKey::parse(&format!("limit/{number}")).unwrap();
        node.limiter.take(&key, bucket, 1).await;
    }
    assert!(size() <= LIMITER_KEYS_MAX, "{}", size());
    assert!(size() > LIMITER_KEYS_MAX / 2, "{}", size());
    tokio::time::sleep(Duration::from_secs(3601)).await;
    let (key, _) = new_key("limit");
    node.limiter.take(&key, bucket, 1).await;
    assert_eq!(size(), 1, "nobody needs those that are full again");
}
