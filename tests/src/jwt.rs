//! JSON Web Tokens with HS256, made by hand: any claims, any header, also those that no honest tool would sign.

use ring::hmac;
use serde_json::{Value, json};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A token with these claims, signed with HS256.
pub fn sign(secret: &str, claims: &Value) -> String {
    sign_with_header(secret, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// A token with a header of the caller's; signed with HS256 whatever the header says.
pub fn sign_with_header(secret: &str, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        base64(header.to_string().as_bytes()),
        base64(claims.to_string().as_bytes())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64(tag.as_ref()))
}

/// Seconds since 1970, `offset` from now.
pub fn seconds_from_now(offset: i64) -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    now.as_secs() as i64 + offset
}

/// The alphabet for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for index in 0..=group.len() {
            let digit = bits >> (18 - 6 * index) & 63;
            text.push(char::from(ALPHABET[digit as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_token_is_made() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg");
        assert_eq!(base64(b"fo"), "Zm8");
        assert_eq!(base64(b"foo"), "Zm9v");
        assert_eq!(base64(&[0xfb, 0xff]), "-_8");
        // Made with another tool.
        assert_eq!(
            sign_with_header("secret", &json!({ "alg": "HS256" }), &json!({ "sub": "u" })),
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.UIiU4OtaWeHZMBSWdtSSg57yKo5SkrPVrL662-iYdL8"
        );
    }
}
