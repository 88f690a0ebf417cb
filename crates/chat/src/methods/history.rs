//! `conversations.history`, `conversations.replies`: what was said, page by page.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_engine::port::tables::Value as Sql;
use serde_json::{Value, json};

use crate::{
    Chat,
    failure::Failure,
    id::Id,
    message::{Message, message_columns},
    method::{Answer, Call, Method, method},
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.history", User, Three, history),
    method!("conversations.replies", User, Three, replies),
];

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 999;

const SELECT_SHOWN: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM chat_messages m WHERE m.conversation = $1 AND m.shown = 1 AND m.deleted = 0 AND m.ts > $2 AND m.ts < $3 \
     ORDER BY m.ts DESC LIMIT $4"
);

const SELECT_PARENT: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM chat_messages m WHERE m.conversation = $1 AND m.ts = $2 AND m.deleted = 0"
);

const SELECT_REPLIES: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM chat_messages m WHERE m.conversation = $1 AND m.thread_ts = $2 AND m.deleted = 0 AND m.ts > $3 AND m.ts < $4 \
     ORDER BY m.ts LIMIT $5"
);

/// A part of a conversation's time, both ends excluded.
struct Range {
    after: Ts,
    before: Ts,
    limit: i64,
}

async fn history(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    let mut range = Range::read(&call)?;
    if let Some(cursor) = cursor(&call)? {
        range.before = range.before.min(cursor);
    }
    let position = chat.position(&id).await?;
    let params: Vec<Sql> = vec![
        (&id).into(),
        range.after.into(),
        range.before.into(),
        (range.limit + 1).into(),
    ];
    let rows = chat.engine.query(SELECT_SHOWN, params).await?;
    let mut messages = rows
        .iter()
        .map(Message::read)
        .collect::<Result<Vec<_>, _>>()?;
    let has_more = cut(&mut messages, range.limit);
    chat.complete(&id, &mut messages).await?;
    let next = messages.last().filter(|_| has_more).map(|last| last.ts);
    Ok(page(&conversation.team, &messages, next)
        .with("pin_count", 0)
        .with("position", position))
}

async fn replies(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    let thread = call.args.ts("ts", "thread_not_found")?;
    let mut range = Range::read(&call)?;
    let cursor = cursor(&call)?;
    if let Some(cursor) = cursor {
        range.after = range.after.max(cursor);
    }
    let position = chat.position(&id).await?;
    let parent = chat
        .engine
        .query(SELECT_PARENT, vec![(&id).into(), thread.into()])
        .await?;
    let parent = parent.first().map(Message::read).transpose()?;
    let parent = parent.ok_or_else(|| Failure::new("thread_not_found"))?;
    // Asked for a reply, Slack answers with that alone.
    let thread = parent.thread.map_or(thread, |_| Ts::MAX);
    let params: Vec<Sql> = vec![
        (&id).into(),
        thread.into(),
        range.after.into(),
        range.before.into(),
        (range.limit + 1).into(),
    ];
    let rows = chat.engine.query(SELECT_REPLIES, params).await?;
    let mut messages = rows
        .iter()
        .map(Message::read)
        .collect::<Result<Vec<_>, _>>()?;
    let has_more = cut(&mut messages, range.limit);
    let next = messages.last().filter(|_| has_more).map(|last| last.ts);
    // The parent comes first, on the first page.
    if cursor.is_none() {
        messages.insert(0, parent);
    }
    chat.complete(&id, &mut messages).await?;
    Ok(page(&conversation.team, &messages, next).with("position", position))
}

impl Range {
    fn read(call: &Call) -> Result<Self, Failure> {
        let bound = |name: &str, otherwise, wrong| {
            let text = call.args.text(name);
            let ts = text.map(|text| Ts::parse_bound(&text).ok_or_else(|| Failure::new(wrong)));
            ts.unwrap_or(Ok(otherwise))
        };
        let mut range = Self {
            after: bound("oldest", Ts::ZERO, "invalid_ts_oldest")?,
            before: bound("latest", Ts::MAX, "invalid_ts_latest")?,
            limit: call.args.int("limit")?.unwrap_or(LIMIT_DEFAULT),
        };
        if !(1..=LIMIT_MAX).contains(&range.limit) {
            return Err(Failure::new("invalid_limit"));
        }
        if call.args.flag("inclusive") {
            range.after = Ts(range.after.0.saturating_sub(1));
            range.before = Ts(range.before.0.saturating_add(1));
        }
        Ok(range)
    }
}

/// Takes the one away that only shows that there are more.
fn cut(messages: &mut Vec<Message>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = messages.len() > limit;
    messages.truncate(limit);
    has_more
}

fn page(team: &Id, messages: &[Message], next: Option<Ts>) -> Answer {
    let views = messages
        .iter()
        .map(|message| Value::Object(message.view(team)));
    let next_cursor = next.map_or_else(String::new, |next| {
        STANDARD.encode(format!("next_ts:{}", next.0))
    });
    Answer::ok()
        .with("messages", views.collect::<Vec<_>>())
        .with("has_more", next.is_some())
        .with("response_metadata", json!({ "next_cursor": next_cursor }))
}

/// Where the page before ended.
fn cursor(call: &Call) -> Result<Option<Ts>, Failure> {
    let Some(text) = call.args.text("cursor") else {
        return Ok(None);
    };
    let wrong = || Failure::new("invalid_cursor");
    let text = STANDARD.decode(text).map_err(|_| wrong())?;
    let text = String::from_utf8(text).map_err(|_| wrong())?;
    let ts = text.strip_prefix("next_ts:").ok_or_else(wrong)?;
    ts.parse().map(|ts| Some(Ts(ts))).map_err(|_| wrong())
}
