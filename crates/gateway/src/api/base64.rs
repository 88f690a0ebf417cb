//! What requests bring in base64: the bytes of a payload where it could not stand as JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fanfare_wire::{
    Json,
    centrifuge::{ErrorCode, errors},
};
use serde::Deserialize;

/// A text in base64.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Base64(String);

impl Base64 {
    /// Whether nothing was said, as libraries do that send every member.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON that it stands for.
    ///
    /// # Errors
    /// 107 if it is no base64, or what it stands for is no JSON: the log keeps nothing else.
    pub(super) fn json(&self) -> Result<Json, ErrorCode> {
        let bytes = BASE64_STANDARD.decode(&self.0);
        let bytes = bytes.map_err(|_| errors::BAD_REQUEST)?;
        Json::parse(&bytes).map_err(|_| errors::BAD_REQUEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_in_base64_is_taken() {
        let json = |text: &str| {
            Base64(text.to_owned())
                .json()
                .map(|it| it.as_bytes().to_vec())
        };
        assert_eq!(json("eyJhIjoxfQ=="), Ok(b"{\"a\":1}".to_vec()));
        for wrong in ["", "eyJhIjoxfQ", "%", "/w==", "Zm9v"] {
            assert_eq!(json(wrong), Err(errors::BAD_REQUEST), "{wrong}");
        }
    }
}
