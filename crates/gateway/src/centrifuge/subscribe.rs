//! Subscriptions of one client: how they begin, and how they end.

use std::sync::Arc;

use fanfare_engine::{
    Attendance,
    hub::{Context, Recovery, Request, Resume, Start},
};
use fanfare_wire::{
    ChannelName, Epoch, FilterError, FormId, Json, Seq, TagsFilter,
    centrifuge::{
        Answer, Disconnect, ErrorCode, SubscribeRequest, SubscribeResult, UnsubscribeRequest,
        disconnects, errors, unsubscribes,
    },
};

use super::{
    beginning::UNASKED,
    called::Called,
    client::ttl,
    proxied::Renewal,
    session::{ClientSession, parse_channel},
};
use crate::{
    access::{ChannelOptions, Right, Terms},
    proxy::Event,
    rights::Leave,
    token::{Seconds, SubOptions},
};

/// Refuse a subscribe whose position cannot be recovered, instead of beginning live.
const FLAG_REJECT_UNRECOVERED: u64 = 2;

/// A subscription, or one under way.
pub(super) struct Sub {
    pub(super) channel: ChannelName,
    pub(super) expires: Option<Seconds>,
    /// What it is granted beside, if anything.
    pub(super) terms: Option<Box<Terms>>,
    pub(super) state: SubState,
    /// Its client counts as present, once it is live.
    pub(super) attendance: Option<Attendance>,
    /// The backend has granted it for a while, and is asked again.
    pub(super) renewal: Option<Box<Renewal>>,
    /// The server has begun it, with these options; its client cannot begin it again.
    pub(super) by_server: Option<Box<SubOptions>>,
}

pub(super) enum SubState {
    /// The reply to the command with this number is owed.
    Joining {
        id: u32,
        recoverable: bool,
        recovering: bool,
        reject_unrecovered: bool,
        /// The client has no token to renew it with.
        by_backend: bool,
        /// What the application says to the client.
        data: Option<Box<Json>>,
        /// Publications may be deltas.
        delta: bool,
    },
    /// Of a connection that begins: where it stands is to be found out.
    Placing {
        recoverable: bool,
        recovering: bool,
        form: FormId,
        filter: Option<Arc<TagsFilter>>,
    },
    /// The client was told where it stands, or is going to be; the cursor is to be placed there.
    Settling,
    /// The application has asked for it; the client is owed a push.
    Called(Box<Called>),
    Live,
}

/// What a client asks for with a subscribe.
pub(super) struct Wish {
    pub(super) id: u32,
    pub(super) channel: ChannelName,
    /// The position to go on from.
    since: Option<(Option<Epoch>, Seq)>,
    join_leave: bool,
    /// It takes deltas, where they are allowed.
    delta: bool,
    filter: Option<Arc<TagsFilter>>,
    reject_unrecovered: bool,
}

/// What it is granted.
#[derive(Default)]
pub(super) struct Grant {
    pub(super) leave: Leave,
    /// By the application's backend or an app, not by a token.
    pub(super) by_backend: bool,
    /// What the application says to the client.
    pub(super) data: Option<Box<Json>>,
}

impl ClientSession {
    pub(super) fn on_subscribe(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        if request.kind != 0 {
            return Err(errors::NOT_AVAILABLE);
        }
        let known = self.subs.iter().find(|sub| sub.channel == channel);
        // What the server has begun goes over to the client.
        let is_free =
            |sub: &Sub| sub.by_server.is_some() && !matches!(sub.state, SubState::Called(_));
        if !known.is_none_or(is_free) {
            return Err(errors::ALREADY_SUBSCRIBED);
        }
        if known.is_none() && self.subs.len() >= self.gateway.config.subscriptions_max {
            return Err(errors::LIMIT_EXCEEDED);
        }
        if request.recover && !self.has_positions(&channel) {
            return Err(errors::NOT_AVAILABLE);
        }
        let wish = Wish {
            id,
            since: since_of(request),
            join_leave: request.join_leave,
            delta: takes_deltas(request)?,
            filter: self.filter_in(&channel, request.filter.compile())?,
            reject_unrecovered: request.flag & FLAG_REJECT_UNRECOVERED != 0,
            channel,
        };
        if self.gateway.judges.decide(&wish.channel) {
            // A token would grant nothing.
            return self.ask_judge(wish);
        }
        if request.token.is_empty() && self.asks_backend(&wish.channel) {
            return self.ask_subscribe(wish, request.data);
        }
        let leave = self.may_subscribe(&wish.channel, &request.token)?;
        let grant = Grant {
            leave,
            ..Grant::default()
        };
        self.begin(wish, grant, cx);
        Ok(())
    }

    /// Whether the backend decides who subscribes, and the client's own token does not.
    pub(super) fn asks_backend(&self, channel: &ChannelName) -> bool {
        let options = self.gateway.config.rules.of(channel);
        let by_backend = options.is_some_and(|options| options.proxied.subscribe);
        let granted =
            options.is_some_and(|options| self.is_granted(Right::Subscribe, channel, options));
        by_backend && !granted && !self.is_limited(channel) && self.asks(Event::Subscribe)
    }

    /// Whether the channel has positions; one that does not exist is refused elsewhere.
    pub(super) fn has_positions(&self, channel: &ChannelName) -> bool {
        let options = self.gateway.config.rules.of(channel);
        options.is_none_or(ChannelOptions::is_durable)
    }

    /// Begins a subscription that was granted.
    pub(super) fn begin(&mut self, wish: Wish, grant: Grant, cx: &mut Context<'_>) {
        let Wish {
            id,
            channel,
            since,
            join_leave,
            delta,
            filter,
            reject_unrecovered,
        } = wish;
        let options = self.gateway.config.rules.of(&channel);
        let by_backend = options.is_some_and(|options| options.proxied.sub_refresh);
        let by_backend = by_backend && self.asks(Event::SubRefresh);
        let renewed = by_backend || self.gateway.judges.decide(&channel);
        // What is left out between two publications nobody can build on.
        let allowed = options.is_some_and(|it| it.fossil_deltas && it.is_durable());
        let delta = delta && filter.is_none() && allowed;
        let recovering = since.is_some();
        let Leave { expires, terms } = grant.leave;
        let (recoverable, start) = self.start_of(&channel, since, terms.as_deref());
        let renewed = grant.by_backend && expires.is_some() && renewed;
        let form = self.form_for(&channel, (join_leave, delta), terms.as_deref());
        let before = self.take_sub(&channel, cx);
        self.add(Sub {
            channel: channel.clone(),
            expires,
            terms,
            state: SubState::Joining {
                id,
                recoverable,
                recovering,
                reject_unrecovered,
                by_backend: grant.by_backend,
                data: grant.data,
                delta,
            },
            attendance: before.and_then(|sub| sub.attendance),
            renewal: renewed.then(Box::default),
            by_server: None,
        });
        cx.request(Request::Subscribe {
            tag: id,
            channel,
            start,
            form,
            filter,
        });
    }

    /// Which publications a client wants, if the namespace lets it choose.
    pub(super) fn filter_in(
        &self,
        channel: &ChannelName,
        filter: Result<Option<TagsFilter>, FilterError>,
    ) -> Result<Option<Arc<TagsFilter>>, ErrorCode> {
        let options = self.gateway.config.rules.of(channel);
        let allowed = options.is_some_and(|options| options.allow_tags_filter);
        let filter = match filter {
            Ok(Some(_)) | Err(_) if !allowed => Err(FilterError::NotAllowed),
            filter => filter,
        };
        filter
            .map(|filter| filter.map(Arc::new))
            .map_err(|error| ErrorCode {
                message: error.message(),
                ..errors::BAD_REQUEST
            })
    }

    /// Keeps a subscription, or one under way.
    pub(super) fn add(&mut self, sub: Sub) {
        if self.subs.is_empty() {
            // Most clients have one, and a list would begin with room for four.
            self.subs.reserve_exact(1);
        }
        self.subs.push(sub);
    }

    /// Whether the client may come back with a position, and where a subscription begins.
    pub(super) fn start_of(
        &self,
        channel: &ChannelName,
        since: Option<(Option<Epoch>, Seq)>,
        terms: Option<&Terms>,
    ) -> (bool, Start) {
        let recoverable = self.gateway.may_look_back(self.claims(), channel, terms);
        let options = self.gateway.config.rules.of(channel);
        let is_state = options.is_some_and(ChannelOptions::is_state);
        let Some((epoch, seq)) = since.filter(|_| recoverable) else {
            let start = if is_state {
                Start::Newest(None)
            } else {
                Start::Live
            };
            return (recoverable, start);
        };
        let resume = Resume {
            epoch,
            seq,
            oldest_if_truncated: false,
        };
        let missed_max = options.and_then(|options| options.recovery_max_count);
        let start = match missed_max {
            _ if is_state => Start::Newest(Some(resume)),
            Some(missed_max) => Start::ResumeWithin(resume, missed_max),
            None => Start::Resume(resume),
        };
        (recoverable, start)
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        id: u32,
        request: &UnsubscribeRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        self.forget(&channel, cx);
        self.reply(id, &Answer::Unsubscribe, cx);
        Ok(())
    }

    pub(super) fn on_subscribed(
        &mut self,
        tag: u32,
        channel: &ChannelName,
        (position, recovery): (Seq, Recovery),
        epoch: &Epoch,
        cx: &mut Context<'_>,
    ) {
        if tag == UNASKED {
            return self.on_called(channel, (position, recovery), epoch, cx);
        }
        // An answer to a subscribe that was taken back meanwhile is not one to its successor.
        let asked = |sub: &&mut Sub| {
            let owed = matches!(sub.state, SubState::Joining { id, .. } if id == tag);
            owed && sub.channel == *channel
        };
        let Some(sub) = self.subs.iter_mut().find(asked) else {
            return;
        };
        let SubState::Joining {
            id,
            recoverable,
            recovering,
            reject_unrecovered,
            by_backend,
            data,
            delta,
        } = std::mem::replace(&mut sub.state, SubState::Live)
        else {
            return;
        };
        let (recovered, oldest) = outcome_of(recovering, recovery);
        if reject_unrecovered && recovered == Some(false) {
            self.forget(channel, cx);
            self.reply(id, &errors::UNRECOVERABLE_POSITION.into(), cx);
            return;
        }
        // What the backend has granted only the backend renews.
        let ttl = ttl(sub.expires.filter(|_| !by_backend));
        let result = SubscribeResult {
            epoch,
            offset: position,
            positioned: self.has_positions(channel),
            recoverable,
            was_recovering: recovering,
            recovered,
            oldest,
            ttl,
            data: data.as_deref(),
            delta,
        };
        self.reply(id, &Answer::Subscribe(result), cx);
        self.attend(channel);
    }

    pub(super) fn on_subscribe_failed(&mut self, channel: &ChannelName, cx: &mut Context<'_>) {
        let Some(at) = self.subs.iter().position(|sub| sub.channel == *channel) else {
            return;
        };
        if let SubState::Called(called) = &mut self.subs[at].state {
            called.again = true;
            return self.rearm(cx);
        }
        if let SubState::Joining { id, .. } = self.subs.swap_remove(at).state {
            self.reply(id, &errors::INTERNAL.into(), cx);
        }
    }

    /// Retention overtook the cursor: the client subscribes again, or connects again if the server has subscribed it, and is told that it
    /// cannot be recovered.
    pub(super) fn on_truncated(
        &mut self,
        channel: &ChannelName,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        // Dropped, its attendance lasts until the client is back.
        let sub = self.take_sub(channel, cx);
        if sub.is_some_and(|sub| sub.by_server.is_some()) {
            return Err(disconnects::INSUFFICIENT_STATE);
        }
        self.dialect
            .push_unsubscribe(channel, unsubscribes::INSUFFICIENT, cx.out);
        Ok(())
    }

    /// Ends a subscription for good.
    pub(super) fn forget(&mut self, channel: &ChannelName, cx: &mut Context<'_>) {
        let sub = self.take_sub(channel, cx);
        if let Some(attendance) = sub.and_then(|sub| sub.attendance) {
            attendance.leave();
        }
    }

    fn take_sub(&mut self, channel: &ChannelName, cx: &mut Context<'_>) -> Option<Sub> {
        let at = self.subs.iter().position(|sub| sub.channel == *channel)?;
        cx.request(Request::Unsubscribe(channel.clone()));
        Some(self.subs.swap_remove(at))
    }
}

/// Whether a client takes deltas.
fn takes_deltas(request: &SubscribeRequest<'_>) -> Result<bool, ErrorCode> {
    match &*request.delta {
        "" => Ok(false),
        "fossil" => Ok(true),
        _ => Err(errors::UNKNOWN_DELTA),
    }
}

/// The position that a client names.
pub(super) fn since_of(request: &SubscribeRequest<'_>) -> Option<(Option<Epoch>, Seq)> {
    let since = (Epoch::named(&request.epoch), Seq(request.offset));
    request.recover.then_some(since)
}

/// Whether a position was recovered, if that was asked for, or what is given without a position is as good; if not because of
/// retention, the oldest number that is left.
pub(super) fn outcome_of(recovering: bool, recovery: Recovery) -> (Option<bool>, Option<Seq>) {
    let is_recovered = recovery == Recovery::Recovered;
    let recovered = (recovering || is_recovered).then_some(is_recovered);
    let oldest = match recovery {
        Recovery::Truncated { oldest } => Some(oldest),
        Recovery::NotAsked | Recovery::Recovered | Recovery::Reset => None,
    };
    (recovered, oldest)
}
