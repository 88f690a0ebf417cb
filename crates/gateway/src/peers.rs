//! Links between nodes, over which drafts of contended channels go to the node that owns them: [`Peers`] over HTTP upgrades.
//!
//! | file | subject |
//! | --- | --- |
//! | `proof` | both ends prove that they have the secret of the database |
//! | `call` | a link that this node has opened |
//! | `accept` | a link that another node has opened |
//!
//! A node opens a link to another one when it first has drafts for it, and keeps it for as long as the other is alive. Nodes say in
//! their records in the database where they are reached and whether they own channels. Drafts go unencrypted, like everything
//! between nodes: the network between them is private, as it is for PostgreSQL and Redis.

mod accept;
mod call;
mod proof;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use bytes::Bytes;
use fanfare_engine::port::{
    BoxFuture, NodeRecord,
    peers::{Link, Members, NotTaken, PeerId, Peers, Taken, Taker},
};
use fanfare_wire::{Draft, forward::Frame};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Semaphore, mpsc, oneshot, watch},
};
use tracing::debug;
use uuid::Uuid;

use self::proof::Secret;

/// Where links come in.
pub const PATH: &str = "/internal/forward";
/// Links that other nodes may have opened to this one.
pub const LINKS_MAX: usize = 256;
/// Parcels that wait to be written to a link, or to be committed for it. The engine has fewer under way.
pub const PARCELS_MAX: usize = 64;
/// Longest frame, in bytes: a batch, or the longest message there is.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// How long a link may take to be opened, at either end.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);
/// How long a node that could not be called up is left alone.
const DOWN_FOR: Duration = Duration::from_secs(1);

/// The links of one node.
pub struct PeerLinks {
    inner: Arc<Inner>,
}

struct Inner {
    own: Uuid,
    secret: Secret,
    /// Where the other nodes are that were alive at the last heartbeat, and own channels.
    known: Mutex<BTreeMap<PeerId, Box<str>>>,
    calls: Mutex<BTreeMap<PeerId, Call>>,
    taker: OnceLock<Arc<dyn Taker>>,
    accepted: Semaphore,
    /// Links that this node has opened so far.
    opened: AtomicU64,
    closed: watch::Sender<bool>,
}

/// A link that this node has opened, or tried to.
enum Call {
    Opening,
    Open(u64, mpsc::Sender<Parcel>),
    Down(Instant),
}

/// What is to be sent, and who waits for its answer.
struct Parcel {
    drafts: Vec<Draft>,
    answer: oneshot::Sender<Result<Taken, NotTaken>>,
}

/// What counts of a node's record.
#[derive(Deserialize)]
struct Record {
    uid: String,
    address: Option<String>,
    #[serde(default)]
    owners: bool,
}

impl PeerLinks {
    /// The links of the node with this id. `secret` is known to the nodes of one database, and to nobody else.
    #[must_use]
    pub fn new(own: Uuid, secret: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(Inner {
                own,
                secret: Secret::new(secret),
                known: Mutex::default(),
                calls: Mutex::default(),
                taker: OnceLock::new(),
                accepted: Semaphore::new(LINKS_MAX),
                opened: AtomicU64::new(0),
                closed: watch::Sender::new(false),
            }),
        })
    }

    /// Where other nodes open their links.
    pub fn router(&self) -> Router {
        Router::new()
            .route(PATH, get(accept::upgrade))
            .with_state(Arc::clone(&self.inner))
    }
}

impl Peers for PeerLinks {
    fn start(&self, taker: Arc<dyn Taker>) {
        // Called once.
        let _ = self.inner.taker.set(taker);
    }

    fn meet(&self, nodes: &[NodeRecord]) -> Members {
        let own = id(self.inner.own);
        let records = nodes
            .iter()
            .filter_map(|node| serde_json::from_slice::<Record>(&node.about).ok());
        let alive: BTreeMap<PeerId, Box<str>> = records
            .filter(|record| record.owners)
            .filter_map(|record| {
                let uid = Uuid::parse_str(&record.uid).ok()?;
                let address = record.address.filter(|_| uid != self.inner.own)?;
                let authority = address.strip_prefix("http://")?;
                Some((id(uid), authority.into()))
            })
            .collect();
        // A link to a node that is gone ends when nothing can be sent to it any more.
        self.inner
            .calls()
            .retain(|peer, _| alive.contains_key(peer));
        let others = alive.keys().copied().collect();
        *self.inner.known() = alive;
        Members { own, others }
    }

    fn link(&self, to: PeerId) -> Link {
        let mut calls = self.inner.calls();
        match calls.get(&to) {
            Some(Call::Opening) => return Link::Opening,
            Some(Call::Open(number, sender)) if !sender.is_closed() => return Link::Open(*number),
            Some(Call::Down(since)) if since.elapsed() < DOWN_FOR => return Link::Down,
            _ => {}
        }
        let address = self.inner.known().get(&to).cloned();
        let Some(address) = address.filter(|_| !*self.inner.closed.borrow()) else {
            return Link::Down;
        };
        calls.insert(to, Call::Opening);
        tokio::spawn(call::run(Arc::downgrade(&self.inner), to, address));
        Link::Opening
    }

    fn forward(
        &self,
        to: PeerId,
        over: u64,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        let (answer, receiver) = oneshot::channel();
        let queued = match self.inner.calls().get(&to) {
            Some(Call::Open(number, sender)) if *number == over => {
                sender.try_send(Parcel { drafts, answer }).is_ok()
            }
            _ => false,
        };
        Box::pin(async move {
            if !queued {
                return Err(NotTaken("there is no link with room".to_owned()));
            }
            receiver.await.unwrap_or_else(|_| Err(ended()))
        })
    }

    fn close(&self) {
        self.inner.closed.send_replace(true);
        self.inner.calls().clear();
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<PeerId, Box<str>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<PeerId, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets how a call goes, if the node still exists and is still called.
fn set(inner: &Weak<Inner>, to: PeerId, call: Call) {
    if let Some(inner) = inner.upgrade()
        && let Some(current) = inner.calls().get_mut(&to)
    {
        *current = call;
    }
}

/// The number of a link that was just opened.
fn number(inner: &Weak<Inner>) -> u64 {
    let inner = inner.upgrade();
    inner.map_or(0, |inner| inner.opened.fetch_add(1, Relaxed) + 1)
}

fn id(uid: Uuid) -> PeerId {
    PeerId(uid.as_u128())
}

fn ended() -> NotTaken {
    NotTaken("the link has ended".to_owned())
}

/// Reads the next frame.
async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let length = reader.read_u32_le().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame that is too long"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Frame::decode(Bytes::from(bytes)).map_err(io::Error::other)
}

/// Notes why a link has ended.
fn note(with: PeerId, result: io::Result<()>) {
    if let Err(error) = result {
        debug!(%error, node = %Uuid::from_u128(with.0), "a link between nodes has ended");
    }
}

#[cfg(test)]
mod tests;
