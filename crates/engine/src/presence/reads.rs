//! Questions to the state: those about one channel that come while one is being answered wait for the next answer and share
//! it, so that a room full of clients that all ask is two reads.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_wire::ChannelName;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use super::{Members, PRESENCE_LIST_MAX, away, book::scope};
use crate::{
    port::{
        State,
        state::{Count, StateError},
    },
    task,
};

/// Questions that are put to the state at the same time.
const PRESENCE_READS_MAX: usize = 32;

/// How long the state may take to answer one.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers that are shared.
pub(super) struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    state: Arc<dyn State>,
    members: Flights<Members>,
    counts: Flights<Count>,
    permits: Semaphore,
}

/// Those who wait for an answer, by channel.
type Flights<T> = Mutex<HashMap<ChannelName, Vec<oneshot::Sender<Result<T, StateError>>>>>;

impl Reads {
    pub(super) fn new(state: Arc<dyn State>) -> Self {
        Self {
            shared: Arc::new(Shared {
                state,
                members: Flights::default(),
                counts: Flights::default(),
                permits: Semaphore::new(PRESENCE_READS_MAX),
            }),
        }
    }

    pub(super) async fn members(&self, channel: &ChannelName) -> Result<Members, StateError> {
        let shared = Arc::clone(&self.shared);
        let name = channel.clone();
        let answer = join(&self.shared.members, channel, move || {
            task::spawn(shared.answer_members(name));
        });
        answer.await.unwrap_or_else(|_| Err(away()))
    }

    pub(super) async fn count(&self, channel: &ChannelName) -> Result<Count, StateError> {
        let shared = Arc::clone(&self.shared);
        let name = channel.clone();
        let answer = join(&self.shared.counts, channel, move || {
            task::spawn(shared.answer_counts(name));
        });
        answer.await.unwrap_or_else(|_| Err(away()))
    }
}

impl Shared {
    async fn answer_members(self: Arc<Self>, channel: ChannelName) {
        loop {
            let Some(waiting) = board(&self.members, &channel) else {
                return;
            };
            let answer = in_time(self.read_members(&channel)).await;
            for waiter in waiting {
                // Whoever has gone does not need it.
                let _ = waiter.send(answer.clone());
            }
        }
    }

    async fn answer_counts(self: Arc<Self>, channel: ChannelName) {
        loop {
            let Some(waiting) = board(&self.counts, &channel) else {
                return;
            };
            let _permit = self.permits.acquire().await;
            let answer = in_time(self.state.count(&scope(&channel))).await;
            for waiter in waiting {
                let _ = waiter.send(answer.clone());
            }
        }
    }

    async fn read_members(&self, channel: &ChannelName) -> Result<Members, StateError> {
        let _permit = self.permits.acquire().await;
        let scope = scope(channel);
        let holders = self.state.leases(&scope, PRESENCE_LIST_MAX).await?;
        let is_full = holders.len() >= PRESENCE_LIST_MAX;
        let total = match is_full {
            true => Some(self.state.count(&scope).await?.holders),
            false => None,
        };
        Ok(Members {
            total: total.filter(|total| *total > holders.len() as u64),
            holders,
            degraded: false,
        })
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
    timeout(READ_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(away()))
}

/// Waits for the next answer about a channel; `begin` if nobody works on one.
fn join<T>(
    flights: &Flights<T>,
    channel: &ChannelName,
    begin: impl FnOnce(),
) -> oneshot::Receiver<Result<T, StateError>> {
    let (sender, answer) = oneshot::channel();
    let mut flights = lock(flights);
    let is_first = !flights.contains_key(channel);
    flights.entry(channel.clone()).or_default().push(sender);
    drop(flights);
    if is_first {
        begin();
    }
    answer
}

/// Those who have come since the last answer; nobody: the work on the channel ends.
fn board<T>(
    flights: &Flights<T>,
    channel: &ChannelName,
) -> Option<Vec<oneshot::Sender<Result<T, StateError>>>> {
    let mut flights = lock(flights);
    let waiting = flights.get_mut(channel).map(std::mem::take);
    let waiting = waiting.filter(|waiting| !waiting.is_empty());
    if waiting.is_none() {
        flights.remove(channel);
    }
    waiting
}

/// Nothing panics while one of these locks is held, so a poisoned one holds whole data.
fn lock<K: Eq + Hash, V>(mutex: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
