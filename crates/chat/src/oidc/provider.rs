//! The provider: its discovery document (OpenID Connect Discovery 1.0), and the exchange of a code for a token of identity.

use std::{sync::Arc, time::Duration};

use axum::http::{Request, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_gateway::{
    https::Url,
    jose::jwks::{HttpIssuer, Jwks},
};
use form_urlencoded::{Serializer, byte_serialize};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;

use super::{Oidc, login::Login};
use crate::{caller::digest_of, failure::Failure};

/// How long a discovery document is taken for true.
const FRESH: Duration = Duration::from_secs(3600);
/// How long until a provider is asked again that did not say what it must.
const RETRY: Duration = Duration::from_secs(5);
const SCOPES: &str = "openid email profile";

/// What a node knows of the provider.
#[derive(Default)]
pub(super) struct Known {
    provider: Option<Arc<Provider>>,
    /// When it is asked again.
    ask_from: Option<Instant>,
}

/// The provider, as it describes itself.
pub(super) struct Provider {
    authorization: Url,
    token: Url,
    jwks: Url,
    /// The keys that it signs with.
    pub(super) keys: Arc<Jwks>,
    /// It wants the secret in the body of the request instead of its header.
    is_secret_in_body: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    error: Option<String>,
}

/// The provider cannot be asked now, or is not what is configured: the log says which.
pub(super) fn away() -> Failure {
    Failure::new("oidc_unavailable")
}

/// The provider says no, or something that is not understood.
pub(super) fn failed() -> Failure {
    Failure::new("oidc_failed")
}

impl Oidc {
    /// The provider. Asks for its description when there is none, or an old one; one that is known outlives a provider that is away.
    ///
    /// # Errors
    /// `oidc_unavailable`.
    pub(super) async fn provider(&self) -> Result<Arc<Provider>, Failure> {
        // Held meanwhile: one asks for all.
        let mut known = self.known.lock().await;
        if known.ask_from.is_none_or(|from| from <= Instant::now()) {
            let discovered = self.discover(known.provider.as_deref()).await;
            let again = match discovered {
                Ok(provider) => {
                    known.provider = Some(Arc::new(provider));
                    FRESH
                }
                Err(problem) => {
                    warn!(issuer = self.config.issuer, %problem, "the provider of identities cannot be asked");
                    RETRY
                }
            };
            known.ask_from = Some(Instant::now() + again);
        }
        known.provider.clone().ok_or_else(away)
    }

    async fn discover(&self, before: Option<&Provider>) -> Result<Provider, String> {
        let answer = self.http.get(&self.config.discovery).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!(
                "its discovery document answers with status {}",
                answer.status
            ));
        }
        let document: Document = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("its discovery document cannot be read: {error}"))?;
        if document.issuer != self.config.issuer {
            return Err(format!(
                "it calls itself {:?}; [chat.oidc] issuer must be exactly that",
                document.issuer
            ));
        }
        let url = |name: &str, text: &str| {
            Url::parse(text).map_err(|error| format!("{name} of its discovery document: {error}"))
        };
        let jwks = url("jwks_uri", &document.jwks_uri)?;
        let keys = match before.filter(|before| before.jwks == jwks) {
            Some(before) => Arc::clone(&before.keys),
            None => Jwks::new(Box::new(HttpIssuer::new(self.http.clone(), jwks.clone()))),
        };
        // What is not said is the header.
        let methods = document.token_endpoint_auth_methods_supported;
        let takes = |wanted: &str| {
            methods
                .as_ref()
                .is_some_and(|methods| methods.iter().any(|method| method == wanted))
        };
        Ok(Provider {
            authorization: url("authorization_endpoint", &document.authorization_endpoint)?,
            token: url("token_endpoint", &document.token_endpoint)?,
            is_secret_in_body: !takes("client_secret_basic") && takes("client_secret_post"),
            jwks,
            keys,
        })
    }

    /// Where a browser goes to begin a login.
    pub(super) fn authorization(&self, provider: &Provider, login: &Login) -> String {
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.config.redirect)
            .append_pair("scope", SCOPES)
            .append_pair("state", &login.state)
            .append_pair("nonce", &login.nonce)
            .append_pair("code_challenge", &digest_of(&login.verifier))
            .append_pair("code_challenge_method", "S256")
            .finish();
        let uri = provider.authorization.uri();
        let and = if uri.query().is_some() { '&' } else { '?' };
        format!("{uri}{and}{query}")
    }

    /// What is asked of the token endpoint (RFC 6749, 4.1.3).
    fn token_request(
        &self,
        provider: &Provider,
        code: &str,
        login: &Login,
    ) -> Result<Request<String>, axum::http::Error> {
        let config = &self.config;
        let mut body = Serializer::new(String::new());
        body.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &config.redirect)
            .append_pair("code_verifier", &login.verifier);
        let mut request = Request::post(provider.token.uri().clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if provider.is_secret_in_body {
            body.append_pair("client_id", &config.client_id)
                .append_pair("client_secret", &config.client_secret);
        } else {
            // RFC 6749, 2.3.1: both are encoded as in a form first.
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let (id, secret) = (encoded(&config.client_id), encoded(&config.client_secret));
            let basic = STANDARD.encode(format!("{id}:{secret}"));
            request = request.header(header::AUTHORIZATION, format!("Basic {basic}"));
        }
        request.body(body.finish())
    }

    /// The token of identity for a code.
    ///
    /// # Errors
    /// `oidc_expired`, `oidc_failed`, `oidc_unavailable`.
    pub(super) async fn exchange(
        &self,
        provider: &Provider,
        code: &str,
        login: &Login,
    ) -> Result<String, Failure> {
        let request = self.token_request(provider, code, login);
        let request = request.map_err(Failure::internal)?;
        let answer = self
            .http
            .ask(request.map(Into::into))
            .await
            .map_err(|error| {
                warn!(%error, "a code cannot be exchanged");
                away()
            })?;
        match answer.status {
            200 => {
                let tokens = serde_json::from_slice::<Tokens>(&answer.body).ok();
                let token = tokens.and_then(|tokens| tokens.id_token);
                token.ok_or_else(|| {
                    warn!("a code was exchanged for something without a token of identity");
                    failed()
                })
            }
            status @ (429 | 500..) => {
                warn!(status, "a code cannot be exchanged now");
                Err(away())
            }
            status => {
                let refused = serde_json::from_slice::<Refused>(&answer.body).ok();
                let error = refused.and_then(|refused| refused.error);
                let error = error.unwrap_or_default();
                let error: String = error.chars().take(64).collect();
                warn!(status, ?error, "a code was not exchanged");
                match error.as_str() {
                    "invalid_grant" => Err(Failure::new("oidc_expired")),
                    _ => Err(failed()),
                }
            }
        }
    }
}
