//! HMAC-SHA-256 of `timestamp.body` with a shared secret, as many systems sign their webhooks.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::{digest, hmac};

use super::{Verified, single};
use crate::refusal::Refusal;

/// How far a timestamp may be from now, in seconds, either way.
pub const WINDOW_SECONDS: i64 = 300;
/// Longest id of a delivery that its sender gives, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Written before the digits by some senders.
const SIGNATURE_PREFIX: &str = "sha256=";
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 32;

/// Verifies the signatures of one source.
pub struct HmacVerifier {
    key: hmac::Key,
    headers: HmacHeaders,
}

/// Where the parts of a signature stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacHeaders {
    /// The signature: 64 hexadecimal digits, with `sha256=` before them or not.
    pub signature: HeaderName,
    /// The time of the signature, in seconds since the Unix epoch.
    pub timestamp: HeaderName,
    /// What the sender calls the delivery, the same when it sends it again. Without it a delivery is known again by its signature
    /// only. 1 to 256 bytes.
    pub id: Option<HeaderName>,
}

/// What a request says of itself, to be compared with its body.
#[derive(Debug)]
pub(crate) struct Claimed {
    signature: [u8; SIGNATURE_BYTES],
    /// As it was written: it is part of what is signed.
    timestamp: String,
    id: Option<String>,
}

impl Default for HmacHeaders {
    fn default() -> Self {
        Self {
            signature: HeaderName::from_static("x-signature"),
            timestamp: HeaderName::from_static("x-timestamp"),
            id: None,
        }
    }
}

impl HmacVerifier {
    /// Verifies with a shared secret.
    #[must_use]
    pub fn new(secret: &[u8], headers: HmacHeaders) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            headers,
        }
    }

    pub(crate) fn claimed(&self, headers: &HeaderMap, unix: i64) -> Result<Claimed, Refusal> {
        let HmacHeaders {
            signature,
            timestamp,
            id,
        } = &self.headers;
        let signature = single(headers, signature.as_str()).ok_or(Refusal::Unsigned)?;
        let timestamp = single(headers, timestamp.as_str()).ok_or(Refusal::Unsigned)?;
        let digits = signature
            .strip_prefix(SIGNATURE_PREFIX)
            .unwrap_or(signature);
        let signature = parse_hex(digits).ok_or(Refusal::Signature)?;
        // Digits only: `parse` would take a sign.
        let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: i64 = timestamp.parse().map_err(|_| Refusal::Stale)?;
        if !is_number || (unix - seconds).abs() > WINDOW_SECONDS {
            return Err(Refusal::Stale);
        }
        let id = match id {
            Some(name) => {
                let id = single(headers, name.as_str()).ok_or(Refusal::Malformed)?;
                if !(1..=ID_BYTES_MAX).contains(&id.len()) {
                    return Err(Refusal::Malformed);
                }
                Some(id.to_owned())
            }
            None => None,
        };
        Ok(Claimed {
            signature,
            timestamp: timestamp.to_owned(),
            id,
        })
    }

    pub(crate) fn open(&self, claimed: Claimed, body: Bytes) -> Result<Verified, Refusal> {
        let mut signed = Vec::with_capacity(claimed.timestamp.len() + 1 + body.len());
        signed.extend_from_slice(claimed.timestamp.as_bytes());
        signed.push(b'.');
        signed.extend_from_slice(&body);
        // In constant time.
        hmac::verify(&self.key, &signed, &claimed.signature).map_err(|_| Refusal::Signature)?;
        // The id is not signed: a replay with another one is still known by its signature.
        let digest = digest::digest(&digest::SHA256, &claimed.signature);
        let mut dedups = vec![format!("sig:{}", URL_SAFE_NO_PAD.encode(digest))];
        let mut attributes = BTreeMap::new();
        attributes.insert("timestamp".to_owned(), claimed.timestamp);
        if let Some(id) = claimed.id {
            dedups.push(format!("id:{id}"));
            attributes.insert("id".to_owned(), id);
        }
        Ok(Verified {
            body,
            attributes,
            dedups,
        })
    }
}

fn parse_hex(digits: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = [0; SIGNATURE_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const SECRET: &[u8] = b"a secret of many bytes";
    const NOW: i64 = 1_700_000_000;

    fn sign(timestamp: &str, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn judge(
        pairs: &[(&'static str, &str)],
        body: &'static str,
        id: Option<&'static str>,
    ) -> Result<Verified, Refusal> {
        let names = HmacHeaders {
            id: id.map(HeaderName::from_static),
            ..HmacHeaders::default()
        };
        let verifier = HmacVerifier::new(SECRET, names);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let claimed = verifier.claimed(&headers, NOW)?;
        verifier.open(claimed, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn what_is_signed_is_taken_and_nothing_else() {
        let at = |offset: i64| (NOW + offset).to_string();
        let good = |at: &str, prefix: &str| {
            let signature = format!("{prefix}{}", sign(at, "{}"));
            judge(
                &[("x-signature", &signature), ("x-timestamp", at)],
                "{}",
                None,
            )
        };
        let one = good(&at(0), "").unwrap();
        assert_eq!(one.body, "{}");
        assert_eq!(good(&at(0), "sha256="), Ok(one.clone()));
        assert_ne!(good(&at(1), "").unwrap().dedups, one.dedups);
        assert!(good(&at(300), "").is_ok() && good(&at(-300), "").is_ok());
        for stale in [&at(301), &at(-301), "soon", "", "9999999999999999999999"] {
            assert_eq!(good(stale, ""), Err(Refusal::Stale), "{stale}");
        }
        let signed_plus = format!("+{NOW}");
        assert_eq!(good(&signed_plus, ""), Err(Refusal::Stale));
        let (now, right) = (at(0), sign(&at(0), "{}"));
        let wrong = |pairs: &[_], body| judge(pairs, body, None).unwrap_err();
        let (sig, time) = (
            ("x-signature", right.as_str()),
            ("x-timestamp", now.as_str()),
        );
        assert_eq!(wrong(&[sig, time], "{ }"), Refusal::Signature);
        assert_eq!(wrong(&[sig], "{}"), Refusal::Unsigned);
        assert_eq!(wrong(&[time], "{}"), Refusal::Unsigned);
        assert_eq!(wrong(&[sig, sig, time], "{}"), Refusal::Unsigned);
        for forged in [
            "00",
            "",
            "zz",
            &"0".repeat(64),
            &format!("sha1={right}"),
            &right[2..],
        ] {
            assert_eq!(
                wrong(&[("x-signature", forged), time], "{}"),
                Refusal::Signature
            );
        }
    }

    #[test]
    fn a_delivery_is_known_again_by_its_id_and_by_its_signature() {
        let at = NOW.to_string();
        let signature = sign(&at, "{}");
        let pairs = [("x-signature", signature.as_str()), ("x-timestamp", &at)];
        let with = |id: &str| judge(&[pairs[0], pairs[1], ("x-id", id)], "{}", Some("x-id"));
        let (one, two) = (with("a").unwrap().dedups, with("b").unwrap().dedups);
        assert_eq!(one[0], two[0]);
        assert_eq!((one[1].as_str(), two[1].as_str()), ("id:a", "id:b"));
        assert_eq!(with(""), Err(Refusal::Malformed));
        assert_eq!(with(&"x".repeat(257)), Err(Refusal::Malformed));
        assert_eq!(judge(&pairs, "{}", Some("x-id")), Err(Refusal::Malformed));
    }
}
