//! A message before its commit ([`Draft`]) and after it ([`Publication`]).

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::{ChannelName, Seq};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// A JSON text that was checked once: valid, UTF-8, and on one line, so that every wire can embed it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Bytes);

/// A text that is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a valid JSON text")]
pub struct JsonError;

impl Json {
    /// Checks a text. Line breaks between tokens become spaces; nothing else is changed.
    ///
    /// # Errors
    /// [`JsonError`] if the text is not one JSON value.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let raw: &RawValue = serde_json::from_slice(text).map_err(|_| JsonError)?;
        Ok(Self::from_raw(raw))
    }

    /// Takes a value that the JSON parser has already checked.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Self {
        let text = raw.get().as_bytes();
        // Inside strings JSON has no raw line breaks, so those that are there are white space.
        if text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            let on_one_line = |byte: &u8| {
                if matches!(byte, b'\n' | b'\r') {
                    b' '
                } else {
                    *byte
                }
            };
            return Self(text.iter().map(on_one_line).collect::<Vec<_>>().into());
        }
        Self(Bytes::copy_from_slice(text))
    }

    /// Takes bytes that were [`Json`] when they were written to the log or to the bus.
    #[must_use]
    pub fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// A message that wants to become a [`Publication`].
#[derive(Debug, Clone)]
pub struct Draft {
    /// Where it goes.
    pub channel: ChannelName,
    /// Identity of this attempt (UUID version 7), kept by the publication. Resolves commits of unknown outcome.
    pub id: Uuid,
    /// The payload.
    pub data: Json,
    /// Who publishes, as a JSON object (`user`, `client`, `conn_info`, `chan_info`), if that is known.
    pub info: Option<Json>,
    /// Labels, as a JSON object of strings.
    pub tags: Option<Json>,
    /// The same key in the same channel within the retention of keys gives the first position again.
    pub idempotency_key: Option<String>,
}

impl Draft {
    /// A draft with nothing but a payload.
    #[must_use]
    pub fn new(channel: ChannelName, id: Uuid, data: Json) -> Self {
        Self {
            channel,
            id,
            data,
            info: None,
            tags: None,
            idempotency_key: None,
        }
    }

    /// What the draft weighs in a batch, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_bytes().len());
        self.channel.as_str().len()
            + self.data.as_bytes().len()
            + json(&self.info)
            + json(&self.tags)
    }
}

/// One committed message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its number in the channel.
    pub seq: Seq,
    /// Its identity, from the [`Draft`].
    pub id: Uuid,
    /// When it was committed, by the database's clock.
    pub time: Millis,
    /// The payload.
    pub data: Json,
    /// Who published it.
    pub info: Option<Json>,
    /// Labels.
    pub tags: Option<Json>,
}

impl Publication {
    /// What the publication weighs in a ring or a page, in bytes, the struct included.
    #[must_use]
    pub fn weight(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_bytes().len());
        size_of::<Self>() + self.data.as_bytes().len() + json(&self.info) + json(&self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_and_put_on_one_line() {
        assert_eq!(
            Json::parse(b"{\"a\":\n 1}\r\n").unwrap().as_bytes(),
            b"{\"a\":  1}"
        );
        assert_eq!(Json::parse(b" [1]").unwrap().as_bytes(), b"[1]");
        assert!(Json::parse(b"{\"a\"}").is_err());
        assert!(Json::parse(b"\"\xff\"").is_err());
        assert!(Json::parse(b"").is_err());
        assert!(Json::parse(b"1 2").is_err());
    }
}
