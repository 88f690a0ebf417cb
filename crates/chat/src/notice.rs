//! What is told beside the conversations: to one user, and to everybody in a workspace. Both are publications, so a page that was away misses
//! none of it.

use fanfare_wire::Draft;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    change::json_of,
    conversation::{Conversation, Shape},
    failure::Failure,
    id::Id,
    ts::Ts,
};

/// Tells one user, on all of its pages.
///
/// # Errors
/// The id is none.
pub(crate) fn to_user(user: &Id, event: &Value) -> Result<Draft, Failure> {
    draft(user, crate::USERS, event)
}

/// Tells everybody in a workspace.
///
/// # Errors
/// The id is none.
pub(crate) fn to_team(team: &Id, event: &Value) -> Result<Draft, Failure> {
    draft(team, crate::TEAMS, event)
}

fn draft(id: &Id, namespace: &str, event: &Value) -> Result<Draft, Failure> {
    Ok(Draft::new(
        id.channel(namespace)?,
        Uuid::now_v7(),
        json_of(event)?,
    ))
}

/// `user` is in a conversation now, which it sees like this.
pub(crate) fn came(conversation: &Conversation, user: &Id, ts: Ts) -> Result<Draft, Failure> {
    let kind = match conversation.shape {
        Shape::Public => "channel_joined",
        Shape::Private => "group_joined",
        Shape::Direct => "im_created",
        Shape::Group => "mpim_open",
    };
    let channel = conversation.view(user);
    let event = json!({ "type": kind, "user": user.as_str(), "channel": channel, "event_ts": ts.to_string() });
    to_user(user, &event)
}

/// `user` is not in a channel any more.
pub(crate) fn went(conversation: &Conversation, user: &Id) -> Result<Draft, Failure> {
    let kind = match conversation.shape {
        Shape::Public => "channel_left",
        _ => "group_left",
    };
    let event = json!({ "type": kind, "channel": conversation.id.as_str(), "event_ts": Ts::now().to_string() });
    to_user(user, &event)
}

/// A direct conversation stands in the list of `user`, or does not any more.
pub(crate) fn opened(id: &Id, user: &Id, is_open: bool) -> Result<Draft, Failure> {
    let kind = match (id.as_str().starts_with('D'), is_open) {
        (true, true) => "im_open",
        (true, false) => "im_close",
        (false, true) => "mpim_open",
        (false, false) => "mpim_close",
    };
    let event = json!({ "type": kind, "user": user.as_str(), "channel": id.as_str(), "event_ts": Ts::now().to_string() });
    to_user(user, &event)
}
