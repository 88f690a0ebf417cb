//! News of the moment in a shard: told to those who keep up, in one more walk at the end of a turn, and kept for nobody.
//!
//! News have no number and move no cursor. They are written only between whole frames, to connections with nothing of
//! their own to write and a cursor that has seen everything, so that they never stand inside a publication nor before one
//! that the subscriber should have had first. A socket that takes only part of a frame keeps the rest of that one; what
//! comes behind it is dropped.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use fanfare_wire::{Form, FormId, News, NewsBody, PerForm, Tags, TagsFilter};

use super::{
    Common,
    conn::Conn,
    cursors::{Diet, List},
    shard::Shard,
    sink::Written,
    stall,
};

/// News of one channel that wait for the end of a turn. The oldest go for those that come on top.
pub(crate) const NEWS_MAX: usize = 256;
/// Bytes of them; at least one is kept.
pub(crate) const NEWS_BYTES_MAX: usize = 512 << 10;

/// One piece of news, encoded at most once for each wire form on a node.
pub(crate) struct Told {
    news: News,
    /// Read when somebody asks.
    tags: OnceLock<Tags>,
    encoded: PerForm<Bytes>,
}

/// News of a channel that wait for the end of the turn.
#[derive(Default)]
pub(crate) struct Waiting {
    told: VecDeque<Arc<Told>>,
    bytes: usize,
}

impl Told {
    pub(crate) fn new(news: News) -> Arc<Self> {
        Arc::new(Self {
            news,
            tags: OnceLock::new(),
            encoded: PerForm::default(),
        })
    }

    /// What it weighs in memory, in bytes, without its encoded forms.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.news.weight()
    }

    /// Whether a filter selects it. It is one of messages: who comes and goes is told to all who are told of that.
    fn is_selected(&self, filter: &TagsFilter) -> bool {
        match &self.news.body {
            NewsBody::Message { tags, .. } => {
                filter.selects(self.tags.get_or_init(|| Tags::of(tags.as_ref())))
            }
            _ => true,
        }
    }

    /// The frame in a wire form; empty if its subscribers are not told.
    fn encoded(&self, id: FormId, form: &dyn Form) -> &Bytes {
        self.encoded.get_or_init(id, || {
            let mut out = Vec::new();
            form.encode_news(&self.news.channel, &self.news.body, &mut out);
            out.into()
        })
    }
}

impl Waiting {
    /// Adds one. Returns how many had to go for it.
    fn push(&mut self, told: Arc<Told>) -> u64 {
        self.bytes += told.weight();
        self.told.push_back(told);
        let mut dropped = 0;
        while self.told.len() > NEWS_MAX || (self.bytes > NEWS_BYTES_MAX && self.told.len() > 1) {
            let oldest = self.told.pop_front();
            self.bytes -= oldest.map_or(0, |told| told.weight());
            dropped += 1;
        }
        dropped
    }
}

/// Counts of a walk, added to the metrics once.
#[derive(Default)]
struct Tally {
    deliveries: u64,
    dropped: u64,
    writes: u64,
    bytes: u64,
    lagging: u64,
}

/// The frames of several news in one wire form, as one piece of memory.
struct Frames<'a> {
    bytes: &'a [u8],
    /// Where each frame ends.
    ends: Vec<usize>,
    shared: Option<Bytes>,
}

impl<'a> Frames<'a> {
    /// Those of a single piece of news are taken where they are, those of several are gathered in `scratch`.
    fn gather(told: &[Arc<Told>], diet: &Diet, form: &dyn Form, scratch: &'a mut Vec<u8>) -> Self {
        scratch.clear();
        let mut ends = Vec::with_capacity(told.len());
        let mut shared = None;
        for told in told {
            let filter = diet.filter.as_ref();
            if filter.is_some_and(|filter| !told.is_selected(filter)) {
                continue;
            }
            let frame = told.encoded(diet.form, form);
            if frame.is_empty() {
                continue;
            }
            scratch.extend_from_slice(frame);
            ends.push(scratch.len());
            shared = (ends.len() == 1).then(|| frame.clone());
        }
        Self {
            bytes: scratch,
            ends,
            shared,
        }
    }

    /// How many of the frames fit into `bytes_max` bytes, at least one.
    fn fitting(&self, bytes_max: usize) -> usize {
        self.ends.partition_point(|end| *end <= bytes_max).max(1)
    }

    /// The first `count` frames.
    fn first(&self, count: usize) -> &'a [u8] {
        &self.bytes[..self.ends[count - 1]]
    }

    /// The same by reference; copied by the first who asks, if they are not shared already.
    fn share(&mut self, length: usize) -> Bytes {
        let bytes = self.bytes;
        let all = self
            .shared
            .get_or_insert_with(|| Bytes::copy_from_slice(bytes));
        all.slice(..length)
    }

    /// After a write of `written` bytes: how many frames have begun, and what is left of the last of these.
    fn cut(&self, written: usize) -> (usize, &'a [u8]) {
        if written == 0 {
            return (0, &[]);
        }
        let last = self.ends.partition_point(|end| *end < written);
        (last + 1, &self.bytes[written..self.ends[last]])
    }
}

impl Shard {
    /// A channel has news.
    pub(super) fn told(&mut self, told: Arc<Told>) {
        let Some(channel) = self.by_name.get(&told.news.channel).copied() else {
            return;
        };
        let found = &mut self.channels[channel as usize];
        if found.cursors.is_empty() {
            return;
        }
        if found.told.told.is_empty() {
            self.telling.push(channel);
        }
        let dropped = found.told.push(told);
        self.common.metrics.news_dropped.add(dropped);
    }

    /// Tells the subscribers of each channel with news.
    pub(super) fn tell_all(&mut self) {
        for channel in std::mem::take(&mut self.telling) {
            self.tell(channel);
        }
    }

    fn tell(&mut self, channel: u32) {
        let Some(found) = self.channels.get_mut(channel as usize) else {
            return;
        };
        let told: Vec<Arc<Told>> = std::mem::take(&mut found.told).told.into();
        let (head, tick) = (found.head, self.tick);
        let mut tally = Tally::default();
        let mut gone = Vec::new();
        // A client that takes deltas takes a message for the publication that the next one builds on.
        let is_message = |told: &Arc<Told>| matches!(told.news.body, NewsBody::Message { .. });
        let mut misled = Vec::new();
        for List { diet, cursors } in found.cursors.lists_mut() {
            let form = &*self.common.forms[usize::from(diet.form.0)];
            let mut frames = Frames::gather(&told, diet, form, &mut self.scratch);
            if frames.ends.is_empty() {
                continue;
            }
            let misleads = form.takes_deltas() && !diet.whole && told.iter().any(is_message);
            for cursor in cursors.iter() {
                let conn = &mut self.conns[cursor.conn as usize];
                if !conn.is_clear() || cursor.seq < head {
                    tally.dropped += frames.ends.len() as u64;
                    continue;
                }
                give(conn, &mut frames, tick, &mut tally);
                if misleads {
                    misled.push(cursor.conn);
                }
                if conn.dead {
                    gone.push(cursor.conn);
                } else {
                    let stall_seconds = self.common.stall_seconds;
                    stall::watch(conn, &mut self.wheel, tick, stall_seconds);
                }
            }
        }
        count(&self.common, &tally);
        for index in misled {
            self.begin_whole(index, channel);
        }
        for index in gone {
            self.doom(index);
        }
    }
}

/// Writes frames of news to a connection that is clear.
fn give(conn: &mut Conn, frames: &mut Frames<'_>, tick: u32, tally: &mut Tally) {
    let fitting = match conn.sink.takes(frames.bytes.len()) {
        true => frames.ends.len(),
        false => frames.fitting(conn.sink.bytes_max()),
    };
    let bytes = frames.first(fitting);
    tally.writes += 1;
    let told = match conn.sink.write(bytes, || frames.share(bytes.len())) {
        Written::All => {
            tally.bytes += bytes.len() as u64;
            fitting
        }
        Written::Partly(written) => {
            let (begun, rest) = frames.cut(written);
            tally.bytes += written as u64;
            tally.lagging += 1;
            conn.block_with(rest, tick);
            begun
        }
        Written::Gone => {
            conn.dead = true;
            return;
        }
    };
    tally.deliveries += told as u64;
    tally.dropped += (frames.ends.len() - told) as u64;
}

fn count(common: &Common, tally: &Tally) {
    let metrics = &common.metrics;
    metrics.news_deliveries.add(tally.deliveries);
    metrics.news_dropped.add(tally.dropped);
    metrics.writes.add(tally.writes);
    metrics.written_bytes.add(tally.bytes);
    metrics.lagging.add(tally.lagging);
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{ChannelName, Epoch, Json, NewsBody, Publication};

    use super::*;
    use crate::testing::channel;

    /// Shows messages only.
    struct Plain;

    impl Form for Plain {
        fn encode(&self, _: &ChannelName, _: &Epoch, _: &Publication, _: &mut Vec<u8>) {}

        fn encode_news(&self, _: &ChannelName, news: &NewsBody, out: &mut Vec<u8>) {
            if let NewsBody::Message { data, .. } = news {
                out.extend_from_slice(data.as_bytes());
            }
        }
    }

    const PLAIN: Diet = Diet {
        form: FormId(0),
        whole: false,
        filter: None,
        newest: false,
    };

    fn message(text: &str) -> Arc<Told> {
        Told::new(News {
            channel: channel("c"),
            body: NewsBody::Message {
                data: Json::parse(text.as_bytes()).unwrap(),
                info: None,
                tags: None,
            },
        })
    }

    fn join() -> Arc<Told> {
        let info = Json::parse(b"{}").unwrap();
        Told::new(News {
            channel: channel("c"),
            body: NewsBody::Join { info },
        })
    }

    #[test]
    fn a_cut_keeps_the_rest_of_one_frame() {
        let told = [message("10"), join(), message("200"), message("3")];
        let mut scratch = Vec::new();
        let mut frames = Frames::gather(&told, &PLAIN, &Plain, &mut scratch);
        assert_eq!(frames.bytes, b"102003");
        assert_eq!(frames.ends, [2, 5, 6]);
        let expected: [(usize, &[u8]); 7] = [
            (0, b""),
            (1, b"0"),
            (1, b""),
            (2, b"00"),
            (2, b"0"),
            (2, b""),
            (3, b""),
        ];
        for (written, expected) in expected.into_iter().enumerate() {
            assert_eq!(frames.cut(written), expected, "cut at {written}");
        }
        let fitting = [0, 1, 2, 4, 5, 6, 99].map(|bytes_max| frames.fitting(bytes_max));
        assert_eq!(fitting, [1, 1, 1, 1, 2, 3, 3]);
        assert_eq!(frames.first(2), b"10200");
        assert_eq!(frames.share(5), b"10200"[..]);
    }

    #[test]
    fn what_a_form_does_not_show_makes_no_frame() {
        let mut scratch = Vec::new();
        let frames = Frames::gather(&[join()], &PLAIN, &Plain, &mut scratch);
        assert!(frames.ends.is_empty());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut waiting = Waiting::default();
        let dropped: u64 = (0..NEWS_MAX + 3)
            .map(|number| waiting.push(message(&number.to_string())))
            .sum();
        assert_eq!(dropped, 3);
        assert_eq!(waiting.told.len(), NEWS_MAX);
        let mut scratch = Vec::new();
        let told: Vec<_> = waiting.told.into_iter().take(1).collect();
        let frames = Frames::gather(&told, &PLAIN, &Plain, &mut scratch);
        assert_eq!(frames.bytes, b"3");
        let mut waiting = Waiting::default();
        let large = format!("\"{}\"", "x".repeat(NEWS_BYTES_MAX));
        assert_eq!(waiting.push(message(&large)), 0, "one is always kept");
        assert_eq!(waiting.push(message("1")), 1);
        assert_eq!(waiting.push(message("2")), 0);
    }
}
