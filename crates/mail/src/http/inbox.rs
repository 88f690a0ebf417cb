//! The account, its messages, tokens for other gateways, and looks at Gmail on demand.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use fanfare_wire::{ChannelName, Seq, iso8601, sse::Positions};
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use super::{
    Failure, Shared,
    answer::{Code, to_json},
};
use crate::{
    app::{Mail, unix_seconds},
    google::Label,
    limits::Limit,
    session::Session,
    sync::{MessagesQuery, SyncError},
    user::User,
};

/// Messages of a page, if nothing is said.
const LIMIT_DEFAULT: usize = 50;
/// Longest id of a label, and longest place in a list, in bytes.
const PARAMETER_BYTES_MAX: usize = 256;

#[derive(Deserialize)]
pub(super) struct Wanted {
    label: Option<String>,
    #[serde(default)]
    visible: bool,
    limit: Option<usize>,
    before: Option<String>,
}

/// `GET /mail/me`
pub(super) async fn me(State(mail): Shared, headers: HeaderMap) -> Response {
    answer(mail.me(&headers).await)
}

/// `GET /mail/messages`
pub(super) async fn messages(
    State(mail): Shared,
    query: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let wanted = query.map_err(|_| Failure::bad("write ?label=…&limit=…&before=…, each once"));
    answer(match wanted {
        Ok(Query(wanted)) => mail.list(&headers, wanted).await,
        Err(failure) => Err(failure),
    })
}

/// `GET /mail/token`
pub(super) async fn token(State(mail): Shared, headers: HeaderMap) -> Response {
    answer(mail.token(&headers).await)
}

/// `POST /mail/sync`
pub(super) async fn sync(State(mail): Shared, headers: HeaderMap) -> Response {
    match mail.look_now(&headers).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(failure) => failure.into_response(),
    }
}

fn answer(result: Result<serde_json::Value, Failure>) -> Response {
    match result {
        Ok(value) => to_json(StatusCode::OK, &value),
        Err(failure) => failure.into_response(),
    }
}

/// What a request is told of an error of the sync.
pub(super) fn failed(error: &SyncError) -> Failure {
    match error {
        SyncError::Before => Failure::bad("write as `before` what the page before gave as `next`"),
        SyncError::Address => Failure::bad("this address cannot be kept"),
        SyncError::Starting => Failure::unavailable("the server is starting"),
        SyncError::Store(_) => {
            warn!(%error, "the mail app's tables");
            Failure::unavailable("the database does not answer")
        }
    }
}

/// What somebody is told whose mailbox is no longer connected.
pub(super) fn unconnected() -> Failure {
    Failure::new(
        Code::Unauthorized,
        "no mailbox is connected: begin at /mail/login",
    )
}

impl Mail {
    async fn me(&self, headers: &HeaderMap) -> Result<serde_json::Value, Failure> {
        let session = self.reader(headers).await?;
        let account = self.sync.account(&session.user).await;
        let account = account.map_err(|error| failed(&error))?;
        let account = account.ok_or_else(unconnected)?;
        Ok(json!({
            "user": account.user.as_str(),
            "email": account.address,
            "state": account.state.name(),
            "watchExpires": account.watch_expires,
            "lastSync": account.last_sync,
            "historyId": account.history_id,
            "dev": self.demo.is_some(),
        }))
    }

    async fn list(
        &self,
        headers: &HeaderMap,
        wanted: Wanted,
    ) -> Result<serde_json::Value, Failure> {
        let session = self.reader(headers).await?;
        let fits = |text: &Option<String>| {
            text.as_ref()
                .is_none_or(|text| text.len() <= PARAMETER_BYTES_MAX && !text.contains('\0'))
        };
        if !fits(&wanted.label) || !fits(&wanted.before) {
            return Err(Failure::bad("a label or a place is longer than 256 bytes"));
        }
        // Before the rows: what comes in between is then in both, which does no harm.
        let event_id = self.event_id(&session.user).await?;
        let query = MessagesQuery {
            label: wanted.label.as_deref().filter(|label| !label.is_empty()),
            visible: wanted.visible,
            before: wanted.before.as_deref().filter(|before| !before.is_empty()),
            limit: wanted.limit.unwrap_or(LIMIT_DEFAULT),
        };
        let page = self.sync.messages(&session.user, query).await;
        let page = page.map_err(|error| failed(&error))?;
        let mut answer = json!({
            "messages": page.messages,
            "unread": page.unread,
            "total": page.total,
            "eventId": event_id,
        });
        if let Some(next) = page.next {
            answer["next"] = next.into();
        }
        if query.before.is_none()
            && let Some(labels) = self.labels.of(self, &session.user).await
        {
            let label = |label: &Label| json!({ "id": label.id, "name": label.name });
            answer["labels"] = labels.iter().map(label).collect();
        }
        Ok(answer)
    }

    async fn token(&self, headers: &HeaderMap) -> Result<serde_json::Value, Failure> {
        let session = self.reader(headers).await?;
        let signed = self.cookies.channel_token(&session, unix_seconds());
        let (token, expires) =
            signed.map_err(|_| Failure::unavailable("no token can be signed"))?;
        let channel = channel(&session.user)?;
        Ok(json!({
            "token": token,
            "channel": channel.as_str(),
            "expires": iso8601(expires.saturating_mul(1000)),
        }))
    }

    async fn look_now(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let session = self.session_of(headers)?;
        self.limit(Limit::Sync, session.user.as_str()).await?;
        let asked = self.sync.sync_now(&session.user).await;
        match asked.map_err(|error| failed(&error))? {
            true => Ok(()),
            false => Err(unconnected()),
        }
    }

    /// Whose request it is, within the bounds of what one user may read.
    async fn reader(&self, headers: &HeaderMap) -> Result<Session, Failure> {
        let session = self.session_of(headers)?;
        self.limit(Limit::Read, session.user.as_str()).await?;
        Ok(session)
    }

    /// The id of an event stream that begins now.
    async fn event_id(&self, user: &User) -> Result<String, Failure> {
        let channel = channel(user)?;
        let away = |_| Failure::unavailable("the log does not answer");
        loop {
            let epoch = self.engine.epoch();
            let readers = [(channel.clone(), None)];
            let heads = self.engine.heads(&epoch, &readers).await;
            if heads.is_err() && self.engine.epoch() != epoch {
                continue;
            }
            let heads = heads.map_err(away)?;
            let seq = heads.first().map_or(Seq::ZERO, |head| head.seq);
            let mut positions = Positions::new(epoch, vec![channel.clone()]);
            positions.set(&channel, seq);
            let mut id = Vec::new();
            positions.put_id(&mut id);
            return Ok(String::from_utf8_lossy(&id).into_owned());
        }
    }
}

/// The channel of a user's mailbox.
pub(super) fn channel(user: &User) -> Result<ChannelName, Failure> {
    user.channel()
        .map_err(|_| Failure::bad("this user has no channel"))
}
