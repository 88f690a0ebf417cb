//! The events that clients do not show as messages, because they say what has become of one: `message_changed`, `message_deleted`.

use fanfare_engine::port::tables::Row;
use serde_json::{Map, Value};

use crate::{
    change::Event,
    failure::Failure,
    id::Id,
    message::{Message, reactions_of, repliers_of},
    ts::Ts,
};

/// The message that a step of a change returned.
///
/// # Errors
/// `message_not_found`, if it returned none.
pub(crate) fn message_at(rows: &[Vec<Row>], step: usize) -> Result<Message, Failure> {
    match rows.get(step).and_then(|rows| rows.first()) {
        Some(row) => Message::read(row),
        None => Err(Failure::new("message_not_found")),
    }
}

/// Adds to a message who has reacted and replied: what the two steps behind `step` returned, in this order.
pub(crate) fn complete(message: &mut Message, rows: &[Vec<Row>], step: usize) {
    let of = |step: usize| rows.get(step).map(Vec::as_slice).unwrap_or_default();
    let (mut reactions, mut repliers) = (reactions_of(of(step + 1)), repliers_of(of(step + 2)));
    message.reactions = reactions.remove(&message.ts).unwrap_or_default();
    message.repliers = repliers.remove(&message.ts).unwrap_or_default();
}

/// A message is another one now.
pub(crate) fn changed(after: &Message, before: &Message, team: &Id, ts: Ts) -> Event {
    let mut event = event("message_changed", before.view(team), ts);
    event.insert("message".to_owned(), after.view(team).into());
    event
}

/// A message is gone.
pub(crate) fn deleted(before: &Message, team: &Id, ts: Ts) -> Event {
    let mut event = event("message_deleted", before.view(team), ts);
    event.insert("deleted_ts".to_owned(), before.ts.into());
    event
}

fn event(subtype: &str, before: Map<String, Value>, ts: Ts) -> Event {
    let mut event = Event::new();
    for (name, value) in [
        ("type", "message".into()),
        ("subtype", subtype.into()),
        ("hidden", true.into()),
        ("ts", ts.into()),
        ("previous_message", Value::Object(before)),
    ] {
        event.insert(name.to_owned(), value);
    }
    event
}
