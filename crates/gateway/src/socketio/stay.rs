//! One client's stay in a namespace, as its connection sees it.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use fanfare_wire::{Epoch, socketio};
use tokio::sync::{mpsc, oneshot};

use super::{
    app::{Client, JoinError, Joined, Op, Shared},
    channels::{Channels, Forms},
    events::Incoming,
};
use crate::forward::random_id;

/// Longest id of a session to come back to that is given out again, in bytes.
const PID_BYTES_MAX: usize = 64;

/// A client in a namespace, or at its door. It is gone when this is dropped.
pub(super) struct Stay {
    client: Client,
    events: mpsc::Sender<Box<Incoming>>,
    pub(super) channels: Channels,
    recovery: bool,
    /// `None` once it has entered.
    entering: Option<Entering>,
    /// The app waits for the channels of a client that came back.
    resuming: Option<Resuming>,
    /// Apps that wait for a channel which was joined, until the client can be told how far it has read.
    pub(super) joined: Vec<(oneshot::Sender<Result<Joined, JoinError>>, Joined)>,
    /// The client is to be told how far it has read.
    pub(super) owes_position: bool,
}

/// What a client brought.
pub(super) struct Entering {
    pub(super) pid: Option<String>,
    /// It carries something, which it would bring again.
    pub(super) had_offset: bool,
}

struct Resuming {
    expected: usize,
    joined: Vec<Joined>,
    reply: oneshot::Sender<Option<Vec<Joined>>>,
}

impl Stay {
    pub(super) fn new(
        forms: Forms,
        recovery: bool,
        client: Client,
        events: mpsc::Sender<Box<Incoming>>,
        entering: Entering,
    ) -> Self {
        let channels = Channels::new(&client.shared().namespace, forms, recovery);
        Self {
            client,
            events,
            channels,
            recovery,
            entering: Some(entering),
            resuming: None,
            joined: Vec::new(),
            owes_position: false,
        }
    }

    /// Which stay of the connection this is.
    pub(super) fn number(&self) -> u32 {
        self.shared().stay
    }

    pub(super) fn is_in(&self, namespace: &str) -> bool {
        self.namespace() == namespace
    }

    pub(super) fn namespace(&self) -> &str {
        &self.shared().namespace
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }

    pub(super) fn events(&self) -> &mpsc::Sender<Box<Incoming>> {
        &self.events
    }

    pub(super) fn has_entered(&self) -> bool {
        self.entering.is_none()
    }

    pub(super) fn parts(&mut self) -> (&str, &mut Channels) {
        (&self.client.shared().namespace, &mut self.channels)
    }

    /// Lets the client in: one that is `recovered` under the id that it brought. Returns whether it is to be put into
    /// `count` channels now, which the app waits for.
    pub(super) fn enter(
        &mut self,
        recovered: bool,
        count: usize,
        reply: oneshot::Sender<Option<Vec<Joined>>>,
        epoch: &Epoch,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(Entering { pid, had_offset }) = self.entering.take() else {
            return false;
        };
        let pid = match self.recovery {
            true => Some(pid.filter(|_| recovered).unwrap_or_else(random_id)),
            false => None,
        };
        socketio::put_connected(self.namespace(), self.client.id(), pid.as_deref(), out);
        if had_offset && !recovered {
            // What it carries is of no use any more; without this it would bring it again.
            self.channels.put_position(epoch, out);
        }
        self.resuming = Some(Resuming {
            expected: count,
            joined: Vec::new(),
            reply,
        });
        true
    }

    /// A client that came back is in one of its channels again.
    pub(super) fn resumed(&mut self, joined: Joined) {
        if let Some(resuming) = &mut self.resuming {
            resuming.joined.push(joined);
        }
    }

    /// Says what had to wait until it was known how far the client has read.
    pub(super) fn settle(&mut self, epoch: &Epoch, out: &mut Vec<u8>) {
        if !self.channels.is_settled() {
            return;
        }
        if std::mem::take(&mut self.owes_position) {
            self.channels.put_position(epoch, out);
        }
        for (reply, joined) in self.joined.drain(..) {
            // The app may have stopped waiting.
            let _ = reply.send(Ok(joined));
        }
        let is_complete = |it: &Resuming| it.joined.len() >= it.expected;
        if self.resuming.as_ref().is_some_and(is_complete)
            && let Some(Resuming { joined, reply, .. }) = self.resuming.take()
        {
            let _ = reply.send(Some(joined));
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let shared = self.shared();
        shared.gone.store(true, SeqCst);
        shared.asks.end();
    }
}

/// Tells the connection that the app's task has ended.
pub(super) struct Left {
    client: Client,
    /// What it counts by; gone before the connection is told, which may wait for that.
    task: Option<Arc<()>>,
}

impl Left {
    pub(super) fn new(client: Client, task: Arc<()>) -> Self {
        let task = Some(task);
        Self { client, task }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.task = None;
        self.client.shared().post(Op::Left);
    }
}

/// Whether a text from a client could be an id that was given out, and so needs no escaping.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=PID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}
