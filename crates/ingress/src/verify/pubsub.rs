//! Google Pub/Sub push: who may push, and what is in it.
//!
//! Wrapped, the message is JSON with its data in base64. Unwrapped, the body is the data, and the message's id stands in a
//! header, if the subscription writes metadata; without an id a message cannot be known again, so that is refused.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::{HeaderMap, header};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use fanfare_gateway::jose::jwks::{Jwks, KeyError};
use serde::Deserialize;

use super::{
    Verified, single,
    token::{Expected, Unverified},
};
use crate::refusal::Refusal;

/// Longest id of a message, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 256;
/// Attributes of one message; as many as Pub/Sub takes.
const ATTRIBUTES_MAX: usize = 100;

const MESSAGE_ID: &str = "x-goog-pubsub-message-id";
const PUBLISH_TIME: &str = "x-goog-pubsub-publish-time";
const ORDERING_KEY: &str = "x-goog-pubsub-ordering-key";
const SUBSCRIPTION: &str = "x-goog-pubsub-subscription-name";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Verifies the tokens of one push subscription.
pub struct GoogleVerifier {
    keys: Arc<Jwks>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Envelope {
    message: Message,
    subscription: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(default)]
    data: String,
    // Both spellings come together.
    #[serde(rename = "messageId")]
    message_id: Option<String>,
    #[serde(rename = "message_id")]
    message_id_too: Option<String>,
    publish_time: Option<String>,
    ordering_key: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
}

impl GoogleVerifier {
    /// Verifies with an issuer's keys.
    #[must_use]
    pub fn new(keys: Arc<Jwks>, expected: Expected) -> Self {
        Self { keys, expected }
    }

    pub(crate) async fn admit(&self, headers: &HeaderMap, unix: i64) -> Result<(), Refusal> {
        let authorization =
            single(headers, header::AUTHORIZATION.as_str()).ok_or(Refusal::Unsigned)?;
        let (scheme, token) = authorization.split_once(' ').ok_or(Refusal::Unsigned)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Unsigned);
        }
        let token = Unverified::parse(token.trim())?;
        let key = self
            .keys
            .key(&token.kid)
            .await
            .map_err(|error| match error {
                KeyError::Unknown => Refusal::UnknownKey,
                KeyError::Unavailable => Refusal::KeysUnavailable,
            })?;
        token.verify(&key, &self.expected, unix)
    }
}

/// Takes the message out of a push.
pub(crate) fn open(headers: &HeaderMap, body: Bytes) -> Result<Verified, Refusal> {
    match single(headers, MESSAGE_ID) {
        Some(id) => unwrapped(headers, id, body),
        None => wrapped(&body),
    }
}

fn unwrapped(headers: &HeaderMap, id: &str, body: Bytes) -> Result<Verified, Refusal> {
    let header = |name| single(headers, name).map(str::to_owned);
    verified(
        body,
        BTreeMap::new(),
        [
            ("messageId", Some(id.to_owned())),
            ("publishTime", header(PUBLISH_TIME)),
            ("orderingKey", header(ORDERING_KEY)),
            ("subscription", header(SUBSCRIPTION)),
        ],
    )
}

fn wrapped(body: &[u8]) -> Result<Verified, Refusal> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    let message = envelope.message;
    let data = BASE64
        .decode(&message.data)
        .map_err(|_| Refusal::Malformed)?;
    let attributes = message.attributes.unwrap_or_default();
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(Refusal::Malformed);
    }
    verified(
        data.into(),
        attributes,
        [
            ("messageId", message.message_id.or(message.message_id_too)),
            ("publishTime", message.publish_time),
            ("orderingKey", message.ordering_key),
            ("subscription", envelope.subscription),
        ],
    )
}

fn verified(
    body: Bytes,
    mut attributes: BTreeMap<String, String>,
    of_pubsub: [(&str, Option<String>); 4],
) -> Result<Verified, Refusal> {
    let [(_, id), ..] = &of_pubsub;
    let id = id.clone().ok_or(Refusal::Malformed)?;
    let sound = |text: &String| !text.contains('\0');
    if !(1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()) || !sound(&id) {
        return Err(Refusal::Malformed);
    }
    // What Pub/Sub says wins over what the publisher says under the same name.
    for (name, value) in of_pubsub {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value);
        }
    }
    Ok(Verified {
        body,
        attributes,
        dedups: vec![format!("msg:{id}")],
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn push(text: &str) -> Result<Verified, Refusal> {
        open(&HeaderMap::new(), Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_wrapped_message_is_unwrapped() {
        let message = push(
            r#"{"message":{"attributes":{"a":"b","messageId":"forged"},"data":"eyJhIjoxfQ==","messageId":"7",
            "message_id":"7","publishTime":"2021-02-26T19:13:55.749Z"},"subscription":"projects/p/subscriptions/s"}"#,
        )
        .unwrap();
        assert_eq!(message.body, r#"{"a":1}"#);
        assert_eq!(message.dedups, ["msg:7"]);
        assert_eq!(message.attributes["a"], "b");
        assert_eq!(message.attributes["messageId"], "7");
        assert_eq!(
            message.attributes["subscription"],
            "projects/p/subscriptions/s"
        );
        let unpadded = push(r#"{"message":{"data":"eyJhIjoxfQ","message_id":"7"}}"#);
        assert_eq!(unpadded.unwrap().body, message.body);
        assert_eq!(push(r#"{"message":{"messageId":"8"}}"#).unwrap().body, "");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for broken in [
            "",
            "{}",
            "[]",
            r#"{"message":{"data":"%%%","messageId":"7"}}"#,
            r#"{"message":{"data":"eyJhIjoxfQ=="}}"#,
            r#"{"message":{"data":7,"messageId":"7"}}"#,
            r#"{"message":{"data":"","messageId":""}}"#,
            r#"{"message":{"data":"","messageId":"a\u0000b"}}"#,
            r#"{"emailAddress":"a@example.com","historyId":7}"#,
        ] {
            assert_eq!(push(broken), Err(Refusal::Malformed), "{broken}");
        }
        let many: Vec<String> = (0..101).map(|at| format!("\"{at}\":\"\"")).collect();
        let many = format!(
            r#"{{"message":{{"messageId":"7","attributes":{{{}}}}}}}"#,
            many.join(",")
        );
        assert_eq!(push(&many), Err(Refusal::Malformed));
    }

    #[test]
    fn an_unwrapped_message_is_its_body() {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, HeaderValue::from_static("9"));
        headers.insert(PUBLISH_TIME, HeaderValue::from_static("t"));
        let message = open(&headers, Bytes::from_static(b"anything")).unwrap();
        assert_eq!(message.body, "anything");
        assert_eq!(message.dedups, ["msg:9"]);
        assert_eq!(message.attributes["publishTime"], "t");
        headers.append(MESSAGE_ID, HeaderValue::from_static("10"));
        assert_eq!(
            open(&headers, Bytes::from_static(b"x")),
            Err(Refusal::Malformed)
        );
    }
}
