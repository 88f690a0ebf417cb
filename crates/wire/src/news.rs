//! News of the moment: what the subscribers of a channel are told now or never. It has no number and is kept nowhere; it
//! may be lost, and no reader is ever made to wait for it.
//!
//! Between nodes it travels in a frame of its own:
//! ```text
//! version u8 = 2 | kind u8 | channel len u8 + bytes | info len u32 + bytes | tags len u32 + bytes | data to the end
//! ```
//! Integers are little endian; an `info` or `tags` of length 0 is absent. `data` is the end of the frame and without a
//! length, so that whoever makes it (a script in Redis) only appends.

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

use crate::{ChannelName, Json};

/// The first byte of the frame.
pub const VERSION: u8 = 2;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whose subscribers are told.
    pub channel: ChannelName,
    /// What they are told.
    pub body: NewsBody,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewsBody {
    /// A message: somebody types, a pointer moves, an object changed.
    Message {
        /// The payload.
        data: Json,
        /// Who sent it, as in a publication.
        info: Option<Json>,
        /// Labels, as in a publication.
        tags: Option<Json>,
    },
    /// A member came. `info` is a JSON object (`user`, `client`, `conn_info`, `chan_info`).
    Join {
        /// Who.
        info: Json,
    },
    /// A member left.
    Leave {
        /// Who.
        info: Json,
    },
}

/// A frame that is no news of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("frame of news is truncated, corrupt or of another version")]
pub struct NewsError;

const MESSAGE: u8 = 0;
const JOIN: u8 = 1;
const LEAVE: u8 = 2;

impl News {
    /// Encodes the frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, info, tags, data) = match &self.body {
            NewsBody::Message { data, info, tags } => {
                (MESSAGE, info.as_ref(), tags.as_ref(), data.as_bytes())
            }
            NewsBody::Join { info } => (JOIN, Some(info), None, &b""[..]),
            NewsBody::Leave { info } => (LEAVE, Some(info), None, &b""[..]),
        };
        let mut out = Self::head(kind, &self.channel, info, tags);
        out.extend_from_slice(data);
        out.into()
    }

    /// The frame of a message without its data, which is to be appended.
    #[must_use]
    pub fn message_head(channel: &ChannelName, info: Option<&Json>, tags: Option<&Json>) -> Bytes {
        Self::head(MESSAGE, channel, info, tags).into()
    }

    /// What it weighs in memory, in bytes, without what every piece of news has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_bytes().len());
        let body = match &self.body {
            NewsBody::Message { data, info, tags } => {
                data.as_bytes().len() + json(info) + json(tags)
            }
            NewsBody::Join { info } | NewsBody::Leave { info } => info.as_bytes().len(),
        };
        self.channel.as_str().len() + body
    }

    /// Decodes a frame; the payloads share its bytes.
    ///
    /// # Errors
    /// [`NewsError`] if the frame is anything but whole news of this version.
    pub fn decode(mut frame: Bytes) -> Result<Self, NewsError> {
        if frame.try_get_u8().map_err(|_| NewsError)? != VERSION {
            return Err(NewsError);
        }
        let kind = frame.try_get_u8().map_err(|_| NewsError)?;
        let length = usize::from(frame.try_get_u8().map_err(|_| NewsError)?);
        let name = take(&mut frame, length)?;
        let name = std::str::from_utf8(&name).map_err(|_| NewsError)?;
        let channel = ChannelName::parse(name).map_err(|_| NewsError)?;
        let info = take_json(&mut frame)?;
        let tags = take_json(&mut frame)?;
        let body = match (kind, info) {
            (MESSAGE, info) if !frame.is_empty() => NewsBody::Message {
                data: Json::trusted(frame),
                info,
                tags,
            },
            (JOIN, Some(info)) if frame.is_empty() => NewsBody::Join { info },
            (LEAVE, Some(info)) if frame.is_empty() => NewsBody::Leave { info },
            _ => return Err(NewsError),
        };
        Ok(Self { channel, body })
    }

    fn head(kind: u8, channel: &ChannelName, info: Option<&Json>, tags: Option<&Json>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u8(kind);
        let name = channel.as_str().as_bytes();
        // Names are shorter than 256 bytes.
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name);
        for json in [info, tags] {
            let bytes = json.map_or(&b""[..], Json::as_bytes);
            out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            out.put_slice(bytes);
        }
        out
    }
}

fn take(frame: &mut Bytes, length: usize) -> Result<Bytes, NewsError> {
    if frame.len() < length {
        return Err(NewsError);
    }
    Ok(frame.split_to(length))
}

fn take_json(frame: &mut Bytes) -> Result<Option<Json>, NewsError> {
    let length = frame.try_get_u32_le().map_err(|_| NewsError)?;
    let bytes = take(frame, usize::try_from(length).map_err(|_| NewsError)?)?;
    Ok((!bytes.is_empty()).then(|| Json::trusted(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn all_kinds() -> Vec<News> {
        let channel = ChannelName::parse("room:1").unwrap();
        let info = json(r#"{"user":"u"}"#);
        let bodies = [
            NewsBody::Message {
                data: json("[1]"),
                info: Some(info.clone()),
                tags: Some(json(r#"{"event":"x"}"#)),
            },
            NewsBody::Message {
                data: json("7"),
                info: None,
                tags: None,
            },
            NewsBody::Join { info: info.clone() },
            NewsBody::Leave { info },
        ];
        let news = |body| News {
            channel: channel.clone(),
            body,
        };
        bodies.into_iter().map(news).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for news in all_kinds() {
            assert_eq!(News::decode(news.encode()), Ok(news));
        }
    }

    #[test]
    fn a_part_of_a_frame_is_refused_or_is_a_shorter_message() {
        for news in all_kinds() {
            let frame = news.encode();
            for end in 0..frame.len() {
                let decoded = News::decode(frame.slice(..end));
                let is_shorter = matches!(
                    (&decoded, &news.body),
                    (
                        Ok(News {
                            body: NewsBody::Message { .. },
                            ..
                        }),
                        NewsBody::Message { .. }
                    )
                );
                assert!(decoded.is_err() || is_shorter);
            }
        }
    }

    #[test]
    fn a_message_is_its_head_and_its_data() {
        let news = &all_kinds()[1];
        let mut frame = News::message_head(&news.channel, None, None).to_vec();
        frame.push(b'7');
        assert_eq!(frame, news.encode());
    }
}
