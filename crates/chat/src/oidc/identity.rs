//! The token of identity: OpenID Connect Core 1.0, 3.1.3.7.

use std::{sync::Arc, time::Duration};

use fanfare_gateway::jose::{
    Algorithm, PublicKey, Unverified,
    jwks::{Jwks, KeyError},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    Oidc,
    provider::{Provider, away},
};
use crate::{
    account::{self, NAME_CHARS_MAX},
    failure::Failure,
    unix_seconds,
};

/// How far the clocks of the provider and of this node may be apart, in seconds.
const LEEWAY_SECONDS: i64 = 30;
/// Longest name that a provider may give somebody, in bytes (OpenID Connect Core 1.0, 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// What tokens of identity may be signed with.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Es256];
/// How long a login waits for the provider's keys.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for them.
const KEYS_PAUSE: Duration = Duration::from_millis(100);

/// Who somebody is, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The issuer and its name for who it is: `https://accounts.example.com|7`.
    pub(super) subject: String,
    /// An address that the provider vouches for, in small letters.
    pub(super) email: Option<String>,
    /// What to call somebody who is new.
    pub(super) real_name: String,
}

/// Who may be meant by a token.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: Option<i64>,
    nbf: Option<i64>,
    nonce: Option<String>,
    email: Option<Value>,
    email_verified: Option<Value>,
    name: Option<Value>,
    preferred_username: Option<Value>,
}

impl Oidc {
    /// Whose a token of identity is, that was asked for with a nonce.
    ///
    /// # Errors
    /// `oidc_identity`: it is not one for this login; the log says why. `oidc_unavailable`: the provider's keys cannot be read now.
    pub(super) async fn identify(
        &self,
        provider: &Provider,
        token: &str,
        nonce: &str,
    ) -> Result<Identity, Failure> {
        let refused = |why: &str| {
            warn!(why, "a token of identity is refused");
            Failure::new("oidc_identity")
        };
        let token = Unverified::parse(token).map_err(|error| refused(&error.to_string()))?;
        if !ALGORITHMS.contains(&token.algorithm) {
            return Err(refused("it is signed with neither RS256 nor ES256"));
        }
        let kid = token.kid.as_deref();
        let kid = kid.ok_or_else(|| refused("it does not say which key has signed it"))?;
        let key = key(&provider.keys, kid)
            .await
            .map_err(|error| match error {
                KeyError::Unknown => refused("the provider has no such key"),
                KeyError::Unavailable => away(),
            })?;
        let claims = token.verify(&key);
        let claims = claims.ok_or_else(|| refused("its signature is wrong"))?;
        let claims: Claims =
            serde_json::from_slice(claims).map_err(|_| refused("its claims cannot be read"))?;
        let config = &self.config;
        claims
            .judge(&config.issuer, &config.client_id, nonce, unix_seconds())
            .map_err(refused)?;
        Ok(claims.identity())
    }
}

/// A key of the provider's. What is not known is asked for, in which a browser may wait longer than a request of a machine.
async fn key(keys: &Arc<Jwks>, kid: &str) -> Result<Arc<PublicKey>, KeyError> {
    let began = Instant::now();
    loop {
        match keys.key(kid).await {
            Err(KeyError::Unavailable) if began.elapsed() < KEYS_PATIENCE => {
                sleep(KEYS_PAUSE).await;
            }
            done => return done,
        }
    }
}

impl Claims {
    /// Whether it is a token of this issuer, for this client and this login, now; or why not.
    fn judge(&self, issuer: &str, client: &str, nonce: &str, now: i64) -> Result<(), &'static str> {
        if self.iss != issuer {
            return Err("it is of another issuer");
        }
        let (is_for_us, is_for_others) = match &self.aud {
            Audience::One(one) => (one == client, false),
            Audience::Several(all) => (
                all.iter().any(|one| one == client),
                all.iter().any(|one| one != client),
            ),
        };
        let is_ours = self.azp.as_ref().is_some_and(|azp| azp == client);
        if !is_for_us || (is_for_others && !is_ours) || (self.azp.is_some() && !is_ours) {
            return Err("it is for another client");
        }
        if self.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err("it has expired");
        }
        let not_yet = |from: Option<i64>| from.is_some_and(|from| from > now + LEEWAY_SECONDS);
        if not_yet(self.iat) || not_yet(self.nbf) {
            return Err("it is of the future");
        }
        if self.nonce.as_deref() != Some(nonce) {
            return Err("it is not of this login");
        }
        let is_name = (1..=SUBJECT_BYTES_MAX).contains(&self.sub.len());
        match is_name && !self.sub.contains(char::is_control) {
            true => Ok(()),
            false => Err("its subject is not a name"),
        }
    }

    fn identity(&self) -> Identity {
        let text = |value: &Option<Value>| {
            let text = value.as_ref().and_then(Value::as_str).map(str::trim);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        // Nothing but `true` is a promise.
        let is_verified = self.email_verified == Some(Value::Bool(true));
        let email = text(&self.email).filter(|_| is_verified);
        let email = email.and_then(|email| account::email_of(&email).ok());
        let local = email
            .as_deref()
            .and_then(|email| email.split('@').next())
            .map(str::to_owned);
        let name = text(&self.name)
            .or_else(|| text(&self.preferred_username))
            .or(local)
            .unwrap_or_default();
        let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
        let name: String = name.trim().chars().take(NAME_CHARS_MAX).collect();
        Identity {
            subject: format!("{}|{}", self.iss, self.sub),
            email,
            real_name: match name.is_empty() {
                true => "Somebody".to_owned(),
                false => name,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn claims(change: &Value) -> Claims {
        let mut claims = json!({
            "iss": "https://a.example.com", "sub": "7", "aud": "chat", "exp": NOW + 60, "iat": NOW, "nonce": "n",
            "email": "Ann@Example.com", "email_verified": true, "name": " Ann\nLee ",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        serde_json::from_value(claims).unwrap()
    }

    fn judge(change: &Value) -> Result<(), &'static str> {
        claims(change).judge("https://a.example.com", "chat", "n", NOW)
    }

    #[test]
    fn a_token_is_for_one_login_of_one_client() {
        for good in [
            json!({}),
            json!({ "aud": ["chat"] }),
            json!({ "aud": ["other", "chat"], "azp": "chat" }),
            json!({ "exp": NOW - 29, "iat": null }),
        ] {
            assert_eq!(judge(&good), Ok(()), "{good}");
        }
        for bad in [
            json!({ "iss": "https://a.example.com/" }),
            json!({ "aud": "other" }),
            json!({ "aud": [] }),
            json!({ "aud": ["other", "chat"] }),
            json!({ "aud": ["other", "chat"], "azp": "other" }),
            json!({ "azp": "other" }),
            json!({ "exp": NOW - 30 }),
            json!({ "iat": NOW + 31 }),
            json!({ "nbf": NOW + 31 }),
            json!({ "nonce": "m" }),
            json!({ "nonce": null }),
            json!({ "sub": "" }),
            json!({ "sub": "x".repeat(256) }),
        ] {
            assert!(judge(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_counts_only_if_the_provider_vouches_for_it() {
        let identity = claims(&json!({})).identity();
        assert_eq!(identity.subject, "https://a.example.com|7");
        assert_eq!(identity.email.as_deref(), Some("ann@example.com"));
        assert_eq!(identity.real_name, "AnnLee");
        for change in [
            json!({ "email_verified": false }),
            json!({ "email_verified": null }),
            json!({ "email_verified": "true" }),
            json!({ "email_verified": 1 }),
            json!({ "email": "ann" }),
            json!({ "email": 7 }),
        ] {
            assert_eq!(claims(&change).identity().email, None, "{change}");
        }
        let nameless = claims(&json!({ "name": null })).identity();
        assert_eq!(nameless.real_name, "ann");
        let unknown = claims(&json!({ "name": 7, "email": null })).identity();
        assert_eq!(unknown.real_name, "Somebody");
        let long = claims(&json!({ "name": "x".repeat(100) })).identity();
        assert_eq!(long.real_name.len(), NAME_CHARS_MAX);
    }
}
