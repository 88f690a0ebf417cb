//! How a client is spoken to: the two encodings of the protocol and the framings of its transports behind one face, so that a
//! session says the same whichever its client has chosen.

use super::{Answer, PING, SubscribeResult, disconnects, protobuf, reply};
use crate::{ChannelName, put, ws};

/// An encoding of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// JSON objects.
    Json,
    /// Messages of Protocol Buffers, each preceded by its length.
    Protobuf,
}

/// How one message is told from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// In frames of a WebSocket: text for JSON, binary for Protobuf.
    WebSocket,
    /// In the body of a response: each object of JSON on a line of its own, messages of Protobuf one behind the other.
    Stream,
    /// As server-sent events, in JSON.
    Events,
}

/// Everything about the form of what is said to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The encoding.
    pub codec: Codec,
    /// The framing.
    pub framing: Framing,
    /// The client only listens: it gets bare pushes, in JSON, and no replies.
    pub one_way: bool,
}

impl Dialect {
    /// The dialect of clients with a WebSocket.
    #[must_use]
    pub const fn websocket(codec: Codec) -> Self {
        Self {
            codec,
            framing: Framing::WebSocket,
            one_way: false,
        }
    }

    /// The dialect of clients with a stream for what they hear, whose commands come in requests beside it.
    #[must_use]
    pub const fn stream(codec: Codec, framing: Framing) -> Self {
        Self {
            codec,
            framing,
            one_way: false,
        }
    }

    /// The dialect of clients that only listen.
    #[must_use]
    pub const fn one_way(framing: Framing) -> Self {
        Self {
            codec: Codec::Json,
            framing,
            one_way: true,
        }
    }

    /// Appends the reply to the command with number `id`. Who only listens is told of its connection, in a push, and of
    /// nothing else.
    pub fn reply(self, id: u32, answer: &Answer<'_>, out: &mut Vec<u8>) {
        match (self.one_way, answer) {
            (false, _) => self.frame(
                out,
                |out| reply::put_reply(id, answer, out),
                |out| protobuf::put_reply(id, answer, out),
            ),
            (true, Answer::Connect(result)) => {
                self.push(out, |out| reply::put_connect(result, out), |_| ());
            }
            (true, _) => {}
        }
    }

    /// Appends a push that says that the server has subscribed the client, and where that begins.
    pub fn push_subscribe(
        self,
        channel: &ChannelName,
        result: &SubscribeResult<'_>,
        out: &mut Vec<u8>,
    ) {
        self.push(
            out,
            |out| {
                put(
                    out,
                    format_args!("\"channel\":\"{channel}\",\"subscribe\":"),
                );
                reply::put_subscribe(result, out);
            },
            |out| protobuf::put_subscribed(channel, result, out),
        );
    }

    /// Appends a push that says in how many seconds the connection expires; `None`: not at all.
    pub fn push_refresh(self, ttl: Option<u32>, out: &mut Vec<u8>) {
        self.push(
            out,
            |out| {
                out.extend_from_slice(b"\"refresh\":");
                reply::put_refresh(ttl, out);
            },
            |out| protobuf::put_refresh(ttl, out),
        );
    }

    /// Appends a push that ends a subscription, with its code and reason.
    pub fn push_unsubscribe(
        self,
        channel: &ChannelName,
        (code, reason): (u32, &str),
        out: &mut Vec<u8>,
    ) {
        self.push(
            out,
            |out| {
                put(
                    out,
                    format_args!(
                        "\"channel\":\"{channel}\",\"unsubscribe\":{{\"code\":{code},\"reason\":\"{reason}\"}}"
                    ),
                );
            },
            |out| protobuf::put_unsubscribe(channel, (code, reason), out),
        );
    }

    /// Appends the last words of a connection: a push, where the transport cannot say it or the client only listens, and the
    /// close frame of a WebSocket. What is wrong with frames is no matter of the protocol, and told in the close frame alone.
    pub fn end(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        let is_websocket = self.framing == Framing::WebSocket;
        let is_said = code >= disconnects::CODE_MIN && (self.one_way || !is_websocket);
        if is_said {
            self.push(
                out,
                |out| {
                    // An application's words, perhaps.
                    let reason = serde_json::Value::from(reason);
                    put(
                        out,
                        format_args!("\"disconnect\":{{\"code\":{code},\"reason\":{reason}}}"),
                    );
                },
                |out| protobuf::put_disconnect(code, reason, out),
            );
        }
        if is_websocket {
            ws::close_frame(code, reason, out);
        }
    }

    /// Appends a ping: an empty object, or an empty message, which the client answers with the same. One that only listens
    /// does not; its WebSocket is sent a ping of its own, which it answers by itself.
    pub fn ping(self, out: &mut Vec<u8>) {
        self.frame(
            out,
            |out| out.extend_from_slice(PING),
            |out| out.extend_from_slice(protobuf::PING),
        );
        if self.one_way && self.framing == Framing::WebSocket {
            ws::ping_frame(out);
        }
    }

    /// Appends a push. `json` writes its members without the braces, `protobuf` its fields.
    pub(super) fn push(
        self,
        out: &mut Vec<u8>,
        json: impl FnOnce(&mut Vec<u8>),
        protobuf: impl FnOnce(&mut Vec<u8>),
    ) {
        let (before, after): (&[u8], &[u8]) = match self.one_way {
            true => (b"{", b"}"),
            false => (b"{\"push\":{", b"}}"),
        };
        self.frame(
            out,
            |out| {
                out.extend_from_slice(before);
                json(out);
                out.extend_from_slice(after);
            },
            |out| protobuf::put_push(out, protobuf),
        );
    }

    /// Appends one message, in its frame.
    fn frame(
        self,
        out: &mut Vec<u8>,
        json: impl FnOnce(&mut Vec<u8>),
        protobuf: impl FnOnce(&mut Vec<u8>),
    ) {
        match (self.framing, self.codec) {
            (Framing::WebSocket, Codec::Json) => ws::text_frame_with(out, json),
            (Framing::WebSocket, Codec::Protobuf) => ws::binary_frame_with(out, protobuf),
            (Framing::Stream, Codec::Json) => {
                json(out);
                out.push(b'\n');
            }
            (Framing::Stream, Codec::Protobuf) => protobuf(out),
            // Events are text: Protobuf is not served in them.
            (Framing::Events, _) => {
                out.extend_from_slice(b"data: ");
                json(out);
                out.extend_from_slice(b"\n\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Epoch, Json, Seq,
        centrifuge::{ConnectResult, errors},
    };

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn each_transport_has_its_framing() {
        let reply = |dialect: Dialect| written(|out| dialect.reply(3, &Answer::Publish, out));
        let json = br#"{"id":3,"publish":{}}"#;
        let lines = Dialect::stream(Codec::Json, Framing::Stream);
        assert_eq!(reply(lines), [&json[..], b"\n"].concat());
        let events = Dialect::stream(Codec::Json, Framing::Events);
        assert_eq!(reply(events), [b"data: ", &json[..], b"\n\n"].concat());
        let websocket = reply(Dialect::websocket(Codec::Json));
        assert_eq!(websocket[2..], json[..]);
        let protobuf = Dialect::stream(Codec::Protobuf, Framing::Stream);
        assert_eq!(reply(protobuf), b"\x04\x08\x03\x42\x00");
        assert_eq!(written(|out| lines.ping(out)), b"{}\n");
        assert_eq!(written(|out| events.ping(out)), b"data: {}\n\n");
        assert_eq!(written(|out| protobuf.ping(out)), b"\0");
    }

    #[test]
    fn the_end_is_a_push_where_there_is_no_close_frame() {
        let end = |dialect: Dialect| written(|out| dialect.end(3001, "shutdown", out));
        let push = br#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#;
        let lines = Dialect::stream(Codec::Json, Framing::Stream);
        assert_eq!(end(lines), [&push[..], b"\n"].concat());
        let protobuf = end(Dialect::stream(Codec::Protobuf, Framing::Stream));
        assert_eq!(
            protobuf,
            b"\x11\x22\x0f\x5a\x0d\x08\xb9\x17\x12\x08shutdown"
        );
        let close = end(Dialect::websocket(Codec::Json));
        assert_eq!(close, b"\x88\x0a\x0b\xb9shutdown");
        let quoting = written(|out| lines.end(4000, "say \"please\"", out));
        let push = br#"{"push":{"disconnect":{"code":4000,"reason":"say \"please\""}}}"#;
        assert_eq!(quoting, [&push[..], b"\n"].concat());
        let both = end(Dialect::one_way(Framing::WebSocket));
        let bare = br#"{"disconnect":{"code":3001,"reason":"shutdown"}}"#;
        assert_eq!(both[2..], [&bare[..], &close].concat());
    }

    #[test]
    fn what_the_server_does_by_itself_is_pushed() {
        let channel = ChannelName::parse("a").unwrap();
        let epoch = Epoch::parse("ep").unwrap();
        let said = Json::parse(b"[1]").unwrap();
        let result = |recovered: Option<bool>, oldest| SubscribeResult {
            epoch: &epoch,
            offset: Seq(7),
            recoverable: true,
            was_recovering: recovered.is_some(),
            recovered,
            oldest,
            ttl: None,
            data: Some(&said),
            positioned: true,
            delta: false,
        };
        let lines = Dialect::stream(Codec::Json, Framing::Stream);
        let pushed = |dialect: Dialect, recovered, oldest| {
            written(|out| dialect.push_subscribe(&channel, &result(recovered, oldest), out))
        };
        let push = r#"{"push":{"channel":"a","subscribe":{"recoverable":true,"epoch":"ep","offset":7,"data":[1],"positioned":true}}}"#;
        assert_eq!(pushed(lines, None, None), [push.as_bytes(), b"\n"].concat());
        let bare = pushed(Dialect::one_way(Framing::Stream), Some(false), Some(Seq(4)));
        let bare = String::from_utf8(bare).unwrap();
        assert!(
            bare.starts_with(r#"{"channel":"a","subscribe":{"#),
            "{bare}"
        );
        assert!(bare.contains(r#""truncated":true,"oldest":4"#), "{bare}");
        let protobuf = Dialect::stream(Codec::Protobuf, Framing::Stream);
        assert_eq!(
            pushed(protobuf, Some(true), None),
            b"\x16\x22\x14\x12\x01a\x4a\x0f\x08\x01\x22\x02ep\x28\x07\x30\x01\x3a\x03[1]"
        );
        let truncated = pushed(protobuf, Some(false), Some(Seq(4)));
        assert!(truncated.ends_with(b"[1]\xc8\x3e\x01\xd0\x3e\x04"));
        let refresh = |dialect: Dialect, ttl| written(|out| dialect.push_refresh(ttl, out));
        let one_way = Dialect::one_way(Framing::Stream);
        assert_eq!(
            refresh(one_way, Some(9)),
            b"{\"refresh\":{\"expires\":true,\"ttl\":9}}\n"
        );
        assert_eq!(refresh(one_way, None), b"{\"refresh\":{}}\n");
        assert_eq!(
            refresh(protobuf, Some(9)),
            b"\x08\x22\x06\x62\x04\x08\x01\x10\x09"
        );
    }

    #[test]
    fn who_only_listens_is_told_of_its_connection_in_a_push_and_has_no_replies() {
        let dialect = Dialect::one_way(Framing::Stream);
        let result = ConnectResult {
            client: "c",
            version: "v",
            ttl: None,
            ping: 25,
            pong: false,
            session: None,
            time: 7,
            node: "n",
            data: None,
            subs: &[],
        };
        let text = written(|out| dialect.reply(0, &Answer::Connect(result), out));
        let expected = "{\"connect\":{\"client\":\"c\",\"version\":\"v\",\"ping\":25,\"node\":\"n\",\"time\":7}}\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!(written(|out| dialect.reply(0, &Answer::Ping, out)), b"");
        let error = errors::INTERNAL.into();
        assert_eq!(written(|out| dialect.reply(0, &error, out)), b"");
    }
}
