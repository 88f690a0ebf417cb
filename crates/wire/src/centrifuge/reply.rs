//! Replies and pushes in JSON: what the server says. Written by hand, because they are concatenations of JSON that is
//! there.

use super::{Answer, ConnectResult, ErrorCode, PresenceResult, SubscribeResult};
use crate::{Epoch, Json, Publication, Seq, put};

/// Appends the reply to the command with number `id`.
pub(super) fn put_reply(id: u32, answer: &Answer<'_>, out: &mut Vec<u8>) {
    Reply { id, out }.answer(answer);
}

/// Writes the reply to one command into a buffer.
struct Reply<'a> {
    id: u32,
    out: &'a mut Vec<u8>,
}

impl<'a> Reply<'a> {
    /// Whatever the answer is.
    fn answer(self, answer: &Answer<'_>) {
        match answer {
            Answer::Error {
                error,
                retry_after_ms,
            } => self.error(*error, *retry_after_ms),
            Answer::Refused { code, message } => self.refused(*code, message),
            Answer::Rpc { data } => self.rpc(*data),
            Answer::Connect(result) => self.connect(result),
            Answer::Subscribe(result) => self.subscribe(result),
            Answer::Unsubscribe => self.empty("unsubscribe"),
            Answer::Publish => self.empty("publish"),
            Answer::History {
                publications,
                head,
                epoch,
            } => self.history(publications, *head, epoch),
            Answer::Presence { members, result } => {
                self.presence(members.iter().copied(), result);
            }
            Answer::PresenceStats {
                clients,
                users,
                degraded,
            } => self.presence_stats(*clients, *users, *degraded),
            Answer::Ping => self.empty("ping"),
            Answer::Refresh { client, ttl } => self.refresh("refresh", client, *ttl),
            Answer::SubRefresh { ttl } => self.refresh("sub_refresh", "", *ttl),
        }
    }

    /// An error, and in how many milliseconds it is worth trying again, if that is known.
    fn error(self, error: ErrorCode, retry_after_ms: Option<u32>) {
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

    /// An error in somebody else's words.
    fn refused(self, code: u32, message: &str) {
        let message = serde_json::Value::from(message);
        put(
            self.out,
            format_args!(
                "{{\"id\":{},\"error\":{{\"code\":{code},\"message\":{message}}}}}",
                self.id
            ),
        );
    }

    /// The answer to a rpc.
    fn rpc(self, data: Option<&Json>) {
        put(self.out, format_args!("{{\"id\":{},\"rpc\":{{", self.id));
        if let Some(data) = data {
            self.out.extend_from_slice(b"\"data\":");
            self.out.extend_from_slice(data.as_bytes());
        }
        self.out.extend_from_slice(b"}}");
    }

    /// An empty result.
    fn empty(self, method: &str) {
        put(
            self.out,
            format_args!("{{\"id\":{},\"{method}\":{{}}}}", self.id),
        );
    }

    /// The answer to a connect.
    fn connect(self, result: &ConnectResult<'_>) {
        put(self.out, format_args!("{{\"id\":{},", self.id));
        put_connect(result, self.out);
        self.out.push(b'}');
    }

    /// The answer to a subscribe.
    fn subscribe(self, result: &SubscribeResult<'_>) {
        put(
            self.out,
            format_args!("{{\"id\":{},\"subscribe\":", self.id),
        );
        put_subscribe(result, self.out);
        self.out.push(b'}');
    }

    /// The answer to a history command.
    fn history(self, publications: &[Publication], head: Seq, epoch: &Epoch) {
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
    fn presence<'m>(
        self,
        members: impl Iterator<Item = (uuid::Uuid, &'m Json)>,
        result: &PresenceResult,
    ) {
        put(self.out, format_args!("{{\"id\":{},\"presence\":", self.id));
        put_presence(members, result, self.out);
        self.out.push(b'}');
    }

    /// The answer to a presence_stats command: connections and users.
    fn presence_stats(self, clients: u64, users: u64, degraded: bool) {
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
    fn refresh(self, method: &str, client: &str, ttl: Option<u32>) {
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
}

/// Appends the member `connect`. The names in it need no escaping: they are identifiers that this server made.
pub(super) fn put_connect(result: &ConnectResult<'_>, out: &mut Vec<u8>) {
    let ConnectResult {
        client,
        version,
        ttl,
        ping,
        pong,
        session,
        time,
        node,
        data,
        subs,
    } = result;
    put(
        out,
        format_args!("\"connect\":{{\"client\":\"{client}\",\"version\":\"{version}\""),
    );
    put_ttl(out, *ttl);
    put_data(out, *data);
    if !subs.is_empty() {
        out.extend_from_slice(b",\"subs\":{");
        for (at, (channel, result)) in subs.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            put(out, format_args!("{comma}\"{channel}\":"));
            put_subscribe(result, out);
        }
        out.push(b'}');
    }
    put(out, format_args!(",\"ping\":{ping}"));
    if *pong {
        out.extend_from_slice(b",\"pong\":true");
    }
    if let Some(session) = session {
        put(out, format_args!(",\"session\":\"{session}\""));
    }
    put(out, format_args!(",\"node\":\"{node}\",\"time\":{time}}}"));
}

/// Appends the result of a subscribe.
pub(super) fn put_subscribe(result: &SubscribeResult<'_>, out: &mut Vec<u8>) {
    let SubscribeResult {
        epoch,
        offset,
        positioned,
        recoverable,
        was_recovering,
        recovered,
        oldest,
        ttl,
        data,
        delta,
    } = result;
    let first = out.len() + 1;
    out.push(b'{');
    if *recoverable {
        out.extend_from_slice(b",\"recoverable\":true");
    }
    if *positioned {
        put(out, format_args!(",\"epoch\":\"{epoch}\""));
    }
    if *positioned && *offset > Seq::ZERO {
        put(out, format_args!(",\"offset\":{offset}"));
    }
    if *recovered == Some(true) {
        out.extend_from_slice(b",\"recovered\":true");
    }
    if *was_recovering {
        out.extend_from_slice(b",\"was_recovering\":true");
    }
    if let Some(oldest) = oldest {
        put(out, format_args!(",\"truncated\":true,\"oldest\":{oldest}"));
    } else if *recovered == Some(false) {
        out.extend_from_slice(b",\"reset\":true");
    }
    put_ttl(out, *ttl);
    put_data(out, *data);
    if *delta {
        out.extend_from_slice(b",\"delta\":true");
    }
    if *positioned {
        out.extend_from_slice(b",\"positioned\":true");
    }
    // No member has one before it.
    if out.get(first) == Some(&b',') {
        out.remove(first);
    }
    out.push(b'}');
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
    put_said_beside(info, tags, out);
}

/// The same with the payload as a string.
pub(super) fn put_message_text(
    data: &Json,
    info: Option<&Json>,
    tags: Option<&Json>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"data\":");
    put_text(data.as_bytes(), out);
    put_said_beside(info, tags, out);
}

fn put_said_beside(info: Option<&Json>, tags: Option<&Json>, out: &mut Vec<u8>) {
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
    put_known_of(publication, out);
    out.push(b'}');
}

/// Appends a publication whose payload is a string: its text, or that of a delta.
pub(super) fn put_publication_text(
    publication: &Publication,
    delta: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"data\":");
    put_text(delta.unwrap_or(publication.data.as_bytes()), out);
    put_known_of(publication, out);
    if delta.is_some() {
        out.extend_from_slice(b",\"delta\":true");
    }
    out.push(b'}');
}

/// Appends what stands in a publication beside its payload.
fn put_known_of(publication: &Publication, out: &mut Vec<u8>) {
    if let Some(info) = &publication.info {
        out.extend_from_slice(b",\"info\":");
        out.extend_from_slice(info.as_bytes());
    }
    put(out, format_args!(",\"offset\":{}", publication.seq));
    if let Some(tags) = &publication.tags {
        out.extend_from_slice(b",\"tags\":");
        out.extend_from_slice(tags.as_bytes());
    }
    put(out, format_args!(",\"time\":{}", publication.time));
}

/// Appends a text as a JSON string.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    // invariant: writing a string to a vector cannot fail
    let _ = serde_json::to_writer(out, &*String::from_utf8_lossy(text));
}

/// Appends until when something holds, as an object.
pub(super) fn put_refresh(ttl: Option<u32>, out: &mut Vec<u8>) {
    match ttl {
        Some(ttl) => put(out, format_args!("{{\"expires\":true,\"ttl\":{ttl}}}")),
        None => out.extend_from_slice(b"{}"),
    }
}

fn put_ttl(out: &mut Vec<u8>, ttl: Option<u32>) {
    if let Some(ttl) = ttl {
        put(out, format_args!(",\"expires\":true,\"ttl\":{ttl}"));
    }
}

fn put_data(out: &mut Vec<u8>, data: Option<&Json>) {
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
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

    fn answered(id: u32, answer: Answer<'_>) -> String {
        written(|out| put_reply(id, &answer, out))
    }

    #[test]
    fn replies_are_what_the_protocol_has() {
        let epoch = Epoch::parse("ep").unwrap();
        let subscribed = |offset, recovered: Option<bool>, oldest| {
            let result = SubscribeResult {
                epoch: &epoch,
                offset: Seq(offset),
                positioned: true,
                recoverable: true,
                was_recovering: recovered.is_some(),
                recovered,
                oldest,
                ttl: None,
                data: None,
                delta: recovered == Some(true),
            };
            answered(2, Answer::Subscribe(result))
        };
        assert_eq!(
            subscribed(0, None, None),
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ep","positioned":true}}"#
        );
        assert_eq!(
            subscribed(7, Some(true), None),
            r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"ep","offset":7,"recovered":true,"was_recovering":true,"delta":true,"positioned":true}}"#
        );
        assert!(
            subscribed(7, Some(false), Some(Seq(4))).contains(r#""truncated":true,"oldest":4"#)
        );
        assert!(subscribed(7, Some(false), None).contains(r#""reset":true"#));
        let without = |ttl| {
            let result = SubscribeResult {
                epoch: &epoch,
                offset: Seq(7),
                positioned: false,
                recoverable: false,
                was_recovering: false,
                recovered: None,
                oldest: None,
                ttl,
                data: None,
                delta: false,
            };
            answered(2, Answer::Subscribe(result))
        };
        assert_eq!(without(None), r#"{"id":2,"subscribe":{}}"#);
        assert_eq!(
            without(Some(9)),
            r#"{"id":2,"subscribe":{"expires":true,"ttl":9}}"#
        );
        assert_eq!(
            answered(
                3,
                Answer::Error {
                    error: errors::BUSY,
                    retry_after_ms: Some(70)
                }
            ),
            r#"{"id":3,"error":{"code":111,"message":"busy: nothing was taken","temporary":true,"retry_after_ms":70}}"#
        );
        assert_eq!(
            answered(3, errors::TOO_MANY_REQUESTS.into()),
            r#"{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}"#
        );
        assert_eq!(
            answered(
                4,
                Answer::History {
                    publications: &[publication(1), publication(2)],
                    head: Seq(2),
                    epoch: &epoch
                }
            ),
            r#"{"id":4,"history":{"publications":[{"data":{"x":1},"offset":1,"time":5},{"data":{"x":1},"offset":2,"time":5}],"epoch":"ep","offset":2}}"#
        );
    }

    #[test]
    fn replies_without_a_position_are_what_the_protocol_has() {
        let connect = ConnectResult {
            client: "c",
            version: "v",
            ttl: Some(60),
            ping: 25,
            pong: true,
            session: Some("s"),
            time: 7,
            node: "n",
            data: None,
            subs: &[],
        };
        let said = Json::parse(b"[1, 2]").unwrap();
        let with_data = ConnectResult {
            client: "c",
            version: "v",
            ttl: None,
            ping: 25,
            pong: true,
            session: None,
            time: 7,
            node: "n",
            data: Some(&said),
            subs: &[],
        };
        let info = Json::parse(br#"{"user":"u","client":"c"}"#).unwrap();
        let degraded = PresenceResult {
            total: Some(9),
            degraded: true,
        };
        let stats = |degraded| Answer::PresenceStats {
            clients: 2,
            users: 1,
            degraded,
        };
        for (answer, text) in [
            (
                Answer::Connect(connect),
                r#""connect":{"client":"c","version":"v","expires":true,"ttl":60,"ping":25,"pong":true,"session":"s","node":"n","time":7}"#,
            ),
            (
                Answer::Connect(with_data),
                r#""connect":{"client":"c","version":"v","data":[1, 2],"ping":25,"pong":true,"node":"n","time":7}"#,
            ),
            (
                Answer::Rpc { data: Some(&said) },
                r#""rpc":{"data":[1, 2]}"#,
            ),
            (Answer::Rpc { data: None }, r#""rpc":{}"#),
            (
                Answer::Refused {
                    code: 403,
                    message: "no \"entry\"\n",
                },
                r#""error":{"code":403,"message":"no \"entry\"\n"}"#,
            ),
            (Answer::Unsubscribe, r#""unsubscribe":{}"#),
            (Answer::Publish, r#""publish":{}"#),
            (Answer::Ping, r#""ping":{}"#),
            (
                Answer::Presence {
                    members: vec![(uuid::Uuid::nil(), &info)],
                    result: degraded,
                },
                r#""presence":{"presence":{"00000000-0000-0000-0000-000000000000":{"user":"u","client":"c"}},"truncated":true,"total":9,"degraded":true}"#,
            ),
            (
                stats(false),
                r#""presence_stats":{"num_clients":2,"num_users":1}"#,
            ),
            (
                stats(true),
                r#""presence_stats":{"num_clients":2,"num_users":1,"degraded":true}"#,
            ),
            (
                Answer::Refresh {
                    client: "c",
                    ttl: None,
                },
                r#""refresh":{"client":"c"}"#,
            ),
            (
                Answer::SubRefresh { ttl: Some(0) },
                r#""sub_refresh":{"client":"","expires":true,"ttl":0}"#,
            ),
        ] {
            assert_eq!(answered(5, answer), format!("{{\"id\":5,{text}}}"));
        }
    }
}
