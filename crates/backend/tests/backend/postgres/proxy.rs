//! A wire between the log and its server that a test can cut at the worst moment.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Notify,
};

/// Carries bytes both ways, until it is told otherwise.
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What the server says is thrown away.
    deaf: AtomicBool,
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
        self.state.deaf.store(false, Ordering::SeqCst);
        self.state.cut.notify_waiters();
    }
}

async fn carry(near: TcpStream, far: TcpStream, state: Arc<State>) {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = state.cut.notified() => {}
        () = copy(near_read, far_write, None) => {}
        () = copy(far_read, near_write, Some(&state.deaf)) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Option<&AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if deaf.is_some_and(|deaf| deaf.load(Ordering::SeqCst)) {
            continue;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
