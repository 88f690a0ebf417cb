//! Events with names of their own, for streams that an app opens: the tag `event` of a publication names the event, and
//! its data is the event's, without anything around it.

use serde::Deserialize;

use super::checksum;
use crate::{ChannelName, Epoch, Form, Json, NewsBody, Publication, put};

/// Longest name of an event, in bytes. A longer one is as if none were given.
pub const EVENT_NAME_BYTES_MAX: usize = 64;

/// The wire form for streams of one channel whose events have names. The id is the one that [`EventStream`](super::EventStream) gives.
///
/// A publication without a name, or with one that is not 1 to [`EVENT_NAME_BYTES_MAX`] printable ASCII characters, is a `message`.
#[derive(Debug, Clone, Copy)]
pub struct EventStreamNamed;

impl Form for EventStreamNamed {
    fn encode(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        let which = checksum(std::iter::once(channel));
        put(
            out,
            format_args!("id: {epoch}-{which:x}-{}\n", publication.seq),
        );
        put_named(publication.tags.as_ref(), &publication.data, out);
    }

    // Who joins and leaves is not told: an app that wants it told says so in a message.
    fn encode_news(&self, _: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        if let NewsBody::Message { data, tags, .. } = news {
            put_named(tags.as_ref(), data, out);
        }
    }
}

#[derive(Default, Deserialize)]
struct EventTags {
    event: Option<String>,
}

fn put_named(tags: Option<&Json>, data: &Json, out: &mut Vec<u8>) {
    let tags = tags.and_then(|tags| serde_json::from_slice::<EventTags>(tags.as_bytes()).ok());
    let event = tags.unwrap_or_default().event;
    // Any other byte could end the line, and begin one that nobody has published.
    let is_name = |name: &String| {
        (1..=EVENT_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if let Some(event) = event.filter(is_name) {
        put(out, format_args!("event: {event}\n"));
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run::tests::publication, sse::EventStream};

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn text(written: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        written(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_tag_names_the_event_and_the_data_stands_alone() {
        let room = ChannelName::parse("room").unwrap();
        let epoch = Epoch::parse("e7").unwrap();
        let with = |tags: Option<&str>| {
            let publication = Publication {
                tags: tags.map(json),
                ..publication(7)
            };
            text(|out| EventStreamNamed.encode(&room, &epoch, &publication, out))
        };
        let plain = text(|out| EventStream.encode(&room, &epoch, &publication(7), out));
        let id = plain.lines().next().unwrap();
        let unnamed = format!("{id}\ndata: {{\"x\":1}}\n\n");
        assert_eq!(
            with(Some(r#"{"event":"new_email","other":"x"}"#)),
            format!("{id}\nevent: new_email\ndata: {{\"x\":1}}\n\n")
        );
        assert_eq!(with(None), unnamed);
        let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(65));
        for bad in [
            r#"{"event":"a\nid: 9"}"#,
            r#"{"event":"a\rdata: x"}"#,
            r#"{"event":""}"#,
            r#"{"event":1}"#,
            "[]",
            &long,
        ] {
            assert_eq!(with(Some(bad)), unnamed, "{bad}");
        }
    }

    #[test]
    fn news_have_no_id_and_nobody_joins() {
        let room = ChannelName::parse("room").unwrap();
        let written = |news: NewsBody| text(|out| EventStreamNamed.encode_news(&room, &news, out));
        let message = NewsBody::Message {
            data: json("1"),
            info: None,
            tags: Some(json(r#"{"event":"typing"}"#)),
        };
        assert_eq!(written(message), "event: typing\ndata: 1\n\n");
        let info = json(r#"{"user":"u"}"#);
        assert_eq!(written(NewsBody::Join { info: info.clone() }), "");
        assert_eq!(written(NewsBody::Leave { info }), "");
    }
}
