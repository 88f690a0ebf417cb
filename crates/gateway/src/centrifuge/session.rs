//! One Centrifuge client: its commands, its subscriptions, its timers. No IO: bytes and events in, bytes and requests
//! out.
//!
//! Subscribing with a position needs no buffering here: the reply says `recovered` with the client's own position, and
//! what it missed follows as ordinary publications, from ring or log, however far back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_engine::{
    Attendance,
    hub::{
        Context, Event, HistoryQuery, Recovery, Request, Resume, Session, Start, session::Call,
        session::HistoryError,
    },
    port::Direction,
};
use fanfare_wire::{
    ChannelName, Draft, Epoch, Json, Seq,
    centrifuge::{
        Command, ConnectRequest, ConnectResult, Disconnect, ErrorCode, HistoryRequest, Method,
        PING, PublishRequest, Reply, SubscribeRequest, SubscribeResult, UnsubscribeRequest,
        disconnects, errors, split_commands, unsubscribes,
    },
    ws::{self, Incoming},
};
use uuid::Uuid;

use super::{
    client::{EXPIRY_GRACE_SECONDS, Failure, has_expired, ttl},
    presence::{reply_presence, reply_presence_stats},
};
use crate::{
    ENVELOPE_BYTES_MAX, Gateway, access::Standing, api::refused_publish, door::Seat,
    identity::Identity, token::Seconds, unix_seconds,
};

/// Seconds between the server's pings.
const PING_SECONDS: u32 = 25;
/// Seconds that a client may take to answer one.
const PONG_SECONDS: u32 = 8;
/// Seconds that a client may take to connect.
const CONNECT_SECONDS: u32 = 10;
/// Most publications that a client is given by one history command.
const HISTORY_LIMIT_MAX: i32 = 300;
/// Refuse a subscribe whose position cannot be recovered, instead of beginning live.
const FLAG_REJECT_UNRECOVERED: u64 = 2;

/// One client's connection.
pub(super) struct ClientSession {
    pub(super) gateway: Arc<Gateway>,
    decoder: ws::Decoder,
    pub(super) client: Option<Box<Identity>>,
    pub(super) subs: Vec<Sub>,
    timer: Timer,
    deadline: Instant,
    /// Given back with the session.
    _seat: Seat,
}

/// A subscription, or one under way.
pub(super) struct Sub {
    pub(super) channel: ChannelName,
    pub(super) expires: Option<Seconds>,
    pub(super) state: SubState,
    /// Its client counts as present, once it is live.
    pub(super) attendance: Option<Attendance>,
}

pub(super) enum SubState {
    /// The reply to the command with this number is owed.
    Joining {
        id: u32,
        recoverable: bool,
        recovering: bool,
        reject_unrecovered: bool,
    },
    Live,
}

/// What the connection's timer stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// The client must connect.
    Connect,
    /// The next ping is due.
    Ping,
    /// The pong is due.
    Pong,
}

impl ClientSession {
    pub(super) fn new(gateway: Arc<Gateway>, seat: Seat) -> Self {
        Self {
            gateway,
            decoder: ws::Decoder::default(),
            client: None,
            subs: Vec::new(),
            timer: Timer::Connect,
            deadline: Instant::now() + Duration::from_secs(u64::from(CONNECT_SECONDS)),
            _seat: seat,
        }
    }

    // === Commands ===

    fn on_text(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        for line in split_commands(text) {
            let Command { id, method } =
                Command::parse(line).map_err(|_| disconnects::BAD_REQUEST)?;
            match self.on_command(id, method, cx) {
                Ok(()) => {}
                Err(Failure::Error(error)) => reply(cx, |out| Reply::new(id, out).error(error)),
                Err(Failure::Disconnect(disconnect)) => return Err(disconnect),
            }
        }
        Ok(())
    }

    fn on_command(
        &mut self,
        id: u32,
        method: Method<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let connected = self.client.is_some();
        match method {
            Method::Connect(request) if !connected => self.on_connect(id, &request, cx),
            // A client that did not connect first, or connects twice, does not speak the protocol.
            Method::Connect(_) => Err(disconnects::BAD_REQUEST.into()),
            _ if !connected => Err(disconnects::BAD_REQUEST.into()),
            Method::Pong => self.on_pong(cx).map_err(Into::into),
            Method::Ping => {
                reply(cx, |out| Reply::new(id, out).empty("ping"));
                Ok(())
            }
            Method::Subscribe(request) => self.on_subscribe(id, &request, cx).map_err(Into::into),
            Method::Unsubscribe(request) => {
                self.on_unsubscribe(id, &request, cx).map_err(Into::into)
            }
            Method::Publish(request) => self.on_publish(id, &request, cx).map_err(Into::into),
            Method::History(request) => self.on_history(id, &request, cx).map_err(Into::into),
            Method::Refresh(request) => self.on_refresh(id, &request, cx),
            Method::SubRefresh(request) => {
                self.on_sub_refresh(id, &request, cx).map_err(Into::into)
            }
            // Messages without a reply are for handlers that this server does not have.
            Method::Send => Ok(()),
            Method::Presence(request) => self.on_presence(id, &request, cx).map_err(Into::into),
            Method::PresenceStats(request) => {
                self.on_presence_stats(id, &request, cx).map_err(Into::into)
            }
            Method::NotServed => Err(errors::NOT_AVAILABLE.into()),
            Method::Unknown => Err(errors::METHOD_NOT_FOUND.into()),
        }
    }

    fn on_connect(
        &mut self,
        id: u32,
        request: &ConnectRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let client = self.gateway.identify(&request.token)?;
        let name = client.id.to_string();
        let ttl = ttl(client.expires());
        let seed = client.id.as_bytes()[0];
        self.client = Some(Box::new(client));
        let config = &self.gateway.config;
        let result = ConnectResult {
            client: &name,
            version: config.node.version,
            ttl,
            ping: PING_SECONDS,
            time: unix_seconds() * 1000,
            node: &config.node.name,
        };
        reply(cx, |out| Reply::new(id, out).connect(&result));
        // Clients that come together do not answer pings together.
        self.arm(Timer::Ping, 1 + u32::from(seed) % PING_SECONDS, cx);
        Ok(())
    }

    fn on_subscribe(
        &mut self,
        id: u32,
        request: &SubscribeRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        if request.kind != 0 {
            return Err(errors::NOT_AVAILABLE);
        }
        if self.subs.iter().any(|sub| sub.channel == channel) {
            return Err(errors::ALREADY_SUBSCRIBED);
        }
        if self.subs.len() >= self.gateway.config.subscriptions_max {
            return Err(errors::LIMIT_EXCEEDED);
        }
        let expires = self.may_subscribe(&channel, &request.token)?;
        let standing = Standing {
            authenticated: self.is_authenticated(),
            subscribed: true,
        };
        let recoverable = self
            .access(&channel, |options| options.history)
            .is_ok_and(|it| it.permits(standing));
        let start = match request.recover && recoverable {
            true => Start::Resume(Resume {
                epoch: Epoch::named(&request.epoch),
                seq: Seq(request.offset),
                oldest_if_truncated: false,
            }),
            false => Start::Live,
        };
        let reject_unrecovered = request.flag & FLAG_REJECT_UNRECOVERED != 0;
        let state = SubState::Joining {
            id,
            recoverable,
            recovering: request.recover,
            reject_unrecovered,
        };
        let form = self.form_for(&channel, request);
        self.subs.push(Sub {
            channel: channel.clone(),
            expires,
            state,
            attendance: None,
        });
        cx.request(Request::Subscribe {
            tag: id,
            channel,
            start,
            form,
        });
        Ok(())
    }

    fn on_unsubscribe(
        &mut self,
        id: u32,
        request: &UnsubscribeRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        self.forget(&channel, cx);
        reply(cx, |out| Reply::new(id, out).empty("unsubscribe"));
        Ok(())
    }

    fn on_publish(
        &mut self,
        id: u32,
        request: &PublishRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        self.permit(&channel, |options| options.publish)?;
        let data = request.data.ok_or(errors::BAD_REQUEST)?;
        if data.get().len() > self.gateway.config.message_bytes_max {
            return Err(errors::LIMIT_EXCEEDED);
        }
        let mut draft = Draft::new(channel, Uuid::now_v7(), Json::from_raw(data));
        draft.info = self.client.as_ref().map(|client| client.info());
        cx.request(Request::Call(Call::Publish { tag: id, draft }));
        Ok(())
    }

    fn on_history(
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

    fn on_pong(&mut self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        if self.timer != Timer::Pong {
            return Err(disconnects::BAD_REQUEST);
        }
        self.arm(Timer::Ping, PING_SECONDS, cx);
        Ok(())
    }

    // === What the engine answers ===

    fn on_subscribed(
        &mut self,
        tag: u32,
        channel: &ChannelName,
        (position, recovery): (Seq, Recovery),
        epoch: &Epoch,
        cx: &mut Context<'_>,
    ) {
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
        } = std::mem::replace(&mut sub.state, SubState::Live)
        else {
            return;
        };
        let recovered = recovering.then_some(recovery == Recovery::Recovered);
        if reject_unrecovered && recovered == Some(false) {
            self.forget(channel, cx);
            reply(cx, |out| {
                Reply::new(id, out).error(errors::UNRECOVERABLE_POSITION)
            });
            return;
        }
        let oldest = match recovery {
            Recovery::Truncated { oldest } => Some(oldest),
            Recovery::NotAsked | Recovery::Recovered | Recovery::Reset => None,
        };
        let ttl = ttl(sub.expires);
        let result = SubscribeResult {
            epoch,
            offset: position,
            recoverable,
            recovered,
            oldest,
            ttl,
        };
        reply(cx, |out| Reply::new(id, out).subscribe(&result));
        self.attend(channel);
    }

    fn on_subscribe_failed(&mut self, channel: &ChannelName, cx: &mut Context<'_>) {
        let Some(at) = self.subs.iter().position(|sub| sub.channel == *channel) else {
            return;
        };
        if let SubState::Joining { id, .. } = self.subs.swap_remove(at).state {
            reply(cx, |out| Reply::new(id, out).error(errors::INTERNAL));
        }
    }

    /// Retention overtook the cursor: the client subscribes again and is told that it cannot be recovered.
    fn on_truncated(&mut self, channel: &ChannelName, cx: &mut Context<'_>) {
        // Dropped, its attendance lasts until the client is back.
        drop(self.take_sub(channel, cx));
        reply(cx, |out| {
            Reply::push_unsubscribe(channel, unsubscribes::INSUFFICIENT, out)
        });
    }

    /// Something was revoked: perhaps what this client came with.
    fn on_recheck(&self) -> Result<(), Disconnect> {
        let client = self.client.as_ref();
        match client.is_some_and(|client| client.is_revoked(&self.gateway.sessions)) {
            true => Err(disconnects::INVALID_TOKEN),
            false => Ok(()),
        }
    }

    // === Time ===

    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        let now = unix_seconds();
        if self
            .client
            .as_ref()
            .is_some_and(|client| has_expired(client.expires(), now))
        {
            return Err(disconnects::CONNECTION_EXPIRED);
        }
        while let Some(expired) = self
            .subs
            .iter()
            .position(|sub| has_expired(sub.expires, now))
        {
            let channel = self.subs[expired].channel.clone();
            self.forget(&channel, cx);
            reply(cx, |out| {
                Reply::push_unsubscribe(&channel, unsubscribes::EXPIRED, out)
            });
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left > Duration::from_millis(500) {
            // Woken for an expiry that was put off since.
            self.arm(
                self.timer,
                u32::try_from(left.as_secs()).unwrap_or(1).max(1),
                cx,
            );
            return Ok(());
        }
        match self.timer {
            Timer::Connect => return Err(disconnects::STALE),
            Timer::Ping => {
                ws::text_frame(PING, cx.out);
                self.arm(Timer::Pong, PONG_SECONDS, cx);
            }
            // The ping may stand behind much that the client has not read yet: it is slow, not gone.
            Timer::Pong if cx.lagging => self.arm(Timer::Pong, PONG_SECONDS, cx),
            Timer::Pong => return Err(disconnects::NO_PONG),
        }
        Ok(())
    }

    /// Sets the timer; wakes earlier if something expires before.
    fn arm(&mut self, timer: Timer, seconds: u32, cx: &mut Context<'_>) {
        self.timer = timer;
        self.deadline = Instant::now() + Duration::from_secs(u64::from(seconds));
        let expiries = self.subs.iter().map(|sub| sub.expires);
        let next = expiries
            .chain([self.client.as_ref().and_then(|client| client.expires())])
            .flatten()
            .min();
        let until = next.map(|next| {
            let left = next + EXPIRY_GRACE_SECONDS - unix_seconds();
            u32::try_from(left.max(1)).unwrap_or(u32::MAX)
        });
        let seconds = seconds.min(until.unwrap_or(u32::MAX));
        cx.request(Request::Wake { seconds });
    }

    /// Ends a subscription for good.
    fn forget(&mut self, channel: &ChannelName, cx: &mut Context<'_>) {
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

impl Session for ClientSession {
    fn on_open(&mut self, cx: &mut Context<'_>) {
        self.arm(Timer::Connect, CONNECT_SECONDS, cx);
    }

    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        let bytes_max = self.gateway.config.message_bytes_max + ENVELOPE_BYTES_MAX;
        let mut consumed = 0;
        // Taken out, so that a message that it holds does not borrow the session.
        let mut decoder = std::mem::take(&mut self.decoder);
        loop {
            if cx.is_full() {
                cx.pause();
                break;
            }
            let outcome = match decoder.next(&mut bytes[consumed..], bytes_max) {
                Ok(None) => break,
                Ok(Some((incoming, taken))) => {
                    consumed += taken;
                    match incoming {
                        Incoming::Text(text) => {
                            self.on_text(&text, cx).map_err(|it| (it.code, it.reason))
                        }
                        Incoming::Binary(_) => {
                            Err((ws::close_code::UNSUPPORTED, "text frames are served"))
                        }
                        Incoming::Ping(payload) => {
                            ws::pong_frame(payload, cx.out);
                            Ok(())
                        }
                        Incoming::Close(code) => Err((code.unwrap_or(1000), "")),
                        Incoming::Pong | Incoming::Fragment => Ok(()),
                    }
                }
                Err(error) => Err((error.close_code(), "")),
            };
            if let Err((code, reason)) = outcome {
                close(cx, code, reason);
                return bytes.len();
            }
        }
        self.decoder = decoder;
        consumed
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let outcome = match event {
            Event::Subscribed {
                tag,
                channel,
                position,
                recovery,
                epoch,
            } => {
                self.on_subscribed(tag, &channel, (position, recovery), &epoch, cx);
                Ok(())
            }
            Event::SubscribeFailed { channel, .. } => {
                self.on_subscribe_failed(&channel, cx);
                Ok(())
            }
            Event::Truncated { channel, .. } => {
                self.on_truncated(&channel, cx);
                Ok(())
            }
            Event::Published { tag, result } => {
                reply(cx, |out| match &result {
                    Ok(_) => Reply::new(tag, out).empty("publish"),
                    Err(error) => {
                        let (error, retry_after_ms) = refused_publish(error);
                        Reply::new(tag, out).error_with_retry(error, retry_after_ms);
                    }
                });
                Ok(())
            }
            Event::History { tag, result } => {
                reply(cx, |out| match &result {
                    Ok(page) => {
                        Reply::new(tag, out).history(&page.publications, page.head, &page.epoch)
                    }
                    Err(HistoryError::OtherEpoch(_)) => {
                        Reply::new(tag, out).error(errors::UNRECOVERABLE_POSITION)
                    }
                    Err(HistoryError::Log(_)) => Reply::new(tag, out).error(errors::INTERNAL),
                });
                Ok(())
            }
            Event::Presence { tag, members } => {
                reply_presence(tag, &members, cx);
                Ok(())
            }
            Event::PresenceStats { tag, counted } => {
                reply_presence_stats(tag, &counted, cx);
                Ok(())
            }
            Event::Wake => self.on_wake(cx),
            Event::Recheck => self.on_recheck(),
            // Not asked for.
            Event::Reformed { .. } | Event::Post(_) | Event::Adopted => Ok(()),
            Event::Stalled => Err(disconnects::SLOW),
            Event::Drain => Err(disconnects::SHUTDOWN),
            // The client connects and subscribes again with its positions, and is told that they cannot be recovered.
            Event::Reset => Err(disconnects::INSUFFICIENT_STATE),
        };
        if let Err(disconnect) = outcome {
            close(cx, disconnect.code, disconnect.reason);
        }
    }
}

pub(super) fn reply(cx: &mut Context<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    ws::text_frame_with(cx.out, write);
}

fn close(cx: &mut Context<'_>, code: u16, reason: &str) {
    ws::close_frame(code, reason, cx.out);
    cx.request(Request::Close);
}

pub(super) fn parse_channel(text: &str) -> Result<ChannelName, ErrorCode> {
    ChannelName::parse(text).map_err(|_| errors::BAD_REQUEST)
}
