//! What holds for every command of the Centrifuge protocol, however it came.

use fanfare_wire::centrifuge::{Command, Method, Payload, protobuf::Commands};

use crate::{variant, write};

/// A command, written and read in both encodings, stays what it is.
pub(super) fn check(command: &Command<'_>) {
    let numbered = command.id > 0 || matches!(command.method, Method::Pong | Method::Send);
    assert!(numbered, "a command without a number: {command:?}");

    let frame = write::protobuf::frame(command);
    let mut commands = Commands::of(&frame);
    let again = commands
        .next()
        .map(|it| it.expect("what was written is read"));
    let again = again.expect("what was written is there");
    assert!(
        commands.next().is_none(),
        "two commands from one: {command:?}"
    );
    assert_eq!(write::protobuf::frame(&again), frame, "{command:?}");

    if !is_sayable(command) {
        return;
    }
    let line = write::json::line(command);
    let again = Command::parse(&line).expect("what was written is read");
    assert_eq!(write::json::line(&again), line, "{command:?}");
    assert_eq!(write::protobuf::frame(&again), frame, "{command:?}");
}

/// What is told apart of commands when outcomes are.
pub(super) fn shape(command: &Command<'_>) -> (String, bool, Option<String>) {
    let data = payload(&command.method).map(variant_of);
    (variant(&command.method), command.id > 0xffff, data)
}

fn variant_of(data: &Payload<'_>) -> String {
    match data {
        // What kind of a JSON text.
        Payload::Json(data) => data.get().chars().take(1).collect(),
        Payload::Missing => "missing".to_owned(),
        Payload::NotJson => "not JSON".to_owned(),
    }
}

fn payload<'c, 'a>(method: &'c Method<'a>) -> Option<&'c Payload<'a>> {
    match method {
        Method::Connect(request) => Some(&request.data),
        Method::Subscribe(request) => Some(&request.data),
        Method::Publish(request) => Some(&request.data),
        Method::Rpc(request) => Some(&request.data),
        _ => None,
    }
}

/// Whether JSON can say it: not bytes that are no JSON text, nor is the text `null` told from no payload there.
fn is_sayable(command: &Command<'_>) -> bool {
    match payload(&command.method) {
        Some(Payload::NotJson) => false,
        Some(Payload::Json(data)) => data.get() != "null",
        Some(Payload::Missing) | None => true,
    }
}
