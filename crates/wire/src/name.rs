//! Channel names: parsed once at the edge, trusted afterwards.

use std::{borrow::Borrow, fmt, sync::Arc};

use thiserror::Error;

/// Longest channel name in bytes, as in the Centrifuge protocol.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// The name of a channel: 1 to 255 printable ASCII bytes without space, `"` and `\`.
///
/// The part before the first `:` names the [namespace](ChannelName::namespace). Because of the forbidden
/// characters a name can stand in JSON, in a URL query and in a Redis topic without escaping. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("channel name is empty")]
    Empty,
    /// The name is longer than [`CHANNEL_NAME_BYTES_MAX`].
    #[error("channel name is longer than {CHANNEL_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// The name has a character outside printable ASCII, or a space, `"` or `\`.
    #[error("channel name may hold printable ASCII only, without space, quote and backslash")]
    Forbidden,
}

impl ChannelName {
    /// Parses a channel name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !text.bytes().all(allowed) {
            return Err(NameError::Forbidden);
        }
        Ok(Self(text.into()))
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `:`, or the empty string for a channel outside all namespaces.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(namespace, _)| namespace)
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_once_and_for_all() {
        let check = |text: &str, expected| {
            assert_eq!(ChannelName::parse(text).map(|_| ()), expected, "{text:?}");
        };
        check("a", Ok(()));
        check("chat:general#1,2", Ok(()));
        check(&"x".repeat(255), Ok(()));
        check(&"x".repeat(256), Err(NameError::TooLong));
        check("", Err(NameError::Empty));
        check("two words", Err(NameError::Forbidden));
        check("quote\"", Err(NameError::Forbidden));
        check("back\\slash", Err(NameError::Forbidden));
        check("line\n", Err(NameError::Forbidden));
        check("ümlaut", Err(NameError::Forbidden));
    }

    #[test]
    fn the_namespace_ends_at_the_first_colon() {
        let namespace = |text| ChannelName::parse(text).unwrap().namespace().to_owned();
        assert_eq!(namespace("chat:general:x"), "chat");
        assert_eq!(namespace("plain"), "");
        assert_eq!(namespace(":odd"), "");
    }
}
