//! Why a request was not taken: a status, a name to count by, and a sentence that says nothing secret.

use axum::http::StatusCode;

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no such source.
    UnknownSource,
    /// Not a POST.
    Method,
    /// The body is longer than the source's, or the handler's, bound.
    TooLong,
    /// The body did not come in time.
    Slow,
    /// The body ended early.
    Broken,
    /// There is no signature, or no token.
    Unsigned,
    /// The signature is not that of the body, or not one of the token's key.
    Signature,
    /// The timestamp is too far from now.
    Stale,
    /// The token is no token.
    Token,
    /// The token is signed in another way than RS256.
    Algorithm,
    /// Nobody published the token's key.
    UnknownKey,
    /// The keys are not known, and Google did not tell them yet.
    KeysUnavailable,
    /// The token is not of Google.
    Issuer,
    /// The token is for somebody else.
    Audience,
    /// The token is of another service account, or its address is not verified.
    Account,
    /// The token's time is over, or has not come.
    Expired,
    /// The envelope is no envelope, or its data is not base64.
    Malformed,
    /// The handler does not understand it.
    Unfit,
    /// The handler says that it concerns nobody here: acknowledged.
    Ignored,
    /// Too many requests are under way.
    Busy,
    /// Too many deliveries of the source wait.
    Full,
    /// The database does not answer, or its tables are not made yet.
    Storage,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Self; 22] = [
        Self::UnknownSource,
        Self::Method,
        Self::TooLong,
        Self::Slow,
        Self::Broken,
        Self::Unsigned,
        Self::Signature,
        Self::Stale,
        Self::Token,
        Self::Algorithm,
        Self::UnknownKey,
        Self::KeysUnavailable,
        Self::Issuer,
        Self::Audience,
        Self::Account,
        Self::Expired,
        Self::Malformed,
        Self::Unfit,
        Self::Ignored,
        Self::Busy,
        Self::Full,
        Self::Storage,
    ];

    /// What the sender is answered.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::Malformed | Self::Unfit => StatusCode::BAD_REQUEST,
            Self::Unsigned
            | Self::Signature
            | Self::Stale
            | Self::Token
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Issuer
            | Self::Expired => StatusCode::UNAUTHORIZED,
            Self::Audience | Self::Account => StatusCode::FORBIDDEN,
            Self::Ignored => StatusCode::OK,
            Self::KeysUnavailable | Self::Busy | Self::Full | Self::Storage => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The value of the label `reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::Method => "method",
            Self::TooLong => "too_long",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::Unsigned => "unsigned",
            Self::Signature => "signature",
            Self::Stale => "stale",
            Self::Token => "token",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Account => "account",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::Unfit => "unfit",
            Self::Ignored => "ignored",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Storage => "storage",
        }
    }

    /// The same in a sentence, for the sender.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::UnknownSource => "there is no such webhook here",
            Self::Method => "webhooks are posted",
            Self::TooLong => "the body is too long",
            Self::Slow => "the body did not come in time",
            Self::Broken => "the body ended early",
            Self::Unsigned => "the request is not signed as it must be",
            Self::Signature => "the signature does not fit",
            Self::Stale => "the timestamp is too far from now",
            Self::Token => "the token cannot be read",
            Self::Algorithm => "the token is not signed with RS256",
            Self::UnknownKey => "the token's key is not known",
            Self::KeysUnavailable => "the keys of the issuer are not known yet; try again",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Account => "the token is of another account",
            Self::Expired => "the token is not valid at this time",
            Self::Malformed => "the message cannot be read",
            Self::Unfit => "the message is not understood",
            Self::Ignored => "the message concerns nobody here",
            Self::Busy => "too many requests are under way; try again",
            Self::Full => "too many deliveries wait; try again",
            Self::Storage => "it cannot be kept now; try again",
        }
    }
}
