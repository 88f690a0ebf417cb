//! One non-blocking WebSocket connection: a socket, what waits to be written, and what a read left unfinished.
//!
//! An idle link owns no buffer at all. It reads into a buffer that its thread shares between all links and keeps
//! only the piece of a frame that a read cut off.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::target::Target;
use crate::websocket::{self, MESSAGE_BYTES_MAX, Opcode, WebSocketError};

/// Size of the read buffer that the links of a thread share, in bytes.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

/// Why a link is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The other side closed the socket without a close frame.
    #[error("the server closed the socket")]
    Eof,
    /// The other side said goodbye.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// Close code.
        code: u16,
        /// Reason, as sent.
        reason: String,
    },
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side broke the WebSocket protocol.
    #[error("{0}")]
    WebSocket(#[from] WebSocketError),
    /// The other side broke the Centrifuge protocol, or refused what was asked.
    #[error("{0}")]
    Protocol(String),
    /// The other side was silent for too long.
    #[error("the server was silent for {0} s")]
    Silent(u64),
}

impl Ended {
    /// Whether the server said that coming back is of no use (Centrifuge codes 3500-3999 and 4500-4999).
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Closed { code: 3500..=3999 | 4500..=4999, .. })
    }
}

/// What happens with what a link receives.
pub(crate) trait Handler {
    /// The handshake is done; commands may be sent.
    fn opened(&mut self, out: &mut Outbox);

    /// Bytes were read; `now` is when (see [`crate::clock`]).
    fn read_at(&mut self, now: u64);

    /// Whether messages may be binary.
    fn takes_binary(&self) -> bool {
        false
    }

    /// One message: text, or bytes where they are taken.
    ///
    /// # Errors
    /// Whatever ends the connection.
    fn message(&mut self, text: &[u8], out: &mut Outbox) -> Result<(), Ended>;
}

/// What waits to be written to one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Appends one text frame.
    pub(crate) fn text(&mut self, payload: &[u8]) {
        websocket::encode(&mut self.bytes, Opcode::Text, payload);
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes still wait.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_not_ready(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.bytes.capacity() > SCRATCH_BYTES || self.bytes.capacity() <= 4096 {
            // Small ones belong to idle subscribers, and large ones were an exception.
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        self.written = 0;
        Ok(())
    }
}

/// A WebSocket connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    open: bool,
    /// What was read and is not yet whole: of the handshake, or of a frame.
    unfinished: Vec<u8>,
    /// Frames of a message whose last one is still to come.
    fragments: Option<Vec<u8>>,
    out: Outbox,
}

impl Link {
    /// Begins a connection to `path` below `target` from `source` (any when `None`), and registers it for everything.
    ///
    /// # Errors
    /// When the system has no socket or no port left.
    pub(crate) fn open(
        target: &Target,
        path: &str,
        source: Option<Ipv4Addr>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = connect(target.address, source)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut out = Outbox::default();
        let path = format!("{}{path}", target.base);
        out.raw(&websocket::handshake_request(&target.host, &path));
        Ok(Self {
            stream,
            open: false,
            unfinished: Vec::new(),
            fragments: None,
            out,
        })
    }

    /// Ends the connection without a word: the other side sees a reset.
    pub(crate) fn abort(self) {
        // A socket that refuses it is closed in the ordinary way, which is as good an end.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// What waits to be written; call [`Link::flush`] after adding to it.
    pub(crate) fn out(&mut self) -> &mut Outbox {
        &mut self.out
    }

    /// Writes what the socket takes; the rest goes with the next readiness.
    ///
    /// # Errors
    /// When the socket failed.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        if self.out.waiting() > 0 {
            self.out.flush(&mut self.stream)?;
        }
        Ok(())
    }

    /// Serves a readiness of the socket: reads all there is and writes what waits. `closing` is whether the readiness
    /// came with a hang-up; without it, a read that does not fill the buffer is known to have emptied the socket.
    ///
    /// # Errors
    /// Whatever ended the connection.
    pub(crate) fn ready<H: Handler>(
        &mut self,
        scratch: &mut [u8],
        closing: bool,
        handler: &mut H,
    ) -> Result<(), Ended> {
        self.flush()?;
        loop {
            let kept = self.unfinished.len();
            // A frame far larger than the buffer is gathered in the link's own memory.
            let large = kept > scratch.len() / 2;
            let room = if large { 0 } else { kept };
            scratch[..room].copy_from_slice(&self.unfinished[..room]);
            let count = match self.stream.read(&mut scratch[room..]) {
                Ok(0) => return Err(Ended::Eof),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_not_ready(&error) => break,
                Err(error) => return Err(error.into()),
            };
            handler.read_at(crate::clock::now());
            let mut unfinished = std::mem::take(&mut self.unfinished);
            if large {
                unfinished.extend_from_slice(&scratch[..count]);
                let used = self.take(&unfinished, handler)?;
                unfinished.drain(..used);
            } else {
                let used = self.take(&scratch[..room + count], handler)?;
                unfinished.clear();
                unfinished.extend_from_slice(&scratch[used..room + count]);
            }
            if !unfinished.is_empty() {
                self.unfinished = unfinished;
            }
            if count < scratch.len() - room && !closing {
                break;
            }
        }
        self.flush()
    }

    /// Takes whole frames from the beginning of `bytes` and returns how many bytes they were.
    fn take<H: Handler>(&mut self, bytes: &[u8], handler: &mut H) -> Result<usize, Ended> {
        let mut used = 0;
        if !self.open {
            match websocket::handshake_answer(bytes)? {
                Some(length) => used = length,
                None => return Ok(0),
            }
            self.open = true;
            handler.opened(&mut self.out);
        }
        while let Some((frame, length)) = websocket::decode(&bytes[used..])? {
            used += length;
            match frame.opcode {
                Opcode::Text if frame.last && self.fragments.is_none() => {
                    handler.message(frame.payload, &mut self.out)?;
                }
                Opcode::Binary if handler.takes_binary() => {
                    if !frame.last || self.fragments.is_some() {
                        return Err(WebSocketError::Frame("binary in fragments").into());
                    }
                    handler.message(frame.payload, &mut self.out)?;
                }
                Opcode::Text | Opcode::Continuation => self.fragment(&frame, handler)?,
                Opcode::Binary => {
                    return Err(WebSocketError::Frame("binary where text was agreed").into());
                }
                Opcode::Ping => websocket::encode(&mut self.out.bytes, Opcode::Pong, frame.payload),
                Opcode::Pong => {}
                Opcode::Close => {
                    let (code, reason) = websocket::close_reason(frame.payload);
                    return Err(Ended::Closed { code, reason });
                }
            }
        }
        Ok(used)
    }

    fn fragment<H: Handler>(
        &mut self,
        frame: &websocket::Frame<'_>,
        handler: &mut H,
    ) -> Result<(), Ended> {
        let mut gathered = match (self.fragments.take(), frame.opcode) {
            (None, Opcode::Text) => Vec::new(),
            (Some(gathered), Opcode::Continuation) => gathered,
            _ => return Err(WebSocketError::Frame("fragments out of order").into()),
        };
        let size = gathered.len() + frame.payload.len();
        if size > MESSAGE_BYTES_MAX {
            return Err(WebSocketError::TooLarge(size as u64).into());
        }
        gathered.extend_from_slice(frame.payload);
        if frame.last {
            handler.message(&gathered, &mut self.out)
        } else {
            self.fragments = Some(gathered);
            Ok(())
        }
    }
}

/// Begins a TCP connection without waiting for it.
pub(crate) fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        bind_without_port(&socket)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Lets the port be chosen at `connect`, when the destination is known: ports then only have to differ per destination.
fn bind_without_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the value is an int of the size that is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the socket has nothing now, or is not connected yet.
pub(crate) fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::target::WEBSOCKET_PATH;

    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[derive(Default)]
    struct Ear {
        opened: bool,
        heard: Vec<Vec<u8>>,
    }

    impl Handler for Ear {
        fn opened(&mut self, out: &mut Outbox) {
            self.opened = true;
            out.text(b"hello");
        }

        fn read_at(&mut self, _: u64) {}

        fn message(&mut self, text: &[u8], _: &mut Outbox) -> Result<(), Ended> {
            self.heard.push(text.to_vec());
            Ok(())
        }
    }

    fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(length as u8),
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    /// Lets a link read `bytes`, written `piece` at a time, until it ends.
    fn hear(bytes: Vec<u8>, piece: usize) -> (Ear, Ended) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for chunk in bytes.chunks(piece) {
                stream.write_all(chunk).unwrap();
                thread::yield_now();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut sent = Vec::new();
            // Whoever has gone with something unread resets the connection; what came before counts.
            let _ = stream.read_to_end(&mut sent);
            sent
        });
        let mut poll = Poll::new().unwrap();
        let target = Target::parse("--url", &url).unwrap();
        let mut link =
            Link::open(&target, WEBSOCKET_PATH, None, poll.registry(), Token(0)).unwrap();
        let mut ear = Ear::default();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut events = Events::with_capacity(8);
        let ended = 'served: loop {
            poll.poll(&mut events, Some(Duration::from_secs(60)))
                .unwrap();
            assert!(!events.is_empty(), "nothing for a minute");
            for event in &events {
                let closing = event.is_read_closed();
                if let Err(ended) = link.ready(&mut scratch, closing, &mut ear) {
                    break 'served ended;
                }
            }
        };
        drop(link);
        let sent = server.join().unwrap();
        assert!(sent.starts_with(b"GET /connection/websocket HTTP/1.1\r\n"));
        (ear, ended)
    }

    #[test]
    fn messages_are_the_same_in_whatever_pieces_they_come() {
        let large = vec![b'l'; 3 * SCRATCH_BYTES];
        let mut bytes = ANSWER.as_bytes().to_vec();
        bytes.extend(plain(0x81, b"one"));
        bytes.extend(plain(0x89, b"ping"));
        bytes.extend(plain(0x01, b"tw"));
        bytes.extend(plain(0x8A, b""));
        bytes.extend(plain(0x80, b"o"));
        bytes.extend(plain(0x81, &large));
        bytes.extend(plain(0x81, b"three"));
        for piece in [1_000, 4_099, SCRATCH_BYTES, usize::MAX] {
            let (ear, ended) = hear(bytes.clone(), piece);
            assert!(ear.opened && matches!(ended, Ended::Eof), "{ended}");
            let heard: Vec<&[u8]> = ear.heard.iter().map(Vec::as_slice).collect();
            let expected: [&[u8]; 4] = [b"one", b"two", &large, b"three"];
            assert!(
                heard == expected,
                "in pieces of {piece}: {} messages",
                heard.len()
            );
        }
        let (ear, _) = hear(bytes[..ANSWER.len() + 25].to_vec(), 1);
        assert_eq!(ear.heard, [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn the_end_says_why() {
        let goodbye = [ANSWER.as_bytes(), &plain(0x88, b"\x0d\xacbad request")].concat();
        let (_, ended) = hear(goodbye, usize::MAX);
        assert!(ended.is_final(), "{ended}");
        assert_eq!(ended.to_string(), "closed by the server: 3500 bad request");
        let refused = b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec();
        let (ear, ended) = hear(refused, usize::MAX);
        assert!(!ear.opened && !ended.is_final());
        assert!(ended.to_string().contains("503"), "{ended}");
    }
}
