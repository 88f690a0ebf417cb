//! `POST /api/batch`: several methods in one request, one after the other or at once, each with a reply of its own.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use fanfare_wire::centrifuge::errors;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{ErrorBody, Method, failure, or_default, understood};
use crate::Gateway;

/// Longest batch in bytes.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;
/// Commands of one batch.
const COMMANDS_MAX: usize = 1_000;
/// Commands of one batch that are under way at once.
const PARALLEL_MAX: usize = 64;

#[derive(Deserialize)]
struct BatchRequest {
    commands: Vec<Box<RawValue>>,
    #[serde(default, deserialize_with = "or_default")]
    parallel: bool,
}

#[derive(Serialize)]
struct BatchResponse {
    replies: Vec<Reply>,
}

/// The name of a method with its result, or `error`.
type Reply = BTreeMap<&'static str, Box<RawValue>>;

/// `POST /api/batch`.
pub(super) async fn batch(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: Option<BatchRequest> = understood(&body);
    let request = request.filter(|request| (1..=COMMANDS_MAX).contains(&request.commands.len()));
    let Some(BatchRequest { commands, parallel }) = request else {
        return failure(StatusCode::BAD_REQUEST, errors::BAD_REQUEST);
    };
    let at_once = if parallel { PARALLEL_MAX } else { 1 };
    let replies = commands
        .into_iter()
        .map(|command| reply(&gateway, &headers, command));
    let replies = stream::iter(replies).buffered(at_once).collect().await;
    axum::Json(BatchResponse { replies }).into_response()
}

async fn reply(gateway: &Gateway, headers: &HeaderMap, command: Box<RawValue>) -> Reply {
    let result = run(gateway, headers, &command).await;
    let (name, value) = match result {
        Ok((method, result)) => (method.name(), Ok(result)),
        Err(error) => ("error", to_raw_value(&error)),
    };
    // What is made of texts and numbers can be written.
    value.map_or_else(|_| Reply::new(), |value| Reply::from([(name, value)]))
}

async fn run(
    gateway: &Gateway,
    headers: &HeaderMap,
    command: &RawValue,
) -> Result<(Method, Box<RawValue>), ErrorBody> {
    let parsed: Option<BTreeMap<Cow<'_, str>, &RawValue>> =
        serde_json::from_str(command.get()).ok();
    let mut parsed = parsed.unwrap_or_default().into_iter();
    let (Some((name, request)), None) = (parsed.next(), parsed.next()) else {
        return Err(errors::BAD_REQUEST.into());
    };
    let method = Method::named(&name).ok_or(errors::METHOD_NOT_FOUND)?;
    let answered = method.run(gateway, headers, request.get().as_bytes()).await;
    let result = answered.unwrap_or_else(|| Err(errors::BAD_REQUEST.into()))?;
    Ok((method, result))
}
