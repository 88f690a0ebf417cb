//! To Google and back, signing out, disconnecting.
//!
//! A login is bound to the browser in which it began: its state and its PKCE verifier are in a sealed cookie, and an answer of Google's
//! without that cookie, or with another state, signs nobody in. So nobody is signed in to somebody else's mailbox. Wherever it ends, the browser
//! is sent to `/mail`, and nowhere else.

use axum::{
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_gateway::{sessions::Revocation, token::Seconds};
use serde::Deserialize;
use tracing::{info, warn};

use super::{
    Failure, PAGE_PATH, Shared, address,
    answer::{Code, go, with_cookies},
    not_allowed,
};
use crate::{
    app::{Mail, unix_seconds},
    google::{GoogleError, SignInError},
    limits::Limit,
    session::{Login, Session},
    sync::SyncError,
    user::User,
};

/// Longest address that is passed on to Google, in bytes.
const HINT_BYTES_MAX: usize = 320;

#[derive(Deserialize)]
pub(super) struct Begin {
    login_hint: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Back {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

/// Why a login came to nothing. The names are part of the protocol: `/mail?error=NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// Google was told no.
    Denied,
    /// The login took too long, or began in another browser.
    Expired,
    /// The answer is not the one to this login.
    State,
    /// The right to read mail was not given.
    Scope,
    /// Google gave no lasting access, as it was granted before.
    Granted,
    /// Google does not vouch for the address.
    Unverified,
    /// Google did not accept the login, or is not set up for it.
    Failed,
    /// Google, the database or this server cannot now.
    Unavailable,
    /// Too many logins from one address.
    Often,
}

impl LoginError {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Denied,
        Self::Expired,
        Self::State,
        Self::Scope,
        Self::Granted,
        Self::Unverified,
        Self::Failed,
        Self::Unavailable,
        Self::Often,
    ];

    /// As it stands in the address.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::State => "state",
            Self::Scope => "scope",
            Self::Granted => "granted",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Often => "too_many_requests",
        }
    }
}

impl From<&GoogleError> for LoginError {
    fn from(error: &GoogleError) -> Self {
        match error {
            GoogleError::SignIn(SignInError::Code) => Self::Expired,
            GoogleError::SignIn(SignInError::Scope) => Self::Scope,
            GoogleError::SignIn(SignInError::NoRefreshToken) => Self::Granted,
            GoogleError::SignIn(SignInError::Unverified) => Self::Unverified,
            GoogleError::Slow { .. } | GoogleError::Unavailable(_) => Self::Unavailable,
            GoogleError::SignIn(SignInError::Identity(_))
            | GoogleError::Unauthorised(_)
            | GoogleError::Gone
            | GoogleError::Misconfigured(_)
            | GoogleError::Unexpected(_) => Self::Failed,
        }
    }
}

impl From<&SyncError> for LoginError {
    fn from(error: &SyncError) -> Self {
        match error {
            SyncError::Address => Self::Unverified,
            SyncError::Starting | SyncError::Before | SyncError::Store(_) => Self::Unavailable,
        }
    }
}

/// `GET /mail/login`
pub(super) async fn begin(
    State(mail): Shared,
    query: Result<Query<Begin>, QueryRejection>,
    request: Request,
) -> Response {
    if let Some(there) = mail.elsewhere(request.uri().to_string(), request.headers()) {
        return go(&there);
    }
    if mail
        .limit(Limit::Login, &address(request.extensions()))
        .await
        .is_err()
    {
        return mail.lost(LoginError::Often);
    }
    let hint = query.ok().and_then(|Query(query)| query.login_hint);
    let hint = hint.filter(|hint| (1..=HINT_BYTES_MAX).contains(&hint.len()));
    let consent = mail.google.consent(hint.as_deref());
    let login = Login {
        state: consent.state,
        verifier: consent.verifier,
    };
    let cookie = mail.cookies.begin_login(login, unix_seconds());
    with_cookies(go(&consent.url), [cookie])
}

/// `GET /mail/callback`
pub(super) async fn back(
    State(mail): Shared,
    query: Result<Query<Back>, QueryRejection>,
    request: Request,
) -> Response {
    // Looking at an address does nothing; this one would be used up.
    if request.method() != Method::GET {
        return not_allowed().await;
    }
    if mail
        .limit(Limit::Callback, &address(request.extensions()))
        .await
        .is_err()
    {
        return mail.lost(LoginError::Often);
    }
    let now = unix_seconds();
    let login = mail.cookies.login(request.headers(), now);
    let asked = query
        .map(|Query(query)| query)
        .map_err(|_| LoginError::Failed);
    let signed_in = match asked {
        Ok(query) => mail.sign_in(login, query, now).await,
        Err(error) => Err(error),
    };
    match signed_in {
        Ok(session) => {
            mail.metrics.signed_in();
            with_cookies(go(PAGE_PATH), [session, mail.cookies.end_login()])
        }
        Err(error) => with_cookies(mail.lost(error), [mail.cookies.end_login()]),
    }
}

/// `POST /mail/logout`
pub(super) async fn logout(State(mail): Shared, headers: HeaderMap) -> Response {
    let ended = match mail.session_of(&headers) {
        Ok(session) => mail.end(&session).await,
        // Who is not signed in is signed out.
        Err(failure) if failure.code() == Code::Unauthorized => Ok(()),
        Err(failure) => Err(failure),
    };
    mail.parted(ended)
}

/// `POST /mail/disconnect`
pub(super) async fn disconnect(State(mail): Shared, headers: HeaderMap) -> Response {
    let ended = match mail.session_of(&headers) {
        Ok(session) => mail.forget(&session).await,
        Err(failure) => Err(failure),
    };
    mail.parted(ended)
}

impl Mail {
    /// Where a login must begin if not here: cookies and Google know one name of this server only. A demonstration is reached by
    /// several; a server behind a proxy may see any name and trusts that it is the right one.
    fn elsewhere(&self, path: String, headers: &HeaderMap) -> Option<String> {
        self.demo.as_ref()?;
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let is_here = host == Some(self.public_url.authority().as_bytes());
        (!is_here && path.starts_with("/mail/login")).then(|| self.public_url.join(&path))
    }

    /// The page, which says what went wrong.
    fn lost(&self, error: LoginError) -> Response {
        self.metrics.lost(error);
        go(&format!("{PAGE_PATH}?error={}", error.name()))
    }

    async fn sign_in(
        &self,
        login: Option<Login>,
        answer: Back,
        now: Seconds,
    ) -> Result<HeaderValue, LoginError> {
        let login = login.ok_or(LoginError::Expired)?;
        let state = answer.state.unwrap_or_default();
        // First of all: what follows is the answer to this login, refusals too.
        if !login.began(&state) {
            warn!("an answer to a login that did not begin in the same browser");
            return Err(LoginError::State);
        }
        match answer.error.as_deref() {
            Some("access_denied") => return Err(LoginError::Denied),
            Some(_) => return Err(LoginError::Failed),
            None => {}
        }
        let code = answer.code.filter(|code| !code.is_empty());
        let code = code.ok_or(LoginError::Failed)?;
        let signed = self.google.exchange(&code, &login.verifier).await;
        let signed = signed.map_err(|error| {
            warn!(%error, "a login with Google failed");
            LoginError::from(&error)
        })?;
        let user = User::of_google(&signed.sub).map_err(|_| LoginError::Failed)?;
        let grant = self.google.grant(&user, &signed.refresh_token);
        let connected = self.sync.connect(&grant, &signed.email).await;
        connected.map_err(|error| {
            warn!(%user, %error, "a mailbox cannot be connected");
            LoginError::from(&error)
        })?;
        info!(%user, "signed in");
        let session = self.cookies.begin(&user, now);
        session.map_err(|_| LoginError::Unavailable)
    }

    /// Ends one session, everywhere.
    async fn end(&self, session: &Session) -> Result<(), Failure> {
        let Some(jti) = session.claims.jti.clone() else {
            return Ok(());
        };
        let revocation = Revocation::Session {
            session: jti,
            expires: session.claims.exp,
        };
        self.revoke(revocation).await
    }

    /// Ends the connection with Google, and all sessions of the user.
    async fn forget(&self, session: &Session) -> Result<(), Failure> {
        let ended = self.sync.disconnect(&session.user).await;
        ended.map_err(|error| {
            warn!(user = %session.user, %error, "a mailbox cannot be disconnected");
            Failure::unavailable("the mailbox is still connected; try again")
        })?;
        // Who signs in again within this second is not meant.
        let others = Revocation::User {
            user: session.user.as_str().to_owned(),
            until: unix_seconds() - 1,
        };
        self.revoke(others).await?;
        self.end(session).await
    }

    async fn revoke(&self, revocation: Revocation) -> Result<(), Failure> {
        let revoked = self.gateway()?.revoke(&revocation).await;
        revoked.map_err(|error| {
            warn!(%error, "a session cannot be ended");
            Failure::unavailable("the session cannot be ended now; try again")
        })
    }

    fn parted(&self, ended: Result<(), Failure>) -> Response {
        match ended {
            Ok(()) => with_cookies(StatusCode::NO_CONTENT.into_response(), [self.cookies.end()]),
            Err(failure) => failure.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = LoginError::ALL.map(LoginError::name).into();
        assert_eq!(names.len(), LoginError::ALL.len());
    }
}
