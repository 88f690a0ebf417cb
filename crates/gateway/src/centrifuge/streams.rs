//! Connections that are the body of a response: `/connection/http_stream` and `/connection/sse`, whose clients say more by
//! [`emulation`](super::emulation), and `/connection/uni_http_stream` and `/connection/uni_sse`, whose clients only listen.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_engine::hub::Sink;
use fanfare_wire::centrifuge::{Codec, ConnectRequest, Dialect, Framing};

use super::{
    emulation::{Refusal, check_origin, codec, read},
    session::ClientSession,
};
use crate::{
    ENVELOPE_BYTES_MAX, Gateway,
    door::TurnedAway,
    listener::Handle,
    pipe,
    query::form_pairs,
    sse::answer::{come_back, stream, wants_stream},
};

/// Where a request without a body says how it connects.
const CONNECT: &str = "cf_connect";
/// How long browsers may remember the answer to a preflight, in seconds.
const PREFLIGHT_SECONDS: &str = "600";
/// Within how many milliseconds event sources that lose their stream come back, at the soonest and at the latest.
const RETRY_MS: std::ops::Range<u32> = 500..2_500;

/// `POST /connection/http_stream`: commands in the body, in JSON or Protobuf.
pub(super) async fn http_stream(gateway: State<Arc<Gateway>>, request: Request) -> Response {
    let codec = codec(request.headers());
    serve(gateway, Dialect::stream(codec, Framing::Stream), request).await
}

/// `GET /connection/sse?cf_connect=…`, or POST with the commands in the body.
pub(super) async fn sse(gateway: State<Arc<Gateway>>, request: Request) -> Response {
    let dialect = Dialect::stream(Codec::Json, Framing::Events);
    serve(gateway, dialect, request).await
}

/// `POST /connection/uni_http_stream`: a connect request in the body.
pub(super) async fn uni_http_stream(gateway: State<Arc<Gateway>>, request: Request) -> Response {
    serve(gateway, Dialect::one_way(Framing::Stream), request).await
}

/// `GET /connection/uni_sse?cf_connect=…`, or POST with a connect request in the body.
pub(super) async fn uni_sse(gateway: State<Arc<Gateway>>, request: Request) -> Response {
    serve(gateway, Dialect::one_way(Framing::Events), request).await
}

/// The question of a browser whether a page of another origin may ask.
pub(super) async fn preflight(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = check_origin(&gateway, &headers) {
        return refusal.into_response();
    }
    let answer = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    let answer = (StatusCode::NO_CONTENT, answer).into_response();
    gateway.config.origins.tell(&headers, answer)
}

/// The connect request in an address, if there is one that says something.
pub(super) fn connect_in(query: &str) -> Option<String> {
    let value = form_pairs(query).find(|(name, _)| name == CONNECT);
    value.map(|(_, value)| value).filter(|it| !it.is_empty())
}

/// Why there is no stream.
enum Rejected {
    Refused(Refusal),
    TurnedAway(TurnedAway),
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn serve(
    State(gateway): State<Arc<Gateway>>,
    dialect: Dialect,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let answer = match open(&gateway, dialect, request).await {
        Ok(body) => head(dialect, body),
        Err(Rejected::Refused(refusal)) => refusal.into_response(),
        // A native `EventSource` gives up for ever on any other status; the official client, which closes it, does not.
        Err(Rejected::TurnedAway(turned_away)) if dialect.one_way && wants_stream(&headers) => {
            come_back(&turned_away, &headers)
        }
        Err(Rejected::TurnedAway(turned_away)) => turned_away.into_response(),
    };
    gateway.config.origins.tell(&headers, answer)
}

async fn open(
    gateway: &Arc<Gateway>,
    dialect: Dialect,
    request: Request,
) -> Result<Body, Rejected> {
    check_origin(gateway, request.headers())?;
    // Bodies are read for those alone who have a seat, so that there are no more of them than seats.
    let seat = gateway.door.admit().map_err(Rejected::TurnedAway)?;
    let handle = request.extensions().get::<Handle>().cloned();
    let headers = request.headers().clone();
    let said = said(gateway, request).await?;
    if dialect.one_way {
        check_connect(&said)?;
    } else if said.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "there is no connect command").into());
    }
    let mut session =
        ClientSession::new(Arc::clone(gateway), dialect, seat, &headers).opening(said);
    if !dialect.one_way {
        session = session.with_upstream(gateway.emulation.upstream());
    }
    let (pipe, body) = pipe::pipe(handle);
    let sink = Sink::Pipe(Box::new(pipe));
    let hub = gateway.engine.hub();
    hub.open(sink, Box::new(session), Vec::new());
    Ok(Body::from_stream(body))
}

/// What the client says first.
async fn said(gateway: &Gateway, request: Request) -> Result<Bytes, Refusal> {
    if request.method() == Method::POST {
        let bytes_max = gateway.config.message_bytes_max + ENVELOPE_BYTES_MAX;
        return read(request.into_body(), bytes_max).await;
    }
    let query = request.uri().query().unwrap_or_default();
    Ok(connect_in(query).unwrap_or_default().into())
}

/// Whether it is a connect request, or nothing.
pub(super) fn check_connect(said: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(said).ok();
    let request = text.and_then(|text| ConnectRequest::parse(text).ok());
    request
        .map(|_| ())
        .ok_or((StatusCode::BAD_REQUEST, "not a connect request"))
}

/// The response.
fn head(dialect: Dialect, body: Body) -> Response {
    let content_type = match (dialect.framing, dialect.codec) {
        (Framing::Events, _) => "text/event-stream",
        (_, Codec::Json) => "application/x-ndjson",
        (_, Codec::Protobuf) => "application/octet-stream",
    };
    let mut response = stream(body);
    let content_type = HeaderValue::from_static(content_type);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    response
}

/// What an event source that only listens is told before all else: those that lose their stream together do not come back
/// together.
pub(super) fn put_retry(out: &mut Vec<u8>) {
    let retry_ms = rand::random_range(RETRY_MS);
    out.extend_from_slice(format!("retry: {retry_ms}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_request_stands_in_the_address() {
        let query = "a=b&cf_connect=%7B%22token%22%3A%22t%22%7D&c";
        assert_eq!(connect_in(query).as_deref(), Some(r#"{"token":"t"}"#));
        for none in ["", "a=b", "cf_connect=", "cf_connect"] {
            assert_eq!(connect_in(none), None, "{none}");
        }
    }

    #[test]
    fn who_only_listens_may_ask_for_nothing_but_not_for_nonsense() {
        for fine in ["", "null", "{}", r#"{"subs":{"a":{"recover":true}}}"#] {
            assert!(check_connect(fine.as_bytes()).is_ok(), "{fine}");
        }
        for wrong in [&b"nonsense"[..], b"7", b"{\"token\":1}", b"\xff"] {
            let refusal = check_connect(wrong).unwrap_err();
            assert_eq!(refusal.0, StatusCode::BAD_REQUEST, "{wrong:x?}");
        }
    }
}
