//! What is configured, checked.

use std::fmt;

use fanfare_gateway::https::Url;
use thiserror::Error;

use super::routes::CALLBACK_PATH;

/// Shortest secret, in bytes: a key is made of it.
const SECRET_BYTES_MIN: usize = 16;
const TEXT_BYTES_MAX: usize = 512;
const NAME_CHARS_MAX: usize = 40;
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What somebody has configured.
pub struct OidcSettings {
    /// The provider, exactly as it calls itself (`https://accounts.example.com`).
    pub issuer: String,
    /// What the provider calls this server.
    pub client_id: String,
    /// What this server shows the provider.
    pub client_secret: String,
    /// What people call the provider; it stands on the page's button.
    pub name: String,
    /// The origin of the page: the provider sends browsers back there.
    pub public_url: String,
}

/// A provider by which people sign in, checked.
#[derive(Clone)]
pub struct OidcConfig {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) name: String,
    /// Where the provider describes itself.
    pub(super) discovery: Url,
    /// Where it sends browsers back to.
    pub(super) redirect: String,
}

/// What is wrong with [`OidcSettings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OidcConfigError {
    /// The issuer is no URL that can be asked.
    #[error(
        "must be an https:// URL without a query, exactly as the provider calls itself; http:// is taken for 127.0.0.1 and localhost only"
    )]
    Issuer,
    /// There is no client id, or it is none.
    #[error(
        "must be what the provider calls this server: 1 to {TEXT_BYTES_MAX} printable characters"
    )]
    ClientId,
    /// There is no secret, or a short one.
    #[error(
        "must be the secret that the provider gave out: {SECRET_BYTES_MIN} to {TEXT_BYTES_MAX} printable characters"
    )]
    ClientSecret,
    /// The name does not fit on a button.
    #[error("must be 1 to {NAME_CHARS_MAX} characters, as on the button \"Continue with NAME\"")]
    Name,
}

impl OidcConfigError {
    /// The setting.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::ClientId => "client_id",
            Self::ClientSecret => "client_secret",
            Self::Name => "name",
        }
    }
}

impl OidcConfig {
    /// Checks what is configured.
    ///
    /// # Errors
    /// [`OidcConfigError`]: the first setting that is wrong.
    pub fn new(settings: OidcSettings) -> Result<Self, OidcConfigError> {
        let issuer = settings.issuer;
        let is_plain = issuer.len() <= TEXT_BYTES_MAX && !issuer.contains(['?', '#']);
        let discovery = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        let discovery = Url::parse(&discovery).map_err(|_| OidcConfigError::Issuer)?;
        if !is_plain {
            return Err(OidcConfigError::Issuer);
        }
        let is_text = |text: &str, least: usize| {
            (least..=TEXT_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        if !is_text(&settings.client_id, 1) {
            return Err(OidcConfigError::ClientId);
        }
        if !is_text(&settings.client_secret, SECRET_BYTES_MIN) {
            return Err(OidcConfigError::ClientSecret);
        }
        let name = settings.name.trim().to_owned();
        if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) || name.contains(char::is_control)
        {
            return Err(OidcConfigError::Name);
        }
        Ok(Self {
            issuer,
            client_id: settings.client_id,
            client_secret: settings.client_secret,
            name,
            discovery,
            redirect: format!("{}{CALLBACK_PATH}", settings.public_url),
        })
    }
}

/// Never shows the secret.
impl fmt::Debug for OidcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcConfig")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let made = |change: fn(&mut OidcSettings)| {
            let mut settings = OidcSettings {
                issuer: "https://accounts.example.com/".to_owned(),
                client_id: "chat".to_owned(),
                client_secret: "0123456789abcdef".to_owned(),
                name: "Example".to_owned(),
                public_url: "https://chat.example.com".to_owned(),
            };
            change(&mut settings);
            OidcConfig::new(settings)
        };
        let config = made(|_| {}).unwrap();
        assert_eq!(
            config.discovery.uri().to_string(),
            "https://accounts.example.com/.well-known/openid-configuration"
        );
        assert_eq!(
            config.redirect,
            "https://chat.example.com/chat/oidc/callback"
        );
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
        let wrong = |change: fn(&mut OidcSettings)| made(change).unwrap_err().setting();
        for (change, setting) in [
            (
                (|it| it.issuer = "http://accounts.example.com".to_owned())
                    as fn(&mut OidcSettings),
                "issuer",
            ),
            (|it| it.issuer = String::new(), "issuer"),
            (|it| it.issuer.push_str("?a=b"), "issuer"),
            (|it| it.client_id = String::new(), "client_id"),
            (|it| it.client_secret = "short".to_owned(), "client_secret"),
            (|it| it.name = " ".to_owned(), "name"),
            (|it| it.name = "a\nb".to_owned(), "name"),
        ] {
            assert_eq!(wrong(change), setting);
        }
        assert!(made(|it| it.issuer = "http://127.0.0.1:1/a".to_owned()).is_ok());
    }
}
