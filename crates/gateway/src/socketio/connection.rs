//! One Engine.IO connection: its transport, its heartbeat, its end. What the messages mean is [`Messages`]' business.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_engine::hub::{Context, Event, Remote, Request, Session};
use fanfare_wire::{
    ChannelName, Seq,
    engineio::{self, Packet, PacketError},
    ws::{self, Incoming},
};
use tokio::{sync::oneshot, time::sleep_until};

use super::{
    config::Heartbeat,
    poll::{Fault, Listed, Poll},
};
use crate::door::Seat;

/// For a heartbeat that is faster than this the hub's clock, which counts seconds, is too coarse.
const FINE: Duration = Duration::from_secs(10);
/// How long a connection that is sent away may wait for what it owes.
const LEAVE_PATIENCE: Duration = Duration::from_secs(4);

impl Heartbeat {
    fn is_fast(&self) -> bool {
        self.interval.min(self.timeout) < FINE
    }
}

/// What speaks over Engine.IO.
pub trait Messages: Send + 'static {
    /// Tells how other threads reach the connection.
    fn bind(&mut self, _remote: Remote) {}

    /// Whether another message is welcome now. If not, it is asked again after each event.
    fn takes_input(&self) -> bool {
        true
    }

    /// A text message.
    ///
    /// # Errors
    /// The peer does not speak the protocol: the connection ends.
    fn on_text(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Broken>;

    /// A binary message.
    ///
    /// # Errors
    /// As for text.
    fn on_binary(&mut self, bytes: Cow<'_, [u8]>, cx: &mut Context<'_>) -> Result<(), Broken>;

    /// Something that it asked for or was sent.
    ///
    /// # Errors
    /// How the connection ends.
    fn on_event(&mut self, _event: Event, _cx: &mut Context<'_>) -> Result<(), End> {
        Ok(())
    }

    /// A ping is due, the connection being open for so long.
    ///
    /// # Errors
    /// The peer should have done something by now: the connection ends.
    fn on_ping(&mut self, _open: Duration) -> Result<(), Broken> {
        Ok(())
    }

    /// Whether nobody waits for an answer that is under way.
    fn is_idle(&self) -> bool {
        true
    }

    /// Completes a frame, see [`Session::personalise`].
    fn personalise(&mut self, _channel: &ChannelName, _seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(frame);
    }
}

/// The peer does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer does not speak the protocol, or does not answer: without a word.
    Broken,
    /// In good order: the client comes back.
    GoodBye,
    /// The client has asked for it.
    Asked,
}

impl From<Broken> for End {
    fn from(Broken: Broken) -> Self {
        Self::Broken
    }
}

impl From<PacketError> for Broken {
    fn from(PacketError: PacketError) -> Self {
        Self
    }
}

/// The body of a request, for the connection.
pub(super) struct Body {
    text: Bytes,
    /// Where the next packet begins.
    at: usize,
    /// Whether all of it was taken. Dropped: it was not.
    reply: oneshot::Sender<()>,
}

impl Body {
    /// `text` is UTF-8.
    pub(super) fn new(text: Bytes) -> (Self, oneshot::Receiver<()>) {
        let (reply, taken) = oneshot::channel();
        let body = Self { text, at: 0, reply };
        (body, taken)
    }

    /// Takes the next packet. Each byte is looked at once, however many packets there are.
    fn next(&mut self) -> Option<Bytes> {
        let rest = self.text.get(self.at..)?;
        let is_end = |byte: &u8| *byte == engineio::SEPARATOR as u8;
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let packet = self.text.slice(self.at..self.at + length);
        self.at += length + 1;
        Some(packet)
    }

    fn is_done(&self) -> bool {
        self.at > self.text.len()
    }
}

/// This time has come.
struct Tick(Instant);

/// One connection.
pub(super) struct Connection {
    sid: Box<str>,
    heartbeat: Heartbeat,
    transport: Transport,
    messages: Box<dyn Messages>,
    remote: Option<Remote>,
    opened_at: Instant,
    /// What is due at `due`: a pong if one is waited for, else a ping.
    waits_for_pong: bool,
    due: Instant,
    /// A body that could not be taken as a whole yet.
    body: Option<Body>,
    leaving_since: Option<Instant>,
    /// Of one that began with long-polling.
    listed: Option<Listed>,
    /// Given back with the connection.
    _seat: Seat,
}

enum Transport {
    Polling,
    WebSocket(ws::Decoder),
}

impl Connection {
    /// One over a WebSocket, or if it is `listed` over long-polling. Its client has to answer a ping before `expires`.
    pub(super) fn new(
        sid: &str,
        heartbeat: Heartbeat,
        messages: Box<dyn Messages>,
        listed: Option<Listed>,
        seat: Seat,
    ) -> Self {
        Self {
            sid: sid.into(),
            heartbeat,
            transport: match listed {
                Some(_) => Transport::Polling,
                None => Transport::WebSocket(ws::Decoder::default()),
            },
            messages,
            remote: None,
            opened_at: Instant::now(),
            waits_for_pong: false,
            due: Instant::now(),
            body: None,
            leaving_since: None,
            listed,
            _seat: seat,
        }
    }

    fn polled(&self) -> Option<&Arc<Poll>> {
        match self.transport {
            Transport::Polling => self.listed.as_ref().map(Listed::poll),
            Transport::WebSocket(_) => None,
        }
    }

    // === Packets ===

    fn on_packet(&mut self, packet: Packet<'_>, cx: &mut Context<'_>) -> Result<(), End> {
        match packet {
            Packet::Close => Err(End::Asked),
            // In this version of the protocol the server pings; a client does only when it tries a transport.
            Packet::Ping(_) => Err(End::Broken),
            Packet::Pong => {
                if self.waits_for_pong {
                    self.expect_ping(self.heartbeat.interval, cx);
                }
                Ok(())
            }
            Packet::Text(text) => Ok(self.messages.on_text(text, cx)?),
            Packet::Binary(bytes) => Ok(self.messages.on_binary(bytes, cx)?),
            Packet::Upgrade | Packet::Noop => Ok(()),
        }
    }

    /// Takes what can be taken of the body that is there.
    fn on_body(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        while !body.is_done() {
            if cx.is_full() || !self.messages.takes_input() {
                self.body = Some(body);
                cx.pause();
                return Ok(());
            }
            let piece = body.next().unwrap_or_default();
            let piece = std::str::from_utf8(&piece).map_err(|_| End::Broken)?;
            for packet in engineio::packets(piece) {
                let packet = packet.map_err(Broken::from)?;
                match self.on_packet(packet, cx) {
                    Err(End::Asked) => {
                        // Whoever waits for the body is told before the session ends.
                        let _ = body.reply.send(());
                        return Err(End::Asked);
                    }
                    outcome => outcome?,
                }
            }
        }
        // The request may have been given up.
        let _ = body.reply.send(());
        Ok(())
    }

    // === Time ===

    /// A ping is due after `delay`.
    fn expect_ping(&mut self, delay: Duration, cx: &mut Context<'_>) {
        let now = Instant::now();
        if let Some(poll) = self.polled() {
            poll.put_off(now + delay + self.heartbeat.timeout);
        }
        self.waits_for_pong = false;
        self.wait(delay, cx);
    }

    fn wait(&mut self, delay: Duration, cx: &mut Context<'_>) {
        let due = Instant::now() + delay;
        self.due = due;
        match self.remote.clone() {
            Some(remote) if self.heartbeat.is_fast() => {
                tokio::spawn(async move {
                    sleep_until(due.into()).await;
                    remote.send(Event::Post(Box::new(Tick(due))));
                });
            }
            _ => wake_in(delay, cx),
        }
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let left = self.due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return self.on_time(cx);
        }
        // Longer than the hub waits at once.
        wake_in(left, cx);
        Ok(())
    }

    fn on_time(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if !self.waits_for_pong {
            self.messages.on_ping(self.opened_at.elapsed())?;
            engineio::put_ping(cx.out);
            self.waits_for_pong = true;
            if let Some(poll) = self.polled()
                && !self.heartbeat.is_fast()
            {
                // The hub's clock may have been late.
                poll.put_off(Instant::now() + self.heartbeat.timeout);
            }
            self.wait(self.heartbeat.timeout, cx);
            return Ok(());
        }
        // The ping may stand behind much that the client has not read yet: it is slow, not gone.
        if cx.lagging && self.polled().is_none() {
            self.wait(self.heartbeat.timeout, cx);
            return Ok(());
        }
        Err(End::Broken)
    }

    // === The end ===

    fn end(&mut self, end: End, cx: &mut Context<'_>) {
        match (self.polled(), end) {
            (Some(poll), End::Broken) => poll.abandon(),
            (Some(poll), End::GoodBye) => {
                engineio::put_close(cx.out);
                poll.ending();
            }
            (Some(poll), End::Asked) => {
                // Ends the poll that may be waiting.
                engineio::put_noop(cx.out);
                poll.ending();
            }
            (None, end) => {
                let code = match end {
                    End::Broken => ws::close_code::PROTOCOL,
                    End::GoodBye => ws::close_code::GOING_AWAY,
                    End::Asked => ws::close_code::NORMAL,
                };
                ws::close_frame(code, "", cx.out);
            }
        }
        self.body = None;
        cx.request(Request::Close);
    }

    /// Sends the client away as soon as nothing is owed to it.
    fn leave(&mut self) -> Result<(), End> {
        let since = *self.leaving_since.get_or_insert_with(Instant::now);
        if self.messages.is_idle() || since.elapsed() >= LEAVE_PATIENCE {
            return Err(End::GoodBye);
        }
        Ok(())
    }

    fn on_post(
        &mut self,
        post: Box<dyn std::any::Any + Send>,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        let post = match post.downcast::<Tick>() {
            Ok(tick) if tick.0 == self.due => return self.on_time(cx),
            // What it was for has come meanwhile.
            Ok(_) => return Ok(()),
            Err(post) => post,
        };
        let post = match post.downcast::<Body>() {
            Ok(body) => {
                self.body = Some(*body);
                return self.on_body(cx);
            }
            Err(post) => post,
        };
        match post.downcast::<Fault>().map(|fault| *fault) {
            Ok(Fault::Overlap) => Err(End::GoodBye),
            Ok(Fault::Aborted) => Err(End::Broken),
            Err(post) => {
                self.messages.on_event(Event::Post(post), cx)?;
                self.on_body(cx)
            }
        }
    }
}

impl Session for Connection {
    fn bind(&mut self, remote: Remote) {
        self.remote = Some(remote.clone());
        self.messages.bind(remote);
    }

    fn on_open(&mut self, cx: &mut Context<'_>) {
        let Heartbeat {
            interval,
            timeout,
            max_payload,
        } = self.heartbeat;
        let handshake = engineio::Handshake {
            sid: &self.sid,
            upgradable: matches!(self.transport, Transport::Polling),
            ping_interval_ms: millis(interval),
            ping_timeout_ms: millis(timeout),
            max_payload,
        };
        handshake.put(cx.out);
        // Clients that come together do not answer pings together.
        let first = match self.heartbeat.is_fast() {
            true => interval,
            false => interval.mul_f64(rand::random_range(0.25..=1.0)),
        };
        self.expect_ping(first, cx);
    }

    fn takes_input(&self) -> bool {
        self.messages.takes_input()
    }

    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        if let Err(end) = self.on_body(cx) {
            self.end(end, cx);
            return bytes.len();
        }
        if self.body.is_some() {
            // It came before these bytes.
            return 0;
        }
        let Transport::WebSocket(decoder) = &mut self.transport else {
            return bytes.len();
        };
        let mut consumed = 0;
        // Taken out, so that a message that it holds does not borrow the connection.
        let mut decoder = std::mem::take(decoder);
        loop {
            if cx.is_full() || !self.messages.takes_input() {
                cx.pause();
                break;
            }
            let next = decoder.next(&mut bytes[consumed..], self.heartbeat.max_payload);
            let outcome = match next {
                Ok(None) => break,
                Ok(Some((incoming, taken))) => {
                    consumed += taken;
                    match incoming {
                        Incoming::Text(text) => match Packet::from_text(&text) {
                            Ok(packet) => self.on_packet(packet, cx),
                            Err(PacketError) => Err(End::Broken),
                        },
                        Incoming::Binary(bytes) => self.on_packet(Packet::Binary(bytes), cx),
                        Incoming::Ping(payload) => {
                            ws::pong_frame(payload, cx.out);
                            Ok(())
                        }
                        Incoming::Close(_) => Err(End::Asked),
                        Incoming::Pong | Incoming::Fragment => Ok(()),
                    }
                }
                Err(error) => {
                    ws::close_frame(error.close_code(), "", cx.out);
                    cx.request(Request::Close);
                    return bytes.len();
                }
            };
            if let Err(end) = outcome {
                self.end(end, cx);
                return bytes.len();
            }
        }
        self.transport = Transport::WebSocket(decoder);
        consumed
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let outcome = match event {
            Event::Wake => self.on_wake(cx),
            Event::Post(post) => self.on_post(post, cx),
            Event::Adopted => {
                self.transport = Transport::WebSocket(ws::Decoder::default());
                Ok(())
            }
            // The client comes back, with its positions, and is told what became of them.
            Event::Stalled | Event::Reset => Err(End::GoodBye),
            Event::Drain => self.leave(),
            event => self.messages.on_event(event, cx),
        };
        if let Err(end) = outcome {
            self.end(end, cx);
        }
    }

    fn personalise(&mut self, channel: &ChannelName, seq: Seq, frame: &[u8], out: &mut Vec<u8>) {
        self.messages.personalise(channel, seq, frame, out);
    }
}

/// Has the session woken after `delay`, and at most two seconds later.
fn wake_in(delay: Duration, cx: &mut Context<'_>) {
    let seconds = u32::try_from(delay.as_secs()).unwrap_or(u32::MAX);
    cx.request(Request::Wake {
        seconds: seconds.saturating_add(2),
    });
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_apart_packet_by_packet() {
        let (mut body, _taken) = Body::new("4a\x1e4ü\x1e\x1e4".into());
        let taken: Vec<Bytes> = std::iter::from_fn(|| body.next()).collect();
        assert_eq!(taken, ["4a", "4ü", "", "4"]);
        assert!(body.is_done());
        let (mut empty, _taken) = Body::new(Bytes::new());
        assert!(!empty.is_done());
        assert_eq!(empty.next(), Some(Bytes::new()));
        assert!(empty.is_done());
    }
}
