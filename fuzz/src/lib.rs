//! What holds for all bytes that the decoders of Fanfare may be given, and what looks for bytes for which it does not hold.
//!
//! A [`Target`] gives bytes to a decoder and panics when something does not hold that should: not only that nothing panics, but that what was
//! decoded says the same when it is encoded and decoded again, in either encoding; that it does not matter how the bytes are cut; that limits
//! hold. `fanfare-fuzz` gives each of them bytes without end, made out of [`seeds`](Target::seeds) by [`mutate`]. It needs no special compiler;
//! instead of which code ran it looks at what the decoder made of the bytes ([`Outcome`]), and keeps what gave something new.
//!
//! The same targets run under libFuzzer, which sees which code ran: `fuzz/libfuzzer`.

pub mod hunt;
pub mod mutate;
pub mod random;
pub mod targets;
pub mod write;

use std::{
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

/// One decoder, and what holds for all bytes that it is given.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Gives it bytes.
    ///
    /// # Panics
    /// When something does not hold.
    pub run: fn(&[u8]) -> Outcome,
    /// What clients send.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that the decoder knows.
    pub words: &'static [&'static [u8]],
}

/// What a decoder made of some bytes, without their contents: bytes with another outcome than all before are worth going on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome(u64);

impl Outcome {
    /// The outcome that is described by this.
    pub fn of(description: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        description.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The name of an enum's variant.
pub(crate) fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|it: char| !it.is_ascii_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// How many there are, roughly: 0, 1, 2, and powers of two.
pub(crate) fn about(count: usize) -> u32 {
    usize::BITS - count.leading_zeros()
}

/// The lines of a file of seeds, with `\n`, `\e` and `\\` for a line feed, the separator of Engine.IO, and a backslash.
pub(crate) fn lines(file: &str) -> Vec<Vec<u8>> {
    let lines = file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(unescaped).collect()
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'e') => 0x1e,
                other => other.unwrap_or(b'\\'),
            },
            byte => byte,
        });
    }
    bytes
}
