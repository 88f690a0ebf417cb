//! The few commands and replies of the Centrifuge JSON protocol that the generator uses.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Id of the connect command of every connection.
pub(crate) const CONNECT_ID: u64 = 1;

/// Id of the subscribe command of every subscriber.
pub(crate) const SUBSCRIBE_ID: u64 = 2;

/// What the generator calls itself.
const CLIENT_NAME: &str = "fanfare-bench";

/// An error of the client protocol or of the server API.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiError {
    /// Code; below 400 the server's own.
    pub(crate) code: u32,
    /// What it means.
    #[serde(default)]
    pub(crate) message: String,
    /// Whether the same may succeed later.
    #[serde(default)]
    pub(crate) temporary: bool,
}

impl ApiError {
    /// Whether trying again is of use.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary || matches!(self.code, 100 | 111 | 113)
    }

    /// Whether a publish that was refused with it may have been committed all the same.
    pub(crate) fn leaves_unknown(&self) -> bool {
        matches!(self.code, 100 | 1002)
    }
}

/// Any message of the server but a publication.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply<'a> {
    /// Id of the command that it answers.
    #[serde(default)]
    pub(crate) id: u64,
    /// Why the command was refused.
    pub(crate) error: Option<ApiError>,
    /// Answer to connect.
    pub(crate) connect: Option<ConnectResult>,
    /// Answer to subscribe.
    #[serde(borrow)]
    pub(crate) subscribe: Option<SubscribeResult<'a>>,
    /// A push that is not a publication.
    pub(crate) push: Option<Push>,
}

/// Answer to connect.
#[derive(Debug, Deserialize)]
pub(crate) struct ConnectResult {
    /// The server's version.
    #[serde(default)]
    pub(crate) version: String,
    /// Seconds between pings of the server; 0 when it sends none.
    #[serde(default)]
    pub(crate) ping: u64,
    /// Whether pings must be answered.
    #[serde(default)]
    pub(crate) pong: bool,
}

/// Answer to subscribe.
#[derive(Debug, Deserialize)]
pub(crate) struct SubscribeResult<'a> {
    /// Position from which the stream goes on.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Identity of the log.
    #[serde(default)]
    pub(crate) epoch: String,
    /// Whether nothing was missed since the position asked for.
    #[serde(default)]
    pub(crate) recovered: bool,
    /// What was missed.
    #[serde(default, borrow)]
    pub(crate) publications: Vec<Recovered<'a>>,
}

/// A publication within the answer to subscribe.
#[derive(Debug, Deserialize)]
pub(crate) struct Recovered<'a> {
    /// Its number; 0 when the server does not number.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Its data.
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
}

/// A push that is not a publication.
#[derive(Debug, Deserialize)]
pub(crate) struct Push {
    /// The server ended the subscription.
    pub(crate) unsubscribe: Option<Goodbye>,
    /// The server ends the connection.
    pub(crate) disconnect: Option<Goodbye>,
}

/// Why something was ended.
#[derive(Debug, Deserialize)]
pub(crate) struct Goodbye {
    /// Code.
    #[serde(default)]
    pub(crate) code: u16,
    /// Reason.
    #[serde(default)]
    pub(crate) reason: String,
}

/// The first command of a connection.
pub(crate) fn connect_command(token: Option<&str>) -> String {
    let mut command = format!(r#"{{"id":{CONNECT_ID},"connect":{{"name":"{CLIENT_NAME}""#);
    if let Some(token) = token {
        command.push_str(r#","token":"#);
        command.push_str(&quoted(token));
    }
    command.push_str("}}");
    command
}

/// Subscribes to a channel, from `position` (offset, epoch) on when there is one.
pub(crate) fn subscribe_command(
    channel: &str,
    token: Option<&str>,
    position: Option<(u64, &str)>,
) -> String {
    let mut command = format!(
        r#"{{"id":{SUBSCRIBE_ID},"subscribe":{{"channel":{}"#,
        quoted(channel)
    );
    if let Some(token) = token {
        command.push_str(r#","token":"#);
        command.push_str(&quoted(token));
    }
    command.push_str(r#","positioned":true,"recoverable":true"#);
    if let Some((offset, epoch)) = position {
        command.push_str(&format!(
            r#","recover":true,"offset":{offset},"epoch":{}"#,
            quoted(epoch)
        ));
    }
    command.push_str("}}");
    command
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_json() {
        let connect: serde_json::Value =
            serde_json::from_str(&connect_command(Some("a.b"))).unwrap();
        assert_eq!(connect["connect"]["token"], "a.b");
        assert_eq!(connect["id"], CONNECT_ID);
        let text = subscribe_command("a\"b", Some("t"), Some((7, "e")));
        let subscribe: serde_json::Value = serde_json::from_str(&text).unwrap();
        let subscribe = &subscribe["subscribe"];
        assert_eq!(subscribe["channel"], "a\"b");
        assert_eq!(subscribe["recover"], true);
        assert_eq!(
            (&subscribe["offset"], &subscribe["epoch"]),
            (&7.into(), &"e".into())
        );
        assert!(!subscribe_command("a", None, None).contains("\"recover\":"));
    }

    #[test]
    fn replies_are_read() {
        let text = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"x","offset":3,"recovered":true,"publications":[{"data":{"n":1},"offset":4}]}}"#;
        let reply: Reply<'_> = serde_json::from_str(text).unwrap();
        let result = reply.subscribe.unwrap();
        assert_eq!(
            (result.offset, result.recovered, result.publications.len()),
            (3, true, 1)
        );
        assert_eq!(result.publications[0].data.get(), r#"{"n":1}"#);
        let reply: Reply<'_> =
            serde_json::from_str(r#"{"id":1,"error":{"code":111,"message":"slow"}}"#).unwrap();
        assert!(reply.error.unwrap().is_temporary());
    }
}
