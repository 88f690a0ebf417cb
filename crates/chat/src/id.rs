//! Names of things: Slack's, a letter for the kind and ten letters and digits more.

use std::fmt;

use fanfare_engine::port::tables::Value;
use fanfare_wire::ChannelName;
use ring::rand::{SecureRandom, SystemRandom};

use crate::failure::Failure;

const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const RANDOM_LENGTH: usize = 10;
const LENGTH: std::ops::RangeInclusive<usize> = 9..=21;

/// What an id names, by its first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `T`: a workspace.
    Team,
    /// `U`: a person or a bot.
    User,
    /// `B`: a bot, as messages name it.
    Bot,
    /// `A`: an app.
    App,
    /// `C`: a channel, public or private.
    Channel,
    /// `D`: a conversation of two.
    Direct,
    /// `G`: a conversation of a few.
    Group,
    /// `Q`: a message that is posted later.
    Scheduled,
}

/// An id. Letters and digits only, so it may stand in names of channels, URLs and keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(String);

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Team => 'T',
            Self::User => 'U',
            Self::Bot => 'B',
            Self::App => 'A',
            Self::Channel => 'C',
            Self::Direct => 'D',
            Self::Group => 'G',
            Self::Scheduled => 'Q',
        }
    }
}

impl Id {
    /// A new one: 50 random bits. Whoever inserts it finds out if it is taken.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(crate) fn random(kind: Kind) -> Result<Self, Failure> {
        let bytes: [u8; RANDOM_LENGTH] = random_bytes()?;
        let letters = bytes.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        Ok(Self(
            std::iter::once(kind.letter()).chain(letters).collect(),
        ))
    }

    /// Reads one of a kind.
    pub(crate) fn parse(kind: Kind, text: &str) -> Option<Self> {
        (text.starts_with(kind.letter()) && is_id(text)).then(|| Self(text.to_owned()))
    }

    /// Reads the id of a conversation of any kind.
    pub(crate) fn parse_conversation(text: &str) -> Option<Self> {
        let kinds = [Kind::Channel, Kind::Direct, Kind::Group];
        kinds.into_iter().find_map(|kind| Self::parse(kind, text))
    }

    /// One that this program has written into the database or the code.
    pub(crate) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel of the log in a namespace of the app that is this one's.
    ///
    /// # Errors
    /// The row that it was read from holds something else than an id.
    pub(crate) fn channel(&self, namespace: &str) -> Result<ChannelName, Failure> {
        ChannelName::parse(&format!("{namespace}:{}", self.0)).map_err(Failure::internal)
    }
}

fn is_id(text: &str) -> bool {
    LENGTH.contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::internal("the operating system gives no random bytes"))?;
    Ok(bytes)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Id> for Value {
    fn from(id: &Id) -> Self {
        Self::Text(id.0.clone())
    }
}

impl From<&Id> for serde_json::Value {
    fn from(id: &Id) -> Self {
        Self::String(id.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_what_they_name_and_fit_everywhere() {
        let id = Id::random(Kind::Channel).unwrap();
        assert_eq!(Id::parse(Kind::Channel, id.as_str()), Some(id.clone()));
        assert_eq!(Id::parse(Kind::User, id.as_str()), None);
        assert_eq!(Id::parse_conversation(id.as_str()), Some(id.clone()));
        assert_eq!(id.channel("chat").unwrap().as_str(), format!("chat:{id}"));
        for bad in [
            "",
            "C",
            "C0general00",
            "C0GENERAL:0",
            "C0GENERAL 0",
            "CÄÄÄÄÄÄÄÄÄ",
            "C00000000000000000000000",
        ] {
            assert_eq!(Id::parse_conversation(bad), None, "{bad}");
        }
    }
}
