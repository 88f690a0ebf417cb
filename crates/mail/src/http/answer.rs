//! What requests are answered: JSON that nobody keeps, and refusals that say what they are.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

/// The kinds of refusals. Their names are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something in the request is not what it must be.
    BadRequest,
    /// Nobody is signed in.
    Unauthorized,
    /// Another page's request.
    Forbidden,
    /// There is nothing there.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// Too often.
    TooManyRequests,
    /// A part that it needs does not answer.
    Unavailable,
}

/// A refusal.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    code: Code,
    message: &'static str,
    retry_after: Option<Duration>,
}

/// When it is worth another try while a part is away.
const AWAY: Duration = Duration::from_secs(2);

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooManyRequests => "too_many_requests",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Failure {
    pub(super) fn new(code: Code, message: &'static str) -> Self {
        Self {
            code,
            message,
            retry_after: None,
        }
    }

    pub(super) fn bad(message: &'static str) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(super) fn too_often(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Code::TooManyRequests, "too often; see Retry-After")
        }
    }

    pub(crate) fn unavailable(message: &'static str) -> Self {
        Self {
            retry_after: Some(AWAY),
            ..Self::new(Code::Unavailable, message)
        }
    }

    /// What kind it is.
    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code.name(), "message": self.message } });
        let mut response = to_json(self.code.status(), &body);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

/// An answer of JSON.
pub(super) fn to_json(status: StatusCode, body: &impl Serialize) -> Response {
    let Ok(text) = serde_json::to_vec(body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let json_type = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json_type)], text).into_response()
}

/// Sends a browser on. Places are this server's own, or Google's from the configuration: nobody's wish.
pub(super) fn go(place: &str) -> Response {
    match HeaderValue::from_str(place) {
        Ok(place) => (StatusCode::FOUND, [(header::LOCATION, place)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Has a browser take cookies from an answer.
pub(super) fn with_cookies(
    mut response: Response,
    cookies: impl IntoIterator<Item = HeaderValue>,
) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_in_whole_seconds() {
        let often = Failure::too_often(Duration::from_millis(1200)).into_response();
        assert_eq!(often.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(often.headers()[header::RETRY_AFTER], "2");
        let never = Failure::bad("x").into_response();
        assert!(never.headers().get(header::RETRY_AFTER).is_none());
        assert_eq!(never.headers()[header::CONTENT_TYPE], "application/json");
    }
}
