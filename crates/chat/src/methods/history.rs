//! `conversations.history`, `conversations.replies`: what was said, page by page.

use std::sync::Arc;

use fanfare_engine::port::tables::Value as Sql;
use serde_json::{Map, Value, json};

use crate::{
    Chat, cursor,
    failure::Failure,
    id::Id,
    message::{MESSAGE_COLUMNS, Message, message_columns},
    method::{Answer, Call, Method, method},
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.history", User, Three, history),
    method!("conversations.replies", User, Three, replies),
];

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 999;
const CURSOR: &str = "next_ts";

/// So many messages of those that `$1` to `$4` describe, in an order; fewer if they are long: a page has its last message where a million characters
/// are reached, and one at least. Behind the columns stands how many there would be.
macro_rules! page_of {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            ", m.total FROM (SELECT x.*, COUNT(*) OVER () AS total, ROW_NUMBER() OVER (ORDER BY x.ts ",
            $order,
            ") AS place, SUM(LENGTH(x.text) + COALESCE(LENGTH(x.more), 0)) OVER (ORDER BY x.ts ",
            $order,
            ") AS weight FROM (SELECT * FROM chat_messages WHERE conversation = $1 AND ts > $2 AND ts < $3 AND deleted = 0 AND ",
            $which,
            " ORDER BY ts ",
            $order,
            " LIMIT $4) x) m WHERE m.weight <= 1000000 OR m.place = 1 ORDER BY m.ts ",
            $order
        )
    };
}
const SELECT_NEWEST: &str = page_of!("shown = 1", "DESC");
const SELECT_OLDEST: &str = page_of!("shown = 1", "ASC");
const SELECT_REPLIES: &str = page_of!("thread_ts = $5", "ASC");

/// A part of a conversation's time, both ends excluded.
struct Range {
    after: Ts,
    before: Ts,
    limit: i64,
}

/// Some messages, and whether there are more beyond them.
struct Page {
    messages: Vec<Message>,
    has_more: bool,
}

async fn history(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    // Ours: what comes next after `oldest`, where Slack always begins with the newest.
    let is_forward = call.args.flag("forward");
    let mut range = Range::read(&call)?;
    match (cursor_of(&call)?, is_forward) {
        (Some(cursor), true) => range.after = range.after.max(cursor),
        (Some(cursor), false) => range.before = range.before.min(cursor),
        (None, _) => {}
    }
    let position = chat.position(&id).await?;
    let sql = if is_forward {
        SELECT_OLDEST
    } else {
        SELECT_NEWEST
    };
    let mut page = chat.page(sql, &id, &range, None).await?;
    chat.complete(&id, &mut page.messages).await?;
    let next = page.next();
    if is_forward {
        page.messages.reverse();
    }
    Ok(answer(&call, &conversation.team, &page, next)
        .with("pin_count", 0)
        .with("position", position))
}

async fn replies(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    let thread = call.args.ts("ts", "thread_not_found")?;
    let mut range = Range::read(&call)?;
    let cursor = cursor_of(&call)?;
    if let Some(cursor) = cursor {
        range.after = range.after.max(cursor);
    }
    let position = chat.position(&id).await?;
    let parent = match chat.message(&id, thread).await {
        Err(failure) if failure.is("message_not_found") => {
            return Err(Failure::new("thread_not_found"));
        }
        parent => parent?,
    };
    // Asked for a reply, Slack answers with that alone.
    let thread = parent.thread.map_or(thread, |_| Ts::MAX);
    let mut page = chat.page(SELECT_REPLIES, &id, &range, Some(thread)).await?;
    let next = page.next();
    // The parent comes first, on the first page.
    if cursor.is_none() {
        page.messages.insert(0, parent);
    }
    chat.complete(&id, &mut page.messages).await?;
    Ok(answer(&call, &conversation.team, &page, next).with("position", position))
}

impl Chat {
    async fn page(
        &self,
        sql: &'static str,
        id: &Id,
        range: &Range,
        thread: Option<Ts>,
    ) -> Result<Page, Failure> {
        let mut params: Vec<Sql> = vec![
            id.into(),
            range.after.into(),
            range.before.into(),
            (range.limit + 1).into(),
        ];
        params.extend(thread.map(Sql::from));
        let rows = self.engine.query(sql, params).await?;
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        let messages = rows.iter().take(limit).map(Message::read);
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let total = rows.first().and_then(|row| row.int(MESSAGE_COLUMNS));
        let total = usize::try_from(total.unwrap_or_default()).unwrap_or_default();
        Ok(Page {
            has_more: total > messages.len(),
            messages,
        })
    }
}

impl Page {
    /// Where the next one begins.
    fn next(&self) -> Option<Ts> {
        let last = self.messages.last().filter(|_| self.has_more);
        last.map(|last| last.ts)
    }
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
            limit: cursor::limit(call, (LIMIT_DEFAULT, LIMIT_MAX))?,
        };
        if call.args.flag("inclusive") {
            range.after = Ts(range.after.0.saturating_sub(1));
            range.before = Ts(range.before.0.saturating_add(1));
        }
        Ok(range)
    }
}

fn answer(call: &Call, team: &Id, page: &Page, next: Option<Ts>) -> Answer {
    let has_metadata = call.args.flag("include_all_metadata");
    let views = page.messages.iter().map(|message| {
        let mut view = message.view(team);
        if !has_metadata {
            shorten(&mut view);
        }
        Value::Object(view)
    });
    let next_cursor = next.map_or_else(String::new, |next| {
        cursor::write(CURSOR, &next.0.to_string())
    });
    Answer::ok()
        .with("messages", views.collect::<Vec<_>>())
        .with("has_more", next.is_some())
        .with("response_metadata", json!({ "next_cursor": next_cursor }))
}

/// Leaves of metadata what it is of, as Slack does for who does not ask for all of it.
fn shorten(message: &mut Map<String, Value>) {
    if let Some(Value::Object(metadata)) = message.get_mut("metadata") {
        metadata.retain(|name, _| name == "event_type");
    }
}

/// Where the page before has ended.
fn cursor_of(call: &Call) -> Result<Option<Ts>, Failure> {
    let place = cursor::read(call, CURSOR)?;
    let ts = place.map(|place| place.parse().map(Ts));
    ts.transpose().map_err(|_| Failure::new("invalid_cursor"))
}
