//! The HTTP side, all below `/mail/`: signing in, what is in the mailbox, and the event stream.
//!
//! | file | subject |
//! | --- | --- |
//! | `login` | to Google and back, signing out, disconnecting |
//! | `inbox` | the account, its messages, tokens for other gateways, looks on demand |
//! | `events` | the event stream |
//! | `demo` | what happens in the mailbox of a demonstration |
//! | `answer` | JSON and refusals |

mod answer;
mod demo;
mod events;
mod inbox;
mod login;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Extensions, HeaderMap, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fanfare_gateway::listener;

use self::answer::Code;
pub(crate) use self::{answer::Failure, login::LoginError};
use crate::{
    app::Mail,
    limits::{self, Limit},
    session::{NoSession, Session},
};

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Where browsers come back from Google.
pub(crate) const CALLBACK_PATH: &str = "/mail/callback";
/// Where the page is.
const PAGE_PATH: &str = "/mail";

type Shared = State<Arc<Mail>>;

/// The routes.
pub(crate) fn router(mail: &Arc<Mail>) -> Router {
    let mut router = Router::new()
        .route("/mail/login", get(login::begin))
        .route(CALLBACK_PATH, get(login::back))
        .route("/mail/logout", post(login::logout))
        .route("/mail/disconnect", post(login::disconnect))
        .route("/mail/me", get(inbox::me))
        .route("/mail/messages", get(inbox::messages))
        .route("/mail/token", get(inbox::token))
        .route("/mail/sync", post(inbox::sync))
        .route("/mail/events", get(events::events));
    if mail.demo.is_some() {
        router = router.route("/mail/dev/{what}", post(demo::act));
    }
    router
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(private))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(mail))
}

async fn not_allowed() -> Response {
    Failure::new(Code::MethodNotAllowed, "this path takes another method").into_response()
}

/// What is answered here is one person's: nobody keeps it, and no address is told to others.
async fn private(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Mail {
    /// Whose request it is, if it comes from the app's own page.
    fn session_of(&self, headers: &HeaderMap) -> Result<Session, Failure> {
        self.check_origin(headers)?;
        let gateway = self.gateway()?;
        let session = self.cookies.session(headers, gateway.sessions());
        session.map_err(|none| match none {
            NoSession::SignedOut => Failure::new(
                Code::Unauthorized,
                "nobody is signed in here: begin at /mail/login",
            ),
            NoSession::NotYet => Failure::unavailable("sessions cannot be judged yet"),
        })
    }

    /// Refuses what a browser sends for another page. Programs that are no browsers say nothing of a page, and have the cookie
    /// only if somebody gave it to them.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let is_own = origin.is_none_or(|origin| {
            origin == self.public_url.origin().as_bytes()
                || (self.demo.is_some() && is_of_host(origin, headers))
        });
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_other_site = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
        match is_own && !is_other_site {
            true => Ok(()),
            false => Err(Failure::new(
                Code::Forbidden,
                "this is for the mail page of this server alone",
            )),
        }
    }

    async fn limit(&self, limit: Limit, subject: &str) -> Result<(), Failure> {
        let taken = limits::take(&self.limiter, limit, subject).await;
        taken.map_err(Failure::too_often)
    }
}

/// A demonstration is reached by several names of this machine.
fn is_of_host(origin: &[u8], headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = origin.strip_prefix(b"http://");
    matches!((authority, host), (Some(one), Some(other)) if one == other)
}

/// Where a request comes from, as limits see it.
fn address(extensions: &Extensions) -> String {
    listener::peer(extensions).map_or_else(String::new, |peer| peer.ip().to_string())
}
