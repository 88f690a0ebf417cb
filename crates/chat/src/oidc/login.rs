//! What a browser keeps while it is at the provider: a cookie that only this server can have made.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::Oidc;
use crate::{failure::Failure, id::random_bytes, unix_seconds};

/// How long a login may take, in seconds.
pub(super) const LOGIN_SECONDS: i64 = 600;
/// Longest cookie that is looked at, in bytes.
const COOKIE_BYTES_MAX: usize = 2048;

/// A login that has begun in a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    /// Comes back with the browser, unless somebody else's answer does.
    pub(super) state: String,
    /// Stands in the token of identity, unless it is of another login.
    pub(super) nonce: String,
    /// Proves to the provider that who exchanges the code is who began.
    pub(super) verifier: String,
    /// Which workspace is meant.
    pub(super) team: Option<String>,
    /// The invitation with which somebody came.
    pub(super) invite: Option<String>,
    /// When it is over, in seconds since 1970.
    pub(super) until: i64,
}

impl Login {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(super) fn begin(team: Option<String>, invite: Option<String>) -> Result<Self, Failure> {
        let draw = || Ok::<_, Failure>(URL_SAFE_NO_PAD.encode(random_bytes::<32>()?));
        Ok(Self {
            state: draw()?,
            nonce: draw()?,
            verifier: draw()?,
            team,
            invite,
            until: unix_seconds() + LOGIN_SECONDS,
        })
    }
}

impl Oidc {
    /// The value of a login's cookie.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn keep(&self, login: &Login) -> Result<String, Failure> {
        let plain = serde_json::to_vec(login).map_err(Failure::internal)?;
        let plain = URL_SAFE_NO_PAD.encode(plain);
        let tag = hmac::sign(&self.cookie_key, plain.as_bytes());
        Ok(format!("{plain}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The login of a cookie, if this server has made it and it is not over.
    pub(super) fn kept(&self, cookie: &str, now: i64) -> Option<Login> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let (plain, tag) = cookie.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.cookie_key, plain.as_bytes(), &tag).ok()?;
        let plain = URL_SAFE_NO_PAD.decode(plain).ok()?;
        let login: Login = serde_json::from_slice(&plain).ok()?;
        (now < login.until).then_some(login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::{OidcConfig, OidcSettings};

    fn oidc(secret: &str) -> Oidc {
        let settings = OidcSettings {
            issuer: "https://accounts.example.com".to_owned(),
            client_id: "chat".to_owned(),
            client_secret: secret.to_owned(),
            name: "Example".to_owned(),
            public_url: "https://chat.example.com".to_owned(),
        };
        Oidc::new(OidcConfig::new(settings).unwrap())
    }

    #[test]
    fn a_login_is_what_this_server_has_begun_lately() {
        let ours = oidc("0123456789abcdef");
        let team = Some("T".repeat(128));
        let login = Login::begin(team.clone(), team).unwrap();
        let cookie = ours.keep(&login).unwrap();
        let now = login.until - 1;
        assert!(cookie.len() <= COOKIE_BYTES_MAX);
        assert_eq!(ours.kept(&cookie, now), Some(login.clone()));
        let other_node = oidc("0123456789abcdef");
        assert_eq!(other_node.kept(&cookie, now), Some(login.clone()));
        assert_eq!(ours.kept(&cookie, login.until), None, "over");
        assert_eq!(oidc("0123456789abcdeg").kept(&cookie, now), None);
        let (plain, tag) = cookie.split_once('.').unwrap();
        let forged = serde_json::to_vec(&Login {
            invite: None,
            ..login
        });
        let forged = URL_SAFE_NO_PAD.encode(forged.unwrap());
        for bad in [
            format!("{forged}.{tag}"),
            format!("{plain}."),
            plain.to_owned(),
            String::new(),
            format!("{}.{tag}", "A".repeat(COOKIE_BYTES_MAX)),
        ] {
            assert_eq!(ours.kept(&bad, now), None, "{bad}");
        }
    }
}
