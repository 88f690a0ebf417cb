//! `conversations.join`, `leave`, `invite`, `kick`: who is in a channel.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use crate::{
    Chat,
    conversation::Conversation,
    failure::Failure,
    id::{Id, Kind},
    membership::Going,
    method::{Answer, Call, Method, method},
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.join", User, Three, join),
    method!("conversations.leave", User, Three, leave),
    method!("conversations.invite", User, Three, invite),
    method!("conversations.kick", User, Three, kick),
];

/// Users of one invitation.
const INVITED_MAX: usize = 100;

const SELECT_MEMBER: &str = "SELECT 1 FROM chat_members WHERE conversation = $1 AND user_id = $2";

async fn join(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    conversation.need_channel()?;
    let was_there = match conversation.is_member() {
        true => true,
        // A channel that it may know of without being in it is public.
        false => match chat.bring(&conversation, &caller.user, None).await {
            Ok(()) => false,
            Err(failure) if failure.is("already_in_channel") => true,
            Err(failure) => return Err(failure),
        },
    };
    let conversation = chat.conversation(caller, &id).await?;
    let answer = Answer::ok().with("channel", conversation.view(&caller.user));
    Ok(match was_there {
        true => answer.with("warning", "already_in_channel").with(
            "response_metadata",
            json!({ "warnings": ["already_in_channel"] }),
        ),
        false => answer,
    })
}

async fn leave(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    conversation.need_channel()?;
    if conversation.is_general {
        return Err(Failure::new("cant_leave_general"));
    }
    match chat.part(&conversation, &caller.user, Going::Leaves).await {
        Ok(()) => Ok(Answer::ok()),
        Err(failure) if failure.is("not_in_channel") => {
            Ok(Answer::ok().with("not_in_channel", true))
        }
        Err(failure) => Err(failure),
    }
}

async fn invite(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.own_conversation(caller, &id).await?;
    conversation.need_channel()?;
    let users: BTreeSet<String> = call.args.list("users").into_iter().collect();
    if users.is_empty() {
        return Err(Failure::new("no_user"));
    }
    if users.len() > INVITED_MAX {
        return Err(Failure::new("too_many_users"));
    }
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let mut invited: Vec<Id> = Vec::new();
    let mut errors: Vec<(String, Failure)> = Vec::new();
    for user in users {
        match chat
            .may_be_invited(&conversation, &caller.user, &user)
            .await
        {
            Ok(id) => invited.push(id),
            Err(failure) if failure.way == crate::failure::Way::Answer => {
                errors.push((user, failure));
            }
            Err(failure) => return Err(failure),
        }
    }
    // Nobody comes if somebody cannot, unless the caller wants it so.
    if errors.is_empty() || (call.args.flag("force") && !invited.is_empty()) {
        for user in &invited {
            match chat.bring(&conversation, user, Some(&caller.user)).await {
                Err(failure) if !failure.is("already_in_channel") => return Err(failure),
                _ => {}
            }
        }
        let now = chat.conversation(caller, &id).await?;
        let answer = Answer::ok().with("channel", now.view(&caller.user));
        return Ok(match errors.is_empty() {
            true => answer,
            false => answer.with("errors", listed(&errors)),
        });
    }
    let errors_of_all = listed(&errors);
    let (_, first) = errors.swap_remove(0);
    Err(first.with("errors", errors_of_all))
}

fn listed(errors: &[(String, Failure)]) -> Vec<Value> {
    let one = |(user, failure): &(String, Failure)| json!({ "user": user, "ok": false, "error": failure.code });
    errors.iter().map(one).collect()
}

async fn kick(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let conversation = chat.conversation(caller, &id).await?;
    conversation.need_channel()?;
    let user = call.args.user()?;
    if user == caller.user {
        return Err(Failure::new("cant_kick_self"));
    }
    if conversation.is_general {
        return Err(Failure::new("cant_kick_from_general"));
    }
    // In a private channel whoever is in it; in a public one whoever keeps order there.
    let may = caller.is_admin
        || (conversation.is_member()
            && (!conversation.is_public() || conversation.creator == caller.user));
    if !may {
        return Err(Failure::new("restricted_action"));
    }
    let going = Going::Kicked(&caller.user);
    chat.part(&conversation, &user, going).await?;
    Ok(Answer::ok().with("errors", json!({})))
}

impl Chat {
    /// A user whom one may invite.
    async fn may_be_invited(
        &self,
        conversation: &Conversation,
        caller: &Id,
        user: &str,
    ) -> Result<Id, Failure> {
        let not_found = || Failure::new("user_not_found");
        let id = Id::parse(Kind::User, user).ok_or_else(not_found)?;
        if id == *caller {
            return Err(Failure::new("cant_invite_self"));
        }
        let user = self.user(&conversation.team, &id).await?;
        if user.is_deleted {
            return Err(not_found());
        }
        let params = vec![(&conversation.id).into(), (&id).into()];
        match self.engine.query(SELECT_MEMBER, params).await?.is_empty() {
            true => Ok(id),
            false => Err(Failure::new("already_in_channel")),
        }
    }
}
