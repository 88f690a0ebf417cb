//! What holds for all commands, all publications and all bytes.

use fanfare_wire::{
    ChannelName, Epoch, Form, Json, Publication, Seq,
    centrifuge::{
        Codec, Command, Method, Pushes,
        protobuf::{COMMANDS_MAX, Commands, ProtobufError},
    },
};
use proptest::prelude::*;
use serde_json::{Map, Value as JsonValue, json};
use uuid::Uuid;

use super::{
    allocations::allocated,
    proto::{Field, Value, delimited, encode, message, number, text},
    vectors::{frames, written},
};

/// A command in both encodings: its fields, and its line.
type Both = (Vec<Field>, String);

/// Commands of all kinds with everything that is read of them.
fn command() -> impl Strategy<Value = Both> {
    let words = || "[ -~äß☃]{0,40}";
    let request = (
        words(),
        words(),
        words(),
        any::<[bool; 3]>(),
        any::<u64>(),
        any::<(u32, i32)>(),
    );
    (0..11_u32, 1..=u32::MAX, request).prop_map(|(kind, id, request)| {
        let (channel, token, epoch, [recover, join_leave, reverse], offset, (limit, type_)) =
            request;
        // JSON has no numbers beyond 2⁶³ in this field, and Protobuf gives its two's complement.
        let flag = offset >> 1;
        let int32 = |field, value: i32| number(field, i64::from(value) as u64);
        let position = [number(1, offset), text(2, &epoch)].concat();
        let (field, name, fields, json) = match kind {
            0 => (4, "connect", text(1, &token), json!({ "token": token })),
            1 => {
                let fields = [
                    text(1, &channel),
                    text(2, &token),
                    number(3, recover.into()),
                    text(6, &epoch),
                    number(7, offset),
                    number(11, join_leave.into()),
                    number(14, flag),
                    int32(15, type_),
                ];
                let json = json!({
                    "channel": channel, "token": token, "recover": recover, "epoch": epoch,
                    "offset": offset, "join_leave": join_leave, "flag": flag, "type": type_,
                });
                (5, "subscribe", fields.concat(), json)
            }
            2 => {
                let data = json!({ "text": epoch, "n": limit });
                let fields = [text(1, &channel), text(2, data.to_string())];
                (
                    7,
                    "publish",
                    fields.concat(),
                    json!({ "channel": channel, "data": data }),
                )
            }
            3 => {
                let fields = [
                    text(1, &channel),
                    int32(7, type_),
                    vec![message(8, &position)],
                    number(9, reverse.into()),
                ];
                let json = json!({
                    "channel": channel, "limit": type_, "reverse": reverse,
                    "since": { "offset": offset, "epoch": epoch },
                });
                (10, "history", fields.concat(), json)
            }
            4 => (14, "refresh", text(1, &token), json!({ "token": token })),
            5 => {
                let fields = [text(1, &channel), text(2, &token)].concat();
                (
                    15,
                    "sub_refresh",
                    fields,
                    json!({ "channel": channel, "token": token }),
                )
            }
            6 => (11, "ping", Vec::new(), json!({})),
            7 => (13, "rpc", text(2, &channel), json!({ "method": channel })),
            8 => (
                6,
                "unsubscribe",
                text(1, &channel),
                json!({ "channel": channel }),
            ),
            9 => (
                8,
                "presence",
                text(1, &channel),
                json!({ "channel": channel }),
            ),
            _ => (
                9,
                "presence_stats",
                text(1, &channel),
                json!({ "channel": channel }),
            ),
        };
        let line = json!({ "id": id, name: json }).to_string();
        let fields = [number(1, id.into()), vec![message(field, &fields)]].concat();
        (fields, line)
    })
}

fn debug(commands: &[Command<'_>]) -> String {
    format!("{commands:?}")
}

proptest! {
    #[test]
    fn a_command_is_the_same_in_both_encodings(commands in prop::collection::vec(command(), 1..5)) {
        let frame: Vec<u8> = commands.iter().flat_map(|(fields, _)| delimited(&encode(fields))).collect();
        let protobuf: Vec<_> = Commands::of(&frame).map(Result::unwrap).collect();
        let json: Vec<_> = commands.iter().map(|(_, line)| Command::parse(line).unwrap()).collect();
        // Texts with escapes are owned in JSON; what they say is the same.
        prop_assert_eq!(debug(&protobuf), debug(&json));
    }

    #[test]
    fn unknown_fields_and_repeated_ones_change_nothing(
        (fields, _) in command(),
        unknown in 16..1_u32 << 29,
        noise in any::<(u64, Vec<u8>)>(),
    ) {
        let plain = delimited(&encode(&fields));
        let noise = [vec![(unknown, Value::Varint(noise.0))], text(unknown, &noise.1)].concat();
        let noisy = [&noise[..], &fields, &noise, &fields].concat();
        let noisy = delimited(&encode(&noisy));
        let read = |frame| Commands::of(frame).map(Result::unwrap).collect::<Vec<_>>();
        prop_assert_eq!(debug(&read(&plain)), debug(&read(&noisy)));
    }

    #[test]
    fn a_publication_is_written_as_what_it_is(
        name in "[!#-Z]{1,60}",
        (seq, time) in (1..u64::MAX, 0..i64::MAX),
        data in "\\PC{0,300}",
        user in "\\PC{0,20}",
        tags in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..4),
    ) {
        let object: Map<String, JsonValue> = tags.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let json = |value: JsonValue| Json::parse(value.to_string().as_bytes()).unwrap();
        let publication = Publication {
            seq: Seq(seq),
            id: Uuid::nil(),
            time,
            data: json(data.clone().into()),
            info: Some(json(json!({ "user": user, "client": "c", "chan_info": [data] }))),
            tags: Some(json(object.into())),
        };
        let channel = ChannelName::parse(&name).unwrap();
        let epoch = Epoch::parse("e").unwrap();
        let form = Pushes::websocket(Codec::Protobuf, false);
        let frame = written(|out| form.encode(&channel, &epoch, &publication, out));

        let info = [text(1, &user), text(2, "c"), text(4, json!([data]).to_string())].concat();
        let entry = |(key, value): (&String, &String)| {
            let bytes = |text: &String| Value::Bytes(text.clone().into_bytes());
            message(7, &[(1, bytes(key)), (2, bytes(value))])
        };
        let publication = [
            text(4, JsonValue::from(data).to_string()),
            vec![message(5, &info)],
            number(6, seq),
            tags.iter().map(entry).collect(),
            number(9, time as u64),
        ];
        let push = [text(2, &name), vec![message(4, &publication.concat())]].concat();
        prop_assert_eq!(frame, delimited(&encode(&[message(4, &push)])));
    }

    #[test]
    fn any_bytes_are_commands_or_a_named_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look_at(&bytes);
    }
}

/// Reads a frame to its end, and checks what holds for any: commands, and one error at most, which is the last thing.
fn look_at(frame: &[u8]) -> Option<ProtobufError> {
    let mut commands = Commands::of(frame);
    let mut taken = 0;
    let mut end = None;
    // Reading borrows from the frame. What a check of embedded JSON needs for its nesting is less than the frame.
    let bytes = allocated(|| {
        for command in &mut commands {
            match command {
                Ok(Command { id, method }) => {
                    let without = matches!(method, Method::Pong | Method::Send);
                    assert!(id > 0 || without, "{frame:x?}");
                    taken += 1;
                }
                Err(error) => end = Some(error),
            }
            assert!(end.is_none() || taken <= COMMANDS_MAX);
        }
    });
    assert!(
        taken <= frame.len().min(COMMANDS_MAX),
        "{taken} of {frame:x?}"
    );
    assert!(
        bytes <= 4 * frame.len() + 64,
        "{bytes} bytes for {frame:x?}"
    );
    assert!(commands.next().is_none(), "{frame:x?}");
    end
}

#[test]
fn a_million_broken_frames_are_commands_or_a_named_error() {
    const FRAMES: usize = 1_000_000;
    let seeds: Vec<Vec<u8>> = frames().into_values().collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut frame = Vec::new();
    for _ in 0..FRAMES {
        frame.clear();
        frame.extend_from_slice(random.one_of(&seeds).as_slice());
        for _ in 0..=random.below(4) {
            random.break_something(&mut frame, &seeds);
        }
        let outcome = look_at(&frame).map_or("commands".to_owned(), |it| format!("{it:?}"));
        *seen.entry(outcome).or_default() += 1;
    }
    // All that can be wrong with a frame of this length has been.
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "FieldNumber",
            "NoId",
            "NotUtf8",
            "Overlong",
            "Truncated",
            "Type",
            "WireType",
            "commands"
        ],
        "{seen:?}"
    );
}

#[test]
fn a_frame_has_so_many_commands_and_no_more() {
    let ping = delimited(&encode(&[number(1, 1), vec![message(11, &[])]].concat()));
    let full = ping.repeat(COMMANDS_MAX);
    assert_eq!(look_at(&full), None);
    assert_eq!(Commands::of(&full).count(), COMMANDS_MAX);
    assert_eq!(
        look_at(&[full, ping].concat()),
        Some(ProtobufError::TooMany)
    );
}

/// xorshift64: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Changes, cuts, repeats or mixes.
    fn break_something(&mut self, frame: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(frame.len());
        match self.below(7) {
            0 => frame.truncate(at),
            1 => frame.insert(at, self.next() as u8),
            2 => frame.extend_from_slice(self.one_of(seeds).as_slice()),
            3 => frame.truncate(frame.len().saturating_sub(self.below(4))),
            4 if !frame.is_empty() => frame[at] = *self.one_of(&[0, 0x7f, 0x80, 0xff]),
            5 if !frame.is_empty() => frame[at] ^= 1 << self.below(8),
            _ if !frame.is_empty() => frame[at] = self.next() as u8,
            _ => frame.push(self.next() as u8),
        }
    }
}
