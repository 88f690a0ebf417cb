//! Many event streams in one thread, each of which comes back by itself as `EventSource` does: after the time that the server
//! said, with the last id, here to another node each time. What comes is stamped with its time and passed on unread.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::error::BenchError;
use crate::link;
use crate::mail::stream::{Item, Reader};

/// Where a client reads its events.
const PATH: &str = "/mail/events";

/// Token of the waker.
const WAKER: Token = Token(usize::MAX);

/// Readiness events taken at once.
const EVENTS: usize = 1_024;

/// Between two looks at the clients that wait.
const TICK: Duration = Duration::from_millis(20);

/// When a client comes back if the server did not say.
const RETRY: u64 = SECOND;

/// When it comes back after a node did not even take its connection.
const RETRY_REFUSED: u64 = 200 * MILLISECOND;

/// A stream that says nothing for so long, no heartbeat either, is given up.
const SILENCE: u64 = 45 * SECOND;

/// Where a client begins.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// Its number.
    pub(crate) client: usize,
    /// The node that it begins at.
    pub(crate) node: usize,
    /// What goes into the header `Cookie`.
    pub(crate) cookie: String,
    /// Where it reads on from.
    pub(crate) event_id: String,
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Whose.
    pub(crate) client: usize,
    /// When; see [`crate::clock`].
    pub(crate) at: u64,
    /// What.
    pub(crate) what: What,
}

/// What can be seen.
#[derive(Debug)]
pub(crate) enum What {
    /// An event.
    Event {
        /// Its name.
        name: String,
        /// Its id.
        id: Option<String>,
        /// Its data.
        data: String,
    },
    /// The stream is gone; the client will be back.
    Lost,
    /// The server does not want this client; it will not be back.
    Refused(String),
}

/// The thread of the streams; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    orders: Sender<Seat>,
    waker: Waker,
    seen: Receiver<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Starts a thread for clients of `nodes`.
    ///
    /// # Errors
    /// When the system has no thread or no poll left.
    pub(crate) fn start(nodes: Vec<SocketAddr>) -> Result<Self, BenchError> {
        let fail = |source| BenchError::system("start the thread of the event streams", source);
        let poll = Poll::new().map_err(fail)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(fail)?;
        let (orders, inbox) = mpsc::channel();
        let (outbox, seen) = mpsc::channel();
        let worker = Worker {
            poll,
            nodes,
            clients: Vec::new(),
            orders: inbox,
            seen: outbox,
            items: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("streams".to_owned())
            .spawn(move || worker.run())
            .map_err(fail)?;
        Ok(Self {
            orders,
            waker,
            seen,
            thread: Some(thread),
        })
    }

    /// Adds a client; they are added in the order of their numbers.
    pub(crate) fn open(&self, seat: Seat) {
        // A thread that has ended is noticed by what is not seen.
        let _ = self.orders.send(seat);
        let _ = self.waker.wake();
    }

    /// What was seen since the last time, waiting for it no longer than `wait`.
    pub(crate) fn seen(&self, wait: Duration) -> impl Iterator<Item = Seen> + '_ {
        let first = self.seen.recv_timeout(wait).ok();
        first.into_iter().chain(self.seen.try_iter())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Without anybody who gives orders the thread ends.
        self.orders = mpsc::channel().0;
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    poll: Poll,
    nodes: Vec<SocketAddr>,
    clients: Vec<Client>,
    orders: Receiver<Seat>,
    seen: Sender<Seen>,
    items: Vec<Item>,
}

struct Client {
    seat: Seat,
    state: State,
    /// What the server said last about when to come back.
    retry: u64,
}

enum State {
    /// From then on it may try again.
    Waiting(u64),
    Open(Open),
    Over,
}

struct Open {
    socket: TcpStream,
    request: Vec<u8>,
    written: usize,
    reader: Reader,
    /// A head has come.
    answered: bool,
    heard: u64,
}

/// How a connection ended.
enum End {
    /// The client comes back after so many nanoseconds.
    Back(u64),
    /// It does not.
    Refused(String),
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut scratch = vec![0; link::SCRATCH_BYTES];
        loop {
            // Interrupted, or out of memory for a moment: the next round finds what was missed.
            let _ = self.poll.poll(&mut events, Some(TICK));
            for event in &events {
                if event.token() != WAKER {
                    self.serve(event.token().0, &mut scratch);
                }
            }
            loop {
                match self.orders.try_recv() {
                    Ok(seat) => self.clients.push(Client {
                        seat,
                        state: State::Waiting(0),
                        retry: RETRY,
                    }),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.look_around();
        }
    }

    /// Opens what is due, and gives up what is silent.
    fn look_around(&mut self) {
        let now = clock::now();
        for slot in 0..self.clients.len() {
            match &self.clients[slot].state {
                State::Waiting(until) if *until <= now => self.connect(slot, now),
                State::Open(open) if open.heard + SILENCE < now => {
                    let retry = self.clients[slot].retry;
                    self.end(slot, End::Back(retry));
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, slot: usize, now: u64) {
        let seat = &self.clients[slot].seat;
        let address = self.nodes[seat.node % self.nodes.len()];
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\nCache-Control: no-store\r\n\
             Cookie: {}\r\nLast-Event-ID: {}\r\n\r\n",
            seat.cookie, seat.event_id
        );
        let both = Interest::READABLE | Interest::WRITABLE;
        let opened = link::connect(address, None).and_then(|mut socket| {
            let registry = self.poll.registry();
            registry.register(&mut socket, Token(slot), both)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                self.clients[slot].state = State::Open(Open {
                    socket,
                    request: request.into_bytes(),
                    written: 0,
                    reader: Reader::default(),
                    answered: false,
                    heard: now,
                });
            }
            Err(_) => self.end(slot, End::Back(RETRY_REFUSED)),
        }
    }

    fn serve(&mut self, slot: usize, scratch: &mut [u8]) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let State::Open(open) = &mut client.state else {
            return;
        };
        let mut failed = open.write().is_err();
        while !failed {
            match open.socket.read(scratch) {
                Ok(0) => failed = true,
                Ok(count) => {
                    open.heard = clock::now();
                    failed = open
                        .reader
                        .feed(&scratch[..count], &mut self.items)
                        .is_err();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if link::is_not_ready(&error) => break,
                Err(_) => failed = true,
            }
        }
        let end = self.take_items(slot);
        match end {
            Some(end) => self.end(slot, end),
            None if failed => {
                let client = &self.clients[slot];
                let answered = matches!(&client.state, State::Open(open) if open.answered);
                let wait = if answered {
                    client.retry
                } else {
                    RETRY_REFUSED
                };
                self.end(slot, End::Back(wait));
            }
            None => {}
        }
    }

    /// Passes on what was read; the end, if the server's answer is one.
    fn take_items(&mut self, slot: usize) -> Option<End> {
        let client = &mut self.clients[slot];
        let at = clock::now();
        let mut end = None;
        for item in self.items.drain(..) {
            match item {
                Item::Head {
                    status: 200,
                    event_stream: true,
                } => {
                    if let State::Open(open) = &mut client.state {
                        open.answered = true;
                    }
                }
                Item::Head {
                    status: 429 | 500..,
                    ..
                } => end = Some(End::Back(client.retry)),
                Item::Head { status, .. } => {
                    end = Some(End::Refused(format!("status {status}")));
                }
                Item::Retry(ms) => client.retry = ms.saturating_mul(MILLISECOND),
                Item::Id(id) => client.seat.event_id = id,
                Item::Event { name, id, data } => {
                    let client = client.seat.client;
                    let what = What::Event { name, id, data };
                    // Nobody looks any more: the next round ends the thread.
                    let _ = self.seen.send(Seen { client, at, what });
                }
            }
        }
        end
    }

    fn end(&mut self, slot: usize, end: End) {
        let client = &mut self.clients[slot];
        let now = clock::now();
        let was_open = matches!(&client.state, State::Open(open) if open.answered);
        let what = match end {
            End::Back(wait) => {
                client.state = State::Waiting(now + wait);
                // Somewhere else the next time.
                client.seat.node += 1;
                was_open.then_some(What::Lost)
            }
            End::Refused(why) => {
                client.state = State::Over;
                Some(What::Refused(why))
            }
        };
        if let Some(what) = what {
            let client = client.seat.client;
            let _ = self.seen.send(Seen {
                client,
                at: now,
                what,
            });
        }
    }
}

impl Open {
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.socket.write(&self.request[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if link::is_not_ready(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection with the next of `answers`; what it is asked comes out of the channel.
    fn server(answers: Vec<&'static str>) -> (SocketAddr, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, requests) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let reader = io::BufReader::new(stream.try_clone().unwrap());
                let lines = reader.lines().map(Result::unwrap);
                let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                stream.write_all(answer.as_bytes()).unwrap();
                asked.send(request.join("\n")).unwrap();
            }
        });
        (address, requests)
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

    fn until(fleet: &Fleet, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut all = Vec::new();
        let begun = clock::now();
        while !enough(&all) {
            assert!(
                clock::between(begun, clock::now()).as_secs() < 60,
                "{all:?}"
            );
            all.extend(fleet.seen(Duration::from_millis(50)));
        }
        all
    }

    #[test]
    fn a_client_comes_back_to_another_node_from_where_it_was() {
        let first = format!("{HEAD}retry: 1\nid: l-0.7\nevent: a\ndata: {{}}\n\n");
        let (one, asked_one) = server(vec![Box::leak(first.into_boxed_str())]);
        let refusal = "HTTP/1.1 401 Unauthorized\r\n\r\n";
        let (two, asked_two) = server(vec!["HTTP/1.1 503 Busy\r\n\r\n", refusal]);
        let gone = crate::local::free_address().unwrap();
        let fleet = Fleet::start(vec![one, gone, two]).unwrap();
        fleet.open(Seat {
            client: 3,
            node: 0,
            cookie: "c=1".to_owned(),
            event_id: "l-0.6".to_owned(),
        });
        let is_event = |seen: &Seen| matches!(&seen.what, What::Event { name, .. } if name == "a");
        let mut seen = until(&fleet, |all| all.len() >= 2);
        assert!(is_event(&seen[0]) && matches!(seen[1].what, What::Lost));
        assert!(seen.iter().all(|seen| seen.client == 3 && seen.at > 0));
        let request = asked_one.recv().unwrap();
        assert!(
            request.starts_with("GET /mail/events HTTP/1.1\n"),
            "{request}"
        );
        assert!(
            request.contains("Cookie: c=1\nLast-Event-ID: l-0.6"),
            "{request}"
        );
        let request = asked_two.recv().unwrap();
        assert!(request.contains("Last-Event-ID: l-0.7"), "{request}");
        // After 503 it comes back: to nobody at the first two, then to the third again.
        seen = until(&fleet, |all| !all.is_empty());
        assert!(
            matches!(&seen[0].what, What::Refused(why) if why == "status 401"),
            "{seen:?}"
        );
        drop(fleet);
    }
}
