//! From long-polling to a WebSocket: the client tries the new transport while it goes on with the old one, and says when
//! it has gone over.

use std::{io, time::Duration};

use fanfare_engine::hub::Sink;
use fanfare_wire::{
    engineio::{self, PROBE, Packet},
    ws::{self, Decoder, Incoming},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::poll::Probing;

/// How long a client may take to go over.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a client may have sent before it has gone over.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// What the client did next.
enum Step {
    /// It needs an answer.
    Answered,
    /// It has gone over: what was read goes on with it.
    Over,
}

/// Waits until the client has gone over to `socket`, from which `input` was read already, and gives it to the session.
/// If it does not, the session goes on as it was.
pub(super) async fn probe(
    probing: Probing,
    remote: fanfare_engine::hub::Remote,
    mut socket: TcpStream,
    mut input: Vec<u8>,
) -> io::Result<()> {
    let upgraded = timeout(UPGRADE_PATIENCE, go_over(&probing, &mut socket, &mut input));
    match upgraded.await {
        Ok(Ok(())) => {
            remote.adopt(Sink::socket(socket.into_std()?)?, input);
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => say_good_bye(&mut socket).await,
    }
}

/// Closes a WebSocket that nothing is served over.
pub(super) async fn say_good_bye(socket: &mut TcpStream) -> io::Result<()> {
    let mut frame = Vec::new();
    ws::close_frame(ws::close_code::NORMAL, "", &mut frame);
    socket.write_all(&frame).await?;
    socket.shutdown().await
}

/// Leaves in `input` what belongs to the session.
async fn go_over(probing: &Probing, socket: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut decoder = Decoder::default();
    loop {
        let mut out = Vec::new();
        while let Some((step, taken)) = next(&mut decoder, input, &mut out)? {
            input.drain(..taken);
            match step {
                Step::Over => return Ok(()),
                Step::Answered => {}
            }
        }
        if !out.is_empty() {
            socket.write_all(&out).await?;
            probing.works();
        }
        if socket.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Takes the next frame.
fn next(
    decoder: &mut Decoder,
    input: &mut [u8],
    out: &mut Vec<u8>,
) -> io::Result<Option<(Step, usize)>> {
    let strange = || io::Error::other("not what a client says when it tries a transport");
    let next = decoder.next(input, INPUT_BYTES_MAX);
    let Some((incoming, taken)) = next.map_err(io::Error::other)? else {
        return Ok(None);
    };
    let step = match incoming {
        Incoming::Text(text) => match Packet::from_text(&text).map_err(io::Error::other)? {
            Packet::Ping(PROBE) => {
                engineio::put_probe_answer(out);
                Step::Answered
            }
            Packet::Upgrade => Step::Over,
            _ => return Err(strange()),
        },
        Incoming::Ping(payload) => {
            ws::pong_frame(payload, out);
            Step::Answered
        }
        Incoming::Pong | Incoming::Fragment => Step::Answered,
        Incoming::Binary(_) | Incoming::Close(_) => return Err(strange()),
    };
    Ok(Some((step, taken)))
}
