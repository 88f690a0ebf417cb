//! There and back: `GET /chat/oidc/begin` and `GET /chat/oidc/callback`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use fanfare_engine::port::state::Bucket;
use serde::Deserialize;
use tracing::warn;

use super::{
    Oidc,
    login::{LOGIN_SECONDS, Login},
    provider::failed,
};
use crate::{
    Chat,
    account::SESSION_SECONDS,
    caller::digest_of,
    failure::Failure,
    http::{address, cookie},
    method::Tier,
    methods::sign_up::Wanted,
    unix_seconds,
};

/// Where a login begins.
pub(crate) const BEGIN_PATH: &str = "/chat/oidc/begin";
/// Where the provider sends browsers back to.
pub(super) const CALLBACK_PATH: &str = "/chat/oidc/callback";
const PAGE_PATH: &str = "/chat/";

/// Longest invitation or workspace that is passed through, in bytes.
const WANTED_BYTES_MAX: usize = 128;
/// Longest code that is passed on, in bytes.
const CODE_BYTES_MAX: usize = 2048;

#[derive(Deserialize)]
struct Begin {
    team: Option<String>,
    invite: Option<String>,
}

#[derive(Deserialize)]
struct Back {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    /// Who answers (RFC 9207).
    iss: Option<String>,
}

/// Who comes.
struct Browser {
    /// Where from, as limits see it.
    address: String,
    headers: HeaderMap,
}

impl Browser {
    fn of(request: Request) -> Self {
        Self {
            address: address(&request),
            headers: request.into_parts().0.headers,
        }
    }
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Chat>> {
    Router::new()
        .route(BEGIN_PATH, get(begin))
        .route(CALLBACK_PATH, get(back))
}

async fn begin(
    State(chat): State<Arc<Chat>>,
    query: Result<Query<Begin>, QueryRejection>,
    request: Request,
) -> Response {
    let browser = Browser::of(request);
    let begun = match (&chat.oidc, query) {
        (Some(oidc), Ok(Query(query))) => chat.begin_login(oidc, query, &browser).await,
        _ => Err(failed()),
    };
    match begun {
        Ok((url, cookie)) => go(&url, [cookie]),
        Err(failure) => lost(&failure, []),
    }
}

async fn back(
    State(chat): State<Arc<Chat>>,
    query: Result<Query<Back>, QueryRejection>,
    request: Request,
) -> Response {
    // Looking at an address does nothing; this one would be used up.
    if request.method() != Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let browser = Browser::of(request);
    let answer = query.map(|Query(query)| query).map_err(|_| failed());
    let session = match (&chat.oidc, answer) {
        (Some(oidc), Ok(answer)) => chat.end_login(oidc, answer, &browser).await,
        _ => Err(failed()),
    };
    let over = chat.cookie(chat.login_cookie(), "", 0);
    let done = session.and_then(|session| {
        let name = chat.cookie_name();
        chat.cookie(name, &session, SESSION_SECONDS)
    });
    match (done, over) {
        (Ok(session), Ok(over)) => go(PAGE_PATH, [session, over]),
        (Err(failure), over) => lost(&failure, over.ok()),
        (_, Err(failure)) => lost(&failure, []),
    }
}

impl Chat {
    fn login_cookie(&self) -> &'static str {
        self.host_cookie("__Host-fanfare_chat_login", "fanfare_chat_login")
    }

    /// Where the browser goes, and what it keeps.
    async fn begin_login(
        &self,
        oidc: &Oidc,
        query: Begin,
        browser: &Browser,
    ) -> Result<(String, HeaderValue), Failure> {
        self.limit_logins("oidc.begin", browser).await?;
        // A page of somebody else would have its visitors join a workspace.
        if !self.is_own_page(&browser.headers) {
            return Err(Failure::new("invalid_origin"));
        }
        let fits = |text: &String| (1..=WANTED_BYTES_MAX).contains(&text.len());
        let (team, invite) = (query.team.filter(fits), query.invite.filter(fits));
        let provider = oidc.provider().await?;
        let login = Login::begin(team, invite)?;
        let kept = self.cookie(self.login_cookie(), &oidc.keep(&login)?, LOGIN_SECONDS)?;
        Ok((oidc.authorization(&provider, &login), kept))
    }

    /// The token of the session that begins.
    async fn end_login(
        &self,
        oidc: &Oidc,
        answer: Back,
        browser: &Browser,
    ) -> Result<String, Failure> {
        self.limit_logins("oidc.callback", browser).await?;
        self.check_ready()?;
        let kept = cookie(&browser.headers, self.login_cookie());
        let login = kept.and_then(|kept| oidc.kept(kept, unix_seconds()));
        let login = login.ok_or_else(|| Failure::new("oidc_expired"))?;
        // First of all: what follows is the answer to this login, refusals too.
        let is_ours = answer.state.as_deref() == Some(&*login.state);
        let is_issuers = answer.iss.is_none_or(|iss| iss == oidc.config.issuer);
        if !is_ours || !is_issuers {
            warn!(
                "an answer to a login that did not begin in the same browser, or of another provider"
            );
            return Err(Failure::new("oidc_state"));
        }
        self.use_up(&login).await?;
        match answer.error.as_deref() {
            Some("access_denied") => return Err(Failure::new("oidc_denied")),
            Some(_) => return Err(failed()),
            None => {}
        }
        let fits = |code: &String| (1..=CODE_BYTES_MAX).contains(&code.len());
        let code = answer.code.filter(fits).ok_or_else(failed)?;
        let provider = oidc.provider().await?;
        let token = oidc.exchange(&provider, &code, &login).await?;
        let identity = oidc.identify(&provider, &token, &login.nonce).await?;
        let wanted = Wanted {
            invite: login.invite,
            team: login.team,
            team_name: None,
        };
        self.sign_in_as(&identity, &wanted).await
    }

    async fn limit_logins(&self, what: &str, browser: &Browser) -> Result<(), Failure> {
        match Tier::One.bucket(self.config.ease()) {
            Some(bucket) => self.limit(what, &browser.address, bucket).await,
            None => Ok(()),
        }
    }

    /// Whoever has seen the answer to a login, and its cookie, does nothing more with them.
    async fn use_up(&self, login: &Login) -> Result<(), Failure> {
        let once = Bucket {
            capacity: 1,
            refill: 1,
            // The cookie has ended long before there is another one.
            period: Duration::from_secs(2 * LOGIN_SECONDS.unsigned_abs()),
        };
        let state = digest_of(&login.state);
        let used = self.limit("oidc.state", &state, once);
        used.await.map_err(|_| Failure::new("oidc_expired"))
    }
}

/// The page, which says what went wrong.
fn lost(failure: &Failure, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    go(&format!("{PAGE_PATH}?error={}", failure.code), cookies)
}

fn go(place: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let Ok(place) = HeaderValue::from_str(place) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let no_store = HeaderValue::from_static("no-store");
    let no_referrer = HeaderValue::from_static("no-referrer");
    let headers = [
        (header::LOCATION, place),
        (header::CACHE_CONTROL, no_store),
        (header::REFERRER_POLICY, no_referrer),
    ];
    let mut response = (StatusCode::SEE_OTHER, headers).into_response();
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
