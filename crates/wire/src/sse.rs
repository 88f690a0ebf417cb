//! Server-sent events, and the position of a stream of several channels.
//!
//! The id of an event is a position for all channels of its stream: whoever comes back with it in `Last-Event-ID`, on
//! any node, goes on in every channel. It reads `<epoch>-<which>-<seq>.<seq>…`, the numbers in the order of the sorted
//! channel names; `which` is a checksum of these names, so that an id is not taken for that of another set of channels.

mod named;

use crate::{ChannelName, Epoch, Form, NewsBody, Publication, Seq, put};

pub use named::{EVENT_NAME_BYTES_MAX, EventStreamNamed};

/// Channels of one stream.
pub const CHANNELS_MAX: usize = 64;

/// The channels of a stream and where it stands in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    epoch: Epoch,
    which: u32,
    channels: Box<[(ChannelName, Seq)]>,
}

impl Positions {
    /// The positions of a stream that stands at the beginning of every channel. Repeated names count once.
    #[must_use]
    pub fn new(epoch: Epoch, mut channels: Vec<ChannelName>) -> Self {
        channels.sort_unstable();
        channels.dedup();
        let which = checksum(channels.iter());
        let channels = channels.into_iter().map(|name| (name, Seq::ZERO)).collect();
        Self {
            epoch,
            which,
            channels,
        }
    }

    /// Reads an event id of these channels: the epoch it belongs to and a number for each channel, in their order.
    /// `None` if it is not an id of these channels.
    #[must_use]
    pub fn parse_id(&self, id: &str) -> Option<(Epoch, Vec<Seq>)> {
        let mut parts = id.split('-');
        let (epoch, which, seqs) = (parts.next()?, parts.next()?, parts.next()?);
        let epoch = Epoch::parse(epoch)?;
        let seqs: Vec<Seq> = seqs
            .split('.')
            .map(|seq| seq.parse().map(Seq))
            .collect::<Result<_, _>>()
            .ok()?;
        let same = u32::from_str_radix(which, 16).ok()? == self.which;
        (parts.next().is_none() && same && seqs.len() == self.channels.len())
            .then_some((epoch, seqs))
    }

    /// Appends the event id.
    pub fn put_id(&self, out: &mut Vec<u8>) {
        put(out, format_args!("{}-{:x}-", self.epoch, self.which));
        for (at, (_, seq)) in self.channels.iter().enumerate() {
            let dot = if at > 0 { "." } else { "" };
            put(out, format_args!("{dot}{seq}"));
        }
    }

    /// Moves the position in one channel.
    pub fn set(&mut self, channel: &ChannelName, seq: Seq) {
        if let Ok(at) = self
            .channels
            .binary_search_by(|(name, _)| name.cmp(channel))
        {
            self.channels[at].1 = seq;
        }
    }

    /// The channels, sorted, with the positions.
    #[must_use]
    pub fn channels(&self) -> &[(ChannelName, Seq)] {
        &self.channels
    }

    /// The log's epoch.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }
}

/// The wire form for streams of one channel: the id is the same for everybody.
#[derive(Debug, Clone, Copy)]
pub struct EventStream;

impl Form for EventStream {
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
        put_data(channel, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        put_news(channel, news, false, out);
    }
}

/// The wire form for streams of several channels: the id depends on the stream, and its session puts it before the
/// frame.
#[derive(Debug, Clone, Copy)]
pub struct EventStreamOfMany;

impl Form for EventStreamOfMany {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        put_data(channel, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        put_news(channel, news, false, out);
    }

    fn is_personal(&self) -> bool {
        true
    }
}

/// The wire form for streams, of one channel or several, that want to be told who joins and leaves.
#[derive(Debug, Clone, Copy)]
pub struct EventStreamJoins;

impl Form for EventStreamJoins {
    fn encode(
        &self,
        channel: &ChannelName,
        _: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) {
        put_data(channel, publication, out);
    }

    fn encode_news(&self, channel: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
        put_news(channel, news, true, out);
    }

    fn is_personal(&self) -> bool {
        true
    }
}

/// Appends an event of another type than a publication. `json` has no line breaks.
pub fn put_event(event: &str, json: &[u8], out: &mut Vec<u8>) {
    put(out, format_args!("event: {event}\ndata: "));
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

/// Appends a publication as the JSON object that events and the server API show.
pub fn put_publication(
    channel: Option<&ChannelName>,
    publication: &Publication,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    if let Some(channel) = channel {
        put(out, format_args!("\"channel\":\"{channel}\","));
    }
    let Publication {
        seq,
        id,
        time,
        data,
        info,
        tags,
    } = publication;
    put(
        out,
        format_args!("\"offset\":{seq},\"id\":\"{id}\",\"time\":{time},\"data\":"),
    );
    out.extend_from_slice(data.as_bytes());
    for (name, json) in [("info", info), ("tags", tags)] {
        if let Some(json) = json {
            put(out, format_args!(",\"{name}\":"));
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
}

/// Events without an id: a stream that is cut behind them goes on with the last publication before them.
fn put_news(channel: &ChannelName, news: &NewsBody, joins: bool, out: &mut Vec<u8>) {
    let (event, info) = match news {
        NewsBody::Message { data, info, tags } => {
            put(
                out,
                format_args!("data: {{\"channel\":\"{channel}\",\"data\":"),
            );
            out.extend_from_slice(data.as_bytes());
            for (name, json) in [("info", info), ("tags", tags)] {
                if let Some(json) = json {
                    put(out, format_args!(",\"{name}\":"));
                    out.extend_from_slice(json.as_bytes());
                }
            }
            out.extend_from_slice(b"}\n\n");
            return;
        }
        NewsBody::Join { info } => ("join", info),
        NewsBody::Leave { info } => ("leave", info),
    };
    if joins {
        put(
            out,
            format_args!("event: {event}\ndata: {{\"channel\":\"{channel}\",\"info\":"),
        );
        out.extend_from_slice(info.as_bytes());
        out.extend_from_slice(b"}\n\n");
    }
}

fn put_data(channel: &ChannelName, publication: &Publication, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    put_publication(Some(channel), publication, out);
    out.extend_from_slice(b"\n\n");
}

/// FNV-1a over the names, each closed by a byte that no name has.
fn checksum<'a>(names: impl Iterator<Item = &'a ChannelName>) -> u32 {
    let bytes = names.flat_map(|name| name.as_str().bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::publication;

    fn positions(names: &[&str]) -> Positions {
        let names = names
            .iter()
            .map(|name| ChannelName::parse(name).unwrap())
            .collect();
        Positions::new(Epoch::parse("e7").unwrap(), names)
    }

    fn id(positions: &Positions) -> String {
        let mut out = Vec::new();
        positions.put_id(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_is_a_position_for_all_channels() {
        let mut stream = positions(&["b", "a", "b"]);
        stream.set(&ChannelName::parse("b").unwrap(), Seq(9));
        let text = id(&stream);
        assert!(text.starts_with("e7-") && text.ends_with("-0.9"), "{text}");
        let (epoch, seqs) = positions(&["a", "b"]).parse_id(&text).unwrap();
        assert_eq!((epoch.as_str(), seqs), ("e7", vec![Seq(0), Seq(9)]));
        assert_eq!(
            positions(&["a", "c"]).parse_id(&text),
            None,
            "other channels"
        );
        assert_eq!(positions(&["ab"]).parse_id(&text), None);
        for bad in [
            "",
            "e7",
            "e7-1-1",
            "e7-zz-1.2",
            "--",
            &format!("{text}.3"),
            &format!("{text}-1"),
        ] {
            assert_eq!(stream.parse_id(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn news_are_events_without_an_id() {
        let room = ChannelName::parse("room").unwrap();
        let json = |text: &str| crate::Json::parse(text.as_bytes()).unwrap();
        let written = |form: &dyn Form, news: &NewsBody| {
            let mut out = Vec::new();
            form.encode_news(&room, news, &mut out);
            String::from_utf8(out).unwrap()
        };
        let message = NewsBody::Message {
            data: json("1"),
            info: None,
            tags: Some(json(r#"{"event":"typing"}"#)),
        };
        let expected =
            "data: {\"channel\":\"room\",\"data\":1,\"tags\":{\"event\":\"typing\"}}\n\n";
        let forms: [&dyn Form; 3] = [&EventStream, &EventStreamOfMany, &EventStreamJoins];
        for form in forms {
            assert_eq!(written(form, &message), expected);
        }
        let leave = NewsBody::Leave {
            info: json(r#"{"user":"u"}"#),
        };
        assert_eq!(written(&EventStream, &leave), "");
        assert_eq!(written(&EventStreamOfMany, &leave), "");
        assert_eq!(
            written(&EventStreamJoins, &leave),
            "event: leave\ndata: {\"channel\":\"room\",\"info\":{\"user\":\"u\"}}\n\n"
        );
    }

    #[test]
    fn the_shared_form_carries_the_id_that_a_stream_of_one_channel_has() {
        let mut stream = positions(&["room"]);
        let room = ChannelName::parse("room").unwrap();
        stream.set(&room, Seq(7));
        let mut out = Vec::new();
        EventStream.encode(&room, stream.epoch(), &publication(7), &mut out);
        let expected = format!(
            "id: {}\ndata: {{\"channel\":\"room\",\"offset\":7,\"id\":\"00000000-0000-0000-0000-000000000000\",\
             \"time\":5,\"data\":{{\"x\":1}}}}\n\n",
            id(&stream)
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
