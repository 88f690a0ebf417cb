//! Event streams that an app opens for a client that it knows: the app says who may read which channel, and the stream is
//! then one like any other: it begins with `ready`, its ids are positions, `truncated` and `reset` say what is missing.
//!
//! What is different: the tag `event` of a publication names its event, heartbeats are events that a page can see, and the app holds
//! a [`StreamHandle`] by which it tells the client a last word and closes the stream.

use std::{
    any::Any,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use axum::{
    body::Body,
    extract::Request,
    http::{Extensions, HeaderMap, request::Parts},
    response::{IntoResponse, Response},
};
use fanfare_engine::hub::{Context, Event, Remote, Request as Wish, Session, Sink};
use fanfare_wire::{ChannelName, Millis, Seq, sse};

use super::{Asked, LAST_EVENT_ID, Refusal, StreamSession, answer, attendee, begin, last_event_id};
use crate::{
    EVENT_STREAM_NAMED, Gateway, listener::Handle, pipe, token::ConnectionClaims, unix_millis,
};

/// Longest time between two heartbeats, in seconds.
pub const HEARTBEAT_SECONDS_MAX: u32 = fanfare_engine::hub::session::WAKE_SECONDS_MAX;

/// What an app opens a stream for.
pub struct AppStream {
    /// What is read. The app has made sure that the client may, from any position.
    pub channel: ChannelName,
    /// Whose stream it is. It ends when they expire, and as soon as they are revoked.
    pub claims: Arc<ConnectionClaims>,
    /// Where the client is if it does not say so in the header `Last-Event-ID`.
    pub last_event_id: Option<String>,
    /// What is sent at intervals, whether something happens or not.
    pub heartbeat: Heartbeat,
    /// Dropped with the stream, whichever way it ends.
    pub guard: Box<dyn Any + Send>,
}

/// An event that comes at intervals. It has no id, so it moves nobody.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// Its name.
    pub event: &'static str,
    /// The interval, in seconds: 1 to [`HEARTBEAT_SECONDS_MAX`].
    pub seconds: u32,
    /// Its data, on one line, from the time.
    pub data: fn(Millis) -> String,
}

/// The last that a client is told on a stream.
#[derive(Debug, Clone)]
pub struct Farewell {
    /// The event's name, on one line.
    pub event: &'static str,
    /// Its data, on one line.
    pub data: String,
    /// In how many milliseconds a client may come back that does so by itself.
    pub retry_ms: u32,
}

/// A stream that is open, as the app sees it.
#[derive(Debug, Clone)]
pub struct StreamHandle(Arc<Line>);

/// What was asked, as far as a stream needs it.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    headers: HeaderMap,
    handle: Option<Handle>,
}

/// The way from the app to the session.
#[derive(Debug, Default)]
struct Line {
    remote: OnceLock<Remote>,
    farewell: Mutex<Option<Farewell>>,
}

impl StreamRequest {
    /// The stream that is asked for by a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        Self::new(request.headers(), request.extensions())
    }

    /// The same, from the request's parts.
    #[must_use]
    pub fn of_parts(parts: &Parts) -> Self {
        Self::new(&parts.headers, &parts.extensions)
    }

    fn new(headers: &HeaderMap, extensions: &Extensions) -> Self {
        // No more than what is looked at: the request lives as long as it takes to read the log.
        let mut kept = HeaderMap::new();
        for name in [axum::http::header::ACCEPT.as_str(), LAST_EVENT_ID] {
            if let Some(value) = headers.get(name) {
                kept.insert(name, value.clone());
            }
        }
        Self {
            headers: kept,
            handle: extensions.get::<Handle>().cloned(),
        }
    }
}

impl Gateway {
    /// Opens an event stream for a client that an app has let in. The stream takes a seat like every connection: if there is none,
    /// or the log does not answer, the client is told when to come back.
    ///
    /// # Errors
    /// The answer to give instead, where there is no stream now.
    pub async fn open_stream(
        self: &Arc<Self>,
        request: StreamRequest,
        stream: AppStream,
    ) -> Result<(Response, StreamHandle), Response> {
        let headers = &request.headers;
        let refused = |refusal: Refusal| match refusal {
            Refusal::Never(status, reason) => (status, reason).into_response(),
            Refusal::Later(away) if answer::wants_stream(headers) => {
                answer::come_back(&away, headers)
            }
            Refusal::Later(away) => away.into_response(),
        };
        let (body, handle) = self.begin_stream(&request, stream).await.map_err(refused)?;
        Ok((answer::stream(body), handle))
    }

    async fn begin_stream(
        self: &Arc<Self>,
        request: &StreamRequest,
        stream: AppStream,
    ) -> Result<(Body, StreamHandle), Refusal> {
        let seat = self.door.admit()?;
        let asked = Asked {
            channels: vec![stream.channel],
            last_event_id: last_event_id(&request.headers, stream.last_event_id),
            join_leave: false,
        };
        let beginning = begin(self, &asked, |_| true).await?;
        let (pipe, body) = pipe::pipe(request.handle.clone());
        let line = Arc::new(Line::default());
        let heartbeat = stream.heartbeat;
        let session = AppSession {
            stream: StreamSession {
                _seat: seat,
                many: false,
                positions: beginning.positions,
                notices: beginning.notices,
                join_leave: false,
                attendee: attendee(Some(&stream.claims)),
                attendances: Vec::new(),
                registered: None,
                gateway: Arc::clone(self),
                claims: Some(stream.claims),
            },
            heartbeat: Heartbeat {
                seconds: heartbeat.seconds.clamp(1, HEARTBEAT_SECONDS_MAX),
                ..heartbeat
            },
            line: Arc::clone(&line),
            _guard: stream.guard,
        };
        self.engine
            .hub()
            .open(Sink::Pipe(Box::new(pipe)), Box::new(session), Vec::new());
        Ok((Body::from_stream(body), StreamHandle(line)))
    }
}

impl StreamHandle {
    /// Tells the client a last event and closes the stream. Only the first farewell is told. Never waits; nothing happens if the
    /// stream is over.
    pub fn close(&self, farewell: Farewell) {
        let mut said = self
            .0
            .farewell
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if said.is_some() {
            return;
        }
        *said = Some(farewell);
        drop(said);
        // Before it is bound, the session looks for itself when it opens.
        if let Some(remote) = self.0.remote.get() {
            remote.send(Event::Post(Box::new(())));
        }
    }
}

// === The session ===

/// One event stream of an app's.
struct AppSession {
    stream: StreamSession,
    heartbeat: Heartbeat,
    line: Arc<Line>,
    _guard: Box<dyn Any + Send>,
}

impl AppSession {
    /// Says the last word, if there is one.
    fn part(&self, cx: &mut Context<'_>) -> bool {
        let farewell = self.line.farewell.lock();
        let farewell = farewell.unwrap_or_else(PoisonError::into_inner);
        let Some(farewell) = &*farewell else {
            return false;
        };
        cx.out
            .extend_from_slice(format!("retry: {}\n", farewell.retry_ms).as_bytes());
        sse::put_event(farewell.event, farewell.data.as_bytes(), cx.out);
        cx.request(Wish::Close);
        true
    }
}

impl Session for AppSession {
    fn bind(&mut self, remote: Remote) {
        // Bound once.
        let _ = self.line.remote.set(remote);
    }

    fn on_open(&mut self, cx: &mut Context<'_>) {
        if !self.part(cx) {
            let seconds = self.heartbeat.seconds;
            self.stream.begin(cx, seconds, |_, _| EVENT_STREAM_NAMED);
        }
    }

    fn on_bytes(&mut self, bytes: &mut [u8], _: &mut Context<'_>) -> usize {
        bytes.len()
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Wake if !self.stream.has_expired() => {
                // Who has not taken what was sent before has no use for a sign of life.
                if cx.out.is_empty() {
                    let data = (self.heartbeat.data)(unix_millis());
                    sse::put_event(self.heartbeat.event, data.as_bytes(), cx.out);
                }
                self.stream.wake(cx, self.heartbeat.seconds);
            }
            Event::Post(_) => {
                self.part(cx);
            }
            event => self.stream.on_event(event, cx),
        }
    }

    fn personalise(&mut self, channel: &ChannelName, seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        self.stream.personalise(channel, seq, frame, out);
    }
}

#[cfg(test)]
mod tests;
