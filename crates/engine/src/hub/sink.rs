//! Where a connection's bytes go: a socket, or a pipe into somebody else's (an HTTP response body, a simulation).

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::fd::AsRawFd,
};

use bytes::Bytes;
use mio::net::TcpStream;

use super::{inbox::Remote, socket};

/// Where a connection's bytes go.
pub enum Sink {
    /// A non-blocking socket that the shard reads and writes itself.
    Socket(TcpStream),
    /// A pipe that somebody else empties. Nothing is read from it.
    Pipe(Box<dyn Pipe>),
    /// The socket of a simulation.
    #[cfg(any(test, feature = "simulation"))]
    Simulated(Box<dyn crate::simulation::Socket>),
}

/// A bounded pipe of chunks that somebody else empties.
pub trait Pipe: Send + 'static {
    /// Tells the pipe whom to inform: it calls [`Remote::writable`] once there is room after a push was refused, and
    /// [`Remote::hangup`] when the other end is gone.
    fn bind(&mut self, remote: Remote);

    /// Takes a chunk, or nothing of it.
    ///
    /// # Errors
    /// [`PushError`]: no room now, or no other end any more.
    fn push(&mut self, chunk: Bytes) -> Result<(), PushError>;

    /// The connection goes on over another sink: gives back what was pushed and nobody has taken, in order, and ends.
    fn take_back(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// How many bytes the socket behind the pipe holds that its peer has not taken, if that is known. Less than before,
    /// while the pipe is full, means that the peer takes something.
    fn untaken(&self) -> Option<u64> {
        None
    }

    /// The peer takes nothing, and the connection is over: drop what is in the pipe and end the socket behind it.
    fn abort(&mut self) {}
}

/// Why a pipe took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError {
    /// There is no room now.
    Full,
    /// The other end is gone.
    Closed(PipeClosed),
}

/// The other end of a pipe is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeClosed;

/// Bytes that one lagging connection is given before others have their turn.
const SOCKET_BYTES_MAX: usize = 128 << 10;
/// Bytes of one chunk for a pipe, which keeps what it is given until somebody takes it; or a single longer frame.
const PIPE_BYTES_MAX: usize = 32 << 10;

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All bytes.
    All,
    /// So many bytes, and no more for now.
    Partly(usize),
    /// The peer is gone.
    Gone,
}

impl Sink {
    /// A socket that the shard will own. It is made non-blocking and told not to wait for more bytes.
    ///
    /// # Errors
    /// If the operating system refuses either.
    pub fn socket(socket: std::net::TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self::Socket(TcpStream::from_std(socket)))
    }

    /// How many bytes a connection is given at once when it catches up; a single frame may be longer.
    pub(crate) fn bytes_max(&self) -> usize {
        match self {
            Self::Pipe(_) => PIPE_BYTES_MAX,
            _ => SOCKET_BYTES_MAX,
        }
    }

    /// Whether it takes so many bytes of news at once without keeping more of them than it should.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        match self {
            Self::Pipe(_) => bytes <= PIPE_BYTES_MAX,
            _ => true,
        }
    }

    /// Writes as much of `bytes` as fits. `shared` gives the same bytes by reference, for pipes.
    pub(crate) fn write(&mut self, bytes: &[u8], shared: impl FnOnce() -> Bytes) -> Written {
        match self {
            Self::Socket(socket) => write_socket(socket, bytes),
            Self::Pipe(pipe) => match pipe.push(shared()) {
                Ok(()) => Written::All,
                Err(PushError::Full) => Written::Partly(0),
                Err(PushError::Closed(PipeClosed)) => Written::Gone,
            },
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => match socket.write(bytes) {
                Some(length) if length == bytes.len() => Written::All,
                Some(length) => Written::Partly(length),
                None => Written::Gone,
            },
        }
    }

    /// Says that nothing more will be written. Returns whether the peer can still be waited for.
    pub(crate) fn end(&mut self) -> bool {
        match self {
            Self::Socket(socket) => socket.shutdown(Shutdown::Write).is_ok(),
            Self::Pipe(_) => false,
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.end(),
        }
    }

    /// How many bytes the peer has not taken yet; 0 where that cannot be known.
    pub(crate) fn untaken(&self) -> u64 {
        let known = match self {
            Self::Socket(socket) => socket::unacknowledged_bytes(socket.as_raw_fd()),
            Self::Pipe(pipe) => pipe.untaken(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => None,
        };
        known.unwrap_or(0)
    }

    /// Ends it without keeping what the peer has not taken.
    pub(crate) fn abort(&mut self) {
        match self {
            Self::Socket(socket) => socket::abort(socket.as_raw_fd()),
            Self::Pipe(pipe) => pipe.abort(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => {}
        }
    }

    /// Reads into `buffer`: `None` when there is nothing now, 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let socket = match self {
            Self::Socket(socket) => socket,
            Self::Pipe(_) => return Ok(None),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => return Ok(socket.read(buffer)),
        };
        loop {
            match socket.read(buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn write_socket(socket: &mut TcpStream, bytes: &[u8]) -> Written {
    loop {
        match socket.write(bytes) {
            Ok(length) if length == bytes.len() => return Written::All,
            // A short write means a full buffer: the next one would say so, at the price of a system call.
            Ok(length) => return Written::Partly(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Written::Partly(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Written::Gone,
        }
    }
}
