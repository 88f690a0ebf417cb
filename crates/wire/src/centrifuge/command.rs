//! Commands: what a client asks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

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
    /// An empty object: the answer to the server's ping.
    Pong,
    /// A command of the protocol that this server does not serve: rpc.
    NotServed,
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
    /// Be told who joins and leaves.
    pub join_leave: bool,
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
    pub data: Option<&'a RawValue>,
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

/// The command as it stands on the wire: the first member that is there names the method.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow, default)]
    connect: Option<ConnectRequest<'a>>,
    #[serde(borrow, default)]
    subscribe: Option<SubscribeRequest<'a>>,
    #[serde(borrow, default)]
    unsubscribe: Option<UnsubscribeRequest<'a>>,
    #[serde(borrow, default)]
    publish: Option<PublishRequest<'a>>,
    #[serde(borrow, default)]
    history: Option<HistoryRequest<'a>>,
    #[serde(borrow, default)]
    ping: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refresh: Option<RefreshRequest<'a>>,
    #[serde(borrow, default)]
    sub_refresh: Option<SubRefreshRequest<'a>>,
    #[serde(borrow, default)]
    send: Option<&'a RawValue>,
    #[serde(borrow, default)]
    presence: Option<PresenceRequest<'a>>,
    #[serde(borrow, default)]
    presence_stats: Option<PresenceRequest<'a>>,
    #[serde(borrow, default)]
    rpc: Option<&'a RawValue>,
}

impl<'a> Command<'a> {
    /// Parses one line.
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
        let method = match wire {
            Wire {
                connect: Some(request),
                ..
            } => Method::Connect(request),
            Wire { ping: Some(_), .. } => Method::Ping,
            Wire {
                subscribe: Some(request),
                ..
            } => Method::Subscribe(request),
            Wire {
                unsubscribe: Some(request),
                ..
            } => Method::Unsubscribe(request),
            Wire {
                publish: Some(request),
                ..
            } => Method::Publish(request),
            Wire {
                history: Some(request),
                ..
            } => Method::History(request),
            Wire { send: Some(_), .. } => Method::Send,
            Wire {
                refresh: Some(request),
                ..
            } => Method::Refresh(request),
            Wire {
                sub_refresh: Some(request),
                ..
            } => Method::SubRefresh(request),
            Wire {
                presence: Some(request),
                ..
            } => Method::Presence(request),
            Wire {
                presence_stats: Some(request),
                ..
            } => Method::PresenceStats(request),
            Wire { rpc: Some(_), .. } => Method::NotServed,
            _ => Method::Unknown,
        };
        // Only `send` goes without a number.
        if wire.id == 0 && !matches!(method, Method::Send) {
            return Err(CommandError);
        }
        Ok(Self {
            id: wire.id,
            method,
        })
    }
}

/// The lines of a frame that hold something.
pub fn split_commands(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').filter(|line| !line.trim().is_empty())
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
        let commands: Vec<_> = split_commands(frame)
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
        assert_eq!(request.data.unwrap().get(), r#"{"a" : 1.0}"#);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let check = |line: &str, accepted: bool| {
            assert_eq!(Command::parse(line).is_ok(), accepted, "{line}")
        };
        check(r#"{"id":1,"whatever":{}}"#, true);
        check(r#"{"connect":{}}"#, false);
        check(r#"{"id":1,"connect":7}"#, false);
        check(r#"{"id":"1","ping":{}}"#, false);
        check(r#"{"id":1,"subscribe":{"channel":7}}"#, false);
        check("[]", false);
        check("nonsense", false);
    }
}
