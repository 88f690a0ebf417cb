//! Commands in Protobuf.

use fanfare_wire::centrifuge::{
    Command,
    protobuf::{COMMANDS_MAX, Commands, ProtobufError},
};

use super::commands;
use crate::{Outcome, Target, about, write};

pub(super) const TARGET: Target = Target {
    name: "centrifuge-protobuf",
    run,
    seeds,
    words: &[
        b"\x08\x01",
        b"\x0a\x00",
        b"\x12\x00",
        b"\x1a\x02{}",
        b"\x22\x00",
        b"\x22\x09\x1a\x07\x0a\x01c\x12\x02\x18\x01",
        b"\x1a\x07\x0a\x01c\x12\x02\x18\x01",
        b"\x2a\x04\x0a\x02ch",
        b"\x3a\x08\x0a\x02ch\x12\x02{}",
        b"\x52\x04\x42\x02\x08\x01",
        b"\x5a\x00",
        b"\x62\x00",
        b"\x62\x06fossil",
        b"\x6a\x0a\x12\x01k\x1a\x02eq\x22\x011",
        b"\x0a\x03not",
        b"\x1a\x02in\x2a\x00",
        b"\x32\x07\x12\x01k\x1a\x02ex",
        b"\x6a\x00",
        b"\x72\x00",
        b"\x7a\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x10",
        b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0b\x0c",
        b"\x19--------",
        b"\x02\x08\x01",
        b"\x00",
    ],
};

fn run(frame: &[u8]) -> Outcome {
    let (taken, error, borders) = read(frame);
    assert!(
        taken.len() <= COMMANDS_MAX.min(frame.len()),
        "more commands than bytes"
    );
    taken.iter().for_each(commands::check);

    // Cut between two commands, it says the same.
    if let Some(border) = borders.get(borders.len() / 2) {
        let (first, second) = frame.split_at(*border);
        let (mut parts, nothing, _) = read(first);
        assert_eq!(nothing, None, "a part of a frame is none");
        let (behind, end, _) = read(second);
        parts.extend(behind);
        parts.truncate(COMMANDS_MAX);
        assert_eq!(written(&parts), written(&taken), "a cut changes commands");
        assert!(end == error || error == Some(ProtobufError::TooMany));
    }
    let shapes: Vec<_> = taken.iter().take(3).map(commands::shape).collect();
    Outcome::of((
        shapes,
        about(taken.len()),
        error.map(|error| error.to_string()),
    ))
}

/// The commands of a frame, its error, and where each command ends.
fn read(frame: &[u8]) -> (Vec<Command<'_>>, Option<ProtobufError>, Vec<usize>) {
    let mut commands = Commands::of(frame);
    let (mut taken, mut borders, mut error) = (Vec::new(), Vec::new(), None);
    while let Some(command) = commands.next() {
        assert!(error.is_none(), "something behind an error");
        match command {
            Ok(command) => {
                let border = frame.len() - commands.rest().len();
                assert!(
                    borders.last().is_none_or(|last| *last < border),
                    "no step forward"
                );
                borders.push(border);
                taken.push(command);
            }
            Err(found) => error = Some(found),
        }
    }
    assert!(
        commands.rest().is_empty() && commands.next().is_none(),
        "no end"
    );
    (taken, error, borders)
}

fn written(commands: &[Command<'_>]) -> Vec<u8> {
    commands.iter().flat_map(write::protobuf::frame).collect()
}

/// What an official client has sent, and was sent.
fn seeds() -> Vec<Vec<u8>> {
    let file = include_str!("../../../crates/wire/tests/centrifuge_protobuf/official-client.txt");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let frames = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(_, digits)| {
            let pairs = digits.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap_or_default(), 16);
            pairs.map_while(|pair| byte(pair).ok()).collect::<Vec<u8>>()
        });
    frames.collect()
}
