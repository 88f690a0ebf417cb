//! OAuth with Google: consent, the exchange of its code, refreshing, and taking it back.
//!
//! The authorisation code flow with a secret of the client, PKCE and a state. Who it is that has consented is said by the token of
//! identity that comes with the first tokens; its signature is verified though it came straight from Google.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fanfare_gateway::jose::PublicKey;
use fanfare_ingress::{
    https::{Client as HttpsClient, Url},
    verify::{
        jwks::{HttpIssuer, Jwks, KeyError},
        token::Unverified,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointNotSet, EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    StandardTokenResponse, TokenResponse as _, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
        BasicTokenIntrospectionResponse, BasicTokenType,
    },
    url::form_urlencoded,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    answer,
    config::{GoogleConfig, GoogleConfigError},
    error::{GoogleError, SignInError},
    metrics::{Call, Metrics},
    model::{Consent, Signed},
    secret::Secret,
};

/// What is asked for: who it is, and to read mail.
pub const SCOPES: [&str; 3] = ["openid", "email", GMAIL_SCOPE];
/// Reading mail. Google calls it restricted: an app for the public must be verified for it.
pub const GMAIL_SCOPE: &str = "https://www.googleapis.com/auth/gmail.readonly";

/// How long a sign-in waits for Google's keys.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for them.
const KEYS_PAUSE: Duration = Duration::from_millis(100);
/// How long an access token holds if Google does not say.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
/// What Google answers if a token that is to be revoked is none, or is revoked.
const INVALID_TOKEN: &str = "invalid_token";
/// Longest code, verifier or hint that is passed on, in bytes.
const TEXT_BYTES_MAX: usize = 2048;

type TokenResponse = StandardTokenResponse<Extra, BasicTokenType>;
type OAuthClient = oauth2::Client<
    BasicErrorResponse,
    TokenResponse,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;
type TokenError = RequestTokenError<GoogleError, BasicErrorResponse>;

/// What Google adds to the standard's answer.
#[derive(Deserialize, Serialize)]
struct Extra {
    id_token: Option<String>,
}

impl ExtraTokenFields for Extra {}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extra(…)")
    }
}

/// OAuth with Google.
pub(super) struct OAuth {
    client: OAuthClient,
    http: HttpsClient,
    revoke_url: Url,
    keys: Arc<Jwks>,
    metrics: Arc<Metrics>,
}

/// The client that the library sends with, for one call.
struct Sender<'a>(&'a OAuth, Call);

impl<'c> AsyncHttpClient<'c> for Sender<'_> {
    type Error = GoogleError;
    type Future = BoxFuture<'c, Result<HttpResponse, GoogleError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        self.0.send(self.1, request).boxed()
    }
}

/// What a refresh token was exchanged for.
pub(super) struct Refreshed {
    pub(super) access_token: Secret,
    pub(super) life: Duration,
    /// Seldom: it takes the place of the one that was sent.
    pub(super) refresh_token: Option<Secret>,
}

impl OAuth {
    pub(super) fn new(
        config: &GoogleConfig,
        http: HttpsClient,
        metrics: Arc<Metrics>,
    ) -> Result<Self, GoogleConfigError> {
        let url = |url: &Url| url.uri().to_string();
        let auth = AuthUrl::new(url(&config.auth_url));
        let token = TokenUrl::new(url(&config.token_url));
        let redirect = RedirectUrl::new(url(&config.redirect_url));
        let client = oauth2::Client::new(ClientId::new(config.client_id.clone()))
            .set_client_secret(ClientSecret::new(config.client_secret.expose().to_owned()))
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(auth.map_err(|_| GoogleConfigError::Url("auth_url"))?)
            .set_token_uri(token.map_err(|_| GoogleConfigError::Url("token_url"))?)
            .set_redirect_uri(redirect.map_err(|_| GoogleConfigError::Url("redirect_url"))?);
        let issuer = HttpIssuer::new(http.clone(), config.jwks_url.clone());
        Ok(Self {
            client,
            http,
            revoke_url: config.revoke_url.clone(),
            keys: Jwks::new(Box::new(issuer)),
            metrics,
        })
    }

    pub(super) fn consent(&self, login_hint: Option<&str>) -> Consent {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = self
            .client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(SCOPES.map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .add_extra_param("access_type", "offline")
            // Without it somebody who has consented before gets no refresh token.
            .add_extra_param("prompt", "consent");
        if let Some(hint) = login_hint.filter(|hint| hint.len() <= TEXT_BYTES_MAX) {
            request = request.add_extra_param("login_hint", hint.to_owned());
        }
        let (url, state) = request.url();
        Consent {
            url: url.into(),
            state: state.into_secret(),
            verifier: verifier.into_secret(),
        }
    }

    pub(super) async fn exchange(&self, code: &str, verifier: &str) -> Result<Signed, GoogleError> {
        if code.len().max(verifier.len()) > TEXT_BYTES_MAX {
            return Err(SignInError::Code.into());
        }
        let sender = Sender(self, Call::Exchange);
        let answer = self
            .client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()))
            .request_async(&sender)
            .await
            .map_err(|error| refusal(error, || SignInError::Code.into()))?;
        let scopes = answer.scopes();
        if scopes.is_some_and(|scopes| !scopes.iter().any(|scope| scope.as_str() == GMAIL_SCOPE)) {
            return Err(SignInError::Scope.into());
        }
        let id_token = answer.extra_fields().id_token.as_deref();
        let id_token = id_token.ok_or(SignInError::Identity("there is none"))?;
        let (sub, email) = self.identify(id_token).await?;
        let refresh_token = answer.refresh_token().ok_or(SignInError::NoRefreshToken)?;
        Ok(Signed {
            sub,
            email,
            refresh_token: Secret::new(refresh_token.secret().clone()),
        })
    }

    pub(super) async fn refresh(&self, refresh_token: Secret) -> Result<Refreshed, GoogleError> {
        let sent = RefreshToken::new(refresh_token.expose().to_owned());
        let sender = Sender(self, Call::Refresh);
        let answer = self
            .client
            .exchange_refresh_token(&sent)
            .request_async(&sender)
            .await
            .map_err(|error| {
                let gone = "its refresh token was taken back, or has run out";
                refusal(error, || GoogleError::Unauthorised(gone))
            })?;
        let new = answer.refresh_token().map(|new| new.secret().clone());
        Ok(Refreshed {
            access_token: Secret::new(answer.access_token().secret().clone()),
            life: answer.expires_in().unwrap_or(LIFE_DEFAULT),
            refresh_token: new
                .map(Secret::new)
                .filter(|new| new.expose() != refresh_token.expose()),
        })
    }

    /// Takes back whatever was granted together with a token. What Google does not know is taken back already.
    pub(super) async fn revoke(&self, token: &Secret) -> Result<(), GoogleError> {
        // By hand: the library refuses to speak http even to this machine.
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose())
            .finish();
        let request = oauth2::http::Request::post(self.revoke_url.uri().clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.into_bytes())
            .map_err(|_| GoogleError::Unexpected("revoke cannot be asked".to_owned()))?;
        let answer = self.send(Call::Revoke, request).await?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            400 if answer::oauth_error(answer.body()) == INVALID_TOKEN => Ok(()),
            status => Err(GoogleError::Unexpected(format!(
                "revoke: status {status} ({})",
                answer::oauth_error(answer.body())
            ))),
        }
    }

    /// Sends a request, and sorts out what has nothing to do with what was asked.
    async fn send(&self, call: Call, request: HttpRequest) -> Result<HttpResponse, GoogleError> {
        let began = Instant::now();
        let answer = self.http.ask(request.map(|body| body.into())).await;
        let answer = match answer {
            Err(error) => Err(GoogleError::Unavailable(error.to_string())),
            Ok(answer) => answer::trouble(&answer).map_or(Ok(answer), Err),
        };
        let outcome = match &answer {
            Err(error) => Err(error.clone()),
            Ok(answer) if answer.status < 300 => Ok(Some(())),
            Ok(answer) => match (call, answer::oauth_error(&answer.body).as_str()) {
                (Call::Revoke, INVALID_TOKEN) => Ok(None),
                (Call::Exchange, error) => Err(refused(error, || SignInError::Code.into())),
                (_, error) => Err(refused(error, || GoogleError::Unauthorised(""))),
            },
        };
        self.metrics.count(call, began.elapsed(), &outcome);
        let answer = answer?;
        let mut response = HttpResponse::new(answer.body.to_vec());
        *response.status_mut() = oauth2::http::StatusCode::from_u16(answer.status)
            .map_err(|_| GoogleError::Unexpected("a status".to_owned()))?;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    /// Whose a token of identity is: `sub`, and the verified address in small letters.
    async fn identify(&self, token: &str) -> Result<(String, String), GoogleError> {
        let bad = |why| SignInError::Identity(why);
        let token = Unverified::parse(token).map_err(|refusal| bad(refusal.name()))?;
        let key = self.key(&token.kid).await?;
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let unix = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        let identity = token
            .identify(&key, self.client.client_id().as_str(), unix)
            .map_err(|refusal| bad(refusal.name()))?;
        let sub = identity.sub.filter(|sub| !sub.is_empty());
        let email = identity.email.filter(|email| email.contains('@'));
        match (sub, email, identity.email_verified) {
            (Some(sub), Some(email), true) => Ok((sub, email.to_lowercase())),
            (_, Some(_), false) => Err(SignInError::Unverified.into()),
            _ => Err(bad("sub or email is missing").into()),
        }
    }

    async fn key(&self, kid: &str) -> Result<Arc<PublicKey>, GoogleError> {
        let began = Instant::now();
        loop {
            let error = match self.keys.key(kid).await {
                Ok(key) => return Ok(key),
                Err(error) => error,
            };
            if error == KeyError::Unknown {
                return Err(SignInError::Identity("unknown_key").into());
            }
            if began.elapsed() >= KEYS_PATIENCE {
                let words = "the keys that it signs tokens with cannot be read";
                return Err(GoogleError::Unavailable(words.to_owned()));
            }
            sleep(KEYS_PAUSE).await;
        }
    }
}

fn refusal(error: TokenError, invalid: impl FnOnce() -> GoogleError) -> GoogleError {
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(answer) => refused(&name_of(answer.error()), invalid),
        // What it was may have tokens in it.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            GoogleError::Unexpected("tokens cannot be read".to_owned())
        }
    }
}

fn name_of(error: &BasicErrorResponseType) -> String {
    answer::plain(error.as_ref())
}

/// What an error of OAuth means; `invalid` if the code or the refresh token is.
fn refused(error: &str, invalid: impl FnOnce() -> GoogleError) -> GoogleError {
    match error {
        "invalid_grant" => invalid(),
        "admin_policy_enforced" | "access_denied" | "org_internal" | "account_disabled" => {
            GoogleError::Unauthorised("its organisation or Google does not allow it")
        }
        "invalid_client" | "unauthorized_client" | "deleted_client" | "disabled_client" => {
            GoogleError::Misconfigured(format!(
                "{error}: client_id and client_secret must be those of the OAuth client of the project"
            ))
        }
        "redirect_uri_mismatch" => GoogleError::Misconfigured(
            "redirect_uri_mismatch: enter PUBLIC_URL/mail/callback, exactly so, at the OAuth client"
                .to_owned(),
        ),
        "temporarily_unavailable" | "server_error" | "internal_failure" => {
            GoogleError::Unavailable(error.to_owned())
        }
        _ => GoogleError::Unexpected(format!("error of OAuth {error}")),
    }
}
