//! The chat: messages are publications of the room's channel, and its history is the log.

use std::sync::Arc;

use fanfare_engine::{
    hub::{HistoryQuery, session::HistoryPage},
    port::Direction,
};
use fanfare_wire::{Epoch, Millis, Publication, Seq};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    Watch, draft,
    failure::{Code, Failure},
    identity::RoomCode,
    payload::{Chat, LoadHistory},
    room::{Present, Room},
    session::events::without_nulls,
};

/// Messages that come after joining.
pub(crate) const MESSAGES_ON_JOIN: usize = 100;
/// Publications that are read at once.
const PAGE: usize = 250;
/// Publications that are looked through for the messages among them, and for the first of them.
const SCAN_MAX: usize = 2000;
const SCAN_FOR_FIRST_MAX: usize = 5000;

/// Messages of a room, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Value>,
    pub(crate) has_more: bool,
    /// The position behind which nothing was read.
    pub(crate) epoch: Epoch,
    pub(crate) head: Seq,
}

impl Watch {
    /// Says something. Returns the message's id, its number and whether it had been said before.
    pub(crate) async fn say(
        self: &Arc<Self>,
        room: &Room,
        by: &Present,
        chat: &Chat,
    ) -> Result<Map<String, Value>, Failure> {
        if by.guest && !room.guest_chat && !room.is_owner(&by.oder_id) {
            let words = "guests cannot write here; sign in, or ask the owner";
            return Err(Failure::new(Code::GuestCannotChat, words));
        }
        let id = Uuid::now_v7();
        let told = without_nulls(json!({
            "id": id.to_string(),
            "type": "user",
            "oderId": by.oder_id,
            "userId": by.user_id,
            "username": by.username,
            "content": chat.content()?,
            "timestamp": self.clock.now(),
        }));
        let mut draft = draft(room.code.channel(), "chat:message", &told)?;
        draft.id = id;
        draft.idempotency_key = chat
            .key()?
            .map(|key| format!("chat/{}/{key}", by.oder_id.as_str()));
        let published = self.engine.publish(draft).await?;
        let mut fields = Map::new();
        fields.insert("offset".to_owned(), published.seq.0.into());
        match published.duplicate {
            true => {
                fields.insert("duplicate".to_owned(), true.into());
                let first = self.first_id(room.code, published.seq).await?;
                fields.insert("id".to_owned(), first.into());
            }
            false => {
                fields.insert("id".to_owned(), id.to_string().into());
            }
        }
        Ok(fields)
    }

    /// A page of the chat's history.
    pub(crate) async fn load_history(
        &self,
        room: RoomCode,
        ask: &LoadHistory,
    ) -> Result<Messages, Failure> {
        let limit = ask.limit()?;
        let before = match (ask.before_offset, ask.before()?) {
            (Some(offset), _) => Some(Seq(offset)),
            (None, Some(time)) => Some(self.first_at(room, time).await?),
            (None, None) => None,
        };
        self.messages(room, before, limit).await
    }

    /// The newest messages before a number, or of all.
    pub(crate) async fn messages(
        &self,
        room: RoomCode,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Messages, Failure> {
        let mut found = Vec::new();
        let mut scanned = 0;
        let mut at = before;
        let mut begin: Option<(Epoch, Seq)> = None;
        loop {
            let page = self.page_before(room, at, PAGE).await?;
            let (epoch, head) = begin.get_or_insert_with(|| (page.epoch.clone(), page.head));
            scanned += page.publications.len();
            for publication in &page.publications {
                // One more than asked for shows that there are more.
                if found.len() > limit {
                    break;
                }
                found.extend(message_of(publication));
            }
            let last = page.publications.last().map(|publication| publication.seq);
            let is_over = page.publications.len() < PAGE;
            // Who is shown no message has nothing to go on from.
            let most = match found.is_empty() {
                true => SCAN_FOR_FIRST_MAX,
                false => SCAN_MAX,
            };
            match last {
                Some(last) if !is_over && found.len() <= limit && scanned < most => {
                    at = Some(last);
                }
                _ => {
                    let has_more = found.len() > limit || (!is_over && !found.is_empty());
                    found.truncate(limit);
                    found.reverse();
                    return Ok(Messages {
                        messages: found,
                        has_more,
                        epoch: epoch.clone(),
                        head: *head,
                    });
                }
            }
        }
    }

    /// Publications before a number, the newest first.
    pub(crate) async fn page_before(
        &self,
        room: RoomCode,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<HistoryPage, Failure> {
        let query = HistoryQuery {
            channel: room.channel(),
            since: before.map(|seq| (None, seq)),
            limit,
            direction: Direction::Backward,
        };
        Ok(self.engine.history(query).await?)
    }

    /// The number of the first publication that is not before a time. Times follow the numbers.
    async fn first_at(&self, room: RoomCode, time: Millis) -> Result<Seq, Failure> {
        let newest = self.page_before(room, None, 1).await?;
        let (mut low, mut high) = (newest.trimmed.0 + 1, newest.head.0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let query = HistoryQuery {
                channel: room.channel(),
                since: Some((None, Seq(middle - 1))),
                limit: 1,
                direction: Direction::Forward,
            };
            let page = self.engine.history(query).await?;
            match page.publications.first() {
                Some(publication) if publication.time < time => low = publication.seq.0 + 1,
                _ => high = middle,
            }
        }
        Ok(Seq(low))
    }

    async fn first_id(&self, room: RoomCode, seq: Seq) -> Result<Option<String>, Failure> {
        let page = self.page_before(room, Some(seq.next()), 1).await?;
        let found = page.publications.first().filter(|it| it.seq == seq);
        let message = found.and_then(message_of);
        Ok(message.and_then(|message| message["id"].as_str().map(str::to_owned)))
    }
}

/// The event that a publication arrives as.
pub(crate) fn event_of(publication: &Publication) -> Option<String> {
    #[derive(Deserialize)]
    struct Tags {
        event: String,
    }
    let tags = publication.tags.as_ref()?;
    serde_json::from_slice::<Tags>(tags.as_bytes())
        .ok()
        .map(|tags| tags.event)
}

/// The chat message that a publication is, with its number.
pub(crate) fn message_of(publication: &Publication) -> Option<Value> {
    if event_of(publication)? != "chat:message" {
        return None;
    }
    let mut message: Map<String, Value> =
        serde_json::from_slice(publication.data.as_bytes()).ok()?;
    message.insert("offset".to_owned(), publication.seq.0.into());
    Some(Value::Object(message))
}
