//! Clients that only listen. What they want to hear they say once, in a connect request: the channels of their token, and
//! those that they name. They are told `connect` first, with where they stand in every channel, and pushes from then on.
//!
//! Where a subscription stands is known once its cursor is placed, and from then on publications follow. So all but the last
//! of the cursors are taken away again until `connect` is written, and placed anew where they stood.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_engine::hub::{Context, Recovery, Request, Resume, Start};
use fanfare_wire::{
    ChannelName, Epoch, FormId, Json, Seq, TagsFilter,
    centrifuge::{
        ConnectRequest, Disconnect, ErrorCode, SubscribeRequest, SubscribeResult, disconnects,
        errors,
    },
};

use super::{
    client::{Failure, ttl},
    session::{ClientSession, parse_channel},
    subscribe::{Sub, SubState, outcome_of, since_of},
};
use crate::{proxy::Event, rights::Leave};

/// What a client that only listens waits for.
#[derive(Default)]
pub(super) struct Listening {
    /// Cursors that are to be placed before the client is told that it is connected.
    awaited: usize,
    placed: Vec<Placed>,
    /// Channels that it may not hear.
    refused: Vec<(ChannelName, ErrorCode)>,
    /// What it is told beside: in how many seconds its token runs out, and what the application says.
    ttl: Option<u32>,
    data: Option<Json>,
}

impl Listening {
    pub(super) fn new(ttl: Option<u32>, data: Option<&Json>) -> Self {
        Self {
            ttl,
            data: data.cloned(),
            ..Self::default()
        }
    }
}

/// Where a subscription stands.
struct Placed {
    channel: ChannelName,
    position: Seq,
    epoch: Epoch,
    recoverable: bool,
    recovered: Option<bool>,
    oldest: Option<Seq>,
    form: FormId,
    filter: Option<Arc<TagsFilter>>,
}

impl ClientSession {
    /// The connect request. Nothing else is heard from such a client.
    pub(super) fn on_listen(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        if self.client.is_some() || self.is_waiting() {
            return Ok(());
        }
        let request = ConnectRequest::parse(text).map_err(|_| disconnects::BAD_REQUEST)?;
        if request.token.is_empty() && self.asks(Event::Connect) {
            self.ask_connect(0, &request)
                .map_err(Failure::into_disconnect)?;
            if let Some(proxied) = &mut self.proxied {
                // It comes back with the answer.
                proxied.keep(text.as_bytes());
            }
            return Ok(());
        }
        let client = self.gateway.identify(&request.token);
        let client = Box::new(client.map_err(Failure::into_disconnect)?);
        let ttl = ttl(client.expires());
        self.connected(0, client, (ttl, None), cx);
        self.listen(&request, cx)
    }

    /// The connect request again, now that the backend has let the client in.
    pub(super) fn on_let_in(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        let request = ConnectRequest::parse(text).map_err(|_| disconnects::BAD_REQUEST)?;
        self.listen(&request, cx)
    }

    /// Begins to find out where the client stands.
    fn listen(
        &mut self,
        request: &ConnectRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let claims = self.client.as_ref().and_then(|it| it.claims.clone());
        let granted = claims.as_deref().map(|claims| &*claims.channels);
        let mut wanted = BTreeMap::new();
        for channel in granted.unwrap_or_default() {
            wanted.insert(channel.clone(), None);
        }
        for (channel, request) in &request.subs {
            let channel = parse_channel(channel).map_err(|_| disconnects::BAD_REQUEST)?;
            wanted.insert(channel, Some(request));
        }
        if wanted.len() > self.gateway.config.subscriptions_max {
            return Err(disconnects::CHANNEL_LIMIT);
        }
        let live = SubscribeRequest::default();
        for (tag, (channel, request)) in (1..).zip(wanted) {
            self.place(tag, channel, request.unwrap_or(&live), cx);
        }
        if self.listening.as_ref().is_some_and(|it| it.awaited == 0) {
            self.on_all_placed(cx);
        }
        Ok(())
    }

    /// Asks for a cursor, to know where it stands.
    fn place(
        &mut self,
        tag: u32,
        channel: ChannelName,
        request: &SubscribeRequest<'_>,
        cx: &mut Context<'_>,
    ) {
        // The backend decides commands alone; what it grants with a connect is named in the client's claims.
        let by_backend = request.token.is_empty() && self.asks_backend(&channel);
        let leave = match by_backend {
            true => Err(errors::PERMISSION_DENIED),
            false if request.recover && !self.has_positions(&channel) => Err(errors::NOT_AVAILABLE),
            false => self.may_subscribe(&channel, &request.token),
        };
        let filter = self.filter_of(&channel, request);
        let (Leave { expires, terms }, filter) = match leave.and_then(|leave| Ok((leave, filter?)))
        {
            Ok(granted) => granted,
            Err(error) => {
                let listening = self.listening.get_or_insert_default();
                listening.refused.push((channel, error));
                return;
            }
        };
        let since = since_of(request);
        let (recoverable, start) = self.start_of(&channel, since, terms.as_deref());
        let form = self.form_for(&channel, (request.join_leave, false), terms.as_deref());
        let state = SubState::Placing {
            recoverable,
            recovering: request.recover,
            form,
            filter: filter.clone(),
        };
        self.listening.get_or_insert_default().awaited += 1;
        self.add(Sub {
            channel: channel.clone(),
            expires,
            terms,
            state,
            attendance: None,
            renewal: None,
        });
        cx.request(Request::Subscribe {
            tag,
            channel,
            start,
            form,
            filter,
        });
    }

    /// A cursor was placed. Whether it is one of those that the connect request asked for.
    pub(super) fn on_placed(
        &mut self,
        channel: &ChannelName,
        (position, recovery): (Seq, Recovery),
        epoch: &Epoch,
        cx: &mut Context<'_>,
    ) -> Result<bool, Disconnect> {
        let sub = self.subs.iter_mut().find(|sub| sub.channel == *channel);
        let Some(sub) = sub else {
            return Ok(false);
        };
        match &mut sub.state {
            SubState::Placing {
                recoverable,
                recovering,
                form,
                filter,
            } => {
                let (recoverable, recovering, form) = (*recoverable, *recovering, *form);
                let filter = filter.take();
                sub.state = SubState::Settling;
                let (recovered, oldest) = outcome_of(recovering, recovery);
                let listening = self.listening.get_or_insert_default();
                listening.placed.push(Placed {
                    channel: channel.clone(),
                    position,
                    epoch: epoch.clone(),
                    recoverable,
                    recovered,
                    oldest,
                    form,
                    filter,
                });
                listening.awaited = listening.awaited.saturating_sub(1);
                if listening.awaited == 0 {
                    self.on_all_placed(cx);
                } else {
                    cx.request(Request::Unsubscribe(channel.clone()));
                }
                Ok(true)
            }
            // Retention or a reset of the log has overtaken what the client was told a moment ago.
            SubState::Settling if recovery != Recovery::Recovered => {
                Err(disconnects::INSUFFICIENT_STATE)
            }
            SubState::Settling => {
                sub.state = SubState::Live;
                self.attend(channel);
                Ok(true)
            }
            SubState::Joining { .. } | SubState::Live => Ok(false),
        }
    }

    /// Whether a cursor is still to be placed that the connect request asked for.
    pub(super) fn is_placing(&self, channel: &ChannelName) -> bool {
        let placing =
            |sub: &Sub| matches!(sub.state, SubState::Placing { .. } | SubState::Settling);
        let sub = self.subs.iter().find(|sub| sub.channel == *channel);
        sub.is_some_and(placing)
    }

    /// Tells the client where it stands. The cursor that was placed last is there; the others are placed anew.
    fn on_all_placed(&mut self, cx: &mut Context<'_>) {
        let Some(listening) = self.listening.take() else {
            return;
        };
        let Listening {
            placed,
            refused,
            ttl: client_ttl,
            data,
            ..
        } = *listening;
        let results: Vec<_> = placed
            .iter()
            .map(|placed| {
                let sub = self.subs.iter().find(|sub| sub.channel == placed.channel);
                let result = SubscribeResult {
                    epoch: &placed.epoch,
                    offset: placed.position,
                    positioned: self.has_positions(&placed.channel),
                    recoverable: placed.recoverable,
                    recovered: placed.recovered,
                    oldest: placed.oldest,
                    ttl: ttl(sub.and_then(|sub| sub.expires)),
                    data: None,
                    delta: false,
                };
                (placed.channel.clone(), result)
            })
            .collect();
        self.say_connected(0, (client_ttl, data.as_ref()), &results, cx);
        for (channel, error) in refused {
            let why = (error.code, error.message);
            self.dialect.push_unsubscribe(&channel, why, cx.out);
        }
        let mut placed = placed;
        let Some(last) = placed.pop() else {
            return;
        };
        if let Some(sub) = self.subs.iter_mut().find(|it| it.channel == last.channel) {
            sub.state = SubState::Live;
        }
        self.attend(&last.channel);
        for (tag, placed) in (1..).zip(placed) {
            let start = Start::Resume(Resume {
                epoch: Some(placed.epoch),
                seq: placed.position,
                oldest_if_truncated: false,
            });
            cx.request(Request::Subscribe {
                tag,
                channel: placed.channel,
                start,
                form: placed.form,
                filter: placed.filter,
            });
        }
    }
}
