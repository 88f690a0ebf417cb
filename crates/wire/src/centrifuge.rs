//! The Centrifuge client protocol: commands in, replies and pushes out, in JSON here and in Protobuf in [`protobuf`].
//!
//! Facts: protocol definition of centrifugal/protocol and the behaviour of its server, version 6. One text frame holds
//! one or more JSON objects separated by line feeds. Fields with zero values are omitted. `data` and `info` are embedded
//! JSON. Where this server knows more than the protocol (why a position could not be recovered), it adds fields that
//! clients ignore.

mod answer;
mod codec;
mod command;
mod deltas;
mod emulation;
mod filter;
pub mod protobuf;
mod pushes;
mod reply;

pub use answer::{Answer, ConnectResult, PresenceResult, SubscribeResult};
pub use codec::{Codec, Dialect, Framing};
pub use command::{
    Command, CommandError, ConnectRequest, HistoryRequest, Method, Payload, PresenceRequest,
    PublishRequest, RefreshRequest, RpcRequest, StreamPosition, SubRefreshRequest, Subs,
    SubscribeRequest, UnsubscribeRequest, next_command,
};
pub use deltas::Deltas;
pub use emulation::{EmulationError, EmulationRequest};
pub use filter::FilterText;
pub use pushes::Pushes;
pub use reply::{put_message, put_presence, put_publication};

/// An empty object: a ping from the server, a pong from the client.
pub(crate) const PING: &[u8] = b"{}";

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
    NOT_JSON = 107 "bad request: data is not a JSON text" false;
    UNKNOWN_DELTA = 107 "bad request: the only kind of delta is fossil" false;
    NOT_AVAILABLE = 108 "not available" false;
    TOKEN_EXPIRED = 109 "token expired" false;
    EXPIRED = 110 "expired" false;
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
            /// The least of the protocol's codes; those below are the transport's.
            pub const CODE_MIN: u16 = 3000;
            $(
                #[doc = concat!("Code ", $code, ": ", $reason, ".")]
                pub const $name: Disconnect = Disconnect { code: $code, reason: $reason };
            )*
        }
    };
}

disconnects! {
    SHUTDOWN = 3001 "shutdown";
    SERVER_ERROR = 3004 "internal server error";
    CONNECTION_EXPIRED = 3005 "connection expired";
    SLOW = 3008 "slow";
    INSUFFICIENT_STATE = 3010 "insufficient state";
    NO_PONG = 3012 "no pong";
    INVALID_TOKEN = 3500 "invalid token";
    BAD_REQUEST = 3501 "bad request";
    STALE = 3502 "stale";
    FORCE_DISCONNECT = 3503 "force disconnect";
    CHANNEL_LIMIT = 3505 "channel limit";
}

/// An unsubscribe that the server decides; from 2500 on the client subscribes again.
pub mod unsubscribes {
    /// Code 2000: the application has ended it.
    pub const SERVER: (u32, &str) = (2000, "server unsubscribe");
    /// Code 2500: the server cannot go on from the client's position.
    pub const INSUFFICIENT: (u32, &str) = (2500, "insufficient state");
    /// Code 2501: the subscription has expired.
    pub const EXPIRED: (u32, &str) = (2501, "subscription expired");
}
