//! Classes of clients, and how one client stands to a channel.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Which classes of clients may do something in a channel. Tokens can grant more, never less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access(u8);

const SUBSCRIBER: u8 = 1;
const AUTHENTICATED: u8 = 2;
const ANONYMOUS: u8 = 4;

/// The words of a configuration.
const WORDS: [(&str, Access); 5] = [
    ("nobody", Access::NOBODY),
    ("subscriber", Access::SUBSCRIBER),
    ("authenticated", Access::AUTHENTICATED),
    ("anonymous", Access::ANONYMOUS),
    ("anyone", Access::ANYONE),
];
const NAMES: &[&str] = &[
    "nobody",
    "subscriber",
    "authenticated",
    "anonymous",
    "anyone",
];

impl Access {
    /// No client.
    pub const NOBODY: Self = Self(0);
    /// Clients that are subscribed to the channel.
    pub const SUBSCRIBER: Self = Self(SUBSCRIBER);
    /// Clients with a user name.
    pub const AUTHENTICATED: Self = Self(AUTHENTICATED);
    /// Clients without one.
    pub const ANONYMOUS: Self = Self(ANONYMOUS);
    /// Every connected client.
    pub const ANYONE: Self = Self(AUTHENTICATED | ANONYMOUS);

    /// The classes of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether subscribers have it because they subscribe.
    #[must_use]
    pub const fn names_subscribers(self) -> bool {
        self.0 & SUBSCRIBER != 0
    }

    /// Whether a client has it. Who is outside of the users that a channel is limited to has nothing, unless a token has let it in.
    #[must_use]
    pub fn permits(self, client: Standing) -> bool {
        let own = match client.authenticated {
            true => AUTHENTICATED,
            false => ANONYMOUS,
        };
        let subscriber = if client.subscribed { SUBSCRIBER } else { 0 };
        !client.is_shut_out() && self.0 & (own | subscriber) != 0
    }

    fn of_word<E: Error>(word: &str) -> Result<Self, E> {
        let known = WORDS.iter().find(|(name, _)| *name == word);
        known
            .map(|(_, access)| *access)
            .ok_or_else(|| E::unknown_variant(word, NAMES))
    }
}

/// One word, or a list of words, each of which suffices.
impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Access;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}, or a list of them", NAMES.join(", "))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Access, E> {
                Access::of_word(word)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Access, A::Error> {
                let mut all = Access::NOBODY;
                while let Some(word) = words.next_element::<String>()? {
                    match Access::of_word::<A::Error>(&word)? {
                        Access::NOBODY => {
                            let problem = "\"nobody\" stands alone, not in a list";
                            return Err(A::Error::custom(problem));
                        }
                        access => all = all.or(access),
                    }
                }
                match all {
                    Access::NOBODY => Err(A::Error::custom("an empty list; write \"nobody\"")),
                    all => Ok(all),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// What counts of a client when access is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It has a user name.
    pub authenticated: bool,
    /// It is subscribed to the channel.
    pub subscribed: bool,
    /// Whether it is one of those whom the channel is limited to.
    pub circle: Circle,
}

impl Standing {
    /// Whether the channel is limited to others, and no token has let the client in.
    #[must_use]
    pub fn is_shut_out(self) -> bool {
        self.circle == Circle::Outside && !self.subscribed
    }
}

/// How a client stands to the users that a channel is limited to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Circle {
    /// The channel is not limited to users.
    #[default]
    Open,
    /// The channel names its user.
    Inside,
    /// The channel names others.
    Outside,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(authenticated: bool, subscribed: bool) -> Standing {
        Standing {
            authenticated,
            subscribed,
            circle: Circle::Open,
        }
    }

    #[test]
    fn each_class_has_what_is_said_of_it_and_nothing_else() {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        for (access, has) in [
            (Access::NOBODY, [false; 4]),
            (Access::SUBSCRIBER, [false, true, false, true]),
            (Access::AUTHENTICATED, [false, false, true, true]),
            (Access::ANONYMOUS, [true, true, false, false]),
            (Access::ANYONE, [true; 4]),
            (
                Access::AUTHENTICATED.or(Access::SUBSCRIBER),
                [false, true, true, true],
            ),
        ] {
            let permitted =
                all.map(|(user, subscribed)| access.permits(standing(user, subscribed)));
            assert_eq!(permitted, has, "{access:?}");
        }
    }

    #[test]
    fn words_and_lists_of_words_are_read() {
        let read = |json: &str| serde_json::from_str::<Access>(json);
        assert_eq!(read("\"nobody\"").unwrap(), Access::NOBODY);
        assert_eq!(read("\"anyone\"").unwrap(), Access::ANYONE);
        let both = Access::SUBSCRIBER.or(Access::ANONYMOUS);
        assert_eq!(read("[\"subscriber\", \"anonymous\"]").unwrap(), both);
        for (wrong, words) in [
            ("\"everyone\"", "everyone"),
            ("[\"anyone\", \"nobody\"]", "stands alone"),
            ("[]", "empty list"),
            ("true", "a list of them"),
            ("[1]", "string"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{wrong}: {error}");
        }
    }
}
