//! Coming and going: the changes of who is in a channel. What ends is over when the change is committed, open subscriptions on all nodes
//! included.

use fanfare_engine::port::tables::{Row, Step, Value as Sql};
use fanfare_gateway::commands::unsubscribe_draft;
use fanfare_wire::Draft;
use serde_json::{Value, json};

use crate::{
    Chat, app_events,
    change::{Change, Event},
    conversation::{Conversation, Membership},
    failure::{EXISTS, Failure},
    id::Id,
    notice,
    system::SystemMessage,
    unix_seconds,
    unread::FORGET_ALL,
};

/// Who comes has read what was said before.
const COME: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) \
    SELECT c.id, u.id, CAST($3 AS BIGINT), c.last_ts, 1 FROM chat_conversations c JOIN chat_users u ON u.id = $2 AND u.team = c.team \
    AND u.deleted = 0 WHERE c.id = $1";

const COUNT_IN: &str =
    "UPDATE chat_conversations SET members = members + 1 WHERE id = $1 RETURNING members";

const SELECT_APP: &str = "SELECT id FROM chat_apps WHERE bot_user = $1";

const GO: &str = "DELETE FROM chat_members WHERE conversation = $1 AND user_id = $2";

/// A private channel without members would be out of everybody's reach.
const COUNT_OUT: &str = "UPDATE chat_conversations SET members = members - 1 WHERE id = $1 AND (kind = 'public' OR members > 1) \
    RETURNING members";

/// How somebody goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going<'a> {
    /// By itself.
    Leaves,
    /// Somebody else wants it so.
    Kicked(&'a Id),
}

impl Chat {
    /// Brings a user of the workspace into a channel; `inviter` if somebody else wants it so, who must be in it.
    ///
    /// # Errors
    /// `already_in_channel`, `user_not_found`, `is_archived`, and `not_in_channel` of the inviter.
    pub(crate) async fn bring(
        &self,
        conversation: &Conversation,
        user: &Id,
        inviter: Option<&Id>,
    ) -> Result<(), Failure> {
        let change = joining(conversation, user, inviter)?;
        match self.change(change).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(EXISTS) => Err(Failure::new("already_in_channel")),
            Err(failure) => Err(failure),
        }
    }

    /// Takes a user out of a channel.
    ///
    /// # Errors
    /// `not_in_channel`, `last_member`, `is_archived`.
    pub(crate) async fn part(
        &self,
        conversation: &Conversation,
        user: &Id,
        going: Going<'_>,
    ) -> Result<(), Failure> {
        self.change(parting(conversation, user, going)?).await?;
        Ok(())
    }
}

/// The change that brings a user into a channel.
///
/// # Errors
/// It cannot be written down.
pub(crate) fn joining(
    conversation: &Conversation,
    user: &Id,
    inviter: Option<&Id>,
) -> Result<Change, Failure> {
    let id = &conversation.id;
    let come = vec![id.into(), user.into(), unix_seconds().into()];
    let mut message = SystemMessage::new(user, "channel_join", "has joined the channel");
    let mut change = Change::of(id)
        .step(Step::some(COME, come), "user_not_found")
        .step(Step::some(COUNT_IN, vec![id.into()]), "channel_not_found")
        .step(Step::new(SELECT_APP, vec![user.into()]), "user_not_found");
    if let Some(inviter) = inviter {
        message = message.with("inviter", inviter);
        let inviter: Vec<Sql> = vec![id.into(), inviter.into()];
        change = change.step(
            Step::some(crate::methods::post::IS_MEMBER, inviter),
            "not_in_channel",
        );
    }
    let (user, inviter) = (user.clone(), inviter.cloned());
    let event = move |rows: &[Vec<Row>]| -> Event {
        let mut event = moved("member_joined_channel", &user, rows);
        if let Some(inviter) = &inviter {
            event.insert("inviter".to_owned(), inviter.into());
        }
        event
    };
    let shown = conversation.clone();
    let told = event.clone();
    let user = message.user.clone();
    change
        .event(move |rows, _| Ok(with_shape(&shown, event(rows))))
        .says(id, message)
        .map(|change| {
            let conversation = conversation.clone();
            change.notice(move |rows, ts| {
                let mut seen = conversation.clone();
                seen.members = members(rows);
                seen.membership = Some(Membership {
                    last_read: ts,
                    is_open: true,
                });
                let mut drafts = vec![notice::came(&seen, &user, ts)?];
                // An app's bot is among those that hear of a channel only from the next event on.
                let app = rows.get(2).and_then(|rows| rows.first()?.text(0));
                if let Some(app) = app {
                    let mut event = with_shape(&seen, told(rows));
                    event.insert("channel".to_owned(), (&seen.id).into());
                    event.insert("team".to_owned(), (&seen.team).into());
                    event.insert("event_ts".to_owned(), crate::ts::Ts(ts.0 - 1).into());
                    drafts.extend(app_events::drafts(&[Id::known(app)], vec![event])?);
                }
                Ok(drafts)
            })
        })
}

fn parting(conversation: &Conversation, user: &Id, going: Going<'_>) -> Result<Change, Failure> {
    let id = &conversation.id;
    let both: Vec<Sql> = vec![id.into(), user.into()];
    let message = match going {
        Going::Leaves => SystemMessage::new(user, "channel_leave", "has left the channel"),
        Going::Kicked(by) => {
            let text = format!("was removed from the channel by <@{by}>");
            SystemMessage::new(user, "channel_leave", &text)
        }
    };
    let (gone, shown) = (user.clone(), conversation.clone());
    Change::of(id)
        .step(Step::some(GO, both.clone()), "not_in_channel")
        .step(Step::some(COUNT_OUT, vec![id.into()]), "last_member")
        .step(Step::new(FORGET_ALL, both), "not_in_channel")
        .event(move |rows, _| {
            let event = moved("member_left_channel", &gone, rows);
            Ok(with_shape(&shown, event))
        })
        .also(notice::went(conversation, user)?)
        .also(end_of_subscription(id, user)?)
        .says(id, message)
}

/// Ends what the user's pages have open, on all nodes.
fn end_of_subscription(id: &Id, user: &Id) -> Result<Draft, Failure> {
    let channel = id.channel(crate::CONVERSATIONS)?;
    unsubscribe_draft(user.as_str(), &channel).map_err(Failure::internal)
}

fn members(rows: &[Vec<Row>]) -> i64 {
    let row = rows.get(1).and_then(|rows| rows.first());
    row.and_then(|row| row.int(0)).unwrap_or_default()
}

/// The event of somebody who has come or gone; it says how many are there now, so that whoever has heard all of them knows.
fn moved(kind: &str, user: &Id, rows: &[Vec<Row>]) -> Event {
    let event = json!({ "type": kind, "user": user.as_str(), "num_members": members(rows) });
    match event {
        Value::Object(event) => event,
        _ => Event::new(),
    }
}

/// Slack's letter for the kind of a channel.
fn with_shape(conversation: &Conversation, mut event: Event) -> Event {
    let letter = match conversation.shape.is_channel() && conversation.is_public() {
        true => "C",
        false => "G",
    };
    event.insert("channel_type".to_owned(), letter.into());
    event
}
