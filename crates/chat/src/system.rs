//! Messages that the chat writes itself when a channel changes: they stand in the history like any other.

use fanfare_engine::port::tables::{Step, Value as Sql};
use serde_json::{Map, Value};

use crate::{
    change::{Change, Event},
    failure::Failure,
    id::Id,
    methods::post::{INSERT, NOTE_MESSAGE},
    ts::Ts,
};

/// A message of the chat's own.
#[derive(Debug, Clone)]
pub(crate) struct SystemMessage {
    /// Who has done it.
    pub(crate) user: Id,
    /// What: Slack's `subtype`.
    pub(crate) subtype: &'static str,
    pub(crate) text: String,
    /// Fields beside.
    pub(crate) more: Map<String, Value>,
}

impl SystemMessage {
    /// `text` follows the user's mark.
    pub(crate) fn new(user: &Id, subtype: &'static str, text: &str) -> Self {
        Self {
            user: user.clone(),
            subtype,
            text: format!("<@{user}> {text}"),
            more: Map::new(),
        }
    }

    /// With a field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.more.insert(field.to_owned(), value.into());
        self
    }

    fn event(&self, ts: Ts) -> Event {
        let mut event = self.more.clone();
        event.insert("type".to_owned(), "message".into());
        event.insert("subtype".to_owned(), self.subtype.into());
        event.insert("user".to_owned(), (&self.user).into());
        event.insert("text".to_owned(), self.text.as_str().into());
        event.insert("ts".to_owned(), ts.into());
        event
    }
}

impl Change {
    /// With a message of the chat's own. Its event has to be the last of the change: the row takes the `ts` that the conversation has then.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn says(self, conversation: &Id, message: SystemMessage) -> Result<Self, Failure> {
        let more = match message.more.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&message.more).map_err(Failure::internal)?),
        };
        let insert = vec![
            conversation.into(),
            (&message.user).into(),
            message.subtype.into(),
            message.text.as_str().into(),
            more.into(),
            Sql::Null,
            true.into(),
            Sql::Null,
        ];
        let note = Step::new(NOTE_MESSAGE, vec![conversation.into()]);
        Ok(self
            .step(Step::some(INSERT, insert), "channel_not_found")
            .step(note, "channel_not_found")
            .event(move |_, ts| Ok(message.event(ts))))
    }
}
