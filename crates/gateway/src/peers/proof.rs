//! Both ends of a link prove that they have the secret of the database, without showing it: each signs who they are and what
//! both have just drawn. So nothing that was recorded can be used again, and a node that finds somebody else at another
//! node's address tells it nothing.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::Rng as _;
use ring::hmac;
use uuid::Uuid;

/// What is drawn for a link, by each end.
pub(super) type Nonce = [u8; 32];

/// Bytes of a proof.
pub(super) const PROOF_BYTES: usize = 32;

/// Who opens the link.
pub(super) const NODE: HeaderName = HeaderName::from_static("x-fanfare-node");
/// What this end has drawn.
pub(super) const NONCE: HeaderName = HeaderName::from_static("x-fanfare-nonce");
/// The proof of who accepts the link.
pub(super) const PROOF: HeaderName = HeaderName::from_static("x-fanfare-proof");

/// What the protocol is called in an upgrade. Another version has another name.
pub(super) const PROTOCOL: &str = "fanfare-forward-1";

/// The secret of the database.
pub(super) struct Secret(hmac::Key);

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Who opens it.
    pub(super) from: Uuid,
    /// Who accepts it.
    pub(super) to: Uuid,
    /// Drawn by who opens it.
    pub(super) asked: Nonce,
    /// Drawn by who accepts it.
    pub(super) answered: Nonce,
}

/// Which end signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Opens,
    Accepts,
}

impl Secret {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The proof of one end.
    pub(super) fn prove(&self, end: End, link: &Link) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.0, &signed(end, link));
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Whether a proof is that of the end. Takes the same time for every wrong one.
    pub(super) fn holds(&self, end: End, link: &Link, proof: &[u8]) -> bool {
        hmac::verify(&self.0, &signed(end, link), proof).is_ok()
    }
}

fn signed(end: End, link: &Link) -> Vec<u8> {
    let end: &[u8] = match end {
        End::Opens => b"opens",
        End::Accepts => b"accepts",
    };
    let Link {
        from,
        to,
        asked,
        answered,
    } = link;
    // Of fixed lengths, but for the end, which no other end begins with.
    [
        PROTOCOL.as_bytes(),
        from.as_bytes(),
        to.as_bytes(),
        asked,
        answered,
        end,
    ]
    .concat()
}

/// Draws what nobody can know beforehand.
pub(super) fn draw() -> Nonce {
    rand::rng().random()
}

/// Bytes as the value of a header.
pub(super) fn value(bytes: &[u8]) -> HeaderValue {
    let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    // invariant: base64 has nothing that a header cannot have
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The bytes of a header.
pub(super) fn bytes<const N: usize>(headers: &HeaderMap, name: &HeaderName) -> Option<[u8; N]> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(headers.get(name)?.as_bytes());
    bytes.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_end_and_link_hold() {
        let secret = Secret::new(b"secret");
        let link = Link {
            from: Uuid::from_u128(1),
            to: Uuid::from_u128(2),
            asked: draw(),
            answered: draw(),
        };
        let proof = secret.prove(End::Accepts, &link);
        assert!(secret.holds(End::Accepts, &link, &proof));
        assert!(!secret.holds(End::Opens, &link, &proof));
        assert!(!secret.holds(End::Accepts, &link, &proof[1..]));
        assert!(!Secret::new(b"other").holds(End::Accepts, &link, &proof));
        let (from, to) = (link.to, link.from);
        assert!(!secret.holds(End::Accepts, &Link { from, to, ..link }, &proof));
        let asked = draw();
        assert!(!secret.holds(End::Accepts, &Link { asked, ..link }, &proof));
        let answered = draw();
        assert!(!secret.holds(End::Accepts, &Link { answered, ..link }, &proof));
    }

    #[test]
    fn bytes_survive_a_header() {
        let nonce = draw();
        let mut headers = HeaderMap::new();
        headers.insert(NONCE, value(&nonce));
        assert_eq!(bytes::<32>(&headers, &NONCE), Some(nonce));
        assert_eq!(bytes::<16>(&headers, &NONCE), None);
        assert_eq!(bytes::<32>(&headers, &PROOF), None);
    }
}
