//! The HTTP side: making rooms, looking at them, and users for whoever asks a server that is open.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fanfare_gateway::{listener, token::ConnectionClaims};
use fanfare_wire::iso8601;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Watch,
    failure::{Code, Failure},
    identity::{RoomCode, User, random_bytes},
    json as to_json,
    limits::Limit,
    payload::{self, NewRoom},
    room::IDLE_MAX,
};

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 << 10;
/// How long the token of a user for whoever asks is valid, in seconds.
const SESSION_SECONDS: i64 = 30 * 24 * 3600;
/// Longest name of such a user, in characters.
const NAME_CHARS_MAX: usize = 50;

type Shared = State<Arc<Watch>>;

/// The routes.
pub(crate) fn router(watch: &Arc<Watch>) -> Router {
    Router::new()
        .route("/watch/rooms", post(create))
        .route("/watch/rooms/{code}", get(look))
        .route("/watch/session", post(session))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(watch))
}

#[derive(Deserialize)]
struct NewSession {
    name: String,
}

async fn create(State(watch): Shared, request: Request) -> Response {
    answer(StatusCode::CREATED, watch.make_room(request).await)
}

async fn look(State(watch): Shared, Path(code): Path<String>, request: Request) -> Response {
    answer(
        StatusCode::OK,
        watch.look_at(&code, request.extensions()).await,
    )
}

async fn session(State(watch): Shared, request: Request) -> Response {
    answer(StatusCode::CREATED, watch.make_user(request).await)
}

impl Watch {
    async fn make_room(&self, request: Request) -> Result<Value, Failure> {
        let user = self.bearer(request.headers())?;
        let address = address(request.extensions());
        if user.is_none() && !self.config.anonymous_rooms {
            let words = "making a room needs a token: Authorization: Bearer …";
            return Err(Failure::new(Code::Unauthorized, words));
        }
        let body = body(request).await?;
        let wish = payload::parse::<NewRoom>(Some(&body))?.check()?;
        let subject = match &user {
            Some(user) => format!("user {}", user.id),
            None => format!("address {address}"),
        };
        self.limits.take(Limit::CreateRoom, &subject).await?;
        let owner = user.as_ref().map(|user| user.id.as_str());
        let (room, owner_key) = self.create(wish, owner).await?;
        Ok(json!({ "code": room.code.as_str(), "room": room.view(), "ownerKey": owner_key }))
    }

    async fn look_at(&self, code: &str, extensions: &Extensions) -> Result<Value, Failure> {
        let address = address(extensions);
        self.limits.take(Limit::LookUp, &address).await?;
        let code = RoomCode::parse(code).ok_or_else(Failure::no_such_room)?;
        let room = self.load(code).await?;
        // Nobody can say while the shared state is away.
        let count = self.count(code).await.ok();
        Ok(json!({ "room": {
            "code": code.as_str(),
            "name": room.name,
            "hasPassword": room.password.is_some(),
            "maxParticipants": room.max_participants,
            "participantCount": count,
            "playbackControl": room.control,
            "createdAt": iso8601(room.created_at),
            "expiresAt": iso8601(room.last_activity_at + IDLE_MAX),
        } }))
    }

    /// A token for whoever asks, or a fresh one for whom it was given to.
    async fn make_user(&self, request: Request) -> Result<Value, Failure> {
        let signer = match &self.config.signer {
            Some(signer) if self.config.open => signer,
            _ => {
                let words = "users for whoever asks are for --dev only";
                return Err(Failure::new(Code::Forbidden, words));
            }
        };
        // A token that has expired is no reason to refuse a new user.
        let before = self.bearer(request.headers()).ok().flatten();
        let body = body(request).await?;
        let NewSession { name } = payload::parse(Some(&body))?;
        let name = payload::text("name", name, NAME_CHARS_MAX)?;
        let id = match before {
            Some(user) => user.id,
            None => format!("u{:032x}", u128::from_be_bytes(random_bytes()?)),
        };
        let now = self.clock.now() / 1000;
        let claims = ConnectionClaims {
            sub: id.clone(),
            exp: Some(now + SESSION_SECONDS),
            iat: Some(now),
            info: Some(to_json(&json!({ "name": name }))?),
            ..ConnectionClaims::default()
        };
        let token = signer.sign_connection(&claims).map_err(Failure::internal)?;
        Ok(json!({ "token": token, "userId": id, "name": name }))
    }

    /// The user of a request's token; `None` without a token.
    fn bearer(&self, headers: &HeaderMap) -> Result<Option<User>, Failure> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(None);
        };
        let invalid = || Failure::new(Code::InvalidToken, "the token is not accepted");
        let text = value.to_str().map_err(|_| invalid())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        self.user_of(token.trim()).ok_or_else(invalid)
    }
}

async fn body(request: Request) -> Result<Bytes, Failure> {
    let (_, body) = request.into_parts();
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    read.map_err(|_| {
        let words = format!("a body is at most {BODY_BYTES_MAX} bytes");
        Failure::new(Code::PayloadTooLarge, words)
    })
}

fn address(extensions: &Extensions) -> String {
    listener::peer(extensions).map_or_else(String::new, |peer| peer.ip().to_string())
}

fn answer(status: StatusCode, result: Result<Value, Failure>) -> Response {
    let json_type = HeaderValue::from_static("application/json");
    match result {
        Ok(value) => {
            let headers = [(header::CONTENT_TYPE, json_type)];
            (status, headers, value.to_string()).into_response()
        }
        Err(failure) => {
            let body = json!({ "error": failure.fields() }).to_string();
            let mut response = (failure.code.status(), body).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, json_type);
            if let Some(after) = failure.retry_after {
                headers.insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
            }
            response
        }
    }
}
