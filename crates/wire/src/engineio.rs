//! The packets of Engine.IO, protocol 4.
//!
//! On a WebSocket each packet is one frame: a text frame begins with the packet's type, a binary frame is a message. In
//! long-polling many packets share a payload, separated by [`SEPARATOR`], and a binary message is text: `b` and base64.
//!
//! What the server sends is always written as WebSocket frames; [`put_payload`] turns them into a payload.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use thiserror::Error;

use crate::{
    put,
    ws::{self, Outgoing},
};

/// The protocol's number, as clients name it in the query parameter `EIO`.
pub const PROTOCOL: &str = "4";
/// What separates the packets of a payload.
pub const SEPARATOR: char = '\x1e';
/// What a client sends over a new transport to try it, and is answered with.
pub const PROBE: &str = "probe";

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The client ends the connection.
    Close,
    /// A ping: a client sends one only to try a transport.
    Ping(&'a str),
    /// The answer to the server's ping.
    Pong,
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// The connection goes on over this transport.
    Upgrade,
    /// Nothing.
    Noop,
}

/// A text that is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an Engine.IO packet")]
pub struct PacketError;

impl<'a> Packet<'a> {
    /// Reads a text frame.
    ///
    /// # Errors
    /// [`PacketError`] if it is not a packet that a client may send.
    pub fn from_text(text: &'a str) -> Result<Self, PacketError> {
        let mut chars = text.chars();
        let kind = chars.next().ok_or(PacketError)?;
        let rest = chars.as_str();
        match (kind, rest) {
            ('1', "") => Ok(Self::Close),
            ('2', rest) => Ok(Self::Ping(rest)),
            ('3', _) => Ok(Self::Pong),
            ('4', rest) => Ok(Self::Text(rest)),
            ('5', "") => Ok(Self::Upgrade),
            ('6', "") => Ok(Self::Noop),
            _ => Err(PacketError),
        }
    }

    /// Reads one packet of a payload.
    ///
    /// # Errors
    /// [`PacketError`] as above, or if what should be base64 is not.
    fn from_piece(piece: &'a str) -> Result<Self, PacketError> {
        match piece.strip_prefix('b') {
            Some(base64) => {
                let bytes = BASE64_STANDARD.decode(base64).map_err(|_| PacketError)?;
                Ok(Self::Binary(bytes.into()))
            }
            None => Self::from_text(piece),
        }
    }
}

/// The packets of a payload that a client sent.
pub fn packets(payload: &str) -> impl Iterator<Item = Result<Packet<'_>, PacketError>> {
    payload.split(SEPARATOR).map(Packet::from_piece)
}

/// What a connection begins with, for the first packet.
#[derive(Debug, Clone, Copy)]
pub struct Handshake<'a> {
    /// The id of the session.
    pub sid: &'a str,
    /// Whether the client may go on over a WebSocket.
    pub upgradable: bool,
    /// Milliseconds between the server's pings.
    pub ping_interval_ms: u32,
    /// Milliseconds in which they have to be answered.
    pub ping_timeout_ms: u32,
    /// The longest payload or frame that the server takes, in bytes.
    pub max_payload: usize,
}

impl Handshake<'_> {
    /// Appends the first packet as a frame. The sid is plain ASCII.
    pub fn put(&self, out: &mut Vec<u8>) {
        let upgrades = if self.upgradable { "\"websocket\"" } else { "" };
        let Self {
            sid,
            ping_interval_ms,
            ping_timeout_ms,
            max_payload,
            ..
        } = self;
        ws::text_frame_with(out, |out| {
            put(
                out,
                format_args!(
                    "0{{\"sid\":\"{sid}\",\"upgrades\":[{upgrades}],\"pingInterval\":{ping_interval_ms},\
                     \"pingTimeout\":{ping_timeout_ms},\"maxPayload\":{max_payload}}}"
                ),
            );
        });
    }
}

/// Appends a close packet as a frame.
pub fn put_close(out: &mut Vec<u8>) {
    ws::text_frame(b"1", out);
}

/// Appends a ping as a frame.
pub fn put_ping(out: &mut Vec<u8>) {
    ws::text_frame(b"2", out);
}

/// Appends the answer to a client that tries a transport, as a frame.
pub fn put_probe_answer(out: &mut Vec<u8>) {
    ws::text_frame(b"3probe", out);
}

/// Appends a packet that says nothing, as a frame: it ends a poll.
pub fn put_noop(out: &mut Vec<u8>) {
    ws::text_frame(b"6", out);
}

/// Appends a text message, written by `write`, as a frame.
pub fn put_message(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    ws::text_frame_with(out, |out| {
        out.push(b'4');
        write(out);
    });
}

/// Appends a binary message as a frame.
pub fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    ws::binary_frame(bytes, out);
}

/// Appends whole frames as a part of a payload. Frames of the WebSocket protocol itself are left out.
pub fn put_payload(mut frames: &[u8], payload: &mut Vec<u8>) {
    while let Some((frame, taken)) = ws::next_outgoing(frames) {
        frames = &frames[taken..];
        if frame != Outgoing::Control && !payload.is_empty() {
            payload.push(SEPARATOR as u8);
        }
        match frame {
            Outgoing::Text(text) => payload.extend_from_slice(text),
            Outgoing::Binary(bytes) => {
                payload.push(b'b');
                payload.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
            }
            Outgoing::Control => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_read_by_their_type() {
        let read = |text| Packet::from_text(text);
        assert_eq!(read("1"), Ok(Packet::Close));
        assert_eq!(read("2probe"), Ok(Packet::Ping(PROBE)));
        assert_eq!(read("3"), Ok(Packet::Pong));
        assert_eq!(read("42[\"ü\"]"), Ok(Packet::Text("2[\"ü\"]")));
        assert_eq!(read("5"), Ok(Packet::Upgrade));
        for bad in ["", "0{}", "7", "abc", "ü", "bAQID", "1x"] {
            assert_eq!(read(bad), Err(PacketError), "{bad:?}");
        }
    }

    #[test]
    fn a_payload_holds_packets_of_both_kinds() {
        let read: Vec<_> = packets("4hello\x1ebAQIDBA==\x1e3").collect();
        let binary = Packet::Binary(vec![1, 2, 3, 4].into());
        assert_eq!(
            read,
            [Ok(Packet::Text("hello")), Ok(binary), Ok(Packet::Pong)]
        );
        assert_eq!(packets("b=").next(), Some(Err(PacketError)));
        assert_eq!(packets("").next(), Some(Err(PacketError)));
    }

    #[test]
    fn a_handshake_says_what_clients_look_for() {
        let mut out = Vec::new();
        Handshake {
            sid: "abc",
            upgradable: true,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: 1_000_000,
        }
        .put(&mut out);
        let mut payload = Vec::new();
        put_payload(&out, &mut payload);
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_payload_or_is_refused(text in ".{0,64}") {
            packets(&text).for_each(drop);
        }

        #[test]
        fn messages_pass_through_a_payload_unchanged(
            texts in prop::collection::vec("[^\x1e]{0,300}", 1..5),
            binaries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        ) {
            let mut frames = Vec::new();
            for text in &texts {
                put_message(&mut frames, |out| out.extend_from_slice(text.as_bytes()));
            }
            for binary in &binaries {
                put_binary(binary, &mut frames);
            }
            ws::close_frame(1000, "", &mut frames);
            let mut payload = Vec::new();
            put_payload(&frames, &mut payload);
            let payload = String::from_utf8(payload).unwrap();
            let read: Vec<Packet<'_>> = packets(&payload).map(Result::unwrap).collect();
            let expected = texts.iter().map(|text| Packet::Text(text));
            let expected = expected.chain(binaries.iter().map(|it| Packet::Binary(it.into())));
            prop_assert_eq!(read, expected.collect::<Vec<_>>());
        }
    }
}
