//! The wire forms of publications for Socket.IO clients: events.
//!
//! The tag `event` names the event (default `message`); the data is its argument, or with the tag `spread` = `"1"` the
//! list of its arguments. In the main namespace a second argument says where the publication comes from. Where the client
//! is to carry how far it has read, that text comes last (see [`super::seen`]).
//!
//! A client takes every last argument that is a string for such a text. So where there is none, and the last argument is
//! a string, `null` follows it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{MAIN, is_event_name, put_head, seen::put_seen};
use crate::{ChannelName, Epoch, Form, Json, NewsBody, Publication, engineio, put};

/// The name of events that do not say otherwise.
pub const EVENT_DEFAULT: &str = "message";

/// What stands at the end of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trail {
    /// Nothing: the client does not carry how far it has read.
    Nothing,
    /// `null` behind a string.
    Guard,
    /// How far the client has read in this channel, which is the only one that it carries.
    Seen,
}

/// The wire form for clients of a namespace that share their frames.
#[derive(Debug, Clone)]
pub struct SharedEvent {
    namespace: Box<str>,
    trail: Trail,
}

impl SharedEvent {
    /// The form of a namespace.
    #[must_use]
    pub fn new(namespace: &str, trail: Trail) -> Self {
        Self {
            namespace: namespace.into(),
            trail,
        }
    }
}

impl Form for SharedEvent {
    fn encode(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        engineio::put_message(out, |out| {
            put_head(b'2', None, &self.namespace, out);
            out.push(b'[');
            put_args(&publication.data, publication.tags.as_ref(), out);
            if *self.namespace == *MAIN {
                out.push(b',');
                put_meta(channel, epoch, publication, out);
            }
            match self.trail {
                Trail::Nothing => {}
                Trail::Guard => put_guard(out),
                Trail::Seen => {
                    out.push(b',');
                    let seen = std::iter::once((channel, Some(publication.seq), false));
                    put_seen(epoch, seen, out);
                }
            }
            out.push(b']');
        });
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        if tells_joins(&self.namespace) || is_message(news) {
            put_news(&self.namespace, self.trail, channel, news, out);
        }
    }
}

/// The wire form for clients of a namespace that carry how far they have read in several channels. What is encoded of a
/// publication are the parts that [`put_personal`] puts together.
#[derive(Debug, Clone)]
pub struct PersonalEvent {
    namespace: Box<str>,
    joins: bool,
}

impl PersonalEvent {
    /// The form of a namespace.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            joins: tells_joins(namespace),
        }
    }

    /// The form for those who are told who joins and leaves, where the others are not.
    #[must_use]
    pub fn telling_joins(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            joins: true,
        }
    }
}

impl Form for PersonalEvent {
    fn encode(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        put_args(&publication.data, publication.tags.as_ref(), out);
        // A publication is far below 4 GiB.
        let length = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        put_meta(channel, epoch, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        if self.joins || is_message(news) {
            put_news(&self.namespace, Trail::Guard, channel, news, out);
        }
    }

    fn is_personal(&self) -> bool {
        true
    }
}

const LENGTH_BYTES: usize = size_of::<u32>();

/// Appends an event for one client: what [`PersonalEvent`] encoded, and what `put_trail` appends, if it does.
pub fn put_personal(
    namespace: &str,
    encoded: &[u8],
    put_trail: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let Some((length, parts)) = encoded.split_first_chunk::<LENGTH_BYTES>() else {
        return;
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((args, meta)) = parts.split_at_checked(length) else {
        return;
    };
    engineio::put_message(out, |out| {
        put_head(b'2', None, namespace, out);
        out.push(b'[');
        out.extend_from_slice(args);
        if namespace == MAIN {
            out.push(b',');
            out.extend_from_slice(meta);
        }
        out.push(b',');
        let trail = out.len();
        put_trail(out);
        if out.len() == trail {
            out.pop();
        }
        out.push(b']');
    });
}

/// Whether everybody in a namespace's channels is told who joins and leaves: in an app's, which says who may be there. In
/// the main namespace it is a right of its own.
fn tells_joins(namespace: &str) -> bool {
    namespace != MAIN
}

fn is_message(news: &NewsBody) -> bool {
    matches!(news, NewsBody::Message { .. })
}

/// Appends news as an event. It is no step of a reader's way, so it never says how far the client has read.
fn put_news(
    namespace: &str,
    trail: Trail,
    channel: &ChannelName,
    news: &NewsBody,
    out: &mut Vec<u8>,
) {
    engineio::put_message(out, |out| {
        put_head(b'2', None, namespace, out);
        out.push(b'[');
        let (info, tags) = match news {
            NewsBody::Message { data, info, tags } => {
                put_args(data, tags.as_ref(), out);
                (info.as_ref(), tags.as_ref())
            }
            NewsBody::Join { info } => {
                put_args_of("join", info, out);
                (None, None)
            }
            NewsBody::Leave { info } => {
                put_args_of("leave", info, out);
                (None, None)
            }
        };
        if namespace == MAIN {
            put(out, format_args!(",{{\"channel\":\"{channel}\""));
            put_about(info, tags, out);
        }
        if trail != Trail::Nothing {
            put_guard(out);
        }
        out.push(b']');
    });
}

/// Appends `null` if what was written last is a string.
pub fn put_guard(out: &mut Vec<u8>) {
    // JSON that ends with a quote is a string, or ends with one inside brackets, which would come after it.
    if out.last() == Some(&b'"') {
        out.extend_from_slice(b",null");
    }
}

/// The tags that mean something here.
#[derive(Default, Deserialize)]
struct EventTags {
    event: Option<String>,
    spread: Option<String>,
}

/// Appends the name of the event and its arguments.
fn put_args(data: &Json, tags: Option<&Json>, out: &mut Vec<u8>) {
    let tags = tags.and_then(|tags| serde_json::from_slice::<EventTags>(tags.as_bytes()).ok());
    let EventTags { event, spread } = tags.unwrap_or_default();
    let event = event.filter(|event| is_event_name(event));
    match &event {
        Some(event) => put(out, format_args!("{}", serde_json::Value::from(&**event))),
        None => put(out, format_args!("\"{EVENT_DEFAULT}\"")),
    }
    let data = match spread.as_deref() {
        Some("1") => items_of(data.as_bytes()),
        _ => data.as_bytes(),
    };
    if !data.is_empty() {
        out.push(b',');
        out.extend_from_slice(data.trim_ascii_end());
    }
}

/// What stands between the brackets of an array; anything else as it is.
fn items_of(json: &[u8]) -> &[u8] {
    let json = json.trim_ascii();
    let items = json.strip_prefix(b"[").and_then(|it| it.strip_suffix(b"]"));
    items.map_or(json, <[u8]>::trim_ascii)
}

/// Appends where a publication comes from.
fn put_meta(channel: &ChannelName, epoch: &Epoch, publication: &Publication, out: &mut Vec<u8>) {
    let Publication {
        seq,
        id,
        time,
        info,
        tags,
        ..
    } = publication;
    put(
        out,
        format_args!(
            "{{\"channel\":\"{channel}\",\"offset\":{seq},\"epoch\":\"{epoch}\",\"id\":\"{id}\",\"time\":{time}"
        ),
    );
    put_about(info.as_ref(), tags.as_ref(), out);
}

/// Appends the end of an object with these members.
fn put_about(info: Option<&Json>, tags: Option<&Json>, out: &mut Vec<u8>) {
    for (name, json) in [("info", info), ("tags", tags)] {
        if let Some(json) = json {
            put(out, format_args!(",\"{name}\":"));
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
}

fn put_args_of(event: &str, json: &Json, out: &mut Vec<u8>) {
    put(out, format_args!("\"{event}\","));
    out.extend_from_slice(json.as_bytes());
}

/// The tags of a publication that is to be an event of this name; `None` if no event may have it.
#[must_use]
pub fn tags_of_event(name: &str) -> Option<Json> {
    #[derive(serde::Serialize)]
    struct Tags<'a> {
        event: &'a str,
    }
    let tags = serde_json::value::to_raw_value(&Tags { event: name }).ok()?;
    let tags: &RawValue = &tags;
    is_event_name(name).then(|| Json::from_raw(tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run::tests::publication, ws};

    fn with(data: &str, tags: Option<&str>) -> Publication {
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        Publication {
            data: json(data),
            tags: tags.map(json),
            ..publication(7)
        }
    }

    fn text(frame: &[u8]) -> String {
        match ws::next_outgoing(frame) {
            Some((ws::Outgoing::Text(text), length)) if length == frame.len() => {
                String::from_utf8(text.to_vec()).unwrap()
            }
            other => panic!("not one text frame: {other:?}"),
        }
    }

    fn encoded(form: &dyn Form, publication: &Publication) -> Vec<u8> {
        let channel = ChannelName::parse("room:1").unwrap();
        let epoch = Epoch::parse("e1").unwrap();
        let mut out = Vec::new();
        form.encode(&channel, &epoch, publication, &mut out);
        out
    }

    fn shared(namespace: &str, trail: Trail, publication: &Publication) -> String {
        text(&encoded(&SharedEvent::new(namespace, trail), publication))
    }

    #[test]
    fn a_publication_is_an_event() {
        let plain = with("{\"x\":1}", None);
        assert_eq!(
            shared("/a", Trail::Nothing, &plain),
            r#"42/a,["message",{"x":1}]"#
        );
        assert_eq!(
            shared("/a", Trail::Guard, &plain),
            r#"42/a,["message",{"x":1}]"#
        );
        assert_eq!(
            shared("/a", Trail::Seen, &plain),
            r#"42/a,["message",{"x":1},"e1 7 room:1"]"#
        );
        assert_eq!(
            shared("/", Trail::Seen, &plain),
            r#"42["message",{"x":1},{"channel":"room:1","offset":7,"epoch":"e1","id":"00000000-0000-0000-0000-000000000000","time":5},"e1 7 room:1"]"#
        );
    }

    #[test]
    fn tags_name_the_event_and_spread_its_arguments() {
        let check = |data, tags, expected| {
            assert_eq!(
                shared("/a", Trail::Guard, &with(data, Some(tags))),
                expected
            );
        };
        check("1", r#"{"event":"a\"b","x":"y"}"#, r#"42/a,["a\"b",1]"#);
        check("1", r#"{"event":"connect"}"#, r#"42/a,["message",1]"#);
        check("[1,2]", r#"{"spread":"1"}"#, r#"42/a,["message",1,2]"#);
        check(
            " [ ] ",
            r#"{"spread":"1","event":"e"}"#,
            r#"42/a,["e",null]"#,
        );
        check("7 ", r#"{"spread":"1"}"#, r#"42/a,["message",7]"#);
        check("\"s\"", "{}", r#"42/a,["message","s",null]"#);
        check(
            "[1,\"s\"]",
            r#"{"spread":"1"}"#,
            r#"42/a,["message",1,"s",null]"#,
        );
        assert_eq!(
            tags_of_event("a\"b").unwrap().as_bytes(),
            br#"{"event":"a\"b"}"#
        );
        assert_eq!(tags_of_event("disconnect"), None);
    }

    #[test]
    fn news_are_events_without_a_position() {
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let channel = ChannelName::parse("room:1").unwrap();
        let check = |form: &dyn Form, news: &NewsBody, expected: &str| {
            let mut out = Vec::new();
            form.encode_news(&channel, news, &mut out);
            assert_eq!(text(&out), expected);
        };
        let typing = NewsBody::Message {
            data: json("\"ann\""),
            info: None,
            tags: Some(json(r#"{"event":"typing"}"#)),
        };
        let seen = SharedEvent::new("/a", Trail::Seen);
        check(&seen, &typing, r#"42/a,["typing","ann",null]"#);
        let nothing = SharedEvent::new("/a", Trail::Nothing);
        check(&nothing, &typing, r#"42/a,["typing","ann"]"#);
        check(
            &PersonalEvent::new("/"),
            &typing,
            r#"42["typing","ann",{"channel":"room:1","tags":{"event":"typing"}}]"#,
        );
        let join = NewsBody::Join {
            info: json(r#"{"user":"ann"}"#),
        };
        check(&seen, &join, r#"42/a,["join",{"user":"ann"}]"#);
        let leave = NewsBody::Leave {
            info: json(r#"{"user":"ann"}"#),
        };
        let told = PersonalEvent::telling_joins("/");
        check(
            &told,
            &leave,
            r#"42["leave",{"user":"ann"},{"channel":"room:1"}]"#,
        );
        let mut out = Vec::new();
        SharedEvent::new("/", Trail::Seen).encode_news(&channel, &leave, &mut out);
        PersonalEvent::new("/").encode_news(&channel, &join, &mut out);
        assert!(out.is_empty(), "who may not know is not told");
    }

    #[test]
    fn parts_are_put_together_for_one_client() {
        let publication = with("[1,\"s\"]", Some(r#"{"spread":"1"}"#));
        let parts = encoded(&PersonalEvent::new("/a"), &publication);
        let mut out = Vec::new();
        put_personal(
            "/a",
            &parts,
            |out| out.extend_from_slice(b"\"seen\""),
            &mut out,
        );
        assert_eq!(text(&out), r#"42/a,["message",1,"s","seen"]"#);
        let mut out = Vec::new();
        put_personal("/", &parts, |_| {}, &mut out);
        let all = text(&out);
        assert!(
            all.starts_with(r#"42["message",1,"s",{"channel":"room:1","offset":7,"#),
            "{all}"
        );
        assert!(all.ends_with("\"tags\":{\"spread\":\"1\"}}]"), "{all}");
        for end in 0..LENGTH_BYTES {
            let mut out = Vec::new();
            put_personal("/", &parts[..end], |_| {}, &mut out);
            assert!(out.is_empty());
        }
    }
}
