//! The Centrifuge client protocol in Protobuf: the same commands, replies and pushes as in JSON, in binary frames.
//!
//! Facts: `client.proto` of centrifugal/protocol. A frame holds one or more messages, each preceded by its length as a
//! varint: from a client `Command`s, from the server `Reply`s. An empty message is the server's ping and the client's pong.
//! `data` and `info` are bytes; the log keeps JSON, so here they are JSON texts, and a publish of anything else is refused.
//!
//! | module | subject |
//! | --- | --- |
//! | `reader`, `writer` | the encoding itself |
//! | `command` | what a client asks, borrowed from its frame |
//! | `emulation` | commands that come in a request beside a stream |
//! | `filter` | the filter of a subscribe |
//! | `reply` | what the server says |
//! | `embedded` | what the log keeps as JSON objects and the protocol has as messages |

mod command;
mod embedded;
mod emulation;
mod filter;
mod reader;
mod reply;
mod writer;

pub(super) use command::subs_of_connect;
pub use command::{COMMANDS_MAX, Commands};
pub(super) use embedded::put_client_info;
pub(super) use emulation::parse_emulation;
pub(super) use filter::parse_filter;
pub use reader::ProtobufError;
pub(super) use reply::{
    put_disconnect, put_of_channel, put_publication, put_publication_delta, put_push, put_refresh,
    put_reply, put_subscribed, put_unnumbered, put_unsubscribe,
};

/// A ping from the server, a pong from the client: a message of no bytes, preceded by its length.
pub(super) const PING: &[u8] = &[0];
