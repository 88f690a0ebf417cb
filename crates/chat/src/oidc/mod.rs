//! Signing in by OpenID Connect: the code flow of OpenID Connect Core 1.0 with PKCE (RFC 7636), a state and a nonce.
//!
//! A login is bound to the browser in which it began: what it needs to end is in a cookie that only this server can have made
//! ([`login`]), so that nobody is signed in as somebody else by a link. Each answer is looked at once. Who it is says the token of identity alone,
//! whose signature is verified though it came straight from the provider ([`identity`]). Wherever it ends, the browser is sent to
//! `/chat/`, and nowhere else.
//!
//! | file | subject |
//! | --- | --- |
//! | `config` | what is configured, checked |
//! | `provider` | the discovery document, and the exchange of a code |
//! | `identity` | the token of identity |
//! | `login` | what a browser keeps while it is at the provider |
//! | `people` | whose account it is |
//! | `routes` | there and back |

mod config;
mod identity;
mod login;
mod people;
mod provider;
mod routes;
#[cfg(test)]
mod tests;

use fanfare_gateway::https::Client;
use ring::hmac;
use tokio::sync::Mutex;

pub use self::config::{OidcConfig, OidcConfigError, OidcSettings};
use self::provider::Known;
pub(crate) use self::routes::{BEGIN_PATH, router};

/// What the key of the logins' cookies is made for.
const COOKIE_PURPOSE: &[u8] = b"fanfare chat: logins by OpenID Connect";

/// Signing in by one provider, on one node.
pub(crate) struct Oidc {
    config: OidcConfig,
    http: Client,
    /// Authenticates logins' cookies, on all nodes.
    cookie_key: hmac::Key,
    known: Mutex<Known>,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Self {
        // The secret is the one thing that all nodes have and nobody else has but the provider; a key made of it is no way to it.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, config.client_secret.as_bytes());
        let derived = hmac::sign(&secret, COOKIE_PURPOSE);
        Self {
            config,
            http: Client::new(),
            cookie_key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
            known: Mutex::default(),
        }
    }

    /// What people call the provider.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }
}
