//! What an operator does with dead letters: look at them, and send them on their way again. Methods of the server API, with its
//! way of answering.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use fanfare_wire::{
    Millis,
    centrifuge::{ErrorCode, errors},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::{
    Shared,
    metrics::Worked,
    store::{DEAD_PAGE, DeadLetter, StoreError},
};

/// Dead letters of one replay.
pub const REPLAY_MAX: usize = 100;
/// What is shown of a body, in bytes.
const BODY_SHOWN_MAX: usize = 4 << 10;

/// Which dead letters to list.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadRequest {
    source: Option<String>,
    /// `next` of the page before.
    after: Option<Cursor>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    died: Millis,
    id: String,
}

/// Which dead letters to replay: these, or the oldest of a source. Exactly one of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    ids: Option<Vec<String>>,
    source: Option<String>,
}

#[derive(Serialize)]
struct DeadResult {
    dead: Vec<Value>,
    /// Where the next page begins, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Cursor>,
}

/// The routes, to be guarded.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/webhooks_dead", post(dead))
        .route("/api/webhooks_replay", post(replay))
        .with_state(shared)
}

/// `POST /api/webhooks_dead`.
async fn dead(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<DeadRequest>(&body) else {
        return malformed();
    };
    let DeadRequest { source, after } = request;
    let is_text = |text: &str| !text.contains('\0');
    let after = after.unwrap_or(Cursor {
        died: Millis::MIN,
        id: String::new(),
    });
    if !is_text(&after.id) || !source.as_deref().is_none_or(is_text) {
        return malformed();
    }
    let page = shared
        .store
        .dead(source.as_deref(), (after.died, &after.id));
    answer(page.await.map(|letters| {
        let last = letters.last().filter(|_| letters.len() >= DEAD_PAGE);
        let next = last.map(|letter| Cursor {
            died: letter.died,
            id: letter.id.clone(),
        });
        DeadResult {
            dead: letters.iter().map(show).collect(),
            next,
        }
    }))
}

/// `POST /api/webhooks_replay`.
async fn replay(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<ReplayRequest>(&body) else {
        return malformed();
    };
    let unsound = |ids: &Vec<String>| {
        ids.len() > REPLAY_MAX || ids.iter().any(|id| id.len() > 64 || id.contains('\0'))
    };
    if let Some(answer) = closed(&shared) {
        return answer;
    }
    match (request.ids, request.source) {
        (Some(ids), None) if !unsound(&ids) => answer(replay_ids(&shared, ids).await),
        (None, Some(source)) if !source.contains('\0') => {
            answer(replay_source(&shared, &source).await)
        }
        _ => malformed(),
    }
}

async fn replay_ids(shared: &Shared, ids: Vec<String>) -> Result<Value, StoreError> {
    let mut replayed = Vec::new();
    for id in ids {
        if let Some(letter) = shared.store.dead_one(&id).await?
            && raise(shared, &letter).await?
        {
            replayed.push(id);
        }
    }
    Ok(json!({ "replayed": replayed }))
}

async fn replay_source(shared: &Shared, source: &str) -> Result<Value, StoreError> {
    let mut replayed = Vec::new();
    for letter in shared.store.dead(Some(source), (Millis::MIN, "")).await? {
        if raise(shared, &letter).await? {
            replayed.push(letter.id);
        }
    }
    Ok(json!({ "replayed": replayed }))
}

async fn raise(shared: &Shared, letter: &DeadLetter) -> Result<bool, StoreError> {
    let raised = shared.store.raise(letter).await?;
    if raised {
        info!(
            source = letter.source,
            id = letter.id,
            "a dead letter is replayed"
        );
        if let Some(desk) = shared.desks.get(letter.source.as_str()) {
            shared.metrics.count(&desk.source.name, Worked::Replayed);
            desk.nudge();
        }
    }
    Ok(raised)
}

fn show(letter: &DeadLetter) -> Value {
    let shown = &letter.body[..letter.body.len().min(BODY_SHOWN_MAX)];
    // Not every body is text, and a cut may go through a letter.
    let (name, body) = match std::str::from_utf8(shown) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", STANDARD.encode(shown)),
    };
    let attributes: Value = serde_json::from_str(&letter.attributes).unwrap_or_default();
    json!({
        "id": letter.id,
        "source": letter.source,
        "key": letter.key,
        "received": letter.received,
        "died": letter.died,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "attributes": attributes,
        "size": letter.body.len(),
        name: body,
    })
}

fn answer(result: Result<impl Serialize, StoreError>) -> Response {
    match result {
        Ok(result) => Json(json!({ "result": result })).into_response(),
        Err(error) => {
            debug!(%error, "dead letters cannot be reached");
            failure(StatusCode::OK, errors::INTERNAL)
        }
    }
}

fn malformed() -> Response {
    failure(StatusCode::BAD_REQUEST, errors::BAD_REQUEST)
}

/// There are no dead letters to speak of where no webhooks are, nor before the tables are made.
fn closed(shared: &Shared) -> Option<Response> {
    let open = shared.opened.load(Relaxed);
    match (open, shared.desks.is_empty()) {
        (true, _) => None,
        (false, true) => Some(failure(StatusCode::OK, errors::NOT_AVAILABLE)),
        (false, false) => Some(failure(StatusCode::OK, errors::INTERNAL)),
    }
}

fn failure(status: StatusCode, error: ErrorCode) -> Response {
    let ErrorCode {
        code,
        message,
        temporary,
    } = error;
    let mut error = json!({ "code": code, "message": message });
    if temporary {
        error["temporary"] = json!(true);
    }
    (status, Json(json!({ "error": error }))).into_response()
}
