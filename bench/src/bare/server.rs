//! The one thread: accept, read, and after each round of readiness one pass over every channel that has news.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bare::args::BareArgs;
use crate::bare::door::{Channels, Connection};
use crate::bare::feed::{Counts, Feed};
use crate::bare::wire::{self, Publish};
use crate::error::BenchError;

/// Token of the listener.
const LISTENER: Token = Token(usize::MAX);

/// What the line that tells the address begins with, as that of `fanfare serve` does.
pub(super) const READY_LINE: &str = "listening on http://";

/// Connections that may wait to be accepted: a pass takes its time, and nobody should have to knock twice.
const BACKLOG: i32 = 4_096;

/// Readiness events taken at once.
const EVENTS: usize = 1_024;

/// Channels that are kept; who publishes to more is answered, and nobody hears of it.
const CHANNELS_MAX: usize = 100_000;

/// Runs until it is killed. Says on standard output where it listens, in the words of `fanfare serve`.
///
/// # Errors
/// When it cannot listen, or not wait for readiness.
pub(crate) fn run(args: &BareArgs) -> Result<(), BenchError> {
    let mut server = Server::listen(args.listen)
        .map_err(|source| BenchError::system("listen for the yardstick", source))?;
    let address = server
        .listener
        .local_addr()
        .map_err(|source| BenchError::system("learn where the yardstick listens", source))?;
    let mut out = io::stdout();
    // Whoever started it may not read.
    let _ = writeln!(out, "{READY_LINE}{address}").and_then(|()| out.flush());
    server
        .serve()
        .map_err(|source| BenchError::system("wait for readiness", source))
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Places of `connections` that are free.
    free: Vec<usize>,
    hall: Hall,
}

/// The channels.
#[derive(Debug, Default)]
struct Hall {
    names: HashMap<String, usize>,
    feeds: Vec<Feed>,
    /// Channels with something new since their last pass.
    fresh: Vec<usize>,
    counts: Counts,
}

impl Server {
    fn listen(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            hall: Hall::default(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                } else {
                    self.ready(event.token().0, event.is_readable(), event.is_writable());
                }
            }
            for channel in std::mem::take(&mut self.hall.fresh) {
                let feed = &mut self.hall.feeds[channel];
                for token in feed.pass(&mut self.hall.counts, send) {
                    self.close(token);
                }
            }
        }
    }

    fn accept(&mut self) {
        // Ends with "would block", or with no descriptor left: then the next connection that ends makes room.
        while let Ok((stream, _)) = self.listener.accept() {
            // A socket that refuses it is slower, no more.
            let _ = stream.set_nodelay(true);
            self.enter(stream);
        }
    }

    fn enter(&mut self, mut stream: TcpStream) {
        let token = self.free.pop().unwrap_or(self.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self
            .poll
            .registry()
            .register(&mut stream, Token(token), interest)
            .is_err()
        {
            self.free
                .extend((token < self.connections.len()).then_some(token));
            return;
        }
        let connection = Some(Connection::new(stream));
        match self.connections.get_mut(token) {
            Some(place) => *place = connection,
            None => self.connections.push(connection),
        }
    }

    fn ready(&mut self, token: usize, readable: bool, writable: bool) {
        let Some(Some(connection)) = self.connections.get_mut(token) else {
            return;
        };
        let mut goes_on = true;
        if readable {
            let mut visitor = Visitor {
                socket: connection.stream.as_raw_fd(),
                token,
                seat: connection.seat,
                hall: &mut self.hall,
            };
            goes_on = connection.serve(&mut visitor);
            connection.seat = visitor.seat;
        }
        if goes_on
            && writable
            && let Some((channel, place)) = connection.seat
        {
            goes_on = self.hall.feeds[channel].resume(place, &mut self.hall.counts, send);
        }
        if !goes_on {
            self.close(token);
        }
    }

    fn close(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::take) else {
            return;
        };
        self.free.push(token);
        let Some((channel, place)) = connection.seat else {
            return;
        };
        // Whoever stood last stands in its place now.
        if let Some(moved) = self.hall.feeds[channel].leave(place)
            && let Some(Some(other)) = self.connections.get_mut(moved)
        {
            other.seat = Some((channel, place));
        }
    }
}

/// What one connection does with the channels.
struct Visitor<'a> {
    socket: RawFd,
    token: usize,
    seat: Option<(usize, usize)>,
    hall: &'a mut Hall,
}

impl Channels for Visitor<'_> {
    fn publish(&mut self, publish: &Publish<'_>) -> u64 {
        let time_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        self.hall.counts.publications += 1;
        let Some(channel) = self.hall.find(publish.channel) else {
            return 0;
        };
        let feed = &mut self.hall.feeds[channel];
        let is_first = feed.push(|out, offset| {
            wire::publication(out, publish.channel, publish.data, offset, time_ms);
        });
        if is_first {
            self.hall.fresh.push(channel);
        }
        self.hall.feeds[channel].head()
    }

    fn subscribe(&mut self, channel: &str) -> u64 {
        // One channel to a connection, as the generator has it.
        if self.seat.is_some() {
            return 0;
        }
        let Some(channel) = self.hall.find(channel) else {
            return 0;
        };
        let feed = &mut self.hall.feeds[channel];
        self.seat = Some((channel, feed.join(self.socket, self.token)));
        feed.head()
    }

    fn metrics(&self) -> String {
        let counts = &self.hall.counts;
        let mut text = String::new();
        for (name, value) in [
            ("publications", counts.publications),
            ("passes", counts.passes),
            ("writes", counts.writes),
            ("written_bytes", counts.written_bytes),
            ("deliveries", counts.deliveries),
            ("lagging", counts.lagging),
            ("dropped", counts.dropped),
        ] {
            // Writing to a string does not fail.
            let _ = writeln!(text, "bare_{name}_total {value}");
        }
        text
    }
}

impl Hall {
    /// The channel of a name, made when it is new; `None` when there are too many.
    fn find(&mut self, name: &str) -> Option<usize> {
        if let Some(&channel) = self.names.get(name) {
            return Some(channel);
        }
        if self.feeds.len() >= CHANNELS_MAX {
            return None;
        }
        self.feeds.push(Feed::default());
        self.names.insert(name.to_owned(), self.feeds.len() - 1);
        Some(self.feeds.len() - 1)
    }
}

/// One write to a socket.
fn send(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are valid for their length; the descriptor is of a member, whose socket is open. Nothing else is
    // touched by the call, which neither waits nor raises a signal.
    let count = unsafe {
        libc::send(
            socket,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
