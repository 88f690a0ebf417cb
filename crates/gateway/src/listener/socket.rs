//! A socket of HTTP's, and a handle to it for those behind HTTP who have to know how it is.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use fanfare_engine::hub::socket;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A socket that HTTP reads and writes.
#[derive(Debug)]
pub(crate) struct Socket {
    // Dropped first: after that the handle knows no descriptor.
    _owner: Owner,
    stream: TcpStream,
}

/// Knows a socket for as long as it is open. Given to each request in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held while it is used, so that it is never another socket's.
    descriptor: Mutex<Option<RawFd>>,
    has_seen_request: AtomicBool,
    peer: Option<SocketAddr>,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, Handle) {
        let shared = Arc::new(Shared {
            descriptor: Mutex::new(Some(stream.as_raw_fd())),
            has_seen_request: AtomicBool::new(false),
            peer: stream.peer_addr().ok(),
        });
        let socket = Self {
            _owner: Owner(Arc::clone(&shared)),
            stream,
        };
        (socket, Handle(shared))
    }

    /// The bare socket; the handle no longer knows it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl Handle {
    /// Bytes that the peer has not taken yet, if that can be known.
    pub(crate) fn untaken(&self) -> Option<u64> {
        self.with_descriptor(socket::unacknowledged_bytes)?
    }

    /// Ends the socket without keeping what the peer has not taken.
    pub(crate) fn abort(&self) {
        self.with_descriptor(socket::abort);
    }

    /// Where the connection comes from.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    pub(super) fn note_request(&self) {
        self.0.has_seen_request.store(true, Relaxed);
    }

    pub(super) fn has_seen_request(&self) -> bool {
        self.0.has_seen_request.load(Relaxed)
    }

    fn with_descriptor<T>(&self, use_it: impl FnOnce(RawFd) -> T) -> Option<T> {
        let descriptor = self
            .0
            .descriptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        descriptor.map(use_it)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let descriptor = self.0.descriptor.lock();
        *descriptor.unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
