//! `conversations.mark`: how far one has read. It only moves forward, whoever comes late.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Finish, Step, Value as Sql},
};
use fanfare_wire::Draft;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    Chat, USERS,
    change::json_of,
    conversation::Shape,
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    ts::Ts,
    unread::{self, FORGET_READ, Unread},
};

pub(crate) const METHODS: &[Method] = &[method!("conversations.mark", User, Four, mark)];

const MOVE: &str = "UPDATE chat_members SET last_read = $3 WHERE conversation = $1 AND user_id = $2 AND last_read < $3";

/// Which of the steps counts.
const COUNT_STEP: usize = 2;

async fn mark(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let ts = call.args.ts("ts", "invalid_timestamp")?;
    let conversation = chat.own_conversation(caller, &id).await?;
    // What has not been said yet is not read yet.
    let ts = ts.min(conversation.last_ts);
    let read = conversation.membership.map(|it| it.last_read);
    if read.is_some_and(|read| ts <= read) {
        return Ok(Answer::ok());
    }
    let transaction = moving(&id, &caller.user, ts, conversation.shape)?;
    match chat.engine.transact(transaction).await {
        // Refused: another call was faster and went further, or the user has left.
        Ok(_) | Err(TransactError::Refused { .. }) => Ok(Answer::ok()),
        Err(error) => Err(error.into()),
    }
}

/// Moves the mark, and tells the user's other devices what is left.
fn moving(id: &Id, user: &Id, ts: Ts, shape: Shape) -> Result<Transaction, Failure> {
    let both: Vec<Sql> = vec![id.into(), user.into()];
    let mut forward = both.clone();
    forward.push(ts.into());
    let steps = vec![
        Step::some(MOVE, forward),
        Step::new(FORGET_READ, both),
        unread::select(id, user),
    ];
    let draft = Draft::new(user.channel(USERS)?, Uuid::now_v7(), json_of(&json!({}))?);
    let mut event: Map<String, Value> = Map::new();
    event.insert("type".to_owned(), "channel_marked".into());
    event.insert("channel".to_owned(), id.into());
    event.insert("ts".to_owned(), ts.into());
    event.insert("event_ts".to_owned(), Ts::now().into());
    let finish = Finish::new(move |rows, drafts| {
        let counted = rows.get(COUNT_STEP).map(Vec::as_slice);
        let mut event = event.clone();
        Unread::of(counted.unwrap_or_default(), shape).extend(&mut event);
        for draft in drafts {
            draft.data = json_of(&event).map_err(|failure| failure.to_string())?;
        }
        Ok(())
    });
    Ok(Transaction {
        steps,
        drafts: vec![draft],
        finish: Some(finish),
    })
}
