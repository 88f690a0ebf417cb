//! The bytes of several runs as one write, and where a short write ended.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_wire::{Form, FormId, Run, Seq};

/// The frames after `after` of consecutive runs, in one wire form, as one piece of memory.
pub(crate) struct Frames<'a> {
    runs: &'a [Arc<Run>],
    after: Seq,
    form: FormId,
    encoder: &'a dyn Form,
    bytes: &'a [u8],
    shared: Option<Bytes>,
    last: Seq,
}

impl<'a> Frames<'a> {
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
        }
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
        self.last().0.saturating_sub(self.after.0)
    }

    /// After a write of `written` bytes: the number of the frame that it ended in or behind, and what is left of it.
    pub(crate) fn cut(&self, written: usize) -> (Seq, &'a [u8]) {
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
