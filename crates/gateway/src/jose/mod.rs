//! JSON Web Tokens and the keys that verify them (RFC 7515, 7517, 7518, 7519 and 8037), on *ring*.
//!
//! A key says itself what it verifies; the header of a token only chooses among that. A secret and a public key are different
//! types, so neither is ever taken for the other, `none` is no [`Algorithm`], and keys that stand in a token (`jwk`, `x5c`) or
//! are named by it (`jku`, `x5u`) are not looked at.

mod algorithm;
pub mod jwks;
mod key;
mod pem;
#[cfg(test)]
pub(crate) mod testing;
mod token;

pub use self::{
    algorithm::{Algorithm, Algorithms},
    key::{PublicKey, SecretKey},
    pem::PemError,
    token::{FormError, TOKEN_BYTES_MAX, Unverified},
};

#[cfg(test)]
mod tests;
