//! Makes bytes out of bytes, by small changes of the kinds that decoders get wrong.

use crate::random::Random;

/// Longest bytes that are made.
pub const BYTES_MAX: usize = 1024;

/// Most changes at once.
const CHANGES_MAX: usize = 6;

/// Bytes that often mean something.
const BYTES: [u8; 14] = [
    0, 1, 0x0a, 0x1e, b' ', b'"', b'0', b'{', b'}', 0x7f, 0x80, 0x81, 0xfe, 0xff,
];

/// Numbers at which something often ends.
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1e9",
    "1.0",
    "127",
    "128",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
];

/// Changes `bytes` in a few places. `words` are pieces that the decoder knows, `other` is something else that it was given before.
pub fn mutate(bytes: &mut Vec<u8>, words: &[&[u8]], other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(bytes.len() + 1);
        match random.below(11) {
            0 => change_byte(
                bytes,
                at,
                |byte, random| byte ^ (1 << random.below(8)),
                random,
            ),
            1 => change_byte(
                bytes,
                at,
                |_, random| BYTES[random.below(BYTES.len())],
                random,
            ),
            2 => change_byte(bytes, at, |_, random| random.number() as u8, random),
            3 => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            4 => {
                // The same once more, which is a repeated field, key, command or frame.
                let end = at + random.below(bytes.len() - at + 1);
                let piece = bytes[at..end].to_vec();
                put(bytes, end, &piece);
            }
            5 => put(
                bytes,
                at,
                words
                    .get(random.below(words.len()))
                    .copied()
                    .unwrap_or_default(),
            ),
            6 => put(bytes, at, &[BYTES[random.below(BYTES.len())]]),
            7 => {
                let from = random.below(other.len() + 1);
                let end = from + random.below(other.len() - from + 1);
                put(bytes, at, &other[from..end]);
            }
            8 => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            9 => change_number(bytes, at, random),
            _ => bytes.truncate(at),
        }
        bytes.truncate(BYTES_MAX);
    }
}

fn change_byte(
    bytes: &mut [u8],
    at: usize,
    change: impl Fn(u8, &mut Random) -> u8,
    random: &mut Random,
) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte, random);
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Puts another number in the place of the digits behind `at`.
fn change_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit) else {
        return;
    };
    let from = at + from;
    let digits = bytes[from..].iter().take_while(|it| it.is_ascii_digit());
    let end = from + digits.count();
    let number = NUMBERS[random.below(NUMBERS.len())];
    bytes.splice(from..end, number.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_bounded_new_and_the_same_for_a_seed() {
        let made = |seed: u64| {
            let mut random = Random::new(seed);
            let mut bytes = br#"{"id":7}"#.to_vec();
            for _ in 0..2_000 {
                mutate(&mut bytes, &[b"word"], br#"{"other":[1]}"#, &mut random);
                assert!(bytes.len() <= BYTES_MAX);
            }
            bytes
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        // Nothing is needed to begin with.
        mutate(&mut Vec::new(), &[], &[], &mut Random::new(3));
    }
}
