//! One Centrifuge client: its commands, its subscriptions, its timers. No IO: bytes and events in, bytes and requests
//! out.
//!
//! Subscribing with a position needs no buffering here: the reply says `recovered` with the client's own position, and
//! what it missed follows as ordinary publications, from ring or log, however far back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_engine::hub::{Context, Event, Remote, Request, Session};
use fanfare_wire::{
    ChannelName, Json,
    centrifuge::{
        Answer, ConnectRequest, ConnectResult, Dialect, Disconnect, ErrorCode, Framing, Method,
        SubscribeResult, disconnects, errors, unsubscribes,
    },
    ws,
};
use hyper::header::HeaderMap;

use super::{
    Pings,
    beginning::{Beginning, Wishes, wishes},
    calls::{history, published},
    client::{EXPIRY_GRACE_SECONDS, Failure, has_expired, ttl},
    emulation::Upstream,
    presence::{presence, presence_stats},
    proxied::{Proxied, Renewal},
    streams::put_retry,
    subscribe::Sub,
};
use crate::{
    Gateway,
    commands::{Ear, Registered},
    door::Seat,
    identity::Identity,
    pace::Paces,
    proxy,
    token::Seconds,
    unix_seconds,
};

/// Seconds that a client may take to connect.
const CONNECT_SECONDS: u32 = 10;

/// One client's connection.
pub(super) struct ClientSession {
    pub(super) gateway: Arc<Gateway>,
    /// How the client is spoken to.
    pub(super) dialect: Dialect,
    pub(super) decoder: ws::Decoder,
    /// What the client has said before its connection began.
    opening: Option<Box<[u8]>>,
    /// Of a client whose commands come beside its stream.
    pub(super) upstream: Option<Box<Upstream>>,
    /// Until the client is told that it is connected: what the server subscribes it to.
    pub(super) beginning: Option<Box<Beginning>>,
    pub(super) client: Option<Box<Identity>>,
    /// How others reach the session, until it is registered.
    pub(super) remote: Option<Remote>,
    /// Its place among those whom the application's commands may be for.
    pub(super) registered: Option<Registered>,
    pub(super) subs: Vec<Sub>,
    /// Its dealings with the application's backend, if that is asked anything.
    pub(super) proxied: Option<Box<Proxied>>,
    /// How often it has published where that is bounded.
    pub(super) paces: Option<Box<Paces>>,
    timer: Timer,
    deadline: Instant,
    /// Given back with the session.
    _seat: Seat,
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
    /// A connection that was opened by a request with these headers.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        dialect: Dialect,
        seat: Seat,
        headers: &HeaderMap,
    ) -> Self {
        let proxies = gateway.proxies.as_ref();
        let proxied = proxies.map(|proxies| Box::new(Proxied::new(proxies, headers)));
        Self {
            proxied,
            gateway,
            dialect,
            decoder: ws::Decoder::default(),
            opening: None,
            upstream: None,
            beginning: None,
            client: None,
            remote: None,
            registered: None,
            subs: Vec::new(),
            paces: None,
            timer: Timer::Connect,
            deadline: Instant::now() + Duration::from_secs(u64::from(CONNECT_SECONDS)),
            _seat: seat,
        }
    }

    /// With what the client has said already: commands, or a connect request of one that only listens.
    pub(super) fn opening(self, said: impl AsRef<[u8]>) -> Self {
        let opening = Some(said.as_ref().into());
        Self { opening, ..self }
    }

    /// With commands that come beside the stream.
    pub(super) fn with_upstream(self, upstream: Upstream) -> Self {
        let upstream = Some(Box::new(upstream));
        Self { upstream, ..self }
    }

    pub(super) fn reply(&self, id: u32, answer: &Answer<'_>, cx: &mut Context<'_>) {
        self.dialect.reply(id, answer, cx.out);
    }

    // === Commands ===

    pub(super) fn on_command(
        &mut self,
        id: u32,
        method: Method<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let connected = self.client.is_some();
        match method {
            Method::Connect(request) if !connected => self.on_connect(id, request, cx),
            // A client that did not connect first, or connects twice, does not speak the protocol.
            Method::Connect(_) => Err(disconnects::BAD_REQUEST.into()),
            _ if !connected => Err(disconnects::BAD_REQUEST.into()),
            Method::Pong => self.on_pong(cx).map_err(Into::into),
            Method::Ping => {
                self.reply(id, &Answer::Ping, cx);
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
            Method::Rpc(request) => self.on_rpc(id, &request).map_err(Into::into),
            Method::Unknown => Err(errors::METHOD_NOT_FOUND.into()),
        }
    }

    pub(super) fn on_connect(
        &mut self,
        id: u32,
        mut request: ConnectRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let wishes = wishes(
            std::mem::take(&mut request.subs),
            self.gateway.config.subscriptions_max,
            self.dialect,
        )?;
        if !self.gateway.commands.are_heard() {
            // A command could pass it by.
            return Err(errors::INTERNAL.into());
        }
        if request.token.is_empty() && self.asks(proxy::Event::Connect) {
            return self.ask_connect(id, &request, wishes);
        }
        let client = Box::new(self.gateway.identify(&request.token)?);
        let ttl = ttl(client.expires());
        self.connected(Beginning::new(id, ttl, None), client, wishes, cx)?;
        Ok(())
    }

    /// The client is let in; it is told so when it is known where it stands in what the server subscribes it to.
    pub(super) fn connected(
        &mut self,
        beginning: Beginning,
        client: Box<Identity>,
        wishes: Wishes,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        if let Some(remote) = self.remote.take() {
            let clients = self.gateway.commands.clients();
            self.registered =
                Some(clients.register(client.user(), client.id, Ear::Session(remote)));
        }
        self.client = Some(client);
        self.beginning = Some(Box::new(beginning));
        self.place_all(wishes, cx)
    }

    /// Tells the client that it is connected, with the subscriptions that the server has begun.
    pub(super) fn say_connected(
        &mut self,
        id: u32,
        (ttl, data): (Option<u32>, Option<&Json>),
        subs: &[(ChannelName, SubscribeResult<'_>)],
        cx: &mut Context<'_>,
    ) {
        let Some(client) = &self.client else {
            return;
        };
        let name = client.id.to_string();
        let seed = client.id.as_bytes()[0];
        let config = &self.gateway.config;
        let result = ConnectResult {
            client: &name,
            version: config.node.version,
            ttl,
            ping: config.pings.interval,
            pong: !self.dialect.one_way,
            session: self.upstream.as_deref().map(Upstream::id),
            time: unix_seconds() * 1000,
            node: &config.node.name,
            data,
            subs,
        };
        self.reply(id, &Answer::Connect(result), cx);
        // Clients that come together do not answer pings together.
        let interval = config.pings.interval;
        self.arm(Timer::Ping, 1 + u32::from(seed) % interval.max(1), cx);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        if self.timer != Timer::Pong {
            return Err(disconnects::BAD_REQUEST);
        }
        self.arm(Timer::Ping, self.gateway.config.pings.interval, cx);
        Ok(())
    }

    /// A WebSocket of a client that only listens answers by itself.
    pub(super) fn on_pong_frame(&mut self, cx: &mut Context<'_>) {
        if self.dialect.one_way && self.timer == Timer::Pong {
            self.arm(Timer::Ping, self.gateway.config.pings.interval, cx);
        }
    }

    // === What the engine answers ===

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
        self.renew(now);
        self.repeat_calls(cx);
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
            self.dialect
                .push_unsubscribe(&channel, unsubscribes::EXPIRED, cx.out);
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left > Duration::from_millis(500) {
            // Woken for an expiry that was put off since.
            self.rearm(cx);
            return Ok(());
        }
        let Pings { interval, patience } = self.gateway.config.pings;
        match self.timer {
            // The backend takes its time, which is bounded.
            Timer::Connect if self.is_asking() => self.arm(Timer::Connect, CONNECT_SECONDS, cx),
            // It has said what it wants; the log does not say where that is.
            Timer::Connect if self.client.is_some() => return Err(disconnects::SERVER_ERROR),
            Timer::Connect => return Err(disconnects::STALE),
            Timer::Ping => {
                self.dialect.ping(cx.out);
                match self.answers_pings() {
                    true => self.arm(Timer::Pong, patience, cx),
                    false => self.arm(Timer::Ping, interval, cx),
                }
            }
            // The ping may stand behind much that the client has not read yet: it is slow, not gone.
            // And so does a pong that stands behind a command which the backend decides.
            Timer::Pong if cx.lagging || self.is_waiting() => self.arm(Timer::Pong, patience, cx),
            Timer::Pong => return Err(disconnects::NO_PONG),
        }
        Ok(())
    }

    /// Who only listens to a stream cannot; that the peer takes what is written is looked after by the hub.
    fn answers_pings(&self) -> bool {
        !self.dialect.one_way || self.dialect.framing == Framing::WebSocket
    }

    /// Sets the timer; wakes earlier if something expires before.
    fn arm(&mut self, timer: Timer, seconds: u32, cx: &mut Context<'_>) {
        self.timer = timer;
        self.deadline = Instant::now() + Duration::from_secs(u64::from(seconds));
        self.rearm(cx);
    }

    /// Wakes when the timer is due, or something expires before that.
    pub(super) fn rearm(&mut self, cx: &mut Context<'_>) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Rounded, so that a timer that was just set is not a second late.
        let seconds = (left + Duration::from_millis(500)).as_secs().max(1);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let due = |expires: Seconds, renewal: Option<&Renewal>| match renewal {
            Some(renewal) => renewal.due(expires, EXPIRY_GRACE_SECONDS),
            None => expires + EXPIRY_GRACE_SECONDS,
        };
        let subs = self.subs.iter();
        let subs = subs.filter_map(|sub| Some(due(sub.expires?, sub.renewal.as_deref())));
        let client = self.client.as_ref().and_then(|client| client.expires());
        let renewal = self.proxied.as_ref().and_then(|proxied| proxied.renewal());
        let client = client.map(|expires| due(expires, renewal));
        let until = subs.chain(client).min().map(|next| {
            let left = next - unix_seconds();
            u32::try_from(left.max(1)).unwrap_or(u32::MAX)
        });
        let mut seconds = seconds.min(until.unwrap_or(u32::MAX));
        if self.has_calls_to_repeat() {
            seconds = seconds.min(1);
        }
        cx.request(Request::Wake { seconds });
    }
}

impl Session for ClientSession {
    fn bind(&mut self, remote: Remote) {
        if let Some(upstream) = &self.upstream {
            upstream.bind(remote.clone());
        }
        if let Some(proxied) = &mut self.proxied {
            proxied.bind(remote.clone());
        }
        self.remote = Some(remote);
    }

    fn takes_input(&self) -> bool {
        !self.is_waiting()
    }

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if self.dialect == Dialect::one_way(Framing::Events) {
            put_retry(cx.out);
        }
        self.arm(Timer::Connect, CONNECT_SECONDS, cx);
        if let Some(opening) = self.opening.take()
            && let Err(disconnect) = self.on_body(&opening, cx)
        {
            close(self.dialect, cx, disconnect.code, disconnect.reason);
        }
    }

    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        if self.dialect.framing == Framing::WebSocket {
            return self.on_frames(bytes, cx);
        }
        if let Err(disconnect) = self.go_on(cx) {
            close(self.dialect, cx, disconnect.code, disconnect.reason);
        }
        bytes.len()
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
                let place = (position, recovery);
                self.on_placed(&channel, place, &epoch, cx).map(|placed| {
                    if !placed {
                        self.on_subscribed(tag, &channel, place, &epoch, cx);
                    }
                })
            }
            Event::SubscribeFailed { channel, .. } if self.is_placing(&channel) => {
                Err(disconnects::SERVER_ERROR)
            }
            Event::SubscribeFailed { channel, .. } => {
                self.on_subscribe_failed(&channel, cx);
                Ok(())
            }
            Event::Truncated { channel, .. } => self.on_truncated(&channel, cx),
            Event::Published { tag, result } => {
                self.reply(tag, &published(&result), cx);
                Ok(())
            }
            Event::History { tag, result } => {
                self.reply(tag, &history(&result), cx);
                Ok(())
            }
            Event::Presence { tag, members } => {
                self.reply(tag, &presence(&members), cx);
                Ok(())
            }
            Event::PresenceStats { tag, counted } => {
                self.reply(tag, &presence_stats(&counted), cx);
                Ok(())
            }
            Event::Wake => self.on_wake(cx),
            Event::Recheck => self.on_recheck(),
            // Not asked for.
            Event::Reformed { .. } | Event::Adopted => Ok(()),
            Event::Post(posted) => self.on_posted(posted, cx),
            Event::Stalled => Err(disconnects::SLOW),
            Event::Drain => Err(disconnects::SHUTDOWN),
            // The client connects and subscribes again with its positions, and is told that they cannot be recovered.
            Event::Reset => Err(disconnects::INSUFFICIENT_STATE),
        };
        if let Err(disconnect) = outcome {
            close(self.dialect, cx, disconnect.code, disconnect.reason);
        }
    }
}

pub(super) fn close(dialect: Dialect, cx: &mut Context<'_>, code: u16, reason: &str) {
    dialect.end(code, reason, cx.out);
    cx.request(Request::Close);
}

pub(super) fn parse_channel(text: &str) -> Result<ChannelName, ErrorCode> {
    ChannelName::parse(text).map_err(|_| errors::BAD_REQUEST)
}
