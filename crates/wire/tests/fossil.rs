//! Deltas of Fossil against a decoder of their format that knows nothing of the encoder.

use fanfare_wire::fossil::{DELTA_BYTES_MAX, delta};
use proptest::prelude::*;

/// Makes the target out of a source, as strictly as the format has it.
fn apply(source: &[u8], delta: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut rest = delta;
    let length = number(&mut rest)?;
    if byte(&mut rest)? != b'\n' {
        return Err("no line feed behind the length");
    }
    let mut target = Vec::new();
    loop {
        let count = number(&mut rest)?;
        match byte(&mut rest)? {
            b'@' => {
                let from = number(&mut rest)?;
                if byte(&mut rest)? != b',' {
                    return Err("no comma behind the offset");
                }
                let copied = source.get(from..from + count);
                target.extend_from_slice(copied.ok_or("a copy from beyond the source")?);
            }
            b':' => {
                let inserted = rest.split_at_checked(count).ok_or("too little to insert")?;
                target.extend_from_slice(inserted.0);
                rest = inserted.1;
            }
            b';' if !rest.is_empty() => return Err("something behind the end"),
            b';' if target.len() != length => return Err("another length than was said"),
            b';' if count != sum(&target) => return Err("another checksum than was said"),
            b';' => return Ok(target),
            _ => return Err("an unknown command"),
        }
        if target.len() > length {
            return Err("longer than was said");
        }
    }
}

fn byte(rest: &mut &[u8]) -> Result<u8, &'static str> {
    let (first, behind) = rest.split_first().ok_or("an end in the middle")?;
    *rest = behind;
    Ok(*first)
}

fn number(rest: &mut &[u8]) -> Result<usize, &'static str> {
    let value = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'_' => Some(36),
        b'a'..=b'z' => Some(byte - b'a' + 37),
        b'~' => Some(63),
        _ => None,
    };
    let mut number = None;
    while let Some(digit) = rest.first().copied().and_then(value) {
        number = Some(number.unwrap_or(0) * 64 + usize::from(digit));
        *rest = &rest[1..];
    }
    number.ok_or("no number")
}

fn sum(target: &[u8]) -> usize {
    let mut sum = 0_u32;
    for (at, byte) in target.iter().enumerate() {
        sum = sum.wrapping_add(u32::from(*byte) << (24 - 8 * (at % 4)));
    }
    sum as usize
}

fn check(source: &[u8], target: &[u8]) -> Option<usize> {
    let delta = delta(source, target)?;
    assert!(delta.len() < target.len());
    assert_eq!(apply(source, &delta).as_deref(), Ok(target));
    if std::str::from_utf8(target).is_ok() {
        assert!(std::str::from_utf8(&delta).is_ok(), "characters are cut");
    }
    Some(delta.len())
}

/// Texts with much that comes again, in characters of one to four bytes.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("{\"price\":".to_owned()),
        Just("\"größe\":\"mittel\",".to_owned()),
        "[0-9]{1,6}",
        "[a-zéèラ☃😀]{1,12}",
    ];
    prop::collection::vec(word, 0..120).prop_map(|words| words.concat())
}

/// A text, and what has become of it.
fn edited() -> impl Strategy<Value = (String, String)> {
    let edit = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        text(),
    );
    (text(), prop::collection::vec(edit, 0..5)).prop_map(|(source, edits)| {
        let mut chars: Vec<char> = source.chars().collect();
        for (from, until, inserted) in edits {
            let (from, until) = (from.index(chars.len() + 1), until.index(chars.len() + 1));
            chars.splice(from.min(until)..from.max(until), inserted.chars());
        }
        (source, chars.into_iter().collect())
    })
}

proptest! {
    #[test]
    fn any_bytes_come_back(source: Vec<u8>, target: Vec<u8>) {
        check(&source, &target);
    }

    #[test]
    fn bytes_of_few_kinds_come_back(
        source in prop::collection::vec(0..3_u8, 0..600),
        target in prop::collection::vec(0..3_u8, 0..600),
    ) {
        check(&source, &target);
    }

    #[test]
    fn edited_texts_come_back((source, target) in edited()) {
        check(source.as_bytes(), target.as_bytes());
    }

    #[test]
    fn one_edit_in_a_long_text_is_a_short_delta(
        words in prop::collection::vec("[a-z]{1,9}", 200..300),
        at in any::<prop::sample::Index>(),
        word in "[A-Z]{1,9}",
    ) {
        let source = words.join(" ");
        let mut words = words;
        *at.get_mut(&mut words) = word.clone();
        let target = words.join(" ");
        let length = check(source.as_bytes(), target.as_bytes());
        prop_assert!(length.is_some_and(|length| length < 40 + word.len()), "{length:?}");
    }
}

#[test]
fn moved_blocks_are_found() {
    let block = |name: &str| {
        let lines = (0..20).map(|line| format!("{name} has the line {line}; "));
        lines.collect::<String>()
    };
    let source = block("ann") + &block("bob") + &block("eve");
    let target = block("eve") + &block("ann") + "and " + &block("bob");
    let length = check(source.as_bytes(), target.as_bytes());
    assert!(length.is_some_and(|length| length < 60), "{length:?}");
}

#[test]
fn the_longest_come_back_whatever_they_are() {
    let length = DELTA_BYTES_MAX;
    let same = vec![b'a'; length];
    let two: Vec<u8> = (0..length).map(|at| b"ab"[at % 2]).collect();
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..length).map(|_| random()).collect();
    // Begins of blocks that are everywhere and lead nowhere.
    let traps: Vec<u8> = (0..length)
        .map(|at| if at % 12 < 8 { b'a' } else { random() })
        .collect();
    for source in [&same, &two, &noise, &traps] {
        for target in [&same, &two, &noise, &traps] {
            let length = check(source, target);
            assert!(!std::ptr::eq(source, target) || length.is_some_and(|it| it < 30));
        }
    }
}
