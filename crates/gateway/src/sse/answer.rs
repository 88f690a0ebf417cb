//! What a request for an event stream is answered: the stream, a refusal, or when to come back.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::LAST_EVENT_ID;
use crate::door::TurnedAway;

/// Why a request gets no stream, now or later.
pub(super) type Wrong = (StatusCode, &'static str);

/// Why there is no stream.
pub(super) enum Refusal {
    /// It would be no other the next time.
    Never(StatusCode, &'static str),
    /// The client should come back.
    Later(TurnedAway),
}

impl From<Wrong> for Refusal {
    fn from((status, reason): Wrong) -> Self {
        Self::Never(status, reason)
    }
}

impl From<TurnedAway> for Refusal {
    fn from(turned_away: TurnedAway) -> Self {
        Self::Later(turned_away)
    }
}

/// The head of a stream.
pub(crate) fn stream(body: Body) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Asks nginx not to hold the stream back.
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, body).into_response()
}

/// Whether the client says that it understands event streams, which curl for one does not.
pub(crate) fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter();
    accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"))
}

/// A stream that says when to come back, and ends. It repeats the id that the client is at: by the letter of the standard
/// an event without an id would make the client forget it.
pub(crate) fn come_back(turned_away: &TurnedAway, headers: &HeaderMap) -> Response {
    let retry = format!("retry: {}\n", turned_away.retry_after_ms());
    let mut body = retry.into_bytes();
    if let Some(id) = headers.get(LAST_EVENT_ID) {
        body.extend_from_slice(b"id: ");
        body.extend_from_slice(id.as_bytes());
        body.push(b'\n');
    }
    body.extend_from_slice(b": ");
    body.extend_from_slice(turned_away.reason.message().as_bytes());
    body.extend_from_slice(b"\n\n");
    let mut response = stream(Body::from(body));
    let seconds = turned_away.retry_after_seconds();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, seconds.into());
    response
}
