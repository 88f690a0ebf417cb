//! `POST /mail/dev/WHAT`: what happens in the mailbox of a demonstration. There is no such path otherwise.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Failure, Shared,
    answer::{Code, to_json},
    inbox::{failed, unconnected},
};
use crate::{app::Mail, limits::Limit};

/// `POST /mail/dev/{what}`
pub(super) async fn act(
    State(mail): Shared,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match mail.act(&what, &headers, &body).await {
        Ok(answer) => to_json(StatusCode::OK, &answer),
        Err(failure) => failure.into_response(),
    }
}

impl Mail {
    async fn act(&self, what: &str, headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
        let nothing = || Failure::new(Code::NotFound, "there is nothing of this name to do");
        let demo = self.demo.as_ref().ok_or_else(nothing)?;
        let session = self.session_of(headers)?;
        self.limit(Limit::Demo, session.user.as_str()).await?;
        let mut asked: Value = match body.is_empty() {
            true => json!({}),
            false => serde_json::from_slice(body).map_err(|_| Failure::bad("write JSON"))?,
        };
        let account = self.sync.account(&session.user).await;
        let account = account.map_err(|error| failed(&error))?;
        let account = account.ok_or_else(unconnected)?;
        let fields = asked.as_object_mut();
        let fields = fields.ok_or_else(|| Failure::bad("write a JSON object"))?;
        // One's own mailbox, whatever is asked for.
        fields.insert("address".to_owned(), account.address.into());
        match demo(what, &asked) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) => Err(Failure::bad("this cannot be done there")),
            None => Err(nothing()),
        }
    }
}
