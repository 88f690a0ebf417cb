//! Who signs tokens, and what counts of what they sign.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::Value;

use super::{
    CLOCK_SKEW_SECONDS, Seconds, TokenError, USER_BYTES_MAX, WRONG_ALGORITHM, WRONG_CLAIMS,
    claims::{Claims, Unproven, seconds},
};
use crate::jose::{
    Algorithm, Algorithms, PublicKey, SecretKey, Unverified,
    jwks::{Jwks, KeyError},
};

/// One who signs tokens.
#[derive(Debug)]
pub struct TokenIssuer {
    /// Its name, which its tokens have in `iss`. Without one it may have signed any token that names no other issuer.
    pub issuer: Option<String>,
    /// For whom its tokens must be: one of these must be in `aud`. Empty: for anybody.
    pub audiences: Vec<String>,
    /// What it signs with; of those only the ones that its keys are for.
    pub algorithms: Algorithms,
    /// Its keys.
    pub keys: IssuerKeys,
    /// The claim that names the user.
    pub user_claim: Option<String>,
    /// What stands before its users' names here, so that they are not taken for another issuer's.
    pub user_prefix: String,
}

/// What an issuer's signatures are verified with.
pub enum IssuerKeys {
    /// A secret that both have.
    Secret(SecretKey),
    /// One public key.
    Public(Box<PublicKey>),
    /// Public keys that it publishes; its tokens name theirs with `kid`.
    Jwks(Arc<Jwks>),
}

impl TokenIssuer {
    /// Of any name, for anybody, with all algorithms of its keys.
    #[must_use]
    pub fn any(keys: IssuerKeys) -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            algorithms: Algorithms::of(&Algorithm::ALL),
            keys,
            user_claim: None,
            user_prefix: String::new(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.jwks().map_or(0, |keys| keys.generation())
    }

    pub(super) fn jwks(&self) -> Option<&Arc<Jwks>> {
        match &self.keys {
            IssuerKeys::Jwks(keys) => Some(keys),
            IssuerKeys::Secret(_) | IssuerKeys::Public(_) => None,
        }
    }

    /// The claims of a token of its own that is valid now.
    pub(super) fn check(
        &self,
        token: &Unverified<'_>,
        unproven: &Unproven,
        now: Seconds,
    ) -> Result<Claims, TokenError> {
        let claims = self.prove(token, unproven.iat)?;
        let mut read: Claims =
            serde_json::from_slice(claims).map_err(|_| TokenError::Invalid(WRONG_CLAIMS))?;
        if !self.audiences.is_empty() && !unproven.is_for(&self.audiences) {
            return Err(TokenError::Invalid("it is for another audience"));
        }
        if let Some(claim) = &self.user_claim {
            read.sub = user(claims, claim)?;
        }
        if !read.sub.is_empty() {
            read.sub.insert_str(0, &self.user_prefix);
        }
        if read.sub.len() > USER_BYTES_MAX {
            return Err(TokenError::Invalid("its user name is too long"));
        }
        let session = read.jti.as_ref();
        if session.is_some_and(|session| session.len() > USER_BYTES_MAX) {
            return Err(TokenError::Invalid("its session name is too long"));
        }
        if seconds(read.nbf.as_ref())?.is_some_and(|nbf| nbf > now + CLOCK_SKEW_SECONDS) {
            return Err(TokenError::Invalid("it is not valid yet"));
        }
        if read.times()?.exp.is_some_and(|exp| now >= exp) {
            return Err(TokenError::Expired);
        }
        Ok(read)
    }

    /// The claims, if the issuer has signed them.
    fn prove<'a>(
        &self,
        token: &'a Unverified<'_>,
        signed: Option<Seconds>,
    ) -> Result<&'a [u8], TokenError> {
        if !self.algorithms.contains(token.algorithm) {
            return Err(TokenError::Invalid(WRONG_ALGORITHM));
        }
        let claims = match &self.keys {
            IssuerKeys::Secret(key) if key.algorithm() != token.algorithm => {
                return Err(TokenError::Invalid(WRONG_ALGORITHM));
            }
            IssuerKeys::Secret(key) => token.verify_secret(key),
            IssuerKeys::Public(key) => verify(token, key)?,
            IssuerKeys::Jwks(keys) => {
                let kid = token.kid.as_deref();
                let kid = kid.ok_or(TokenError::Invalid("it names no key with `kid`"))?;
                let key = keys.known(kid, signed).map_err(|error| match error {
                    KeyError::Unknown => TokenError::Invalid("its key is not its issuer's"),
                    KeyError::Unavailable => TokenError::NotYet,
                })?;
                verify(token, &key)?
            }
        };
        claims.ok_or(TokenError::Invalid(
            "its signature does not match; is it signed with the key of this server, or of its issuer?",
        ))
    }
}

fn verify<'a>(token: &'a Unverified<'_>, key: &PublicKey) -> Result<Option<&'a [u8]>, TokenError> {
    match key.algorithms().contains(token.algorithm) {
        true => Ok(token.verify(key)),
        false => Err(TokenError::Invalid(WRONG_ALGORITHM)),
    }
}

/// The user, from a claim of another name than `sub`.
fn user(claims: &[u8], claim: &str) -> Result<String, TokenError> {
    let wrong = || TokenError::Invalid("the claim that names its user is missing, or no text");
    let mut all: HashMap<String, Value> = serde_json::from_slice(claims).map_err(|_| wrong())?;
    match all.remove(claim) {
        Some(Value::String(user)) => Ok(user),
        _ => Err(wrong()),
    }
}

/// Never shows a secret.
impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(key) => key.fmt(f),
            Self::Public(key) => key.fmt(f),
            Self::Jwks(_) => f.write_str("Jwks"),
        }
    }
}

#[cfg(test)]
mod tests;
