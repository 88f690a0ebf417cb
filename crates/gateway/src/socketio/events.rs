//! What clients send, and how it is answered.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use fanfare_wire::{
    Json,
    socketio::{self, ATTACHMENTS_MAX},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::app::{ASKS_MAX, EmitError, Op, Shared};

/// Events of one client that may wait for its app. When there are more, its connection is not read.
pub const EVENTS_MAX: usize = 32;
/// Events of one client whose acknowledgement its app owes. When there are more, its connection is not read.
pub const ACKS_MAX: usize = 256;

/// The events of one client, in their order.
pub struct Events {
    // Boxed, because a queue makes room for many at once.
    receiver: mpsc::Receiver<Box<Incoming>>,
    shared: Arc<Shared>,
}

/// An event from a client.
#[derive(Debug)]
pub struct Incoming {
    /// Its name.
    pub event: String,
    /// Its arguments, as they came: valid JSON, at most [`ARGS_MAX`](socketio::ARGS_MAX). `{"_placeholder":true,"num":0}`
    /// stands for the first attachment.
    pub args: Vec<Box<RawValue>>,
    /// Its binary attachments, at most [`ATTACHMENTS_MAX`].
    pub attachments: Vec<Bytes>,
    /// The client waits for an acknowledgement.
    pub ack: Option<Ack>,
}

/// An acknowledgement that a client waits for. Dropped, it is never given.
pub struct Ack {
    shared: Arc<Shared>,
    id: u64,
}

/// What a client acknowledged an event with.
#[derive(Debug)]
pub struct Answer {
    /// The arguments.
    pub args: Vec<Box<RawValue>>,
    /// Its binary attachments.
    pub attachments: Vec<Bytes>,
}

/// Arguments for an event or an acknowledgement.
#[derive(Debug, Clone, Default)]
pub struct Args {
    /// With commas between them.
    json: Vec<u8>,
    attachments: Vec<Bytes>,
}

/// Why an argument cannot be read.
#[derive(Debug, Error)]
pub enum ArgError {
    /// There are fewer.
    #[error("argument {0} is missing")]
    Missing(usize),
    /// It is another thing.
    #[error("argument {0}: {1}")]
    Invalid(usize, serde_json::Error),
}

// === impl Events ===

impl Events {
    /// The next event; `None` when the client is gone.
    pub async fn recv(&mut self) -> Option<Incoming> {
        let incoming = self.receiver.recv().await;
        self.shared.has_room();
        incoming.map(|incoming| *incoming)
    }

    pub(super) fn new(shared: Arc<Shared>) -> (mpsc::Sender<Box<Incoming>>, Self) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        (sender, Self { receiver, shared })
    }
}

// === impl Incoming ===

impl Incoming {
    /// An argument, counted from 0, as a type of the app's.
    ///
    /// # Errors
    /// [`ArgError`].
    pub fn arg<T: DeserializeOwned>(&self, at: usize) -> Result<T, ArgError> {
        let raw = self.args.get(at).ok_or(ArgError::Missing(at))?;
        serde_json::from_str(raw.get()).map_err(|error| ArgError::Invalid(at, error))
    }
}

// === impl Ack ===

impl Ack {
    pub(super) fn new(shared: Arc<Shared>, id: u64) -> Self {
        shared.acks_owed.fetch_add(1, SeqCst);
        Self { shared, id }
    }

    /// Gives it.
    ///
    /// # Errors
    /// [`EmitError`].
    pub fn send(self, args: Args) -> Result<(), EmitError> {
        if !args.fits() {
            return Err(EmitError::Unfit);
        }
        let mut frames = Vec::new();
        let namespace = &self.shared.namespace;
        socketio::put_ack(
            namespace,
            self.id,
            args.json(),
            args.attachments(),
            &mut frames,
        );
        self.shared.write(frames)
    }

    /// The same; a client that takes too little to be given it is sent away, and does not wait in vain.
    pub(super) fn send_or_part(self, args: Args) {
        let shared = Arc::clone(&self.shared);
        if self.send(args) == Err(EmitError::Full) {
            shared.post(Op::Reconnect);
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.shared.acks_owed.fetch_sub(1, SeqCst);
        self.shared.has_room();
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ack({})", self.id)
    }
}

// === impl Args ===

impl Args {
    /// No arguments.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One argument. What cannot be JSON, a map with keys that are no text for one, becomes `null`.
    #[must_use]
    pub fn one(value: &impl Serialize) -> Self {
        Self::none().with(value)
    }

    /// The same and another argument.
    #[must_use]
    pub fn with(mut self, value: &impl Serialize) -> Self {
        self.separate();
        let start = self.json.len();
        if serde_json::to_writer(&mut self.json, value).is_err() {
            self.json.truncate(start);
            self.json.extend_from_slice(b"null");
        }
        self
    }

    /// The same and another argument.
    #[must_use]
    pub fn with_json(mut self, json: &Json) -> Self {
        self.separate();
        self.json.extend_from_slice(json.as_bytes());
        self
    }

    /// The same with binary attachments, for which the arguments have a `{"_placeholder":true,"num":0}` each. At most
    /// [`ATTACHMENTS_MAX`].
    #[must_use]
    pub fn with_attachments(mut self, attachments: Vec<Bytes>) -> Self {
        self.attachments = attachments;
        self
    }

    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    pub(super) fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    pub(super) fn fits(&self) -> bool {
        self.attachments.len() <= ATTACHMENTS_MAX
    }

    fn separate(&mut self) {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
    }
}

impl From<Vec<Box<RawValue>>> for Args {
    fn from(values: Vec<Box<RawValue>>) -> Self {
        let mut args = Self::none();
        for value in values {
            args.separate();
            args.json.extend_from_slice(value.get().as_bytes());
        }
        args
    }
}

// === Asks ===

/// Events that wait for the client's acknowledgement.
pub(super) struct Asks {
    /// Begins anywhere: a client may still answer what it was asked in a connection before.
    next: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Default for Asks {
    fn default() -> Self {
        Self {
            // Clients read numbers as floats: these stay far below 2^53.
            next: AtomicU64::new(rand::random::<u32>().into()),
            open: Mutex::default(),
        }
    }
}

impl Asks {
    pub(super) fn add(&self, sender: oneshot::Sender<Answer>) -> Option<u64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= ASKS_MAX {
            return None;
        }
        let id = self.next.fetch_add(1, SeqCst);
        open.insert(id, sender);
        Some(id)
    }

    /// The one with this number, which is no longer waited for.
    pub(super) fn take(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }

    /// The client is gone: nobody answers any more.
    pub(super) fn end(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clear();
    }
}
