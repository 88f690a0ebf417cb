//! Where a reader stands in a channel.
//!
//! A sequence number alone proves nothing: a database restored from a backup numbers new publications with numbers
//! that readers have seen before on other ones. So a position is always a pair of [`Epoch`] and [`Seq`].

use std::{fmt, sync::Arc};

/// The number of a publication in its channel: 1, 2, 3 … in commit order, without holes. 0 is "before the first".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The place before the first publication.
    pub const ZERO: Self = Self(0);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest epoch in bytes that is accepted from outside.
pub const EPOCH_BYTES_MAX: usize = 64;

/// The identity of a log: one per database, another one after the database was restored. Cheap to clone.
///
/// ASCII letters and digits only, so that it stands in JSON and in an event id without escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Takes an epoch from a database or from a client. `None` if it is empty, longer than [`EPOCH_BYTES_MAX`], or has
    /// anything but ASCII letters and digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=EPOCH_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| Self(text.into()))
    }

    /// Reads the epoch of a position that a client names: `None` if it names none, so that it is not checked. A text that
    /// cannot be an epoch becomes one that no log has.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "" => None,
            text => Some(Self::parse(text).unwrap_or_else(|| Self("foreign".into()))),
        }
    }

    /// The epoch as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_names_is_checked_or_of_no_log() {
        assert_eq!(Epoch::named(""), None);
        assert_eq!(Epoch::named("e1"), Epoch::parse("e1"));
        assert_eq!(Epoch::named("not-an-epoch").unwrap().as_str(), "foreign");
    }
}
