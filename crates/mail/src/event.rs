//! What clients are told: one envelope for every transport.
//!
//! `{"type":"new_email","data":{…},"timestamp":"2026-11-21T16:45:54.123Z"}` is the data of a publication in the mailbox's
//! channel, and the data of an event of the stream, whose name is the type. The tag `event` of the publication names it too.

use fanfare_wire::{ChannelName, Draft, Json, JsonError, Millis, iso8601};
use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::message::{HistoryId, Message};

/// One thing that happened in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// A message came.
    NewEmail(Message),
    /// A message has other labels: it was read, starred, moved, or came into view again. The whole message as it is now.
    EmailUpdate(Update),
    /// A message was deleted for good.
    EmailDelete(Deletion),
    /// All that Gmail had to tell is told.
    SyncComplete {
        /// Up to here.
        #[serde(rename = "historyId")]
        history_id: HistoryId,
    },
    /// The mailbox is no longer in sync, and somebody must do something about it.
    Error {
        /// What: `reconnect`: Gmail must be connected again.
        code: &'static str,
        /// In words.
        message: &'static str,
    },
}

/// A message with other labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    /// As it is now.
    #[serde(flatten)]
    pub message: Message,
    /// What is different.
    pub changes: Changes,
}

/// Labels that came and went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Labels that it has now, and had not.
    pub added: Vec<String>,
    /// Labels that it had.
    pub removed: Vec<String>,
}

/// A message that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// Its id.
    pub id: String,
    /// The place of the history at which it went.
    pub version: HistoryId,
}

/// An event that cannot be written down.
#[derive(Debug, Error)]
pub enum EventError {
    /// Its JSON cannot be made.
    #[error("an event cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// Its JSON is none.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl Event {
    /// Its name: the type in the envelope, the event of the stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NewEmail(_) => "new_email",
            Self::EmailUpdate(_) => "email_update",
            Self::EmailDelete(_) => "email_delete",
            Self::SyncComplete { .. } => "sync_complete",
            Self::Error { .. } => "error",
        }
    }

    /// The publication that tells it, to be committed with the rows that it is about.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn draft(&self, channel: ChannelName, now: Millis) -> Result<Draft, EventError> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            #[serde(flatten)]
            event: &'a Event,
            timestamp: String,
        }
        let envelope = Envelope {
            event: self,
            timestamp: iso8601(now),
        };
        let data = Json::parse(&serde_json::to_vec(&envelope)?)?;
        let mut draft = Draft::new(channel, Uuid::now_v7(), data);
        let tags = serde_json::json!({ "event": self.name() }).to_string();
        draft.tags = Some(Json::parse(tags.as_bytes())?);
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    fn shown(event: &Event) -> serde_json::Value {
        let channel = User::parse("g1").unwrap().channel().unwrap();
        let draft = event.draft(channel, 1_763_743_554_123).unwrap();
        let tags: serde_json::Value =
            serde_json::from_slice(draft.tags.as_ref().unwrap().as_bytes()).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(draft.data.as_bytes()).unwrap();
        assert_eq!(tags["event"], event.name());
        assert_eq!(shown["type"], event.name());
        assert_eq!(shown["timestamp"], "2025-11-21T16:45:54.123Z");
        shown["data"].clone()
    }

    #[test]
    fn every_event_has_one_envelope() {
        let message = Message {
            id: "18c".to_owned(),
            thread_id: "18b".to_owned(),
            from: "Ann <ann@example.com>".to_owned(),
            subject: "Hello".to_owned(),
            snippet: "How are you?".to_owned(),
            labels: ["INBOX", "UNREAD"].map(str::to_owned).into(),
            date: 1_763_743_500_000,
            version: HistoryId(77),
        };
        let new = shown(&Event::NewEmail(message.clone()));
        assert_eq!(new["threadId"], "18b");
        assert_eq!(new["labels"][1], "UNREAD");
        assert_eq!(new["version"], "77");
        let update = shown(&Event::EmailUpdate(Update {
            message,
            changes: Changes {
                added: vec!["STARRED".to_owned()],
                removed: Vec::new(),
            },
        }));
        assert_eq!(update["id"], "18c");
        assert_eq!(update["changes"]["added"][0], "STARRED");
        let deletion = shown(&Event::EmailDelete(Deletion {
            id: "18c".to_owned(),
            version: HistoryId(78),
        }));
        assert_eq!(deletion["version"], "78");
        let complete = shown(&Event::SyncComplete {
            history_id: HistoryId(78),
        });
        assert_eq!(complete["historyId"], "78");
        let error = shown(&Event::Error {
            code: "reconnect",
            message: "connect Gmail again",
        });
        assert_eq!(error["code"], "reconnect");
    }
}
