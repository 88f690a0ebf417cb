//! What is counted: each scene prepares itself, warms up, and does the same a fixed number of times within [`counted`].

use std::{error::Error, hint::black_box, sync::Arc};

use bytes::Bytes;
use fanfare_engine::hub::scene::Scene;
use fanfare_wire::{
    ChannelName, Epoch, Form, FormId, Json, Publication, Run, Seq,
    centrifuge::{Codec, Command, Dialect, Pushes, next_command},
    hint::Hint,
    socketio::form::{SharedEvent, Trail},
    sse::EventStream,
    ws::{Decoder, Incoming},
};
use uuid::Uuid;

/// One scene. It returns how many units it has done within [`counted`].
pub struct Counted {
    /// Its name, as it is recorded.
    pub name: &'static str,
    /// What one unit is.
    pub unit: &'static str,
    /// Does it.
    pub run: fn() -> Result<u64, Box<dyn Error>>,
}

/// All scenes.
pub const ALL: [Counted; 9] = [
    Counted {
        name: "pass",
        unit: "delivery: 1 publication to 200 subscribers",
        run: || pass(1, 200, 1),
    },
    Counted {
        name: "pass_burst",
        unit: "write: 16 publications to 200 subscribers",
        run: || pass(1, 200, 16),
    },
    Counted {
        name: "pass_few",
        unit: "delivery: 1 publication in each of 100 channels to 2 subscribers",
        run: || pass(100, 2, 1),
    },
    Counted {
        name: "encode_json",
        unit: "publication",
        run: || encode(&JSON),
    },
    Counted {
        name: "encode_protobuf",
        unit: "publication",
        run: || encode(&Pushes::websocket(Codec::Protobuf, false)),
    },
    Counted {
        name: "encode_sse",
        unit: "publication",
        run: || encode(&EventStream),
    },
    Counted {
        name: "encode_socketio",
        unit: "publication",
        run: || encode(&SharedEvent::new("/", Trail::Seen)),
    },
    Counted {
        name: "hint",
        unit: "publication, to the bus and from it",
        run: hint,
    },
    Counted {
        name: "command",
        unit: "publish that a client says over its websocket",
        run: command,
    },
];

/// What is done in here is counted, all else is not.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from being the last of this function, which would end it before the work.
    black_box(());
}

/// How the symbol of [`counted`] begins.
pub(crate) const COUNTED: &str = "fanfare_instructions::scenes::counted*";

const JSON: Pushes = Pushes {
    dialect: Dialect::websocket(Codec::Json),
    joins: false,
};
/// Repetitions of a pass.
const PASSES: u64 = 8;
/// Repetitions of what is short.
const TIMES: u64 = 64;

/// The data of each publication: 200 bytes.
///
/// # Panics
/// Never: it is JSON.
#[must_use]
pub fn data() -> Json {
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(189));
    Json::trusted(Bytes::from(text))
}

fn publication() -> Publication {
    Publication {
        seq: Seq(123_456),
        id: Uuid::nil(),
        time: 1_700_000_000_000,
        data: data(),
        info: None,
        tags: None,
    }
}

fn channel() -> Result<ChannelName, Box<dyn Error>> {
    Ok(ChannelName::parse("scene:0")?)
}

fn epoch() -> Result<Epoch, Box<dyn Error>> {
    Ok(Epoch::parse("scene").ok_or("no epoch")?)
}

/// From the channel's intake to the last socket: `burst` publications, one run each, to all subscribers of all channels.
/// Returns the writes.
fn pass(channels: usize, subscribers: usize, burst: u64) -> Result<u64, Box<dyn Error>> {
    let mut scene = Scene::new(channels, subscribers, Box::new(JSON))?;
    let data = data();
    // The first one makes the room that the others find.
    for round in 0..=PASSES {
        let runs: Vec<Arc<Run>> = (0..burst).flat_map(|_| scene.runs(1, &data)).collect();
        let mut work = || {
            scene.publish(&runs);
            scene.turn();
        };
        match round {
            0 => work(),
            _ => counted(&mut work),
        }
        let length = runs.chunks(channels).map(|runs| length(&runs[0])).sum();
        scene.read(length)?;
    }
    let writes = (channels * subscribers) as u64;
    if scene.deliveries() != (PASSES + 1) * burst * writes {
        return Err("not everything was delivered".into());
    }
    Ok(PASSES * writes)
}

/// Bytes of a run's frames.
fn length(run: &Run) -> usize {
    run.encoded(FormId(0), &JSON).bytes.len()
}

fn encode(form: &dyn Form) -> Result<u64, Box<dyn Error>> {
    let (channel, epoch, publication) = (channel()?, epoch()?, publication());
    let mut out = Vec::with_capacity(1 << 10);
    form.encode(&channel, &epoch, &publication, &mut out);
    let length = out.len();
    for _ in 0..TIMES {
        out.clear();
        counted(&mut || form.encode(&channel, &epoch, &publication, &mut out));
    }
    if length < 200 || out.len() != length {
        return Err("a frame without its data".into());
    }
    Ok(TIMES)
}

fn hint() -> Result<u64, Box<dyn Error>> {
    let run = Run::new(channel()?, epoch()?, vec![publication()]).ok_or("no run")?;
    let hint = Hint { lane: 1, n: 7, run };
    let mut last = None;
    for round in 0..=TIMES {
        let mut work = || last = Some(Hint::decode(hint.encode()));
        match round {
            0 => work(),
            _ => counted(&mut work),
        }
    }
    match last {
        Some(Ok(decoded)) if decoded.run.last() == hint.run.last() => Ok(TIMES),
        _ => Err("a hint that is not what was sent".into()),
    }
}

fn command() -> Result<u64, Box<dyn Error>> {
    let data = data();
    let text = std::str::from_utf8(data.as_bytes())?;
    let said = format!("{{\"id\":3,\"publish\":{{\"channel\":\"scene:0\",\"data\":{text}}}}}");
    let frame = masked_text(&said);
    let mut parsed = 0;
    for round in 0..=TIMES {
        // It is unmasked in place.
        let mut bytes = frame.clone();
        let mut work = || {
            let mut decoder = Decoder::default();
            let Ok(Some((Incoming::Text(text), _))) = decoder.next(&mut bytes, 1 << 16) else {
                return;
            };
            let mut rest = &*text;
            while let Some(line) = next_command(&mut rest) {
                parsed += u64::from(black_box(Command::parse(line)).is_ok());
            }
        };
        match round {
            0 => work(),
            _ => counted(&mut work),
        }
    }
    if parsed != TIMES + 1 {
        return Err("a command that is none".into());
    }
    Ok(TIMES)
}

/// A text frame of a client.
fn masked_text(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    // As long as it takes the longer form of a length.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0x81, 0x80 | 126, length[0], length[1]];
    frame.extend_from_slice(&MASK);
    frame.extend(
        text.bytes()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}
