//! Commands that come in a request beside a stream, for clients whose transport carries one direction only.

use std::borrow::Cow;

use serde::Deserialize;
use thiserror::Error;

use super::{Codec, protobuf};

/// Commands for a session that may be on any node.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct EmulationRequest<'a> {
    /// The session, from the answer to the connect.
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// The commands: lines of JSON, or messages of Protobuf.
    #[serde(borrow, deserialize_with = "text")]
    pub data: Cow<'a, [u8]>,
}

/// A body that is no emulation request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an emulation request of the Centrifuge client protocol")]
pub struct EmulationError;

impl<'a> EmulationRequest<'a> {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// [`EmulationError`] if it is none.
    pub fn parse(codec: Codec, body: &'a [u8]) -> Result<Self, EmulationError> {
        match codec {
            Codec::Json => serde_json::from_slice(body).map_err(|_| EmulationError),
            Codec::Protobuf => protobuf::parse_emulation(body).map_err(|_| EmulationError),
        }
    }
}

/// In JSON the commands stand in a string.
fn text<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'a, [u8]>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let Text(text) = Text::deserialize(deserializer)?;
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_say_the_same() {
        let json = br#"{"session":"s","node":"n","data":"{\"id\":1}\n{}"}"#;
        let request = EmulationRequest::parse(Codec::Json, json).unwrap();
        assert_eq!(
            (&*request.session, &*request.data),
            ("s", &b"{\"id\":1}\n{}"[..])
        );
        // As the official client writes it: node 1, session 2, data 3.
        let message = b"\x0a\x01n\x12\x01s\x1a\x02\xff\x00";
        let request = EmulationRequest::parse(Codec::Protobuf, message).unwrap();
        assert_eq!((&*request.session, &*request.data), ("s", &b"\xff\0"[..]));
    }

    #[test]
    fn what_is_none_is_refused() {
        for wrong in ["", "{", "[]7", r#"{"session":7}"#, r#"{"data":{"id":1}}"#] {
            let parsed = EmulationRequest::parse(Codec::Json, wrong.as_bytes());
            assert_eq!(parsed, Err(EmulationError), "{wrong}");
        }
        for wrong in [&b"\x12\x05s"[..], b"\x10\x01", b"\x12\x01\xff", b"\x00"] {
            let parsed = EmulationRequest::parse(Codec::Protobuf, wrong);
            assert_eq!(parsed, Err(EmulationError), "{wrong:x?}");
        }
        let empty = EmulationRequest::parse(Codec::Json, b"{}").unwrap();
        assert!(empty.session.is_empty() && empty.data.is_empty());
    }
}
