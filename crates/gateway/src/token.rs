//! Client tokens: JSON Web Tokens with the claims of Centrifugo's.
//!
//! A *connection token* says who a client is; a *subscription token* lets one user into one channel. Both carry `sub`
//! (the user, empty for anonymous), and may carry `exp`, `nbf`, `iat`, `jti` (the session), `info` and what else grants something. The
//! presence of `channel` tells them apart: neither kind is taken for the other.
//!
//! They are signed with HS256 and this server's own secret, whoever they say that they are of; or by one of its [`issuer`]s, who are
//! told apart by `iss`, each with keys, algorithms and audiences of its own. The time is passed in; nothing here reads a clock or
//! keeps state.

mod claims;
pub mod issuer;
pub mod subs;

use std::collections::BTreeMap;

use fanfare_wire::{ChannelName, Json};
use serde_json::Number;
use thiserror::Error;

use self::claims::{Claims, Standard, Unproven, parse_channel, raw};
use crate::{
    access::{Capabilities, Terms},
    jose::{FormError, SecretKey, Unverified},
};

pub(crate) use self::claims::json_of_base64;
pub use self::{
    issuer::{IssuerKeys, TokenIssuer},
    subs::{SubOptions, channels_of},
};
pub use crate::jose::TOKEN_BYTES_MAX;

/// Longest user name (`sub`) in bytes.
pub const USER_BYTES_MAX: usize = 255;

/// How far the clock of whoever signs may be ahead of ours, in seconds: only `nbf` is treated with leniency.
pub const CLOCK_SKEW_SECONDS: i64 = 5;

const WRONG_ALGORITHM: &str =
    "it is not signed with an algorithm that is accepted; with token_secret that is HS256";
const WRONG_CLAIMS: &str = "its header or its claims are not what they should be";

/// Seconds since the Unix epoch.
pub type Seconds = i64;

/// Who a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Channels that the server subscribes the connection to; where a connection subscribes itself, those that it may have without a
    /// subscription token. Each once, sorted.
    pub channels: Vec<ChannelName>,
    /// Options of some of them.
    pub subs: BTreeMap<ChannelName, SubOptions>,
    /// Until when the connection may stay, if that is another time than `exp`; 0: for as long as it likes.
    pub expire_at: Option<Seconds>,
    /// What it may do beyond what namespaces say.
    pub caps: Capabilities,
    /// What the application's backend is told about the connection, and nobody else.
    pub meta: Option<Json>,
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
    /// Until when the subscription may stay, if that is another time than `exp`; 0: for as long as it likes.
    pub expire_at: Option<Seconds>,
    /// What it is granted beside.
    pub terms: Terms,
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
    /// This node does not know yet which tokens are revoked, or does not have the key. Try again in a moment.
    #[error("tokens cannot be judged yet; try again in a moment")]
    NotYet,
}

/// Checks tokens.
#[derive(Debug)]
pub struct TokenVerifier {
    /// Trusted whatever a token says of its issuer.
    own: Option<TokenIssuer>,
    issuers: Vec<TokenIssuer>,
}

/// Signs tokens with one secret.
#[derive(Debug)]
pub struct TokenSigner(SecretKey);

/// Who has said so: by this it is known whether it still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    issuer: usize,
    generation: u64,
}

// === impl TokenVerifier ===

impl TokenVerifier {
    /// A verifier for a secret, with HS256.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self::with_issuers(Some(secret), Vec::new())
    }

    /// A verifier for several issuers, and for a secret, with HS256, if there is one. A token that names an issuer is judged
    /// by the issuers of that name, if there are any; all others by the secret and by the issuers without a name.
    #[must_use]
    pub fn with_issuers(secret: Option<&[u8]>, issuers: Vec<TokenIssuer>) -> Self {
        let key = secret.map(SecretKey::hs256);
        let own = key.map(|key| TokenIssuer::any(IssuerKeys::Secret(key)));
        Self { own, issuers }
    }

    /// Checks a connection token.
    ///
    /// # Errors
    /// [`TokenError`]; a subscription token is not valid here.
    pub fn connection(&self, token: &str, now: Seconds) -> Result<ConnectionClaims, TokenError> {
        Ok(self.prove_connection(token, now)?.0)
    }

    /// Checks a connection token, and says who has vouched for it.
    pub(crate) fn prove_connection(
        &self,
        token: &str,
        now: Seconds,
    ) -> Result<(ConnectionClaims, Proof), TokenError> {
        let (claims, proof) = self.verify(token, now)?;
        if claims.channel.is_some() {
            return Err(TokenError::Invalid("this is a subscription token"));
        }
        let parsed = claims.channels.iter().map(|name| parse_channel(name));
        let channels = parsed.collect::<Result<Vec<_>, _>>()?;
        let Standard {
            exp,
            iat,
            expire_at,
        } = claims.times()?;
        let subs = claims.subs.iter();
        let subs = subs.map(|(name, options)| Ok((parse_channel(name)?, options.clone())));
        let subs = subs.collect::<Result<BTreeMap<_, _>, TokenError>>()?;
        let (channels, subs) = channels_of(channels, subs);
        let claims = ConnectionClaims {
            info: claims.info()?,
            sub: claims.sub,
            exp,
            iat,
            jti: claims.jti,
            channels,
            subs,
            expire_at,
            caps: claims.caps,
            meta: claims.meta.as_deref().map(Json::from_raw),
        };
        Ok((claims, proof))
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
        let (claims, _) = self.verify(token, now)?;
        let Some(channel) = &claims.channel else {
            return Err(TokenError::Invalid(
                "it names no channel, as a subscription token must",
            ));
        };
        let channel = parse_channel(channel)?;
        let Standard {
            exp,
            iat,
            expire_at,
        } = claims.times()?;
        let terms = Terms {
            info: claims.info()?,
            allow: claims.allow,
            overrides: claims.overrides,
        };
        let claims = SubscriptionClaims {
            sub: claims.sub,
            channel,
            exp,
            iat,
            expire_at,
            terms,
        };
        match claims.expires().is_some_and(|expires| expires <= now) {
            true => Err(TokenError::Expired),
            false => Ok(claims),
        }
    }

    /// Whether what was proved is still so: the key was not taken back by its issuer.
    pub(crate) fn holds(&self, proof: Proof) -> bool {
        let mut all = self.own.iter().chain(&self.issuers);
        let issuer = all.nth(proof.issuer);
        issuer.is_some_and(|issuer| issuer.generation() == proof.generation)
    }

    /// Waits for the keys that are being asked for, for [`WAIT_MAX`](crate::jose::jwks::WAIT_MAX) each at most.
    pub(crate) async fn answered(&self) {
        for keys in self.issuers.iter().filter_map(TokenIssuer::jwks) {
            keys.answered().await;
        }
    }

    fn verify(&self, token: &str, now: Seconds) -> Result<(Claims, Proof), TokenError> {
        let token = Unverified::parse(token).map_err(reason)?;
        let unproven = Unproven::read(&token)?;
        let iss = unproven.iss.as_deref();
        let is_named = |issuer: &&TokenIssuer| issuer.issuer.as_deref() == iss;
        let named = iss.is_some() && self.issuers.iter().any(|it| is_named(&it));
        let mut outcome = Err(TokenError::Invalid(
            "nobody is known who could have signed it",
        ));
        for (at, issuer) in self.own.iter().chain(&self.issuers).enumerate() {
            let asked = match named {
                true => is_named(&issuer),
                false => issuer.issuer.is_none(),
            };
            if !asked {
                continue;
            }
            // Before the look at the key: one that is replaced meanwhile does not count.
            let generation = issuer.generation();
            match issuer.check(&token, &unproven, now) {
                Ok(claims) => {
                    let proof = Proof {
                        issuer: at,
                        generation,
                    };
                    return Ok((claims, proof));
                }
                // Of several reasons the one that may pass, or that the client can do something about.
                Err(error)
                    if weight(error) >= outcome.as_ref().err().map_or(0, |it| weight(*it)) =>
                {
                    outcome = Err(error);
                }
                Err(_) => {}
            }
        }
        outcome
    }
}

fn weight(error: TokenError) -> u8 {
    match error {
        TokenError::Invalid(_) => 0,
        TokenError::NotYet => 1,
        TokenError::Expired => 2,
    }
}

fn reason(error: FormError) -> TokenError {
    TokenError::Invalid(match error {
        FormError::TooLong => "it is too long",
        FormError::Parts => "it is not a JSON Web Token",
        FormError::Header => WRONG_CLAIMS,
        FormError::Algorithm => WRONG_ALGORITHM,
    })
}

// === impl ConnectionClaims ===

impl ConnectionClaims {
    /// Until when what is opened with it may stay.
    #[must_use]
    pub fn expires(&self) -> Option<Seconds> {
        lifetime(self.exp, self.expire_at)
    }
}

fn lifetime(exp: Option<Seconds>, expire_at: Option<Seconds>) -> Option<Seconds> {
    match expire_at {
        None => exp,
        Some(0) => None,
        Some(expires) => Some(expires),
    }
}

// === impl SubscriptionClaims ===

impl SubscriptionClaims {
    /// Until when the subscription may stay.
    #[must_use]
    pub fn expires(&self) -> Option<Seconds> {
        lifetime(self.exp, self.expire_at)
    }

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
        Self(SecretKey::hs256(secret))
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
        let subs = claims.subs.iter();
        let subs = subs.map(|(channel, options)| (channel.as_str().to_owned(), options.clone()));
        self.sign(&Claims {
            sub: claims.sub.clone(),
            exp: claims.exp.map(Number::from),
            iat: claims.iat.map(Number::from),
            jti: claims.jti.clone(),
            info: raw(claims.info.as_ref())?,
            channels: channels.collect(),
            subs: subs.collect(),
            expire_at: claims.expire_at.map(Number::from),
            meta: raw(claims.meta.as_ref())?,
            caps: claims.caps.clone(),
            ..Claims::default()
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
            iat: claims.iat.map(Number::from),
            info: raw(claims.terms.info.as_ref())?,
            channel: Some(claims.channel.as_str().to_owned()),
            expire_at: claims.expire_at.map(Number::from),
            allow: claims.terms.allow,
            overrides: claims.terms.overrides,
            ..Claims::default()
        })
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        if claims.sub.len() > USER_BYTES_MAX {
            return Err(TokenError::Invalid("its user name is too long"));
        }
        let claims =
            serde_json::to_vec(claims).map_err(|_| TokenError::Invalid("it cannot be signed"))?;
        let token = self.0.sign(&claims);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid("it is too long"));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests;
