//! What holds for every command of the Centrifuge protocol, however it came.

use fanfare_wire::centrifuge::{Command, Method, Payload, SubscribeRequest, protobuf::Commands};

use crate::{about, variant, write};

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
    check_filter(command, &again);

    if !is_sayable(command) {
        return;
    }
    let line = write::json::line(command);
    let again = Command::parse(&line).expect("what was written is read");
    assert_eq!(write::json::line(&again), line, "{command:?}");
    assert_eq!(write::protobuf::frame(&again), frame, "{command:?}");
    check_filter(command, &again);
}

/// A filter that both encodings can say selects the same in both, or is refused for the same reason.
fn check_filter(command: &Command<'_>, again: &Command<'_>) {
    if let (Method::Subscribe(request), Method::Subscribe(again)) = (&command.method, &again.method)
        && write::filter(&request.filter).is_ok()
    {
        let filters = (request.filter.compile(), again.filter.compile());
        assert_eq!(filters.0, filters.1, "{command:?}");
    }
}

/// What is told apart of commands when outcomes are.
pub(super) fn shape(command: &Command<'_>) -> (String, bool, Option<String>, Option<String>) {
    let data = payload(&command.method).map(variant_of);
    let filter = match &command.method {
        Method::Subscribe(request) => Some(filter_of(request)),
        _ => None,
    };
    (variant(&command.method), command.id > 0xffff, data, filter)
}

/// What is wrong with the filter of a subscribe, or how many nodes it has, roughly.
fn filter_of(request: &SubscribeRequest<'_>) -> String {
    match (request.filter.compile(), write::filter(&request.filter)) {
        (Err(error), _) | (_, Err(error)) => variant(&error),
        (Ok(_), Ok(node)) => about(node.map_or(0, |node| 1 + node.nodes.len())).to_string(),
    }
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

/// Whether JSON can say it: not bytes that are no JSON text or no requests, nor is the text `null` told from no payload there.
fn is_sayable(command: &Command<'_>) -> bool {
    let subs = match &command.method {
        Method::Connect(request) => write::with_subs(&request.subs, |subs| {
            subs.values()
                .all(|request| is_sayable_payload(&request.data))
        }),
        _ => Ok(true),
    };
    subs.unwrap_or(false) && payload(&command.method).is_none_or(is_sayable_payload)
}

fn is_sayable_payload(data: &Payload<'_>) -> bool {
    match data {
        Payload::NotJson => false,
        Payload::Json(data) => data.get() != "null",
        Payload::Missing => true,
    }
}
