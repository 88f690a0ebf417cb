//! The server API: what an application's own servers ask, shaped as Centrifugo's so that its client libraries serve.
//!
//! Errors of the API itself are answered with status 200 and an `error` member; only requests that cannot be understood
//! (no key, another content type, no JSON, too long) have a status of their own.

mod base64;
mod batch;
mod channels;
mod clients;
mod methods;
mod presence;
mod remove;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use fanfare_engine::{
    PublishError, Published,
    hub::{HistoryQuery, session::HistoryError},
    port::{AppendError, Direction, KEY_BYTES_MAX},
};
use fanfare_wire::{
    ChannelName, Draft, Epoch, Json, Seq,
    centrifuge::{ErrorCode, errors},
    sse::put_publication,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{Gateway, sessions::Revocation, token::USER_BYTES_MAX, unix_seconds};

use self::{base64::Base64, methods::Method};
pub(crate) use self::{
    methods::{openapi, routes},
    presence::{count_of, members_of},
};

/// Channels of one broadcast.
const BROADCAST_CHANNELS_MAX: usize = 1000;
/// Publications that history returns when no limit is given.
const HISTORY_LIMIT_DEFAULT: usize = 100;
/// Bytes of the tags of a publication.
const TAGS_BYTES_MAX: usize = 4 << 10;

/// Lets in who has the key, and what is JSON.
pub(crate) async fn guard(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    if !is_authorised(&gateway, request.headers()) {
        return failure(StatusCode::UNAUTHORIZED, errors::UNAUTHORIZED);
    }
    // Another method is told so by the router, whatever it carries.
    if request.method() == HttpMethod::POST && !is_json(request.headers()) {
        return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, errors::BAD_REQUEST);
    }
    next.run(request).await
}

/// A method of HTTP that is not POST.
pub(crate) async fn not_allowed() -> Response {
    (
        [(header::ALLOW, "POST")],
        failure(StatusCode::METHOD_NOT_ALLOWED, errors::BAD_REQUEST),
    )
        .into_response()
}

/// An API method that does not exist.
pub(crate) async fn unknown() -> Response {
    failure(StatusCode::NOT_FOUND, errors::METHOD_NOT_FOUND)
}

async fn publish(gateway: &Gateway, body: &[u8]) -> Answered {
    let request: PublishRequest<'_> = understood(body)?;
    let channel = request.channel.as_ref()?;
    let draft = request
        .payload()?
        .and_then(|data| draft_for(gateway, channel, &request, &data));
    Some(match draft {
        Ok(draft) if is_told(gateway, &draft) => told(gateway, draft),
        Ok(draft) => published(gateway.engine.publish(draft).await),
        Err(error) => Err(error.into()),
    })
}

async fn broadcast(gateway: &Gateway, body: &[u8]) -> Answered {
    let request: PublishRequest<'_> = understood(body)?;
    let channels = request.channels.as_deref().unwrap_or_default();
    if channels.is_empty() || channels.len() > BROADCAST_CHANNELS_MAX {
        return Some(Err(errors::BAD_REQUEST.into()));
    }
    // All channels are checked before anything is published into one.
    let drafts = request.payload()?.and_then(|data| {
        let draft = |channel: &String| draft_for(gateway, channel, &request, &data);
        channels.iter().map(draft).collect()
    });
    let drafts: Vec<Draft> = match drafts {
        Ok(drafts) => drafts,
        Err(error) => return Some(Err(error.into())),
    };
    let kept: Vec<bool> = drafts.iter().map(|it| !is_told(gateway, it)).collect();
    let (to_tell, to_keep): (Vec<Draft>, Vec<Draft>) = drafts
        .into_iter()
        .partition(|draft| is_told(gateway, draft));
    let mut committed = gateway.engine.publish_all(to_keep).await.into_iter();
    let mut to_tell = to_tell.into_iter();
    let responses = kept.into_iter().filter_map(|kept| {
        let result = match kept {
            true => published(committed.next()?),
            false => told(gateway, to_tell.next()?),
        };
        Some(Body::of(result))
    });
    Some(to_json(&BroadcastResult {
        responses: responses.collect(),
    }))
}

fn info(gateway: &Gateway) -> ApiResult {
    let nodes = gateway.engine.nodes();
    let about = nodes
        .iter()
        .filter_map(|node| serde_json::from_slice(&node.about).ok());
    to_json(&InfoResult {
        nodes: about.collect(),
    })
}

async fn revoke(gateway: &Gateway, body: &[u8]) -> Answered {
    let revocation = match understood(body)? {
        RevokeRequest {
            user: Some(user),
            session: None,
        } if (1..=USER_BYTES_MAX).contains(&user.len()) => Revocation::User {
            user,
            until: unix_seconds(),
        },
        RevokeRequest {
            user: None,
            session: Some(session),
        } if (1..=USER_BYTES_MAX).contains(&session.len()) => Revocation::Session {
            session,
            expires: None,
        },
        _ => return Some(Err(errors::BAD_REQUEST.into())),
    };
    Some(match revocation.draft() {
        Ok(draft) => commit(gateway, draft).await,
        Err(_) => Err(errors::BAD_REQUEST.into()),
    })
}

/// Commits a message that every node follows; there is nothing to say but that it is done.
async fn commit(gateway: &Gateway, draft: Draft) -> ApiResult {
    published(gateway.engine.publish(draft).await)?;
    nothing()
}

/// The result of what only has to be done.
fn nothing() -> ApiResult {
    to_json(&serde_json::Map::new())
}

/// A request, if it is one.
fn understood<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

// === Requests and results ===

/// Whose tokens are no longer valid: exactly one of both.
#[derive(Deserialize)]
struct RevokeRequest {
    user: Option<String>,
    session: Option<String>,
}

/// A publish names one channel, a broadcast several.
#[derive(Deserialize)]
struct PublishRequest<'a> {
    channel: Option<String>,
    channels: Option<Vec<String>>,
    /// `null` is data.
    #[serde(borrow, default, deserialize_with = "said")]
    data: Option<&'a RawValue>,
    /// The same in base64, which counts if it is there.
    b64data: Option<Base64>,
    idempotency_key: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    /// What is kept is kept for all.
    skip_history: Option<bool>,
    /// Of what an older one would be dropped: nothing is here.
    version: Option<u64>,
}

impl PublishRequest<'_> {
    /// What is published, if anything is.
    fn payload(&self) -> Option<Result<Json, ErrorCode>> {
        match (&self.b64data, self.data) {
            (Some(text), data) if !text.is_empty() || data.is_none() => Some(text.json()),
            (_, data) => data.map(|data| Ok(Json::from_raw(data))),
        }
    }
}

/// A value that is there, `null` included.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// What `null` stands for is what is not said.
pub(crate) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct HistoryRequest {
    channel: String,
    limit: Option<i64>,
    since: Option<Since>,
    #[serde(default, deserialize_with = "or_default")]
    reverse: bool,
}

#[derive(Deserialize)]
struct Since {
    offset: u64,
    #[serde(default, deserialize_with = "or_default")]
    epoch: String,
}

#[derive(Serialize)]
struct PublishResult<'a> {
    offset: u64,
    epoch: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Serialize)]
struct BroadcastResult {
    responses: Vec<Body>,
}

#[derive(Serialize)]
struct HistoryResult<'a> {
    publications: Box<RawValue>,
    offset: u64,
    epoch: &'a str,
    /// Present when retention has removed the beginning of what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<Truncated>,
}

#[derive(Serialize)]
struct Truncated {
    oldest: u64,
}

#[derive(Serialize)]
struct InfoResult {
    nodes: Vec<Box<RawValue>>,
}

/// The body of every answer.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Result(Box<RawValue>),
    Error(ErrorBody),
}

/// What an error looks like.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) code: u32,
    pub(crate) message: &'static str,
    /// Trying again may help.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) temporary: bool,
    /// In how many milliseconds it is worth trying again, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u32>,
}

pub(crate) type ApiResult = Result<Box<RawValue>, ErrorBody>;

/// What a method answers; `None`: the request could not be understood.
type Answered = Option<ApiResult>;

impl From<ErrorCode> for ErrorBody {
    fn from(error: ErrorCode) -> Self {
        let ErrorCode {
            code,
            message,
            temporary,
        } = error;
        Self {
            code,
            message,
            temporary,
            retry_after_ms: None,
        }
    }
}

impl Body {
    fn of(result: ApiResult) -> Self {
        match result {
            Ok(result) => Self::Result(result),
            Err(error) => Self::Error(error),
        }
    }
}

fn answer(result: ApiResult) -> Response {
    axum::Json(Body::of(result)).into_response()
}

fn failure(status: StatusCode, error: ErrorCode) -> Response {
    (status, axum::Json(Body::of(Err(error.into())))).into_response()
}

pub(crate) fn to_json(result: &impl Serialize) -> ApiResult {
    to_raw_value(result).map_err(|_| errors::INTERNAL.into())
}

fn is_authorised(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let Some(expected) = &gateway.config.api_key else {
        return gateway.config.open;
    };
    let key = headers.get("x-api-key").map(HeaderValue::as_bytes);
    let authorization = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let given = key.or_else(|| authorization.and_then(|value| value.strip_prefix(b"apikey ")));
    given.is_some_and(|given| bool::from(given.ct_eq(expected.as_bytes()))) || gateway.config.open
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(|given| given.split(';').next())
        .is_some_and(|given| given.trim().eq_ignore_ascii_case("application/json"))
}

/// Tags as a draft has them.
pub(crate) fn tags_of(tags: &BTreeMap<String, String>) -> Result<Json, ErrorCode> {
    let tags = to_raw_value(tags).map_err(|_| errors::BAD_REQUEST)?;
    match tags.get().len() > TAGS_BYTES_MAX {
        true => Err(errors::LIMIT_EXCEEDED),
        false => Ok(Json::from_raw(&tags)),
    }
}

fn draft_for(
    gateway: &Gateway,
    channel: &str,
    message: &PublishRequest<'_>,
    data: &Json,
) -> Result<Draft, ErrorCode> {
    let channel = parse_channel(gateway, channel)?;
    let options = gateway.options(&channel)?;
    gateway.check_length(data.as_bytes().len(), options)?;
    let skips_history = message.skip_history == Some(true) && options.is_durable();
    if skips_history || message.version.is_some_and(|version| version > 0) {
        return Err(errors::NOT_AVAILABLE);
    }
    let mut draft = Draft::new(channel, Uuid::now_v7(), data.clone());
    draft.tags = message.tags.as_ref().map(tags_of).transpose()?;
    if let Some(key) = message
        .idempotency_key
        .as_ref()
        .filter(|key| !key.is_empty())
    {
        // What is kept nowhere is not known again.
        if !options.is_durable() {
            return Err(errors::NOT_AVAILABLE);
        }
        // PostgreSQL stores no NUL in text.
        if key.len() > KEY_BYTES_MAX || key.contains('\0') {
            return Err(errors::BAD_REQUEST);
        }
        draft.idempotency_key = Some(key.clone());
    }
    Ok(draft)
}

/// The application's servers may use every channel that exists.
fn parse_channel(gateway: &Gateway, channel: &str) -> Result<ChannelName, ErrorCode> {
    let channel = ChannelName::parse(channel).map_err(|_| errors::BAD_REQUEST)?;
    gateway.options(&channel)?;
    Ok(channel)
}

/// Whether what is published into a draft's channel is told now or never.
fn is_told(gateway: &Gateway, draft: &Draft) -> bool {
    let options = gateway.options(&draft.channel);
    options.is_ok_and(|options| !options.is_durable())
}

fn told(gateway: &Gateway, draft: Draft) -> ApiResult {
    gateway.tell(draft);
    to_json(&serde_json::Map::new())
}

/// What somebody is told who publishes more often than the namespace lets a connection.
pub(crate) fn too_often(wait: Duration) -> ErrorBody {
    let retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    ErrorBody {
        retry_after_ms: Some(retry_after_ms),
        ..errors::TOO_MANY_REQUESTS.into()
    }
}

pub(crate) fn published(result: Result<Published, PublishError>) -> ApiResult {
    match result {
        Ok(Published {
            seq,
            epoch,
            duplicate,
            ..
        }) => to_json(&PublishResult {
            offset: seq.0,
            epoch: epoch.as_str(),
            duplicate,
        }),
        Err(error) => {
            let (error, retry_after_ms) = refused_publish(&error);
            Err(ErrorBody {
                retry_after_ms,
                ..error.into()
            })
        }
    }
}

/// What somebody is told whose publish was not acknowledged, and when to try again. Publishers that are refused
/// together are not asked back together.
pub(crate) fn refused_publish(error: &PublishError) -> (ErrorCode, Option<u32>) {
    match error {
        PublishError::Busy { retry_ms } => {
            let jitter = rand::random_range(0..=retry_ms / 2);
            (errors::BUSY, Some(retry_ms + jitter))
        }
        PublishError::Append(AppendError::Unavailable(_)) | PublishError::Closed => {
            (errors::UNAVAILABLE, None)
        }
        PublishError::Append(AppendError::Unknown(_)) => (errors::OUTCOME_UNKNOWN, None),
    }
}

async fn read_history(gateway: &Gateway, request: HistoryRequest) -> ApiResult {
    let channel = parse_channel(gateway, &request.channel)?;
    if !gateway.options(&channel)?.is_durable() {
        return Err(errors::NOT_AVAILABLE.into());
    }
    let limit = match request.limit {
        None => HISTORY_LIMIT_DEFAULT,
        Some(limit) => usize::try_from(limit).unwrap_or(fanfare_engine::HISTORY_LIMIT_MAX),
    };
    let since = request.since.map(|since| {
        let epoch = Epoch::named(&since.epoch);
        (epoch, Seq(since.offset))
    });
    let direction = if request.reverse {
        Direction::Backward
    } else {
        Direction::Forward
    };
    let query = HistoryQuery {
        channel,
        since,
        limit,
        direction,
    };
    history_of(gateway, query).await
}

/// A channel's history, as clients and the application's servers are shown it.
pub(crate) async fn history_of(gateway: &Gateway, query: HistoryQuery) -> ApiResult {
    let direction = query.direction;
    let asked_from = query.since.as_ref().map(|(_, seq)| *seq);
    let page = match gateway.engine.history(query).await {
        Ok(page) => page,
        Err(HistoryError::OtherEpoch(_)) => return Err(errors::UNRECOVERABLE_POSITION.into()),
        Err(HistoryError::Log(_)) => return Err(errors::INTERNAL.into()),
    };
    let mut publications = vec![b'['];
    for (at, publication) in page.publications.iter().enumerate() {
        if at > 0 {
            publications.push(b',');
        }
        put_publication(None, publication, &mut publications);
    }
    publications.push(b']');
    let publications = String::from_utf8(publications).map_err(|_| errors::INTERNAL)?;
    let overtaken =
        asked_from.is_some_and(|seq| direction == Direction::Forward && seq < page.trimmed);
    to_json(&HistoryResult {
        publications: RawValue::from_string(publications).map_err(|_| errors::INTERNAL)?,
        offset: page.head.0,
        epoch: page.epoch.as_str(),
        truncated: overtaken.then(|| Truncated {
            oldest: page.trimmed.next().0,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_told_from_what_nobody_knows() {
        let told = |error| {
            let (error, retry_after_ms) = refused_publish(&error);
            assert!(error.temporary, "{error:?}");
            (error.code, retry_after_ms)
        };
        let (busy, retry_after_ms) = told(PublishError::Busy { retry_ms: 400 });
        assert_eq!(busy, 111);
        assert!((400..=600).contains(&retry_after_ms.unwrap()));
        let words = || "gone".to_owned();
        let unavailable = PublishError::Append(AppendError::Unavailable(words()));
        assert_eq!(told(unavailable), (1001, None));
        assert_eq!(told(PublishError::Closed), (1001, None));
        let unknown = PublishError::Append(AppendError::Unknown(words()));
        assert_eq!(told(unknown), (1002, None));
    }

    #[test]
    fn an_error_says_only_what_is_known() {
        let text = |error: ErrorBody| serde_json::to_string(&Body::of(Err(error))).unwrap();
        assert_eq!(
            text(errors::BAD_REQUEST.into()),
            r#"{"error":{"code":107,"message":"bad request"}}"#
        );
        let busy = ErrorBody {
            retry_after_ms: Some(70),
            ..errors::BUSY.into()
        };
        assert_eq!(
            text(busy),
            r#"{"error":{"code":111,"message":"busy: nothing was taken","temporary":true,"retry_after_ms":70}}"#
        );
    }
}
