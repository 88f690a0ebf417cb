//! Sealing: what is kept, or handed to a browser, so that only this server can read it, and only for what it was meant.
//!
//! ChaCha20-Poly1305 with a random nonce. A sealed text is bound to a purpose and a user: it opens for nothing and nobody else.
//! The id of its key stands in front, so a new key can be put in use while texts of older ones still open.

use std::fmt;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use thiserror::Error;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Keys that may be given for reading, beside the current one.
pub const OLD_KEYS_MAX: usize = 16;

/// The first byte of everything that is sealed: the form of the rest.
const FORM: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

/// Padding or none: both are what people paste.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Seals with one key, and opens with that and older ones.
pub struct Sealer {
    /// The current one first.
    keys: Vec<Key>,
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    key: LessSafeKey,
}

/// Keys that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealKeyError {
    /// It is not base64 of [`KEY_BYTES`] bytes.
    #[error(
        "an encryption key is {KEY_BYTES} random bytes in base64: make one with `openssl rand -base64 {KEY_BYTES}`"
    )]
    Form,
    /// There are too many old ones.
    #[error(
        "at most {OLD_KEYS_MAX} old encryption keys are read; take out those that nothing is sealed with any more"
    )]
    TooMany,
}

/// Why something sealed does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// It was sealed with a key that is not among those given.
    #[error(
        "it was sealed with an encryption key that is not configured: add that key to encryption_keys_old"
    )]
    UnknownKey,
    /// It was not sealed here, was changed, or is of another purpose or user.
    #[error("it is not what was sealed")]
    Broken,
}

impl Sealer {
    /// Takes keys in base64: the one to seal with, and older ones that are only read with.
    ///
    /// # Errors
    /// [`SealKeyError`].
    pub fn new(current: &str, old: &[String]) -> Result<Self, SealKeyError> {
        if old.len() > OLD_KEYS_MAX {
            return Err(SealKeyError::TooMany);
        }
        let all = std::iter::once(current).chain(old.iter().map(String::as_str));
        let keys = all.map(Key::parse).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Seals bytes for a purpose and a user (empty, if there is none yet).
    #[must_use]
    pub fn seal(&self, purpose: &str, user: &str, plain: &[u8]) -> Vec<u8> {
        let key = &self.keys[0]; // invariant: there is a current key
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + CHACHA20_POLY1305.tag_len());
        sealed.push(FORM);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                bound_to(purpose, user),
                &mut text,
            )
            .expect("shorter than 256 GiB"); // invariant: nothing else can fail
        sealed.extend_from_slice(&text);
        sealed
    }

    /// Opens what was sealed for the same purpose and user.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, purpose: &str, user: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, rest) = parts(sealed).ok_or(SealError::Broken)?;
        let (nonce, text) = rest.split_first_chunk().ok_or(SealError::Broken)?;
        let mut known = self.keys.iter().filter(|key| key.id == id).peekable();
        if known.peek().is_none() {
            return Err(SealError::UnknownKey);
        }
        // Ids are short: two keys may share one.
        for key in known {
            let mut text = text.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key
                .key
                .open_in_place(nonce, bound_to(purpose, user), &mut text);
            if let Ok(plain) = opened {
                return Ok(plain.to_vec());
            }
        }
        Err(SealError::Broken)
    }

    /// Whether something was sealed with the current key. What was not should be sealed again, so that the old key can go.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let current = self.keys.first().map(|key| key.id);
        parts(sealed).map(|(id, _)| id) == current
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, SealKeyError> {
        let text = text.trim();
        let bytes = BASE64.decode(text).or_else(|_| BASE64_URL.decode(text));
        let bytes = bytes.map_err(|_| SealKeyError::Form)?;
        let unbound =
            UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealKeyError::Form)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"fanfare mail: id of an encryption key\0");
        hash.update(&bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&hash.finish().as_ref()[..KEY_ID_BYTES]);
        Ok(Self {
            id,
            key: LessSafeKey::new(unbound),
        })
    }
}

/// The id of the key, and nonce and text; if it has the form.
fn parts(sealed: &[u8]) -> Option<([u8; KEY_ID_BYTES], &[u8])> {
    let (&form, rest) = sealed.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    (form == FORM).then_some((*id, rest))
}

/// Purpose and user, so that no two pairs look the same.
fn bound_to(purpose: &str, user: &str) -> Aad<Vec<u8>> {
    let mut bound = (purpose.len() as u64).to_be_bytes().to_vec();
    bound.extend_from_slice(purpose.as_bytes());
    bound.extend_from_slice(user.as_bytes());
    Aad::from(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        BASE64.encode([byte; KEY_BYTES])
    }

    fn sealer(current: u8, old: &[u8]) -> Sealer {
        let old: Vec<String> = old.iter().map(|&byte| key(byte)).collect();
        Sealer::new(&key(current), &old).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_user_only() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal("token", "ann", b"secret");
        assert_eq!(sealer.open("token", "ann", &sealed).unwrap(), b"secret");
        for (purpose, user) in [
            ("cookie", "ann"),
            ("token", "bob"),
            ("tokena", "nn"),
            ("toke", "nann"),
            ("", "tokenann"),
        ] {
            assert_eq!(
                sealer.open(purpose, user, &sealed),
                Err(SealError::Broken),
                "{purpose} {user}"
            );
        }
        let empty = sealer.seal("", "", b"");
        assert_eq!(sealer.open("", "", &empty).unwrap(), b"");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn it_is_never_sealed_the_same_way_twice() {
        let sealer = sealer(1, &[]);
        assert_ne!(sealer.seal("p", "u", b"x"), sealer.seal("p", "u", b"x"));
    }

    #[test]
    fn whatever_is_changed_does_not_open() {
        let sealer = sealer(1, &[]);
        let sealed = sealer.seal("token", "ann", b"secret");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("token", "ann", &changed).is_err(), "byte {at}");
            assert!(
                sealer.open("token", "ann", &sealed[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn keys_are_changed_without_losing_anything() {
        let before = sealer(1, &[]);
        let sealed = before.seal("token", "ann", b"secret");
        assert!(before.is_current(&sealed));
        let between = sealer(2, &[1]);
        assert_eq!(between.open("token", "ann", &sealed).unwrap(), b"secret");
        assert!(!between.is_current(&sealed), "to be sealed again");
        let again = between.seal("token", "ann", b"secret");
        let after = sealer(2, &[]);
        assert_eq!(after.open("token", "ann", &again).unwrap(), b"secret");
        assert_eq!(
            after.open("token", "ann", &sealed),
            Err(SealError::UnknownKey)
        );
    }

    #[test]
    fn a_key_is_32_bytes_in_any_base64() {
        let bytes = [0xfb; KEY_BYTES];
        for text in [
            BASE64.encode(bytes),
            BASE64_URL.encode(bytes),
            BASE64.encode(bytes).trim_end_matches('=').to_owned(),
            format!(" {}\n", BASE64.encode(bytes)),
        ] {
            assert!(Sealer::new(&text, &[]).is_ok(), "{text}");
        }
        for text in [
            "",
            "secret",
            &BASE64.encode([1; 31]),
            &BASE64.encode([1; 33]),
            &"x".repeat(32),
        ] {
            assert_eq!(
                Sealer::new(text, &[]).err(),
                Some(SealKeyError::Form),
                "{text}"
            );
        }
        let old = vec![key(1); OLD_KEYS_MAX + 1];
        assert_eq!(
            Sealer::new(&key(2), &old).err(),
            Some(SealKeyError::TooMany)
        );
        assert_eq!(format!("{:?}", sealer(1, &[2])), "Sealer { keys: 2 }");
    }
}
