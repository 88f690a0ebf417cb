//! A token in its compact form: taken apart, and its signature verified.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use thiserror::Error;

use super::{
    algorithm::Algorithm,
    key::{PublicKey, SecretKey},
};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A text that is no token that could be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormError {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error("it is too long")]
    TooLong,
    /// It does not have the three parts of a token, in base64 for URLs without padding.
    #[error("it is not a JSON Web Token")]
    Parts,
    /// Its header is not what it should be, or says that something must be understood that is not.
    #[error("its header is not what it should be")]
    Header,
    /// It names an algorithm that is none, or not one of [`Algorithm`].
    #[error("it is signed with an algorithm that is not accepted")]
    Algorithm,
}

/// A token whose form is right, and whose signature nobody has looked at.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// What it says that it is signed with.
    pub algorithm: Algorithm,
    /// The id of its key.
    pub kid: Option<String>,
    signed: &'a str,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What must be understood; nothing is.
    crit: Option<serde_json::Value>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`FormError`]: it can be refused without a look at any key.
    pub fn parse(token: &'a str) -> Result<Self, FormError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(FormError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(FormError::Parts)?;
        let (header, claims) = signed.split_once('.').ok_or(FormError::Parts)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| FormError::Parts);
        let header = decode(header)?;
        let (claims, signature) = (decode(claims)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| FormError::Header)?;
        if header.crit.is_some() {
            return Err(FormError::Header);
        }
        Ok(Self {
            algorithm: Algorithm::parse(&header.alg).ok_or(FormError::Algorithm)?,
            kid: header.kid,
            signed,
            claims,
            signature,
        })
    }

    /// The claims as anybody may have written them: to find out whose key to look at, and for nothing else.
    #[must_use]
    pub fn claims_unverified(&self) -> &[u8] {
        &self.claims
    }

    /// The claims, if a public key says that they are its owner's.
    #[must_use]
    pub fn verify(&self, key: &PublicKey) -> Option<&[u8]> {
        key.verify(self.algorithm, self.signed.as_bytes(), &self.signature)
            .then_some(&self.claims)
    }

    /// The claims, if who has signed them has the secret.
    #[must_use]
    pub fn verify_secret(&self, key: &SecretKey) -> Option<&[u8]> {
        key.verify(self.algorithm, self.signed.as_bytes(), &self.signature)
            .then_some(&self.claims)
    }
}
