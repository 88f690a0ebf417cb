//! How a source is told from others who know its address.

pub mod hmac;
pub mod pubsub;
pub mod token;

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use bytes::Bytes;

/// The keys that Google publishes.
pub use fanfare_gateway::jose::jwks;

pub use self::{hmac::HmacVerifier, pubsub::GoogleVerifier};
use crate::refusal::Refusal;

/// Bytes of all attributes of a delivery.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 << 10;

/// How a source is told from others.
pub enum Verify {
    /// By a signature with a shared secret.
    Hmac(Box<HmacVerifier>),
    /// By a token that Google signed for Pub/Sub.
    Google(GoogleVerifier),
}

/// What was found before the body was read.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// Nothing yet: the signature is of the body.
    WithBody(hmac::Claimed),
    /// The token is good.
    Known,
}

/// A request that is what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The payload.
    pub body: Bytes,
    /// What the sender says about it.
    pub attributes: BTreeMap<String, String>,
    /// By what it is known again; at least one.
    pub dedups: Vec<String>,
}

impl Verify {
    /// Judges the head of a request.
    pub(crate) async fn admit(&self, headers: &HeaderMap, unix: i64) -> Result<Admitted, Refusal> {
        match self {
            Self::Hmac(verifier) => verifier.claimed(headers, unix).map(Admitted::WithBody),
            Self::Google(verifier) => verifier
                .admit(headers, unix)
                .await
                .map(|()| Admitted::Known),
        }
    }

    /// Judges the body, and takes it out of its envelope.
    pub(crate) fn open(
        &self,
        admitted: Admitted,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Verified, Refusal> {
        let verified = match (self, admitted) {
            (Self::Hmac(verifier), Admitted::WithBody(claimed)) => verifier.open(claimed, body)?,
            (Self::Google(_), Admitted::Known) => pubsub::open(headers, body)?,
            _ => return Err(Refusal::Unsigned),
        };
        let weight = |(key, value): (&String, &String)| key.len() + value.len();
        if verified.attributes.iter().map(weight).sum::<usize>() > ATTRIBUTES_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        Ok(verified)
    }
}

/// The value of a header that is there once and is text.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
