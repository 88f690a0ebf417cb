//! Messages: rows, and the objects that Slack's clients know.

use std::collections::BTreeMap;

use fanfare_engine::port::tables::{Row, Value as Sql};
use serde_json::{Map, Value, json};

use crate::{Chat, failure::Failure, id::Id, ts::Ts};

/// Longest text, in characters, as Slack's.
pub(crate) const TEXT_CHARS_MAX: usize = 40_000;
/// What blocks, attachments and metadata may weigh together, in bytes of JSON.
pub(crate) const MORE_BYTES_MAX: usize = 128 << 10;
/// Users of a thread that a message names.
const REPLY_USERS_MAX: usize = 5;

/// The columns of which a [`Message`] is read, of `chat_messages m`.
macro_rules! message_columns {
    () => {
        "m.ts, m.user_id, m.subtype, m.text, m.more, m.thread_ts, m.edited_by, m.edited_ts, m.reply_count, m.latest_reply, \
         m.client_msg_id, m.shown, (SELECT p.user_id FROM chat_messages p WHERE p.conversation = m.conversation AND p.ts = m.thread_ts)"
    };
}
pub(crate) use message_columns;

const SELECT_REACTIONS: &str = "SELECT ts, name, user_id FROM chat_reactions WHERE conversation = $1 AND ts >= $2 AND ts <= $3 \
    ORDER BY ts, event_ts LIMIT 10000";

/// Who has replied in threads, those who came first before the others.
const SELECT_REPLY_USERS: &str = "SELECT thread_ts, user_id FROM chat_messages WHERE conversation = $1 AND thread_ts >= $2 \
    AND thread_ts <= $3 AND deleted = 0 GROUP BY thread_ts, user_id ORDER BY thread_ts, MIN(ts) LIMIT 10000";

/// A message that is not deleted.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) ts: Ts,
    pub(crate) user: String,
    pub(crate) subtype: Option<String>,
    pub(crate) text: String,
    /// Fields that nobody but clients looks into: `blocks`, `attachments`, `bot_id` and more.
    pub(crate) more: Map<String, Value>,
    /// The parent, if it is a reply.
    pub(crate) thread: Option<Ts>,
    pub(crate) edited: Option<(String, Ts)>,
    pub(crate) reply_count: i64,
    pub(crate) latest_reply: Option<Ts>,
    pub(crate) client_msg_id: Option<String>,
    /// It stands in the conversation, not in a thread alone.
    pub(crate) is_shown: bool,
    pub(crate) parent_user: Option<String>,
    /// Who has replied, filled by [`Chat::complete`].
    pub(crate) reply_users: Vec<String>,
    /// Names and users, filled by [`Chat::complete`].
    pub(crate) reactions: Vec<(String, Vec<String>)>,
}

impl Message {
    /// Reads a row of [`message_columns`].
    pub(crate) fn read(row: &Row) -> Result<Self, Failure> {
        Self::try_read(row).ok_or_else(|| Failure::internal("a row of a message cannot be read"))
    }

    fn try_read(row: &Row) -> Option<Self> {
        let text = |column| row.text(column).map(str::to_owned);
        let more = match row.text(4) {
            Some(more) => serde_json::from_str(more).ok()?,
            None => Map::new(),
        };
        Some(Self {
            ts: Ts(row.int(0)?),
            user: text(1)?,
            subtype: text(2),
            text: text(3)?,
            more,
            thread: row.int(5).map(Ts),
            edited: text(6).zip(row.int(7).map(Ts)),
            reply_count: row.int(8)?,
            latest_reply: row.int(9).map(Ts),
            client_msg_id: text(10),
            is_shown: row.int(11)? != 0,
            parent_user: text(12),
            reply_users: Vec::new(),
            reactions: Vec::new(),
        })
    }

    /// As clients see it: Slack's message object.
    pub(crate) fn view(&self, team: &Id) -> Map<String, Value> {
        let mut view = self.more.clone();
        let mut set = |name: &str, value: Value| {
            view.insert(name.to_owned(), value);
        };
        set("type", "message".into());
        set("user", self.user.as_str().into());
        set("text", self.text.as_str().into());
        set("ts", self.ts.into());
        set("team", team.into());
        if let Some(subtype) = &self.subtype {
            set("subtype", subtype.as_str().into());
        }
        if let Some(key) = &self.client_msg_id {
            set("client_msg_id", key.as_str().into());
        }
        if let Some((user, ts)) = &self.edited {
            set("edited", json!({ "user": user, "ts": ts.to_string() }));
        }
        if let Some(thread) = self.thread {
            set("thread_ts", thread.into());
            set("parent_user_id", self.parent_user.as_deref().into());
        }
        if self.reply_count > 0 {
            set("thread_ts", self.ts.into());
            for (name, value) in self.thread_fields() {
                set(&name, value);
            }
        }
        if !self.reactions.is_empty() {
            let reaction = |(name, users): &(String, Vec<String>)| json!({ "name": name, "users": users, "count": users.len() });
            set("reactions", self.reactions.iter().map(reaction).collect());
        }
        view
    }

    fn thread_fields(&self) -> Map<String, Value> {
        let users = self.reply_users.iter().map(String::as_str);
        thread_fields(
            self.reply_count,
            users,
            self.reply_users.len(),
            self.latest_reply,
        )
    }
}

/// What a parent says of its thread. `users` may be more than are named.
pub(crate) fn thread_fields<'a>(
    count: i64,
    users: impl Iterator<Item = &'a str>,
    users_count: usize,
    latest: Option<Ts>,
) -> Map<String, Value> {
    let named: Vec<&str> = users.take(REPLY_USERS_MAX).collect();
    let mut fields = Map::new();
    fields.insert("reply_count".to_owned(), count.into());
    fields.insert("reply_users_count".to_owned(), users_count.into());
    fields.insert("reply_users".to_owned(), named.into());
    if let Some(latest) = latest {
        fields.insert("latest_reply".to_owned(), latest.into());
    }
    fields
}

impl Chat {
    /// Adds to messages of a conversation who has reacted and replied.
    pub(crate) async fn complete(
        &self,
        conversation: &Id,
        messages: &mut [Message],
    ) -> Result<(), Failure> {
        let all = messages.iter().map(|message| message.ts);
        let (Some(first), Some(last)) = (all.clone().min(), all.max()) else {
            return Ok(());
        };
        let range: Vec<Sql> = vec![conversation.into(), first.into(), last.into()];
        let mut reactions: BTreeMap<Ts, Vec<(String, Vec<String>)>> = BTreeMap::new();
        for row in self.engine.query(SELECT_REACTIONS, range.clone()).await? {
            let (Some(ts), Some(name), Some(user)) = (row.int(0), row.text(1), row.text(2)) else {
                continue;
            };
            let of_message = reactions.entry(Ts(ts)).or_default();
            match of_message.iter_mut().find(|(known, _)| known == name) {
                Some((_, users)) => users.push(user.to_owned()),
                None => of_message.push((name.to_owned(), vec![user.to_owned()])),
            }
        }
        let mut repliers: BTreeMap<Ts, Vec<String>> = BTreeMap::new();
        if messages.iter().any(|message| message.reply_count > 0) {
            for row in self.engine.query(SELECT_REPLY_USERS, range).await? {
                if let (Some(ts), Some(user)) = (row.int(0), row.text(1)) {
                    repliers.entry(Ts(ts)).or_default().push(user.to_owned());
                }
            }
        }
        for message in messages {
            message.reactions = reactions.remove(&message.ts).unwrap_or_default();
            message.reply_users = repliers.remove(&message.ts).unwrap_or_default();
        }
        Ok(())
    }
}
