//! Frames of a WebSocket. The first byte chooses the pieces in which they come.

use fanfare_wire::ws::{Decoder, FrameError, Incoming};

use crate::{Outcome, Target, about, lines, random::Random, variant};

pub(super) const TARGET: Target = Target {
    name: "websocket",
    run,
    seeds,
    words: &[
        b"\x81\x80\0\0\0\0",
        b"\x82\x80\0\0\0\0",
        b"\x01\x81\0\0\0\0a",
        b"\x00\x80\0\0\0\0",
        b"\x80\x81\0\0\0\0b",
        b"\x88\x82\0\0\0\0\x03\xe8",
        b"\x89\x80\0\0\0\0",
        b"\x8a\x80\0\0\0\0",
        b"\x81\xfe\x00\x7e",
        b"\x81\xff\0\0\0\0\0\0\0\x01",
        b"\xc1",
        b"\xc3\xa9",
    ],
};

/// The longest message, so short that it is met.
const BYTES_MAX: usize = 300;

/// What comes out of the decoder, as it is kept here.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Fragment,
    Error(FrameError),
}

fn run(bytes: &[u8]) -> Outcome {
    let Some((first, stream)) = bytes.split_first() else {
        return Outcome::of("nothing");
    };
    let whole = came(stream, |left| left);
    let mut random = Random::new(u64::from(*first));
    let pieces = came(stream, |left| 1 + random.below(left.min(40)));
    assert_eq!(whole, pieces, "it matters how a stream is cut");
    for came in &whole {
        let length = match came {
            Came::Text(text) => text.len(),
            Came::Binary(bytes) => bytes.len(),
            Came::Ping(bytes) => {
                assert!(bytes.len() <= 125, "a long ping");
                0
            }
            _ => 0,
        };
        assert!(length <= BYTES_MAX, "a long message");
    }
    let shapes: Vec<_> = whole.iter().take(6).map(shape).collect();
    Outcome::of((shapes, about(whole.len())))
}

fn shape(came: &Came) -> (String, u32) {
    match came {
        Came::Text(text) => ("text".to_owned(), about(text.len())),
        Came::Binary(bytes) => ("binary".to_owned(), about(bytes.len())),
        Came::Error(error) => (variant(error), 0),
        Came::Close(code) => ("close".to_owned(), u32::from(code.is_some())),
        other => (variant(other), 0),
    }
}

/// What comes of a stream that arrives in pieces, of all that is left as much as `length` says.
fn came(mut stream: &[u8], mut length: impl FnMut(usize) -> usize) -> Vec<Came> {
    let mut decoder = Decoder::default();
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(length(stream.len()).min(stream.len()));
        stream = rest;
        buffer.extend_from_slice(piece);
        loop {
            let taken = match decoder.next(&mut buffer, BYTES_MAX) {
                Ok(None) => break,
                Ok(Some((incoming, taken))) => {
                    all.push(kept(&incoming));
                    taken
                }
                Err(error) => {
                    all.push(Came::Error(error));
                    return all;
                }
            };
            assert!((1..=buffer.len()).contains(&taken), "no step forward");
            buffer.drain(..taken);
        }
    }
    all
}

fn kept(incoming: &Incoming<'_>) -> Came {
    match incoming {
        Incoming::Text(text) => Came::Text(text.as_ref().to_owned()),
        Incoming::Binary(bytes) => Came::Binary(bytes.to_vec()),
        Incoming::Ping(bytes) => Came::Ping(bytes.to_vec()),
        Incoming::Pong => Came::Pong,
        Incoming::Close(code) => Came::Close(*code),
        Incoming::Fragment => Came::Fragment,
    }
}

/// Commands in frames as a browser sends them, whole and in fragments.
fn seeds() -> Vec<Vec<u8>> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let frame = |head: u8, payload: &[u8]| {
        let mut frame = vec![head];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    };
    let texts = lines(include_str!("../../seeds/centrifuge-json.txt"));
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let (first, second) = text.split_at(text.len() / 2);
        let frames = match at % 3 {
            0 => [frame(0x81, text), frame(0x89, b"ping")].concat(),
            1 => [frame(0x01, first), frame(0x8a, b""), frame(0x80, second)].concat(),
            _ => [frame(0x82, text), frame(0x88, &[0x03, 0xe8])].concat(),
        };
        seeds.push([&[at as u8][..], &frames[..]].concat());
    }
    seeds
}
