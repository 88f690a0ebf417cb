//! A TCP proxy that stands between two parts and does to their connections what networks do: it delays, slows, holds,
//! cuts and resets them, in both directions or in one.
//!
//! It runs in one thread of this process and listens on a loopback port, so it needs no privilege and no kernel module.
//! What it cannot imitate is said here once: a new connection through a black hole is opened by the kernel and then gets no
//! answer, where a real one would not open at all; and bytes are held, never lost, as TCP would send them again.
//!
//! In front of Redis it can also read the protocol and drop, repeat or reorder single messages of Pub/Sub
//! ([`PushFaults`]), which no fault below TCP can do.

mod command;
mod faults;
mod line;
mod pair;
mod resp;
mod worker;

pub use self::command::{Direction, ProxyArgs};
pub use self::faults::{Faults, PathFaults, PushFaults};

pub(crate) use self::command::run;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use mio::net::TcpListener;
use mio::{Poll, Waker};

use crate::local::{LocalError, free_address};
use crate::proxy::worker::Worker;

/// A running proxy; it ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: Sender<Request>,
    waker: Arc<Waker>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What passes the connections of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Bytes that mean nothing to it.
    Bytes,
    /// The answers of a Redis, so that [`PushFaults`] can be applied.
    Redis,
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Connections taken.
    pub connections: u64,
    /// Connections open now.
    pub open: usize,
    /// Messages of Pub/Sub that were dropped.
    pub dropped: u64,
    /// Messages of Pub/Sub that were sent twice.
    pub repeated: u64,
    /// Messages of Pub/Sub that were put off behind later ones.
    pub reordered: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicUsize,
    dropped: AtomicU64,
    repeated: AtomicU64,
    reordered: AtomicU64,
}

/// What the thread is told, and where it confirms that it was done.
struct Request {
    order: Order,
    done: Sender<()>,
}

enum Order {
    Set(Faults),
    ForwardTo(Vec<SocketAddr>),
    ResetAll,
    Finish,
}

impl Proxy {
    /// Starts one on a free loopback port, without any fault.
    ///
    /// # Errors
    /// [`LocalError::Io`] when the system has no port, socket or thread for it.
    pub fn start(to: SocketAddr, content: Content) -> Result<Self, LocalError> {
        Self::start_at(free_address()?, to, content)
    }

    /// Starts one on the address `listen`, without any fault.
    ///
    /// # Errors
    /// [`LocalError::Io`] when the address is taken, or the system has no socket or thread for it.
    pub fn start_at(
        listen: SocketAddr,
        to: SocketAddr,
        content: Content,
    ) -> Result<Self, LocalError> {
        let fail = |source| LocalError::io(format!("start a proxy on {listen}"), source);
        let listener = TcpListener::bind(listen).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let poll = Poll::new().map_err(fail)?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::WAKER).map_err(fail)?);
        let counters = Arc::new(Counters::default());
        let (orders, receiver): (_, Receiver<Request>) = mpsc::channel();
        let worker = Worker::new(poll, listener, to, content, receiver, Arc::clone(&counters))
            .map_err(fail)?;
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || worker.run())
            .map_err(fail)?;
        Ok(Self {
            address,
            orders,
            waker,
            counters,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts `faults` in the place of those before, for the open connections too; in force when it returns.
    pub fn set(&self, faults: Faults) {
        self.tell(Order::Set(faults));
    }

    /// Takes all faults away. What was held goes on.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Sends connections that are opened from now on to another server.
    pub fn forward_to(&self, to: SocketAddr) {
        self.tell(Order::ForwardTo(vec![to]));
    }

    /// Sends connections that are opened from now on to several servers in turn, past those that refuse them.
    pub fn spread_over(&self, servers: &[SocketAddr]) {
        self.tell(Order::ForwardTo(servers.to_vec()));
    }

    /// Resets all open connections, both sides at once.
    pub fn reset_all(&self) {
        self.tell(Order::ResetAll);
    }

    /// What went through it so far.
    pub fn passed(&self) -> Passed {
        let counters = &self.counters;
        Passed {
            connections: counters.connections.load(Ordering::Relaxed),
            open: counters.open.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            repeated: counters.repeated.load(Ordering::Relaxed),
            reordered: counters.reordered.load(Ordering::Relaxed),
        }
    }

    fn tell(&self, order: Order) {
        let (done, confirmed) = mpsc::channel();
        // A thread that has ended has no connection left to do anything to.
        if self.orders.send(Request { order, done }).is_ok() && self.waker.wake().is_ok() {
            let _ = confirmed.recv();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tell(Order::Finish);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
