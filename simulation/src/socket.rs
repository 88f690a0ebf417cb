//! A connection between a client and a node: bytes both ways, as many as it holds, in pieces of any size.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare_engine::{hub::Remote, simulation::Socket};
use tokio::sync::Notify;

use crate::dice::Dice;

/// A connection's two ends.
pub(crate) fn connect(dice: &Dice, capacity: u64, cut_short: f64) -> (NodeEnd, ClientEnd) {
    let wire = Arc::new(Wire {
        state: Mutex::default(),
        arrived: Notify::new(),
        dice: dice.clone(),
        // A machine of less than 64 bits could hold no more anyway.
        capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
        cut_short,
    });
    (NodeEnd(Arc::clone(&wire)), ClientEnd(wire))
}

/// The node's end. The connection breaks when it is dropped.
pub(crate) struct NodeEnd(Arc<Wire>);

/// The client's end. The connection breaks when it is dropped.
pub(crate) struct ClientEnd(Arc<Wire>);

struct Wire {
    state: Mutex<State>,
    arrived: Notify,
    dice: Dice,
    capacity: usize,
    cut_short: f64,
}

#[derive(Default)]
struct State {
    to_client: VecDeque<u8>,
    to_node: VecDeque<u8>,
    node_gone: bool,
    client_gone: bool,
    /// The node was told that there is no room.
    full: bool,
    remote: Option<Remote>,
}

impl ClientEnd {
    /// The next bytes; `None` when the node is gone.
    pub(crate) async fn read(&self) -> Option<Vec<u8>> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut state = self.0.state();
                if !state.to_client.is_empty() {
                    let most = state.to_client.len();
                    let length = match self.0.dice.chance(0.3) {
                        true => 1 + self.0.dice.index(most),
                        false => most,
                    };
                    let bytes = state.to_client.drain(..length).collect();
                    if std::mem::take(&mut state.full)
                        && let Some(remote) = &state.remote
                    {
                        remote.writable();
                    }
                    return Some(bytes);
                }
                if state.node_gone {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Sends bytes; it does not matter how many.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut state = self.0.state();
        state.to_node.extend(bytes);
        if let Some(remote) = &state.remote {
            remote.readable();
        }
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.client_gone = true;
        if let Some(remote) = state.remote.take() {
            remote.readable();
        }
    }
}

impl Socket for NodeEnd {
    fn bind(&mut self, remote: Remote) {
        let mut state = self.0.state();
        if !state.to_node.is_empty() || state.client_gone {
            remote.readable();
        }
        state.remote = Some(remote);
    }

    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut state = self.0.state();
        if state.client_gone {
            return None;
        }
        let room = self.0.capacity.saturating_sub(state.to_client.len());
        let mut length = room.min(bytes.len());
        if length > 1 && self.0.dice.chance(self.0.cut_short) {
            length = 1 + self.0.dice.index(length - 1);
        }
        state.to_client.extend(&bytes[..length]);
        state.full = length < bytes.len();
        self.0.arrived.notify_one();
        Some(length)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let mut state = self.0.state();
        if state.to_node.is_empty() {
            return state.client_gone.then_some(0);
        }
        let length = state.to_node.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(state.to_node.drain(..length)) {
            *to = from;
        }
        Some(length)
    }

    fn end(&mut self) -> bool {
        let mut state = self.0.state();
        state.node_gone = true;
        self.0.arrived.notify_one();
        !state.client_gone
    }
}

impl Drop for NodeEnd {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.node_gone = true;
        // A name for a connection that is gone would keep its node alive.
        state.remote = None;
        self.0.arrived.notify_one();
    }
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
