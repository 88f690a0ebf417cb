//! Links between nodes in one process, for tests. What is forwarded is taken at once, unless the way is blocked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare_wire::Draft;

use crate::port::{
    BoxFuture, NodeRecord,
    peers::{Line, Link, Members, NotTaken, PeerId, Peers, Taken, Taker},
};

/// The links between some nodes.
#[derive(Clone, Default)]
pub struct MemoryLinks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    joined: u128,
    nodes: BTreeMap<PeerId, Node>,
    /// By who forwards and who takes.
    lines: BTreeMap<(PeerId, PeerId), (u64, Arc<Line>)>,
    opened: u64,
}

#[derive(Default)]
struct Node {
    taker: Option<Arc<dyn Taker>>,
    closed: bool,
    /// Nothing reaches it, and nobody is told.
    blocked: bool,
}

/// One node's end of the links.
pub struct MemoryPeers {
    links: MemoryLinks,
    own: PeerId,
}

impl MemoryLinks {
    /// Links between nodes that are still to join.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The end of another node. The first has the id 1.
    #[must_use]
    pub fn join(&self) -> MemoryPeers {
        let mut state = self.state();
        state.joined += 1;
        let own = PeerId(state.joined);
        state.nodes.insert(own, Node::default());
        let links = self.clone();
        MemoryPeers { links, own }
    }

    /// Lets nothing reach a node any more, without telling anybody, or lets it be reached again, over new links.
    pub fn block(&self, node: PeerId, blocked: bool) {
        let mut state = self.state();
        if let Some(node) = state.nodes.get_mut(&node) {
            node.blocked = blocked;
        }
        state.lines.retain(|(_, to), _| *to != node);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryPeers {
    /// Which node this is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.own
    }
}

impl Peers for MemoryPeers {
    fn start(&self, taker: Arc<dyn Taker>) {
        if let Some(node) = self.links.state().nodes.get_mut(&self.own) {
            node.taker = Some(taker);
        }
    }

    fn meet(&self, _nodes: &[NodeRecord]) -> Members {
        let state = self.links.state();
        let others = state.nodes.iter().filter(|(id, node)| {
            let takes = node.taker.is_some() && !node.closed;
            takes && **id != self.own
        });
        Members {
            own: self.own,
            others: others.map(|(id, _)| *id).collect(),
        }
    }

    fn link(&self, to: PeerId) -> Link {
        let mut state = self.links.state();
        let own_closed = state.nodes.get(&self.own).is_none_or(|node| node.closed);
        let takes = |node: &Node| node.taker.is_some() && !node.closed;
        if own_closed || !state.nodes.get(&to).is_some_and(takes) {
            return Link::Down;
        }
        let between = (self.own, to);
        let open = |(number, line): &(u64, Arc<Line>)| (!line.is_broken()).then_some(*number);
        if let Some(number) = state.lines.get(&between).and_then(open) {
            return Link::Open(number);
        }
        state.opened += 1;
        let number = state.opened;
        let line = Arc::new(Line::new(self.own));
        state.lines.insert(between, (number, line));
        Link::Open(number)
    }

    fn forward(
        &self,
        to: PeerId,
        over: u64,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        let state = self.links.state();
        let line = state.lines.get(&(self.own, to));
        let line = line.filter(|(number, _)| *number == over);
        let line = line.map(|(_, line)| Arc::clone(line));
        let node = state.nodes.get(&to).filter(|node| !node.closed);
        match (line, node) {
            (_, Some(node)) if node.blocked => Box::pin(std::future::pending()),
            (
                Some(line),
                Some(Node {
                    taker: Some(taker), ..
                }),
            ) if !line.is_broken() => {
                let taker = Arc::clone(taker);
                drop(state);
                taker.take(&line, drafts)
            }
            _ => Box::pin(async { Err(NotTaken("there is no link".to_owned())) }),
        }
    }

    fn close(&self) {
        let mut state = self.links.state();
        if let Some(node) = state.nodes.get_mut(&self.own) {
            node.closed = true;
        }
        let own = self.own;
        state.lines.retain(|(from, to), (_, line)| {
            let is_its = *from == own || *to == own;
            if is_its {
                line.break_off();
            }
            !is_its
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[tokio::test]
    async fn the_links_keep_the_contract() {
        let links = MemoryLinks::new();
        let (one, two) = (Arc::new(links.join()), Arc::new(links.join()));
        contract::peers::run(one, two, &[]).await;
    }
}
