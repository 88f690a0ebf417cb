//! The two sockets of one proxied connection, and what moves between them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::link::is_not_ready;
use crate::proxy::line::{Line, Tools};
use crate::proxy::{Content, Faults, PathFaults, PushFaults};

/// One connection through the proxy.
#[derive(Debug)]
pub(super) struct Pair {
    client: Side,
    server: Side,
    up: Line,
    down: Line,
    /// Before this time nothing passes.
    opens_at: u64,
    /// When it is next to be looked at, if a time was set.
    pub(super) timer: Option<u64>,
}

/// One socket. Readiness is told once, so it is kept until the socket says otherwise.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// It has sent its end.
    ended: bool,
    /// It was told the end of the other side.
    told: bool,
}

/// What became of a pair when it was served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on; look again at this time, if there is one.
    Open(Option<u64>),
    /// Both sides have ended in good order.
    Closed,
    /// One side failed, or a fault cut it: both are to be reset.
    Broken,
}

impl Pair {
    /// A pair of a client that was accepted and a server that is being connected to.
    pub(super) fn new(
        client: TcpStream,
        server: TcpStream,
        content: Content,
        opens_at: u64,
    ) -> Self {
        let down = match content {
            Content::Bytes => Line::default(),
            Content::Redis => Line::of_redis(),
        };
        Self {
            client: Side::new(client),
            server: Side::new(server),
            up: Line::default(),
            down,
            opens_at,
            timer: None,
        }
    }

    /// Its sockets, the client's first.
    pub(super) fn streams(&mut self) -> [&mut TcpStream; 2] {
        [&mut self.client.stream, &mut self.server.stream]
    }

    /// A socket has become ready for something.
    pub(super) fn ready(&mut self, of_client: bool, readable: bool, writable: bool) {
        let side = if of_client {
            &mut self.client
        } else {
            &mut self.server
        };
        side.readable |= readable;
        side.writable |= writable;
    }

    /// Other faults are in force from now on.
    pub(super) fn begin_anew(&mut self) {
        self.up.begin_anew();
        self.down.begin_anew();
    }

    /// Moves what can be moved.
    pub(super) fn serve(
        &mut self,
        now: u64,
        faults: &Faults,
        scratch: &mut [u8],
        tools: &mut Tools<'_>,
    ) -> Outcome {
        if now < self.opens_at {
            return Outcome::Open(Some(self.opens_at));
        }
        let none = PushFaults::default();
        let moved = [
            carry(
                &mut self.client,
                &mut self.server,
                &mut self.up,
                now,
                (&faults.up, &none),
                scratch,
                tools,
            ),
            carry(
                &mut self.server,
                &mut self.client,
                &mut self.down,
                now,
                (&faults.down, &faults.pushes),
                scratch,
                tools,
            ),
        ];
        if moved.iter().any(Result::is_err) {
            return Outcome::Broken;
        }
        if self.client.told && self.server.told {
            return Outcome::Closed;
        }
        // A socket without room says by itself when it has some.
        let up = !faults.up.black_hole && self.server.writable;
        let down = !faults.down.black_hole && self.client.writable;
        let dues = [
            up.then(|| self.up.next_due()),
            down.then(|| self.down.next_due()),
        ];
        Outcome::Open(dues.into_iter().flatten().flatten().min())
    }

    /// Makes both sockets send a reset when they are closed.
    pub(super) fn arm_reset(&self) {
        for side in [&self.client, &self.server] {
            reset_on_close(&side.stream);
        }
    }
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            readable: true,
            writable: true,
            ended: false,
            told: false,
        }
    }
}

/// Makes a socket send a reset when it is closed.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // A socket that does not take the option is closed in the ordinary way.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn carry(
    from: &mut Side,
    to: &mut Side,
    line: &mut Line,
    now: u64,
    (faults, pushes): (&PathFaults, &PushFaults),
    scratch: &mut [u8],
    tools: &mut Tools<'_>,
) -> io::Result<()> {
    if faults.black_hole {
        return Ok(());
    }
    loop {
        let read = fill(from, line, now, (faults, pushes), scratch, tools)?;
        let wrote = empty(to, line, now, faults)?;
        if !read && !wrote {
            break;
        }
    }
    if from.ended && line.is_empty() && !to.told {
        to.told = true;
        // The other side may be gone already.
        let _ = to.stream.shutdown(Shutdown::Write);
    }
    Ok(())
}

/// Reads while there is something and room for it; `true` when anything came.
fn fill(
    from: &mut Side,
    line: &mut Line,
    now: u64,
    (faults, pushes): (&PathFaults, &PushFaults),
    scratch: &mut [u8],
    tools: &mut Tools<'_>,
) -> io::Result<bool> {
    let mut any = false;
    while from.readable && !from.ended && line.has_room(faults) {
        match from.stream.read(scratch) {
            Ok(0) => from.ended = true,
            Ok(count) => {
                line.take(&scratch[..count], now, faults, pushes, tools);
                any = true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_not_ready(&error) => from.readable = false,
            Err(error) => return Err(error),
        }
    }
    Ok(any)
}

/// Writes what is ready; `true` when anything went. An error when the connection is to be cut.
fn empty(to: &mut Side, line: &mut Line, now: u64, faults: &PathFaults) -> io::Result<bool> {
    let mut any = false;
    while to.writable {
        let allowed = line.until_cut(faults);
        if allowed == Some(0) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let Some(bytes) = line.ready(now) else { break };
        let length = allowed.map_or(bytes.len(), |allowed| {
            bytes
                .len()
                .min(usize::try_from(allowed).unwrap_or(usize::MAX))
        });
        match to.stream.write(&bytes[..length]) {
            Ok(count) => {
                line.wrote(count);
                any = true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_not_ready(&error) => to.writable = false,
            Err(error) => return Err(error),
        }
    }
    Ok(any)
}
