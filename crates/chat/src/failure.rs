//! What can go wrong, in Slack's words.

use std::{borrow::Cow, time::Duration};

use fanfare_engine::port::{LogError, TablesError, TransactError};
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::error;

/// How a refusal travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Status 200: the method was understood and says no.
    Answer,
    /// Status 429 with `Retry-After`.
    TooOften,
    /// Status 503 with `Retry-After`: nothing was done, and it may be repeated.
    Away,
}

/// A refusal.
#[derive(Debug, Clone, Error)]
#[error("{code}")]
pub(crate) struct Failure {
    /// Slack's code.
    pub(crate) code: Cow<'static, str>,
    /// How it travels.
    pub(crate) way: Way,
    /// When it is worth another try.
    pub(crate) retry_after: Option<Duration>,
    /// Fields beside `error`.
    pub(crate) more: Map<String, Value>,
}

/// When it is worth another try while the database is away.
const AWAY: Duration = Duration::from_secs(1);

/// A row with this key is there already: what [`TransactError::Exists`] becomes, for whoever inserts. No client sees it.
pub(crate) const EXISTS: &str = "exists";

impl Failure {
    /// A refusal with one of Slack's codes.
    pub(crate) fn new(code: &'static str) -> Self {
        Self {
            code: Cow::Borrowed(code),
            way: Way::Answer,
            retry_after: None,
            more: Map::new(),
        }
    }

    /// With a field beside the code.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.more.insert(field.to_owned(), value.into());
        self
    }

    /// An argument that is missing or not what it must be. `response_metadata.messages` says which and how, as Slack does.
    pub(crate) fn argument(name: &str, problem: &str) -> Self {
        let messages = serde_json::json!({ "messages": [format!("[ERROR] {problem} [json-pointer:/{name}]")] });
        Self::new("invalid_arguments").with("response_metadata", messages)
    }

    pub(crate) fn too_often(retry_after: Duration) -> Self {
        Self {
            way: Way::TooOften,
            retry_after: Some(retry_after),
            ..Self::new("ratelimited")
        }
    }

    /// A part that it needs does not answer; nothing was done.
    pub(crate) fn away() -> Self {
        Self {
            way: Way::Away,
            retry_after: Some(AWAY),
            ..Self::new("service_unavailable")
        }
    }

    /// A mistake in this program: its log gets the reason, the client only that there was one.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        error!(%reason, "a mistake in the chat");
        Self::new("internal_error")
    }

    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }
}

impl From<TablesError> for Failure {
    fn from(error: TablesError) -> Self {
        match error {
            TablesError::Unavailable(_) => Self::away(),
            TablesError::Statement(_) | TablesError::Schema(_) => Self::internal(error),
        }
    }
}

impl From<TransactError> for Failure {
    fn from(error: TransactError) -> Self {
        match error {
            TransactError::Busy { retry_ms } => {
                Self::too_often(Duration::from_millis(u64::from(retry_ms)))
            }
            TransactError::Unavailable(_) => Self::away(),
            // It may have been done: who repeats it without a key may do it twice.
            TransactError::Unknown(_) => Self::new("fatal_error"),
            TransactError::Exists { .. } => Self::new(EXISTS),
            error => Self::internal(error),
        }
    }
}

impl From<LogError> for Failure {
    fn from(_: LogError) -> Self {
        Self::away()
    }
}
