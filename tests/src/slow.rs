//! A line between client and server over which the server's bytes can be let trickle, or not come at all.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Bytes read at once from the server.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of a trickle, and the pause after them: 200 kB a second at most.
const TRICKLE_BYTES: usize = 4 * 1024;
const TRICKLE_PAUSE: Duration = Duration::from_millis(20);

/// What the kernel may hold for a client that reads slowly, in bytes; asked for before connecting, so that the server's
/// side notices soon when something has been read.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

const OPEN: u8 = 0;
const TRICKLES: u8 = 1;
const SHUT: u8 = 2;

/// One line, for one connection.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    /// The port of its end at the server; 0 before it has one.
    port: Arc<AtomicU16>,
}

impl Line {
    /// Makes a line to a server. The first connection to [`address`](Self::address) goes over it.
    ///
    /// # Panics
    /// When no port can be had.
    #[track_caller]
    pub fn to(server: SocketAddr) -> Self {
        let listener = match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => listener,
            Err(error) => panic!("no port: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("no address: {error}"),
        };
        let state = Arc::new(AtomicU8::new(OPEN));
        let port = Arc::new(AtomicU16::new(0));
        let shared = (Arc::clone(&state), Arc::clone(&port));
        thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else {
                return;
            };
            let Ok(server) = connect(server) else {
                return;
            };
            let own = server.local_addr().map_or(0, |own| own.port());
            shared.1.store(own, Ordering::Relaxed);
            carry(&client, &server, &shared.0);
        });
        Self {
            address,
            state,
            port,
        }
    }

    /// Where the client connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the system still keeps the server's side of the line.
    ///
    /// # Panics
    /// When the system does not list its sockets.
    #[track_caller]
    pub fn is_kept_by(&self, server: SocketAddr) -> bool {
        let table = match std::fs::read_to_string("/proc/net/tcp") {
            Ok(table) => table,
            Err(error) => panic!("/proc/net/tcp: {error}"),
        };
        let end = |port: u16| format!(":{port:04X}");
        let (local, remote) = (end(server.port()), end(self.port.load(Ordering::Relaxed)));
        table.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let is = |column: Option<&str>, end: &str| column.is_some_and(|it| it.ends_with(end));
            is(columns.next(), &local) && is(columns.next(), &remote)
        })
    }

    /// The server's bytes come as they are.
    pub fn open(&self) {
        self.state.store(OPEN, Ordering::Relaxed);
    }

    /// They come slowly.
    pub fn trickle(&self) {
        self.state.store(TRICKLES, Ordering::Relaxed);
    }

    /// They do not come.
    pub fn shut(&self) {
        self.state.store(SHUT, Ordering::Relaxed);
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// Carries bytes both ways until one side ends.
fn carry(client: &TcpStream, server: &TcpStream, state: &AtomicU8) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut from, mut to) = (client, server);
            let mut buffer = vec![0; CHUNK_BYTES];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (server, client);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let bytes = match state.load(Ordering::Relaxed) {
                OPEN => CHUNK_BYTES,
                TRICKLES => {
                    thread::sleep(TRICKLE_PAUSE);
                    TRICKLE_BYTES
                }
                _ => {
                    thread::sleep(TRICKLE_PAUSE);
                    continue;
                }
            };
            match from.read(&mut buffer[..bytes]) {
                Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => {}
                _ => break,
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}
