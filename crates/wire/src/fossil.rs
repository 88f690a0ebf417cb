//! Deltas of Fossil: what one text is when another is known.
//!
//! Facts: the delta format of fossil-scm.org. The target's length and a line feed; then commands, `N@O,` to copy N bytes
//! from offset O of the source and `N:` with N bytes to insert; then the target's checksum and `;`. Numbers have base 64.
//!
//! Commands begin and end between characters, never within one: so a delta of UTF-8 is UTF-8 itself, and a wire of text
//! can carry it.

use std::ops::Range;

/// Longest source or target in bytes of which a delta is made.
pub const DELTA_BYTES_MAX: usize = 128 << 10;

/// A match begins with so many equal bytes.
const BLOCK: usize = 8;
/// Blocks of the source that can be found begin at multiples of this: so every match of `BLOCK + STEP - 1` bytes is.
const STEP: usize = 4;
/// Places in the source that are tried for one in the target.
const CANDIDATES_MAX: usize = 8;
/// Bytes that are compared for each byte of source and target, at most; what is left then is inserted.
const COMPARED_MAX: usize = 32;
/// How far before a block a match is looked for.
const BACKWARD_MAX: usize = 64;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// The delta that makes `target` out of `source`; `None` if it would not be shorter than `target`, or if one of them is
/// longer than [`DELTA_BYTES_MAX`]. Whatever they are, the work is in proportion to their length.
#[must_use]
pub fn delta(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if source.len() > DELTA_BYTES_MAX || target.len() > DELTA_BYTES_MAX {
        return None;
    }
    let mut writer = Writer::new(target);
    let start = common(source.iter(), target.iter());
    writer.copy(0..start, 0);
    let start = writer.written;
    let end = common(source.iter().rev(), target[start..].iter().rev());
    let end = target.len() - end;
    // What is left of a differing middle that is too short for a match is inserted as it is.
    if end - start > BLOCK {
        copy_matches(source, end, &mut writer)?;
    }
    let end = end.max(writer.written);
    let offset = source.len() - (target.len() - end);
    writer.copy(end..target.len(), offset);
    writer.finish()
}

/// Copies what there is of the source in the target, from where the writer stands up to `end`.
fn copy_matches(source: &[u8], end: usize, writer: &mut Writer<'_>) -> Option<()> {
    let index = Index::of(source);
    let target = &writer.target[..end];
    let mut at = writer.written;
    let mut work = COMPARED_MAX * (source.len() + end);
    while let Some(block) = block_at(target, at) {
        let mut longest = (at..at, 0);
        for place in index.places(block) {
            let found = extend(source, target, place, writer.written..at);
            work = work.saturating_sub(found.0.len() + BLOCK);
            if found.0.len() > longest.0.len() {
                longest = found;
            }
        }
        let (range, offset) = longest;
        if work == 0 {
            break;
        }
        if !writer.copy(range, offset) {
            at += 1;
            continue;
        }
        at = writer.written;
        if writer.out.len() >= writer.target.len() {
            return None;
        }
    }
    Some(())
}

/// The longest match around the place `place` of the source and the end of `before` in the target, which begins within
/// `before`; and where it begins in the source.
fn extend(
    source: &[u8],
    target: &[u8],
    place: usize,
    before: Range<usize>,
) -> (Range<usize>, usize) {
    let at = before.end;
    let forward = common(source[place..].iter(), target[at..].iter());
    let backward = common(
        source[..place].iter().rev(),
        target[before].iter().rev().take(BACKWARD_MAX),
    );
    (at - backward..at + forward, place - backward)
}

/// How many bytes are equal before the first that differ.
fn common<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    one.zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

fn block_at(bytes: &[u8], at: usize) -> Option<u64> {
    let block = bytes.get(at..at + BLOCK)?;
    Some(u64::from_le_bytes(block.try_into().ok()?))
}

/// Where the blocks of a source are.
struct Index {
    /// By hash: the first block of its chain, counted from 1; 0 for none.
    heads: Vec<u32>,
    /// By block: the next one of its chain.
    next: Vec<u32>,
    bits: u32,
}

impl Index {
    fn of(source: &[u8]) -> Self {
        let blocks = source.len().saturating_sub(BLOCK - 1).div_ceil(STEP);
        let bits = blocks.next_power_of_two().trailing_zeros().max(1);
        let mut index = Self {
            heads: vec![0; 1 << bits],
            next: vec![0; blocks],
            bits,
        };
        // Backward, so that a chain has the earliest places first: their numbers are shorter.
        for number in (0..blocks).rev() {
            if let Some(block) = block_at(source, number * STEP) {
                let hash = index.hash(block);
                // There are at most DELTA_BYTES_MAX / STEP blocks.
                index.next[number] = std::mem::replace(&mut index.heads[hash], number as u32 + 1);
            }
        }
        index
    }

    fn hash(&self, block: u64) -> usize {
        (block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits)) as usize
    }

    /// Places of the source that may hold a block.
    fn places(&self, block: u64) -> impl Iterator<Item = usize> {
        let first = self.heads[self.hash(block)];
        let chain = std::iter::successors(Some(first), |number| {
            self.next.get((*number as usize).wrapping_sub(1)).copied()
        });
        chain
            .take_while(|number| *number > 0)
            .take(CANDIDATES_MAX)
            .map(|number| (number as usize - 1) * STEP)
    }
}

/// A delta that is being written.
struct Writer<'a> {
    target: &'a [u8],
    /// How much of the target it gives so far.
    written: usize,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(target: &'a [u8]) -> Self {
        let mut out = Vec::new();
        put_number(target.len(), &mut out);
        out.push(b'\n');
        Self {
            target,
            written: 0,
            out,
        }
    }

    /// Copies a part of the target from an offset of the source, as far as it has whole characters; not if it is shorter
    /// when it is inserted. Returns whether it was copied.
    fn copy(&mut self, range: Range<usize>, offset: usize) -> bool {
        let Range { mut start, mut end } = range;
        while start < end && !self.is_boundary(start) {
            start += 1;
        }
        while start < end && !self.is_boundary(end) {
            end -= 1;
        }
        let offset = offset + (start - range.start);
        let length = end - start;
        // The command itself, and a new head for what is inserted behind it.
        let costs = digits(length) + digits(offset) + 2 + 2;
        if length <= costs {
            return false;
        }
        self.insert(start);
        put_number(length, &mut self.out);
        self.out.push(b'@');
        put_number(offset, &mut self.out);
        self.out.push(b',');
        self.written = end;
        true
    }

    /// Whether a character begins here, or the target ends.
    fn is_boundary(&self, at: usize) -> bool {
        self.target.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
    }

    /// Inserts the target up to here.
    fn insert(&mut self, end: usize) {
        if end > self.written {
            put_number(end - self.written, &mut self.out);
            self.out.push(b':');
            self.out.extend_from_slice(&self.target[self.written..end]);
            self.written = end;
        }
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        self.insert(self.target.len());
        put_number(checksum(self.target) as usize, &mut self.out);
        self.out.push(b';');
        (self.out.len() < self.target.len()).then_some(self.out)
    }
}

fn put_number(number: usize, out: &mut Vec<u8>) {
    for digit in (0..digits(number)).rev() {
        out.push(DIGITS[(number >> (6 * digit)) & 63]);
    }
}

/// How many digits a number has.
fn digits(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros();
    bits.div_ceil(6).max(1) as usize
}

/// The sum of all words of four bytes, the first byte being the highest, and zeros behind the last.
fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    });
    words.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str, target: &str) -> Option<String> {
        let delta = delta(source.as_bytes(), target.as_bytes());
        delta.map(|delta| String::from_utf8(delta).unwrap())
    }

    #[test]
    fn numbers_have_base_64() {
        let number = |number| {
            let mut out = Vec::new();
            put_number(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        let cases = [(0, "0"), (63, "~"), (64, "10"), (4095, "~~"), (4096, "100")];
        for (value, digits) in cases {
            assert_eq!(number(value), digits);
        }
        assert_eq!(number(u32::MAX as usize), "3~~~~~");
    }

    #[test]
    fn the_checksum_is_one_of_words() {
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(b"\0\0\0\x01\0\0\0\x02"), 3);
        assert_eq!(checksum(b"\x01"), 1 << 24);
        assert_eq!(checksum(b"\xff\xff\xff\xff\0\0\0\x03\x01"), 2 + (1 << 24));
    }

    #[test]
    fn what_differs_is_inserted_and_the_rest_copied() {
        let padding = "x".repeat(500);
        let of = |count: u32| format!(r#"{{"count":{count},"padding":"{padding}"}}"#);
        // 9 bytes are the same before the number, 514 behind it.
        let delta = text(&of(1), &of(2)).unwrap();
        let (head, rest) = delta.split_once('\n').unwrap();
        assert_eq!(head, "8C");
        assert!(rest.starts_with("9@0,1:282@A,"), "{delta}");
        assert!(delta.len() < 25, "{delta}");
        let same = text(&of(1), &of(1)).unwrap();
        assert!(same.starts_with("8C\n8C@0,"), "{same}");
    }

    #[test]
    fn what_is_not_shorter_is_not_made() {
        assert_eq!(text("", "something"), None);
        assert_eq!(text("something", ""), None);
        assert_eq!(text("[1,2,3]", "[1,2,4]"), None);
        let (source, target) = ("a".repeat(4000), "b".repeat(4000));
        assert_eq!(text(&source, &target), None);
        let long = "c".repeat(DELTA_BYTES_MAX + 1);
        assert_eq!(text(&long, &source), None);
        assert_eq!(text(&source, &long), None);
        assert!(text(&long[1..], &long[1..]).is_some());
    }

    #[test]
    fn characters_stay_whole() {
        // The first bytes of both are the same, the last one is not.
        let source = "é".repeat(40) + "é";
        let target = "é".repeat(40) + "è";
        let delta = text(&source, &target).unwrap();
        assert!(delta.contains("2:è"), "{delta}");
        // 0xc3 0xa9 and 0xe3 0x83 0xa9 have the last byte in common.
        let delta = text(&("é".to_owned() + &target), &("ラ".to_owned() + &target)).unwrap();
        assert!(delta.contains("3:ラ"), "{delta}");
    }
}
