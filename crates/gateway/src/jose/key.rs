//! Keys: secrets, which sign too, and public keys.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{self, RsaPublicKeyComponents, UnparsedPublicKey},
};
use serde::Deserialize;

use super::{
    algorithm::{Algorithm, Algorithms},
    pem::{self, PemError},
};

/// Sizes of RSA keys that are verified with, in bits of the modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A secret that both sides have, for one algorithm.
pub struct SecretKey {
    algorithm: Algorithm,
    key: hmac::Key,
}

/// A public key, and what it verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    material: Material,
    algorithms: Algorithms,
}

/// The numbers of a public key, as *ring* takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Material {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key of a published set.
#[derive(Deserialize)]
pub(super) struct Jwk {
    pub(super) kid: Option<String>,
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl SecretKey {
    /// A secret for HS256.
    #[must_use]
    pub fn hs256(secret: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::Hs256,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// A secret; `None` if the algorithm is not one of secrets.
    #[must_use]
    pub fn new(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let digest = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return None,
        };
        Some(Self {
            algorithm,
            key: hmac::Key::new(digest, secret),
        })
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the signature is this key's. Compares in constant time.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        algorithm == self.algorithm && hmac::verify(&self.key, message, signature).is_ok()
    }

    /// A token with these claims, which are JSON.
    #[must_use]
    pub fn sign(&self, claims: &[u8]) -> String {
        let header = format!("{{\"typ\":\"JWT\",\"alg\":\"{}\"}}", self.algorithm);
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = hmac::sign(&self.key, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

/// Never shows the secret.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    /// The key of a PEM text: `PUBLIC KEY` (RSA, P-256, P-384, Ed25519) or `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// [`PemError`] says what it is instead.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        Self::new(pem::parse(text)?).ok_or(PemError::Size)
    }

    /// An RSA key of a modulus and an exponent, big-endian; `None` if it has less than 2048 or more than 8192 bits.
    #[must_use]
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        Self::new(Material::rsa(modulus, exponent))
    }

    /// A key of a published set, if it is for signatures and of a kind that is verified here.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let bytes = |text: &Option<String>| {
            let text = text.as_ref()?.trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).ok()
        };
        let point = |length: usize| {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Material::rsa(&bytes(&jwk.n)?, &bytes(&jwk.e)?),
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => {
                Material::Ed25519(bytes(&jwk.x).filter(|it| it.len() == 32)?)
            }
            // A secret that is published is none.
            _ => return None,
        };
        let signs = jwk.purpose.as_ref().is_none_or(|it| it == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|it| it == "verify");
        if !signs || !jwk.key_ops.as_ref().is_none_or(verifies) {
            return None;
        }
        let key = Self::new(material)?;
        match &jwk.alg {
            Some(name) => key.limited_to(Algorithms::of(&[Algorithm::parse(name)?])),
            None => Some(key),
        }
    }

    fn new(material: Material) -> Option<Self> {
        let algorithms = match &material {
            Material::Rsa { n, .. } => {
                let top = n.first()?.leading_zeros() as usize;
                RSA_BITS
                    .contains(&(n.len() * 8 - top))
                    .then_some(Algorithms::RSA)?
            }
            Material::P256(_) => Algorithms::of(&[Algorithm::Es256]),
            Material::P384(_) => Algorithms::of(&[Algorithm::Es384]),
            Material::Ed25519(_) => Algorithms::of(&[Algorithm::EdDsa]),
        };
        Some(Self {
            material,
            algorithms,
        })
    }

    /// What it verifies.
    #[must_use]
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// The same key for these algorithms only; `None` if it is for none of them.
    #[must_use]
    pub fn limited_to(mut self, algorithms: Algorithms) -> Option<Self> {
        self.algorithms = self.algorithms.and(algorithms);
        (!self.algorithms.is_empty()).then_some(self)
    }

    /// Whether the signature is this key's.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.contains(algorithm) {
            return false;
        }
        let verified = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, algorithm) => {
                let Some(parameters) = rsa(algorithm) else {
                    return false;
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            (Material::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature)
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

impl Material {
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Self {
        let bare = |number: &[u8]| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            number[zeros..].to_vec()
        };
        Self::Rsa {
            n: bare(n),
            e: bare(e),
        }
    }
}
