//! Keys of tests, and what they sign: any header, also those that no honest tool would write.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fanfare_engine::port::BoxFuture;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::{
    Algorithm, PublicKey,
    jwks::Issuer,
    key::{Jwk, SecretKey},
};

/// A key that both halves are known of.
pub(crate) enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    /// One of two RSA keys that everybody knows.
    pub(crate) fn rsa(number: usize) -> Self {
        let keys: [&[u8]; 2] = [
            include_bytes!("../../../../stand-in/keys/test-key-0.der"),
            include_bytes!("../../../../stand-in/keys/test-key-1.der"),
        ];
        Self::Rsa(RsaKeyPair::from_pkcs8(keys[number]).unwrap())
    }

    pub(crate) fn p256() -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).unwrap())
    }

    pub(crate) fn p384() -> Self {
        let (kind, random) = (&ECDSA_P384_SHA384_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::P384(EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    /// As it is published.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kid": kid, "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents { n, e } =
                    PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kid": kid, "kty": "RSA", "n": encode(&n), "e": encode(&e)})
            }
            Self::P256(pair) => point("P-256", pair.public_key().as_ref()),
            Self::P384(pair) => point("P-384", pair.public_key().as_ref()),
            Self::Ed25519(pair) => {
                json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        let jwk: Jwk = serde_json::from_value(self.jwk("")).unwrap();
        PublicKey::from_jwk(&jwk).unwrap()
    }

    /// The public half as *ring* has it: what somebody could take for an HMAC secret.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public().as_ref().to_vec(),
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// Signs with an algorithm of the key.
    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &dyn RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    other => panic!("{other} with an RSA key"),
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header, signed with `algorithm` whatever the header says.
    pub(crate) fn token_with(
        &self,
        algorithm: Algorithm,
        header: &Value,
        claims: &Value,
    ) -> String {
        let signed = unsigned(header, claims);
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// An honest token.
    pub(crate) fn token(&self, algorithm: Algorithm, kid: &str, claims: &Value) -> String {
        self.token_with(
            algorithm,
            &json!({"alg": algorithm.name(), "kid": kid}),
            claims,
        )
    }
}

/// Header and claims, without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// A token with this header whose signature is an HMAC with `secret`.
pub(crate) fn hmac_token(
    algorithm: Algorithm,
    secret: &[u8],
    header: &Value,
    claims: &Value,
) -> String {
    let signed = unsigned(header, claims);
    let digest = match algorithm {
        Algorithm::Hs256 => ring::hmac::HMAC_SHA256,
        Algorithm::Hs384 => ring::hmac::HMAC_SHA384,
        Algorithm::Hs512 => ring::hmac::HMAC_SHA512,
        other => panic!("{other} with a secret"),
    };
    assert!(SecretKey::new(algorithm, secret).is_some());
    let tag = ring::hmac::sign(&ring::hmac::Key::new(digest, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// What an issuer publishes: keys with the ids "0", "1", …
#[derive(Clone)]
pub(crate) struct Published(Arc<Mutex<Value>>);

impl Published {
    pub(crate) fn new(pairs: &[&Pair]) -> Self {
        let this = Self(Arc::default());
        this.set(pairs);
        this
    }

    pub(crate) fn set(&self, pairs: &[&Pair]) {
        let keys = pairs.iter().enumerate();
        let keys: Vec<Value> = keys.map(|(at, pair)| pair.jwk(&at.to_string())).collect();
        *self.0.lock().unwrap() = json!({ "keys": keys });
    }

    /// Who says so.
    pub(crate) fn issuer(&self) -> Box<dyn Issuer> {
        Box::new(self.clone())
    }
}

impl Issuer for Published {
    fn ask(&self) -> BoxFuture<'_, Result<(Bytes, Option<Duration>), String>> {
        let document = self.0.lock().unwrap().to_string();
        Box::pin(async { Ok((document.into(), Some(Duration::from_secs(3600)))) })
    }
}
