//! What a client asks of the log, and what it is answered: publish and history.

use std::sync::Arc;

use fanfare_engine::{
    PublishError, Published,
    hub::{
        Context, HistoryQuery, Request,
        session::{Call, HistoryError, HistoryPage},
    },
    port::Direction,
};
use fanfare_wire::{
    Draft, Epoch, Json, Seq,
    centrifuge::{Answer, ErrorCode, HistoryRequest, Payload, PublishRequest, errors},
};
use uuid::Uuid;

use super::session::{ClientSession, parse_channel};
use crate::api::refused_publish;

/// Most publications that a client is given by one history command.
const HISTORY_LIMIT_MAX: i32 = 300;

impl ClientSession {
    pub(super) fn on_publish(
        &mut self,
        id: u32,
        request: &PublishRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        let options = self.gateway.config.rules.of(&channel);
        let by_backend = options.is_some_and(|options| options.proxied.publish);
        if !by_backend {
            self.permit(&channel, |options| options.publish)?;
        } else if self.standing(&channel).is_shut_out() {
            return Err(errors::PERMISSION_DENIED);
        }
        let data = match request.data {
            Payload::Json(data) => data,
            Payload::Missing => return Err(errors::BAD_REQUEST),
            Payload::NotJson => return Err(errors::NOT_JSON),
        };
        if data.get().len() > self.gateway.config.message_bytes_max {
            return Err(errors::LIMIT_EXCEEDED);
        }
        if by_backend {
            return self.ask_publish(id, channel, data);
        }
        let mut draft = Draft::new(channel, Uuid::now_v7(), Json::from_raw(data));
        draft.info = self.client.as_ref().map(|client| client.info());
        cx.request(Request::Call(Call::Publish { tag: id, draft }));
        Ok(())
    }

    pub(super) fn on_history(
        &mut self,
        id: u32,
        request: &HistoryRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        self.permit(&channel, |options| options.history)?;
        if cx.is_full() {
            // A frame can ask for far more than a connection may have under way.
            return Err(errors::TOO_MANY_REQUESTS);
        }
        let limit = match request.limit {
            0 => 0,
            limit if limit < 0 => HISTORY_LIMIT_MAX,
            limit => limit.min(HISTORY_LIMIT_MAX),
        };
        let since = request.since.as_ref();
        let since = since.map(|position| (Epoch::named(&position.epoch), Seq(position.offset)));
        let query = HistoryQuery {
            channel,
            since,
            limit: usize::try_from(limit).unwrap_or(0),
            direction: if request.reverse {
                Direction::Backward
            } else {
                Direction::Forward
            },
        };
        cx.request(Request::Call(Call::History { tag: id, query }));
        Ok(())
    }
}

/// The answer to publish.
pub(super) fn published(result: &Result<Published, PublishError>) -> Answer<'static> {
    match result {
        Ok(_) => Answer::Publish,
        Err(error) => {
            let (error, retry_after_ms) = refused_publish(error);
            Answer::Error {
                error,
                retry_after_ms,
            }
        }
    }
}

/// The answer to history.
pub(super) fn history(result: &Result<Arc<HistoryPage>, HistoryError>) -> Answer<'_> {
    match result {
        Ok(page) => Answer::History {
            publications: &page.publications,
            head: page.head,
            epoch: &page.epoch,
        },
        Err(HistoryError::OtherEpoch(_)) => errors::UNRECOVERABLE_POSITION.into(),
        Err(HistoryError::Log(_)) => errors::INTERNAL.into(),
    }
}
