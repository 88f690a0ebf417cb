//! Whose mailbox it is.

use std::fmt;

use fanfare_wire::{ChannelName, NameError};
use thiserror::Error;

use crate::CHANNEL_NAMESPACE;

/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 64;

/// A user: `g` and what Google calls the account (`sub`), which never changes, as an address may. 1 to
/// [`USER_BYTES_MAX`] letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User(String);

/// A text that names no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a user is 1 to {USER_BYTES_MAX} letters, digits, - and _")]
pub struct UserError;

impl User {
    /// The user of an account of Google.
    ///
    /// # Errors
    /// [`UserError`] if `sub` is of another form than Google's.
    pub fn of_google(sub: &str) -> Result<Self, UserError> {
        Self::parse(&format!("g{sub}"))
    }

    /// Parses a name.
    ///
    /// # Errors
    /// [`UserError`] if it is none.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = (1..=USER_BYTES_MAX).contains(&text.len());
        match fits && text.bytes().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(UserError),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel of the mailbox.
    ///
    /// # Errors
    /// None that can happen: every name of a user fits.
    pub fn channel(&self) -> Result<ChannelName, NameError> {
        ChannelName::parse(&format!("{CHANNEL_NAMESPACE}:{}", self.0))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_of_channels() {
        let user = User::of_google("108100000000000000001").unwrap();
        assert_eq!(
            user.channel().unwrap().as_str(),
            "mail:g108100000000000000001"
        );
        assert!(
            User::parse(&"x".repeat(USER_BYTES_MAX))
                .unwrap()
                .channel()
                .is_ok()
        );
        for bad in ["", "a b", "a:b", "ä", &"x".repeat(65)] {
            assert_eq!(User::parse(bad), Err(UserError), "{bad}");
        }
    }
}
