//! The thread of a proxy: one readiness loop over all of its connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::clock::{self, MILLISECOND};
use crate::link;
use crate::proxy::line::Tools;
use crate::proxy::pair::{Outcome, Pair, reset_on_close};
use crate::proxy::{Content, Counters, Faults, Order, Request};
use crate::random::Random;

/// Token of the waker.
pub(super) const WAKER: Token = Token(usize::MAX);

/// Token of the listener.
const LISTENER: Token = Token(usize::MAX - 1);

/// Connections at the same time; further ones are reset.
const CONNECTIONS_MAX: usize = 16_384;

/// Readiness events taken at once.
const EVENTS: usize = 1_024;

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// How long accepting pauses when the system has no descriptor left.
const ACCEPT_PAUSE: u64 = 10 * MILLISECOND;

/// Serves the connections of one proxy.
pub(super) struct Worker {
    poll: Poll,
    listener: TcpListener,
    /// Where connections go, in turn.
    servers: Vec<SocketAddr>,
    /// How many have gone.
    turn: usize,
    content: Content,
    orders: Receiver<Request>,
    counters: Arc<Counters>,
    faults: Faults,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// When to accept again after the system had no descriptor left: readiness is told once.
    accept_at: Option<u64>,
    /// When which pair is to be looked at.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    random: Random,
    scratch: Vec<u8>,
}

impl Worker {
    /// A worker that listens and has no connection yet.
    pub(super) fn new(
        poll: Poll,
        mut listener: TcpListener,
        to: SocketAddr,
        content: Content,
        orders: Receiver<Request>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            servers: vec![to],
            turn: 0,
            content,
            orders,
            counters,
            faults: Faults::default(),
            pairs: Vec::new(),
            free: Vec::new(),
            accept_at: None,
            timers: BinaryHeap::new(),
            random: Random::new(u64::from(to.port())),
            scratch: vec![0; link::SCRATCH_BYTES],
        })
    }

    /// Runs until told to finish.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            // Interrupted, or out of memory for a moment: what was missed is told again or found by a timer.
            let _ = self.poll.poll(&mut events, Some(self.wait()));
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.accept(),
                    _ => self.ready(event),
                }
            }
            if !self.take_orders() {
                return;
            }
            if self.accept_at.is_some_and(|at| at <= clock::now()) {
                self.accept();
            }
            self.serve_due();
        }
    }

    fn wait(&self) -> Duration {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        match timer.into_iter().chain(self.accept_at).min() {
            Some(at) => clock::between(clock::now(), at).min(TICK),
            None => TICK,
        }
    }

    /// Takes what has been ordered; `false` when this is the end.
    fn take_orders(&mut self) -> bool {
        loop {
            let request = match self.orders.try_recv() {
                Ok(request) => request,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            match request.order {
                Order::Set(faults) => {
                    self.faults = faults;
                    for pair in self.pairs.iter_mut().flatten() {
                        pair.begin_anew();
                    }
                    self.serve_all();
                }
                Order::ForwardTo(servers) => self.servers = servers,
                Order::ResetAll => {
                    for slot in 0..self.pairs.len() {
                        self.close(slot, true);
                    }
                }
                Order::Finish => return false,
            }
            // Whoever asked may have gone.
            let _ = request.done.send(());
        }
    }

    fn accept(&mut self) {
        self.accept_at = None;
        loop {
            match self.listener.accept() {
                Ok((client, _)) => {
                    self.counters.connections.fetch_add(1, Ordering::Relaxed);
                    if self.faults.refuse || self.open() >= CONNECTIONS_MAX {
                        reset_on_close(&client);
                        continue;
                    }
                    // A connection that cannot be forwarded is closed, as one whose server is gone.
                    let _ = self.forward(client);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.accept_at = Some(clock::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn forward(&mut self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let server = match self.connect() {
            Ok(server) => server,
            Err(error) => {
                reset_on_close(&client);
                return Err(error);
            }
        };
        let opens_at = clock::now() + self.faults.accept_delay.as_nanos() as u64;
        let mut pair = Pair::new(client, server, self.content, opens_at);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        for (side, stream) in pair.streams().into_iter().enumerate() {
            self.poll
                .registry()
                .register(stream, Token(2 * slot + side), both)
                .inspect_err(|_| self.free.push(slot))?;
        }
        self.pairs[slot] = Some(pair);
        self.count_open();
        self.serve(slot);
        Ok(())
    }

    /// Connects to the next server. Within a machine it is known at once that nobody listens there; then it is the turn of
    /// the one after.
    fn connect(&mut self) -> io::Result<TcpStream> {
        let mut refusal = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for _ in 0..self.servers.len() {
            let to = self.servers[self.turn % self.servers.len()];
            self.turn = self.turn.wrapping_add(1);
            let connected = link::connect(to, None).and_then(|server| match self.servers[..] {
                // Asking takes the error away from who reads.
                [_] => Ok(server),
                _ => server.take_error()?.map_or(Ok(server), Err),
            });
            match connected {
                Ok(server) => return Ok(server),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn ready(&mut self, event: &Event) {
        let (slot, of_client) = (event.token().0 / 2, event.token().0.is_multiple_of(2));
        let Some(Some(pair)) = self.pairs.get_mut(slot) else {
            return;
        };
        let ended = event.is_error() || event.is_read_closed() || event.is_write_closed();
        let readable = event.is_readable() || ended;
        pair.ready(of_client, readable, event.is_writable() || ended);
        self.serve(slot);
    }

    fn serve_due(&mut self) {
        let now = clock::now();
        while let Some(&Reverse((at, slot))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            if let Some(Some(pair)) = self.pairs.get_mut(slot)
                && pair.timer == Some(at)
            {
                pair.timer = None;
                self.serve(slot);
            }
        }
    }

    fn serve_all(&mut self) {
        for slot in 0..self.pairs.len() {
            self.serve(slot);
        }
    }

    fn serve(&mut self, slot: usize) {
        let Some(Some(pair)) = self.pairs.get_mut(slot) else {
            return;
        };
        let mut tools = Tools {
            random: &mut self.random,
            counters: &self.counters,
        };
        let now = clock::now();
        match pair.serve(now, &self.faults, &mut self.scratch, &mut tools) {
            Outcome::Open(Some(at)) if pair.timer.is_none_or(|timer| at < timer) => {
                pair.timer = Some(at);
                self.timers.push(Reverse((at, slot)));
            }
            Outcome::Open(_) => {}
            Outcome::Closed => self.close(slot, false),
            Outcome::Broken => self.close(slot, true),
        }
    }

    fn close(&mut self, slot: usize, reset: bool) {
        if let Some(pair) = self.pairs.get_mut(slot).and_then(Option::take) {
            if reset {
                pair.arm_reset();
            }
            drop(pair);
            self.free.push(slot);
            self.count_open();
        }
    }

    fn open(&self) -> usize {
        self.pairs.len() - self.free.len()
    }

    fn count_open(&self) {
        self.counters.open.store(self.open(), Ordering::Relaxed);
    }
}
