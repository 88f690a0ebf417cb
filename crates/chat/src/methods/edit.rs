//! `chat.update`: messages are changed by whoever wrote them.

use std::sync::Arc;

use fanfare_engine::port::tables::{Step, Value as Sql};
use serde_json::{Map, Value};

use crate::{
    Chat,
    caller::Caller,
    change::Change,
    failure::Failure,
    hidden,
    id::Id,
    mention::Mentions,
    message::{Message, said, select_one, select_reactions, select_repliers},
    method::{Answer, Call, Method, method},
    methods::post::{IS_MEMBER, check_text, check_weight, structures},
};

pub(crate) const METHODS: &[Method] = &[method!("chat.update", User, Three, update)];

/// How often an edit is made again of what another one has left.
const OVERTAKEN_MAX: usize = 5;
/// Not one of Slack's: another edit was faster. No client sees it.
const OVERTAKEN: &str = "overtaken";
/// What is done to messages that are not there.
const NOT_FOUND: &str = "message_not_found";

const IS_AS_READ: &str = "SELECT 1 FROM chat_messages WHERE conversation = $1 AND ts = $2 AND COALESCE(edited_ts, 0) = $3 \
    AND deleted = 0 AND (subtype IS NULL OR subtype <> 'tombstone')";

const EDIT: &str = concat!(
    "UPDATE chat_messages SET text = $4, more = $5, edited_by = $3, \
     edited_ts = (SELECT last_ts FROM chat_conversations WHERE id = $1) \
     WHERE conversation = $1 AND ts = $2 AND user_id = $3 AND ",
    said!("subtype")
);

async fn update(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let ts = call.args.ts("ts", NOT_FOUND)?;
    let edit = Edit::read(&call)?;
    chat.own_conversation(caller, &id).await?;
    let mut tries = 0;
    let changed = loop {
        let before = chat.message(&id, ts).await?;
        if before.is_tombstone() {
            return Err(Failure::new(NOT_FOUND));
        }
        match chat.change(edit.change(caller, &id, before)?).await {
            Err(failure) if failure.is(OVERTAKEN) && tries < OVERTAKEN_MAX => tries += 1,
            Err(failure) if failure.is(OVERTAKEN) => return Err(Failure::away()),
            changed => break changed?,
        }
    };
    let event = changed.events.into_iter().next().unwrap_or_default();
    let message = event.get("message").cloned().unwrap_or_default();
    Ok(Answer::ok()
        .with("channel", &id)
        .with("ts", ts)
        .with("text", message.get("text").cloned().unwrap_or_default())
        .with("message", message))
}

/// What is to become of a message.
struct Edit {
    text: Option<String>,
    /// The fields that are given; empty lists take what was there away.
    given: Map<String, Value>,
    removed: Vec<&'static str>,
}

impl Edit {
    fn read(call: &Call) -> Result<Self, Failure> {
        let args = &call.args;
        let text = args.text("text").or_else(|| args.text("markdown_text"));
        let given = structures(call)?;
        let mut removed = Vec::new();
        for name in ["blocks", "attachments"] {
            let value = args.json(name)?;
            let is_empty = value.as_ref().and_then(Value::as_array).map(Vec::is_empty);
            // Blocks are shown in place of a text, which alone would not be seen.
            if is_empty == Some(true) || (name == "blocks" && text.is_some() && value.is_none()) {
                removed.push(name);
            }
        }
        check_text(text.as_deref().unwrap_or_default())?;
        match text.is_none() && !given.contains_key("blocks") && !given.contains_key("attachments")
        {
            true => Err(Failure::new("no_text")),
            false => Ok(Self {
                text,
                given,
                removed,
            }),
        }
    }

    /// The change that makes it of a message as it was read.
    fn change(&self, caller: &Caller, id: &Id, before: Message) -> Result<Change, Failure> {
        let mut more = before.more.clone();
        for name in &self.removed {
            more.remove(*name);
        }
        more.extend(self.given.clone());
        let text = self.text.clone().unwrap_or_else(|| before.text.clone());
        let has_structure = more.contains_key("blocks") || more.contains_key("attachments");
        if text.trim().is_empty() && !has_structure {
            return Err(Failure::new("no_text"));
        }
        check_weight(&more)?;
        let ts = before.ts;
        let more = (!more.is_empty()).then(|| Value::Object(more).to_string());
        let read = before.edited.as_ref().map_or(0, |(_, edited)| edited.0);
        let (channel, user) = (Sql::from(id), Sql::from(&caller.user));
        let as_read = vec![channel.clone(), ts.into(), read.into()];
        let edited = vec![
            channel.clone(),
            ts.into(),
            user.clone(),
            text.as_str().into(),
            more.into(),
        ];
        let mut change = Change::of(id)
            .step(Step::some(IS_MEMBER, vec![channel, user]), "not_in_channel")
            .step(Step::some(IS_AS_READ, as_read), OVERTAKEN)
            .step(Step::some(EDIT, edited), "cant_update_message")
            .step(select_one(id, ts), NOT_FOUND)
            .step(select_reactions(id, &[ts]), NOT_FOUND)
            .step(select_repliers(id, (ts, ts)), NOT_FOUND)
            .step(Mentions::forget(id, ts), NOT_FOUND);
        for step in Mentions::of(&text).steps(id, Some(ts)) {
            change = change.step(step, NOT_FOUND);
        }
        let team = caller.team.clone();
        Ok(change.event(move |rows, event_ts| {
            let mut after = hidden::message_at(rows, EDITED_STEP)?;
            let mut before = before.clone();
            hidden::complete(&mut after, rows, EDITED_STEP);
            hidden::complete(&mut before, rows, EDITED_STEP);
            Ok(hidden::changed(&after, &before, &team, event_ts))
        }))
    }
}

/// Where the edited message stands among what the steps returned.
const EDITED_STEP: usize = 3;
