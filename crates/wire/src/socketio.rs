//! The packets of Socket.IO, protocol 5, as they stand in the text messages of Engine.IO.
//!
//! ```text
//! type [attachments "-"] [namespace ","] [ack id] [JSON]
//! ```
//! Binary attachments follow as binary messages; in the JSON, `{"_placeholder":true,"num":0}` stands for the first of them.
//!
//! [`form`] has the wire forms of publications, [`seen`] the text in which a client carries how far it has read.

pub mod form;
pub mod seen;

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{engineio, put};

/// Binary attachments of one packet; the official parser takes as many.
pub const ATTACHMENTS_MAX: usize = 10;
/// Arguments of one packet from a client.
pub const ARGS_MAX: usize = 64;
/// Longest name of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;
/// Longest name of an event, in bytes.
pub const EVENT_BYTES_MAX: usize = 128;
/// The namespace that is not named in packets.
pub const MAIN: &str = "/";

/// Names that clients keep for themselves; an event of such a name breaks their connection.
const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// Whether an event may have this name.
#[must_use]
pub fn is_event_name(name: &str) -> bool {
    name.len() <= EVENT_BYTES_MAX && !RESERVED.contains(&name)
}

/// A packet from a client. Its attachments come in messages of their own.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The namespace; begins with `/`.
    pub namespace: &'a str,
    /// What it says.
    pub body: Body<'a>,
}

/// What a packet from a client says.
#[derive(Debug)]
pub enum Body<'a> {
    /// The client enters the namespace, with a JSON object if it has something to say.
    Connect(Option<&'a RawValue>),
    /// It leaves.
    Disconnect,
    /// An event.
    Event {
        /// Its name.
        name: String,
        /// Its arguments.
        args: Vec<&'a RawValue>,
        /// The client waits for an acknowledgement under this number.
        id: Option<u64>,
        /// So many binary messages follow.
        attachments: usize,
    },
    /// The acknowledgement of an event of the server's.
    Ack {
        /// The number.
        id: u64,
        /// What it answers.
        args: Vec<&'a RawValue>,
        /// So many binary messages follow.
        attachments: usize,
    },
}

/// Why a text is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PacketError {
    /// The type, the number of attachments, the namespace or the number of the acknowledgement.
    #[error("not a Socket.IO packet")]
    Head,
    /// The JSON does not fit the type.
    #[error("the payload of a Socket.IO packet does not fit its type")]
    Payload,
    /// More than [`ATTACHMENTS_MAX`] attachments.
    #[error("more than {ATTACHMENTS_MAX} attachments")]
    TooManyAttachments,
}

impl<'a> Packet<'a> {
    /// Reads a text message.
    ///
    /// # Errors
    /// [`PacketError`]: whoever sends such a thing does not speak the protocol.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let kind = *text.as_bytes().first().ok_or(PacketError::Head)?;
        if !kind.is_ascii_digit() {
            return Err(PacketError::Head);
        }
        let rest = &text[1..];
        let (attachments, rest) = match kind {
            b'5' | b'6' => attachments(rest)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest)?;
        let (id, json) = id(rest)?;
        let body = match kind {
            b'0' if id.is_none() => Body::Connect(object(json)?),
            b'1' if id.is_none() && json.is_empty() => Body::Disconnect,
            b'2' | b'5' => {
                let (name, args) = event(json)?;
                Body::Event {
                    name,
                    args,
                    id,
                    attachments,
                }
            }
            b'3' | b'6' => Body::Ack {
                id: id.ok_or(PacketError::Head)?,
                args: list(json)?,
                attachments,
            },
            _ => return Err(PacketError::Head),
        };
        Ok(Self { namespace, body })
    }
}

fn attachments(text: &str) -> Result<(usize, &str), PacketError> {
    let (count, rest) = text.split_once('-').ok_or(PacketError::Head)?;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PacketError::Head);
    }
    match count.parse() {
        Ok(count) if count <= ATTACHMENTS_MAX => Ok((count, rest)),
        _ => Err(PacketError::TooManyAttachments),
    }
}

fn namespace(text: &str) -> Result<(&str, &str), PacketError> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    let fits = namespace.len() <= NAMESPACE_BYTES_MAX;
    fits.then_some((namespace, rest)).ok_or(PacketError::Head)
}

fn id(text: &str) -> Result<(Option<u64>, &str), PacketError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (id, rest) = text.split_at(digits);
    match id {
        "" => Ok((None, rest)),
        id => Ok((Some(id.parse().map_err(|_| PacketError::Head)?), rest)),
    }
}

fn object(json: &str) -> Result<Option<&RawValue>, PacketError> {
    if json.is_empty() {
        return Ok(None);
    }
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| PacketError::Payload)?;
    let is_object = raw.get().starts_with('{');
    is_object.then_some(Some(raw)).ok_or(PacketError::Payload)
}

fn list(json: &str) -> Result<Vec<&RawValue>, PacketError> {
    let List(items) = serde_json::from_str(json).map_err(|_| PacketError::Payload)?;
    Ok(items)
}

fn event(json: &str) -> Result<(String, Vec<&RawValue>), PacketError> {
    let mut items = list(json)?;
    if items.is_empty() {
        return Err(PacketError::Payload);
    }
    let name = items.remove(0).get();
    // The official parser takes numbers too.
    let is_number = name.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let name = match is_number {
        true => name.to_owned(),
        false => serde_json::from_str(name).map_err(|_| PacketError::Payload)?,
    };
    match is_event_name(&name) {
        true => Ok((name, items)),
        false => Err(PacketError::Payload),
    }
}

/// A JSON array of a bounded length, its items unread.
struct List<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    // The name of the event is one more.
                    if items.len() > ARGS_MAX {
                        return Err(A::Error::custom("too many arguments"));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Items).map(List)
    }
}

// === What the server sends, as frames ===

/// Appends the answer to a client that enters a namespace. `sid` and `pid` are plain ASCII.
pub fn put_connected(namespace: &str, sid: &str, pid: Option<&str>, out: &mut Vec<u8>) {
    engineio::put_message(out, |out| {
        put_head(b'0', None, namespace, out);
        put(out, format_args!("{{\"sid\":\"{sid}\""));
        if let Some(pid) = pid {
            put(out, format_args!(",\"pid\":\"{pid}\""));
        }
        out.push(b'}');
    });
}

/// Appends a refusal: the client may not enter. `data` is one JSON value.
pub fn put_refused(namespace: &str, message: &str, data: Option<&[u8]>, out: &mut Vec<u8>) {
    engineio::put_message(out, |out| {
        put_head(b'4', None, namespace, out);
        let message = serde_json::Value::from(message);
        put(out, format_args!("{{\"message\":{message}"));
        if let Some(data) = data {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data);
        }
        out.push(b'}');
    });
}

/// Appends the end of a client's stay in a namespace.
pub fn put_disconnected(namespace: &str, out: &mut Vec<u8>) {
    engineio::put_message(out, |out| {
        put_head(b'1', None, namespace, out);
    });
}

/// Appends an event. `args` are JSON values with commas between them, perhaps none; with an `id` the client is to
/// acknowledge it.
pub fn put_event(
    namespace: &str,
    name: &str,
    args: &[u8],
    id: Option<u64>,
    attachments: &[impl AsRef<[u8]>],
    out: &mut Vec<u8>,
) {
    engineio::put_message(out, |out| {
        let (kind, count) = kind(b'2', b'5', attachments.len());
        put_head(kind, count, namespace, out);
        if let Some(id) = id {
            put(out, format_args!("{id}"));
        }
        put(out, format_args!("[{}", serde_json::Value::from(name)));
        if !args.is_empty() {
            out.push(b',');
            out.extend_from_slice(args);
        }
        out.push(b']');
    });
    for attachment in attachments {
        engineio::put_binary(attachment.as_ref(), out);
    }
}

/// Appends the acknowledgement of a client's event, with arguments as above.
pub fn put_ack(
    namespace: &str,
    id: u64,
    args: &[u8],
    attachments: &[impl AsRef<[u8]>],
    out: &mut Vec<u8>,
) {
    engineio::put_message(out, |out| {
        let (kind, count) = kind(b'3', b'6', attachments.len());
        put_head(kind, count, namespace, out);
        put(out, format_args!("{id}["));
        out.extend_from_slice(args);
        out.push(b']');
    });
    for attachment in attachments {
        engineio::put_binary(attachment.as_ref(), out);
    }
}

fn kind(plain: u8, binary: u8, attachments: usize) -> (u8, Option<usize>) {
    match attachments {
        0 => (plain, None),
        count => (binary, Some(count)),
    }
}

/// Appends what stands before an id or the JSON.
pub(crate) fn put_head(kind: u8, attachments: Option<usize>, namespace: &str, out: &mut Vec<u8>) {
    out.push(kind);
    if let Some(count) = attachments {
        put(out, format_args!("{count}-"));
    }
    if namespace != MAIN {
        put(out, format_args!("{namespace},"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ws::{Outgoing, next_outgoing};

    /// A packet in words.
    fn read(text: &str) -> Result<String, PacketError> {
        let Packet { namespace, body } = Packet::parse(text)?;
        let raw = |args: Vec<&RawValue>| {
            let args: Vec<&str> = args.iter().map(|raw| raw.get()).collect();
            args.join(" ")
        };
        Ok(match body {
            Body::Connect(auth) => format!("{namespace} connect {:?}", auth.map(RawValue::get)),
            Body::Disconnect => format!("{namespace} disconnect"),
            Body::Event {
                name,
                args,
                id,
                attachments,
            } => format!("{namespace} {name}({}) {id:?} {attachments}", raw(args)),
            Body::Ack {
                id,
                args,
                attachments,
            } => format!("{namespace} ack {id}({}) {attachments}", raw(args)),
        })
    }

    fn texts(frames: &[u8]) -> Vec<String> {
        let mut rest = frames;
        let mut texts = Vec::new();
        while let Some((frame, taken)) = next_outgoing(rest) {
            rest = &rest[taken..];
            match frame {
                Outgoing::Text(text) => texts.push(String::from_utf8(text.to_vec()).unwrap()),
                Outgoing::Binary(bytes) => texts.push(format!("{bytes:?}")),
                Outgoing::Control => panic!("no packet"),
            }
        }
        texts
    }

    #[test]
    fn packets_of_the_specification_are_read() {
        let check = |text, expected: &str| assert_eq!(read(text).as_deref(), Ok(expected));
        check("0", "/ connect None");
        check(
            "0/admin,{\"token\":\"1\"}",
            r#"/admin connect Some("{\"token\":\"1\"}")"#,
        );
        check("0/admin", "/admin connect None");
        check("1/admin,", "/admin disconnect");
        check("1", "/ disconnect");
        check("2[\"foo\"]", "/ foo() None 0");
        check("2/admin,12[\"bar\",1, {}]", "/admin bar(1 {}) Some(12) 0");
        check("3/admin,13[]", "/admin ack 13() 0");
        check(
            "52-7[\"b\",{\"_placeholder\":true,\"num\":0}]",
            r#"/ b({"_placeholder":true,"num":0}) Some(7) 2"#,
        );
        check("61-/admin,4[1]", "/admin ack 4(1) 1");
        check("2[7,1]", "/ 7(1) None 0");
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for (text, error) in [
            ("", PacketError::Head),
            ("abc", PacketError::Head),
            ("9", PacketError::Head),
            ("4{\"message\":\"x\"}", PacketError::Head),
            ("0[]", PacketError::Payload),
            ("0{", PacketError::Payload),
            ("03{}", PacketError::Head),
            ("1[]", PacketError::Head),
            ("2", PacketError::Payload),
            ("2{}", PacketError::Payload),
            ("2[]", PacketError::Payload),
            ("2[null]", PacketError::Payload),
            ("2[\"connect\"]", PacketError::Payload),
            ("2abc[\"x\"]", PacketError::Payload),
            ("299999999999999999999[\"x\"]", PacketError::Head),
            ("3[]", PacketError::Head),
            ("5[\"x\"]", PacketError::Head),
            ("5-[\"x\"]", PacketError::Head),
            ("5+1-[\"x\"]", PacketError::Head),
            ("511-[\"x\"]", PacketError::TooManyAttachments),
            (
                "59999999999999999999999-[]",
                PacketError::TooManyAttachments,
            ),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        let long = format!("0/{}", "x".repeat(NAMESPACE_BYTES_MAX));
        assert_eq!(read(&long), Err(PacketError::Head));
        let many = format!("2[\"x\"{}]", ",1".repeat(ARGS_MAX + 1));
        assert_eq!(read(&many), Err(PacketError::Payload));
        let deep = format!("2[\"x\",{}1{}]", "[".repeat(100_000), "]".repeat(100_000));
        // Deep is not wrong: nothing here recurses.
        assert!(Packet::parse(&deep).is_ok());
    }

    #[test]
    fn what_the_server_says_is_as_in_the_specification() {
        let mut out = Vec::new();
        put_connected(MAIN, "s", None, &mut out);
        put_connected("/a", "s", Some("p"), &mut out);
        put_refused("/a", "not \"you\"", None, &mut out);
        put_refused(MAIN, "no", Some(b"{\"code\":1}"), &mut out);
        put_disconnected("/a", &mut out);
        put_event(MAIN, "e", b"", None, &[b""; 0], &mut out);
        put_event("/a", "e\"", b"1,2", Some(3), &[[1, 2], [3, 4]], &mut out);
        put_ack("/a", 9, b"1", &[[5]], &mut out);
        put_ack(MAIN, 9, b"", &[b""; 0], &mut out);
        assert_eq!(
            texts(&out),
            [
                r#"40{"sid":"s"}"#,
                r#"40/a,{"sid":"s","pid":"p"}"#,
                r#"44/a,{"message":"not \"you\""}"#,
                r#"44{"message":"no","data":{"code":1}}"#,
                "41/a,",
                r#"42["e"]"#,
                r#"452-/a,3["e\"",1,2]"#,
                "[1, 2]",
                "[3, 4]",
                "461-/a,9[1]",
                "[5]",
                "439[]",
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_packet_or_is_refused(text in ".{0,64}") {
            let _ = Packet::parse(&text);
        }

        #[test]
        fn what_begins_like_a_packet_is_one_or_is_refused(
            text in r#"[0-7][0-9]{0,3}-?(/[a-z]{0,4},?)?[0-9]{0,22}(\["[a-z]{0,9}"(,[0-9{}\[\]"]{0,5})*\]?)?"#,
        ) {
            let _ = Packet::parse(&text);
        }

        #[test]
        fn an_event_is_read_as_it_was_written(
            name in "[a-zA-Z:ü\"]{1,20}",
            args in prop::collection::vec("[a-z0-9]{0,9}", 0..5),
            id in any::<Option<u64>>(),
            attachments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..=ATTACHMENTS_MAX),
        ) {
            prop_assume!(is_event_name(&name));
            let json: Vec<String> = args.iter().map(|arg| format!("\"{arg}\"")).collect();
            let mut out = Vec::new();
            put_event("/n", &name, json.join(",").as_bytes(), id, &attachments, &mut out);
            let texts = texts(&out);
            prop_assert_eq!(texts.len(), 1 + attachments.len());
            let read = read(&texts[0][1..]).unwrap();
            let expected = format!("/n {name}({}) {id:?} {}", json.join(" "), attachments.len());
            prop_assert_eq!(read, expected);
        }
    }
}
