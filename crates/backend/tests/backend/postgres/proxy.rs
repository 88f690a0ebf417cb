//! A wire between the log and its server that a test can cut at the worst moment.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Notify,
};

use super::pace::Pace;

/// Carries bytes both ways, until it is told otherwise.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What the server says is thrown away.
    deaf: AtomicBool,
    /// Counts the cuts: what is said to a connection of before one is thrown away, for it may not have heard of its end yet.
    cuts: AtomicU64,
    /// Ends all connections there are.
    cut: Notify,
}

impl Proxy {
    /// Stands in front of the server of a URL; gives the URL that leads through it.
    pub(super) async fn start(url: &str) -> (Self, String) {
        let (head, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let server: SocketAddr = server.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if let Ok(far) = TcpStream::connect(server).await {
                    tokio::spawn(carry(near, far, shared.clone()));
                }
            }
        });
        let proxy = Self { address, state };
        let url = format!("{head}@{}/{database}", proxy.address);
        (proxy, url)
    }

    /// From now on the server hears, but is not heard.
    pub(super) fn deafen(&self) {
        self.state.deaf.store(true, Ordering::SeqCst);
    }

    /// Cuts the connections there are; new ones work.
    pub(super) fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
        self.state.deaf.store(false, Ordering::SeqCst);
        self.state.cut.notify_waiters();
    }

    /// Cuts after each commit, or somewhat later, until the writers are done; gives how often.
    pub(super) async fn cut_again_and_again(self, mut pace: Pace) -> u64 {
        let mut cuts = 0_u64;
        while pace.next().await {
            cuts += 1;
            // Every other time the server has heard the question, and its answer is lost.
            if cuts.is_multiple_of(2) {
                self.deafen();
                tokio::time::sleep(Duration::from_millis(cuts % 7)).await;
            }
            self.cut();
        }
        cuts
    }
}

impl State {
    /// Whether what the server says reaches a connection that began after so many cuts.
    fn is_heard(&self, begun: u64) -> bool {
        !self.deaf.load(Ordering::SeqCst) && self.cuts.load(Ordering::SeqCst) == begun
    }
}

async fn carry(near: TcpStream, far: TcpStream, state: Arc<State>) {
    let mut cut = pin!(state.cut.notified());
    // Before the cuts are counted, so that none is missed.
    cut.as_mut().enable();
    let begun = state.cuts.load(Ordering::SeqCst);
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = cut => {}
        () = copy(near_read, far_write, || true) => {}
        () = copy(far_read, near_write, || state.is_heard(begun)) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_heard: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_heard() && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
