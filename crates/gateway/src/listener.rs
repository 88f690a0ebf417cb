//! The listener: sockets in, HTTP out, and an end in good order.
//!
//! Two things are looked after here that a plain accept loop leaves open. A client that does not send a whole request
//! head in time is cut off, so that trickled bytes hold no descriptor for long. And when the process has no descriptor
//! left, one is kept in reserve to refuse the next client with: it learns at once that it is not served, those who are
//! connected stay, and nothing spins.

mod socket;

use std::{
    convert::Infallible,
    fs::File,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Extensions, Request},
    response::Response,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

pub(crate) use socket::{Handle, Socket};

/// Where a request comes from; a proxy's address if there is one between. `None` if no [`serve`] has brought it.
#[must_use]
pub fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<Handle>().and_then(Handle::peer)
}

/// How long a client may take to send its first request head.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may be idle before its next request head is complete.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// At most one line of log about it in this time.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Serves `router` on `listener` until `stop` is complete. Then nobody else is accepted, requests under way may end
/// within `patience`, and what is left is dropped. Counts what could not be accepted in `accept_errors`.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    accept_errors: Arc<AtomicU64>,
    stop: impl Future<Output = ()>,
    patience: Duration,
) {
    let (ending, stopped) = watch::channel(());
    let accept = async {
        let mut reserve = Reserve::open();
        let mut errors = Errors::new(accept_errors);
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    tokio::spawn(connection(socket, router.clone(), stopped.clone()));
                }
                Err(error) => {
                    errors.count(&error);
                    if is_out_of_descriptors(&error) {
                        reserve.refuse_one(&mut listener).await;
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    drop(stopped);
    ending.send_replace(());
    if timeout(patience, ending.closed()).await.is_err() {
        warn!("some requests were still under way at the end");
    }
}

/// Serves one connection.
async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    // News on an event stream must not wait for the acknowledgement of the news before.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a socket that is gone already");
        return;
    }
    let (socket, handle) = Socket::new(stream);
    let router = TowerToHyperService::new(router);
    let seen = handle.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        seen.note_request();
        request.extensions_mut().insert(seen.clone());
        let response = router.call(request);
        async move { Ok::<Response<Body>, Infallible>(response.await.unwrap_or_else(|it| match it {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(HEAD_PATIENCE) => {
            if !handle.has_seen_request() {
                debug!("a client sent no request in time");
                return;
            }
            None
        }
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            None
        }
    };
    let ended = match ended {
        Some(ended) => ended,
        None => tokio::select! {
            ended = connection.as_mut() => ended,
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        },
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

/// Whether the process, or the whole system, can open nothing more.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A descriptor that is given up for a moment to refuse a client with.
struct Reserve(Option<File>);

impl Reserve {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Accepts one that waits, and closes it: it is told at once, instead of waiting in a queue that nobody empties.
    async fn refuse_one(&mut self, listener: &mut TcpListener) {
        if self.0.take().is_some() {
            // Whoever was first in the queue may have left it.
            let refused = timeout(ACCEPT_PAUSE, listener.accept()).await;
            drop(refused);
        }
        *self = Self::open();
    }
}

/// Counts what could not be accepted, and says so now and then.
struct Errors {
    count: Arc<AtomicU64>,
    warned_at: Option<std::time::Instant>,
}

impl Errors {
    fn new(count: Arc<AtomicU64>) -> Self {
        Self {
            count,
            warned_at: None,
        }
    }

    fn count(&mut self, error: &io::Error) {
        self.count.fetch_add(1, Relaxed);
        if self.warned_at.is_none_or(|at| at.elapsed() > WARN_INTERVAL) {
            self.warned_at = Some(std::time::Instant::now());
            warn!(%error, "a connection cannot be accepted; is the limit of open files too low?");
        }
    }
}
