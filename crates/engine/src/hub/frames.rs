//! The bytes of several runs as one write, and where a short write ended.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_wire::{Form, FormId, Run, Seq, TagsFilter};

/// The frames after `after` of consecutive runs, in one wire form, as one piece of memory.
pub(crate) struct Frames<'a> {
    runs: &'a [Arc<Run>],
    after: Seq,
    form: FormId,
    encoder: &'a dyn Form,
    bytes: &'a [u8],
    shared: Option<Bytes>,
    last: Seq,
    /// Where each frame ends, and its number, if these are some of the frames only.
    chosen: Option<Vec<(usize, Seq)>>,
}

impl<'a> Frames<'a> {
    /// Gathers in `scratch` the frames that a filter selects, up to about `bytes_max` bytes, but always one if there is one.
    /// Nothing is encoded of runs of which it selects nothing.
    pub(crate) fn select(
        runs: &'a [Arc<Run>],
        after: Seq,
        form: FormId,
        encoder: &'a dyn Form,
        filter: &TagsFilter,
        scratch: &'a mut Vec<u8>,
        bytes_max: usize,
    ) -> Self {
        scratch.clear();
        let mut chosen: Vec<(usize, Seq)> = Vec::new();
        let mut last = after;
        'runs: for run in runs {
            for at in run.index_after(after)..run.publications().len() {
                if !filter.selects(run.tags(at)) {
                    continue;
                }
                let encoded = run.encoded(form, encoder);
                let frame = start_of(&encoded.ends, at)..encoded.ends[at] as usize;
                if !chosen.is_empty() && scratch.len() + frame.len() > bytes_max {
                    // What stands between is not wanted.
                    last = last.max(Seq(run.publications()[at].seq.0 - 1));
                    break 'runs;
                }
                scratch.extend_from_slice(&encoded.bytes[frame]);
                chosen.push((scratch.len(), run.publications()[at].seq));
            }
            last = last.max(run.last());
        }
        Self {
            runs,
            after,
            form,
            encoder,
            bytes: scratch,
            shared: None,
            last,
            chosen: Some(chosen),
        }
    }

    /// Encodes the first frame in `scratch`: whole, as it is for everybody who has not had the publication before it.
    pub(crate) fn first_whole(
        runs: &'a [Arc<Run>],
        after: Seq,
        form: FormId,
        encoder: &'a dyn Form,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        let mut last = after;
        for run in runs {
            if let Some(first) = run.publications().get(run.index_after(after)) {
                encoder.encode(run.channel(), run.epoch(), first, scratch);
                last = first.seq;
                break;
            }
        }
        let chosen = match scratch.len() {
            0 => Vec::new(),
            length => vec![(length, last)],
        };
        Self {
            runs,
            after,
            form,
            encoder,
            bytes: scratch,
            shared: None,
            last,
            chosen: Some(chosen),
        }
    }

    /// Gathers the frames: those of a single run where they are, those of several in `scratch`.
    pub(crate) fn gather(
        runs: &'a [Arc<Run>],
        after: Seq,
        form: FormId,
        encoder: &'a dyn Form,
        scratch: &'a mut Vec<u8>,
    ) -> Self {
        let piece = |run: &'a Arc<Run>| run.encoded(form, encoder).skip(run.index_after(after));
        let (bytes, shared) = match runs {
            [run] => {
                let bytes = piece(run);
                let whole = &run.encoded(form, encoder).bytes;
                (bytes, (bytes.len() == whole.len()).then(|| whole.clone()))
            }
            _ => {
                scratch.clear();
                for run in runs {
                    scratch.extend_from_slice(piece(run));
                }
                (&scratch[..], None)
            }
        };
        Self {
            runs,
            after,
            form,
            encoder,
            bytes,
            shared,
            last: runs.last().map_or(after, |run| run.last()),
            chosen: None,
        }
    }

    /// Whether there are none: the cursor goes on without a write.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Leaves out what is beyond `bytes_max` bytes, but never the first frame.
    pub(crate) fn limit(&mut self, bytes_max: usize) {
        if self.bytes.len() <= bytes_max {
            return;
        }
        let mut base = 0;
        let mut kept = (0, self.after);
        'runs: for run in self.runs {
            let encoded = run.encoded(self.form, self.encoder);
            let skip = run.index_after(self.after);
            let offset = start_of(&encoded.ends, skip);
            for (index, end) in encoded.ends.iter().enumerate().skip(skip) {
                let end = base + (*end as usize - offset);
                if end > bytes_max && kept.0 > 0 {
                    break 'runs;
                }
                kept = (end, run.publications()[index].seq);
            }
            base += encoded.bytes.len() - offset;
        }
        (self.bytes, self.last) = (&self.bytes[..kept.0], kept.1);
        // What is shared would keep the rest in memory for as long as somebody holds this part.
        self.shared = None;
    }

    /// All frames.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All frames by reference; copied by the first who asks, if they are not shared already.
    pub(crate) fn shared(&mut self) -> Bytes {
        let bytes = self.bytes;
        self.shared
            .get_or_insert_with(|| Bytes::copy_from_slice(bytes))
            .clone()
    }

    /// The last number in the frames.
    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    /// How many frames there are.
    pub(crate) fn count(&self) -> u64 {
        match &self.chosen {
            Some(chosen) => chosen.len() as u64,
            None => self.last().0.saturating_sub(self.after.0),
        }
    }

    /// How many frames a write has begun that ended in, or behind, the frame with this number.
    pub(crate) fn count_up_to(&self, reached: Seq) -> u64 {
        match &self.chosen {
            Some(chosen) => chosen.partition_point(|(_, seq)| *seq <= reached) as u64,
            None => reached.0.saturating_sub(self.after.0),
        }
    }

    /// After a write of `written` bytes: the number of the frame that it ended in or behind, and what is left of it.
    pub(crate) fn cut(&self, written: usize) -> (Seq, &'a [u8]) {
        if let Some(chosen) = &self.chosen {
            return self.cut_chosen(chosen, written);
        }
        let mut base = 0;
        let mut reached = self.after;
        for run in self.runs {
            let encoded = run.encoded(self.form, self.encoder);
            let skip = run.index_after(self.after);
            let offset = start_of(&encoded.ends, skip);
            for (index, end) in encoded.ends.iter().enumerate().skip(skip) {
                let end = base + (*end as usize - offset);
                let start_reached = written >= end;
                if !start_reached {
                    let start = match index {
                        index if index == skip => base,
                        index => base + (start_of(&encoded.ends, index) - offset),
                    };
                    if written == start {
                        return (reached, &[]);
                    }
                    return (run.publications()[index].seq, &self.bytes[written..end]);
                }
                reached = run.publications()[index].seq;
            }
            base += encoded.bytes.len() - offset;
        }
        (reached, &[])
    }

    fn cut_chosen(&self, chosen: &[(usize, Seq)], written: usize) -> (Seq, &'a [u8]) {
        let whole = chosen.partition_point(|(end, _)| *end <= written);
        let (start, reached) = match whole.checked_sub(1) {
            Some(last) => chosen[last],
            None => (0, self.after),
        };
        match chosen.get(whole) {
            None => (self.last, &[]),
            Some((end, seq)) if written > start => (*seq, &self.bytes[written..*end]),
            Some(_) => (reached, &[]),
        }
    }
}

/// Where the frame with this index begins.
fn start_of(ends: &[u32], index: usize) -> usize {
    match index {
        0 => 0,
        index => ends[index - 1] as usize,
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{ChannelName, Epoch, Publication};

    use super::*;
    use crate::testing::run;

    struct Plain;
    impl Form for Plain {
        fn encode(&self, _: &ChannelName, _: &Epoch, publication: &Publication, out: &mut Vec<u8>) {
            out.extend_from_slice(format!("<{}>", publication.seq).as_bytes());
        }
    }

    /// Cuts `runs` after every byte and checks that the written part, the rest of the frame and the frames after the
    /// returned number give all the bytes again.
    fn check(runs: &[Arc<Run>], after: u64) {
        let mut scratch = Vec::new();
        let form = FormId(0);
        let frames = Frames::gather(runs, Seq(after), form, &Plain, &mut scratch);
        let all = frames.bytes();
        for written in 0..=all.len() {
            let (seq, rest) = frames.cut(written);
            let mut scratch = Vec::new();
            let follows: Vec<_> = runs
                .iter()
                .filter(|run| run.last() > seq)
                .cloned()
                .collect();
            let follows = Frames::gather(&follows, seq, form, &Plain, &mut scratch);
            assert_eq!(
                [&all[..written], rest, follows.bytes()].concat(),
                all,
                "cut at {written}"
            );
            assert!(rest.len() < 6, "at most one frame is left over");
        }
    }

    /// Selects publications with the tag `even`.
    fn even() -> TagsFilter {
        let node = fanfare_wire::FilterNode {
            key: "even".into(),
            cmp: "ex".into(),
            ..Default::default()
        };
        TagsFilter::compile(&node).unwrap()
    }

    fn tagged(numbers: std::ops::RangeInclusive<u64>) -> Arc<Run> {
        let plain = run(numbers);
        let mut publications = plain.publications().to_vec();
        for publication in &mut publications {
            let even = publication.seq.0.is_multiple_of(2);
            publication.tags = even.then(|| fanfare_wire::Json::parse(br#"{"even":""}"#).unwrap());
        }
        Run::new(plain.channel().clone(), plain.epoch().clone(), publications).unwrap()
    }

    #[test]
    fn what_is_selected_can_be_cut_anywhere_and_passes_over_the_rest() {
        let runs = [tagged(8..=9), tagged(11..=11), tagged(12..=15)];
        let select = |after, bytes_max, scratch: &mut Vec<u8>| {
            let filter = even();
            let frames =
                Frames::select(&runs, after, FormId(0), &Plain, &filter, scratch, bytes_max);
            let cuts: Vec<_> = (0..=frames.bytes().len())
                .map(|written| {
                    let (seq, rest) = frames.cut(written);
                    (seq, rest.to_vec(), frames.count_up_to(seq))
                })
                .collect();
            (frames.bytes().to_vec(), frames.last(), frames.count(), cuts)
        };
        let mut scratch = Vec::new();
        let (bytes, last, count, cuts) = select(Seq(7), usize::MAX, &mut scratch);
        assert_eq!((&bytes[..], last, count), (&b"<8><12><14>"[..], Seq(15), 3));
        for (written, (seq, rest, begun)) in cuts.into_iter().enumerate() {
            let (follows, ..) = select(seq, usize::MAX, &mut scratch);
            let all = [&bytes[..written], &rest, &follows].concat();
            assert_eq!(all, bytes, "cut at {written}");
            let starts = [0, 3, 7].iter().filter(|start| **start < written);
            assert_eq!(begun, starts.count() as u64);
        }
        let limited = |after, bytes_max| {
            let (bytes, last, ..) = select(Seq(after), bytes_max, &mut Vec::new());
            (String::from_utf8(bytes).unwrap(), last)
        };
        assert_eq!(limited(7, 0), ("<8>".to_owned(), Seq(11)));
        assert_eq!(limited(7, 7), ("<8><12>".to_owned(), Seq(13)));
        assert_eq!(limited(12, 99), ("<14>".to_owned(), Seq(15)));
        assert_eq!(limited(14, 99), (String::new(), Seq(15)));
        let nothing = Frames::select(
            &runs[1..2],
            Seq(10),
            FormId(1),
            &Plain,
            &even(),
            &mut scratch,
            99,
        );
        assert!(nothing.is_empty() && nothing.last() == Seq(11));
    }

    #[test]
    fn the_first_frame_is_one() {
        let runs = [run(8..=9), run(10..=11)];
        let mut scratch = Vec::new();
        for (after, frame) in [(7, "<8>"), (8, "<9>"), (9, "<10>")] {
            let frames = Frames::first_whole(&runs, Seq(after), FormId(0), &Plain, &mut scratch);
            assert_eq!(frames.bytes(), frame.as_bytes());
            assert_eq!((frames.last(), frames.count()), (Seq(after + 1), 1));
            assert_eq!(frames.cut(0), (Seq(after), &b""[..]));
            assert_eq!(frames.cut(1), (Seq(after + 1), &frame.as_bytes()[1..]));
            assert_eq!(frames.cut(frame.len()), (Seq(after + 1), &b""[..]));
        }
    }

    #[test]
    fn a_limit_leaves_whole_frames_and_at_least_one() {
        let runs = [run(8..=9), run(10..=10), run(11..=13)];
        // Frames of 3 bytes up to 9, of 4 from 10 on.
        for (bytes_max, last, length) in [
            (0, 8, 3),
            (5, 8, 3),
            (6, 9, 6),
            (9, 9, 6),
            (14, 11, 14),
            (99, 13, 22),
        ] {
            let mut scratch = Vec::new();
            let mut frames = Frames::gather(&runs, Seq(7), FormId(0), &Plain, &mut scratch);
            frames.limit(bytes_max);
            assert_eq!((frames.last(), frames.bytes().len()), (Seq(last), length));
            assert_eq!(frames.count(), last - 7);
            assert_eq!(frames.shared().len(), length);
            for written in 0..=length {
                let (seq, rest) = frames.cut(written);
                assert!(seq <= Seq(last), "cut at {written}");
                assert!(written + rest.len() <= length);
            }
        }
    }

    #[test]
    fn a_short_write_is_continued_exactly() {
        let runs = [run(8..=9), run(10..=10), run(11..=13)];
        check(&runs, 7);
        check(&runs, 8);
        check(&runs[1..], 9);
        check(&runs[2..], 12);
        check(&runs[..1], 7);
    }
}
