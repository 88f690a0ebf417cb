//! A run: consecutive publications of one channel, the unit in which they travel from commit to socket.
//!
//! A run is made once per batch (or per page of the log), shared by reference, and encoded at most once for each
//! wire form on a node, however many shards and sockets it goes to.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

#[cfg(feature = "sabotage")]
use crate::sabotage::in_place_of;
use crate::{ChannelName, Epoch, Json, NewsBody, PerForm, Publication, Seq, Tags, fossil};

/// How many wire forms a node can serve.
pub const FORMS_MAX: usize = 40;

/// Names a wire form; the index of its [`Form`] in the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FormId(pub u8);

/// A wire form: how publications and news look on one kind of connection.
pub trait Form: Send + Sync + 'static {
    /// Appends one whole frame to `out`. The same bytes go to every subscriber.
    fn encode(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        out: &mut Vec<u8>,
    );

    /// Whether a subscriber that has had the publication before is given a delta where there is one. Its first publication is
    /// whole, and so is the first one behind news or a gap.
    fn takes_deltas(&self) -> bool {
        false
    }

    /// Appends one whole frame to `out`: what the publication is if the one before it is known. Of a form that
    /// [takes deltas](Self::takes_deltas).
    fn encode_delta(
        &self,
        channel: &ChannelName,
        epoch: &Epoch,
        publication: &Publication,
        _delta: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.encode(channel, epoch, publication, out);
    }

    /// Appends one whole frame of news to `out`, or nothing if subscribers of this form are not told of such news.
    fn encode_news(&self, _channel: &ChannelName, _news: &NewsBody, _out: &mut Vec<u8>) {}

    /// Whether each frame of a publication is completed for its connection (an event id made of several channels, for one). Such
    /// connections cost a copy per frame; all others share the bytes as they are.
    fn is_personal(&self) -> bool {
        false
    }
}

/// The frames of a run in one wire form.
#[derive(Debug)]
pub struct Encoded {
    /// All frames, one after the other.
    pub bytes: Bytes,
    /// Where each frame ends in `bytes`.
    pub ends: Box<[u32]>,
}

/// Something that was made of each publication.
struct Made<T> {
    each: Box<[T]>,
    /// What it weighs in memory, in bytes.
    weight: usize,
}

impl<T> Made<T> {
    /// `weight` is what an item weighs beside itself.
    fn of(items: impl Iterator<Item = T>, weight: impl Fn(&T) -> usize) -> Self {
        let each: Box<[T]> = items.collect();
        let weight = size_of_val(&*each) + each.iter().map(weight).sum::<usize>();
        Self { each, weight }
    }
}

/// Publications `first ..= last` of one channel, without holes.
pub struct Run {
    channel: ChannelName,
    epoch: Epoch,
    publications: Box<[Publication]>,
    weight: usize,
    /// The payload of the publication before the first, if it is known.
    before: OnceLock<Json>,
    /// Made when somebody wants one, for all wire forms.
    deltas: OnceLock<Made<Option<Box<[u8]>>>>,
    /// Read when somebody asks.
    tags: OnceLock<Made<Tags>>,
    // Boxed, as most runs are encoded in one or two forms only.
    encoded: PerForm<Box<Encoded>>,
}

impl Run {
    /// Makes a run of publications that follow each other.
    ///
    /// Returns `None` if there are none, or if their numbers are not consecutive.
    #[must_use]
    pub fn new(
        channel: ChannelName,
        epoch: Epoch,
        publications: Vec<Publication>,
    ) -> Option<Arc<Self>> {
        let consecutive = publications
            .windows(2)
            .all(|pair| pair[1].seq == pair[0].seq.next());
        if publications.is_empty() || !consecutive {
            return None;
        }
        let weight =
            size_of::<Self>() + publications.iter().map(Publication::weight).sum::<usize>();
        Some(Arc::new(Self {
            channel,
            epoch,
            publications: publications.into(),
            weight,
            before: OnceLock::new(),
            deltas: OnceLock::new(),
            tags: OnceLock::new(),
            encoded: PerForm::default(),
        }))
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The log's epoch.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The number of the first publication.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.publications[0].seq
    }

    /// The number of the last publication.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.publications[self.publications.len() - 1].seq
    }

    /// The publications in order; never empty.
    #[must_use]
    pub fn publications(&self) -> &[Publication] {
        &self.publications
    }

    /// What the run weighs in memory, in bytes, without its encoded forms.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What the run weighs in memory now, in bytes, with the forms in which it has been encoded so far.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let encoded = self.encoded.iter();
        let size = |it: &Encoded| size_of::<Encoded>() + it.bytes.len() + size_of_val(&*it.ends);
        self.weight
            + encoded.map(|it| size(it)).sum::<usize>()
            + self.deltas.get().map_or(0, |it| it.weight)
            + self.tags.get().map_or(0, |it| it.weight)
    }

    /// Says what is before the run: the first publication can then be a delta as well. Only the run that ends right before
    /// it counts.
    pub fn follow(&self, run: &Self) {
        let last = &run.publications[run.publications.len() - 1];
        if last.seq.next() == self.first() && run.epoch == self.epoch {
            // It may have been said already, which is the same.
            let _ = self.before.set(last.data.clone());
        }
    }

    /// The tags of the publication with this index.
    #[must_use]
    pub fn tags(&self, at: usize) -> &Tags {
        let tags = self.tags.get_or_init(|| {
            let publications = self.publications.iter();
            let tags = publications.map(|it| Tags::of(it.tags.as_ref()));
            Made::of(tags, Tags::weight)
        });
        &tags.each[at]
    }

    /// What the publication with this index is, given the one before it; `None` if that is not known, or the whole is no
    /// longer.
    fn delta(&self, at: usize) -> Option<&[u8]> {
        let deltas = self.deltas.get_or_init(|| {
            let before = self.publications.iter().map(|it| Some(&it.data));
            let before = std::iter::once(self.before.get()).chain(before);
            let delta = |(before, publication): (Option<&Json>, &Publication)| {
                let delta = fossil::delta(before?.as_bytes(), publication.data.as_bytes());
                delta.map(Vec::into_boxed_slice)
            };
            let deltas = before.zip(&self.publications).map(delta);
            Made::of(deltas, |it| it.as_ref().map_or(0, |delta| delta.len()))
        });
        deltas.each[at].as_deref()
    }

    /// The part of the run after `seq`: the run itself when all of it is, `None` when nothing is.
    #[must_use]
    pub fn after(self: &Arc<Self>, seq: Seq) -> Option<Arc<Self>> {
        if seq < self.first() {
            return Some(Arc::clone(self));
        }
        let (seen, rest) = self.publications.split_at(self.index_after(seq));
        let rest = Self::new(self.channel.clone(), self.epoch.clone(), rest.to_vec())?;
        if let Some(last) = seen.last() {
            let _ = rest.before.set(last.data.clone());
        }
        Some(rest)
    }

    /// The frames in the wire form `id`, encoded by the first who asks.
    pub fn encoded(&self, id: FormId, form: &dyn Form) -> &Encoded {
        self.encoded.get_or_init(id, || {
            let mut bytes = Vec::new();
            let mut ends = Vec::with_capacity(self.publications.len());
            for at in 0..self.publications.len() {
                for publication in in_place_of(&self.publications, at) {
                    let delta = form.takes_deltas().then(|| self.delta(at)).flatten();
                    let (channel, epoch) = (&self.channel, &self.epoch);
                    match delta {
                        Some(delta) => {
                            form.encode_delta(channel, epoch, publication, delta, &mut bytes);
                        }
                        None => form.encode(channel, epoch, publication, &mut bytes),
                    }
                }
                // A run is bounded by a batch or a page, both far below 4 GiB.
                ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            Box::new(Encoded {
                bytes: bytes.into(),
                ends: ends.into(),
            })
        })
    }

    /// How many of the publications are at or before `seq`.
    #[must_use]
    pub fn index_after(&self, seq: Seq) -> usize {
        let passed = (seq.0 + 1).saturating_sub(self.first().0);
        usize::try_from(passed)
            .unwrap_or(usize::MAX)
            .min(self.publications.len())
    }
}

/// What is encoded for publication `at` of a run: itself.
#[cfg(not(feature = "sabotage"))]
fn in_place_of(run: &[Publication], at: usize) -> std::slice::Iter<'_, Publication> {
    run[at..=at].iter()
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Run({} {}..={})",
            self.channel,
            self.first(),
            self.last()
        )
    }
}

impl Encoded {
    /// The frames after the first `index` ones.
    #[must_use]
    pub fn skip(&self, index: usize) -> &[u8] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.bytes[start..]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::Json;

    struct Plain;
    impl Form for Plain {
        fn encode(&self, _: &ChannelName, _: &Epoch, publication: &Publication, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("<{}>", publication.seq).as_bytes());
        }
    }

    pub(crate) fn publication(seq: u64) -> Publication {
        Publication {
            seq: Seq(seq),
            id: Uuid::nil(),
            time: 5,
            data: Json::parse(b"{\"x\":1}").unwrap(),
            info: None,
            tags: None,
        }
    }

    pub(crate) fn run(numbers: impl IntoIterator<Item = u64>) -> Option<Arc<Run>> {
        let channel = ChannelName::parse("c").unwrap();
        let publications = numbers.into_iter().map(publication).collect();
        Run::new(channel, Epoch::parse("e1").unwrap(), publications)
    }

    #[test]
    fn a_run_has_no_holes() {
        assert!(run([]).is_none());
        assert!(run([1, 3]).is_none());
        assert!(run([2, 2]).is_none());
        let run = run([4, 5, 6]).unwrap();
        assert_eq!((run.first(), run.last()), (Seq(4), Seq(6)));
    }

    #[test]
    fn the_part_after_a_number_starts_right_behind_it() {
        let run = run([4, 5, 6]).unwrap();
        assert!(Arc::ptr_eq(&run, &run.after(Seq(3)).unwrap()));
        assert!(Arc::ptr_eq(&run, &run.after(Seq(1)).unwrap()));
        assert_eq!(run.after(Seq(4)).unwrap().first(), Seq(5));
        assert!(run.after(Seq(6)).is_none());
        assert!(run.after(Seq(60)).is_none());
    }

    /// Shows deltas.
    struct Deltas;
    impl Form for Deltas {
        fn encode(&self, _: &ChannelName, _: &Epoch, publication: &Publication, out: &mut Vec<u8>) {
            out.extend_from_slice(publication.data.as_bytes());
        }

        fn takes_deltas(&self) -> bool {
            true
        }

        fn encode_delta(
            &self,
            _: &ChannelName,
            _: &Epoch,
            publication: &Publication,
            delta: &[u8],
            out: &mut Vec<u8>,
        ) {
            assert!(delta.len() < publication.data.as_bytes().len());
            out.extend_from_slice(b"delta");
        }
    }

    #[test]
    fn deltas_are_made_of_what_is_known_and_only_if_asked_for() {
        let run_of = |numbers: std::ops::RangeInclusive<u64>| {
            let publications = numbers.map(|number| {
                let data = format!("\"{number} {}\"", "x".repeat(100));
                Publication {
                    data: Json::parse(data.as_bytes()).unwrap(),
                    ..publication(number)
                }
            });
            let channel = ChannelName::parse("c").unwrap();
            Run::new(channel, Epoch::parse("e1").unwrap(), publications.collect()).unwrap()
        };
        let shown = |run: &Run| {
            let encoded = run.encoded(FormId(0), &Deltas);
            let start = |at: usize| if at == 0 { 0 } else { encoded.ends[at - 1] };
            let frame = |at| &encoded.bytes[start(at) as usize..encoded.ends[at] as usize];
            let is_delta = |at| frame(at) == b"delta";
            (0..encoded.ends.len()).map(is_delta).collect::<Vec<_>>()
        };
        let (first, second, later) = (run_of(1..=2), run_of(3..=5), run_of(6..=6));
        first.encoded(FormId(0), &Plain);
        assert!(first.deltas.get().is_none(), "nobody has asked");
        second.follow(&first);
        later.follow(&first);
        let before = second.footprint();
        assert_eq!(shown(&run_of(1..=2)), [false, true]);
        assert_eq!(shown(&second), [true, true, true]);
        assert!(second.footprint() > before);
        assert_eq!(shown(&later), [false], "not right behind it");
        assert_eq!(shown(&second.after(Seq(3)).unwrap()), [true, true]);
    }

    #[test]
    fn frames_are_encoded_once_and_cut_at_any_number() {
        let run = run([9, 10, 11]).unwrap();
        let encoded = run.encoded(FormId(0), &Plain);
        assert_eq!(&encoded.bytes[..], b"<9><10><11>");
        assert_eq!(encoded.skip(run.index_after(Seq(9))), b"<10><11>");
        assert_eq!(encoded.skip(run.index_after(Seq(11))), b"");
        assert!(std::ptr::eq(encoded, run.encoded(FormId(0), &Plain)));
    }
}
