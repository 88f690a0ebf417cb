//! Client tokens: HS256 JWTs signed with the server's secret.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use serde_json::json;

/// How long a signed token is valid, in seconds: longer than any run.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// Signs tokens for one user.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    key: hmac::Key,
    user: String,
}

impl Signer {
    /// A signer with the server's token secret.
    pub(crate) fn new(secret: &str, user: &str) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            user: user.to_owned(),
        }
    }

    /// A token to connect with.
    pub(crate) fn connection(&self) -> String {
        let now = unix_seconds();
        self.sign(&json!({"sub": self.user, "iat": now, "exp": now + LIFETIME_SECONDS}))
    }

    /// A token to subscribe to `channel` with.
    pub(crate) fn subscription(&self, channel: &str) -> String {
        let now = unix_seconds();
        self.sign(&json!({"sub": self.user, "channel": channel, "iat": now, "exp": now + LIFETIME_SECONDS}))
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let mut token = base64_url(br#"{"alg":"HS256","typ":"JWT"}"#);
        token.push('.');
        token.push_str(&base64_url(claims.to_string().as_bytes()));
        let tag = hmac::sign(&self.key, token.as_bytes());
        token.push('.');
        token.push_str(&base64_url(tag.as_ref()));
        token
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The alphabet of URLs, without padding.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_usize, |word, &byte| word << 8 | usize::from(byte));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[word >> (18 - 6 * place) & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_the_url_alphabet_and_no_padding() {
        assert_eq!(base64_url(b""), "");
        assert_eq!(base64_url(b"f"), "Zg");
        assert_eq!(base64_url(b"fo"), "Zm8");
        assert_eq!(base64_url(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64_url(&[0xff, 0xef, 0xbf]), "_--_");
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_header_and_claims() {
        let signer = Signer::new("secret", "42");
        let token = signer.subscription("a");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert_eq!(
            base64_url(hmac::sign(&key, signed.as_bytes()).as_ref()),
            signature
        );
        assert!(signed.starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."));
        assert_eq!(token.split('.').count(), 3);
        assert_ne!(signer.connection(), token);
    }

    #[test]
    fn a_known_token_comes_out_the_same() {
        // Computed by another implementation.
        let signer = Signer::new("secret", "42");
        let token = signer.sign(&json!({"sub": "42"}));
        assert_eq!(
            token,
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.79CVgMIG_JB921dVUeJDWNJubJojFodH3-XtC_1C408"
        );
    }
}
