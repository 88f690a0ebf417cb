//! The bus: hints and news between nodes. It may lose, delay and reorder anything, and repeat hints; a lost hint costs
//! latency only, and news are told now or never.

use std::sync::Arc;

use fanfare_wire::{ChannelName, News, hint::Hint};

use super::BoxFuture;

/// Node-to-node hints and news.
///
/// What the engine relies on, checked by `contract::bus`:
/// 1. Nothing here blocks or fails a publish: [`publish`](Bus::publish) only queues, and drops when its bounded queue
///    is full or the path is down. The sweep of the lane log brings what was dropped.
/// 2. After [`subscribe`](Bus::subscribe) has returned `true`, hints of these channels that are published afterwards
///    arrive unless the path breaks; and when it breaks, [`BusEvent::Down`] and later [`BusEvent::Up`] say so.
/// 3. Subscriptions survive reconnects: an implementation subscribes again to all of them before it reports `Up`.
/// 4. Events are given to the [`BusEvents`] one at a time, in the order of arrival.
/// 5. News that were told arrive at most once on a node, and not at all on the node that told them: it has delivered them itself.
pub trait Bus: Send + Sync + 'static {
    /// Starts to deliver events. Called once, before anything else.
    fn start(&self, events: Arc<dyn BusEvents>);

    /// Queues hints for all nodes that subscribe to their channels. A node may receive its own.
    fn publish(&self, hints: Vec<Hint>);

    /// Queues news for all other nodes that subscribe to their channel. Drops them when the path is down, or the queue full.
    fn tell(&self, news: News);

    /// Asks for the hints and news of some channels. Returns `true` once the other side has confirmed it, `false` if the path is
    /// down: the channels are remembered and asked for again when it is up. Idempotent.
    fn subscribe(&self, channels: Vec<ChannelName>) -> BoxFuture<'_, bool>;

    /// No longer asks for the hints and news of some channels. Idempotent, never waits.
    fn unsubscribe(&self, channels: Vec<ChannelName>);

    /// How the path is.
    fn health(&self) -> BusHealth;
}

/// Where a bus delivers what arrives. Called from the bus's own tasks; must not block.
pub trait BusEvents: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: BusEvent);
}

/// What a bus reports.
#[derive(Debug, Clone)]
pub enum BusEvent {
    /// A hint arrived.
    Hint(Hint),
    /// News arrived that another node told, or the shared state.
    News(News),
    /// Hints may have been lost since the last event, for any channel: sweep at once.
    Gap,
    /// The path is gone. Sweep fast until it is back.
    Down,
    /// The path works and every subscription is confirmed again. Implies a gap.
    Up,
}

/// How the path to the other nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusHealth {
    /// There are no other nodes: the bus ends in this process.
    Local,
    /// Hints travel.
    Up,
    /// Hints are lost; the sweep delivers instead.
    Down,
}
