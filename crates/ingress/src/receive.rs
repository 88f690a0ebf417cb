//! `POST /webhooks/{source}`: what comes in is bounded, verified, placed and kept, in this order, and only then acknowledged.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    Shared,
    delivery::{Delivery, Place, Unfit},
    dispatch::Desk,
    refusal::Refusal,
    source::SourceName,
    store::{Kept, SEEN_KEPT},
    verify::Verified,
};

/// Requests of a source that may be under way on a node; more are answered with 503.
pub(crate) const REQUESTS_MAX: usize = 64;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// In how many seconds it is worth trying again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// Lines about refusals in one second; the rest is only counted.
const LINES_PER_SECOND_MAX: u64 = 20;

/// How many refusals have been logged in the current second.
#[derive(Default)]
pub(crate) struct Lines {
    second: AtomicU64,
    count: AtomicU64,
}

impl Lines {
    fn may_log(&self, second: u64) -> bool {
        if self.second.swap(second, Relaxed) != second {
            self.count.store(0, Relaxed);
        }
        self.count.fetch_add(1, Relaxed) < LINES_PER_SECOND_MAX
    }
}

/// Takes a delivery, or says why not.
pub(crate) async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let Some(desk) = shared.desks.get(name.as_str()) else {
        return refuse(&shared, None, Refusal::UnknownSource);
    };
    let source = &desk.source.name;
    match take(&shared, desk, &method, &headers, body).await {
        Ok(kept) => {
            let duplicate = kept == Kept::Before;
            shared.metrics.kept(source, began.elapsed(), duplicate);
            let answer = match duplicate {
                true => json!({"accepted": true, "duplicate": true}),
                false => json!({"accepted": true}),
            };
            Json(answer).into_response()
        }
        Err(refusal) => refuse(&shared, Some(source), refusal),
    }
}

async fn take(
    shared: &Shared,
    desk: &Desk,
    method: &Method,
    headers: &HeaderMap,
    body: Body,
) -> Result<Kept, Refusal> {
    if method != Method::POST {
        return Err(Refusal::Method);
    }
    let source = &desk.source;
    // Who has no right to be heard is not listened to for long, and takes no place of those who have.
    let unix = unix_seconds();
    let admitted = source.verify.admit(headers, unix).await?;
    let _under_way = desk.requests.try_acquire().map_err(|_| Refusal::Busy)?;
    let body = read(headers, body, source.terms.body_bytes_max).await?;
    let verified = source.verify.open(admitted, headers, body)?;
    let Verified {
        body,
        attributes,
        dedups,
    } = verified;
    let delivery = Delivery {
        id: Uuid::now_v7(),
        source: source.name.clone(),
        received: shared.store.clock.now(),
        attributes,
        body,
        attempt: 0,
    };
    let place = place(desk, &delivery)?;
    if !shared.opened.load(Relaxed) {
        return Err(Refusal::Storage);
    }
    if desk.is_full() {
        return Err(Refusal::Full);
    }
    let kept = shared
        .store
        .keep(&delivery, &place, &dedups, SEEN_KEPT)
        .await;
    let kept = kept.map_err(|error| {
        debug!(source = %source.name, %error, "a delivery cannot be kept");
        Refusal::Storage
    })?;
    desk.nudge();
    Ok(kept)
}

fn place(desk: &Desk, delivery: &Delivery) -> Result<Place, Refusal> {
    let source = &desk.source;
    match source.handler.place(delivery) {
        Ok(place) if place.is_sound() => Ok(place),
        Ok(_) => {
            debug!(source = %source.name, "a delivery's key cannot be kept");
            Err(Refusal::Unfit)
        }
        Err(unfit) => {
            debug!(source = %source.name, %unfit, "a delivery is not for its handler");
            Err(match unfit {
                Unfit::Refuse(_) => Refusal::Unfit,
                Unfit::TooLong => Refusal::TooLong,
                Unfit::Ignore(_) => Refusal::Ignored,
            })
        }
    }
}

async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    let said = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|length| length > bytes_max as u64) {
        return Err(Refusal::TooLong);
    }
    match timeout(BODY_TIMEOUT, to_bytes(body, bytes_max)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.source().is_some_and(|it| it.is::<LengthLimitError>()) => {
            Err(Refusal::TooLong)
        }
        Ok(Err(_)) => Err(Refusal::Broken),
        Err(_) => Err(Refusal::Slow),
    }
}

/// Counts, says so in one line, and answers.
fn refuse(shared: &Shared, source: Option<&SourceName>, refusal: Refusal) -> Response {
    shared.metrics.refused(source, refusal);
    if shared.lines.may_log(unix_seconds().unsigned_abs()) {
        // What came in is never repeated: it may be a secret that somebody sent to the wrong place.
        let source = source.map_or("", SourceName::as_str);
        let status = refusal.status().as_u16();
        warn!(
            source,
            reason = refusal.name(),
            status,
            "a webhook was not taken"
        );
    }
    let mut response = match refusal {
        Refusal::Ignored => Json(json!({"accepted": false, "ignored": true})).into_response(),
        _ => {
            let error = json!({"reason": refusal.name(), "message": refusal.sentence()});
            (refusal.status(), Json(json!({ "error": error }))).into_response()
        }
    };
    let headers = response.headers_mut();
    match refusal.status() {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        _ => {}
    }
    response
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;

    use super::*;

    #[test]
    fn a_flood_of_refusals_is_not_a_flood_of_lines() {
        let lines = Lines::default();
        let logged = |second| (0..100).filter(|_| lines.may_log(second)).count() as u64;
        assert_eq!(logged(1), LINES_PER_SECOND_MAX);
        assert_eq!(logged(1), 0);
        assert_eq!(logged(2), LINES_PER_SECOND_MAX);
    }

    #[tokio::test]
    async fn bodies_have_a_bound() {
        let body = |length: usize| Body::from(vec![0; length]);
        let none = HeaderMap::new();
        assert_eq!(read(&none, body(10), 10).await.unwrap().len(), 10);
        assert_eq!(read(&none, body(11), 10).await, Err(Refusal::TooLong));
        let mut said = HeaderMap::new();
        said.insert(header::CONTENT_LENGTH, HeaderValue::from_static("11"));
        assert_eq!(read(&said, body(1), 10).await, Err(Refusal::TooLong));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_do_not_come_are_not_waited_for() {
        let none = HeaderMap::new();
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let began = Instant::now();
        assert_eq!(read(&none, silent, 10).await, Err(Refusal::Slow));
        assert_eq!(began.elapsed(), BODY_TIMEOUT);
        let cut = io::Error::from(io::ErrorKind::ConnectionReset);
        let broken = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err(cut)]));
        assert_eq!(read(&none, broken, 10).await, Err(Refusal::Broken));
    }
}
