//! The gateway of the simulation: lines of text. It holds what a gateway may hold, nothing else.
//!
//! | in | meaning |
//! | --- | --- |
//! | `sub TAG CHANNEL live`, `sub TAG CHANNEL EPOCH SEQ` | subscribe, live or behind a position |
//! | `unsub CHANNEL` | leave |
//! | `pub TAG CHANNEL DATA` | publish, with the payload's key as idempotency key |
//! | `hist TAG CHANNEL EPOCH AFTER` | read one publication of history |
//! | `ping TAG` | say something |
//!
//! | out | meaning |
//! | --- | --- |
//! | `= CHANNEL SEQ RECOVERY EPOCH TAG` | the subscription stands there |
//! | `! CHANNEL TAG` | no subscription |
//! | `t CHANNEL OLDEST` | retention was faster |
//! | `m CHANNEL SEQ DATA` | a publication |
//! | `n CHANNEL LENGTH DATA` | news of the moment |
//! | `ok TAG SEQ EPOCH`, `no TAG` | a publish is acknowledged, or may be tried again |
//! | `h TAG DATA`, `h TAG -`, `h TAG !` | what history has, that it has nothing, that it cannot be read |
//! | `pong TAG`, `bye` | an answer to ping; the node goes |

use std::sync::{Mutex, PoisonError};

use fanfare_engine::{
    hub::{Context, Event, HistoryQuery, Recovery, Request, Resume, Session, Start, session::Call},
    port::Direction,
};
use fanfare_wire::{ChannelName, Draft, Epoch, Form, FormId, Json, NewsBody, Publication, Seq};
use uuid::Uuid;

use crate::plan::Breach;

/// The only wire form.
pub(crate) const FORM: FormId = FormId(0);

/// What is published last in a channel begins with this.
pub(crate) const LAST: &str = "last";

/// The payload of a message with this key, a JSON string.
pub(crate) fn payload(key: &str, padding: u64) -> String {
    let padding = usize::try_from(padding).unwrap_or(0);
    format!("\"{key}-{}\"", "x".repeat(padding))
}

/// News of this length, a JSON string.
pub(crate) fn news(length: u64) -> String {
    let length = usize::try_from(length).unwrap_or(0);
    format!("\"{}\"", "n".repeat(length))
}

/// The key in a payload.
pub(crate) fn key(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let text = text.trim_matches('"');
    text.split_once('-').map_or(text, |(key, _)| key).to_owned()
}

/// Writes publications, or not quite.
#[derive(Default)]
pub(crate) struct LineForm {
    breach: Option<Breach>,
    /// A frame that waits for the one after it to go first.
    held: Mutex<Vec<u8>>,
}

impl LineForm {
    pub(crate) fn new(breach: Option<Breach>) -> Self {
        Self {
            breach,
            held: Mutex::default(),
        }
    }
}

impl Form for LineForm {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        let seq = publication.seq.0;
        let data = String::from_utf8_lossy(publication.data.as_bytes());
        let frame = format!("m {channel} {seq} {data}\n");
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match self.breach {
            Some(Breach::DropSome) if seq % 100 == 50 => {}
            Some(Breach::DropLast) if key(publication.data.as_bytes()).starts_with(LAST) => {}
            Some(Breach::Swap) if seq % 50 == 25 => *held = frame.into_bytes(),
            Some(Breach::Repeat) if seq % 50 == 25 => {
                out.extend_from_slice(frame.repeat(2).as_bytes());
            }
            Some(Breach::Garble) if seq % 50 == 25 => {
                out.extend_from_slice(format!("m {channel} {seq} \"other-\"\n").as_bytes());
            }
            _ => {
                out.extend_from_slice(frame.as_bytes());
                out.append(&mut held);
            }
        }
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        if let NewsBody::Message { data, .. } = news {
            let data = String::from_utf8_lossy(data.as_bytes());
            let data = data.trim_matches('"');
            out.extend_from_slice(format!("n {channel} {} {data}\n", data.len()).as_bytes());
        }
    }
}

/// One connection.
#[derive(Default)]
pub(crate) struct LineSession;

impl Session for LineSession {
    fn on_open(&mut self, _: &mut Context<'_>) {}

    fn on_bytes(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        while let Some(length) = bytes[consumed..].iter().position(|byte| *byte == b'\n') {
            if cx.is_full() {
                cx.pause();
                break;
            }
            let line = String::from_utf8_lossy(&bytes[consumed..consumed + length]).into_owned();
            consumed += length + 1;
            if command(&line, cx).is_none() {
                cx.request(Request::Close);
            }
        }
        consumed
    }

    fn on_event(&mut self, event: Event, cx: &mut Context<'_>) {
        let line = match event {
            Event::Subscribed {
                tag,
                channel,
                position,
                recovery,
                epoch,
            } => format!(
                "= {channel} {position} {} {} {tag}\n",
                word(recovery),
                epoch.as_str()
            ),
            Event::SubscribeFailed { tag, channel, .. } => format!("! {channel} {tag}\n"),
            Event::Truncated { channel, oldest } => format!("t {channel} {oldest}\n"),
            Event::Published { tag, result } => match result {
                Ok(published) => {
                    format!("ok {tag} {} {}\n", published.seq, published.epoch.as_str())
                }
                Err(_) => format!("no {tag}\n"),
            },
            Event::History { tag, result } => match result {
                Ok(page) => {
                    let first = page.publications.first();
                    let data = first.map(|first| String::from_utf8_lossy(first.data.as_bytes()));
                    format!("h {tag} {}\n", data.as_deref().unwrap_or("-"))
                }
                Err(_) => format!("h {tag} !\n"),
            },
            Event::Wake
            | Event::Recheck
            | Event::Reformed { .. }
            | Event::Post(_)
            | Event::Adopted
            | Event::Presence { .. }
            | Event::PresenceStats { .. } => return,
            Event::Stalled | Event::Drain | Event::Reset => {
                cx.request(Request::Close);
                "bye\n".to_owned()
            }
        };
        cx.out.extend_from_slice(line.as_bytes());
    }
}

fn command(line: &str, cx: &mut Context<'_>) -> Option<()> {
    let mut words = line.splitn(5, ' ');
    let request = match words.next()? {
        "ping" => {
            let tag = words.next()?;
            cx.out.extend_from_slice(format!("pong {tag}\n").as_bytes());
            return Some(());
        }
        "sub" => Request::Subscribe {
            tag: words.next()?.parse().ok()?,
            channel: ChannelName::parse(words.next()?).ok()?,
            start: start(words.next()?, words.next())?,
            form: FORM,
            filter: None,
        },
        "unsub" => Request::Unsubscribe(ChannelName::parse(words.next()?).ok()?),
        "pub" => {
            let tag = words.next()?.parse().ok()?;
            let channel = ChannelName::parse(words.next()?).ok()?;
            let data = words.next()?.as_bytes();
            let mut draft = Draft::new(channel, Uuid::nil(), Json::parse(data).ok()?);
            draft.idempotency_key = Some(key(data));
            Request::Call(Call::Publish { tag, draft })
        }
        "hist" => {
            let tag = words.next()?.parse().ok()?;
            let channel = ChannelName::parse(words.next()?).ok()?;
            let (epoch, after) = (words.next()?, words.next()?);
            let query = HistoryQuery {
                channel,
                since: Some((Epoch::parse(epoch), Seq(after.parse().ok()?))),
                limit: 1,
                direction: Direction::Forward,
            };
            Request::Call(Call::History { tag, query })
        }
        _ => return None,
    };
    cx.request(request);
    Some(())
}

fn start(epoch: &str, seq: Option<&str>) -> Option<Start> {
    let Some(seq) = seq else {
        return Some(Start::Live);
    };
    Some(Start::Resume(Resume {
        epoch: Some(Epoch::parse(epoch)?),
        seq: Seq(seq.parse().ok()?),
        oldest_if_truncated: true,
    }))
}

fn word(recovery: Recovery) -> &'static str {
    match recovery {
        Recovery::NotAsked => "live",
        Recovery::Recovered => "recovered",
        Recovery::Truncated { .. } => "truncated",
        Recovery::Reset => "reset",
    }
}
