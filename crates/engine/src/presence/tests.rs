//! How often the state is called, and what is said when there is none to share.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    memory::state::MemoryState,
    port::{
        BoxFuture,
        state::{
            Bucket, Change, Changed, Entered, Held, Lease, Object, StateEvents, StateKey, Taken,
        },
    },
    testing::channel,
};

/// A state that counts its calls.
struct Counting {
    state: MemoryState,
    enters: AtomicUsize,
    leaves: AtomicUsize,
    lists: AtomicUsize,
    counts: AtomicUsize,
}

impl Counting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: MemoryState::alone(),
            enters: AtomicUsize::default(),
            leaves: AtomicUsize::default(),
            lists: AtomicUsize::default(),
            counts: AtomicUsize::default(),
        })
    }

    fn presence(self: &Arc<Self>, is_alone: bool) -> Arc<Presence> {
        let state = Arc::clone(self) as Arc<dyn State>;
        Presence::start(state, is_alone, Arc::default())
    }
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
        assert!(leases.len() <= PRESENCE_BATCH_MAX);
        self.enters.fetch_add(1, SeqCst);
        self.state.enter(leases)
    }

    fn renew<'a>(&'a self, leases: &'a [Held]) -> Answer<'a, Vec<bool>> {
        self.state.renew(leases)
    }

    fn leave<'a>(&'a self, leases: &'a [Held]) -> Answer<'a, Vec<bool>> {
        assert!(leases.len() <= PRESENCE_BATCH_MAX);
        self.leaves.fetch_add(1, SeqCst);
        self.state.leave(leases)
    }

    fn leases<'a>(&'a self, scope: &'a StateKey, limit: usize) -> Answer<'a, Vec<Holder>> {
        self.lists.fetch_add(1, SeqCst);
        self.state.leases(scope, limit)
    }

    fn count<'a>(&'a self, scope: &'a StateKey) -> Answer<'a, Count> {
        self.counts.fetch_add(1, SeqCst);
        self.state.count(scope)
    }

    fn take<'a>(&'a self, key: &'a StateKey, bucket: Bucket, tokens: u32) -> Answer<'a, Taken> {
        self.state.take(key, bucket, tokens)
    }
}

fn attendee(number: usize) -> Arc<Attendee> {
    Arc::new(Attendee {
        client: Uuid::new_v4(),
        user: format!("u{number}").into(),
        info: Json::trusted(b"{}".to_vec().into()),
    })
}

#[tokio::test]
async fn ten_thousand_clients_are_twenty_calls() {
    let state = Counting::new();
    let presence = state.presence(true);
    let room = channel("room");
    // One thread: the task begins when all are there.
    let herd: Vec<_> = (0..10_000)
        .map(|number| presence.enter(&room, &attendee(number), Announced::PerUser))
        .collect();
    let counted = presence.count(&room).await;
    assert_eq!((counted.count.members, counted.degraded), (10_000, false));
    assert_eq!(
        state.enters.load(SeqCst),
        10_000_usize.div_ceil(PRESENCE_BATCH_MAX)
    );
    for attendance in herd {
        attendance.leave();
    }
    assert_eq!(presence.count(&room).await.count, Count::default());
    assert_eq!(
        state.leaves.load(SeqCst),
        10_000_usize.div_ceil(PRESENCE_BATCH_MAX)
    );
}

#[tokio::test]
async fn a_room_full_of_questions_is_a_read_or_two() {
    let state = Counting::new();
    let presence = state.presence(true);
    let room = channel("room");
    let _here = presence.enter(&room, &attendee(1), Announced::PerUser);
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let (presence, room) = (Arc::clone(&presence), room.clone());
            tokio::spawn(
                async move { (presence.members(&room).await, presence.count(&room).await) },
            )
        })
        .collect();
    for answer in asking {
        let (members, counted) = answer.await.unwrap();
        assert_eq!((members.holders.len(), counted.count.holders), (1, 1));
    }
    let reads = [&state.lists, &state.counts].map(|reads| reads.load(SeqCst));
    assert!(
        reads.iter().all(|reads| (1..=3).contains(reads)),
        "{reads:?}"
    );
    // Nobody waits for ever behind an answer that was given.
    assert_eq!(presence.members(&room).await.holders.len(), 1);
}

#[tokio::test]
async fn a_state_that_is_not_shared_with_others_is_said_to_be_partial() {
    let presence = Counting::new().presence(false);
    let room = channel("room");
    let _here = presence.enter(&room, &attendee(1), Announced::PerUser);
    assert!(presence.count(&room).await.degraded);
    let members = presence.members(&room).await;
    assert_eq!((members.holders.len(), members.degraded), (1, true));
}

#[tokio::test(start_paused = true)]
async fn who_drops_and_does_not_come_back_leaves_when_its_time_has_come() {
    let state = Counting::new();
    let presence = state.presence(true);
    let room = channel("room");
    let here = presence.enter(&room, &attendee(1), Announced::PerUser);
    assert_eq!(presence.count(&room).await.count.holders, 1);
    drop(here);
    sleep(PRESENCE_LINGER - Duration::from_millis(1)).await;
    assert_eq!(presence.count(&room).await.count.holders, 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(presence.count(&room).await.count.holders, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_nobodys_leaves_when_it_drops() {
    let presence = Counting::new().presence(true);
    let room = channel("room");
    let anonymous = Attendee {
        user: "".into(),
        ..Attendee::clone(&attendee(1))
    };
    let here = presence.enter(&room, &Arc::new(anonymous), Announced::PerUser);
    assert_eq!(presence.count(&room).await.count.holders, 1);
    drop(here);
    assert_eq!(presence.count(&room).await.count.holders, 0);
}

#[tokio::test(start_paused = true)]
async fn who_closes_leaves_at_once_where_connections_are_told() {
    let state = Counting::new();
    let presence = state.presence(true);
    let room = channel("room");
    for (announced, left) in [
        (Announced::PerClient, true),
        (Announced::Never, true),
        (Announced::PerUser, false),
    ] {
        let here = presence.enter(&room, &attendee(1), announced);
        assert_eq!(presence.count(&room).await.count.holders, 1);
        here.close();
        let gone = presence.count(&room).await.count.holders == 0;
        assert_eq!(gone, left, "{announced:?}");
        sleep(PRESENCE_LINGER + Duration::from_millis(1)).await;
        assert_eq!(presence.count(&room).await.count.holders, 0);
    }
}
