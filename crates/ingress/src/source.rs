//! Where webhooks come from: a name, how it is verified, who works on it, and within which bounds.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{delivery::Handler, verify::Verify};

/// Longest name of a source, in bytes.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;
/// Longest body that a source may be allowed, in bytes: with its keys it must fit one transaction.
pub const BODY_BYTES_LIMIT: usize = 768 << 10;
/// Longest body of a source that says nothing else, in bytes.
pub const BODY_BYTES_DEFAULT: usize = 256 << 10;

/// The name of a source, the last part of its path: 1 to 64 letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

/// A text that names no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write 1 to {SOURCE_NAME_BYTES_MAX} letters, digits, -, _ and .")]
pub struct SourceNameError;

/// One source of webhooks.
pub struct Source {
    /// Its name: it delivers to `POST /webhooks/NAME`.
    pub name: SourceName,
    /// How it is told from others.
    pub verify: Verify,
    /// Who works on what it delivers.
    pub handler: Arc<dyn Handler>,
    /// Within which bounds.
    pub terms: Terms,
}

/// The bounds of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Longest body of a request, in bytes; at most [`BODY_BYTES_LIMIT`].
    pub body_bytes_max: usize,
    /// Deliveries that may wait; more are refused with 503 until some are done. Looked at every few seconds, so it may be passed
    /// by what comes in between.
    pub waiting_max: u64,
    /// Keys that a node works on at the same time.
    pub workers: usize,
    /// Attempts before a delivery is a dead letter; at least 1.
    pub attempts_max: u32,
    /// Wait before the second attempt; it doubles with each.
    pub backoff_min: Duration,
    /// The longest wait between attempts.
    pub backoff_max: Duration,
    /// How long one attempt may take; it is then ended and counts as failed.
    pub attempt_timeout: Duration,
    /// How long a claim holds without a sign of life of the node that has it. It is renewed three times as often.
    pub lease: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_DEFAULT,
            waiting_max: 100_000,
            workers: 8,
            attempts_max: 12,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(600),
            attempt_timeout: Duration::from_secs(300),
            lease: Duration::from_secs(15),
        }
    }
}

impl SourceName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`SourceNameError`] if it is none.
    pub fn parse(text: &str) -> Result<Self, SourceNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=SOURCE_NAME_BYTES_MAX).contains(&text.len());
        if !fits || !text.bytes().all(allowed) {
            return Err(SourceNameError);
        }
        Ok(Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_paths() {
        for good in ["billing", "a", "Stripe-2_x.y"] {
            assert_eq!(SourceName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
            assert_eq!(SourceName::parse(bad), Err(SourceNameError), "{bad}");
        }
    }
}
