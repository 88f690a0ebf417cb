//! Buses that end in this process: [`LocalBus`] for a server that is alone, [`AbsentBus`] for one without
//! a path to the others, [`MemoryNetwork`] for tests and the
//! simulation, where several nodes live in one process and the path between them can be cut.
//!
//! Nothing here does IO.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use fanfare_wire::{ChannelName, News, hint::Hint};
use tokio::sync::Notify;

use crate::port::{BoxFuture, Bus, BusEvent, BusEvents, BusHealth};

/// Hints and news that may wait for one node of a [`MemoryNetwork`]. Hints that come on top are dropped and reported as a
/// gap, news are dropped.
pub const INBOX_HINTS_MAX: usize = 65_536;

/// The bus of a server without others: nobody to tell, nothing to hear, always well.
#[derive(Debug, Default, Clone, Copy)]
pub struct LocalBus;

impl Bus for LocalBus {
    fn start(&self, _: Arc<dyn BusEvents>) {}

    fn publish(&self, _: Vec<Hint>) {}

    fn tell(&self, _: News) {}

    fn subscribe(&self, _: Vec<ChannelName>) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn unsubscribe(&self, _: Vec<ChannelName>) {}

    fn health(&self) -> BusHealth {
        BusHealth::Local
    }
}

/// The bus of a server that shares its log with others but has no path to them: always down, so that the sweep of the
/// lane log delivers.
#[derive(Debug, Default, Clone, Copy)]
pub struct AbsentBus;

impl Bus for AbsentBus {
    fn start(&self, _: Arc<dyn BusEvents>) {}

    fn publish(&self, _: Vec<Hint>) {}

    fn tell(&self, _: News) {}

    fn subscribe(&self, _: Vec<ChannelName>) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    fn unsubscribe(&self, _: Vec<ChannelName>) {}

    fn health(&self) -> BusHealth {
        BusHealth::Down
    }
}

/// Several nodes in one process, joined by memory.
#[derive(Debug, Default, Clone)]
pub struct MemoryNetwork {
    network: Arc<Network>,
}

impl MemoryNetwork {
    /// A network without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. It leaves when its bus is dropped.
    #[must_use]
    pub fn join(&self) -> MemoryBus {
        let node = Arc::new(Node::default());
        let mut nodes = lock(&self.network.nodes);
        nodes.retain(|node| node.strong_count() > 0);
        nodes.push(Arc::downgrade(&node));
        MemoryBus {
            network: Arc::clone(&self.network),
            node,
        }
    }

    /// While `true`, every hint, and all news, are lost without a trace, as Redis Pub/Sub may lose it.
    pub fn lose_hints(&self, lose: bool) {
        self.network.losing.store(lose, Ordering::SeqCst);
    }
}

/// One node's end of a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryBus {
    network: Arc<Network>,
    node: Arc<Node>,
}

impl MemoryBus {
    /// Breaks this node's path: it hears nothing and is not heard. Reported as [`BusEvent::Down`].
    pub fn cut(&self) {
        self.node.set_cut(true, BusEvent::Down);
    }

    /// Ends a [`cut`](Self::cut). Reported as [`BusEvent::Up`].
    pub fn mend(&self) {
        self.node.set_cut(false, BusEvent::Up);
    }
}

impl Bus for MemoryBus {
    /// Delivers from a task of its own.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    fn start(&self, events: Arc<dyn BusEvents>) {
        if !self.node.is_cut() {
            self.node.report(BusEvent::Up);
        }
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            while let Some(event) = node.next().await {
                events.on_event(event);
            }
        });
    }

    fn publish(&self, hints: Vec<Hint>) {
        if self.node.is_cut() || self.network.losing.load(Ordering::SeqCst) {
            return;
        }
        let nodes: Vec<_> = lock(&self.network.nodes)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for node in nodes {
            node.offer(&hints);
        }
    }

    fn tell(&self, news: News) {
        if self.node.is_cut() || self.network.losing.load(Ordering::SeqCst) {
            return;
        }
        let nodes: Vec<_> = lock(&self.network.nodes)
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|node| !Arc::ptr_eq(node, &self.node))
            .collect();
        for node in nodes {
            node.offer_news(&news);
        }
    }

    fn subscribe(&self, channels: Vec<ChannelName>) -> BoxFuture<'_, bool> {
        let mut inbox = lock(&self.node.inbox);
        inbox.channels.extend(channels);
        let reached = !inbox.cut;
        Box::pin(async move { reached })
    }

    fn unsubscribe(&self, channels: Vec<ChannelName>) {
        let mut inbox = lock(&self.node.inbox);
        for channel in &channels {
            inbox.channels.remove(channel);
        }
    }

    fn health(&self) -> BusHealth {
        if self.node.is_cut() {
            BusHealth::Down
        } else {
            BusHealth::Up
        }
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        lock(&self.node.inbox).closed = true;
        self.node.news.notify_one();
    }
}

#[derive(Debug, Default)]
struct Network {
    nodes: Mutex<Vec<Weak<Node>>>,
    losing: AtomicBool,
}

#[derive(Debug, Default)]
struct Node {
    inbox: Mutex<Inbox>,
    /// Rung after every change of the inbox; only the delivering task waits for it.
    news: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    channels: HashSet<ChannelName>,
    /// Hints and news, at most [`INBOX_HINTS_MAX`], and the few other events, in the order of arrival.
    events: VecDeque<BusEvent>,
    /// Hints were dropped because the inbox was full.
    missed: bool,
    cut: bool,
    closed: bool,
}

impl Node {
    fn is_cut(&self) -> bool {
        lock(&self.inbox).cut
    }

    fn set_cut(&self, cut: bool, event: BusEvent) {
        let mut inbox = lock(&self.inbox);
        if inbox.cut != cut {
            inbox.cut = cut;
            inbox.events.push_back(event);
            self.news.notify_one();
        }
    }

    fn report(&self, event: BusEvent) {
        lock(&self.inbox).events.push_back(event);
        self.news.notify_one();
    }

    fn offer(&self, hints: &[Hint]) {
        let mut inbox = lock(&self.inbox);
        if inbox.cut {
            return;
        }
        for hint in hints {
            if !inbox.channels.contains(hint.run.channel()) {
                continue;
            }
            if inbox.events.len() < INBOX_HINTS_MAX {
                inbox.events.push_back(BusEvent::Hint(hint.clone()));
            } else {
                inbox.missed = true;
            }
        }
        self.news.notify_one();
    }

    fn offer_news(&self, news: &News) {
        let mut inbox = lock(&self.inbox);
        let has_room = inbox.events.len() < INBOX_HINTS_MAX;
        if !inbox.cut && has_room && inbox.channels.contains(&news.channel) {
            inbox.events.push_back(BusEvent::News(news.clone()));
            self.news.notify_one();
        }
    }

    /// The next event; `None` once the bus is gone.
    async fn next(&self) -> Option<BusEvent> {
        loop {
            {
                let mut inbox = lock(&self.inbox);
                if inbox.closed {
                    return None;
                }
                if std::mem::take(&mut inbox.missed) {
                    return Some(BusEvent::Gap);
                }
                if let Some(event) = inbox.events.pop_front() {
                    return Some(event);
                }
            }
            self.news.notified().await;
        }
    }
}

/// Nothing panics while one of these locks is held, so a poisoned one holds whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::testing::{channel, run};

    struct Outlet(mpsc::UnboundedSender<BusEvent>);

    impl BusEvents for Outlet {
        fn on_event(&self, event: BusEvent) {
            let _ = self.0.send(event);
        }
    }

    fn hint(number: u64) -> Hint {
        Hint {
            lane: 1,
            n: number,
            run: run([number]),
        }
    }

    #[tokio::test]
    async fn a_full_inbox_drops_and_says_so() {
        let network = MemoryNetwork::new();
        let bus = network.join();
        assert!(bus.subscribe(vec![channel("c")]).await);
        let too_many = INBOX_HINTS_MAX as u64 + 10;
        bus.publish((1..=too_many).map(hint).collect());
        let (sender, mut events) = mpsc::unbounded_channel();
        bus.start(Arc::new(Outlet(sender)));
        assert!(matches!(events.recv().await, Some(BusEvent::Gap)));
        for expected in 1..=INBOX_HINTS_MAX as u64 {
            let Some(BusEvent::Hint(hint)) = events.recv().await else {
                panic!("no hint {expected}")
            };
            assert_eq!(hint.n, expected);
        }
        assert!(matches!(events.recv().await, Some(BusEvent::Up)));
        drop(bus);
        assert!(events.recv().await.is_none(), "the task ends with its bus");
    }

    #[tokio::test]
    async fn lost_hints_leave_no_trace() {
        let network = MemoryNetwork::new();
        let (sender, mut events) = mpsc::unbounded_channel();
        let bus = network.join();
        bus.start(Arc::new(Outlet(sender)));
        assert!(bus.subscribe(vec![channel("c")]).await);
        network.lose_hints(true);
        bus.publish(vec![hint(1)]);
        network.lose_hints(false);
        bus.publish(vec![hint(2)]);
        assert!(matches!(events.recv().await, Some(BusEvent::Up)));
        assert!(matches!(events.recv().await, Some(BusEvent::Hint(hint)) if hint.n == 2));
    }

    #[tokio::test]
    async fn a_lonely_bus_is_always_well() {
        assert_eq!(LocalBus.health(), BusHealth::Local);
        assert!(LocalBus.subscribe(vec![channel("c")]).await);
    }
}

#[cfg(test)]
mod contract_tests {
    use super::*;
    use crate::contract::bus::{BusNetwork, check_all};

    /// The network of the contract: all nodes are cut and mended together.
    #[derive(Default)]
    struct Rig {
        network: MemoryNetwork,
        buses: Mutex<Vec<Arc<MemoryBus>>>,
    }

    impl BusNetwork for Rig {
        fn join(&self) -> Arc<dyn Bus> {
            let bus = Arc::new(self.network.join());
            lock(&self.buses).push(Arc::clone(&bus));
            bus
        }

        fn break_path(&self) -> BoxFuture<'_, ()> {
            lock(&self.buses).iter().for_each(|bus| bus.cut());
            Box::pin(async {})
        }

        fn mend_path(&self) -> BoxFuture<'_, ()> {
            lock(&self.buses).iter().for_each(|bus| bus.mend());
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        check_all(&Rig::default()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_keeps_the_contract_with_threads() {
        check_all(&Rig::default()).await;
    }
}
