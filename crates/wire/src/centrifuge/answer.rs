//! Answers: what the server says to a command, whatever the encoding.

use uuid::Uuid;

use super::ErrorCode;
use crate::{ChannelName, Epoch, Json, Publication, Seq};

/// The answer to one command.
#[derive(Debug)]
pub enum Answer<'a> {
    /// It was refused.
    Error {
        /// Why.
        error: ErrorCode,
        /// In how many milliseconds it is worth trying again, if that is known.
        retry_after_ms: Option<u32>,
    },
    /// The application's backend has refused it.
    Refused {
        /// Its code.
        code: u32,
        /// Its words.
        message: &'a str,
    },
    /// What the application's backend has answered.
    Rpc {
        /// If it said anything.
        data: Option<&'a Json>,
    },
    /// The client is connected.
    Connect(ConnectResult<'a>),
    /// The subscription has begun.
    Subscribe(SubscribeResult<'a>),
    /// The subscription has ended.
    Unsubscribe,
    /// The publication is committed.
    Publish,
    /// The history of a channel.
    History {
        /// What was asked for.
        publications: &'a [Publication],
        /// The number of the last publication of the channel.
        head: Seq,
        /// The log's epoch.
        epoch: &'a Epoch,
    },
    /// Who is in a channel.
    Presence {
        /// The connections, each with its info.
        members: Vec<(Uuid, &'a Json)>,
        /// What is said beside.
        result: PresenceResult,
    },
    /// How many are in a channel.
    PresenceStats {
        /// Connections.
        clients: u64,
        /// Users.
        users: u64,
        /// Only what this node knows, because the shared state does not answer.
        degraded: bool,
    },
    /// The server is there.
    Ping,
    /// The new connection token was accepted.
    Refresh {
        /// The connection's identity.
        client: &'a str,
        /// Seconds until it expires.
        ttl: Option<u32>,
    },
    /// The new subscription token was accepted.
    SubRefresh {
        /// Seconds until it expires.
        ttl: Option<u32>,
    },
}

impl From<ErrorCode> for Answer<'_> {
    fn from(error: ErrorCode) -> Self {
        Self::Error {
            error,
            retry_after_ms: None,
        }
    }
}

/// The answer to a connect.
#[derive(Debug)]
pub struct ConnectResult<'a> {
    /// The connection's identity.
    pub client: &'a str,
    /// The server's version.
    pub version: &'a str,
    /// Seconds until the connection expires unless it is refreshed.
    pub ttl: Option<u32>,
    /// Seconds between the server's pings.
    pub ping: u32,
    /// The client answers them.
    pub pong: bool,
    /// What commands name that come in requests beside a stream.
    pub session: Option<&'a str>,
    /// The server's clock, in milliseconds.
    pub time: i64,
    /// The node's name.
    pub node: &'a str,
    /// What the application says to the client.
    pub data: Option<&'a Json>,
    /// The subscriptions that the server has begun.
    pub subs: &'a [(ChannelName, SubscribeResult<'a>)],
}

/// The answer to a subscribe.
#[derive(Debug)]
pub struct SubscribeResult<'a> {
    /// The log's epoch.
    pub epoch: &'a Epoch,
    /// Publications after this number follow.
    pub offset: Seq,
    /// The channel has positions. Without them neither epoch nor offset is told.
    pub positioned: bool,
    /// The client may come back with a position.
    pub recoverable: bool,
    /// The client asked to recover.
    pub was_recovering: bool,
    /// It was possible, or what it is given without asking is as good (`Some(true)`); or it was not (`Some(false)`).
    pub recovered: Option<bool>,
    /// Why it was not, if retention removed what follows the position: the oldest number that is left.
    pub oldest: Option<Seq>,
    /// Seconds until the subscription expires unless it is refreshed.
    pub ttl: Option<u32>,
    /// What the application says to the client.
    pub data: Option<&'a Json>,
    /// Publications may be deltas.
    pub delta: bool,
}

/// What is said about the members of a channel, beside who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceResult {
    /// How many there are, if not all are listed.
    pub total: Option<u64>,
    /// Only what this node knows, because the shared state does not answer.
    pub degraded: bool,
}
