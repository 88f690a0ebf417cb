//! The thread that drives a shard: epoll tells which sockets have bytes or room, the shard does the rest.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker};
use tracing::error;

use super::{Common, inbox::Inbox, shard::Shard, sink::Sink};

const WAKE: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;

/// Starts a shard on a thread of its own and returns its inbox. Must be called within a tokio runtime: what the shard
/// asks of the engine runs there.
pub(super) fn spawn(index: usize, common: Arc<Common>) -> io::Result<Arc<Inbox>> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let wake = move || {
        if let Err(error) = waker.wake() {
            error!(shard = index, %error, "cannot wake the shard");
        }
    };
    let inbox = Inbox::new(index, Box::new(wake));
    let shard = Shard::new(common, Arc::clone(&inbox));
    let runtime = tokio::runtime::Handle::current();
    thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let _runtime = runtime.enter();
            match catch_unwind(AssertUnwindSafe(|| run(poll, shard))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(shard = index, %error, "the shard stops: epoll failed"),
                Err(_) => error!(shard = index, "the shard stops: a bug, see above"),
            }
            // Half a node that looks alive is worse than a restart: its clients come back elsewhere.
            std::process::abort();
        })?;
    Ok(inbox)
}

fn run(mut poll: Poll, mut shard: Shard) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS_MAX);
    let second = Duration::from_secs(1);
    let mut next_second = Instant::now() + second;
    let mut more = false;
    loop {
        let timeout = match more {
            true => Duration::ZERO,
            false => next_second.saturating_duration_since(Instant::now()),
        };
        match poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in events.iter().filter(|event| event.token() != WAKE) {
            let index = event.token().0;
            if event.is_writable() {
                shard.writable(index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                shard.readable(index);
            }
            if event.is_read_closed() {
                // The end may stand behind bytes that were just read, and its edge is spent.
                shard.readable_again(index);
            }
        }
        let registry = poll.registry();
        shard.take_messages(&mut |index, sink| match sink {
            // Edge-triggered, both ways, once: a full socket needs no further system call to be waited for.
            Sink::Socket(socket) => registry
                .register(
                    socket,
                    Token(index),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .is_ok(),
            Sink::Pipe(_) => true,
            #[cfg(any(test, feature = "simulation"))]
            Sink::Simulated(_) => true,
        });
        if Instant::now() >= next_second {
            next_second += second;
            shard.second();
        }
        more = shard.turn();
    }
}
