//! What travels over a channel's topic. The first byte tells what it is.
//!
//! | first byte | what | from |
//! | --- | --- | --- |
//! | 1 | a [hint](fanfare_wire::hint) | a node; it may hear its own |
//! | 2 | [news](fanfare_wire::news) | the shared state, whose scripts publish it themselves: every node delivers it |
//! | 3 | the 16 bytes of a node, and news | this node, which has delivered it already: all others deliver it |

use bytes::{Buf, Bytes};
use fanfare_wire::{
    ChannelName, News,
    hint::{self, Hint},
    news,
};
use uuid::Uuid;

/// The first byte of news that a node told.
const FROM_NODE: u8 = 3;

/// Something that waits for Redis.
#[derive(Debug, Clone)]
pub(super) enum Parcel {
    Hint(Hint),
    News(News),
}

/// Something that came from Redis.
#[derive(Debug)]
pub(super) enum Arrived {
    Hint(Hint),
    News(News),
    /// What this node told itself.
    Own,
}

impl Parcel {
    pub(super) fn channel(&self) -> &ChannelName {
        match self {
            Self::Hint(hint) => hint.run.channel(),
            Self::News(news) => &news.channel,
        }
    }

    /// What it weighs in the queue, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Hint(hint) => hint.run.weight(),
            Self::News(news) => size_of::<News>() + news.weight(),
        }
    }

    /// The payload, as sent by `node`.
    pub(super) fn encode(&self, node: Uuid) -> Bytes {
        match self {
            Self::Hint(hint) => hint.encode(),
            Self::News(news) => {
                let frame = news.encode();
                let mut out = Vec::with_capacity(17 + frame.len());
                out.push(FROM_NODE);
                out.extend_from_slice(node.as_bytes());
                out.extend_from_slice(&frame);
                out.into()
            }
        }
    }
}

impl Arrived {
    /// Reads a payload, as `node` hears it; `None` if it is nothing of this version.
    pub(super) fn decode(mut payload: Bytes, node: Uuid) -> Option<Self> {
        match *payload.first()? {
            hint::VERSION => Hint::decode(payload).ok().map(Self::Hint),
            news::VERSION => News::decode(payload).ok().map(Self::News),
            FROM_NODE if payload.len() > 17 => {
                payload.advance(1);
                let from = payload.split_to(16);
                if from == node.as_bytes()[..] {
                    return Some(Self::Own);
                }
                News::decode(payload).ok().map(Self::News)
            }
            _ => None,
        }
    }

    /// The channel that it belongs to, where that matters.
    pub(super) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Hint(hint) => Some(hint.run.channel()),
            Self::News(news) => Some(&news.channel),
            Self::Own => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{Json, NewsBody};

    use super::*;

    #[test]
    fn a_node_knows_its_own_news_and_all_hear_those_of_the_state() {
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let news = News {
            channel: ChannelName::parse("c").unwrap(),
            body: NewsBody::Join {
                info: Json::parse(b"{}").unwrap(),
            },
        };
        let told = Parcel::News(news.clone()).encode(here);
        assert!(matches!(
            Arrived::decode(told.clone(), here),
            Some(Arrived::Own)
        ));
        let arrived = |payload: Bytes, node| match Arrived::decode(payload, node) {
            Some(Arrived::News(news)) => Some(news),
            _ => None,
        };
        assert_eq!(arrived(told.clone(), there), Some(news.clone()));
        assert_eq!(arrived(news.encode(), here), Some(news));
        for end in 0..told.len() {
            assert!(arrived(told.slice(..end), there).is_none(), "cut at {end}");
        }
        assert!(Arrived::decode(Bytes::from_static(b"\x04abc"), here).is_none());
    }
}
