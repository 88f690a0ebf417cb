//! `GET /mail/events`: the event stream.

use axum::{
    extract::{Query, Request, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use fanfare_gateway::sse::app::{AppStream, Heartbeat, StreamRequest};
use fanfare_wire::iso8601;
use serde::Deserialize;

use super::{Failure, Shared, inbox::channel};
use crate::{app::Mail, limits::Limit};

/// Seconds between two heartbeats.
pub(crate) const HEARTBEAT_SECONDS: u32 = 15;

#[derive(Deserialize)]
pub(super) struct Position {
    last_event_id: Option<String>,
}

/// `GET /mail/events`
pub(super) async fn events(
    State(mail): Shared,
    query: Result<Query<Position>, QueryRejection>,
    request: Request,
) -> Response {
    let position = query.map_err(|_| Failure::bad("write ?last_event_id=…, once"));
    match position {
        Ok(Query(position)) => mail.open(request, position).await,
        Err(failure) => Err(failure),
    }
    .unwrap_or_else(Failure::into_response)
}

impl Mail {
    async fn open(&self, request: Request, position: Position) -> Result<Response, Failure> {
        let session = self.session_of(request.headers())?;
        self.limit(Limit::Open, session.user.as_str()).await?;
        let place = self.streams.place(&session.user);
        let name = place.name();
        let stream = AppStream {
            channel: channel(&session.user)?,
            claims: session.claims,
            last_event_id: position.last_event_id,
            heartbeat: Heartbeat {
                event: "heartbeat",
                seconds: HEARTBEAT_SECONDS,
                data: |now| {
                    format!(
                        "{{\"type\":\"heartbeat\",\"data\":{{}},\"timestamp\":\"{}\"}}",
                        iso8601(now)
                    )
                },
            },
            guard: Box::new(place),
        };
        let asked = StreamRequest::of(&request);
        match self.gateway()?.open_stream(asked, stream).await {
            Ok((response, handle)) => {
                self.streams.opened(&session.user, name, handle);
                Ok(response)
            }
            Err(refused) => Ok(refused),
        }
    }
}
