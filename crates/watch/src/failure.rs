//! What can go wrong, as a client is told it.

use std::time::Duration;

use axum::http::StatusCode;
use fanfare_engine::port::{TablesError, TransactError, state::StateError};
use fanfare_engine::{PublishError, hub::session::HistoryError};
use fanfare_gateway::password::PasswordError;
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::error;

/// The kinds of failures. Their names are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    RoomNotFound,
    RoomFull,
    InvalidPassword,
    Unauthorized,
    InvalidToken,
    AlreadyInRoom,
    NotInRoom,
    Forbidden,
    GuestCannotChat,
    InvalidPayload,
    PayloadTooLarge,
    UnknownEvent,
    Conflict,
    ClockSkew,
    RateLimitExceeded,
    ReadyCheckActive,
    ReadyCheckNotFound,
    NotAParticipant,
    VoiceFull,
    NotInVoice,
    VoicePeerNotFound,
    Unavailable,
    Internal,
}

/// A refusal, and why.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) code: Code,
    /// What to do about it, for people.
    pub(crate) message: String,
    /// When it is worth another try.
    pub(crate) retry_after: Option<Duration>,
    /// Fields of this kind.
    pub(crate) more: Map<String, Value>,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RoomNotFound => "ROOM_NOT_FOUND",
            Self::RoomFull => "ROOM_FULL",
            Self::InvalidPassword => "INVALID_PASSWORD",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::AlreadyInRoom => "ALREADY_IN_ROOM",
            Self::NotInRoom => "NOT_IN_ROOM",
            Self::Forbidden => "FORBIDDEN",
            Self::GuestCannotChat => "GUEST_CANNOT_CHAT",
            Self::InvalidPayload => "INVALID_PAYLOAD",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnknownEvent => "UNKNOWN_EVENT",
            Self::Conflict => "CONFLICT",
            Self::ClockSkew => "CLOCK_SKEW",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::ReadyCheckActive => "READY_CHECK_ACTIVE",
            Self::ReadyCheckNotFound => "READY_CHECK_NOT_FOUND",
            Self::NotAParticipant => "NOT_A_PARTICIPANT",
            Self::VoiceFull => "VOICE_FULL",
            Self::NotInVoice => "NOT_IN_VOICE",
            Self::VoicePeerNotFound => "VOICE_PEER_NOT_FOUND",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL_ERROR",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::RoomNotFound => StatusCode::NOT_FOUND,
            Self::Unauthorized | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::InvalidPassword => StatusCode::FORBIDDEN,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
            more: Map::new(),
        }
    }

    /// A field that is not what it must be.
    pub(crate) fn payload(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidPayload, message)
    }

    pub(crate) fn not_in_room() -> Self {
        Self::new(Code::NotInRoom, "join a room first: room:join")
    }

    pub(crate) fn no_such_room() -> Self {
        Self::new(
            Code::RoomNotFound,
            "no room has this code; it may have expired",
        )
    }

    pub(crate) fn unavailable(what: &str) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(
                Code::Unavailable,
                format!("{what} does not answer; nothing was done, try again"),
            )
        }
    }

    /// It may have been done.
    pub(crate) fn unknown() -> Self {
        let failure = Self::new(
            Code::Unavailable,
            "the database did not say whether it was done; repeat it with the same idempotencyKey",
        );
        failure.with("unknown", Value::Bool(true))
    }

    /// A mistake in this program: the log gets the reason, the client only that there was one.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        error!(%reason, "a mistake in the watch party");
        Self::new(Code::Internal, "a mistake on the server; it is in its log")
    }

    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.more.insert(field.to_owned(), value);
        self
    }

    /// `code`, `message`, `retryAfterMs` and the fields of its kind.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let mut fields = self.more.clone();
        fields.insert("code".to_owned(), self.code.as_str().into());
        fields.insert("message".to_owned(), self.message.clone().into());
        if let Some(after) = self.retry_after {
            // At least what is left of the last millisecond.
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            fields.insert("retryAfterMs".to_owned(), millis.saturating_add(1).into());
        }
        fields
    }
}

impl From<TablesError> for Failure {
    fn from(error: TablesError) -> Self {
        match error {
            TablesError::Unavailable(_) => Self::unavailable("the database"),
            other => Self::internal(other),
        }
    }
}

impl From<TransactError> for Failure {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::Unavailable(_) => Self::unavailable("the database"),
            TransactError::Unknown(_) => Self::unknown(),
            TransactError::Busy { retry_ms } => Self {
                retry_after: Some(Duration::from_millis(retry_ms.into())),
                ..Self::unavailable("the database")
            },
            other => Self::internal(other),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        use fanfare_engine::port::AppendError;
        match error {
            PublishError::Busy { retry_ms } => Self {
                retry_after: Some(Duration::from_millis(retry_ms.into())),
                ..Self::unavailable("the database")
            },
            PublishError::Append(AppendError::Unknown(_)) => Self::unknown(),
            _ => Self::unavailable("the database"),
        }
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        Self::internal(error)
    }
}

impl From<HistoryError> for Failure {
    fn from(_: HistoryError) -> Self {
        Self::unavailable("the database")
    }
}

impl From<StateError> for Failure {
    fn from(_: StateError) -> Self {
        Self::unavailable("the shared state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_its_kind_and_when_to_come_back() {
        let failure = Failure::unavailable("the database").with("x", 1.into());
        let fields = Value::Object(failure.fields());
        assert_eq!(fields["code"], "UNAVAILABLE");
        assert_eq!(fields["retryAfterMs"], 1001);
        assert_eq!(fields["x"], 1);
        assert_eq!(failure.code.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(Failure::unknown().fields().contains_key("unknown"));
    }
}
