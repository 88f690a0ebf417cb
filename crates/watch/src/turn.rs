//! The servers through which browsers find each other: STUN, and TURN with credentials that end by themselves.
//!
//! The credentials are those of the convention that coturn calls `use-auth-secret`: the user name begins with the second at
//! which it ends, and the password is the HMAC-SHA-1 of the user name under a secret that both servers know.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde::Serialize;

/// How long TURN credentials are good for, in seconds.
pub const TURN_TTL_SECONDS: i64 = 24 * 3600;

/// Which servers there are.
#[derive(Clone, Default)]
pub struct IceConfig {
    /// URLs of STUN servers.
    pub stun_urls: Vec<String>,
    /// URLs of TURN servers.
    pub turn_urls: Vec<String>,
    /// The secret shared with them; without it they are not named to anybody.
    pub turn_secret: Option<String>,
}

/// An `RTCIceServer` for a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct IceServer {
    pub(crate) urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<String>,
}

impl IceConfig {
    /// What one member is told, at `now` in seconds.
    pub(crate) fn servers(&self, member: &str, now: i64) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun_urls.is_empty() {
            servers.push(IceServer {
                urls: self.stun_urls.clone(),
                username: None,
                credential: None,
            });
        }
        if let Some(secret) = &self.turn_secret
            && !self.turn_urls.is_empty()
        {
            let username = format!("{}:{member}", now + TURN_TTL_SECONDS);
            let credential = credential(secret, &username);
            servers.push(IceServer {
                urls: self.turn_urls.clone(),
                username: Some(username),
                credential: Some(credential),
            });
        }
        servers
    }
}

/// Never shows the secret.
impl fmt::Debug for IceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceConfig")
            .field("stun_urls", &self.stun_urls)
            .field("turn_urls", &self.turn_urls)
            .finish_non_exhaustive()
    }
}

fn credential(secret: &str, username: &str) -> String {
    // The convention fixes the algorithm; HMAC does not need what SHA-1 has lost.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_coturn_computes() {
        // printf '1700000000:ann' | openssl dgst -sha1 -hmac 'north' -binary | base64
        assert_eq!(credential("north", "1700000000:ann"), EXPECTED);
        let config = IceConfig {
            stun_urls: vec!["stun:s:3478".to_owned()],
            turn_urls: vec!["turn:t:3478".to_owned()],
            turn_secret: Some("north".to_owned()),
        };
        let servers = config.servers("ann", 1_700_000_000 - TURN_TTL_SECONDS);
        assert_eq!(servers[0].username, None);
        assert_eq!(servers[1].username.as_deref(), Some("1700000000:ann"));
        assert_eq!(servers[1].credential.as_deref(), Some(EXPECTED));
        assert!(!format!("{config:?}").contains("north"));
    }

    #[test]
    fn without_a_secret_no_turn_server_is_named() {
        let config = IceConfig {
            turn_urls: vec!["turn:t:3478".to_owned()],
            ..IceConfig::default()
        };
        assert!(config.servers("ann", 0).is_empty());
    }

    const EXPECTED: &str = "jeamH6dA5l2I9g3jmieza7CzEDo=";
}
