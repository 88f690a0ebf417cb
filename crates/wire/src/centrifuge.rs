//! The Centrifuge client protocol in JSON: commands in, replies and pushes out.
//!
//! Facts: protocol definition of centrifugal/protocol and the behaviour of its server, version 6. One text frame holds
//! one or more JSON objects separated by line feeds. Fields with zero values are omitted. `data` and `info` are embedded
//! JSON. Where this server knows more than the protocol (why a position could not be recovered), it adds fields that
//! clients ignore.

mod command;
mod reply;

pub use command::{
    Command, CommandError, ConnectRequest, HistoryRequest, Method, PresenceRequest, PublishRequest,
    RefreshRequest, StreamPosition, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
    split_commands,
};
pub use reply::{
    ConnectResult, PresenceResult, Reply, SubscribeResult, put_message, put_presence,
    put_publication,
};

use crate::{ChannelName, Epoch, Form, NewsBody, Publication, put, ws};

/// An empty object: a ping from the server, a pong from the client.
pub const PING: &[u8] = b"{}";

/// Error codes of the protocol with their messages. Those from 1001 on are this server's own: the protocol leaves 400 to
/// 1999 to applications, and its clients hand them on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// The number.
    pub code: u32,
    /// Its words.
    pub message: &'static str,
    /// Whether the client should try again.
    pub temporary: bool,
}

/// A reason to close a connection: 3500 to 3999 and 4500 to 4999 tell the client not to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// The WebSocket close code.
    pub code: u16,
    /// The close reason.
    pub reason: &'static str,
}

macro_rules! errors {
    ($($name:ident = $code:literal $message:literal $temporary:literal;)*) => {
        /// The protocol's errors.
        pub mod errors {
            use super::ErrorCode;
            $(
                #[doc = concat!("Code ", $code, ": ", $message, ".")]
                pub const $name: ErrorCode = ErrorCode { code: $code, message: $message, temporary: $temporary };
            )*
        }
    };
}

errors! {
    INTERNAL = 100 "internal server error" true;
    UNAUTHORIZED = 101 "unauthorized" false;
    UNKNOWN_CHANNEL = 102 "unknown channel" false;
    PERMISSION_DENIED = 103 "permission denied" false;
    METHOD_NOT_FOUND = 104 "method not found" false;
    ALREADY_SUBSCRIBED = 105 "already subscribed" false;
    LIMIT_EXCEEDED = 106 "limit exceeded" false;
    BAD_REQUEST = 107 "bad request" false;
    NOT_AVAILABLE = 108 "not available" false;
    TOKEN_EXPIRED = 109 "token expired" false;
    TOO_MANY_REQUESTS = 111 "too many requests" true;
    UNRECOVERABLE_POSITION = 112 "unrecoverable position" false;
    BUSY = 111 "busy: nothing was taken" true;
    UNAVAILABLE = 1001 "the log is not available: nothing was taken" true;
    OUTCOME_UNKNOWN = 1002 "outcome unknown: send it again with the same idempotency key" true;
}

macro_rules! disconnects {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        /// The protocol's reasons to close.
        pub mod disconnects {
            use super::Disconnect;
            $(
                #[doc = concat!("Code ", $code, ": ", $reason, ".")]
                pub const $name: Disconnect = Disconnect { code: $code, reason: $reason };
            )*
        }
    };
}

disconnects! {
    SHUTDOWN = 3001 "shutdown";
    CONNECTION_EXPIRED = 3005 "connection expired";
    SLOW = 3008 "slow";
    INSUFFICIENT_STATE = 3010 "insufficient state";
    NO_PONG = 3012 "no pong";
    INVALID_TOKEN = 3500 "invalid token";
    BAD_REQUEST = 3501 "bad request";
    STALE = 3502 "stale";
}

/// An unsubscribe that the server decides; from 2500 on the client subscribes again.
pub mod unsubscribes {
    /// Code 2500: the server cannot go on from the client's position.
    pub const INSUFFICIENT: (u32, &str) = (2500, "insufficient state");
    /// Code 2501: the subscription has expired.
    pub const EXPIRED: (u32, &str) = (2501, "subscription expired");
}

/// The wire form for Centrifuge clients over WebSocket: one text frame with one push each.
#[derive(Debug, Clone, Copy)]
pub struct WebSocketJson;

/// The same for subscribers that want to be told who joins and leaves.
#[derive(Debug, Clone, Copy)]
pub struct WebSocketJsonJoins;

impl Form for WebSocketJson {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        put_push(channel, "pub", out, |out| put_publication(publication, out));
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        if let NewsBody::Message { data, info, tags } = news {
            put_push(channel, "pub", out, |out| {
                put_message(data, info.as_ref(), tags.as_ref(), out);
            });
        }
    }
}

impl Form for WebSocketJsonJoins {
    fn encode(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        WebSocketJson.encode(channel, epoch, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        let (kind, info) = match news {
            NewsBody::Message { .. } => return WebSocketJson.encode_news(channel, news, out),
            NewsBody::Join { info } => ("join", info),
            NewsBody::Leave { info } => ("leave", info),
        };
        put_push(channel, kind, out, |out| {
            out.extend_from_slice(b"{\"info\":");
            out.extend_from_slice(info.as_bytes());
            out.push(b'}');
        });
    }
}

/// Appends a frame with one push.
fn put_push(
    channel: &ChannelName,
    kind: &str,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    ws::text_frame_with(out, |out| {
        put(
            out,
            format_args!("{{\"push\":{{\"channel\":\"{channel}\",\"{kind}\":"),
        );
        write(out);
        out.extend_from_slice(b"}}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, run::tests::publication};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        let text = out.get(2..).unwrap_or_default().to_vec();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn news_have_no_offset_and_joins_are_for_those_who_asked() {
        let channel = ChannelName::parse("room:1").unwrap();
        let json = |text: &[u8]| Json::parse(text).unwrap();
        let message = NewsBody::Message {
            data: json(b"[1]"),
            info: Some(json(b"{\"user\":\"u\"}")),
            tags: None,
        };
        let pushed = r#"{"push":{"channel":"room:1","pub":{"data":[1],"info":{"user":"u"}}}}"#;
        assert_eq!(
            text(|out| WebSocketJson.encode_news(&channel, &message, out)),
            pushed
        );
        assert_eq!(
            text(|out| WebSocketJsonJoins.encode_news(&channel, &message, out)),
            pushed
        );
        let info = json(b"{\"user\":\"\",\"client\":\"c\"}");
        for (news, kind) in [
            (NewsBody::Join { info: info.clone() }, "join"),
            (NewsBody::Leave { info }, "leave"),
        ] {
            assert_eq!(
                text(|out| WebSocketJson.encode_news(&channel, &news, out)),
                ""
            );
            assert_eq!(
                text(|out| WebSocketJsonJoins.encode_news(&channel, &news, out)),
                format!(
                    r#"{{"push":{{"channel":"room:1","{kind}":{{"info":{{"user":"","client":"c"}}}}}}}}"#
                )
            );
        }
    }

    #[test]
    fn a_publication_is_one_frame() {
        let mut publication = publication(7);
        publication.tags = Some(Json::parse(b"{\"t\":\"1\"}").unwrap());
        let channel = ChannelName::parse("room:1").unwrap();
        let mut out = Vec::new();
        WebSocketJson.encode(
            &channel,
            &Epoch::parse("e").unwrap(),
            &publication,
            &mut out,
        );
        let expected =
            br#"{"push":{"channel":"room:1","pub":{"data":{"x":1},"offset":7,"tags":{"t":"1"},"time":5}}}"#;
        assert_eq!(out[..2], [0x81, u8::try_from(expected.len()).unwrap()]);
        assert_eq!(
            std::str::from_utf8(&out[2..]),
            std::str::from_utf8(expected)
        );
    }
}
