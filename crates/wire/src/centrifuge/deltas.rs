//! The wire form of Centrifuge clients that have negotiated Fossil deltas.
//!
//! Such a client decodes each publication against the one that it has had before, numbered or not. In JSON the payload of
//! each is a string: the text of the payload, or of a delta; in Protobuf it is the bytes of one or the other.

use super::{Pushes, protobuf, pushes::PUBLICATION, reply};
use crate::{ChannelName, Epoch, Form, NewsBody, Publication};

/// The wire form of the subscribers that speak a dialect and take deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deltas(pub Pushes);

impl Deltas {
    fn publication(
        self,
        channel: &ChannelName,
        publication: &Publication,
        delta: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        self.0.push(
            channel,
            PUBLICATION,
            out,
            |out| reply::put_publication_text(publication, delta, out),
            |out| match delta {
                Some(delta) => protobuf::put_publication_delta(publication, delta, out),
                None => protobuf::put_publication(publication, out),
            },
        );
    }
}

impl Form for Deltas {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        self.publication(channel, publication, None, out);
    }

    fn takes_deltas(&self) -> bool {
        true
    }

    fn encode_delta(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        delta: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.publication(channel, publication, Some(delta), out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        match news {
            NewsBody::Message { data, info, tags } => {
                let (info, tags) = (info.as_ref(), tags.as_ref());
                self.0.push(
                    channel,
                    PUBLICATION,
                    out,
                    |out| reply::put_message_text(data, info, tags, out),
                    |out| protobuf::put_unnumbered(data, info, tags, out),
                );
            }
            _ => self.0.encode_news(channel, news, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, centrifuge::Codec, run::tests::publication};

    const JSON: Deltas = Deltas(Pushes::websocket(Codec::Json, true));
    const PROTOBUF: Deltas = Deltas(Pushes::websocket(Codec::Protobuf, false));

    fn channel() -> ChannelName {
        ChannelName::parse("c").unwrap()
    }

    /// The payload of the one frame that is written.
    fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        // A longer length stands in two bytes more.
        out.split_off(if out[1] == 126 { 4 } else { 2 })
    }

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn in_json_a_payload_is_a_string() {
        let epoch = Epoch::parse("e").unwrap();
        let publication = Publication {
            data: json("{\"x\": \"\\n\u{e9}\"}"),
            info: Some(json("{\"user\":\"u\"}")),
            tags: Some(json("{\"t\":\"1\"}")),
            ..publication(7)
        };
        let rest = r#","info":{"user":"u"},"offset":7,"tags":{"t":"1"},"time":5"#;
        let whole = framed(|out| JSON.encode(&channel(), &epoch, &publication, out));
        let expected = format!(
            r#"{{"push":{{"channel":"c","pub":{{"data":"{{\"x\": \"\\n{}\"}}"{rest}}}}}}}"#,
            '\u{e9}'
        );
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
        let delta = "A\n5@0,3:\"\u{e9};";
        let delta = framed(|out| {
            JSON.encode_delta(&channel(), &epoch, &publication, delta.as_bytes(), out);
        });
        let expected = format!(
            r#"{{"push":{{"channel":"c","pub":{{"data":"A\n5@0,3:\"{};"{rest},"delta":true}}}}}}"#,
            '\u{e9}'
        );
        assert_eq!(String::from_utf8(delta).unwrap(), expected);
    }

    #[test]
    fn in_protobuf_a_delta_is_marked() {
        let epoch = Epoch::parse("e").unwrap();
        let mut whole = Vec::new();
        Pushes::websocket(Codec::Protobuf, false).encode(
            &channel(),
            &epoch,
            &publication(7),
            &mut whole,
        );
        let deltas = framed(|out| PROTOBUF.encode(&channel(), &epoch, &publication(7), out));
        assert_eq!(deltas, whole[2..]);
        let delta = framed(|out| {
            PROTOBUF.encode_delta(&channel(), &epoch, &publication(7), b"1\n1:7", out);
        });
        assert_eq!(
            delta,
            b"\x14\x22\x12\x12\x01c\x22\x0d\x22\x05\x31\n1:7\x30\x07\x40\x01\x48\x05"
        );
    }

    #[test]
    fn news_are_strings_too() {
        let message = NewsBody::Message {
            data: json("[\"a\"]"),
            info: None,
            tags: Some(json("{\"t\":\"1\"}")),
        };
        let news = framed(|out| JSON.encode_news(&channel(), &message, out));
        assert_eq!(
            String::from_utf8(news).unwrap(),
            r#"{"push":{"channel":"c","pub":{"data":"[\"a\"]","tags":{"t":"1"}}}}"#
        );
        let join = NewsBody::Join {
            info: json("{\"user\":\"\"}"),
        };
        let news = framed(|out| JSON.encode_news(&channel(), &join, out));
        assert_eq!(
            String::from_utf8(news).unwrap(),
            r#"{"push":{"channel":"c","join":{"info":{"user":""}}}}"#
        );
    }
}
