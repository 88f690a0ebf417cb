//! Server-sent events: one or many channels in one stream, with ids that are positions.
//!
//! The stream begins with `ready`, which tells where it stands in each channel, and then carries `message` events. An id
//! is a position for all channels, so a browser that reconnects by itself, to any node, goes on without a hole and
//! without a repeat. Where retention or a reset of the log makes that impossible, `truncated` or `reset` says so.
//!
//! A native `EventSource` never comes back after any status but 200. Whoever says that it wants an event stream, as
//! every `EventSource` does, is therefore turned away with a stream that says when to come back and ends; all others get
//! a 503 with `Retry-After`.

pub(crate) mod answer;
pub mod app;
mod told;

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use fanfare_engine::{
    Attendance, Attendee,
    hub::{Context, Event, Recovery, Remote, Request, Resume, Session, Sink, Start},
    port::Head,
};
use fanfare_wire::{
    ChannelName, Epoch, FormId, Seq,
    centrifuge::errors,
    sse::{self, Positions},
};
use uuid::Uuid;

use self::answer::{Refusal, Wrong, come_back, stream, wants_stream};
use crate::{
    EVENT_STREAM, EVENT_STREAM_JOINS, EVENT_STREAM_OF_MANY, Gateway,
    access::{ChannelOptions, Right},
    commands::{Ear, Registered, Told},
    door::Seat,
    listener::Handle,
    pipe,
    presence::client_info,
    query::form_pairs,
    rights::Asker,
    token::{ConnectionClaims, Seconds, TokenError},
    unix_seconds,
};

/// The header in which a browser says where it is.
const LAST_EVENT_ID: &str = "last-event-id";
/// Within how many milliseconds those who lose their stream come back, at the soonest and at the latest.
const RETRY_MS: std::ops::Range<u32> = 500..2_500;
/// Seconds between comments that keep the stream alive through proxies.
const HEARTBEAT_SECONDS: u32 = 15;

/// `GET /events?channel=a&channel=b`.
pub(crate) async fn events(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
    handle: Option<Extension<Handle>>,
    headers: HeaderMap,
) -> Response {
    let handle = handle.map(|Extension(handle)| handle);
    let query = query.as_deref().unwrap_or_default();
    let opened = match open(&gateway, query, &headers, handle).await {
        Ok(body) => stream(body),
        Err(Refusal::Never(status, reason)) => (status, reason).into_response(),
        Err(Refusal::Later(turned_away)) if wants_stream(&headers) => {
            come_back(&turned_away, &headers)
        }
        Err(Refusal::Later(turned_away)) => turned_away.into_response(),
    };
    gateway.config.origins.tell(&headers, opened)
}

/// What a stream was asked to be.
struct Asked {
    channels: Vec<ChannelName>,
    last_event_id: Option<String>,
    /// Tell it who joins and leaves.
    join_leave: bool,
}

/// Where a stream begins, and what has to be said about it.
struct Beginning {
    positions: Positions,
    notices: Vec<u8>,
}

async fn open(
    gateway: &Arc<Gateway>,
    query: &str,
    headers: &HeaderMap,
    handle: Option<Handle>,
) -> Result<Body, Refusal> {
    if !gateway.config.origins.allow(headers) {
        let reason = "this origin is not allowed; see allowed_origins";
        return Err((StatusCode::FORBIDDEN, reason).into());
    }
    let asked = asked(query, headers)?;
    // Who may not read at all takes nobody's turn at the door: a token costs less to check than a stream to open.
    let claims = identify(gateway, headers).await?;
    for channel in &asked.channels {
        may_read(gateway, claims.as_deref(), channel)?;
    }
    let seat = gateway.door.admit()?;
    let join_leave = asked.join_leave;
    let look_back = |channel: &ChannelName| gateway.may_look_back(claims.as_deref(), channel, None);
    let beginning = begin(gateway, &asked, look_back).await?;
    let (pipe, body) = pipe::pipe(handle);
    let session = StreamSession {
        _seat: seat,
        many: beginning.positions.channels().len() > 1,
        positions: beginning.positions,
        notices: beginning.notices,
        join_leave,
        attendee: attendee(claims.as_deref()),
        attendances: Vec::new(),
        registered: None,
        gateway: Arc::clone(gateway),
        claims,
    };
    gateway
        .engine
        .hub()
        .open(Sink::Pipe(Box::new(pipe)), Box::new(session), Vec::new());
    Ok(Body::from_stream(body))
}

fn asked(query: &str, headers: &HeaderMap) -> Result<Asked, Wrong> {
    let mut channels = Vec::new();
    let mut last_event_id = None;
    let mut join_leave = false;
    for (name, value) in form_pairs(query) {
        match &*name {
            "channel" => {
                let channel = ChannelName::parse(&value);
                channels.push(channel.map_err(|_| (StatusCode::BAD_REQUEST, "bad channel name"))?);
            }
            "last_event_id" => last_event_id = Some(value),
            "join_leave" => join_leave = matches!(&*value, "true" | "1"),
            _ => {}
        }
    }
    channels.sort_unstable();
    channels.dedup();
    if channels.is_empty() || channels.len() > sse::CHANNELS_MAX {
        return Err((
            StatusCode::BAD_REQUEST,
            "name 1 to 64 channels: /events?channel=a&channel=b",
        ));
    }
    Ok(Asked {
        channels,
        last_event_id: self::last_event_id(headers, last_event_id),
        join_leave,
    })
}

/// Where a client says that it is. The header is newer: a browser sends it when it comes back by itself, with the address
/// unchanged.
fn last_event_id(headers: &HeaderMap, in_address: Option<String>) -> Option<String> {
    let header = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    header
        .map(str::to_owned)
        .or(in_address)
        .filter(|id| !id.is_empty())
}

/// How others see the stream's client in channels.
fn attendee(claims: Option<&ConnectionClaims>) -> Arc<Attendee> {
    let client = Uuid::new_v4();
    let user = claims.map_or("", |claims| &claims.sub);
    let info = claims.and_then(|claims| claims.info.as_ref());
    Arc::new(Attendee {
        client,
        user: user.into(),
        info: client_info(user, client, info, None),
    })
}

/// Who asks. Tokens come in the `Authorization` header only: addresses are logged.
async fn identify(
    gateway: &Gateway,
    headers: &HeaderMap,
) -> Result<Option<Arc<ConnectionClaims>>, Refusal> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        None if gateway.takes_anonymous() => Ok(None),
        None => Err((
            StatusCode::UNAUTHORIZED,
            "send a connection token: Authorization: Bearer <token>",
        )
            .into()),
        Some(token) => match gateway.sessions.connection_soon(token).await {
            Ok(claims) => Ok(Some(claims)),
            Err(TokenError::NotYet) => Err(gateway.door.turn_away_without_log().into()),
            Err(TokenError::Expired | TokenError::Invalid(_)) => Err((
                StatusCode::UNAUTHORIZED,
                "the token is invalid, revoked or has expired",
            )
                .into()),
        },
    }
}

fn may_read(
    gateway: &Gateway,
    claims: Option<&ConnectionClaims>,
    channel: &ChannelName,
) -> Result<(), Wrong> {
    match gateway.may(Right::Subscribe, channel, Asker::stranger(claims)) {
        Ok(_) => Ok(()),
        Err(errors::UNKNOWN_CHANNEL) => Err((StatusCode::NOT_FOUND, "unknown channel")),
        Err(_) => Err((StatusCode::FORBIDDEN, "permission denied")),
    }
}

/// Decides where the stream stands in each channel before it begins, so that its very first id is a whole position.
/// `look_back` says in which channels the stream may go on from a position.
async fn begin(
    gateway: &Gateway,
    asked: &Asked,
    look_back: impl Fn(&ChannelName) -> bool,
) -> Result<Beginning, Refusal> {
    let mut epoch = gateway.engine.epoch();
    loop {
        let begun = begin_in(gateway, asked, &look_back, &epoch).await;
        let now = gateway.engine.epoch();
        if begun.is_ok() || now == epoch {
            return begun;
        }
        epoch = now;
    }
}

async fn begin_in(
    gateway: &Gateway,
    asked: &Asked,
    look_back: &impl Fn(&ChannelName) -> bool,
    epoch: &Epoch,
) -> Result<Beginning, Refusal> {
    let mut positions = Positions::new(epoch.clone(), asked.channels.clone());
    let asked_for = asked
        .last_event_id
        .as_deref()
        .map(|id| positions.parse_id(id));
    let resumed: Option<Vec<Seq>> = match &asked_for {
        Some(Some((of, seqs))) if of == epoch => Some(seqs.clone()),
        _ => None,
    };
    let position = |at: usize, name: &ChannelName| {
        let seqs = resumed.as_ref().filter(|_| look_back(name))?;
        seqs.get(at).copied()
    };
    let readers: Vec<(ChannelName, Option<Seq>)> = positions
        .channels()
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name.clone(), position(at, name)))
        .collect();
    let heads = gateway.engine.heads(epoch, &readers).await;
    let heads = heads.map_err(|_| gateway.door.turn_away_without_log())?;
    let rules = &gateway.config.rules;
    let is_durable = |name: &ChannelName| rules.of(name).is_none_or(ChannelOptions::is_durable);
    let is_state = |name: &ChannelName| rules.of(name).is_some_and(ChannelOptions::is_state);
    let mut notices = Vec::new();
    for ((name, seq), head) in readers.iter().zip(heads) {
        let position = match seq {
            _ if is_state(name) => before_newest(*seq, head),
            Some(seq) => resume(name, *seq, head, &mut notices),
            None => {
                // What is told now or never has no position that could be lost.
                if asked_for.is_some() && is_durable(name) {
                    put_notice("reset", name, ("offset", head.seq), &mut notices);
                }
                head.seq
            }
        };
        positions.set(name, position);
    }
    Ok(Beginning { positions, notices })
}

/// Where a reader goes on that is given the newest publication, unless it has it.
fn before_newest(seq: Option<Seq>, head: Head) -> Seq {
    match seq {
        Some(seq) if seq == head.seq => seq,
        _ => Seq(head.seq.0.saturating_sub(1)).max(head.trimmed),
    }
}

/// Where a reader at `seq` goes on.
fn resume(name: &ChannelName, seq: Seq, head: Head, notices: &mut Vec<u8>) -> Seq {
    if seq > head.seq {
        put_notice("reset", name, ("offset", head.seq), notices);
        return head.seq;
    }
    if seq < head.trimmed {
        put_notice("truncated", name, ("oldest", head.trimmed.next()), notices);
        return head.trimmed;
    }
    seq
}

fn put_notice(event: &str, name: &ChannelName, (key, seq): (&str, Seq), out: &mut Vec<u8>) {
    let json = format!("{{\"channel\":\"{name}\",\"{key}\":{seq}}}");
    sse::put_event(event, json.as_bytes(), out);
}

// === The session ===

/// One event stream.
struct StreamSession {
    /// Given back with the session.
    _seat: Seat,
    many: bool,
    positions: Positions,
    /// What has to be said before the first message.
    notices: Vec<u8>,
    join_leave: bool,
    attendee: Arc<Attendee>,
    /// It counts as present in these.
    attendances: Vec<Attendance>,
    /// Its place among those whom the application's commands may be for.
    registered: Option<Registered>,
    gateway: Arc<Gateway>,
    /// What the token said with which it was opened.
    claims: Option<Arc<ConnectionClaims>>,
}

impl StreamSession {
    fn expires(&self) -> Option<Seconds> {
        self.claims.as_ref().and_then(|claims| claims.expires())
    }

    fn is_revoked(&self) -> bool {
        let claims = self.claims.as_ref();
        claims.is_some_and(|claims| self.gateway.sessions.is_revoked(claims))
    }

    fn form_for(&self, channel: &ChannelName) -> FormId {
        let (claims, asks) = (self.claims.as_deref(), self.join_leave);
        if self.gateway.may_see_joins(claims, channel, None, asks) {
            EVENT_STREAM_JOINS
        } else if self.many {
            EVENT_STREAM_OF_MANY
        } else {
            EVENT_STREAM
        }
    }

    fn has_expired(&self) -> bool {
        self.expires()
            .is_some_and(|expires| expires <= unix_seconds())
    }

    /// Says where the stream stands and asks for its channels, each in the form that `form` says; the first heartbeat is due in
    /// `seconds`.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        seconds: u32,
        form: impl Fn(&Self, &ChannelName) -> FormId,
    ) {
        if self.is_revoked() {
            // Since its token was looked at.
            cx.request(Request::Close);
            return;
        }
        // Clients that lose their server together do not come back together.
        put_retry(cx.out);
        cx.out.append(&mut self.notices);
        put_ready(&self.positions, cx.out);
        for (tag, (channel, seq)) in (0..).zip(self.positions.channels()) {
            let resume = Resume {
                epoch: Some(self.positions.epoch().clone()),
                seq: *seq,
                oldest_if_truncated: true,
            };
            let options = self.gateway.config.rules.of(channel);
            let start = match options.is_some_and(ChannelOptions::is_state) {
                true => Start::Newest(Some(resume)),
                false => Start::Resume(resume),
            };
            cx.request(Request::Subscribe {
                tag,
                channel: channel.clone(),
                start,
                form: form(self, channel),
                filter: None,
            });
        }
        self.wake(cx, seconds);
    }

    /// Wakes in `seconds`, or when the token expires.
    fn wake(&self, cx: &mut Context<'_>, seconds: u32) {
        let left = self
            .expires()
            .map(|expires| (expires - unix_seconds()).max(1));
        let left = left
            .and_then(|left| u32::try_from(left).ok())
            .unwrap_or(u32::MAX);
        cx.request(Request::Wake {
            seconds: left.min(seconds),
        });
    }
}

impl Session for StreamSession {
    fn bind(&mut self, remote: Remote) {
        let Attendee { client, user, .. } = &*self.attendee;
        let clients = self.gateway.commands.clients();
        self.registered = Some(clients.register(user, *client, Ear::Session(remote)));
    }

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if !self.gateway.commands.are_heard() {
            // A command could pass it by.
            put_retry(cx.out);
            cx.request(Request::Close);
            return;
        }
        self.begin(cx, HEARTBEAT_SECONDS, Self::form_for);
    }

    fn on_bytes(&mut self, bytes: &mut [u8], _: &mut Context<'_>) -> usize {
        bytes.len()
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            // The epoch changed since the stream began: the ids that it gives would be of the one before.
            Event::Subscribed { epoch, .. } if epoch != *self.positions.epoch() => {
                cx.request(Request::Close);
            }
            Event::Subscribed {
                channel,
                position,
                recovery,
                ..
            } => {
                // The position was good when the stream began; what has changed since is said.
                match recovery {
                    Recovery::Truncated { oldest } => {
                        put_notice("truncated", &channel, ("oldest", oldest), cx.out)
                    }
                    Recovery::Reset => put_notice("reset", &channel, ("offset", position), cx.out),
                    Recovery::NotAsked | Recovery::Recovered => {}
                }
                self.positions.set(&channel, position);
                let attendance = self
                    .gateway
                    .attend(&channel, None, || Arc::clone(&self.attendee));
                self.attendances.extend(attendance);
            }
            Event::Truncated { channel, oldest } => {
                put_notice("truncated", &channel, ("oldest", oldest), cx.out);
                self.positions
                    .set(&channel, Seq(oldest.0.saturating_sub(1)));
            }
            Event::Wake if self.has_expired() => cx.request(Request::Close),
            Event::Recheck if self.is_revoked() => cx.request(Request::Close),
            Event::Wake => {
                cx.out.extend_from_slice(b": \n\n");
                self.wake(cx, HEARTBEAT_SECONDS);
            }
            // The browser comes back by itself, with its last id, to a node that can serve it.
            Event::SubscribeFailed { .. } | Event::Drain | Event::Reset => {
                put_retry(cx.out);
                cx.request(Request::Close);
            }
            Event::Stalled => cx.request(Request::Close),
            Event::Post(posted) => {
                if let Ok(told) = posted.downcast::<Arc<Told>>() {
                    self.on_told(&told, cx);
                }
            }
            Event::Published { .. }
            | Event::History { .. }
            | Event::Reformed { .. }
            | Event::Adopted
            | Event::Presence { .. }
            | Event::PresenceStats { .. }
            | Event::Recheck => {}
        }
    }

    fn personalise(&mut self, channel: &ChannelName, seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        self.positions.set(channel, seq);
        out.extend_from_slice(b"id: ");
        self.positions.put_id(out);
        out.push(b'\n');
        out.extend_from_slice(frame);
    }
}

/// When to come back. Without an empty line behind it, it ends no event and so changes no id; the stream goes on or ends.
fn put_retry(out: &mut Vec<u8>) {
    let retry_ms = rand::random_range(RETRY_MS);
    out.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
}

fn put_ready(positions: &Positions, out: &mut Vec<u8>) {
    let mut json = format!("{{\"epoch\":\"{}\",\"channels\":{{", positions.epoch());
    for (at, (name, seq)) in positions.channels().iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // invariant: writing to a string cannot fail
        let _ = write!(json, "{comma}\"{name}\":{{\"offset\":{seq}}}");
    }
    json.push_str("}}");
    // With an id, so that a stream that is cut before its first message resumes from here.
    out.extend_from_slice(b"id: ");
    positions.put_id(out);
    out.push(b'\n');
    sse::put_event("ready", json.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_asked_is_checked() {
        let headers = HeaderMap::new();
        let refused = |query: &str| asked(query, &headers).map(|_| ()).unwrap_err().0;
        assert_eq!(refused(""), StatusCode::BAD_REQUEST);
        assert_eq!(refused("channel=a%20b"), StatusCode::BAD_REQUEST);
        let many: String = (0..65)
            .map(|number| format!("channel=c{number}&"))
            .collect();
        assert_eq!(refused(&many), StatusCode::BAD_REQUEST);
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_static("newer"));
        let asked = asked(
            "channel=b&channel=a&channel=b&last_event_id=older&join_leave=true",
            &headers,
        );
        let Asked {
            channels,
            last_event_id,
            join_leave,
        } = asked.ok().unwrap();
        assert!(join_leave);
        assert_eq!(
            channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(last_event_id.as_deref(), Some("newer"));
    }
}
