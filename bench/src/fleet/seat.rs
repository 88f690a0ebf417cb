//! One subscriber: what it says on its connection, and how it checks what it hears.

use std::sync::Arc;

use memchr::memchr;

use crate::clock::SECOND;
use crate::fleet::FleetOptions;
use crate::fleet::recent::{Known, Recent};
use crate::fleet::unnumbered::Unnumbered;
use crate::history::{Event, content_hash};
use crate::latency::Latency;
use crate::link::{Ended, Handler, Outbox};
use crate::protocol::{self, CONNECT_ID, Reply, SUBSCRIBE_ID, SubscribeResult};
use crate::scan::{self, Data, Message};
use crate::verify::{Contents, Step, Stream};

/// Different versions of servers that are kept for the report.
const VERSIONS_MAX: usize = 8;

/// Violations at one client are described up to this length, in characters.
const EXCERPT_CHARS: usize = 160;

/// What the subscribers of one thread share.
#[derive(Debug)]
pub(crate) struct Board {
    /// How they connect, and to what.
    pub(crate) options: Arc<FleetOptions>,
    /// Latencies of what was meant to be sent at `measure_from` or later.
    pub(crate) latency: Latency,
    /// See `latency`; the end of time while nothing is measured.
    pub(crate) measure_from: u64,
    /// See [`crate::fleet::Findings::replay`].
    pub(crate) replay: Latency,
    /// See [`crate::fleet::Findings::rejoin`].
    pub(crate) rejoin: Latency,
    /// Recent publications.
    pub(crate) recent: Recent,
    /// Which message stood under which offset.
    pub(crate) contents: Contents,
    /// Deliveries of any kind.
    pub(crate) delivered: u64,
    /// Violations of any kind.
    pub(crate) violations: u64,
    /// When the first one was seen, and what it was.
    pub(crate) first_violation: Option<(u64, String)>,
    /// Deliveries under an offset that is known to carry another message.
    pub(crate) mismatched: u64,
    /// Messages that could not be read, or were for another channel.
    pub(crate) malformed: u64,
    /// Resubscriptions that went on without a gap.
    pub(crate) recovered: u64,
    /// Resubscriptions that did not.
    pub(crate) unrecovered: u64,
    /// Versions that the servers told.
    pub(crate) versions: Vec<String>,
    /// The epoch that the latest subscription told: one object for as many as possible.
    pub(crate) epoch: Arc<str>,
}

impl Board {
    /// A board for one thread.
    pub(crate) fn new(options: Arc<FleetOptions>) -> Self {
        let channels = options.channels.len();
        Self {
            options,
            latency: Latency::new(),
            measure_from: u64::MAX,
            replay: Latency::new(),
            rejoin: Latency::new(),
            recent: Recent::new(channels),
            contents: Contents::new(channels),
            delivered: 0,
            violations: 0,
            first_violation: None,
            mismatched: 0,
            malformed: 0,
            recovered: 0,
            unrecovered: 0,
            versions: Vec::new(),
            epoch: Arc::from(""),
        }
    }

    fn violate(&mut self, now: u64, describe: impl FnOnce() -> String) {
        self.violations += 1;
        if self.first_violation.is_none() {
            self.first_violation = Some((now, describe()));
        }
    }

    /// Records how long a delivery took. `back` is when the subscriber came back, while it lacks what it missed.
    pub(super) fn measure(&mut self, at: Option<u64>, back: &mut u64, now: u64) {
        let Some(at) = at else { return };
        if at >= self.measure_from {
            self.latency.record(at, now);
        }
        if *back > 0 {
            if at < *back {
                self.replay.record(*back, now);
            } else {
                *back = 0;
            }
        }
    }
}

/// How far a subscriber is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    #[default]
    Waiting,
    /// Connecting or subscribing.
    Joining,
    /// Subscribed.
    Live,
    /// Given up.
    Lost,
}

/// One subscriber's own state.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Its number in the whole fleet.
    pub(crate) number: u32,
    /// Index of its channel.
    pub(crate) channel: u32,
    /// Index of the server it is connected to.
    pub(crate) target: u32,
    /// How far it is.
    pub(crate) stage: Stage,
    /// Connections in a row that failed.
    pub(crate) failures: u32,
    /// What it has received.
    pub(crate) stream: Stream,
    /// The log that its position belongs to; absent before its first subscription.
    pub(crate) epoch: Option<Arc<str>>,
    /// When it last heard anything, in seconds of [`crate::clock`].
    pub(crate) heard: u32,
    /// Seconds between pings of its server; 0 for none.
    pub(crate) ping: u16,
    /// Whether pings are answered.
    pub(crate) pong: bool,
    /// When it came back after a cut, until it has had everything from before that; 0 for never.
    pub(crate) back: u64,
    /// What it keeps of a server that does not number.
    pub(super) unnumbered: Option<Box<Unnumbered>>,
}

/// A seat while its connection is served.
pub(crate) struct Session<'a> {
    /// The subscriber.
    pub(crate) seat: &'a mut Seat,
    /// What it shares.
    pub(crate) board: &'a mut Board,
    /// When the bytes at hand were read.
    pub(crate) now: u64,
}

impl Handler for Session<'_> {
    fn takes_binary(&self) -> bool {
        !self.board.options.dialect.is_numbered()
    }

    fn opened(&mut self, out: &mut Outbox) {
        if !self.board.options.dialect.is_numbered() {
            return self.opened_unnumbered(out);
        }
        let options = &self.board.options;
        let channel = &options.channels[self.seat.channel as usize];
        let position = self
            .seat
            .epoch
            .as_deref()
            .map(|epoch| (self.seat.stream.position(), epoch));
        let connect = protocol::connect_command(options.credentials.connection().as_deref());
        let token = options.credentials.subscription(channel);
        let subscribe = protocol::subscribe_command(channel, token.as_deref(), position);
        out.text(format!("{connect}\n{subscribe}").as_bytes());
    }

    fn read_at(&mut self, now: u64) {
        self.now = now;
        self.seat.heard = (now / SECOND) as u32;
    }

    fn message(&mut self, text: &[u8], out: &mut Outbox) -> Result<(), Ended> {
        if !self.board.options.dialect.is_numbered() {
            return self.frame(text, out);
        }
        let channel = self.seat.channel as usize;
        let mut rest = text;
        while !rest.is_empty() {
            let due = self.seat.stream.position() + 1;
            if self.seat.stage == Stage::Live
                && let Some((length, known)) = self.board.recent.find(channel, due, rest)
            {
                self.seat.stream.accept_next();
                self.board.delivered += 1;
                self.board
                    .measure(known.data.at, &mut self.seat.back, self.now);
                self.record_receive(due, known);
                rest = rest.get(length + 1..).unwrap_or_default();
                continue;
            }
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let object = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if !object.is_empty() {
                self.object(object, out)?;
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    fn object(&mut self, text: &[u8], out: &mut Outbox) -> Result<(), Ended> {
        match scan::message(text) {
            Some(Message::Ping) => {
                if self.seat.pong {
                    out.text(b"{}");
                }
                Ok(())
            }
            Some(Message::Publication(publication)) => {
                let channel = self.seat.channel as usize;
                if publication.channel != self.board.options.channels[channel].as_bytes() {
                    self.malformed(text);
                    return Ok(());
                }
                let known = self.known(publication.data, publication.raw);
                let in_order = self.publication(publication.offset, known);
                if in_order {
                    self.board
                        .recent
                        .remember(channel, publication.offset, known, text);
                }
                Ok(())
            }
            Some(Message::Reply | Message::Push) => self.reply(text),
            None => {
                self.malformed(text);
                Ok(())
            }
        }
    }

    /// What is known of a publication with this data. Nobody looks at the hash unless the run is recorded.
    fn known(&self, data: Data, raw: &[u8]) -> Known {
        let is_recorded = self.board.options.recorder.is_some();
        Known {
            data,
            hash: if is_recorded { content_hash(raw) } else { 0 },
        }
    }

    fn record_receive(&self, offset: u64, known: Known) {
        if let Some(recorder) = &self.board.options.recorder {
            recorder.record(Event::Receive {
                t: self.now,
                c: self.seat.number,
                k: self.seat.channel,
                s: offset,
                n: known.data.n,
                h: known.hash,
            });
        }
    }

    /// Records how a subscription goes on: `event` is told the client and its channel.
    fn record(&self, event: impl FnOnce(u32, u32) -> Event<'static>) {
        if let Some(recorder) = &self.board.options.recorder {
            recorder.record(event(self.seat.number, self.seat.channel));
        }
    }

    pub(super) fn malformed(&mut self, text: &[u8]) {
        self.board.malformed += 1;
        let (number, now) = (self.seat.number, self.now);
        self.board.violate(now, || {
            let excerpt: String = String::from_utf8_lossy(text)
                .chars()
                .take(EXCERPT_CHARS)
                .collect();
            format!("client {number}: a message that cannot be read or is not its own: {excerpt}")
        });
    }

    /// Checks one publication; `true` when it was the one that was due.
    fn publication(&mut self, offset: u64, known: Known) -> bool {
        self.record_receive(offset, known);
        let data = known.data;
        let seat = &mut *self.seat;
        let board = &mut *self.board;
        let before = seat.stream.position();
        let step = seat.stream.accept(offset);
        board.delivered += 1;
        board.measure(data.at, &mut seat.back, self.now);
        let channel = seat.channel as usize;
        if step != Step::Next {
            let name = board.options.channels[channel].clone();
            let number = seat.number;
            board.violate(self.now, || match step {
                Step::Hole { due } => {
                    format!("client {number}, {name}: offset {offset} came where {due} was due (hole or reorder)")
                }
                Step::Late => format!("client {number}, {name}: offset {offset} came after {before} (reorder)"),
                Step::Duplicate => format!("client {number}, {name}: offset {offset} came again after {before}"),
                Step::Next | Step::Unnumbered => format!("client {number}, {name}: a publication without an offset"),
            });
        }
        if let (1.., Some(n)) = (offset, data.n)
            && !board.contents.note(channel, offset, n)
        {
            board.mismatched += 1;
            let name = board.options.channels[channel].clone();
            let number = seat.number;
            board.violate(self.now, || {
                format!("client {number}, {name}: offset {offset} carried message {n}, but another one elsewhere")
            });
        }
        step == Step::Next
    }

    fn reply(&mut self, text: &[u8]) -> Result<(), Ended> {
        let Ok(reply) = serde_json::from_slice::<Reply<'_>>(text) else {
            self.malformed(text);
            return Ok(());
        };
        if let Some(push) = reply.push {
            if let Some(goodbye) = push.disconnect {
                return Err(Ended::Closed {
                    code: goodbye.code,
                    reason: goodbye.reason,
                });
            }
            return match push.unsubscribe {
                Some(goodbye) => Err(Ended::Protocol(format!(
                    "unsubscribed by the server: {} {}",
                    goodbye.code, goodbye.reason
                ))),
                None => Ok(()),
            };
        }
        if let Some(error) = reply.error {
            let what = match reply.id {
                CONNECT_ID => "connect",
                SUBSCRIBE_ID => "subscribe",
                _ => "a command",
            };
            return Err(Ended::Protocol(format!(
                "{what} was refused: {} {}",
                error.code, error.message
            )));
        }
        if let Some(connect) = reply.connect {
            self.seat.ping = connect.ping.min(u64::from(u16::MAX)) as u16;
            self.seat.pong = connect.pong;
            let versions = &mut self.board.versions;
            if !connect.version.is_empty()
                && versions.len() < VERSIONS_MAX
                && !versions.contains(&connect.version)
            {
                versions.push(connect.version);
            }
        }
        if let Some(subscribe) = reply.subscribe {
            self.subscribed(&subscribe);
        }
        Ok(())
    }

    fn record_subscribed(&self, result: &SubscribeResult<'_>) {
        let (t, s) = (self.now, result.offset);
        let epoch = || result.epoch.clone().into();
        match self.seat.epoch.as_deref() {
            None => self.record(|c, k| Event::Subscribe {
                t,
                c,
                k,
                g: epoch(),
                s,
                resumed: false,
            }),
            Some(earlier) if *earlier != *result.epoch => self.record(|c, k| Event::Reset {
                t,
                c,
                k,
                g: epoch(),
                s,
            }),
            Some(_) if result.recovered => self.record(|c, k| Event::Subscribe {
                t,
                c,
                k,
                g: epoch(),
                s: self.seat.stream.position(),
                resumed: true,
            }),
            Some(_) => self.record(|c, k| Event::Truncated { t, c, k, s }),
        }
    }

    fn subscribed(&mut self, result: &SubscribeResult<'_>) {
        if *self.board.epoch != *result.epoch {
            self.board.epoch = Arc::from(result.epoch.as_str());
        }
        let epoch = Arc::clone(&self.board.epoch);
        self.record_subscribed(result);
        let seat = &mut *self.seat;
        let (number, now) = (seat.number, self.now);
        let channel = seat.channel as usize;
        match seat.epoch.replace(epoch) {
            None => {
                seat.stream.begin(result.offset);
                self.board.contents.begin(channel, result.offset);
            }
            Some(earlier) if *earlier != *result.epoch => {
                self.board.unrecovered += 1;
                seat.stream.begin(result.offset);
                self.board.violate(now, || {
                    format!(
                        "client {number}: came back into another log, epoch {} after {earlier}",
                        result.epoch
                    )
                });
            }
            Some(_) if result.recovered => self.board.recovered += 1,
            Some(_) => {
                self.board.unrecovered += 1;
                let position = seat.stream.position();
                seat.stream.skip_to(result.offset);
                self.board.violate(now, || {
                    format!("client {number}: came back at {position} and was not recovered; the head is {}", result.offset)
                });
            }
        }
        seat.stage = Stage::Live;
        seat.failures = 0;
        if seat.back > 0 {
            self.board.rejoin.record(seat.back, now);
        }
        for recovered in &result.publications {
            match scan::data(recovered.data.get().as_bytes()) {
                Some(data) => {
                    let known = self.known(data, recovered.data.get().as_bytes());
                    self.publication(recovered.offset, known);
                }
                None => self.malformed(recovered.data.get().as_bytes()),
            }
        }
    }
}
