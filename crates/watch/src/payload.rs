//! What clients send: parsed once, checked against its bounds, plain data afterwards.

use fanfare_gateway::password::{PASSWORD_CHARS_MAX, Password};
use fanfare_wire::Millis;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    failure::Failure,
    identity::{MemberId, RoomCode},
    playback::MEDIA_TIME_MAX,
    room::{Control, Source},
};

/// Longest event of a client, in bytes.
pub(crate) const EVENT_BYTES_MAX: usize = 64 << 10;
/// Longest name of a guest, in characters.
const GUEST_NAME_CHARS_MAX: usize = 50;
/// Longest name of a room, in characters.
const ROOM_NAME_CHARS_MAX: usize = 100;
/// Longest chat message, in characters.
const CONTENT_CHARS_MAX: usize = 1000;
/// Longest reaction, in characters.
const EMOJI_CHARS_MAX: usize = 10;
/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 64;
/// Most members who are chosen to control.
const CONTROLLERS_MAX: usize = PARTICIPANTS_MAX as usize;
/// Longest signal, in bytes.
const SIGNAL_BYTES_MAX: usize = 32 << 10;
/// Most participants of a room, and how many if nothing is said.
pub(crate) const PARTICIPANTS_MAX: u32 = 250;
const PARTICIPANTS_DEFAULT: u32 = 50;
/// Largest number that JavaScript knows exactly.
const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

/// Reads an event's argument; a missing one is an empty object.
pub(crate) fn parse<T: DeserializeOwned>(argument: Option<&[u8]>) -> Result<T, Failure> {
    let text = match argument {
        None | Some(b"null" | b"") => b"{}",
        Some(text) => text,
    };
    serde_json::from_slice(text).map_err(|error| {
        // The parser's words, without the place in a text that the client never wrote.
        let words = error.to_string();
        let words = words.split(" at line").next().unwrap_or_default();
        Failure::payload(words)
    })
}

/// `POST /watch/rooms`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewRoom {
    pub(crate) name: String,
    max_participants: Option<u32>,
    password: Option<String>,
    playback_control: Option<Control>,
    allow_guest_chat: Option<bool>,
    source: Option<SourceWish>,
}

/// A room that may be made.
#[derive(Debug)]
pub(crate) struct CheckedRoom {
    pub(crate) name: String,
    pub(crate) max_participants: u32,
    pub(crate) password: Option<Password>,
    pub(crate) control: Control,
    pub(crate) guest_chat: bool,
    pub(crate) source: Option<Source>,
}

/// A source, as a URL or with its type.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum SourceWish {
    Url(String),
    Typed {
        #[serde(rename = "type")]
        kind: Option<String>,
        url: String,
        #[serde(rename = "durationMs")]
        duration: Option<f64>,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Join {
    room_code: String,
    password: Option<String>,
    guest_name: Option<String>,
    pub(crate) owner_key: Option<String>,
    pub(crate) since: Option<Since>,
    pub(crate) last_seen_sequence: Option<i64>,
    pub(crate) last_message_id: Option<String>,
}

/// A position in the room's channel.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Since {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Update {
    name: Option<String>,
    pub(crate) playback_control: Option<Control>,
    controllers: Option<Vec<String>>,
    pub(crate) allow_guest_chat: Option<bool>,
    source: Option<SourceWish>,
    #[serde(flatten)]
    pub(crate) how: How,
}

/// What every command may say about how it is to be carried out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct How {
    at_server_time: Option<f64>,
    expected_version: Option<i64>,
    expected_sequence: Option<i64>,
    idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seek {
    target_media_time: f64,
    #[serde(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rate {
    rate: f64,
    #[serde(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Report {
    media_time_ms: f64,
    drift_ms: Option<f64>,
    rtt_ms: Option<f64>,
    pub(crate) is_playing: Option<bool>,
    pub(crate) buffering: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ping {
    pub(crate) client_time: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chat {
    content: String,
    idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing {
    pub(crate) is_typing: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LoadHistory {
    before: Option<f64>,
    pub(crate) before_offset: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reaction {
    emoji: String,
    media_time_ms: f64,
    pub(crate) animation: Option<Animation>,
}

#[derive(Debug, Clone, Copy, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Animation {
    Float,
    Burst,
    Bounce,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Presence {
    pub(crate) status: Status,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    Online,
    Away,
    Busy,
    Invisible,
    Offline,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Respond {
    pub(crate) check_id: String,
    pub(crate) status: Answer,
}

/// An answer to a ready check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Ready,
    NotReady,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signal {
    target_id: String,
    signal: Box<serde_json::value::RawValue>,
}

#[derive(Debug, Deserialize)]
struct SignalKind {
    #[serde(rename = "type")]
    kind: SignalType,
}

#[derive(Debug, Deserialize)]
enum SignalType {
    #[serde(rename = "offer")]
    Offer,
    #[serde(rename = "answer")]
    Answer,
    #[serde(rename = "ice-candidate", alias = "candidate")]
    Candidate,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Speaking {
    pub(crate) is_speaking: bool,
}

impl NewRoom {
    pub(crate) fn check(self) -> Result<CheckedRoom, Failure> {
        let most = self.max_participants.unwrap_or(PARTICIPANTS_DEFAULT);
        if !(1..=PARTICIPANTS_MAX).contains(&most) {
            let words = format!("maxParticipants must be 1 to {PARTICIPANTS_MAX}");
            return Err(Failure::payload(words));
        }
        Ok(CheckedRoom {
            name: text("name", self.name, ROOM_NAME_CHARS_MAX)?,
            max_participants: most,
            password: password(self.password)?,
            control: self.playback_control.unwrap_or(Control::OwnerOnly),
            guest_chat: self.allow_guest_chat.unwrap_or(true),
            source: self.source.map(SourceWish::check).transpose()?,
        })
    }
}

impl SourceWish {
    fn check(self) -> Result<Source, Failure> {
        let (kind, url, duration) = match self {
            Self::Url(url) => (None, url, None),
            Self::Typed {
                kind,
                url,
                duration,
            } => (kind, url, duration),
        };
        let duration = duration
            .map(|duration| millis("source.durationMs", duration, 1, MEDIA_TIME_MAX))
            .transpose()?;
        Source::new(kind.as_deref(), url, duration)
    }
}

impl Join {
    pub(crate) fn code(&self) -> Result<RoomCode, Failure> {
        let words = "roomCode is the 8 letters and digits of a room's code";
        match self.room_code.chars().count() {
            // A code of the right length that cannot be one is the code of no room.
            8 => RoomCode::parse(&self.room_code).ok_or_else(Failure::no_such_room),
            _ => Err(Failure::payload(words)),
        }
    }

    pub(crate) fn password(&self) -> Result<Option<Password>, Failure> {
        password(self.password.clone())
    }

    pub(crate) fn guest_name(&self) -> Result<Option<String>, Failure> {
        let name = self.guest_name.clone();
        name.map(|name| text("guestName", name, GUEST_NAME_CHARS_MAX))
            .transpose()
    }
}

impl Update {
    pub(crate) fn name(&self) -> Result<Option<String>, Failure> {
        let name = self.name.clone();
        name.map(|name| text("name", name, ROOM_NAME_CHARS_MAX))
            .transpose()
    }

    pub(crate) fn controllers(&self) -> Result<Option<Vec<MemberId>>, Failure> {
        let Some(chosen) = &self.controllers else {
            return Ok(None);
        };
        if chosen.len() > CONTROLLERS_MAX {
            let words = format!("controllers holds at most {CONTROLLERS_MAX} oderIds");
            return Err(Failure::payload(words));
        }
        let parsed = chosen.iter().map(|id| MemberId::parse(id));
        let parsed: Option<Vec<_>> = parsed.collect();
        let mut parsed = parsed.ok_or_else(|| Failure::payload("controllers holds oderIds"))?;
        parsed.sort();
        parsed.dedup();
        Ok(Some(parsed))
    }

    pub(crate) fn source(&mut self) -> Result<Option<Source>, Failure> {
        self.source.take().map(SourceWish::check).transpose()
    }
}

impl How {
    pub(crate) fn wish(&self) -> Result<Option<Millis>, Failure> {
        let wish = self.at_server_time;
        wish.map(|time| number("atServerTime", time)).transpose()
    }

    pub(crate) fn expected(&self) -> Option<i64> {
        self.expected_version.or(self.expected_sequence)
    }

    pub(crate) fn key(&self) -> Result<Option<String>, Failure> {
        idempotency_key(self.idempotency_key.as_ref())
    }
}

impl Seek {
    pub(crate) fn target(&self) -> Result<Millis, Failure> {
        millis("targetMediaTime", self.target_media_time, 0, MEDIA_TIME_MAX)
    }
}

impl Rate {
    pub(crate) fn milli(&self) -> Result<i64, Failure> {
        match (0.1..=4.0).contains(&self.rate) {
            // Within 100 to 4000.
            true => Ok((self.rate * 1000.0).round() as i64),
            false => Err(Failure::payload("rate must be 0.1 to 4.0")),
        }
    }
}

impl Report {
    pub(crate) fn media_time(&self) -> Result<Millis, Failure> {
        millis("mediaTimeMs", self.media_time_ms, 0, MEDIA_TIME_MAX)
    }

    pub(crate) fn drift(&self) -> Result<Option<Millis>, Failure> {
        let drift = self.drift_ms;
        drift.map(|drift| number("driftMs", drift)).transpose()
    }

    pub(crate) fn round_trip(&self) -> Result<Option<Millis>, Failure> {
        let trip = self.rtt_ms;
        trip.map(|trip| millis("rttMs", trip, 0, 60_000))
            .transpose()
    }
}

impl Chat {
    pub(crate) fn content(&self) -> Result<String, Failure> {
        let count = self.content.chars().count();
        let is_blank = self.content.trim().is_empty();
        match is_blank || count > CONTENT_CHARS_MAX || self.content.contains('\0') {
            true => Err(Failure::payload(format!(
                "content must be 1 to {CONTENT_CHARS_MAX} characters"
            ))),
            false => Ok(self.content.clone()),
        }
    }

    pub(crate) fn key(&self) -> Result<Option<String>, Failure> {
        idempotency_key(self.idempotency_key.as_ref())
    }
}

impl LoadHistory {
    pub(crate) fn before(&self) -> Result<Option<Millis>, Failure> {
        self.before.map(|time| number("before", time)).transpose()
    }

    pub(crate) fn limit(&self) -> Result<usize, Failure> {
        match self.limit.unwrap_or(50) {
            limit @ 1..=100 => Ok(limit),
            _ => Err(Failure::payload("limit must be 1 to 100")),
        }
    }
}

impl Reaction {
    pub(crate) fn emoji(&self) -> Result<String, Failure> {
        text("emoji", self.emoji.clone(), EMOJI_CHARS_MAX)
    }

    pub(crate) fn media_time(&self) -> Result<Millis, Failure> {
        millis("mediaTimeMs", self.media_time_ms, 0, MEDIA_TIME_MAX)
    }
}

impl Signal {
    pub(crate) fn target(&self) -> Result<MemberId, Failure> {
        MemberId::parse(&self.target_id).ok_or_else(|| Failure::payload("targetId is an oderId"))
    }

    /// The signal as it came.
    pub(crate) fn signal(&self) -> Result<&serde_json::value::RawValue, Failure> {
        if self.signal.get().len() > SIGNAL_BYTES_MAX {
            let words = format!("a signal is at most {SIGNAL_BYTES_MAX} bytes");
            return Err(Failure::payload(words));
        }
        let words = "signal.type must be offer, answer or ice-candidate";
        let kind = serde_json::from_str::<SignalKind>(self.signal.get());
        match kind.map_err(|_| Failure::payload(words))?.kind {
            SignalType::Offer | SignalType::Answer | SignalType::Candidate => Ok(&self.signal),
        }
    }
}

fn password(password: Option<String>) -> Result<Option<Password>, Failure> {
    match password {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) if text.chars().count() > PASSWORD_CHARS_MAX => Err(Failure::payload(format!(
            "password must be at most {PASSWORD_CHARS_MAX} characters"
        ))),
        Some(text) => Ok(Some(Password(text))),
    }
}

fn idempotency_key(key: Option<&String>) -> Result<Option<String>, Failure> {
    let Some(key) = key else { return Ok(None) };
    match (1..=KEY_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
    {
        true => Ok(Some(key.clone())),
        false => Err(Failure::payload(format!(
            "idempotencyKey must be 1 to {KEY_CHARS_MAX} printable ASCII characters without space"
        ))),
    }
}

/// One line of text for people to read.
pub(crate) fn text(field: &str, text: String, chars_max: usize) -> Result<String, Failure> {
    let trimmed = text.trim();
    let fits = (1..=chars_max).contains(&trimmed.chars().count());
    match fits && !trimmed.chars().any(char::is_control) {
        true => Ok(trimmed.to_owned()),
        false => Err(Failure::payload(format!(
            "{field} must be 1 to {chars_max} characters on one line"
        ))),
    }
}

/// A whole number, to the nearest.
fn number(field: &str, number: f64) -> Result<i64, Failure> {
    match number.abs() <= NUMBER_MAX {
        true => Ok(number.round() as i64),
        false => Err(Failure::payload(format!("{field} is out of range"))),
    }
}

fn millis(field: &str, time: f64, min: Millis, max: Millis) -> Result<Millis, Failure> {
    let time = number(field, time)?;
    match (min..=max).contains(&time) {
        true => Ok(time),
        false => Err(Failure::payload(format!(
            "{field} must be {min} to {max} milliseconds"
        ))),
    }
}

#[cfg(test)]
mod tests;
