//! What a client asks of the log, and what it is answered: publish and history.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_engine::{
    PublishError, Published,
    hub::{
        Context, HistoryQuery, Request,
        session::{Call, HistoryError, HistoryPage},
    },
    port::Direction,
};
use fanfare_wire::{
    ChannelName, Draft, Epoch, Json, Seq,
    centrifuge::{Answer, ErrorCode, HistoryRequest, Payload, PublishRequest, errors},
};
use uuid::Uuid;

use super::session::{ClientSession, parse_channel};
use crate::{
    access::{Rate, Right},
    api::{refused_publish, too_often},
};

impl ClientSession {
    pub(super) fn on_publish(
        &mut self,
        id: u32,
        request: &PublishRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        let options = self.gateway.options(&channel)?;
        let rate = options.publish_rate;
        // Whom a token lets publish the backend is not asked about.
        let by_backend =
            options.proxied.publish && !self.is_granted(Right::Publish, &channel, options);
        if !by_backend {
            self.may(Right::Publish, &channel)?;
        } else if self.is_shut_out(&channel) {
            return Err(errors::PERMISSION_DENIED);
        }
        let data = match request.data {
            Payload::Json(data) => data,
            Payload::Missing => return Err(errors::BAD_REQUEST),
            Payload::NotJson => return Err(errors::NOT_JSON),
        };
        self.gateway.check_length(data.get().len(), options)?;
        if let Some(rate) = rate
            && let Err(wait) = self.pace(&channel, rate)
        {
            let answer = Answer::Error {
                error: errors::TOO_MANY_REQUESTS,
                retry_after_ms: too_often(wait).retry_after_ms,
            };
            self.reply(id, &answer, cx);
            return Ok(());
        }
        if by_backend {
            return self.ask_publish(id, channel, data);
        }
        self.publish(id, channel, (Json::from_raw(data), None), cx);
        Ok(())
    }

    /// Publishes what was allowed.
    pub(super) fn publish(
        &mut self,
        id: u32,
        channel: ChannelName,
        (data, tags): (Json, Option<Json>),
        cx: &mut Context<'_>,
    ) {
        let terms = self.terms(&channel).flatten();
        let client = self.client.as_ref();
        let info = client.map(|client| client.info(terms));
        let durable = self.has_positions(&channel);
        let mut draft = Draft::new(channel, Uuid::now_v7(), data);
        draft.info = info;
        draft.tags = tags;
        if durable {
            cx.request(Request::Call(Call::Publish { tag: id, draft }));
        } else {
            self.gateway.tell(draft);
            self.reply(id, &Answer::Publish, cx);
        }
    }

    fn pace(&mut self, channel: &ChannelName, rate: Rate) -> Result<(), Duration> {
        let paces = self.paces.get_or_insert_default();
        paces.take(channel.namespace(), rate, Instant::now())
    }

    pub(super) fn on_history(
        &mut self,
        id: u32,
        request: &HistoryRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        let limit_max = self.may(Right::History, &channel)?.history_limit_max;
        if cx.is_full() {
            // A frame can ask for far more than a connection may have under way.
            return Err(errors::TOO_MANY_REQUESTS);
        }
        // A negative one asks for as many as there may be.
        let limit = usize::try_from(request.limit).unwrap_or(limit_max);
        let since = request.since.as_ref();
        let since = since.map(|position| (Epoch::named(&position.epoch), Seq(position.offset)));
        let query = HistoryQuery {
            channel,
            since,
            limit: limit.min(limit_max),
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
