//! Patterns of names: text in which `*` stands for any run of characters, and `{user}`, where it is served, for the name of the user
//! who asks. They are matched to the whole name, in a time that is the product of both lengths at most; nothing is compiled, and no
//! pattern can be made that takes longer.

use std::borrow::Cow;

/// Longest pattern, in bytes: a longer one would match no name.
pub const PATTERN_BYTES_MAX: usize = 255;

const USER: &str = "{user}";

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// Whether `{user}` stands for a user.
    of_users: bool,
}

/// A pattern that cannot match any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There is nothing in it.
    #[error("is empty; write * for all names")]
    Empty,
    /// It is longer than a name can be.
    #[error("is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It has characters that no name can have.
    #[error("may hold printable ASCII only, without space, quote and backslash")]
    Forbidden,
}

impl Pattern {
    /// A pattern in which `*` stands for any run of characters.
    ///
    /// # Errors
    /// [`PatternError`]: it could not match any name.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::new(text, false)
    }

    /// The same, in which `{user}` stands for the name of the user who asks; it matches for nobody without one.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse_of_users(text: &str) -> Result<Self, PatternError> {
        Self::new(text, true)
    }

    fn new(text: &str, of_users: bool) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !text.bytes().all(allowed) {
            return Err(PatternError::Forbidden);
        }
        let of_users = of_users && text.contains(USER);
        let text = text.into();
        Ok(Self { text, of_users })
    }

    /// The pattern itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a name is of this pattern, for this user (empty: without a name).
    #[must_use]
    pub fn matches(&self, name: &str, user: &str) -> bool {
        if self.of_users && user.is_empty() {
            return false;
        }
        let mut parts = self.text.split('*');
        // invariant: a split has a first part
        let first = self.literal(parts.next().unwrap_or_default(), user);
        let Some(mut rest) = name.strip_prefix(&*first) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            let part = self.literal(part, user);
            if parts.peek().is_none() {
                return rest.ends_with(&*part);
            }
            // The leftmost is never the wrong one: what follows has the more room.
            match rest.find(&*part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    /// What stands between two stars. The user's own name is no pattern: what stands in it stands for itself.
    fn literal<'a>(&self, part: &'a str, user: &str) -> Cow<'a, str> {
        match self.of_users && part.contains(USER) {
            true => Cow::Owned(part.replace(USER, user)),
            false => Cow::Borrowed(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str, user: &str) -> bool {
        Pattern::parse_of_users(pattern)
            .unwrap()
            .matches(name, user)
    }

    #[test]
    fn a_pattern_is_matched_to_the_whole_name() {
        for (pattern, name, expected) in [
            ("news", "news", true),
            ("news", "newspaper", false),
            ("news", "the-news", false),
            ("*", "", true),
            ("*", "anything:at#all", true),
            ("public-*", "public-", true),
            ("public-*", "public-1", true),
            ("public-*", "private-1", false),
            ("*-log", "a-log", true),
            ("*-log", "a-logs", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("aa*aa", "aaa", false),
            ("aa*aa", "aaaa", true),
            ("**", "x", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, name, "ann"), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_users_name_stands_for_itself() {
        assert!(matches("inbox-{user}", "inbox-ann", "ann"));
        assert!(matches("{user}:*", "ann:phone", "ann"));
        assert!(matches("{user}-{user}", "a-a", "a"));
        assert!(!matches("inbox-{user}", "inbox-bob", "ann"));
        assert!(!matches("inbox-{user}", "inbox-", ""));
        assert!(!matches("*{user}*", "anything", ""));
        assert!(!matches("inbox-{user}", "inbox-ann", "*"));
        assert!(matches("inbox-{user}", "inbox-*", "*"));
        assert!(!matches("{user}", "ann", "{user}"));
        // Where users are not served, the braces are braces.
        let plain = Pattern::parse("inbox-{user}").unwrap();
        assert!(plain.matches("inbox-{user}", ""));
        assert!(!plain.matches("inbox-ann", "ann"));
    }

    #[test]
    fn what_matches_nothing_is_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("a b"), Err(PatternError::Forbidden));
        assert_eq!(Pattern::parse("ü"), Err(PatternError::Forbidden));
        assert_eq!(Pattern::parse(&"*".repeat(256)), Err(PatternError::TooLong));
        assert!(Pattern::parse(&"*".repeat(255)).is_ok());
    }

    /// The plainest way to say it.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                (0..=name.len()).any(|skipped| naive(rest, &name[skipped..]))
            }
            (Some((byte, rest)), Some((first, others))) => byte == first && naive(rest, others),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_plainest_matcher_says(
            pattern in "[ab*]{1,8}", name in "[ab]{0,10}",
        ) {
            let expected = naive(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().matches(&name, ""), expected);
        }
    }
}
