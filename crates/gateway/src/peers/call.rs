//! A link that this node has opened: drafts go out in the order in which they were forwarded, answers come back in the same.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use fanfare_engine::port::{
    Outcome,
    peers::{NotTaken, PeerId, Taken},
};
use fanfare_wire::forward::{Frame, Numbered};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use super::{
    Call, Inner, OPEN_PATIENCE, PARCELS_MAX, PATH, Parcel, ended, note, number,
    proof::{self, End, Link, NODE, NONCE, PROOF, PROOF_BYTES, PROTOCOL},
    read_frame, set,
};

/// Who waits for answers, in the order in which they come.
type Waiting = Arc<Mutex<VecDeque<(u64, oneshot::Sender<Result<Taken, NotTaken>>)>>>;

/// Calls a node up, and carries drafts to it until the link ends.
pub(super) async fn run(inner: Weak<Inner>, to: PeerId, address: Box<str>) {
    let opening = timeout(OPEN_PATIENCE, open(&inner, to, &address)).await;
    let opened = opening.unwrap_or_else(|_| Err(io::Error::other("it did not answer in time")));
    let (socket, input) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            note(to, Err(error));
            set(&inner, to, Call::Down(Instant::now()));
            return;
        }
    };
    let (sender, parcels) = mpsc::channel(PARCELS_MAX);
    set(&inner, to, Call::Open(number(&inner), sender));
    let (reader, writer) = socket.into_split();
    let waiting = Waiting::default();
    // Whichever ends first ends the other, and drops all who wait.
    let result = tokio::select! {
        result = write(parcels, writer, &waiting) => result,
        result = read(BufReader::new(io::Cursor::new(input).chain(reader)), &waiting) => result,
    };
    note(to, result);
}

/// Opens the socket, and proves to each other who is there.
async fn open(inner: &Weak<Inner>, to: PeerId, address: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    let gone = || io::Error::other("this node has ended");
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let asked = proof::draw();
    let from = inner.upgrade().ok_or_else(gone)?.own;
    let request = Request::get(PATH)
        .header(header::HOST, address)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .header(NODE, proof::value(from.as_bytes()))
        .header(NONCE, proof::value(&asked))
        .body(Body::empty())
        .map_err(io::Error::other)?;
    let mut response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let refused = format!("it refuses the link with {}", response.status());
        return Err(io::Error::other(refused));
    }
    let (answered, proven) = (
        proof::bytes(response.headers(), &NONCE),
        proof::bytes::<PROOF_BYTES>(response.headers(), &PROOF),
    );
    let (Some(answered), Some(proven)) = (answered, proven) else {
        return Err(io::Error::other("it answers with another protocol"));
    };
    let link = Link {
        from,
        to: Uuid::from_u128(to.0),
        asked,
        answered,
    };
    let own_proof = {
        let inner = inner.upgrade().ok_or_else(gone)?;
        if !inner.secret.holds(End::Accepts, &link, &proven) {
            return Err(io::Error::other("it is not the node that it should be"));
        }
        inner.secret.prove(End::Opens, &link)
    };
    let upgraded: Upgraded = hyper::upgrade::on(&mut response)
        .await
        .map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("not the socket that was opened"))?;
    let mut socket = parts.io.into_inner();
    socket.write_all(&own_proof).await?;
    Ok((socket, parts.read_buf.to_vec()))
}

/// Writes what is forwarded, as much as has gathered at a time.
async fn write(
    mut parcels: mpsc::Receiver<Parcel>,
    mut writer: impl AsyncWrite + Unpin,
    waiting: &Waiting,
) -> io::Result<()> {
    let mut id = 0;
    let mut bytes = Vec::new();
    while let Some(first) = parcels.recv().await {
        let mut next = Some(first);
        while let Some(Parcel { drafts, answer }) = next {
            id += 1;
            bytes.extend_from_slice(&Frame::Drafts { id, drafts }.encode());
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push_back((id, answer));
            next = parcels.try_recv().ok();
        }
        writer.write_all(&bytes).await?;
        bytes = Vec::new();
    }
    Ok(())
}

/// Reads answers, until one of them is a refusal: nothing behind it is taken.
async fn read(mut reader: impl AsyncRead + Unpin, waiting: &Waiting) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut reader).await?;
        let first = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop_front()
        };
        let Some((due, answer)) = first else {
            return Err(io::Error::other("an answer to nothing"));
        };
        let (id, result) = match frame {
            Frame::Taken {
                id,
                epoch,
                crowded,
                outcomes,
            } => {
                let outcomes = outcomes.into_iter().map(outcome).collect();
                let taken = Taken {
                    epoch,
                    outcomes,
                    crowded,
                };
                (id, Ok(taken))
            }
            Frame::Refused { id, words } => (id, Err(NotTaken(words))),
            Frame::Drafts { id, .. } => (id, Err(ended())),
        };
        if id != due {
            return Err(io::Error::other("an answer to something else"));
        }
        let is_over = result.is_err();
        // Who no longer waits does not want to know.
        let _ = answer.send(result);
        if is_over {
            return Ok(());
        }
    }
}

fn outcome(numbered: Numbered) -> Outcome {
    Outcome {
        seq: numbered.seq,
        time: numbered.time,
        duplicate: numbered.duplicate,
    }
}
