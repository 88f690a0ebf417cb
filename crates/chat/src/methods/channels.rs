//! `conversations.archive`, `unarchive`, `rename`, `setTopic`, `setPurpose`: what a channel is.

use std::sync::Arc;

use fanfare_engine::port::tables::{Step, Value as Sql};
use serde_json::json;

use super::post::IS_MEMBER;
use crate::{
    Chat,
    caller::Caller,
    change::Change,
    channel_name,
    conversation::{Conversation, Shape},
    failure::{EXISTS, Failure},
    method::{Answer, Call, Method, method},
    notice,
    system::SystemMessage,
    ts::Ts,
    unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.archive", User, Two, archive),
    method!("conversations.unarchive", User, Two, unarchive),
    method!("conversations.rename", User, Two, rename),
    method!("conversations.setTopic", User, Two, set_topic),
    method!("conversations.setPurpose", User, Two, set_purpose),
];

/// Longest topic or purpose, in characters.
const NOTE_CHARS_MAX: usize = 250;

const ARCHIVE: &str =
    "UPDATE chat_conversations SET archived = 1 WHERE id = $1 AND archived = 0 AND is_general = 0";
const UNARCHIVE: &str = "UPDATE chat_conversations SET archived = 0 WHERE id = $1 AND archived = 1";
const RENAME: &str = "UPDATE chat_conversations SET name = $2 WHERE id = $1";
const SET_TOPIC: &str =
    "UPDATE chat_conversations SET topic = $2, topic_by = $3, topic_at = $4 WHERE id = $1";
const SET_PURPOSE: &str =
    "UPDATE chat_conversations SET purpose = $2, purpose_by = $3, purpose_at = $4 WHERE id = $1";

async fn archive(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let conversation = own_channel(&chat, &call).await?;
    if conversation.is_general {
        return Err(Failure::new("cant_archive_general"));
    }
    let message = SystemMessage::new(&caller.user, "channel_archive", "archived the channel");
    let archive = Step::some(ARCHIVE, vec![(&conversation.id).into()]);
    let change = by_member(&conversation, caller).step(archive, "already_archived");
    let change = told(change, &conversation, caller, "channel_archive")?;
    match chat.change(change.says(&conversation.id, message)?).await {
        Ok(_) => Ok(Answer::ok()),
        Err(failure) if failure.is("is_archived") => Err(Failure::new("already_archived")),
        Err(failure) => Err(failure),
    }
}

async fn unarchive(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let conversation = own_channel(&chat, &call).await?;
    let message = SystemMessage::new(&caller.user, "channel_unarchive", "un-archived the channel");
    let unarchive = Step::some(UNARCHIVE, vec![(&conversation.id).into()]);
    let change = by_member(&conversation, caller)
        .step(unarchive, "not_archived")
        .in_archive();
    let change = told(change, &conversation, caller, "channel_unarchive")?;
    let change = change.says(&conversation.id, message)?;
    chat.change(change).await?;
    Ok(Answer::ok())
}

async fn rename(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let conversation = own_channel(&chat, &call).await?;
    let name = channel_name::check(call.args.text("name"))?;
    if !(caller.is_admin || conversation.creator == caller.user) {
        return Err(Failure::new("not_authorized"));
    }
    let id = &conversation.id;
    let old = conversation.name.as_deref().unwrap_or_default();
    let text = format!("has renamed the channel from \"{old}\" to \"{name}\"");
    let message = SystemMessage::new(&caller.user, "channel_name", &text)
        .with("old_name", old)
        .with("name", name.as_str());
    let update = vec![id.into(), name.as_str().into()];
    let mut change =
        by_member(&conversation, caller).step(Step::some(RENAME, update), "channel_not_found");
    if conversation.is_public() {
        let channel = json!({ "id": id.as_str(), "name": name, "created": conversation.created });
        let event = json!({ "type": "channel_rename", "channel": channel, "event_ts": Ts::now().to_string() });
        change = change.also(notice::to_team(&conversation.team, &event)?);
    }
    match chat.change(change.says(id, message)?).await {
        Ok(_) => shown(&chat, caller, &conversation).await,
        Err(failure) if failure.is(EXISTS) => Err(Failure::new("name_taken")),
        Err(failure) => Err(failure),
    }
}

async fn set_topic(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let note = note(&call, "topic")?;
    let answer = set(&chat, &call, (SET_TOPIC, "channel_topic", "topic"), &note).await?;
    Ok(answer.with("topic", note))
}

async fn set_purpose(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let note = note(&call, "purpose")?;
    let how = (SET_PURPOSE, "channel_purpose", "purpose");
    let answer = set(&chat, &call, how, &note).await?;
    Ok(answer.with("purpose", note))
}

/// What it is to be; nothing at all is a topic, too.
fn note(call: &Call, name: &str) -> Result<String, Failure> {
    let note = call.args.text(name).unwrap_or_default();
    match note.chars().count() > NOTE_CHARS_MAX {
        true => Err(Failure::new("too_long")),
        false => Ok(note),
    }
}

async fn set(
    chat: &Chat,
    call: &Call,
    (sql, subtype, what): (&'static str, &'static str, &str),
    note: &str,
) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(caller, &id).await?;
    if conversation.shape == Shape::Direct {
        return Err(Failure::new("method_not_supported_for_channel_type"));
    }
    let text = match note.is_empty() {
        true => format!("cleared the channel {what}"),
        false => format!("set the channel {what}: {note}"),
    };
    let message = SystemMessage::new(&caller.user, subtype, &text).with(what, note);
    let params: Vec<Sql> = vec![
        (&id).into(),
        note.into(),
        (&caller.user).into(),
        unix_seconds().into(),
    ];
    let change =
        by_member(&conversation, caller).step(Step::some(sql, params), "channel_not_found");
    chat.change(change.says(&id, message)?).await?;
    shown(chat, caller, &conversation).await
}

/// The channel of a call, which the caller must be in.
async fn own_channel(chat: &Chat, call: &Call) -> Result<Conversation, Failure> {
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(call.caller()?, &id).await?;
    conversation.need_channel()?;
    Ok(conversation)
}

/// A change that the caller may make only as long as it is a member.
fn by_member(conversation: &Conversation, caller: &Caller) -> Change {
    let both: Vec<Sql> = vec![(&conversation.id).into(), (&caller.user).into()];
    Change::of(&conversation.id).step(Step::some(IS_MEMBER, both), "not_in_channel")
}

/// Tells the workspace, if it may know of the channel.
fn told(
    change: Change,
    conversation: &Conversation,
    caller: &Caller,
    kind: &str,
) -> Result<Change, Failure> {
    if !conversation.is_public() {
        return Ok(change);
    }
    let event = json!({
        "type": kind, "channel": conversation.id.as_str(), "user": caller.user.as_str(), "event_ts": Ts::now().to_string(),
    });
    Ok(change.also(notice::to_team(&conversation.team, &event)?))
}

async fn shown(
    chat: &Chat,
    caller: &Caller,
    conversation: &Conversation,
) -> Result<Answer, Failure> {
    let now = chat.conversation(caller, &conversation.id).await?;
    Ok(Answer::ok().with("channel", now.view(&caller.user)))
}
