//! Client tokens: JWTs signed with HMAC-SHA-256, as Centrifugo's and with the same claims.
//!
//! A *connection token* says who a client is; a *subscription token* lets one user into one channel. Both carry `sub`
//! (the user, empty for anonymous), and may carry `exp`, `nbf`, `iat`, `jti` (the session) and `info`. The presence of `channel` tells them
//! apart: neither kind is taken for the other. Audience and issuer are not looked at: whoever has the secret is trusted.
//!
//! The time is passed in; nothing here reads a clock or keeps state. Any algorithm but HS256, `none` included, is refused.

mod provider;

use std::fmt;

use fanfare_wire::{ChannelName, Json};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    errors::{Error, ErrorKind},
};
use serde::{Deserialize, Serialize};
use serde_json::{Number, value::RawValue};
use thiserror::Error;

/// Longest token in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Longest user name (`sub`) in bytes.
pub const USER_BYTES_MAX: usize = 255;

/// How far the clock of whoever signs may be ahead of ours, in seconds: only `nbf` is treated with leniency.
pub const CLOCK_SKEW_SECONDS: i64 = 5;

/// Seconds since the Unix epoch.
pub type Seconds = i64;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// The user; empty for an anonymous one. At most [`USER_BYTES_MAX`] bytes.
    pub sub: String,
    /// When the token stops being valid.
    pub exp: Option<Seconds>,
    /// When it was signed.
    pub iat: Option<Seconds>,
    /// The session that the token belongs to: what is revoked together. At most [`USER_BYTES_MAX`] bytes.
    pub jti: Option<String>,
    /// What is told to others about the connection.
    pub info: Option<Json>,
    /// Channels that the connection may subscribe to without a subscription token.
    pub channels: Vec<ChannelName>,
}

/// Leave for one user to subscribe to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// The user it was given to; empty for an anonymous one. At most [`USER_BYTES_MAX`] bytes.
    pub sub: String,
    /// The channel.
    pub channel: ChannelName,
    /// When the token stops being valid.
    pub exp: Option<Seconds>,
    /// When it was signed.
    pub iat: Option<Seconds>,
    /// What is told to others about the subscription.
    pub info: Option<Json>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It was valid once: fetch a new one.
    #[error("token has expired")]
    Expired,
    /// It was never valid, or is not for this use. The reason never repeats the token.
    #[error("token is not valid: {0}")]
    Invalid(&'static str),
    /// This node does not know yet which tokens are revoked. Try again in a moment.
    #[error("tokens cannot be judged yet; try again in a moment")]
    NotYet,
}

/// Checks tokens against one secret.
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
}

/// Signs tokens with one secret.
pub struct TokenSigner {
    key: EncodingKey,
}

// === impl TokenVerifier ===

impl TokenVerifier {
    /// A verifier for a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        provider::install();
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would read its own clock, and knows fewer shapes of time than the standard.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self {
            key: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// Checks a connection token.
    ///
    /// # Errors
    /// [`TokenError`]; a subscription token is not valid here.
    pub fn connection(&self, token: &str, now: Seconds) -> Result<ConnectionClaims, TokenError> {
        let claims = self.verify(token, now)?;
        if claims.channel.is_some() {
            return Err(TokenError::Invalid("this is a subscription token"));
        }
        let parsed = claims.channels.iter().map(|name| parse_channel(name));
        let channels = parsed.collect::<Result<Vec<_>, _>>()?;
        let Standard { exp, iat } = claims.times()?;
        let info = claims.info.as_deref().map(Json::from_raw);
        Ok(ConnectionClaims {
            sub: claims.sub,
            exp,
            iat,
            jti: claims.jti,
            info,
            channels,
        })
    }

    /// Checks a subscription token. Whether it is for this user and channel is [`SubscriptionClaims::permit`]'s question.
    ///
    /// # Errors
    /// [`TokenError`]; a connection token is not valid here.
    pub fn subscription(
        &self,
        token: &str,
        now: Seconds,
    ) -> Result<SubscriptionClaims, TokenError> {
        let claims = self.verify(token, now)?;
        let Some(channel) = &claims.channel else {
            return Err(TokenError::Invalid(
                "it names no channel, as a subscription token must",
            ));
        };
        let channel = parse_channel(channel)?;
        let Standard { exp, iat } = claims.times()?;
        let info = claims.info.as_deref().map(Json::from_raw);
        Ok(SubscriptionClaims {
            sub: claims.sub,
            channel,
            exp,
            iat,
            info,
        })
    }

    fn verify(&self, token: &str, now: Seconds) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid("it is too long"));
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = decoded
            .map_err(|error| TokenError::Invalid(reason(&error)))?
            .claims;
        if claims.sub.len() > USER_BYTES_MAX {
            return Err(TokenError::Invalid("its user name is too long"));
        }
        if claims
            .jti
            .as_ref()
            .is_some_and(|jti| jti.len() > USER_BYTES_MAX)
        {
            return Err(TokenError::Invalid("its session name is too long"));
        }
        if seconds(claims.nbf.as_ref())?.is_some_and(|nbf| nbf > now + CLOCK_SKEW_SECONDS) {
            return Err(TokenError::Invalid("it is not valid yet"));
        }
        if claims.times()?.exp.is_some_and(|exp| now >= exp) {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// Never shows the secret.
impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").finish_non_exhaustive()
    }
}

// === impl SubscriptionClaims ===

impl SubscriptionClaims {
    /// Checks that the token was given to this user for this channel.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if it was given to another user or for another channel.
    pub fn permit(&self, user: &str, channel: &ChannelName) -> Result<(), TokenError> {
        if self.sub != user {
            return Err(TokenError::Invalid("it was given to another user"));
        }
        if self.channel != *channel {
            return Err(TokenError::Invalid("it is for another channel"));
        }
        Ok(())
    }
}

// === impl TokenSigner ===

impl TokenSigner {
    /// A signer for a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        provider::install();
        Self {
            key: EncodingKey::from_secret(secret),
        }
    }

    /// Signs a connection token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the claims do not fit into a token that the verifier accepts.
    pub fn sign_connection(&self, claims: &ConnectionClaims) -> Result<String, TokenError> {
        let channels = claims
            .channels
            .iter()
            .map(|channel| channel.as_str().to_owned());
        self.sign(&Claims {
            sub: claims.sub.clone(),
            exp: claims.exp.map(Number::from),
            nbf: None,
            iat: claims.iat.map(Number::from),
            jti: claims.jti.clone(),
            info: raw(claims.info.as_ref())?,
            channel: None,
            channels: channels.collect(),
        })
    }

    /// Signs a subscription token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the claims do not fit into a token that the verifier accepts.
    pub fn sign_subscription(&self, claims: &SubscriptionClaims) -> Result<String, TokenError> {
        self.sign(&Claims {
            sub: claims.sub.clone(),
            exp: claims.exp.map(Number::from),
            nbf: None,
            iat: claims.iat.map(Number::from),
            jti: None,
            info: raw(claims.info.as_ref())?,
            channel: Some(claims.channel.as_str().to_owned()),
            channels: Vec::new(),
        })
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        if claims.sub.len() > USER_BYTES_MAX {
            return Err(TokenError::Invalid("its user name is too long"));
        }
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, claims, &self.key)
            .map_err(|_| TokenError::Invalid("it cannot be signed"))?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid("it is too long"));
        }
        Ok(token)
    }
}

/// Never shows the secret.
impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").finish_non_exhaustive()
    }
}

/// The claims as they stand in a token of either kind; others are ignored.
#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
}

/// The times of a token that its holder learns.
struct Standard {
    exp: Option<Seconds>,
    iat: Option<Seconds>,
}

impl Claims {
    fn times(&self) -> Result<Standard, TokenError> {
        Ok(Standard {
            exp: seconds(self.exp.as_ref())?,
            iat: seconds(self.iat.as_ref())?,
        })
    }
}

/// A NumericDate, which may have a fraction; that is cut off.
fn seconds(number: Option<&Number>) -> Result<Option<Seconds>, TokenError> {
    /// Beyond this a float no longer holds every second; it is the year 285 million.
    const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

    let Some(number) = number else {
        return Ok(None);
    };
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.abs() <= FLOAT_MAX)?;
        Some(float.floor() as Seconds)
    });
    whole
        .map(Some)
        .ok_or(TokenError::Invalid("one of its times is out of range"))
}

fn parse_channel(name: &str) -> Result<ChannelName, TokenError> {
    ChannelName::parse(name).map_err(|_| TokenError::Invalid("it names an impossible channel"))
}

fn raw(json: Option<&Json>) -> Result<Option<Box<RawValue>>, TokenError> {
    let raw = json
        .map(|json| serde_json::from_slice(json.as_bytes()))
        .transpose();
    raw.map_err(|_| TokenError::Invalid("its info is not JSON"))
}

fn reason(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => {
            "its signature does not match; is it signed with this server's secret?"
        }
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm => "it is not signed with HS256",
        ErrorKind::Json(_) => "its header or its claims are not what they should be",
        _ => "it is not a JSON Web Token",
    }
}

#[cfg(test)]
mod tests;
