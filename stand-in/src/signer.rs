//! RSA keys, made once for tests and known to everybody, and what they sign.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

/// How many keys there are.
pub const KEYS: usize = 4;

const PKCS8: [&[u8]; KEYS] = [
    include_bytes!("../keys/test-key-0.der"),
    include_bytes!("../keys/test-key-1.der"),
    include_bytes!("../keys/test-key-2.der"),
    include_bytes!("../keys/test-key-3.der"),
];

/// One key.
pub struct Signer {
    pair: RsaKeyPair,
    kid: String,
}

impl Signer {
    /// The key of a number; they come round again after [`KEYS`].
    ///
    /// # Panics
    /// Never: the keys are part of the program.
    #[must_use]
    pub fn new(number: usize) -> Self {
        let pair = RsaKeyPair::from_pkcs8(PKCS8[number % KEYS]);
        Self {
            pair: pair.expect("the keys of the stand-in are RSA keys"),
            kid: format!("stand-in-{}", number % KEYS),
        }
    }

    /// Its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Modulus and exponent.
    #[must_use]
    pub fn public(&self) -> (Vec<u8>, Vec<u8>) {
        let PublicKeyComponents { n, e } = PublicKeyComponents::from(self.pair.public());
        (n, e)
    }

    /// As it is published.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let (n, e) = self.public();
        let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": encode(n), "e": encode(e) })
    }

    /// A token with these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.sign(
            &json!({"alg": "RS256", "kid": self.kid, "typ": "JWT"}),
            claims,
        )
    }

    /// A token with any header; signed with RS256 whatever the header says.
    ///
    /// # Panics
    /// Never: the key can sign.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        let done = self.pair.sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        done.expect("the buffer is as long as the modulus");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_are_different_and_sign() {
        let signers: Vec<_> = (0..KEYS).map(Signer::new).collect();
        for (at, signer) in signers.iter().enumerate() {
            assert_eq!(signer.token(&json!({})).split('.').count(), 3);
            assert!(
                signers[..at]
                    .iter()
                    .all(|other| other.public() != signer.public())
            );
        }
    }
}
