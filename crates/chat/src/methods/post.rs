//! `chat.postMessage`: a message, committed with everything that depends on it.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::{
    state::Bucket,
    tables::{Row, Step, Value as Sql},
};
use fanfare_wire::Draft;
use serde_json::{Map, Value};

use crate::{
    Chat,
    caller::Caller,
    change::{Change, Event},
    failure::{EXISTS, Failure},
    id::Id,
    mention::Mentions,
    message::{MORE_BYTES_MAX, TEXT_CHARS_MAX, repliers_of, select_repliers, thread_fields},
    method::{Answer, Call, Method, method},
    notice,
    ts::Ts,
    unread::FORGET_READ,
};

pub(crate) const METHODS: &[Method] = &[method!("chat.postMessage", User, Own, post_message)];

/// Longest `client_msg_id`, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// What is taken over from the arguments as it is.
const STRUCTURES: [&str; 3] = ["blocks", "attachments", "metadata"];
/// Most attachments, and most blocks.
const STRUCTURE_ITEMS_MAX: usize = 100;

pub(crate) const IS_MEMBER: &str =
    "SELECT 1 FROM chat_members WHERE conversation = $1 AND user_id = $2";

/// The parent of a reply counts it. Replies have none of their own.
const COUNT_REPLY: &str = "UPDATE chat_messages SET reply_count = reply_count + 1, \
    latest_reply = (SELECT last_ts FROM chat_conversations WHERE id = $1) \
    WHERE conversation = $1 AND ts = $2 AND thread_ts IS NULL AND deleted = 0 RETURNING reply_count, user_id";

pub(crate) const INSERT: &str = "INSERT INTO chat_messages (conversation, ts, user_id, subtype, text, more, thread_ts, shown, reply_count, \
    client_msg_id, deleted) SELECT id, last_ts, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
    CAST($6 AS BIGINT), CAST($7 AS BIGINT), 0, CAST($8 AS TEXT), 0 FROM chat_conversations WHERE id = $1";

pub(crate) const NOTE_MESSAGE: &str =
    "UPDATE chat_conversations SET last_message = last_ts WHERE id = $1";

/// Whoever has posted has read up to there, and needs no mentions that are older.
const NOTE_READ: &str = "UPDATE chat_members SET last_read = (SELECT last_ts FROM chat_conversations WHERE id = $1) \
    WHERE conversation = $1 AND user_id = $2";

/// Direct conversations come back into the lists of all who are in them.
const OPEN_DIRECT: &str =
    "UPDATE chat_members SET is_open = 1 WHERE conversation = $1 AND is_open = 0 RETURNING user_id";

const SELECT_BY_KEY: &str =
    "SELECT ts FROM chat_messages WHERE conversation = $1 AND user_id = $2 AND client_msg_id = $3";

/// What is to be said.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// Who says it.
    pub(crate) user: Id,
    pub(crate) text: String,
    /// See [`Message::more`](crate::message::Message::more).
    pub(crate) more: Map<String, Value>,
    /// To which message it is a reply.
    pub(crate) thread: Option<Ts>,
    /// The reply stands in the conversation as well.
    pub(crate) broadcast: bool,
    pub(crate) key: Option<String>,
    pub(crate) subtype: Option<&'static str>,
}

/// What was said.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) ts: Ts,
    /// As everybody is told it; empty for one that was posted before.
    pub(crate) message: Event,
    /// The key was there before; nothing was posted now.
    pub(crate) is_duplicate: bool,
}

async fn post_message(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(caller, &id).await?;
    let post = Post::read(caller, &call, None)?;
    chat.limit_posts(caller, &id).await?;
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let posted = chat.post(&id, post).await?;
    let answer = Answer::ok().with("channel", &id).with("ts", posted.ts);
    Ok(match posted.is_duplicate {
        true => answer.with("duplicate", true),
        false => answer.with("message", posted.message),
    })
}

impl Post {
    /// Reads what a call wants said.
    pub(crate) fn read(
        caller: &Caller,
        call: &Call,
        subtype: Option<&'static str>,
    ) -> Result<Self, Failure> {
        let args = &call.args;
        let text = args.text("text").or_else(|| args.text("markdown_text"));
        let mut more = structures(call)?;
        let has_content = text.as_deref().is_some_and(|text| !text.trim().is_empty())
            || more.contains_key("blocks")
            || more.contains_key("attachments");
        if !has_content {
            return Err(Failure::new("no_text"));
        }
        let text = text.unwrap_or_default();
        check_text(&text)?;
        if let (Some(bot), Some(app)) = (&caller.bot, &caller.app) {
            more.insert("bot_id".to_owned(), bot.into());
            more.insert("app_id".to_owned(), app.into());
        }
        let thread = args
            .text("thread_ts")
            .map(|text| Ts::parse(&text).ok_or_else(|| Failure::new("invalid_thread_ts")));
        let thread = thread.transpose()?;
        let key = args.text("client_msg_id");
        if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Failure::argument(
                "client_msg_id",
                "is longer than 128 bytes",
            ));
        }
        let broadcast = thread.is_some() && args.flag("reply_broadcast");
        Ok(Self {
            user: caller.user.clone(),
            text,
            more,
            thread,
            broadcast,
            key,
            subtype: if broadcast {
                Some("thread_broadcast")
            } else {
                subtype
            },
        })
    }
}

/// Blocks and the like of a call.
pub(crate) fn structures(call: &Call) -> Result<Map<String, Value>, Failure> {
    let mut more = Map::new();
    for name in STRUCTURES {
        let Some(value) = call.args.json(name)? else {
            continue;
        };
        let fits = match (name, &value) {
            ("metadata", value) => value.is_object(),
            (_, Value::Array(items)) if items.is_empty() => continue,
            (_, Value::Array(items)) => {
                items.len() <= STRUCTURE_ITEMS_MAX && items.iter().all(Value::is_object)
            }
            _ => false,
        };
        match (name, fits) {
            (_, true) => _ = more.insert(name.to_owned(), value),
            ("attachments", false) => return Err(Failure::new("too_many_attachments")),
            ("blocks", false) => return Err(Failure::new("invalid_blocks")),
            _ => return Err(Failure::new("invalid_metadata_format")),
        }
    }
    check_weight(&more)?;
    Ok(more)
}

/// Refuses blocks and the like that are too heavy together.
pub(crate) fn check_weight(more: &Map<String, Value>) -> Result<(), Failure> {
    let weight = serde_json::to_vec(more).map_err(Failure::internal)?.len();
    match weight > MORE_BYTES_MAX {
        true => Err(Failure::new("msg_too_long")),
        false => Ok(()),
    }
}

/// Refuses a text that is too long.
pub(crate) fn check_text(text: &str) -> Result<(), Failure> {
    // Most texts are short in bytes already.
    match text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX {
        true => Err(Failure::new("msg_too_long")),
        false => Ok(()),
    }
}

impl Chat {
    /// One message a second for a user in a conversation, and many at once after a while: as Slack has it.
    pub(crate) async fn limit_posts(&self, caller: &Caller, id: &Id) -> Result<(), Failure> {
        let ease = self.config.ease();
        let bucket = Bucket {
            capacity: 60_u32.saturating_mul(ease),
            refill: 60_u32.saturating_mul(ease),
            period: Duration::from_secs(60),
        };
        self.limit("post", &format!("{}.{id}", caller.user), bucket)
            .await
    }

    /// Posts a message of a user who is a member, or says where it is already.
    ///
    /// # Errors
    /// `not_in_channel`, `thread_not_found`, `is_archived`; or the database is away.
    pub(crate) async fn post(&self, conversation: &Id, post: Post) -> Result<Posted, Failure> {
        let change = self.change_of(conversation, &post)?;
        self.post_as(conversation, &post, change).await
    }

    /// Has a message posted once a statement holds that is committed with it; otherwise `otherwise` is answered.
    pub(crate) async fn post_if(
        &self,
        conversation: &Id,
        post: Post,
        (step, otherwise): (Step, &'static str),
    ) -> Result<Posted, Failure> {
        let change = self.change_of(conversation, &post)?;
        let change = change.step(step, otherwise);
        self.post_as(conversation, &post, change).await
    }

    async fn post_as(
        &self,
        conversation: &Id,
        post: &Post,
        change: Change,
    ) -> Result<Posted, Failure> {
        match self.change(change).await {
            Ok(mut changed) => Ok(Posted {
                ts: changed.ts.first().copied().unwrap_or_default(),
                message: changed.events.pop().unwrap_or_default(),
                is_duplicate: false,
            }),
            Err(failure) if failure.is(EXISTS) => self.posted_before(conversation, post).await,
            Err(failure) => Err(failure),
        }
    }

    async fn posted_before(&self, conversation: &Id, post: &Post) -> Result<Posted, Failure> {
        let params = vec![
            conversation.into(),
            (&post.user).into(),
            post.key.as_deref().into(),
        ];
        let rows = self.engine.query(SELECT_BY_KEY, params).await?;
        let ts = rows.first().and_then(|row| row.int(0)).map(Ts);
        Ok(Posted {
            ts: ts.ok_or_else(|| Failure::internal("a key is there without its message"))?,
            message: Event::new(),
            is_duplicate: true,
        })
    }

    fn change_of(&self, conversation: &Id, post: &Post) -> Result<Change, Failure> {
        let (channel, user) = (Sql::from(conversation), Sql::from(&post.user));
        let both = || vec![channel.clone(), user.clone()];
        let more = match post.more.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&post.more).map_err(Failure::internal)?),
        };
        let is_shown = post.thread.is_none() || post.broadcast;
        let insert = vec![
            channel.clone(),
            user.clone(),
            post.subtype.into(),
            post.text.as_str().into(),
            more.into(),
            post.thread.map(|thread| thread.0).into(),
            is_shown.into(),
            post.key.as_deref().into(),
        ];
        let mut change = Change::of(conversation)
            .step(Step::some(IS_MEMBER, both()), "not_in_channel")
            .step(Step::some(INSERT, insert), "not_in_channel");
        if let Some(thread) = post.thread {
            let count = vec![channel.clone(), thread.into()];
            change = change
                .step(Step::some(COUNT_REPLY, count), "thread_not_found")
                .step(
                    select_repliers(conversation, (thread, thread)),
                    "thread_not_found",
                );
        }
        let mut notes = Vec::new();
        if is_shown {
            notes.push(Step::new(NOTE_MESSAGE, vec![channel.clone()]));
            notes.push(Step::new(NOTE_READ, both()));
            notes.push(Step::new(FORGET_READ, both()));
        }
        if conversation.as_str().starts_with(['D', 'G']) {
            let at = change.steps() + notes.len();
            notes.push(Step::new(OPEN_DIRECT, vec![channel.clone()]));
            let id = conversation.clone();
            change = change.notice(move |rows, _| opened(&id, rows.get(at)));
        }
        notes.extend(Mentions::of(&post.text).steps(conversation, None));
        for note in notes {
            change = change.step(note, "not_in_channel");
        }
        let post = post.clone();
        Ok(change.event(move |rows, ts| Ok(event_of(&post, rows, ts))))
    }
}

/// Whoever had closed it is told that it is there again.
fn opened(id: &Id, rows: Option<&Vec<Row>>) -> Result<Vec<Draft>, Failure> {
    let users = rows.into_iter().flatten().filter_map(|row| row.text(0));
    let notices = users.map(|user| notice::opened(id, &Id::known(user), true));
    notices.collect()
}

/// Where the parent's row stands among what the steps returned.
const PARENT_STEP: usize = 2;

/// A message, as everybody is told it.
fn event_of(post: &Post, rows: &[Vec<Row>], ts: Ts) -> Event {
    let mut event = post.more.clone();
    let mut set = |name: &str, value: Value| {
        event.insert(name.to_owned(), value);
    };
    set("type", "message".into());
    set("user", (&post.user).into());
    set("text", post.text.as_str().into());
    set("ts", ts.into());
    if let Some(subtype) = post.subtype {
        set("subtype", subtype.into());
    }
    if let Some(key) = &post.key {
        set("client_msg_id", key.as_str().into());
    }
    if let Some(thread) = post.thread {
        let parent = rows.get(PARENT_STEP).and_then(|rows| rows.first());
        set("thread_ts", thread.into());
        set("parent_user_id", parent.and_then(|row| row.text(1)).into());
        let count = parent.and_then(|row| row.int(0)).unwrap_or_default();
        let users = rows.get(PARENT_STEP + 1).map(Vec::as_slice);
        let users = repliers_of(users.unwrap_or_default()).remove(&thread);
        let mut fields = thread_fields(count, &users.unwrap_or_default(), Some(ts));
        fields.insert("ts".to_owned(), thread.into());
        set("parent", Value::Object(fields));
    }
    event
}
