//! Commands: what a client asks, in either encoding; and how it stands in JSON.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{FilterText, protobuf::subs_of_connect};

/// One command.
#[derive(Debug)]
pub struct Command<'a> {
    /// The number that the reply carries; 0 for commands without a reply.
    pub id: u32,
    /// What is asked.
    pub method: Method<'a>,
}

/// What a command asks.
#[derive(Debug)]
pub enum Method<'a> {
    /// Introduce the client.
    Connect(ConnectRequest<'a>),
    /// Subscribe to a channel.
    Subscribe(SubscribeRequest<'a>),
    /// End a subscription.
    Unsubscribe(UnsubscribeRequest<'a>),
    /// Publish into a channel.
    Publish(PublishRequest<'a>),
    /// Read a channel's history.
    History(HistoryRequest<'a>),
    /// Who is in a channel?
    Presence(PresenceRequest<'a>),
    /// How many are in a channel?
    PresenceStats(PresenceRequest<'a>),
    /// Is the server there?
    Ping,
    /// A new connection token.
    Refresh(RefreshRequest<'a>),
    /// A new subscription token.
    SubRefresh(SubRefreshRequest<'a>),
    /// A message that expects no reply.
    Send,
    /// An empty object or message: the answer to the server's ping.
    Pong,
    /// Ask the application's backend something.
    Rpc(RpcRequest<'a>),
    /// A command that the protocol does not have.
    Unknown,
}

/// A line that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a command of the Centrifuge client protocol")]
pub struct CommandError;

/// Introduces the client.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConnectRequest<'a> {
    /// A JSON Web Token.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
    /// Something for the application.
    #[serde(borrow)]
    pub data: Payload<'a>,
    /// The name of the client's program.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// Where the client stands in channels that the server subscribes it to. One that only listens names all that it wants to
    /// hear.
    #[serde(borrow)]
    pub subs: Subs<'a>,
}

/// How many are shown to who debugs, at least.
const SHOWN_MAX: usize = 1_000;

/// Subscribe requests in a connect request, by their channels.
pub enum Subs<'a> {
    /// They stood in JSON.
    Json(BTreeMap<String, SubscribeRequest<'a>>),
    /// The connect request in Protobuf, in which they stand. What they take in memory is many times what they take in a frame, so that they
    /// are read when they are known to be wanted.
    Protobuf(&'a [u8]),
}

impl<'a> Subs<'a> {
    /// All of them; if they are more than `count_max`, at least one more than that.
    ///
    /// # Errors
    /// [`CommandError`] if they are not of the protocol's types.
    pub fn read(
        self,
        count_max: usize,
    ) -> Result<BTreeMap<String, SubscribeRequest<'a>>, CommandError> {
        match self {
            Self::Json(subs) => Ok(subs),
            Self::Protobuf(request) => {
                subs_of_connect(request, count_max).map_err(|_| CommandError)
            }
        }
    }
}

/// What they say, in whichever encoding they came.
impl fmt::Debug for Subs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(subs) => subs.fmt(formatter),
            Self::Protobuf(request) => match subs_of_connect(request, SHOWN_MAX) {
                Ok(subs) => subs.fmt(formatter),
                Err(error) => error.fmt(formatter),
            },
        }
    }
}

impl Default for Subs<'_> {
    fn default() -> Self {
        Self::Json(BTreeMap::new())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Subs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::Json)
    }
}

impl<'a> ConnectRequest<'a> {
    /// Parses a request that stands alone, as clients that only listen send it; an empty text or `null` asks for nothing.
    ///
    /// # Errors
    /// [`CommandError`] if it is not a JSON object with members of the protocol's types.
    pub fn parse(text: &'a str) -> Result<Self, CommandError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let request: Option<Self> = serde_json::from_str(text).map_err(|_| CommandError)?;
        Ok(request.unwrap_or_default())
    }
}

/// Subscribes to a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest<'a> {
    /// Which.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// A JSON Web Token for this channel.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
    /// Go on from the position.
    pub recover: bool,
    /// The position's number.
    pub offset: u64,
    /// The position's epoch; empty is not checked.
    #[serde(borrow)]
    pub epoch: Cow<'a, str>,
    /// Something for the application.
    #[serde(borrow)]
    pub data: Payload<'a>,
    /// Be told who joins and leaves.
    pub join_leave: bool,
    /// Take publications as deltas of this kind; empty for whole ones.
    #[serde(borrow)]
    pub delta: Cow<'a, str>,
    /// Which publications are wanted, by their tags.
    #[serde(borrow, rename = "tf")]
    pub filter: FilterText<'a>,
    /// 2: refuse with error 112 rather than begin without recovery.
    pub flag: u64,
    /// The kind of subscription; 0 is the only one that is served.
    #[serde(rename = "type")]
    pub kind: i32,
}

/// Ends a subscription.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnsubscribeRequest<'a> {
    /// Which.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
}

/// Publishes into a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishRequest<'a> {
    /// Which.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// The payload.
    #[serde(borrow)]
    pub data: Payload<'a>,
}

/// Asks the application's backend something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RpcRequest<'a> {
    /// What.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// With what.
    #[serde(borrow)]
    pub data: Payload<'a>,
}

/// What a client wants to publish, or to tell the application.
#[derive(Debug, Default, Clone, Copy)]
pub enum Payload<'a> {
    /// Nothing.
    #[default]
    Missing,
    /// A JSON text.
    Json(&'a RawValue),
    /// Bytes that are no JSON text. Only Protobuf can say such a thing.
    NotJson,
}

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Option::<&RawValue>::deserialize(deserializer)?;
        Ok(raw.map_or(Self::Missing, Self::Json))
    }
}

/// Reads a channel's history.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryRequest<'a> {
    /// Whose.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// At most so many; 0 asks for the position only, -1 for as many as are allowed.
    pub limit: i32,
    /// Behind this position (before it, in reverse).
    #[serde(borrow)]
    pub since: Option<StreamPosition<'a>>,
    /// Newest first.
    pub reverse: bool,
}

/// Asks who, or how many, are in a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PresenceRequest<'a> {
    /// Which.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
}

/// A position on the wire.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StreamPosition<'a> {
    /// The number.
    pub offset: u64,
    /// The epoch; empty is not checked.
    #[serde(borrow)]
    pub epoch: Cow<'a, str>,
}

/// Brings a new connection token.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RefreshRequest<'a> {
    /// A JSON Web Token.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
}

/// Brings a new subscription token.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubRefreshRequest<'a> {
    /// Which.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// A JSON Web Token.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
}

/// The command as it stands on the wire: a number and, of all methods, the one that is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire<'a> {
    pub(super) id: u32,
    #[serde(borrow)]
    pub(super) connect: Option<ConnectRequest<'a>>,
    #[serde(borrow)]
    pub(super) subscribe: Option<SubscribeRequest<'a>>,
    #[serde(borrow)]
    pub(super) unsubscribe: Option<UnsubscribeRequest<'a>>,
    #[serde(borrow)]
    pub(super) publish: Option<PublishRequest<'a>>,
    #[serde(borrow)]
    pub(super) history: Option<HistoryRequest<'a>>,
    pub(super) ping: Option<IgnoredAny>,
    #[serde(borrow)]
    pub(super) refresh: Option<RefreshRequest<'a>>,
    #[serde(borrow)]
    pub(super) sub_refresh: Option<SubRefreshRequest<'a>>,
    pub(super) send: Option<IgnoredAny>,
    #[serde(borrow)]
    pub(super) presence: Option<PresenceRequest<'a>>,
    #[serde(borrow)]
    pub(super) presence_stats: Option<PresenceRequest<'a>>,
    #[serde(borrow)]
    pub(super) rpc: Option<RpcRequest<'a>>,
}

impl<'a> Wire<'a> {
    /// The first member that is there, in this order, names the method.
    pub(super) fn into_method(self) -> Method<'a> {
        let connect = self.connect.map(Method::Connect);
        connect
            .or(self.ping.map(|_| Method::Ping))
            .or(self.subscribe.map(Method::Subscribe))
            .or(self.unsubscribe.map(Method::Unsubscribe))
            .or(self.publish.map(Method::Publish))
            .or(self.history.map(Method::History))
            .or(self.send.map(|_| Method::Send))
            .or(self.refresh.map(Method::Refresh))
            .or(self.sub_refresh.map(Method::SubRefresh))
            .or(self.presence.map(Method::Presence))
            .or(self.presence_stats.map(Method::PresenceStats))
            .or(self.rpc.map(Method::Rpc))
            .unwrap_or(Method::Unknown)
    }
}

impl<'a> Command<'a> {
    /// Parses one line of JSON.
    ///
    /// # Errors
    /// [`CommandError`] if it is not a JSON object with members of the protocol's types.
    pub fn parse(line: &'a str) -> Result<Self, CommandError> {
        if line.trim() == "{}" {
            return Ok(Self {
                id: 0,
                method: Method::Pong,
            });
        }
        let wire: Wire<'a> = serde_json::from_str(line).map_err(|_| CommandError)?;
        Self::new(wire.id, wire.into_method()).ok_or(CommandError)
    }

    /// The command; `None` if it has no number and needs one: only `send` goes without.
    pub(super) fn new(id: u32, method: Method<'a>) -> Option<Self> {
        (id > 0 || matches!(method, Method::Send)).then_some(Self { id, method })
    }
}

/// Takes the next line of a frame that holds something.
pub fn next_command<'a>(rest: &mut &'a str) -> Option<&'a str> {
    while !rest.is_empty() {
        let (line, behind) = rest.split_once('\n').unwrap_or((*rest, ""));
        *rest = behind;
        if !line.trim().is_empty() {
            return Some(line);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_several_commands_is_taken_apart() {
        let frame = concat!(
            r#"{"id":1,"connect":{"name":"js","token":"t","unknown":[1]}}"#,
            "\n",
            r#"{"id":2,"subscribe":{"channel":"c","recover":true,"offset":7,"epoch":"e","recoverable":true}}"#,
            "\n\n{}",
        );
        let mut rest = frame;
        let commands: Vec<_> = std::iter::from_fn(|| next_command(&mut rest))
            .map(|line| Command::parse(line).unwrap())
            .collect();
        let [connect, subscribe, pong] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert!(matches!(&connect.method, Method::Connect(request) if request.token == "t"));
        let Method::Subscribe(request) = &subscribe.method else {
            panic!("{subscribe:?}")
        };
        assert_eq!(
            (
                &*request.channel,
                request.recover,
                request.offset,
                &*request.epoch
            ),
            ("c", true, 7, "e")
        );
        assert_eq!(subscribe.id, 2);
        assert!(matches!(pong.method, Method::Pong));
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        let line = r#"{"id":3,"publish":{"channel":"c","data":{"a" : 1.0}}}"#;
        let Method::Publish(request) = Command::parse(line).unwrap().method else {
            panic!()
        };
        let Payload::Json(data) = request.data else {
            panic!()
        };
        assert_eq!(data.get(), r#"{"a" : 1.0}"#);
    }

    #[test]
    fn who_only_listens_says_where_it_stands() {
        let text = r#"{"token":"t","subs":{"b":{"recover":true,"offset":7,"epoch":"e"},"a":{}}}"#;
        let request = ConnectRequest::parse(text).unwrap();
        assert_eq!(request.token, "t");
        let subs = request.subs.read(2).unwrap();
        let subs: Vec<_> = subs
            .iter()
            .map(|(channel, it)| (&**channel, it.recover, it.offset, &*it.epoch))
            .collect();
        assert_eq!(subs, [("a", false, 0, ""), ("b", true, 7, "e")]);
        for empty in ["", " ", "null", "{}"] {
            let request = ConnectRequest::parse(empty).unwrap();
            assert!(request.subs.read(0).unwrap().is_empty());
        }
        for wrong in ["[", "7", "[]x", r#"{"subs":[1]}"#, r#"{"token":7}"#] {
            assert!(ConnectRequest::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let check = |line: &str, accepted: bool| {
            assert_eq!(Command::parse(line).is_ok(), accepted, "{line}")
        };
        check(r#"{"id":1,"whatever":{}}"#, true);
        check(r#"{"id":1,"publish":{"channel":"c","data":null}}"#, true);
        check(r#"{"id":1,"ping":{"any":[1]}}"#, true);
        check(r#"{"connect":{}}"#, false);
        check(r#"{"id":1,"connect":7}"#, false);
        check(r#"{"id":"1","ping":{}}"#, false);
        check(r#"{"id":1,"subscribe":{"channel":7}}"#, false);
        check("[]", false);
        check("nonsense", false);
    }
}
