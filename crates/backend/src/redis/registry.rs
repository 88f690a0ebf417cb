//! Which channels this node wants to hear, and what is still to be told to Redis about it.
//!
//! Callers change the wish; the subscriber compares and tells. Memory is bounded by the channels that are wanted or were
//! lately: a channel stands at most once in the changes, however often it flips. No IO in here.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fanfare_wire::ChannelName;
use tokio::sync::{Notify, oneshot};

/// The wishes of one node.
#[derive(Debug, Default)]
pub(super) struct Registry {
    wishes: Mutex<Wishes>,
    /// Rung when there are changes; only the subscriber waits for it.
    news: Notify,
}

/// What Redis must be told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) subscribe: Vec<ChannelName>,
    pub(super) unsubscribe: Vec<ChannelName>,
    /// Whoever waits for `subscribe` to be confirmed; dropped if the path breaks before.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Wishes {
    wanted: HashSet<ChannelName>,
    /// Wanted or not wanted any more since Redis was last told.
    changed: HashSet<ChannelName>,
    waiters: Vec<oneshot::Sender<()>>,
    /// The path is up: changes are told at once.
    open: bool,
}

impl Registry {
    /// Wants channels. Resolves when Redis has confirmed; `None` if the path is not up, which will do it later.
    pub(super) fn want(&self, channels: Vec<ChannelName>) -> Option<oneshot::Receiver<()>> {
        let mut wishes = self.lock();
        for channel in channels {
            wishes.wanted.insert(channel.clone());
            wishes.changed.insert(channel);
        }
        if !wishes.open {
            return None;
        }
        let (waiter, confirmed) = oneshot::channel();
        wishes.waiters.push(waiter);
        drop(wishes);
        self.news.notify_one();
        Some(confirmed)
    }

    /// No longer wants channels.
    pub(super) fn unwant(&self, channels: Vec<ChannelName>) {
        let mut wishes = self.lock();
        for channel in channels {
            if wishes.wanted.remove(&channel) {
                wishes.changed.insert(channel);
            }
        }
        drop(wishes);
        self.news.notify_one();
    }

    /// A new connection that knows nothing yet: everything that it must be told.
    pub(super) fn begin(&self) -> Vec<ChannelName> {
        let mut wishes = self.lock();
        wishes.changed.clear();
        wishes.wanted.iter().cloned().collect()
    }

    /// Declares the path up if Redis has been told everything; otherwise gives what came in the meantime.
    pub(super) fn open(&self) -> Option<Changes> {
        let mut wishes = self.lock();
        if wishes.changed.is_empty() {
            wishes.open = true;
            return None;
        }
        Some(wishes.take())
    }

    /// The path is down: who waits is told so.
    pub(super) fn close(&self) {
        let mut wishes = self.lock();
        wishes.open = false;
        wishes.waiters.clear();
    }

    /// Waits for changes.
    pub(super) async fn changes(&self) -> Changes {
        loop {
            {
                let mut wishes = self.lock();
                if !wishes.changed.is_empty() || !wishes.waiters.is_empty() {
                    return wishes.take();
                }
            }
            self.news.notified().await;
        }
    }

    /// Nothing panics while this lock is held, so a poisoned one holds whole data.
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wishes {
    fn take(&mut self) -> Changes {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let (subscribe, unsubscribe) = changed.partition(|channel| self.wanted.contains(channel));
        Changes {
            subscribe,
            unsubscribe,
            waiters: std::mem::take(&mut self.waiters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn wishes_made_before_the_path_is_up_are_kept() {
        let registry = Registry::default();
        assert!(registry.want(vec![channel("a"), channel("b")]).is_none());
        registry.unwant(vec![channel("b"), channel("never")]);
        assert_eq!(registry.begin(), [channel("a")]);
        assert!(registry.want(vec![channel("c")]).is_none());
        let changes = registry.open().unwrap();
        assert_eq!(changes.subscribe, [channel("c")]);
        assert!(changes.unsubscribe.is_empty());
        assert!(registry.open().is_none());
        assert!(registry.want(vec![channel("d")]).is_some());
    }

    #[tokio::test]
    async fn a_channel_that_flips_is_told_once_as_it_is_last() {
        let registry = Registry::default();
        assert!(registry.open().is_none());
        let first = registry.want(vec![channel("a")]);
        registry.unwant(vec![channel("a")]);
        let second = registry.want(vec![channel("a")]);
        let changes = registry.changes().await;
        assert_eq!(changes.subscribe, [channel("a")]);
        assert!(changes.unsubscribe.is_empty());
        assert_eq!(changes.waiters.len(), 2);
        for waiter in changes.waiters {
            waiter.send(()).unwrap();
        }
        first.unwrap().await.unwrap();
        second.unwrap().await.unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_learns_that_the_path_broke() {
        let registry = Registry::default();
        assert!(registry.open().is_none());
        let waiting = registry.want(vec![channel("a")]).unwrap();
        registry.close();
        assert!(waiting.await.is_err());
        assert!(registry.want(vec![channel("b")]).is_none());
    }
}
