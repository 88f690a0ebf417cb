//! `client.boot`: everything that a page needs to begin, in a handful of statements however much there is.
//!
//! The positions are read first, then the rows. So a position is never ahead of what the rest of the answer shows, and who subscribes from it
//! misses nothing.

use std::{collections::HashMap, sync::Arc};

use fanfare_engine::port::tables::{Row, Value as Sql};
use fanfare_wire::ChannelName;
use serde_json::{Map, Value, json};
use tokio::try_join;

use crate::{
    Chat,
    caller::Caller,
    conversation::{Conversation, conversation_columns},
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    ts::Ts,
    unread::Unread,
    user::{User, user_columns},
};

pub(crate) const METHODS: &[Method] = &[method!("client.boot", User, Three, boot)];

/// Conversations that one answer holds at most; `users.conversations` has the others.
const CONVERSATIONS_MAX: i64 = 5_000;
/// Users that one answer holds at most; `users.list` has the others.
const USERS_MAX: i64 = 1_000;

const SELECT_IDS: &str =
    "SELECT conversation FROM chat_members WHERE user_id = $1 ORDER BY conversation LIMIT $2";

const SELECT_CONVERSATIONS: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM chat_members m JOIN chat_conversations c ON c.id = m.conversation WHERE m.user_id = $1 ORDER BY c.id LIMIT $2"
);

const SELECT_USERS: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM chat_users u WHERE u.team = $1 ORDER BY u.name LIMIT $2"
);

/// Where channels of the log stand.
struct Positions {
    epoch: String,
    offsets: HashMap<ChannelName, u64>,
}

async fn boot(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let (user, team) = (Sql::from(&caller.user), Sql::from(&caller.team));
    let ids = chat
        .engine
        .query(SELECT_IDS, vec![user.clone(), CONVERSATIONS_MAX.into()])
        .await?;
    let positions = chat.positions(caller, &ids).await?;
    let conversations = async {
        let params = vec![user, CONVERSATIONS_MAX.into()];
        Ok::<_, Failure>(chat.engine.query(SELECT_CONVERSATIONS, params).await?)
    };
    let users = async {
        let params = vec![team, (USERS_MAX + 1).into()];
        Ok(chat.engine.query(SELECT_USERS, params).await?)
    };
    let (conversations, unread, mut users, team, here) = try_join!(
        conversations,
        chat.all_unread(&caller.user),
        users,
        chat.team(&caller.team),
        chat.here(&caller.team)
    )?;
    let users_max = usize::try_from(USERS_MAX).unwrap_or(usize::MAX);
    let has_all_users = users.len() <= users_max;
    users.truncate(users_max);
    let mut channels = Vec::with_capacity(conversations.len());
    for row in &conversations {
        channels.extend(channel(caller, row, &positions, &unread)?);
    }
    let view = |user: &User| {
        let mut view = user.view();
        view["presence"] = user.presence(here.contains(user.id.as_str())).into();
        view
    };
    let users = users
        .iter()
        .map(User::read)
        .collect::<Result<Vec<_>, _>>()?;
    let mut own = view(&chat.user(&caller.team, &caller.user).await?);
    own["position"] = positions.of(&caller.user.channel(crate::USERS)?).into();
    let team = json!({
        "id": caller.team.as_str(),
        "name": team.name,
        "domain": team.domain,
        "position": positions.of(&caller.team.channel(crate::TEAMS)?),
    });
    Ok(Answer::ok()
        .with("self", own)
        .with("team", team)
        .with("users", users.iter().map(view).collect::<Vec<Value>>())
        .with("has_all_users", has_all_users)
        .with("channels", channels)
        .with("prefs", Map::new()))
}

/// The conversation object of a row, but for one that was joined after the positions were read: its event is still to come.
fn channel(
    caller: &Caller,
    row: &Row,
    positions: &Positions,
    unread: &HashMap<Id, Unread>,
) -> Result<Option<Value>, Failure> {
    let conversation = Conversation::read(row)?;
    let Some(position) = positions.of(&conversation.id.channel(crate::CONVERSATIONS)?) else {
        return Ok(None);
    };
    let Value::Object(mut view) = conversation.view(&caller.user) else {
        return Err(Failure::internal("a conversation is shown as an object"));
    };
    let unread = unread.get(&conversation.id).copied();
    unread.unwrap_or_default().extend(&mut view);
    if conversation.last_message > Ts::ZERO {
        let latest = json!({ "ts": conversation.last_message.to_string() });
        view.insert("latest".to_owned(), latest);
    }
    view.insert("position".to_owned(), position);
    Ok(Some(view.into()))
}

impl Positions {
    fn of(&self, channel: &ChannelName) -> Option<Value> {
        let offset = self.offsets.get(channel)?;
        Some(json!({ "offset": offset, "epoch": self.epoch }))
    }
}

impl Chat {
    /// Where the channels of a user stand: the user's own, the workspace's, and those of conversations.
    async fn positions(
        &self,
        caller: &Caller,
        conversations: &[Row],
    ) -> Result<Positions, Failure> {
        let mut readers = vec![
            (caller.user.channel(crate::USERS)?, None),
            (caller.team.channel(crate::TEAMS)?, None),
        ];
        for id in conversations.iter().filter_map(|row| row.text(0)) {
            readers.push((Id::known(id).channel(crate::CONVERSATIONS)?, None));
        }
        let epoch = self.engine.epoch();
        let heads = self.engine.heads(&epoch, &readers).await?;
        let offsets = readers.into_iter().zip(heads);
        Ok(Positions {
            epoch: epoch.to_string(),
            offsets: offsets
                .map(|((channel, _), head)| (channel, head.seq.0))
                .collect(),
        })
    }
}
