//! Commands in JSON, and the requests of clients that only listen.

use std::{collections::BTreeMap, str};

use fanfare_wire::centrifuge::{Command, ConnectRequest, Method, next_command};

use super::commands;
use crate::{Outcome, Target, about, lines, write};

pub(super) const TARGET: Target = Target {
    name: "centrifuge-json",
    run,
    seeds: || lines(include_str!("../../seeds/centrifuge-json.txt")),
    words: &[
        b"\"id\":1",
        b"\"connect\":{}",
        b"\"subscribe\":{}",
        b"\"unsubscribe\":",
        b"\"publish\":{\"channel\":\"c\",\"data\":",
        b"\"history\":{\"since\":{}}",
        b"\"presence\":{}",
        b"\"presence_stats\":null",
        b"\"rpc\":{}",
        b"\"refresh\":{}",
        b"\"sub_refresh\":{}",
        b"\"ping\":{}",
        b"\"send\":{}",
        b"\"channel\":\"\\ud83d\\ude00\"",
        b"\\u0000",
        b"\"data\":null",
        b"\"delta\":\"fossil\"",
        b"\"tf\":{\"key\":\"k\",\"cmp\":\"eq\",\"val\":\"1\"}",
        b"{\"op\":\"and\",\"nodes\":[{}]}",
        b"\"op\":\"not\"",
        b"\"cmp\":\"in\",\"vals\":[\"\"]",
        b"\"offset\":18446744073709551615",
        b"\"limit\":-1",
        b"\n{}\n",
        b"[[[[",
        b"true",
        b"\xe2\x80\xa8",
    ],
};

fn run(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else {
        return Outcome::of("not UTF-8");
    };
    let found: Vec<&str> = lines_of(text).collect();
    let said = found.join("\n");
    assert_eq!(
        lines_of(&said).collect::<Vec<_>>(),
        found,
        "what is between commands is nothing"
    );

    let mut outcome = Vec::new();
    for line in &found {
        let command = Command::parse(line);
        if let Ok(command) = &command {
            commands::check(command);
            // Spaces around it change nothing.
            let spaced = format!(" {line}\t");
            let again = Command::parse(&spaced).expect("a command with spaces around it");
            assert_eq!(write::json::line(&again), write::json::line(command));
        }
        outcome.push(command.as_ref().map(commands::shape).ok());
    }
    outcome.truncate(3);

    let alone = ConnectRequest::parse(text).ok().map(|request| {
        let subs = about(write::with_subs(&request.subs, BTreeMap::len).unwrap_or_default());
        let command = Command {
            id: 1,
            method: Method::Connect(request),
        };
        let line = write::json::line(&command);
        let again = Command::parse(&line).expect("a request is a command's too");
        assert_eq!(write::json::line(&again), line);
        subs
    });
    Outcome::of((outcome, about(found.len()), alone))
}

fn lines_of(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || next_command(&mut text))
}
