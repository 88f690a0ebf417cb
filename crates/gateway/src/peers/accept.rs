//! A link that another node has opened: what comes over it is taken in order, and answered in the same.

use std::{future::Future, io, pin::Pin, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_engine::port::{
    Outcome,
    peers::{Line, NotTaken, Taken, Taker},
};
use fanfare_wire::forward::{Frame, Numbered};
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    time::timeout,
};
use uuid::Uuid;

use super::{
    Inner, OPEN_PATIENCE, PARCELS_MAX, id, note,
    proof::{self, End, Link, NODE, NONCE, PROOF, PROOF_BYTES, PROTOCOL},
    read_frame,
};
use crate::upgrade::{Refusal, has, into_socket};

/// The answer to the drafts with this number, when it is there.
type Answer = (
    u64,
    Pin<Box<dyn Future<Output = Result<Taken, NotTaken>> + Send>>,
);

/// `GET /internal/forward`: upgrades a request of another node of this database.
pub(super) async fn upgrade(State(inner): State<Arc<Inner>>, mut request: Request) -> Response {
    let link = match check(&inner, request.headers()) {
        Ok(link) => link,
        Err(refusal) => return refusal.into_response(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(NONCE, proof::value(&link.answered));
    let own_proof = inner.secret.prove(End::Accepts, &link);
    headers.insert(PROOF, proof::value(&own_proof));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(_place) = inner.accepted.try_acquire() else {
            return;
        };
        note(id(link.from), serve(&inner, &link, upgraded).await);
    });
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Checks who asks. Only nodes that are alive in this very database are heard: a copy of it has the same secret.
fn check(inner: &Inner, headers: &HeaderMap) -> Result<Link, Refusal> {
    let is_asked =
        has(headers, header::CONNECTION, "upgrade") && has(headers, header::UPGRADE, PROTOCOL);
    let (node, asked) = (proof::bytes(headers, &NODE), proof::bytes(headers, &NONCE));
    let (true, Some(node), Some(asked)) = (is_asked, node, asked) else {
        return Err((
            StatusCode::UPGRADE_REQUIRED,
            "nodes of this server meet here",
        ));
    };
    let from = Uuid::from_bytes(node);
    if !inner.known().contains_key(&id(from)) {
        return Err((
            StatusCode::FORBIDDEN,
            "no node of this database that is alive",
        ));
    }
    if *inner.closed.borrow() || inner.accepted.available_permits() == 0 {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "no more links are taken"));
    }
    Ok(Link {
        from,
        to: inner.own,
        asked,
        answered: proof::draw(),
    })
}

/// Serves a link until either end ends it.
async fn serve(inner: &Inner, link: &Link, upgraded: OnUpgrade) -> io::Result<()> {
    let opening = async {
        let upgraded = upgraded.await.map_err(io::Error::other)?;
        let (socket, input) = into_socket(upgraded)?;
        socket.set_nodelay(true)?;
        let (reader, writer) = socket.into_split();
        let mut reader = BufReader::new(io::Cursor::new(input).chain(reader));
        let mut proof = [0; PROOF_BYTES];
        reader.read_exact(&mut proof).await?;
        match inner.secret.holds(End::Opens, link, &proof) {
            true => Ok((reader, writer)),
            false => Err(io::Error::other("it does not have the secret")),
        }
    };
    let late = |_| io::Error::other("it proved nothing in time");
    let (reader, writer) = timeout(OPEN_PATIENCE, opening).await.map_err(late)??;
    let taker = inner.taker.get();
    let taker = taker.ok_or_else(|| io::Error::other("this node does not take drafts yet"))?;
    let line = Arc::new(Line::new(id(link.from)));
    let (answers, to_write) = mpsc::channel(PARCELS_MAX);
    let mut closed = inner.closed.subscribe();
    let result = tokio::select! {
        result = read(reader, &**taker, &line, answers) => result,
        result = write(to_write, writer) => result,
        _ = closed.wait_for(|closed| *closed) => Ok(()),
    };
    // Whoever forwarded commits what was not answered: here nobody needs it any more.
    line.break_off();
    result
}

/// Takes what comes. When too many wait to be committed it is not read.
async fn read(
    mut reader: impl AsyncRead + Unpin,
    taker: &dyn Taker,
    line: &Arc<Line>,
    answers: mpsc::Sender<Answer>,
) -> io::Result<()> {
    loop {
        let Frame::Drafts { id, drafts } = read_frame(&mut reader).await? else {
            return Err(io::Error::other("an answer to nothing"));
        };
        let place = answers.reserve().await.map_err(io::Error::other)?;
        place.send((id, taker.take(line, drafts)));
    }
}

/// Answers in order, until something was refused.
async fn write(
    mut answers: mpsc::Receiver<Answer>,
    mut writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some((id, answer)) = answers.recv().await {
        let result = answer.await;
        let is_over = result.is_err();
        let frame = match result {
            Ok(taken) => Frame::Taken {
                id,
                epoch: taken.epoch,
                crowded: taken.crowded,
                outcomes: taken.outcomes.into_iter().map(numbered).collect(),
            },
            Err(NotTaken(words)) => Frame::Refused { id, words },
        };
        writer.write_all(&frame.encode()).await?;
        if is_over {
            break;
        }
    }
    Ok(())
}

fn numbered(outcome: Outcome) -> Numbered {
    Numbered {
        seq: outcome.seq,
        time: outcome.time,
        duplicate: outcome.duplicate,
    }
}
