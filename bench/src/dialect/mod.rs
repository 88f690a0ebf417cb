//! How the generator speaks to servers of other kinds: the few words of each protocol that a subscriber and a publisher need.
//! Sans-IO: bytes in, bytes out.
//!
//! The Centrifuge protocol, in which positions are checked, is that of [`crate::protocol`]; here is what stands beside it for
//! comparisons. Every dialect is looked at as cheaply as that one, since the generator shares the machine with what it measures.

mod nats;
mod pusher;
mod socketio;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::link::Outbox;
use crate::protocol::quoted;
use crate::publish::response::{self, Answer};
use crate::scan::Data;
use crate::target::{PUBLISH_PATH, WEBSOCKET_PATH};

pub(crate) use self::pusher::App;

/// A protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// Centrifuge in JSON over WebSocket; `POST /api/publish`. Fanfare's and Centrifugo's own.
    #[default]
    Centrifuge,
    /// Socket.IO 4 over WebSocket: the event `subscribe` with the channel is acknowledged, events carry the data first. There is no
    /// way to publish in it; servers of ours take `POST /publish` as Fanfare takes `/api/publish`.
    SocketIo,
    /// Nchan: one WebSocket per channel whose text frames are the data, `POST /pub/CHANNEL` with the data as the body.
    Nchan,
    /// Pusher 7 (Sockudo): channels subscribed to in JSON, `POST /apps/ID/events` with a signature.
    Pusher,
    /// The text protocol of NATS, over WebSocket for subscribers and over TCP for publishers.
    Nats,
}

/// What a subscriber hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// The subscription is confirmed.
    Subscribed,
    /// A message; its data is in here, as it was sent or as a JSON string.
    Message(&'a [u8]),
    /// Nothing that matters, or something that has been answered.
    Nothing,
}

/// What a publisher hears.
#[derive(Debug)]
pub(crate) enum Told {
    /// The outcome of the message that is under way, and whether the connection ends with it.
    Answer(Answer, bool),
    /// To be sent back.
    Say(&'static [u8]),
    /// Nothing that matters.
    Nothing,
}

impl Dialect {
    /// Whether every publication has a position, so that streams are checked by number.
    pub(crate) fn is_numbered(self) -> bool {
        self == Self::Centrifuge
    }

    /// Path of the WebSocket of a subscriber of `channel`, below the server's URL.
    pub(crate) fn path(self, channel: &str) -> String {
        match self {
            Self::Centrifuge => WEBSOCKET_PATH.to_owned(),
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket".to_owned(),
            Self::Nchan => format!("/sub/{channel}"),
            Self::Pusher => format!("/app/{}?protocol=7&client=fanfare-bench", App::KEY),
            Self::Nats => "/".to_owned(),
        }
    }

    /// Whether the handshake alone is the subscription.
    pub(crate) fn subscribes_by_path(self) -> bool {
        self == Self::Nchan
    }

    /// What a subscriber of `channel` says first.
    pub(crate) fn greet(self, channel: &str, out: &mut Outbox) {
        if self == Self::Nats {
            out.text(nats::greeting(channel).as_bytes());
        }
    }

    /// Takes what a server says from the beginning of `bytes`: what it means and how long it was, `None` when more must come.
    /// What has to be answered is answered on `out`.
    ///
    /// # Errors
    /// Why the server refused, or what is not understood.
    pub(crate) fn hear<'a>(
        self,
        channel: &str,
        bytes: &'a [u8],
        out: &mut Outbox,
    ) -> Result<Option<(Heard<'a>, usize)>, String> {
        match self {
            Self::Centrifuge => Err("the Centrifuge protocol is read elsewhere".to_owned()),
            Self::Nchan => Ok(Some((Heard::Message(bytes), bytes.len()))),
            Self::SocketIo => Ok(Some((socketio::hear(channel, bytes, out)?, bytes.len()))),
            Self::Pusher => Ok(Some((pusher::hear(channel, bytes, out)?, bytes.len()))),
            Self::Nats => nats::hear(bytes, out),
        }
    }

    /// What a connection of a publisher says first.
    pub(crate) fn introduce(self) -> &'static [u8] {
        match self {
            Self::Nats => nats::INTRODUCTION,
            Self::Centrifuge | Self::SocketIo | Self::Nchan | Self::Pusher => b"",
        }
    }

    /// The request that publishes `data` to `channel` on `host`, appended to `out`; with a header that opens the server's API, where
    /// it has one. `body` is `{"channel":…,"data":…}` and whatever else there is.
    pub(crate) fn request(
        self,
        out: &mut String,
        to: &Address<'_>,
        channel: &str,
        body: &Body<'_>,
    ) {
        let json = "application/json";
        match self {
            Self::Centrifuge => to.post(out, PUBLISH_PATH, json, body.whole),
            Self::SocketIo => to.post(out, "/publish", json, body.whole),
            Self::Nchan => to.post(out, &format!("/pub/{channel}"), json, body.data),
            Self::Pusher => {
                let text = pusher::event(channel, body.data);
                to.post(out, &App::path(&text, App::now()), json, &text);
            }
            Self::Nats => nats::publish(out, channel, body.data),
        }
    }

    /// Takes what a server says to a publisher from the beginning of `bytes`.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn told(self, bytes: &[u8]) -> Result<Option<(Told, usize)>, &'static str> {
        if self == Self::Nats {
            return nats::told(bytes);
        }
        let Some((response, length)) = response::parse(bytes)? else {
            return Ok(None);
        };
        let answer = match (self, response.status) {
            (Self::Centrifuge, _) => response.answer(),
            (_, 200..=299) => Answer::Acknowledged {
                offset: None,
                epoch: String::new(),
                duplicate: false,
            },
            (_, status @ (429 | 500..)) => Answer::Later(format!("http {status}")),
            (_, status) => Answer::Refused(format!("http {status}")),
        };
        Ok(Some((Told::Answer(answer, response.closes), length)))
    }
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Address<'a> {
    /// What stands before every path.
    pub(crate) base: &'a str,
    /// What goes into the `Host` header.
    pub(crate) host: &'a str,
    /// A whole header with the key of the server's API and its end of line, or nothing.
    pub(crate) key: &'a str,
}

impl Address<'_> {
    fn post(&self, out: &mut String, path: &str, kind: &str, body: &str) {
        use std::fmt::Write;

        // Writing to a string does not fail.
        let _ = write!(
            out,
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.base,
            self.host,
            self.key,
            body.len()
        );
    }
}

/// What is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    /// A JSON object with channel and data, and whatever else there is.
    pub(crate) whole: &'a str,
    /// The data alone.
    pub(crate) data: &'a str,
}

/// Finds what the generator put into a message, wherever in `text` its data is, and also when it is within a JSON string:
/// `{"at":1,"n":2,…`, or `{\"at\":1,\"n\":2,…`.
pub(crate) fn marks(text: &[u8]) -> Option<Data> {
    let begin = memmem::find(text, b"\"at")? + 3;
    let (at, rest) = number(text.get(begin..)?)?;
    // `,"n":` and no more.
    let name = rest.iter().take(4).position(|&byte| byte == b'n')?;
    let (n, _) = number(&rest[name + 1..])?;
    Some(Data {
        at: Some(at),
        n: Some(n),
    })
}

/// The number behind `":` or `\":`, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let begin = text.iter().take(4).position(u8::is_ascii_digit)?;
    let digits = text[begin..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let end = begin + digits.count();
    let value = str::from_utf8(&text[begin..end]).ok()?.parse().ok()?;
    Some((value, &text[end..]))
}

/// The start of what a server said, for an error.
fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(120).collect()
}

/// A channel as a JSON string.
fn name(channel: &str) -> String {
    quoted(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_data_of_any_form() {
        let expected = Some(Data {
            at: Some(123_456_789),
            n: Some(42),
        });
        for text in [
            r#"{"at":123456789,"n":42,"pad":"xx"}"#,
            r#"42["message",{"at":123456789,"n":42,"pad":"xx"},{"channel":"a"},"1-2"]"#,
            r#"{"event":"message","data":"{\"at\":123456789,\"n\":42,\"pad\":\"\"}","channel":"c"}"#,
        ] {
            assert_eq!(marks(text.as_bytes()), expected, "{text}");
        }
        for text in [
            "",
            "hello",
            r#"{"at":}"#,
            r#"{"at":1}"#,
            r#"{"at":1,"pad":"n"}"#,
        ] {
            assert_eq!(marks(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn requests_are_http_with_the_length_of_their_body() {
        let to = Address {
            base: "/base",
            host: "h:1",
            key: "X-API-Key: k\r\n",
        };
        let body = Body {
            whole: r#"{"channel":"c","data":{"at":1}}"#,
            data: r#"{"at":1}"#,
        };
        for (dialect, path, sent) in [
            (Dialect::Centrifuge, "/base/api/publish", body.whole),
            (Dialect::SocketIo, "/base/publish", body.whole),
            (Dialect::Nchan, "/base/pub/c", body.data),
        ] {
            let mut out = String::new();
            dialect.request(&mut out, &to, "c", &body);
            assert!(
                out.starts_with(&format!("POST {path} HTTP/1.1\r\nHost: h:1\r\n")),
                "{out}"
            );
            assert!(out.contains("\r\nX-API-Key: k\r\n"), "{out}");
            let end = format!("Content-Length: {}\r\n\r\n{sent}", sent.len());
            assert!(out.ends_with(&end), "{out}");
        }
    }

    #[test]
    fn other_servers_acknowledge_by_their_status() {
        let told = |dialect: Dialect, status: &str| {
            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            let told = dialect.told(text.as_bytes()).unwrap();
            told.map(|(told, length)| (told, length == text.len()))
        };
        for status in ["200 OK", "201 Created", "202 Accepted"] {
            assert!(matches!(
                told(Dialect::Nchan, status),
                Some((Told::Answer(Answer::Acknowledged { .. }, false), true))
            ));
        }
        assert!(matches!(
            told(Dialect::SocketIo, "503 x"),
            Some((Told::Answer(Answer::Later(_), false), true))
        ));
        assert!(matches!(
            told(Dialect::Pusher, "401 x"),
            Some((Told::Answer(Answer::Refused(_), false), true))
        ));
        assert!(Dialect::Nchan.told(b"HTTP/1.1 200").unwrap().is_none());
    }
}
