//! The wire forms of Centrifuge clients: publications and news as pushes, one frame each.

use super::{
    Codec, Dialect, protobuf,
    reply::{put_message, put_publication},
};
use crate::{ChannelName, Epoch, Form, NewsBody, Publication, put};

/// The wire form of the subscribers that speak a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushes {
    /// How they are spoken to.
    pub dialect: Dialect,
    /// They want to be told who joins and leaves.
    pub joins: bool,
}

/// What is pushed: its name in JSON, and its number among the fields of a push in Protobuf.
pub(super) type Kind = (&'static str, u32);

pub(super) const PUBLICATION: Kind = ("pub", 4);
const JOIN: Kind = ("join", 5);
const LEAVE: Kind = ("leave", 6);

impl Pushes {
    /// For clients with a WebSocket.
    #[must_use]
    pub const fn websocket(codec: Codec, joins: bool) -> Self {
        let dialect = Dialect::websocket(codec);
        Self { dialect, joins }
    }

    /// Appends the frame of what is pushed into a channel.
    pub(super) fn push(
        &self,
        channel: &ChannelName,
        (name, number): Kind,
        out: &mut Vec<u8>,
        json: impl FnOnce(&mut Vec<u8>),
        protobuf: impl FnOnce(&mut Vec<u8>),
    ) {
        self.dialect.push(
            out,
            |out| {
                put(out, format_args!("\"channel\":\"{channel}\",\"{name}\":"));
                json(out);
            },
            |out| protobuf::put_of_channel(channel, number, out, protobuf),
        );
    }
}

impl Form for Pushes {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        self.push(
            channel,
            PUBLICATION,
            out,
            |out| put_publication(publication, out),
            |out| protobuf::put_publication(publication, out),
        );
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        let (kind, info) = match news {
            NewsBody::Message { data, info, tags } => {
                let (info, tags) = (info.as_ref(), tags.as_ref());
                return self.push(
                    channel,
                    PUBLICATION,
                    out,
                    |out| put_message(data, info, tags, out),
                    |out| protobuf::put_unnumbered(data, info, tags, out),
                );
            }
            _ if !self.joins => return,
            NewsBody::Join { info } => (JOIN, info),
            NewsBody::Leave { info } => (LEAVE, info),
        };
        self.push(
            channel,
            kind,
            out,
            |out| {
                out.extend_from_slice(b"{\"info\":");
                out.extend_from_slice(info.as_bytes());
                out.push(b'}');
            },
            |out| protobuf::put_client_info(1, info, out),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, centrifuge::Framing, run::tests::publication};

    const JSON: Pushes = Pushes::websocket(Codec::Json, false);
    const JSON_JOINS: Pushes = Pushes::websocket(Codec::Json, true);

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        let text = out.get(2..).unwrap_or_default().to_vec();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn news_have_no_offset_and_joins_are_for_those_who_asked() {
        let channel = ChannelName::parse("room:1").unwrap();
        let json = |text: &[u8]| Json::parse(text).unwrap();
        let message = NewsBody::Message {
            data: json(b"[1]"),
            info: Some(json(b"{\"user\":\"u\"}")),
            tags: None,
        };
        let pushed = r#"{"push":{"channel":"room:1","pub":{"data":[1],"info":{"user":"u"}}}}"#;
        for form in [JSON, JSON_JOINS] {
            let news = text(|out| form.encode_news(&channel, &message, out));
            assert_eq!(news, pushed);
        }
        let info = json(b"{\"user\":\"\",\"client\":\"c\"}");
        for (news, kind) in [
            (NewsBody::Join { info: info.clone() }, "join"),
            (NewsBody::Leave { info }, "leave"),
        ] {
            assert_eq!(text(|out| JSON.encode_news(&channel, &news, out)), "");
            assert_eq!(
                text(|out| JSON_JOINS.encode_news(&channel, &news, out)),
                format!(
                    r#"{{"push":{{"channel":"room:1","{kind}":{{"info":{{"user":"","client":"c"}}}}}}}}"#
                )
            );
        }
    }

    #[test]
    fn a_publication_is_one_frame_in_every_dialect() {
        let mut publication = publication(7);
        publication.tags = Some(Json::parse(b"{\"t\":\"1\"}").unwrap());
        let channel = ChannelName::parse("room:1").unwrap();
        let encoded = |form: Pushes| {
            let mut out = Vec::new();
            let epoch = Epoch::parse("e").unwrap();
            form.encode(&channel, &epoch, &publication, &mut out);
            out
        };
        let bare =
            r#"{"channel":"room:1","pub":{"data":{"x":1},"offset":7,"tags":{"t":"1"},"time":5}}"#;
        let pushed = format!("{{\"push\":{bare}}}");
        let frame = encoded(JSON);
        assert_eq!(frame[..2], [0x81, u8::try_from(pushed.len()).unwrap()]);
        assert_eq!(std::str::from_utf8(&frame[2..]), Ok(&*pushed));
        let over = |dialect| {
            let joins = false;
            String::from_utf8(encoded(Pushes { dialect, joins })).unwrap()
        };
        let stream = |framing| over(Dialect::stream(Codec::Json, framing));
        assert_eq!(stream(Framing::Stream), format!("{pushed}\n"));
        assert_eq!(stream(Framing::Events), format!("data: {pushed}\n\n"));
        assert_eq!(over(Dialect::one_way(Framing::Stream)), format!("{bare}\n"));
        assert_eq!(
            over(Dialect::one_way(Framing::Events)),
            format!("data: {bare}\n\n")
        );
        let bare_frame = encoded(Pushes {
            dialect: Dialect::one_way(Framing::WebSocket),
            joins: false,
        });
        assert_eq!(std::str::from_utf8(&bare_frame[2..]), Ok(bare));
        let protobuf = encoded(Pushes::websocket(Codec::Protobuf, false));
        let dialect = Dialect::stream(Codec::Protobuf, Framing::Stream);
        let joins = false;
        assert_eq!(encoded(Pushes { dialect, joins }), protobuf[2..]);
    }
}
