//! The pipe from a shard into the body of an HTTP response.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use fanfare_engine::hub::{Pipe, PipeClosed, PushError, Remote};
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::listener::Handle;

/// Chunks that may wait for HTTP to take them.
const PIPE_CHUNKS: usize = 4;

/// The hub's end of a response body.
pub(crate) struct BodyPipe {
    chunks: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    /// The socket that the body goes to.
    handle: Option<Handle>,
}

/// HTTP's end.
pub(crate) struct BodyStream {
    chunks: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    remote: OnceLock<Remote>,
    refused: AtomicBool,
}

pub(crate) fn pipe(handle: Option<Handle>) -> (BodyPipe, BodyStream) {
    let (sender, receiver) = mpsc::channel(PIPE_CHUNKS);
    let shared = Arc::new(Shared::default());
    (
        BodyPipe {
            chunks: sender,
            shared: Arc::clone(&shared),
            handle,
        },
        BodyStream {
            chunks: receiver,
            shared,
        },
    )
}

impl Pipe for BodyPipe {
    fn bind(&mut self, remote: Remote) {
        // Bound once.
        let _ = self.shared.remote.set(remote);
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), PushError> {
        let refused = |error| match error {
            mpsc::error::TrySendError::Full(chunk) => Ok(chunk),
            mpsc::error::TrySendError::Closed(_) => Err(PushError::Closed(PipeClosed)),
        };
        let Err(error) = self.chunks.try_send(chunk) else {
            return Ok(());
        };
        let chunk = refused(error)?;
        self.shared.refused.store(true, SeqCst);
        // HTTP may have emptied the pipe between the refusal and its note: then nobody would call.
        let Err(error) = self.chunks.try_send(chunk) else {
            self.shared.refused.store(false, SeqCst);
            return Ok(());
        };
        refused(error).and(Err(PushError::Full))
    }

    fn untaken(&self) -> Option<u64> {
        self.handle.as_ref()?.untaken()
    }

    fn abort(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.chunks.poll_recv(cx);
        if matches!(polled, Poll::Ready(Some(_)))
            && self.shared.refused.swap(false, SeqCst)
            && let Some(remote) = self.shared.remote.get()
        {
            remote.writable();
        }
        polled.map(|chunk| chunk.map(Ok))
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        if let Some(remote) = self.shared.remote.get() {
            remote.hangup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_refuses_and_a_dropped_one_is_closed() {
        let (mut pipe, body) = pipe(None);
        for _ in 0..PIPE_CHUNKS {
            assert_eq!(pipe.push(Bytes::from_static(b"x")), Ok(()));
        }
        assert_eq!(pipe.push(Bytes::from_static(b"x")), Err(PushError::Full));
        drop(body);
        assert_eq!(
            pipe.push(Bytes::from_static(b"x")),
            Err(PushError::Closed(PipeClosed))
        );
    }
}
