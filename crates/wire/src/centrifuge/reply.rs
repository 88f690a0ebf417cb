//! Replies and pushes: what the server says. Written by hand, because they are concatenations of JSON that is there.

use crate::{ChannelName, Epoch, Json, Publication, Seq, centrifuge::ErrorCode, put};

/// Writes replies for one command into a buffer.
pub struct Reply<'a> {
    id: u32,
    out: &'a mut Vec<u8>,
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
    /// The server's clock, in milliseconds.
    pub time: i64,
    /// The node's name.
    pub node: &'a str,
}

/// The answer to a subscribe.
#[derive(Debug)]
pub struct SubscribeResult<'a> {
    /// The log's epoch.
    pub epoch: &'a Epoch,
    /// Publications after this number follow.
    pub offset: Seq,
    /// The client may come back with a position.
    pub recoverable: bool,
    /// The client asked to recover, and it was possible (`Some(true)`), or it was not (`Some(false)`).
    pub recovered: Option<bool>,
    /// Why it was not, if retention removed what follows the position: the oldest number that is left.
    pub oldest: Option<Seq>,
    /// Seconds until the subscription expires unless it is refreshed.
    pub ttl: Option<u32>,
}

/// What is said about the members of a channel, beside who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceResult {
    /// How many there are, if not all are listed.
    pub total: Option<u64>,
    /// Only what this node knows, because the shared state does not answer.
    pub degraded: bool,
}

impl<'a> Reply<'a> {
    /// A reply to the command with number `id`.
    pub fn new(id: u32, out: &'a mut Vec<u8>) -> Self {
        Self { id, out }
    }

    /// An error.
    pub fn error(self, error: ErrorCode) {
        self.error_with_retry(error, None);
    }

    /// An error, and in how many milliseconds it is worth trying again, if that is known.
    pub fn error_with_retry(self, error: ErrorCode, retry_after_ms: Option<u32>) {
        let ErrorCode {
            code,
            message,
            temporary,
        } = error;
        let temporary = if temporary { ",\"temporary\":true" } else { "" };
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"error\":{{\"code\":{code},\"message\":\"{message}\"{temporary}",
                self.id
            ),
        );
        if let Some(retry_after_ms) = retry_after_ms {
            put(
                self.out,
                format_args!(",\"retry_after_ms\":{retry_after_ms}"),
            );
        }
        self.out.extend_from_slice(b"}}");
    }

    /// An empty result.
    pub fn empty(self, method: &str) {
        put(
            self.out,
            format_args!("{{\"id\":{},\"{method}\":{{}}}}", self.id),
        );
    }

    /// The answer to a connect. The names in it need no escaping: they are identifiers that this server made.
    pub fn connect(self, result: &ConnectResult<'_>) {
        let ConnectResult {
            client,
            version,
            ttl,
            ping,
            time,
            node,
        } = result;
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"connect\":{{\"client\":\"{client}\",\"version\":\"{version}\"",
                self.id
            ),
        );
        put_ttl(self.out, *ttl);
        put(
            self.out,
            format_args!(",\"ping\":{ping},\"pong\":true,\"node\":\"{node}\",\"time\":{time}}}}}"),
        );
    }

    /// The answer to a subscribe.
    pub fn subscribe(self, result: &SubscribeResult<'_>) {
        let SubscribeResult {
            epoch,
            offset,
            recoverable,
            recovered,
            oldest,
            ttl,
        } = result;
        let recoverable = if *recoverable {
            "\"recoverable\":true,"
        } else {
            ""
        };
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"subscribe\":{{{recoverable}\"epoch\":\"{epoch}\"",
                self.id
            ),
        );
        if *offset > Seq::ZERO {
            put(self.out, format_args!(",\"offset\":{offset}"));
        }
        if *recovered == Some(true) {
            self.out.extend_from_slice(b",\"recovered\":true");
        }
        if recovered.is_some() {
            self.out.extend_from_slice(b",\"was_recovering\":true");
        }
        if let Some(oldest) = oldest {
            put(
                self.out,
                format_args!(",\"truncated\":true,\"oldest\":{oldest}"),
            );
        } else if *recovered == Some(false) {
            self.out.extend_from_slice(b",\"reset\":true");
        }
        put_ttl(self.out, *ttl);
        self.out.extend_from_slice(b",\"positioned\":true}}");
    }

    /// The answer to a history command.
    pub fn history(self, publications: &[Publication], head: Seq, epoch: &Epoch) {
        put(
            self.out,
            format_args!("{{\"id\":{},\"history\":{{\"publications\":[", self.id),
        );
        for (at, publication) in publications.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            put_publication(publication, self.out);
        }
        put(
            self.out,
            format_args!("],\"epoch\":\"{epoch}\",\"offset\":{head}}}}}"),
        );
    }

    /// The answer to a presence command.
    pub fn presence<'m>(
        self,
        members: impl Iterator<Item = (uuid::Uuid, &'m Json)>,
        result: &PresenceResult,
    ) {
        put(self.out, format_args!("{{\"id\":{},\"presence\":", self.id));
        put_presence(members, result, self.out);
        self.out.push(b'}');
    }

    /// The answer to a presence_stats command: connections and users.
    pub fn presence_stats(self, clients: u64, users: u64, degraded: bool) {
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"presence_stats\":{{\"num_clients\":{clients},\"num_users\":{users}",
                self.id
            ),
        );
        put_degraded(degraded, self.out);
        self.out.extend_from_slice(b"}}");
    }

    /// The answer to a refresh (`refresh` or `sub_refresh`).
    pub fn refresh(self, method: &str, client: &str, ttl: Option<u32>) {
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"{method}\":{{\"client\":\"{client}\"",
                self.id
            ),
        );
        put_ttl(self.out, ttl);
        self.out.extend_from_slice(b"}}");
    }

    /// A push that ends a subscription.
    pub fn push_unsubscribe(channel: &ChannelName, (code, reason): (u32, &str), out: &mut Vec<u8>) {
        put(
            out,
            format_args!(
                "{{\"push\":{{\"channel\":\"{channel}\",\"unsubscribe\":{{\"code\":{code},\"reason\":\"{reason}\"}}}}}}"
            ),
        );
    }
}

/// Appends the members of a presence result, with the braces around them.
pub fn put_presence<'a>(
    members: impl Iterator<Item = (uuid::Uuid, &'a Json)>,
    result: &PresenceResult,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"presence\":{");
    for (at, (client, info)) in members.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        put(out, format_args!("{comma}\"{client}\":"));
        out.extend_from_slice(info.as_bytes());
    }
    out.push(b'}');
    if let Some(total) = result.total {
        put(out, format_args!(",\"truncated\":true,\"total\":{total}"));
    }
    put_degraded(result.degraded, out);
    out.push(b'}');
}

fn put_degraded(degraded: bool, out: &mut Vec<u8>) {
    if degraded {
        out.extend_from_slice(b",\"degraded\":true");
    }
}

/// Appends a message that has no number, as the protocol has publications.
pub fn put_message(data: &Json, info: Option<&Json>, tags: Option<&Json>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":");
    out.extend_from_slice(data.as_bytes());
    for (name, json) in [("info", info), ("tags", tags)] {
        if let Some(json) = json {
            put(out, format_args!(",\"{name}\":"));
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
}

/// Appends a publication as the protocol has it.
pub fn put_publication(publication: &Publication, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":");
    out.extend_from_slice(publication.data.as_bytes());
    if let Some(info) = &publication.info {
        out.extend_from_slice(b",\"info\":");
        out.extend_from_slice(info.as_bytes());
    }
    put(out, format_args!(",\"offset\":{}", publication.seq));
    if let Some(tags) = &publication.tags {
        out.extend_from_slice(b",\"tags\":");
        out.extend_from_slice(tags.as_bytes());
    }
    put(out, format_args!(",\"time\":{}}}", publication.time));
}

fn put_ttl(out: &mut Vec<u8>, ttl: Option<u32>) {
    if let Some(ttl) = ttl {
        put(out, format_args!(",\"expires\":true,\"ttl\":{ttl}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{centrifuge::errors, run::tests::publication};

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).expect("valid JSON");
        text
    }

    #[test]
    fn replies_are_what_the_protocol_has() {
        let epoch = Epoch::parse("ep").unwrap();
        let subscribed = |offset, recovered, oldest| {
            let result = SubscribeResult {
                epoch: &epoch,
                offset: Seq(offset),
                recoverable: true,
                recovered,
                oldest,
                ttl: None,
            };
            written(|out| Reply::new(2, out).subscribe(&result))
        };
        assert_eq!(
            subscribed(0, None, None),
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ep","positioned":true}}"#
        );
        assert_eq!(
            subscribed(7, Some(true), None),
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ep","offset":7,"recovered":true,"was_recovering":true,"positioned":true}}"#
        );
        assert!(
            subscribed(7, Some(false), Some(Seq(4))).contains(r#""truncated":true,"oldest":4"#)
        );
        assert!(subscribed(7, Some(false), None).contains(r#""reset":true"#));
        assert_eq!(
            written(|out| Reply::new(3, out).error_with_retry(errors::BUSY, Some(70))),
            r#"{"id":3,"error":{"code":111,"message":"busy: nothing was taken","temporary":true,"retry_after_ms":70}}"#
        );
        assert_eq!(
            written(|out| Reply::new(3, out).error(errors::TOO_MANY_REQUESTS)),
            r#"{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}"#
        );
        assert_eq!(
            written(|out| Reply::new(4, out).history(
                &[publication(1), publication(2)],
                Seq(2),
                &epoch
            )),
            r#"{"id":4,"history":{"publications":[{"data":{"x":1},"offset":1,"time":5},{"data":{"x":1},"offset":2,"time":5}],"epoch":"ep","offset":2}}"#
        );
    }
}
