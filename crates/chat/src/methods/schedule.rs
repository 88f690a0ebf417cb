//! `chat.scheduleMessage`, `chat.scheduledMessages.list`, `chat.deleteScheduledMessage`.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Row, Step, Value as Sql},
};
use serde_json::{Value, json};

use crate::{
    Chat, cursor,
    failure::Failure,
    id::{Id, Kind},
    method::{Answer, Call, Method, method},
    methods::post::Post,
    unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("chat.scheduleMessage", User, Own, schedule),
    method!("chat.scheduledMessages.list", User, Three, list),
    method!("chat.deleteScheduledMessage", User, Three, delete),
];

/// How far ahead, in seconds: 120 days.
const AHEAD_MAX: i64 = 120 * 24 * 3_600;
/// Messages of one user that wait in one conversation at most.
const WAITING_MAX: i64 = 300;
const LIST_DEFAULT: i64 = 100;
/// Messages that a page of the list has at most: so many of the largest fit into what a statement may return.
const LIST_MAX: i64 = 25;
const CURSOR: &str = "scheduled";

/// Locks the row of the member, so that the count below holds.
const LOCK_MEMBER: &str =
    "UPDATE chat_members SET is_open = is_open WHERE conversation = $1 AND user_id = $2";

const SELECT_TOO_MANY: &str = "SELECT COUNT(*) FROM chat_scheduled WHERE conversation = $1 AND user_id = $2 HAVING COUNT(*) >= $3";

const INSERT: &str = "INSERT INTO chat_scheduled (id, conversation, user_id, post_at, due, text, more, thread_ts, broadcast, created) \
    VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8, $9)";

const DELETE: &str =
    "DELETE FROM chat_scheduled WHERE id = $1 AND conversation = $2 AND user_id = $3";

/// Those of a user, in one conversation or (`$2` empty) in all.
const SELECT: &str = "SELECT id, conversation, post_at, created, text FROM chat_scheduled WHERE user_id = $1 \
    AND (CAST($2 AS TEXT) = '' OR conversation = $2) AND post_at >= $3 AND post_at <= $4 AND (post_at > $5 OR (post_at = $5 AND id > $6)) \
    ORDER BY post_at, id LIMIT $7";

async fn schedule(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let post_at: i64 = {
        let text = call.args.need("post_at")?;
        text.parse().map_err(|_| Failure::new("invalid_time"))?
    };
    let now = unix_seconds();
    if post_at <= now {
        return Err(Failure::new("time_in_past"));
    }
    if post_at > now.saturating_add(AHEAD_MAX) {
        return Err(Failure::new("time_too_far"));
    }
    let conversation = chat.own_conversation(caller, &id).await?;
    let post = Post::read(caller, &call, None)?;
    chat.limit_posts(caller, &id).await?;
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let scheduled = Id::random(Kind::Scheduled)?;
    let member = || -> Vec<Sql> { vec![(&id).into(), (&caller.user).into()] };
    let mut counted = member();
    counted.push(WAITING_MAX.into());
    let transaction = Transaction {
        steps: vec![
            Step::some(LOCK_MEMBER, member()),
            Step::none(SELECT_TOO_MANY, counted),
            Step::some(INSERT, row_of(&scheduled, &id, &post, (post_at, now))?),
        ],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        Ok(_) => {}
        Err(TransactError::Refused { step: 0 }) => return Err(Failure::new("not_in_channel")),
        Err(TransactError::Refused { .. }) => return Err(Failure::new("restricted_too_many")),
        Err(error) => return Err(error.into()),
    }
    let mut message = post.more;
    message.insert("type".to_owned(), "delayed_message".into());
    message.insert("text".to_owned(), post.text.into());
    message.insert("user".to_owned(), (&post.user).into());
    message.insert("team".to_owned(), (&caller.team).into());
    Ok(Answer::ok()
        .with("channel", &id)
        .with("scheduled_message_id", &scheduled)
        .with("post_at", post_at)
        .with("message", message))
}

fn row_of(
    scheduled: &Id,
    conversation: &Id,
    post: &Post,
    (post_at, now): (i64, i64),
) -> Result<Vec<Sql>, Failure> {
    let more = match post.more.is_empty() {
        true => None,
        false => Some(serde_json::to_string(&post.more).map_err(Failure::internal)?),
    };
    Ok(vec![
        scheduled.into(),
        conversation.into(),
        (&post.user).into(),
        post_at.into(),
        post.text.as_str().into(),
        more.into(),
        post.thread.map(|thread| thread.0).into(),
        post.broadcast.into(),
        now.into(),
    ])
}

async fn list(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let channel = match call.args.text("channel") {
        Some(_) => {
            let id = call.args.conversation()?;
            chat.conversation(caller, &id).await?;
            id.to_string()
        }
        None => String::new(),
    };
    let oldest = call.args.int("oldest")?.unwrap_or(0);
    let latest = call.args.int("latest")?.unwrap_or(i64::MAX);
    let limit = cursor::limit(&call, (LIST_DEFAULT, LIST_MAX))?;
    let after = cursor::read(&call, CURSOR)?.unwrap_or_else(|| "0/".to_owned());
    let after = after.split_once('/');
    let after = after.and_then(|(post_at, id)| Some((post_at.parse::<i64>().ok()?, id)));
    let (post_at, id) = after.ok_or_else(|| Failure::new("invalid_cursor"))?;
    let params = vec![
        (&caller.user).into(),
        channel.into(),
        oldest.into(),
        latest.into(),
        post_at.into(),
        id.into(),
        (limit + 1).into(),
    ];
    let mut rows = chat.engine.query(SELECT, params).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| has_more);
    let next = last.and_then(|row| Some(format!("{}/{}", row.int(2)?, row.text(0)?)));
    let next = next.map_or_else(String::new, |next| cursor::write(CURSOR, &next));
    let views: Vec<Value> = rows.iter().map(view).collect();
    Ok(Answer::ok()
        .with("scheduled_messages", views)
        .with("response_metadata", json!({ "next_cursor": next })))
}

fn view(row: &Row) -> Value {
    json!({
        "id": row.text(0),
        "channel_id": row.text(1),
        "post_at": row.int(2),
        "date_created": row.int(3),
        "text": row.text(4),
    })
}

async fn delete(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let unknown = || Failure::new("invalid_scheduled_message_id");
    let scheduled = call.args.need("scheduled_message_id")?;
    let scheduled = Id::parse(Kind::Scheduled, &scheduled).ok_or_else(unknown)?;
    chat.conversation(caller, &id).await?;
    let params = vec![(&scheduled).into(), (&id).into(), (&caller.user).into()];
    let transaction = Transaction {
        steps: vec![Step::some(DELETE, params)],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        Ok(_) => Ok(Answer::ok()),
        Err(TransactError::Refused { .. }) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}
