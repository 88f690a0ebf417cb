//! `chat.delete`: messages are taken back by whoever wrote them, or by an admin. One that has replies leaves a tombstone, for their sake.

use std::sync::Arc;

use fanfare_engine::port::tables::{Row, Step, Value as Sql};
use serde_json::Value;

use crate::{
    Chat,
    caller::Caller,
    change::{Change, Event},
    failure::Failure,
    hidden,
    id::Id,
    mention::Mentions,
    message::{
        Message, Reactions, TOMBSTONE, message_columns, repliers_of, select_reactions,
        select_repliers, thread_fields,
    },
    method::{Answer, Call, Method, method},
    methods::post::IS_MEMBER,
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[method!("chat.delete", User, Three, delete)];

const NOT_FOUND: &str = "message_not_found";
const TOMBSTONE_TEXT: &str = "This message was deleted.";

const SELECT_WHOLE: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM chat_messages m WHERE m.conversation = $1 AND m.ts = $2 AND m.deleted = 0 \
     AND (m.subtype IS NULL OR m.subtype <> 'tombstone')"
);

/// Of what leaves no tombstone only the row stays, for its key. `$4` is whether others' may be deleted.
const DELETE: &str = "UPDATE chat_messages SET deleted = CASE WHEN reply_count > 0 THEN 0 ELSE 1 END, \
    subtype = CASE WHEN reply_count > 0 THEN 'tombstone' ELSE subtype END, \
    text = CASE WHEN reply_count > 0 THEN CAST($5 AS TEXT) ELSE '' END, \
    more = NULL, edited_by = NULL, edited_ts = NULL, reactions = 0 \
    WHERE conversation = $1 AND ts = $2 AND (user_id = $3 OR CAST($4 AS BIGINT) = 1) RETURNING deleted";

const DELETE_REACTIONS: &str = "DELETE FROM chat_reactions WHERE conversation = $1 AND ts = $2";

const NOTE_GONE: &str = "UPDATE chat_conversations SET last_message = COALESCE((SELECT MAX(ts) FROM chat_messages \
    WHERE conversation = $1 AND shown = 1 AND deleted = 0), 0) WHERE id = $1 AND last_message = $2";

/// The parent of a reply that is gone counts again.
const UNCOUNT_REPLY: &str = "UPDATE chat_messages SET reply_count = reply_count - 1, latest_reply = (SELECT MAX(r.ts) \
    FROM chat_messages r WHERE r.conversation = $1 AND r.thread_ts = $2 AND r.deleted = 0) \
    WHERE conversation = $1 AND ts = $2 RETURNING reply_count, latest_reply";

/// Where the message stands among what the steps returned, before it is deleted.
const BEFORE_STEP: usize = 1;
/// Whether it is gone, or a tombstone.
const DELETED_STEP: usize = 4;
/// What its parent says afterwards, if it is a reply, and who has replied there.
const PARENT_STEP: usize = 8;

async fn delete(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let ts = call.args.ts("ts", NOT_FOUND)?;
    chat.own_conversation(caller, &id).await?;
    // Only what never changes of it is used here: to which message it is a reply.
    let parent = chat.message(&id, ts).await?.thread;
    chat.change(change(caller, &id, ts, parent)).await?;
    Ok(Answer::ok().with("channel", &id).with("ts", ts))
}

fn change(caller: &Caller, id: &Id, ts: Ts, parent: Option<Ts>) -> Change {
    let (channel, user) = (Sql::from(id), Sql::from(&caller.user));
    let it = || vec![channel.clone(), ts.into()];
    let member = vec![channel.clone(), user.clone()];
    let may = Sql::from(caller.is_admin);
    let deleted = vec![channel.clone(), ts.into(), user, may, TOMBSTONE_TEXT.into()];
    let mut change = Change::of(id)
        .step(Step::some(IS_MEMBER, member), "not_in_channel")
        .step(Step::some(SELECT_WHOLE, it()), NOT_FOUND)
        .step(select_reactions(id, &[ts]), NOT_FOUND)
        .step(select_repliers(id, (ts, ts)), NOT_FOUND)
        .step(Step::some(DELETE, deleted), "cant_delete_message")
        .step(Step::new(DELETE_REACTIONS, it()), NOT_FOUND)
        .step(Mentions::forget(id, ts), NOT_FOUND)
        .step(Step::new(NOTE_GONE, it()), NOT_FOUND);
    if let Some(parent) = parent {
        let count = vec![channel.clone(), parent.into()];
        change = change
            .step(Step::new(UNCOUNT_REPLY, count), NOT_FOUND)
            .step(select_repliers(id, (parent, parent)), NOT_FOUND);
    }
    let team = caller.team.clone();
    change.event(move |rows, event_ts| event(rows, &team, parent, event_ts))
}

fn event(rows: &[Vec<Row>], team: &Id, parent: Option<Ts>, ts: Ts) -> Result<Event, Failure> {
    let mut before = hidden::message_at(rows, BEFORE_STEP)?;
    hidden::complete(&mut before, rows, BEFORE_STEP);
    let first = |step: usize| rows.get(step).and_then(|rows| rows.first());
    if first(DELETED_STEP).and_then(|row| row.int(0)) == Some(0) {
        return Ok(hidden::changed(&tombstone(&before), &before, team, ts));
    }
    let mut event = hidden::deleted(&before, team, ts);
    if let (Some(parent), Some(row)) = (parent, first(PARENT_STEP)) {
        let repliers = rows.get(PARENT_STEP + 1).map(Vec::as_slice);
        let repliers = repliers_of(repliers.unwrap_or_default()).remove(&parent);
        let count = row.int(0).unwrap_or_default();
        let latest = row.int(1).map(Ts);
        let mut fields = thread_fields(count, &repliers.unwrap_or_default(), latest);
        fields.insert("ts".to_owned(), parent.into());
        event.insert("parent".to_owned(), Value::Object(fields));
    }
    Ok(event)
}

/// What remains of a message that has replies, as its row says it now.
fn tombstone(before: &Message) -> Message {
    Message {
        subtype: Some(TOMBSTONE.to_owned()),
        text: TOMBSTONE_TEXT.to_owned(),
        more: serde_json::Map::new(),
        edited: None,
        reacted: 0,
        reactions: Reactions::new(),
        ..before.clone()
    }
}
