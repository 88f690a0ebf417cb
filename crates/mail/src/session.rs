//! Who is at the browser: a cookie that a page's scripts cannot read, and that holds for one mailbox.
//!
//! The cookie is a connection token of the server, of a session that begins with [`SESSION_PREFIX`] and grants no channel. So it is
//! judged where all tokens are judged, and what revokes a session or a user there ends it on every node. A token that a page may
//! read ([`Cookies::channel_token`]) grants the mailbox's channel, and is for that reason no cookie.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_gateway::{
    sessions::Sessions,
    token::{ConnectionClaims, Seconds, TokenError, TokenSigner},
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{seal::Sealer, user::User};

/// What the sessions (`jti`) of cookies begin with.
pub const SESSION_PREFIX: &str = "mail-";
/// How long the token holds that a page reads the channel with, in seconds; never longer than the session.
pub const CHANNEL_TOKEN_SECONDS: Seconds = 600;
/// How long a login may take, in seconds.
pub const LOGIN_SECONDS: Seconds = 600;

const SESSION_COOKIE: &str = "fanfare_mail";
const LOGIN_COOKIE: &str = "fanfare_mail_login";
/// What makes a browser take a cookie from its own host and over TLS only.
const HOST_PREFIX: &str = "__Host-";
/// What the login cookie is sealed for.
const LOGIN_PURPOSE: &str = "mail login";
/// Longest cookie that is looked at, in bytes.
const COOKIE_BYTES_MAX: usize = 4096;

/// Makes and reads the cookies.
pub struct Cookies {
    signer: TokenSigner,
    sealer: Arc<Sealer>,
    secure: bool,
    session_seconds: Seconds,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whose mailbox.
    pub user: User,
    /// What the cookie says.
    pub claims: Arc<ConnectionClaims>,
}

/// A login that has begun in this browser.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Comes back from Google, unless somebody else's answer does.
    pub state: String,
    /// Proves to Google that who asks for the tokens is who began.
    pub verifier: String,
}

#[derive(Serialize, Deserialize)]
struct SealedLogin {
    #[serde(flatten)]
    login: Login,
    until: Seconds,
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSession {
    /// There is no cookie, or one that does not hold (any more).
    SignedOut,
    /// This node does not know yet which sessions are revoked.
    NotYet,
}

impl Cookies {
    /// Cookies that a signer signs and a sealer seals. `secure`: the page is served over TLS.
    #[must_use]
    pub fn new(
        signer: TokenSigner,
        sealer: Arc<Sealer>,
        secure: bool,
        session_seconds: Seconds,
    ) -> Self {
        Self {
            signer,
            sealer,
            secure,
            session_seconds,
        }
    }

    /// A new session's cookie.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be signed.
    pub fn begin(&self, user: &User, now: Seconds) -> Result<HeaderValue, TokenError> {
        let token = self.signer.sign_connection(&ConnectionClaims {
            sub: user.as_str().to_owned(),
            exp: Some(now + self.session_seconds),
            iat: Some(now),
            jti: Some(format!("{SESSION_PREFIX}{}", Uuid::new_v4().simple())),
            ..ConnectionClaims::default()
        })?;
        Ok(self.cookie(SESSION_COOKIE, &token, self.session_seconds))
    }

    /// Takes the session's cookie away.
    #[must_use]
    pub fn end(&self) -> HeaderValue {
        self.cookie(SESSION_COOKIE, "", 0)
    }

    /// Whose session a request is of.
    ///
    /// # Errors
    /// [`NoSession`].
    pub fn session(&self, headers: &HeaderMap, sessions: &Sessions) -> Result<Session, NoSession> {
        let token = self.read(headers, SESSION_COOKIE);
        let token = token.ok_or(NoSession::SignedOut)?;
        let claims = sessions.connection(token).map_err(|error| match error {
            TokenError::NotYet => NoSession::NotYet,
            TokenError::Expired | TokenError::Invalid(_) => NoSession::SignedOut,
        })?;
        // Tokens of the same server that were signed for another use are no cookies.
        let is_ours = claims.channels.is_empty()
            && claims.caps.is_empty()
            && claims.exp.is_some()
            && claims
                .jti
                .as_ref()
                .is_some_and(|session| session.starts_with(SESSION_PREFIX));
        let user = User::parse(&claims.sub).ok().filter(|_| is_ours);
        let user = user.ok_or(NoSession::SignedOut)?;
        Ok(Session { user, claims })
    }

    /// A token with which a page reads its mailbox's channel over another gateway, and when it ends. It ends with the session that
    /// it was made in.
    ///
    /// # Errors
    /// [`TokenError`] if it cannot be signed.
    pub fn channel_token(
        &self,
        session: &Session,
        now: Seconds,
    ) -> Result<(String, Seconds), TokenError> {
        let impossible = |_| TokenError::Invalid("its user names no channel");
        let channel = session.user.channel().map_err(impossible)?;
        let most = now + CHANNEL_TOKEN_SECONDS;
        let expires = session.claims.exp.map_or(most, |exp| exp.min(most));
        let token = self.signer.sign_connection(&ConnectionClaims {
            sub: session.user.as_str().to_owned(),
            exp: Some(expires),
            // Of the session, so that what revokes it revokes this.
            iat: session.claims.iat,
            jti: session.claims.jti.clone(),
            channels: vec![channel],
            ..ConnectionClaims::default()
        })?;
        Ok((token, expires))
    }

    /// Remembers in the browser that a login has begun there.
    #[must_use]
    pub fn begin_login(&self, login: Login, now: Seconds) -> HeaderValue {
        let until = now + LOGIN_SECONDS;
        let plain = serde_json::to_vec(&SealedLogin { login, until });
        let sealed = self
            .sealer
            .seal(LOGIN_PURPOSE, "", &plain.unwrap_or_default());
        self.cookie(LOGIN_COOKIE, &URL_SAFE_NO_PAD.encode(sealed), LOGIN_SECONDS)
    }

    /// The login that has begun in the browser of a request, if it did so lately.
    #[must_use]
    pub fn login(&self, headers: &HeaderMap, now: Seconds) -> Option<Login> {
        let sealed = URL_SAFE_NO_PAD.decode(self.read(headers, LOGIN_COOKIE)?);
        let plain = self.sealer.open(LOGIN_PURPOSE, "", &sealed.ok()?).ok()?;
        let SealedLogin { login, until } = serde_json::from_slice(&plain).ok()?;
        (now < until).then_some(login)
    }

    /// Takes the login's cookie away.
    #[must_use]
    pub fn end_login(&self) -> HeaderValue {
        self.cookie(LOGIN_COOKIE, "", 0)
    }

    fn name(&self, name: &str) -> String {
        let prefix = if self.secure { HOST_PREFIX } else { "" };
        format!("{prefix}{name}")
    }

    fn cookie(&self, name: &str, value: &str, seconds: Seconds) -> HeaderValue {
        let name = self.name(name);
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        let mut cookie = HeaderValue::from_str(&text)
            // Tokens and base64 are text that fits into a header.
            .unwrap_or_else(|_| HeaderValue::from_static(""));
        cookie.set_sensitive(true);
        cookie
    }

    /// The value of a cookie; the first, if there are several.
    fn read<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let name = self.name(name);
        let all = headers.get_all(header::COOKIE).iter();
        let pairs = all
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let mut ours = pairs.filter(|(key, _)| *key == name);
        let (_, value) = ours.next()?;
        (1..=COOKIE_BYTES_MAX)
            .contains(&value.len())
            .then_some(value)
    }
}

impl Login {
    /// Whether an answer with this state belongs to it. Takes as long wherever they differ.
    #[must_use]
    pub fn began(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use fanfare_gateway::token::TokenVerifier;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";
    const NOW: Seconds = 1_700_000_000;

    fn cookies(secure: bool) -> Cookies {
        let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let sealer = Arc::new(Sealer::new(&key, &[]).unwrap());
        Cookies::new(TokenSigner::new(SECRET), sealer, secure, 3600)
    }

    fn sent_back(cookie: &HeaderValue) -> HeaderMap {
        let text = cookie.to_str().unwrap();
        let (pair, _) = text.split_once(';').unwrap();
        let mut headers = HeaderMap::new();
        let several = format!("other=1; {pair}; x");
        headers.insert(header::COOKIE, several.parse().unwrap());
        headers
    }

    #[test]
    fn cookies_are_for_this_host_and_no_script() {
        let user = User::parse("g1").unwrap();
        let plain = cookies(false).begin(&user, NOW).unwrap();
        let plain = plain.to_str().unwrap();
        assert!(plain.starts_with("fanfare_mail="), "{plain}");
        assert!(plain.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"));
        let secure = cookies(true).begin(&user, NOW).unwrap();
        let secure = secure.to_str().unwrap();
        assert!(secure.starts_with("__Host-fanfare_mail="), "{secure}");
        assert!(secure.ends_with("; Secure"), "{secure}");
        let gone = cookies(true).end();
        assert!(gone.to_str().unwrap().contains("mail=; Path=/; Max-Age=0"));
        // Without the prefix anybody on a neighbouring host could have set it.
        let from_neighbour = sent_back(&cookies(false).begin(&user, NOW).unwrap());
        assert_eq!(cookies(true).read(&from_neighbour, SESSION_COOKIE), None);
    }

    #[test]
    fn a_login_is_known_again_for_a_while_and_by_its_own_answer() {
        let cookies = cookies(false);
        let login = || Login {
            state: "s-1".to_owned(),
            verifier: "v".repeat(64),
        };
        let cookie = cookies.begin_login(login(), NOW);
        assert!(!cookie.to_str().unwrap().contains("s-1"));
        let headers = sent_back(&cookie);
        assert_eq!(cookies.login(&headers, NOW + 599), Some(login()));
        assert_eq!(cookies.login(&headers, NOW + 600), None);
        assert_eq!(cookies.login(&HeaderMap::new(), NOW), None);
        assert!(login().began("s-1"));
        assert!(!login().began("s-2") && !login().began(""));
        let mut forged = HeaderMap::new();
        for value in ["fanfare_mail_login=", "fanfare_mail_login=AAAA", "x"] {
            forged.insert(header::COOKIE, value.parse().unwrap());
            assert_eq!(cookies.login(&forged, NOW), None, "{value}");
        }
    }

    #[test]
    fn what_a_page_may_read_grants_the_channel_and_ends_with_the_session() {
        let cookies = cookies(false);
        let user = User::parse("g1").unwrap();
        let claims = |left| {
            Arc::new(ConnectionClaims {
                sub: "g1".to_owned(),
                exp: Some(NOW + left),
                iat: Some(NOW - 5),
                jti: Some("mail-1".to_owned()),
                ..ConnectionClaims::default()
            })
        };
        let granted = |left| {
            let session = Session {
                user: user.clone(),
                claims: claims(left),
            };
            cookies.channel_token(&session, NOW).unwrap()
        };
        let (token, expires) = granted(3600);
        assert_eq!(expires, NOW + CHANNEL_TOKEN_SECONDS);
        let read = TokenVerifier::new(SECRET).connection(&token, NOW).unwrap();
        assert_eq!(read.channels, [user.channel().unwrap()]);
        assert_eq!(read.jti.as_deref(), Some("mail-1"));
        assert_eq!(granted(60).1, NOW + 60);
    }
}
