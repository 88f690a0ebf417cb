//! How a connection begins: what the server subscribes it to, and where it stands there, is told with `connect`. These are the channels that
//! its token or the backend names; for clients that only listen also those that they name themselves.
//!
//! Where a subscription stands is known once its cursor is placed, and from then on publications follow. So all but the last
//! of the cursors are taken away again until `connect` is written, and placed anew where they stood. Until then nothing that the client says
//! is taken.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use fanfare_engine::hub::{Context, Recovery, Request, Resume, Start};
use fanfare_wire::{
    ChannelName, Epoch, FilterError, FormId, Json, Seq, TagsFilter,
    centrifuge::{
        Dialect, Disconnect, ErrorCode, Subs, SubscribeRequest, SubscribeResult, disconnects,
        errors,
    },
};

use super::{
    client::ttl,
    session::ClientSession,
    subscribe::{Sub, SubState, outcome_of, since_of},
};
use crate::{
    access::ChannelOptions, commands::Told, rights::Leave, token::SubOptions, unix_seconds,
};

/// The tag of what no command of the client has asked for; commands have numbers from 1 on.
pub(super) const UNASKED: u32 = 0;

/// Commands of the application that wait for a connection to begin.
const TOLD_MAX: usize = 1_000;

/// What a client says of the channels that it is to be subscribed to.
pub(super) type Wishes = BTreeMap<ChannelName, Wish>;

/// What it says of one.
#[derive(Default)]
pub(super) struct Wish {
    /// The position to go on from.
    since: Option<(Option<Epoch>, Seq)>,
    join_leave: bool,
    /// Which publications it wants.
    filter: Option<Result<TagsFilter, FilterError>>,
    /// A subscription token.
    token: String,
}

/// A connection that begins.
#[derive(Default)]
pub(super) struct Beginning {
    /// The number of the connect command.
    id: u32,
    /// Cursors that are to be placed before the client is told that it is connected.
    awaited: usize,
    placed: Vec<Placed>,
    /// Channels that it may not hear.
    refused: Vec<(ChannelName, ErrorCode)>,
    /// What it is told beside: in how many seconds its token runs out, and what the application says.
    ttl: Option<u32>,
    data: Option<Json>,
    /// What stood behind the connect command.
    rest: Vec<u8>,
    /// What the application wants of it meanwhile.
    told: Vec<Arc<Told>>,
}

/// Where a subscription stands.
struct Placed {
    channel: ChannelName,
    position: Seq,
    epoch: Epoch,
    recoverable: bool,
    recovering: bool,
    recovered: Option<bool>,
    oldest: Option<Seq>,
    form: FormId,
    filter: Option<Arc<TagsFilter>>,
}

/// Leave for a subscription, and which publications it is for.
type Admitted = (Leave, Option<Arc<TagsFilter>>);

impl Beginning {
    pub(super) fn new(id: u32, ttl: Option<u32>, data: Option<Json>) -> Self {
        Self {
            id,
            ttl,
            data,
            ..Self::default()
        }
    }

    /// Keeps what stands in a message behind the connect command.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.rest = rest.to_vec();
    }

    /// Keeps a command of the application. Returns whether there was room.
    pub(super) fn hold(&mut self, told: &Arc<Told>) -> bool {
        let has_room = self.told.len() < TOLD_MAX;
        if has_room {
            self.told.push(Arc::clone(told));
        }
        has_room
    }
}

/// What a connect request says of channels; of more than `count_max` it is enough that they are more.
pub(super) fn wishes(
    subs: Subs<'_>,
    count_max: usize,
    dialect: Dialect,
) -> Result<Wishes, Disconnect> {
    let subs = subs.read(count_max);
    let subs = subs.map_err(|_| disconnects::BAD_REQUEST)?;
    let mut wishes = Wishes::new();
    for (name, request) in subs {
        match ChannelName::parse(&name) {
            Ok(channel) => _ = wishes.insert(channel, Wish::of(&request)),
            Err(_) if dialect.one_way => return Err(disconnects::BAD_REQUEST),
            // It is none of those that the server subscribes it to.
            Err(_) => {}
        }
    }
    Ok(wishes)
}

impl Wish {
    fn of(request: &SubscribeRequest<'_>) -> Self {
        Self {
            since: since_of(request),
            join_leave: request.join_leave,
            filter: request.filter.compile().transpose(),
            token: request.token.clone().into_owned(),
        }
    }
}

impl ClientSession {
    /// Begins to find out where the client stands.
    pub(super) fn place_all(
        &mut self,
        mut wishes: Wishes,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let claims = self.client.as_ref().and_then(|it| it.claims.clone());
        let granted = claims.as_deref().map(|claims| &*claims.channels);
        let mut wanted = Wishes::new();
        for channel in granted.unwrap_or_default() {
            let wish = wishes.remove(channel).unwrap_or_default();
            wanted.insert(channel.clone(), wish);
        }
        let user = claims.as_deref().map_or("", |claims| &claims.sub);
        for channel in self.gateway.config.rules.personal(user) {
            if let Entry::Vacant(place) = wanted.entry(channel) {
                let wish = wishes.remove(place.key()).unwrap_or_default();
                place.insert(wish);
            }
        }
        if self.dialect.one_way {
            wanted.append(&mut wishes);
        }
        if wanted.len() > self.gateway.config.subscriptions_max {
            return Err(disconnects::CHANNEL_LIMIT);
        }
        for (channel, mut wish) in wanted {
            let options = claims
                .as_ref()
                .and_then(|it| it.subs.get(&channel))
                .cloned();
            match self.admit(&channel, &mut wish, options.as_ref()) {
                Ok(admitted) => self.place(channel, wish, admitted, options, cx),
                Err(error) => {
                    let beginning = self.beginning.get_or_insert_default();
                    beginning.refused.push((channel, error));
                }
            }
        }
        if self.beginning.as_ref().is_some_and(|it| it.awaited == 0) {
            self.on_all_placed(cx);
        }
        Ok(())
    }

    /// Whether the client is subscribed, until when, on which terms and to what.
    fn admit(
        &self,
        channel: &ChannelName,
        wish: &mut Wish,
        options: Option<&SubOptions>,
    ) -> Result<Admitted, ErrorCode> {
        // The backend decides commands alone; what it grants with a connect is named in the client's claims.
        if wish.token.is_empty() && self.asks_backend(channel) {
            return Err(errors::PERMISSION_DENIED);
        }
        if wish.since.is_some() && !self.has_positions(channel) {
            return Err(errors::NOT_AVAILABLE);
        }
        let mut leave = self.may_subscribe(channel, &wish.token)?;
        let filter = self.filter_in(channel, wish.filter.take().transpose())?;
        if let Some(options) = options {
            leave.expires = options.expire_at.or(leave.expires);
            leave.terms = options.terms().or(leave.terms);
        }
        match leave
            .expires
            .is_some_and(|expires| expires <= unix_seconds())
        {
            true => Err(errors::TOKEN_EXPIRED),
            false => Ok((leave, filter)),
        }
    }

    /// Asks for a cursor, to know where it stands.
    fn place(
        &mut self,
        channel: ChannelName,
        wish: Wish,
        (Leave { expires, terms }, filter): Admitted,
        options: Option<SubOptions>,
        cx: &mut Context<'_>,
    ) {
        let recovering = wish.since.is_some();
        let (recoverable, start) = self.start_of(&channel, wish.since, terms.as_deref());
        let form = self.form_for(&channel, (wish.join_leave, false), terms.as_deref());
        self.beginning.get_or_insert_default().awaited += 1;
        self.add(Sub {
            channel: channel.clone(),
            expires,
            terms,
            state: SubState::Placing {
                recoverable,
                recovering,
                form,
                filter: filter.clone(),
            },
            attendance: None,
            renewal: None,
            by_server: Some(Box::new(options.unwrap_or_default())),
        });
        cx.request(Request::Subscribe {
            tag: UNASKED,
            channel,
            start,
            form,
            filter,
        });
    }

    /// A cursor was placed. Whether it is one of those that the connection begins with.
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
                let beginning = self.beginning.get_or_insert_default();
                beginning.placed.push(Placed {
                    channel: channel.clone(),
                    position,
                    epoch: epoch.clone(),
                    recoverable,
                    recovering,
                    recovered,
                    oldest,
                    form,
                    filter,
                });
                beginning.awaited = beginning.awaited.saturating_sub(1);
                if beginning.awaited > 0 {
                    cx.request(Request::Unsubscribe(channel.clone()));
                    return Ok(true);
                }
                let (rest, told) = self.on_all_placed(cx);
                for told in told {
                    self.on_told(&told, cx)?;
                }
                self.resume(&rest, cx)?;
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
            SubState::Joining { .. } | SubState::Called(_) | SubState::Live => Ok(false),
        }
    }

    /// Whether a cursor is still to be placed that the connection begins with.
    pub(super) fn is_placing(&self, channel: &ChannelName) -> bool {
        let placing =
            |sub: &Sub| matches!(sub.state, SubState::Placing { .. } | SubState::Settling);
        let sub = self.subs.iter().find(|sub| sub.channel == *channel);
        sub.is_some_and(placing)
    }

    /// Tells the client where it stands. The cursor that was placed last is there; the others are placed anew. Returns what was kept
    /// meanwhile.
    fn on_all_placed(&mut self, cx: &mut Context<'_>) -> (Vec<u8>, Vec<Arc<Told>>) {
        let Some(beginning) = self.beginning.take() else {
            return Default::default();
        };
        let Beginning {
            id,
            mut placed,
            refused,
            ttl: client_ttl,
            data,
            rest,
            told,
            ..
        } = *beginning;
        let said: Vec<_> = placed.iter().map(|placed| self.said_of(placed)).collect();
        let results = placed.iter().zip(&said).map(|(placed, (ttl, data))| {
            let result = SubscribeResult {
                epoch: &placed.epoch,
                offset: placed.position,
                positioned: self.has_positions(&placed.channel),
                recoverable: placed.recoverable,
                was_recovering: placed.recovering,
                recovered: placed.recovered,
                oldest: placed.oldest,
                ttl: *ttl,
                data: data.as_ref(),
                delta: false,
            };
            (placed.channel.clone(), result)
        });
        let results: Vec<_> = results.collect();
        self.say_connected(id, (client_ttl, data.as_ref()), &results, cx);
        // Who subscribes by command is told of what it asks for, when it does.
        for (channel, error) in refused.into_iter().filter(|_| self.dialect.one_way) {
            let why = (error.code, error.message);
            self.dialect.push_unsubscribe(&channel, why, cx.out);
        }
        if let Some(last) = placed.pop() {
            if let Some(sub) = self.subs.iter_mut().find(|it| it.channel == last.channel) {
                sub.state = SubState::Live;
            }
            self.attend(&last.channel);
        }
        for placed in placed {
            let resume = Resume {
                epoch: Some(placed.epoch),
                seq: placed.position,
                oldest_if_truncated: false,
            };
            let options = self.gateway.config.rules.of(&placed.channel);
            let start = match options.is_some_and(ChannelOptions::is_state) {
                true => Start::Newest(Some(resume)),
                false => Start::Resume(resume),
            };
            cx.request(Request::Subscribe {
                tag: UNASKED,
                channel: placed.channel,
                start,
                form: placed.form,
                filter: placed.filter,
            });
        }
        (rest, told)
    }

    /// In how many seconds a subscription runs out, and what the application says with it.
    fn said_of(&self, placed: &Placed) -> (Option<u32>, Option<Json>) {
        let sub = self.subs.iter().find(|sub| sub.channel == placed.channel);
        let options = sub.and_then(|sub| sub.by_server.as_deref());
        let data = options.and_then(|options| options.data.clone());
        (ttl(sub.and_then(|sub| sub.expires)), data)
    }
}
