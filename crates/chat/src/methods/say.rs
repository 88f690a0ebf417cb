//! `chat.meMessage`, `chat.postEphemeral`, `chat.getPermalink`.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Step, Value as Sql},
};
use fanfare_wire::Draft;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Chat, USERS,
    change::json_of,
    conversation::Shape,
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    methods::post::{IS_MEMBER, Post},
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[
    method!("chat.meMessage", User, Own, me_message),
    method!("chat.postEphemeral", User, Own, post_ephemeral),
    method!("chat.getPermalink", User, Four, get_permalink),
];

async fn me_message(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(caller, &id).await?;
    let post = Post::read(caller, &call, Some("me_message"))?;
    chat.limit_posts(caller, &id).await?;
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let posted = chat.post(&id, post).await?;
    Ok(Answer::ok().with("channel", &id).with("ts", posted.ts))
}

/// A message that one member sees while there, and that is kept nowhere but in the log.
async fn post_ephemeral(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(caller, &id).await?;
    let user = call
        .args
        .user()
        .map_err(|failure| match failure.code.as_ref() {
            "user_not_found" => Failure::new("user_not_in_channel"),
            _ => failure,
        })?;
    let post = Post::read(caller, &call, Some("ephemeral"))?;
    chat.limit_posts(caller, &id).await?;
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let ts = Ts::now();
    let event = ephemeral(&id, conversation.shape, &caller.team, &post, ts);
    let draft = Draft::new(user.channel(USERS)?, Uuid::now_v7(), json_of(&event)?);
    let member = |user: &Id| -> Vec<Sql> { vec![(&id).into(), user.into()] };
    let transaction = Transaction {
        steps: vec![
            Step::some(IS_MEMBER, member(&caller.user)),
            Step::some(IS_MEMBER, member(&user)),
        ],
        drafts: vec![draft],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        Ok(_) => Ok(Answer::ok().with("message_ts", ts)),
        Err(TransactError::Refused { step: 0 }) => Err(Failure::new("not_in_channel")),
        Err(TransactError::Refused { .. }) => Err(Failure::new("user_not_in_channel")),
        Err(error) => Err(error.into()),
    }
}

fn ephemeral(id: &Id, shape: Shape, team: &Id, post: &Post, ts: Ts) -> Value {
    let mut event = post.more.clone();
    let fields: [(&str, Value); 11] = [
        ("type", "message".into()),
        ("subtype", "ephemeral".into()),
        ("is_ephemeral", true.into()),
        ("hidden", true.into()),
        ("channel", id.into()),
        ("channel_type", shape.channel_type().into()),
        ("team", team.into()),
        ("user", (&post.user).into()),
        ("text", post.text.as_str().into()),
        ("ts", ts.into()),
        ("event_ts", ts.into()),
    ];
    event.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    if let Some(thread) = post.thread {
        event.insert("thread_ts".to_owned(), thread.into());
    }
    Value::Object(event)
}

async fn get_permalink(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let id = call.args.conversation()?;
    let ts = call.args.ts("message_ts", "message_not_found")?;
    chat.conversation(call.caller()?, &id).await?;
    let message = chat.message(&id, ts).await?;
    let permalink = chat.permalink(&id, message.ts, message.thread);
    Ok(Answer::ok()
        .with("channel", &id)
        .with("permalink", permalink))
}

impl Chat {
    /// Where the page shows a message: in its thread, if it is a reply.
    pub(crate) fn permalink(&self, conversation: &Id, ts: Ts, thread: Option<Ts>) -> String {
        let page = self.page_url();
        let thread = thread.map_or_else(String::new, |thread| format!("?thread_ts={thread}"));
        format!("{page}#/{conversation}/p{:016}{thread}", ts.0)
    }
}
