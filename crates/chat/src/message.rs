//! Messages: rows, and the objects that Slack's clients know.

use std::collections::BTreeMap;

use fanfare_engine::port::tables::{Row, Step, Value as Sql};
use serde_json::{Map, Value, json};

use crate::{Chat, failure::Failure, id::Id, ts::Ts};

/// Longest text, in characters, as Slack's.
pub(crate) const TEXT_CHARS_MAX: usize = 40_000;
/// What blocks, attachments and metadata may weigh together, in bytes of JSON.
pub(crate) const MORE_BYTES_MAX: usize = 128 << 10;

/// The columns of which a [`Message`] is read, of `chat_messages m`.
macro_rules! message_columns {
    () => {
        "m.ts, m.user_id, m.subtype, m.text, m.more, m.thread_ts, m.edited_by, m.edited_ts, m.reply_count, m.latest_reply, \
         m.client_msg_id, (SELECT p.user_id FROM chat_messages p WHERE p.conversation = m.conversation AND p.ts = m.thread_ts), \
         m.reactions"
    };
}
pub(crate) use message_columns;

/// How many they are: where the columns of a query begin that stand behind them.
pub(crate) const MESSAGE_COLUMNS: usize = 13;

/// The subtypes of what somebody has said, as against what the conversation says of itself.
macro_rules! said {
    ($subtype:literal) => {
        concat!(
            "(",
            $subtype,
            " IS NULL OR ",
            $subtype,
            " IN ('me_message', 'bot_message', 'thread_broadcast'))"
        )
    };
}
pub(crate) use said;

/// The subtype of a message that was deleted and has replies.
pub(crate) const TOMBSTONE: &str = "tombstone";

/// Reactions to one message at most, of all names and users together.
pub(crate) const REACTIONS_MAX: i64 = 500;
/// Messages whose reactions one statement reads: with [`REACTIONS_MAX`] not more rows than one may return.
const REACTED_AT_ONCE: usize = 20;

const SELECT_REACTIONS: &str = "SELECT ts, name, user_id FROM chat_reactions WHERE conversation = $1 AND ts IN \
    ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) ORDER BY ts, event_ts";

/// Who has replied in threads, those who came first before the others: the first few of each thread, and how many they are.
const SELECT_REPLY_USERS: &str = "SELECT t.thread_ts, t.user_id, t.users FROM (SELECT thread_ts, user_id, \
    ROW_NUMBER() OVER (PARTITION BY thread_ts ORDER BY MIN(ts)) AS place, COUNT(*) OVER (PARTITION BY thread_ts) AS users \
    FROM chat_messages WHERE conversation = $1 AND thread_ts >= $2 AND thread_ts <= $3 AND deleted = 0 \
    GROUP BY thread_ts, user_id) t WHERE t.place <= 5 ORDER BY t.thread_ts, t.place";

const SELECT_ONE: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM chat_messages m WHERE m.conversation = $1 AND m.ts = $2 AND m.deleted = 0"
);

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
    pub(crate) parent_user: Option<String>,
    /// How many have reacted.
    pub(crate) reacted: i64,
    /// Who has replied, filled by [`Chat::complete`].
    pub(crate) repliers: Repliers,
    /// Names and users, filled by [`Chat::complete`].
    pub(crate) reactions: Reactions,
}

/// Who has replied in a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Repliers {
    /// The first few.
    pub(crate) named: Vec<String>,
    /// How many they are.
    pub(crate) count: i64,
}

/// The names of reactions, each with the users who gave it, in the order of their coming.
pub(crate) type Reactions = Vec<(String, Vec<String>)>;

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
            parent_user: text(11),
            reacted: row.int(12)?,
            repliers: Repliers::default(),
            reactions: Reactions::new(),
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
            if subtype == TOMBSTONE {
                set("hidden", true.into());
            }
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
            view.extend(thread_fields(
                self.reply_count,
                &self.repliers,
                self.latest_reply,
            ));
        }
        if !self.reactions.is_empty() {
            let reaction = |(name, users): &(String, Vec<String>)| json!({ "name": name, "users": users, "count": users.len() });
            let reactions = self.reactions.iter().map(reaction).collect();
            view.insert("reactions".to_owned(), reactions);
        }
        view
    }

    /// Whether it is what remains of a message that has replies.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.subtype.as_deref() == Some(TOMBSTONE)
    }
}

/// What a parent says of its thread.
pub(crate) fn thread_fields(
    count: i64,
    repliers: &Repliers,
    latest: Option<Ts>,
) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("reply_count".to_owned(), count.into());
    fields.insert("reply_users_count".to_owned(), repliers.count.into());
    fields.insert("reply_users".to_owned(), repliers.named.as_slice().into());
    if let Some(latest) = latest {
        fields.insert("latest_reply".to_owned(), latest.into());
    }
    fields
}

/// The statement that reads one message that is not deleted, of [`message_columns`].
pub(crate) fn select_one(conversation: &Id, ts: Ts) -> Step {
    Step::new(SELECT_ONE, vec![conversation.into(), ts.into()])
}

/// The statement that reads who has reacted to messages, for [`reactions_of`]; to the first few of them.
pub(crate) fn select_reactions(conversation: &Id, messages: &[Ts]) -> Step {
    let last = messages.last().copied().unwrap_or_default();
    let padded = messages.iter().copied().chain(std::iter::repeat(last));
    let params = padded.take(REACTED_AT_ONCE).map(Sql::from);
    let params = std::iter::once(conversation.into()).chain(params);
    Step::new(SELECT_REACTIONS, params.collect())
}

/// The statement that reads who has replied in threads, for [`repliers_of`].
pub(crate) fn select_repliers(conversation: &Id, (first, last): (Ts, Ts)) -> Step {
    let params = vec![conversation.into(), first.into(), last.into()];
    Step::new(SELECT_REPLY_USERS, params)
}

/// Reads what [`select_reactions`] returned.
pub(crate) fn reactions_of(rows: &[Row]) -> BTreeMap<Ts, Reactions> {
    let mut all: BTreeMap<Ts, Reactions> = BTreeMap::new();
    for row in rows {
        let (Some(ts), Some(name), Some(user)) = (row.int(0), row.text(1), row.text(2)) else {
            continue;
        };
        let of_message = all.entry(Ts(ts)).or_default();
        match of_message.iter_mut().find(|(known, _)| known == name) {
            Some((_, users)) => users.push(user.to_owned()),
            None => of_message.push((name.to_owned(), vec![user.to_owned()])),
        }
    }
    all
}

/// Reads what [`select_repliers`] returned.
pub(crate) fn repliers_of(rows: &[Row]) -> BTreeMap<Ts, Repliers> {
    let mut all: BTreeMap<Ts, Repliers> = BTreeMap::new();
    for row in rows {
        if let (Some(ts), Some(user), Some(count)) = (row.int(0), row.text(1), row.int(2)) {
            let of_thread = all.entry(Ts(ts)).or_default();
            of_thread.named.push(user.to_owned());
            of_thread.count = count;
        }
    }
    all
}

impl Chat {
    /// A message of a conversation, whoever asks; a tombstone is one.
    ///
    /// # Errors
    /// `message_not_found`; or the database is away.
    pub(crate) async fn message(&self, conversation: &Id, ts: Ts) -> Result<Message, Failure> {
        let Step { sql, params, .. } = select_one(conversation, ts);
        let rows = self.engine.query(sql, params).await?;
        let message = rows.first().map(Message::read).transpose()?;
        message.ok_or_else(|| Failure::new("message_not_found"))
    }

    /// Adds to messages of a conversation who has reacted and replied.
    pub(crate) async fn complete(
        &self,
        conversation: &Id,
        messages: &mut [Message],
    ) -> Result<(), Failure> {
        let reacted = messages.iter().filter(|message| message.reacted > 0);
        let reacted: Vec<Ts> = reacted.map(|message| message.ts).collect();
        let mut reactions = BTreeMap::new();
        for some in reacted.chunks(REACTED_AT_ONCE) {
            let Step { sql, params, .. } = select_reactions(conversation, some);
            reactions.extend(reactions_of(&self.engine.query(sql, params).await?));
        }
        let parents = messages.iter().filter(|message| message.reply_count > 0);
        let parents = parents.map(|message| message.ts);
        let mut repliers = BTreeMap::new();
        if let (Some(first), Some(last)) = (parents.clone().min(), parents.max()) {
            let Step { sql, params, .. } = select_repliers(conversation, (first, last));
            repliers = repliers_of(&self.engine.query(sql, params).await?);
        }
        for message in messages {
            message.reactions = reactions.remove(&message.ts).unwrap_or_default();
            message.repliers = repliers.remove(&message.ts).unwrap_or_default();
        }
        Ok(())
    }
}
