//! Payloads of Engine.IO, with the packets of Socket.IO in them.

use std::{fmt::Write, str};

use fanfare_wire::{
    engineio::{Packet as Outer, SEPARATOR, packets},
    socketio::{
        ARGS_MAX, ATTACHMENTS_MAX, Body, EVENT_BYTES_MAX, MAIN, NAMESPACE_BYTES_MAX, Packet,
    },
};
use serde_json::{Value, value::RawValue};

use crate::{Outcome, Target, about, lines, variant};

pub(super) const TARGET: Target = Target {
    name: "socketio",
    run,
    seeds: || lines(include_str!("../../seeds/socketio.txt")),
    words: &[
        b"\x1e",
        b"40",
        b"41",
        b"42[\"",
        b"43",
        b"451-",
        b"461-",
        b"/admin,",
        b"{\"_placeholder\":true,\"num\":0}",
        b"bAQID",
        b"2probe",
        b"\"disconnect\"",
        b"[[",
        b"-1",
        b"null",
    ],
};

fn run(bytes: &[u8]) -> Outcome {
    let Ok(payload) = str::from_utf8(bytes) else {
        return Outcome::of("not UTF-8");
    };
    let all: Vec<_> = packets(payload).collect();
    assert_eq!(all.len(), 1 + payload.matches(SEPARATOR).count());
    // Cut at a separator, it says the same.
    if let Some((first, second)) = payload.split_once(SEPARATOR) {
        let parts: Vec<_> = packets(first).chain(packets(second)).collect();
        assert_eq!(parts, all);
    }
    let mut outcome = Vec::new();
    for packet in &all {
        outcome.push(match packet {
            Ok(Outer::Text(text)) => match Packet::parse(text) {
                Ok(packet) => (variant(&packet.body), check(&packet)),
                Err(error) => (error.to_string(), 0),
            },
            Ok(outer) => (variant(outer), 0),
            Err(error) => (error.to_string(), 0),
        });
    }
    outcome.truncate(3);
    Outcome::of((outcome, about(all.len())))
}

/// Limits hold, and written again it is the same. Returns what is told apart of packets when outcomes are.
fn check(packet: &Packet<'_>) -> u32 {
    assert!(packet.namespace.starts_with('/'), "{packet:?}");
    assert!(packet.namespace.len() <= NAMESPACE_BYTES_MAX, "{packet:?}");
    let text = text(packet);
    let again = Packet::parse(&text).expect("what was written is read");
    assert_eq!(self::text(&again), text, "{packet:?}");
    match &packet.body {
        Body::Connect(data) => data.is_some().into(),
        Body::Disconnect => 0,
        Body::Event {
            name,
            args,
            id,
            attachments,
        } => {
            assert!(name.len() <= EVENT_BYTES_MAX, "{packet:?}");
            assert!(
                args.len() <= ARGS_MAX && *attachments <= ATTACHMENTS_MAX,
                "{packet:?}"
            );
            about(args.len()) * 100 + about(*attachments) * 2 + u32::from(id.is_some())
        }
        Body::Ack {
            args, attachments, ..
        } => {
            assert!(
                args.len() <= ARGS_MAX && *attachments <= ATTACHMENTS_MAX,
                "{packet:?}"
            );
            about(args.len()) * 100 + about(*attachments)
        }
    }
}

/// The packet as a client writes it.
fn text(packet: &Packet<'_>) -> String {
    let list = |name: Option<&str>, args: &[&RawValue]| {
        let name = name.map(|name| Value::from(name).to_string());
        let items: Vec<&str> = name
            .as_deref()
            .into_iter()
            .chain(args.iter().map(|it| it.get()))
            .collect();
        format!("[{}]", items.join(","))
    };
    let (kind, attachments, id, json) = match &packet.body {
        Body::Connect(data) => (
            0,
            0,
            None,
            data.map_or_else(String::new, |it| it.get().to_owned()),
        ),
        Body::Disconnect => (1, 0, None, String::new()),
        Body::Event {
            name,
            args,
            id,
            attachments,
        } => (2, *attachments, *id, list(Some(name), args)),
        Body::Ack {
            id,
            args,
            attachments,
        } => (3, *attachments, Some(*id), list(None, args)),
    };
    let mut text = match attachments {
        0 => kind.to_string(),
        count => format!("{}{count}-", kind + 3),
    };
    if packet.namespace != MAIN {
        let _ = write!(text, "{},", packet.namespace);
    }
    if let Some(id) = id {
        let _ = write!(text, "{id}");
    }
    text + &json
}
