//! Requests without sticky sessions: one for a session of another node is passed on to it, and its answer back.
//!
//! The id of a session names its node. Nodes say in their records where they are reached. Should a node be gone, or
//! nobody know where it is, the client is told that its session is unknown: it connects again, and recovers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{self, Body},
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use fanfare_engine::Engine;
use futures_util::future::join_all;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tracing::debug;
use uuid::Uuid;

/// Requests that are passed on at the same time, for each gateway; each poll is one for as long as it waits.
const FORWARDS_MAX: usize = 10_000;
/// How long another node may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long a request that is passed on may take as a whole, beyond the time that it may wait.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long another node may take to answer a question of this one.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);
/// How long what the records say is believed.
const RECORDS_AGE: Duration = Duration::from_millis(500);
/// Bytes of a node's id in the ids of its sessions.
const TAG_BYTES: usize = 9;
/// The same in characters.
const TAG_CHARS: usize = TAG_BYTES / 3 * 4;
/// Bytes of chance in an id.
const ID_BYTES: usize = 15;
/// Says that a request was passed on already: it is not passed on again.
const FORWARDED: HeaderName = HeaderName::from_static("x-fanfare-forwarded");

/// Why a request was not answered by another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotForwarded {
    /// The session is of no node that is known, or does not answer.
    Unknown,
    /// Too many are under way.
    Busy,
}

/// The other nodes.
pub(crate) struct Peers {
    engine: Arc<Engine>,
    own: Box<str>,
    known: Mutex<Known>,
    under_way: Semaphore,
    patience: Duration,
}

struct Known {
    addresses: HashMap<Box<str>, Box<str>>,
    read_at: Option<Instant>,
}

/// What counts of a node's record.
#[derive(Deserialize)]
struct Record {
    uid: String,
    address: Option<String>,
}

impl Peers {
    /// The nodes beside the one with this id. A request may be made to `wait` where it is answered.
    pub(crate) fn new(engine: Arc<Engine>, own: Uuid, wait: Duration) -> Self {
        Self {
            engine,
            own: tag(own).into(),
            known: Mutex::new(Known {
                addresses: HashMap::new(),
                read_at: None,
            }),
            under_way: Semaphore::new(FORWARDS_MAX),
            patience: wait + ANSWER_PATIENCE,
        }
    }

    /// An id for a session of this node, which nobody guesses.
    pub(crate) fn new_sid(&self) -> String {
        format!("{}{}", self.own, random_id())
    }

    /// Whether a session would be of another node.
    pub(crate) fn is_foreign(&self, sid: &str) -> bool {
        sid.get(..TAG_CHARS).is_some_and(|tag| tag != &*self.own)
    }

    /// Passes a request on to the node of its session.
    pub(crate) async fn forward(
        &self,
        sid: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, NotForwarded> {
        if is_forwarded(request.headers()) {
            return Err(NotForwarded::Unknown);
        }
        let address = self.address(sid).ok_or(NotForwarded::Unknown)?;
        let permit = self.under_way.try_acquire();
        let _permit = permit.map_err(|_| NotForwarded::Busy)?;
        let answer = timeout(self.patience, send(&address, request)).await;
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                debug!(%error, %address, "another node does not answer");
                Err(NotForwarded::Unknown)
            }
            Err(_) => Err(NotForwarded::Unknown),
        }
    }

    /// Asks every other node that is alive the same, all at once. For each its answer; `None` if there is none that could be used.
    pub(crate) async fn ask_all(
        &self,
        ask: impl Fn() -> Option<Request<Body>>,
        bytes_max: usize,
    ) -> Vec<Option<Bytes>> {
        let others = self.read().into_iter().filter(|it| it.uid != self.own);
        let asked = others.map(|other| {
            let request = ask();
            async move {
                let (address, mut request) = (other.address?, request?);
                let host = HeaderValue::from_str(&address).ok()?;
                request.headers_mut().insert(header::HOST, host);
                let asking = async {
                    let response = send(&address, request).await.ok()?;
                    let whole = body::to_bytes(response.into_body(), bytes_max).await;
                    whole.ok()
                };
                timeout(QUESTION_PATIENCE, asking).await.ok()?
            }
        });
        join_all(asked).await
    }

    /// Where the node of a session is reached.
    fn address(&self, sid: &str) -> Option<Box<str>> {
        let tag = sid.get(..TAG_CHARS)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.read_at.is_none_or(|at| at.elapsed() > RECORDS_AGE) {
            let nodes = self.read().into_iter();
            let known_address = |node: Node| Some((node.uid, node.address?));
            known.addresses = nodes.filter_map(known_address).collect();
            known.read_at = Some(Instant::now());
        }
        known.addresses.get(tag).cloned()
    }

    /// The nodes that are alive, this one included.
    fn read(&self) -> Vec<Node> {
        let nodes = self.engine.nodes();
        let records = nodes
            .iter()
            .filter_map(|node| serde_json::from_slice::<Record>(&node.about).ok());
        let known = records.filter_map(|record| {
            let address = record.address.as_deref();
            let authority = address.and_then(|address| address.strip_prefix("http://"));
            let uid = Uuid::parse_str(&record.uid).ok()?;
            Some(Node {
                uid: tag(uid).into(),
                address: authority.map(Into::into),
            })
        });
        known.collect()
    }
}

/// A node that is alive.
struct Node {
    /// What the ids of its sessions begin with.
    uid: Box<str>,
    /// Where it is reached, if it says so.
    address: Option<Box<str>>,
}

/// Whether another node has passed a request on, or asks.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(&FORWARDED)
}

/// An id that nobody guesses: 20 characters that need no escaping anywhere.
pub(crate) fn random_id() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; ID_BYTES]>())
}

fn tag(uid: Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&uid.as_bytes()[..TAG_BYTES])
}

async fn send(address: &str, mut request: Request<Body>) -> Result<Response<Body>, Failed> {
    let socket = timeout(CONNECT_PATIENCE, TcpStream::connect(address));
    let socket = socket.await.map_err(|_| Failed::Timeout)??;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // It ends with the answer, or when nobody waits for that any more.
    tokio::spawn(connection);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(Into::into).unwrap_or_default();
    let headers = request.headers_mut();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE] {
        headers.remove(name);
    }
    // Each poll has a connection of its own: were one kept, a client that gives up would not be noticed.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(FORWARDED, HeaderValue::from_static("1"));
    let response = sender.send_request(request).await?;
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(head, Body::new(body)))
}

/// Why another node did not answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it did not answer in time")]
    Timeout,
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_node_is_a_whole_number_of_characters() {
        let uid = Uuid::from_bytes([0xff; 16]);
        assert_eq!(tag(uid).len(), TAG_CHARS);
    }
}
