//! Public keys as PEM: the text, and the little of DER that stands in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::key::Material;

/// Longest text of a key, in bytes.
const PEM_BYTES_MAX: usize = 16 << 10;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A text that is no public key that can be used. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PemError {
    /// No PEM at all, or a damaged one.
    #[error("is not a public key in PEM; it begins with -----BEGIN PUBLIC KEY-----")]
    Form,
    /// A private key.
    #[error(
        "is a private key; take it out of here, and write the public one: openssl pkey -in KEY -pubout"
    )]
    Private,
    /// A certificate.
    #[error("is a certificate; write its key: openssl x509 -in CERTIFICATE -noout -pubkey")]
    Certificate,
    /// A key of another kind.
    #[error("is a key of a kind that is not verified with; use RSA, P-256, P-384 or Ed25519")]
    Kind,
    /// An RSA key of another size.
    #[error("is an RSA key of less than 2048 or more than 8192 bits")]
    Size,
}

/// The numbers of the key in a text.
pub(super) fn parse(text: &str) -> Result<Material, PemError> {
    if text.len() > PEM_BYTES_MAX {
        return Err(PemError::Form);
    }
    let (_, rest) = text.split_once("-----BEGIN ").ok_or(PemError::Form)?;
    let (label, rest) = rest.split_once("-----").ok_or(PemError::Form)?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or(PemError::Form)?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| PemError::Form)?;
    match label {
        "PUBLIC KEY" => of_subject(&der),
        "RSA PUBLIC KEY" => of_rsa(&der).ok_or(PemError::Form),
        "CERTIFICATE" => Err(PemError::Certificate),
        label if label.ends_with("PRIVATE KEY") => Err(PemError::Private),
        _ => Err(PemError::Form),
    }
}

/// A SubjectPublicKeyInfo (RFC 5280): what kind of key, and its bits.
fn of_subject(der: &[u8]) -> Result<Material, PemError> {
    let parts = || {
        let info = whole(der, SEQUENCE)?;
        let (algorithm, rest) = element(info, SEQUENCE)?;
        let bits = whole(rest, BIT_STRING)?;
        let (kind, parameters) = element(algorithm, OBJECT)?;
        // The first byte says how many bits of the last one do not count.
        Some((kind, parameters, bits.strip_prefix(&[0])?))
    };
    let (kind, parameters, bits) = parts().ok_or(PemError::Form)?;
    let curve = || whole(parameters, OBJECT);
    let point = |length: usize| {
        let uncompressed = bits.len() == 1 + 2 * length && bits[0] == 4;
        uncompressed.then(|| bits.to_vec()).ok_or(PemError::Form)
    };
    match kind {
        RSA_ENCRYPTION => of_rsa(bits).ok_or(PemError::Form),
        EC_PUBLIC_KEY if curve() == Some(P256) => Ok(Material::P256(point(32)?)),
        EC_PUBLIC_KEY if curve() == Some(P384) => Ok(Material::P384(point(48)?)),
        ED25519 if bits.len() == 32 => Ok(Material::Ed25519(bits.to_vec())),
        _ => Err(PemError::Kind),
    }
}

/// An RSAPublicKey (RFC 8017): modulus and exponent.
fn of_rsa(der: &[u8]) -> Option<Material> {
    let (n, rest) = element(whole(der, SEQUENCE)?, INTEGER)?;
    Some(Material::rsa(n, whole(rest, INTEGER)?))
}

/// The content of an element that nothing follows.
fn whole(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (content, rest) = element(der, tag)?;
    rest.is_empty().then_some(content)
}

/// The content of the first element, which must be of this kind, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // Longer ones are not in a key that is short enough.
        _ => return None,
    };
    (head[0] == tag).then_some(())?;
    rest.split_at_checked(length)
}
