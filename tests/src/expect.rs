//! What must hold of a run of publications, said once for every wire.

use serde_json::Value;

use crate::api::History;
use crate::sse::Stream;
use crate::ws::Client;

/// Takes publications `first..=last` of a channel off a connection, in order, none missing, none twice. Gives their data.
///
/// # Panics
/// At the first that is not the next.
#[track_caller]
pub fn run_over_ws(client: &mut Client, channel: &str, first: u64, last: u64) -> Vec<Value> {
    (first..=last)
        .map(|offset| {
            let mut publication = client.publication(channel);
            assert_eq!(publication["offset"], offset, "in {channel}: {publication}");
            publication["data"].take()
        })
        .collect()
}

/// Reads a channel's whole history off a client that has been subscribed from its beginning, and compares the data.
///
/// # Panics
/// At the first push that is not the next publication, or if any of them differs.
#[track_caller]
pub fn all_over_ws(client: &mut Client, channel: &str, history: &History) {
    let received = run_over_ws(client, channel, 1, history.head);
    assert!(
        history
            .publications
            .iter()
            .map(|one| &one.data)
            .eq(&received)
    );
}

/// As [`run_over_ws`], of a stream that has this one channel.
///
/// # Panics
/// At the first event that is not the next publication.
#[track_caller]
pub fn run_over_sse(stream: &mut Stream, channel: &str, first: u64, last: u64) -> Vec<Value> {
    (first..=last)
        .map(|offset| {
            let mut data = stream.expect("message");
            assert_eq!(data["channel"], channel, "{data}");
            assert_eq!(data["offset"], offset, "in {channel}: {data}");
            data["data"].take()
        })
        .collect()
}

/// Checks that a history begins at 1 and has every number up to its head.
///
/// # Panics
/// At the first hole.
#[track_caller]
pub fn dense(history: &History) {
    let offsets: Vec<u64> = history.publications.iter().map(|one| one.offset).collect();
    let expected: Vec<u64> = (1..=history.head).collect();
    assert_eq!(offsets, expected, "a history with a hole");
}

/// Takes what a stream says first: `ready`, and a notice of this name before or after it. Gives the notice's data.
///
/// # Panics
/// When anything else comes, or a second of either.
#[track_caller]
pub fn ready_and(stream: &mut Stream, name: &str) -> Value {
    let [first, second] = [stream.event(), stream.event()];
    match (first.name.as_str(), second.name.as_str()) {
        ("ready", other) if other == name => second.data,
        (other, "ready") if other == name => first.data,
        _ => panic!("instead of ready and {name}: {first:?} and {second:?}"),
    }
}
