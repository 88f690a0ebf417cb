//! The Web API over HTTP: `/v1/METHOD`, in Slack's conventions.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use fanfare_gateway::listener;
use serde_json::{Map, Value, json};

use crate::{
    Chat, Demo,
    args::Args,
    caller::Caller,
    failure::{Failure, Way},
    method::{Answer, Call, Method, Who},
    oidc, socket_mode,
};

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 512 << 10;

/// The cookie of whoever is signed in at the page.
pub(crate) const SESSION_COOKIE: &str = "fanfare_chat";

/// The routes.
pub(crate) fn router(chat: &Arc<Chat>) -> Router {
    let oidc = chat.oidc.as_ref().map(|_| oidc::router());
    Router::new()
        .merge(oidc.unwrap_or_default())
        .route("/v1/{method}", any(call))
        .route("/chat/dev", get(fixtures))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(chat))
        .merge(socket_mode::router(chat))
}

async fn call(
    State(chat): State<Arc<Chat>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    match run(chat, &name, request).await {
        Ok(answer) => said(answer),
        Err(failure) => refused(&failure),
    }
}

/// `GET /chat/dev`: the users of a first try, with their tokens; there are none on any other server.
async fn fixtures(State(chat): State<Arc<Chat>>, headers: HeaderMap) -> Response {
    if !chat.config.open || !chat.is_own_page(&headers) {
        return to_json(
            StatusCode::NOT_FOUND,
            json!({ "ok": false, "error": "not_found" }),
        );
    }
    let users = Demo::people().map(
        |(name, real_name, token)| json!({ "name": name, "real_name": real_name, "token": token }),
    );
    to_json(StatusCode::OK, json!({ "ok": true, "users": users }))
}

/// Runs a method for whoever sent a request.
pub(crate) async fn run(chat: Arc<Chat>, name: &str, request: Request) -> Result<Answer, Failure> {
    let method = chat.methods.get(name).copied();
    let method = method.ok_or_else(|| Failure::new("unknown_method").with("req_method", name))?;
    chat.check_ready()?;
    let (headers, address) = (request.headers().clone(), address(&request));
    let args = Args::read(request).await?;
    let caller = caller(&chat, method, &headers, &args).await?;
    let subject = caller
        .as_ref()
        .map_or(address.as_str(), |caller| caller.user.as_str());
    if let Some(bucket) = method.tier.bucket(chat.config.ease()) {
        chat.limit(method.name, subject, bucket).await?;
    }
    let is_own_page = chat.is_own_page(&headers);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let call = Call::new(caller, args)
        .of_own_page(is_own_page)
        .at(host.map(str::to_owned));
    (method.run)(chat, call).await
}

/// Who calls; whoever may not call the method does not get further.
async fn caller(
    chat: &Chat,
    method: &Method,
    headers: &HeaderMap,
    args: &Args,
) -> Result<Option<Caller>, Failure> {
    let caller = match token(chat, headers, args)? {
        Some(token) => Some(chat.caller_of(&token).await),
        None => None,
    };
    match (method.who, caller) {
        // A token that is not valid any more does not keep anybody from signing in again.
        (Who::Anyone, caller) => Ok(caller.and_then(Result::ok)),
        (_, None) => Err(Failure::new("not_authed")),
        (who, Some(caller)) => {
            let caller = caller?;
            match who.admits(&caller) {
                true => Ok(Some(caller)),
                false if who == Who::Admin && Who::User.admits(&caller) => {
                    Err(Failure::new("restricted_action"))
                }
                false => Err(Failure::new("not_allowed_token_type")),
            }
        }
    }
}

/// The token of a call: in the header, as an argument, or in the cookie of the page.
fn token(chat: &Chat, headers: &HeaderMap, args: &Args) -> Result<Option<String>, Failure> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        let bearer = bearer.filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let token = bearer.map(|(_, token)| token.trim().to_owned());
        return token.map(Some).ok_or_else(|| Failure::new("invalid_auth"));
    }
    if let Some(token) = args.text("token") {
        return Ok(Some(token));
    }
    let Some(token) = cookie(headers, chat.cookie_name()) else {
        return Ok(None);
    };
    // A browser adds the cookie to whatever a page asks for; only our own may ask.
    match chat.is_own_page(headers) {
        true => Ok(Some(token.to_owned())),
        false => Err(Failure::new("invalid_auth")),
    }
}

pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(key, _)| *key == name);
    ours.next().map(|(_, value)| value)
}

impl Chat {
    /// Whether a browser asks for this server's own page. Scripts of other pages cannot leave out what is looked at here.
    pub(crate) fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let is_same_site = site.is_none_or(|site| matches!(site, b"same-origin" | b"none"));
        let is_own_origin = origin.is_none_or(|origin| match &self.config.public_url {
            Some(url) => origin == url.as_bytes(),
            None => host.is_some_and(|host| origin.strip_prefix(b"http://") == Some(host)),
        });
        is_same_site && is_own_origin
    }
}

/// Where a request comes from, as limits see it.
pub(crate) fn address(request: &Request) -> String {
    let peer = listener::peer(request.extensions());
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string())
}

fn said(answer: Answer) -> Response {
    let mut body = Map::new();
    body.insert("ok".to_owned(), true.into());
    body.extend(answer.fields);
    let mut response = to_json(StatusCode::OK, Value::Object(body));
    for cookie in answer.cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn refused(failure: &Failure) -> Response {
    let mut body = Map::new();
    body.insert("ok".to_owned(), false.into());
    body.insert("error".to_owned(), failure.code.as_ref().into());
    body.extend(failure.more.clone());
    let status = match failure.way {
        Way::Answer => StatusCode::OK,
        Way::TooOften => StatusCode::TOO_MANY_REQUESTS,
        Way::Away => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = to_json(status, Value::Object(body));
    if let Some(after) = failure.retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, seconds.max(1).into());
    }
    response
}

fn to_json(status: StatusCode, body: Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, body.to_string()).into_response()
}
