//! A message as it is kept and shown, and the ids of Gmail's history.

use std::{collections::BTreeSet, fmt, str::FromStr};

use fanfare_wire::Millis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A place in the history of a mailbox. Ids grow with time; between two neighbours there may be any distance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryId(pub u64);

/// A text that is no [`HistoryId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an id of the history is a whole number")]
pub struct HistoryIdError;

/// One message: what a list of mail shows of it. Bodies are never fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Gmail's id.
    pub id: String,
    /// The conversation.
    pub thread_id: String,
    /// The header `From`.
    pub from: String,
    /// The header `Subject`.
    pub subject: String,
    /// The first words.
    pub snippet: String,
    /// Its labels: `INBOX`, `UNREAD`, `STARRED` and others, by id.
    pub labels: BTreeSet<String>,
    /// When Gmail received it.
    pub date: Millis,
    /// The last place of the history that is in it: what happened up to there need not be done to it again.
    pub version: HistoryId,
}

impl HistoryId {
    /// Its bits as a number that databases keep; the order is kept for all ids that Gmail has ever given.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// The id that was kept as a number.
    #[must_use]
    pub fn from_i64(number: i64) -> Self {
        Self(u64::try_from(number).unwrap_or(0))
    }
}

impl FromStr for HistoryId {
    type Err = HistoryIdError;

    fn from_str(text: &str) -> Result<Self, HistoryIdError> {
        text.parse().map(Self).map_err(|_| HistoryIdError)
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// As text, as Gmail does: JavaScript's numbers are too small for some of them.
impl Serialize for HistoryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HistoryId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_history_are_texts_and_are_read_as_numbers_too() {
        let id = HistoryId(1_234_567);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"1234567\"");
        for text in ["\"1234567\"", "1234567"] {
            assert_eq!(serde_json::from_str::<HistoryId>(text).unwrap(), id);
        }
        for text in ["\"-1\"", "\"x\"", "-1", "1.5", "null"] {
            assert!(serde_json::from_str::<HistoryId>(text).is_err(), "{text}");
        }
        assert_eq!(HistoryId::from_i64(id.to_i64()), id);
    }
}
