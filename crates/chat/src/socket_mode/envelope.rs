//! What a publication of an app's channel is to the app: one event or two of the Events API, each in an envelope.

use fanfare_wire::Publication;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::App;
use crate::{id::Id, mention::Mentions};

/// An event on its way. Its id is made of the publication's, so it is the same whenever and by whichever node it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) id: Uuid,
    /// The Events API's wrapper around the event: JSON.
    pub(super) payload: String,
}

/// Why something is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// There was no acknowledgement in time.
    Timeout,
    /// The socket was gone before there was one.
    ConnectionFailed,
}

/// What a publication of the app's channel holds: the events of one change.
#[derive(Deserialize)]
pub(super) struct Told {
    events: Vec<Map<String, Value>>,
}

/// One event of the Events API, as it was committed.
pub(super) struct Event(Map<String, Value>);

impl Repeat {
    fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectionFailed => "connection_failed",
        }
    }
}

impl Envelope {
    /// As it goes over a socket.
    pub(super) fn text(&self, attempts: u32, repeat: Option<Repeat>) -> String {
        let Self { id, payload } = self;
        let reason = repeat.map_or("", Repeat::name);
        format!(
            "{{\"envelope_id\":\"{id}\",\"type\":\"events_api\",\"accepts_response_payload\":false,\
             \"retry_attempt\":{attempts},\"retry_reason\":\"{reason}\",\"payload\":{payload}}}"
        )
    }
}

impl Told {
    /// Reads a publication: no events if it is nothing that this version writes.
    pub(super) fn read(publication: &Publication) -> Vec<Event> {
        let told = serde_json::from_slice::<Self>(publication.data.as_bytes());
        let events = told.map_or_else(|_| Vec::new(), |told| told.events);
        events.into_iter().map(Event).collect()
    }
}

impl Event {
    fn text(&self, field: &str) -> &str {
        let value = self.0.get(field).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// The conversation in which it happened, if it did in one.
    pub(super) fn conversation(&self) -> Option<Id> {
        Id::parse_conversation(self.text("channel"))
    }

    /// The bot has left, or was made to: the last that it hears of the conversation.
    pub(super) fn is_farewell_to(&self, bot_user: &Id) -> bool {
        self.text("type") == "member_left_channel" && self.text("user") == bot_user.as_str()
    }

    /// A message of somebody else that calls the bot by name, where others are.
    fn mentions(&self, bot_user: &Id) -> bool {
        let subtype = self.0.get("subtype").and_then(Value::as_str);
        self.text("type") == "message"
            && matches!(subtype, None | Some("thread_broadcast"))
            && self.text("channel_type") != "im"
            && self.text("user") != bot_user.as_str()
            && Mentions::of(self.text("text")).users.contains(bot_user)
    }

    /// The envelopes: one for the event, and one for the mention in it. `at` says which event of the publication it is.
    pub(super) fn envelopes(
        self,
        app: &App,
        publication: &Publication,
        at: usize,
    ) -> Vec<Envelope> {
        let seconds = publication.time / 1000;
        // Ids as far from others' as the publication's own, the same each time.
        let id = |which: u128| {
            let at = u128::try_from(at).unwrap_or_default();
            Uuid::from_u128(publication.id.as_u128() ^ (at << 1 | which))
        };
        let mention = self.mentions(&app.bot_user).then(|| {
            let mut event = self.0.clone();
            event.insert("type".to_owned(), "app_mention".into());
            for field in ["channel_type", "subtype", "parent"] {
                event.remove(field);
            }
            wrap(app, id(1), seconds, event)
        });
        let event = wrap(app, id(0), seconds, self.0);
        std::iter::once(event).chain(mention).collect()
    }
}

fn wrap(app: &App, id: Uuid, seconds: i64, event: Map<String, Value>) -> Envelope {
    let event_id = format!("Ev{}", id.simple())
        .to_uppercase()
        .replacen("EV", "Ev", 1);
    let payload = json!({
        "type": "event_callback",
        "team_id": app.team.as_str(),
        "context_team_id": app.team.as_str(),
        "api_app_id": app.id.as_str(),
        "event_id": event_id,
        "event_time": seconds,
        "is_ext_shared_channel": false,
        "authorizations": [{
            "enterprise_id": null,
            "team_id": app.team.as_str(),
            "user_id": app.bot_user.as_str(),
            "is_bot": true,
            "is_enterprise_install": false,
        }],
        "event": event,
    });
    Envelope {
        id,
        payload: payload.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{Json, Seq};

    use super::*;
    use crate::id::Kind;

    fn app() -> App {
        let id = |kind, text| Id::parse(kind, text).unwrap();
        App {
            id: id(Kind::App, "A0BOT000000"),
            team: id(Kind::Team, "T0DEMO00000"),
            bot_user: id(Kind::User, "U0BOT000000"),
        }
    }

    fn publication(event: &Value) -> Publication {
        let data = json!({ "events": [event] }).to_string();
        Publication {
            seq: Seq(1),
            id: Uuid::from_u128(0xabc),
            time: 1_700_000_000_123,
            data: Json::parse(data.as_bytes()).unwrap(),
            info: None,
            tags: None,
        }
    }

    fn envelopes(publication: &Publication) -> Vec<Envelope> {
        let events = Told::read(publication).into_iter().enumerate();
        events
            .flat_map(|(at, event)| event.envelopes(&app(), publication, at))
            .collect()
    }

    #[test]
    fn each_event_of_a_change_has_an_envelope_of_its_own() {
        let data = r#"{"events":[{"type":"message","text":"<@U0BOT000000>"},{"type":"member_joined_channel"}]}"#;
        let publication = Publication {
            data: Json::parse(data.as_bytes()).unwrap(),
            ..publication(&json!({}))
        };
        let all = envelopes(&publication);
        let ids: std::collections::BTreeSet<Uuid> = all.iter().map(|it| it.id).collect();
        assert_eq!((all.len(), ids.len()), (3, 3));
        let data = Json::parse(b"[1]").unwrap();
        assert!(
            Told::read(&Publication {
                data,
                ..publication
            })
            .is_empty()
        );
    }

    /// The types of the events that a publication is to the app.
    fn types(event: &Value) -> String {
        let publication = publication(event);
        let envelopes = envelopes(&publication);
        let types = envelopes.iter().map(|envelope| {
            let payload: Value = serde_json::from_str(&envelope.payload).unwrap();
            payload["event"]["type"].as_str().unwrap().to_owned()
        });
        types.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_event_comes_in_the_wrapper_that_the_sdks_read() {
        let event = json!({ "type": "message", "channel": "C0GENERAL00", "text": "hi", "user": "U0BOB000000", "channel_type": "channel" });
        let publication = publication(&event);
        let envelopes = envelopes(&publication);
        let text = envelopes[0].text(2, Some(Repeat::Timeout));
        let envelope: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope["envelope_id"], publication.id.to_string());
        assert_eq!(envelope["type"], "events_api");
        assert_eq!(
            (&envelope["retry_attempt"], &envelope["retry_reason"]),
            (&json!(2), &json!("timeout"))
        );
        let payload = &envelope["payload"];
        assert_eq!(payload["event"], event);
        assert_eq!(payload["event_time"], 1_700_000_000);
        assert_eq!(payload["api_app_id"], "A0BOT000000");
        assert_eq!(payload["authorizations"][0]["user_id"], "U0BOT000000");
        assert!(payload["event_id"].as_str().unwrap().starts_with("Ev0"));
    }

    #[test]
    fn whoever_calls_the_bot_by_name_is_heard_twice() {
        let message = |text: &str, user: &str, channel_type: &str, subtype: Option<&str>| {
            types(
                &json!({ "type": "message", "text": text, "user": user, "channel_type": channel_type, "subtype": subtype }),
            )
        };
        let (call, bob) = ("<@U0BOT000000> hi", "U0BOB000000");
        assert_eq!(message(call, bob, "channel", None), "message app_mention");
        assert_eq!(
            message(call, bob, "group", Some("thread_broadcast")),
            "message app_mention"
        );
        assert_eq!(message("hi", bob, "channel", None), "message");
        assert_eq!(message("<@U0BOT000001>", bob, "channel", None), "message");
        assert_eq!(message(call, bob, "im", None), "message");
        assert_eq!(message(call, "U0BOT000000", "channel", None), "message");
        assert_eq!(
            message(call, bob, "channel", Some("message_changed")),
            "message"
        );
        assert_eq!(
            types(&json!({ "type": "reaction_added", "text": call })),
            "reaction_added"
        );
    }
}
