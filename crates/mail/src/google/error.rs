//! Why Google did not do what it was asked, sorted by what is to be done about it.

use std::time::Duration;

use thiserror::Error;

/// Why Google did not do what it was asked. Says nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GoogleError {
    /// The grant was taken back, has run out, or does not reach as far as it must. Only the user can help: by connecting
    /// again.
    #[error("Google no longer grants access to this mailbox: {0}; it must be connected again")]
    Unauthorised(&'static str),
    /// The id is older than Gmail's history reaches: everything has to be looked at anew.
    #[error("Gmail's history does not reach back that far")]
    Gone,
    /// Too much was asked. Ask again after that time, or after a while if there is none.
    #[error("Google asks for a pause")]
    Slow {
        /// At the earliest.
        after: Option<Duration>,
    },
    /// Google cannot be reached, or has trouble of its own: ask again after a while.
    #[error("Google is not available: {0}")]
    Unavailable(String),
    /// The project at Google, or the configuration here, is not as it must be: the operator must mend it. Asking again helps
    /// when that is done.
    #[error("Google refuses this server: {0}")]
    Misconfigured(String),
    /// At [`exchange`](super::Google::exchange): the sign-in was not completed as it must be. Begin again.
    #[error(transparent)]
    SignIn(SignInError),
    /// Google's answer is not what it should be.
    #[error("Google answered what is not understood: {0}")]
    Unexpected(String),
}

/// What was wrong with a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignInError {
    /// The code was used before, is too old, or is not of this sign-in.
    #[error("the code is of another sign-in, was used before, or is too old: begin again")]
    Code,
    /// The user did not tick the box that lets mail be read.
    #[error("reading Gmail was not allowed: connect again, and tick the box for it")]
    Scope,
    /// Google gave no refresh token, as it does for somebody who has consented before and was not asked again.
    #[error(
        "Google gave no lasting access, because it was granted before: remove this app at https://myaccount.google.com/connections and connect again"
    )]
    NoRefreshToken,
    /// Google does not vouch for the address of the account.
    #[error(
        "Google has not verified the address of this account: verify it at Google and connect again"
    )]
    Unverified,
    /// The token that says who it is cannot be trusted.
    #[error(
        "Google's token of identity is not valid ({0}): begin again; if it stays so, compare client_id and this server's clock"
    )]
    Identity(&'static str),
}

impl GoogleError {
    /// The value of the label `outcome`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthorised(_) => "unauthorised",
            Self::Gone => "gone",
            Self::Slow { .. } => "slow",
            Self::Unavailable(_) => "unavailable",
            Self::Misconfigured(_) => "misconfigured",
            Self::SignIn(_) => "sign_in",
            Self::Unexpected(_) => "unexpected",
        }
    }
}

impl From<SignInError> for GoogleError {
    fn from(error: SignInError) -> Self {
        Self::SignIn(error)
    }
}
