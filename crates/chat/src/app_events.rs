//! What apps are told of a change: a publication in the channel of each app that has a bot in the conversation, read by
//! [`socket_mode`](crate::socket_mode).

use fanfare_engine::port::tables::BYTES_MAX;
use fanfare_wire::Draft;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    change::{Event, json_of},
    failure::Failure,
    id::Id,
};

/// What a transaction needs beside events, in bytes: names, keys, statements.
const OTHER_BYTES: usize = 64 << 10;
/// What all apps together are told at least, in bytes, however heavy the change itself is.
const APPS_BYTES_MIN: usize = 64 << 10;
/// Characters of a text that was shortened.
const SHORT_CHARS: usize = 250;
/// What makes an event heavy beside its text.
const HEAVY: [&str; 5] = [
    "blocks",
    "attachments",
    "metadata",
    "previous_message",
    "parent",
];

/// The publications that tell apps of the events of a change, one for each app. All that is committed together has a limit of weight: where the
/// events would be too heavy for so many apps they are told in short, with `is_shortened`; the message itself has the rest.
///
/// # Errors
/// A row of an app holds something else than an id.
pub(crate) fn drafts(apps: &[Id], mut events: Vec<Event>) -> Result<Vec<Draft>, Failure> {
    if apps.is_empty() {
        return Ok(Vec::new());
    }
    let weight = json_of(&events)?.as_bytes().len();
    // The rows hold what the events hold.
    let room = BYTES_MAX.saturating_sub(OTHER_BYTES + 2 * weight);
    if weight.saturating_mul(apps.len()) > room.max(APPS_BYTES_MIN) {
        events.iter_mut().for_each(shorten);
    }
    let tell = |app: &Id| {
        let data = json_of(&json!({ "events": events }))?;
        Ok(Draft::new(app.channel(crate::APPS)?, Uuid::now_v7(), data))
    };
    apps.iter().map(tell).collect()
}

fn shorten(event: &mut Event) {
    let strip = |fields: &mut Event| {
        for name in HEAVY {
            fields.remove(name);
        }
        if let Some(Value::String(text)) = fields.get_mut("text")
            && let Some((at, _)) = text.char_indices().nth(SHORT_CHARS)
        {
            text.truncate(at);
        }
    };
    strip(event);
    if let Some(Value::Object(message)) = event.get_mut("message") {
        strip(message);
    }
    event.insert("is_shortened".to_owned(), true.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(apps: usize, text_chars: usize) -> (usize, Value) {
        let text = "ä".repeat(text_chars);
        let message = json!({ "type": "message", "subtype": "message_changed", "user": "U0BOB000000", "ts": "1.000000",
            "message": { "text": text, "user": "U0BOB000000", "blocks": [{ "text": text }] }, "previous_message": { "text": text } });
        let Value::Object(event) = message else {
            unreachable!("it is an object")
        };
        let apps: Vec<Id> = (0..apps)
            .map(|at| Id::known(&format!("A{at:010}")))
            .collect();
        let drafts = drafts(&apps, vec![event]).unwrap();
        assert_eq!(drafts.len(), apps.len());
        let weight = drafts.iter().map(|it| it.data.as_bytes().len()).sum();
        let first = serde_json::from_slice(drafts[0].data.as_bytes()).unwrap();
        (weight, first)
    }

    #[test]
    fn apps_are_told_all_or_in_short_and_never_too_much() {
        let (_, told_all) = told(20, 1_000);
        let event = &told_all["events"][0];
        assert_eq!(
            event["message"]["text"].as_str().unwrap().chars().count(),
            1_000
        );
        assert_eq!(event["is_shortened"], Value::Null);
        for apps in [1, 20] {
            let (weight, told) = told(apps, 40_000);
            let event = &told["events"][0];
            match apps {
                1 => assert_eq!(event["is_shortened"], Value::Null),
                _ => {
                    assert_eq!(event["is_shortened"], true);
                    assert_eq!(event["message"]["user"], "U0BOB000000");
                    assert_eq!(
                        event["message"]["text"].as_str().unwrap().chars().count(),
                        SHORT_CHARS
                    );
                    assert!(weight < APPS_BYTES_MIN, "{weight}");
                }
            }
        }
    }
}
