//! Conversations, and what one may see of them.

use fanfare_engine::port::tables::Row;
use serde_json::{Value, json};

use crate::{Chat, caller::Caller, failure::Failure, id::Id, ts::Ts};

/// What kind of conversation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Everybody in the workspace may find, read and join it.
    Public,
    /// Its members only know of it.
    Private,
    /// Of two.
    Direct,
    /// Of a few, without a name.
    Group,
}

/// A conversation, as one user sees it.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) id: Id,
    pub(crate) team: Id,
    pub(crate) shape: Shape,
    /// Channels have one.
    pub(crate) name: Option<String>,
    /// The users of a direct conversation, sorted, separated by commas.
    pub(crate) direct_key: Option<String>,
    pub(crate) topic: Noted,
    pub(crate) purpose: Noted,
    pub(crate) creator: Id,
    pub(crate) created: i64,
    pub(crate) is_archived: bool,
    /// The channel in which everybody is.
    pub(crate) is_general: bool,
    pub(crate) members: i64,
    pub(crate) last_ts: Ts,
    /// The newest message that stands in it, not in a thread alone.
    pub(crate) last_message: Ts,
    /// The user's membership, if there is one.
    pub(crate) membership: Option<Membership>,
}

/// A text that somebody has set.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) value: String,
    pub(crate) by: String,
    pub(crate) at: i64,
}

/// How a user is in a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership {
    pub(crate) last_read: Ts,
    /// A direct conversation stands in the user's list.
    pub(crate) is_open: bool,
}

/// The columns of which a [`Conversation`] is read, of `chat_conversations c LEFT JOIN chat_members m`.
macro_rules! conversation_columns {
    () => {
        "c.id, c.team, c.kind, c.name, c.direct_key, c.topic, c.topic_by, c.topic_at, c.purpose, c.purpose_by, c.purpose_at, \
         c.creator, c.created, c.archived, c.members, c.last_ts, m.last_read, m.is_open, c.is_general, c.last_message"
    };
}
pub(crate) use conversation_columns;

const SELECT: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM chat_conversations c LEFT JOIN chat_members m ON m.conversation = c.id AND m.user_id = $2 WHERE c.id = $1"
);

impl Shape {
    /// What the database calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Direct => "im",
            Self::Group => "mpim",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Public, Self::Private, Self::Direct, Self::Group]
            .into_iter()
            .find(|it| it.name() == name)
    }

    /// What events call it.
    pub(crate) fn channel_type(self) -> &'static str {
        match self {
            Self::Public => "channel",
            Self::Private => "group",
            Self::Direct => "im",
            Self::Group => "mpim",
        }
    }

    /// What `types` of conversations.list calls it.
    pub(crate) fn list_type(self) -> &'static str {
        match self {
            Self::Public => "public_channel",
            Self::Private => "private_channel",
            Self::Direct => "im",
            Self::Group => "mpim",
        }
    }

    /// Whether it has a name, and people come and go.
    pub(crate) fn is_channel(self) -> bool {
        matches!(self, Self::Public | Self::Private)
    }
}

impl Conversation {
    /// Reads a row of [`conversation_columns`].
    pub(crate) fn read(row: &Row) -> Result<Self, Failure> {
        Self::try_read(row)
            .ok_or_else(|| Failure::internal("a row of a conversation cannot be read"))
    }

    fn try_read(row: &Row) -> Option<Self> {
        let noted = |at: usize| {
            Some(Noted {
                value: row.text(at)?.to_owned(),
                by: row.text(at + 1)?.to_owned(),
                at: row.int(at + 2)?,
            })
        };
        let membership = row.int(16).map(|last_read| Membership {
            last_read: Ts(last_read),
            is_open: row.int(17) == Some(1),
        });
        Some(Self {
            id: Id::known(row.text(0)?),
            team: Id::known(row.text(1)?),
            shape: Shape::named(row.text(2)?)?,
            name: row.text(3).map(str::to_owned),
            direct_key: row.text(4).map(str::to_owned),
            topic: noted(5)?,
            purpose: noted(8)?,
            creator: Id::known(row.text(11)?),
            created: row.int(12)?,
            is_archived: row.int(13)? != 0,
            is_general: row.int(18)? != 0,
            members: row.int(14)?,
            last_ts: Ts(row.int(15)?),
            last_message: Ts(row.int(19)?),
            membership,
        })
    }

    pub(crate) fn is_public(&self) -> bool {
        self.shape == Shape::Public
    }

    /// Refuses what makes sense in channels only.
    ///
    /// # Errors
    /// `method_not_supported_for_channel_type`.
    pub(crate) fn need_channel(&self) -> Result<(), Failure> {
        match self.shape.is_channel() {
            true => Ok(()),
            false => Err(Failure::new("method_not_supported_for_channel_type")),
        }
    }

    pub(crate) fn is_member(&self) -> bool {
        self.membership.is_some()
    }

    /// Who else is in a conversation of two.
    fn other(&self, me: &Id) -> Option<&str> {
        let key = self.direct_key.as_deref()?;
        let mut users = key.split(',');
        users
            .clone()
            .find(|user| *user != me.as_str())
            .or_else(|| users.next())
    }

    /// As `user` is shown it: Slack's conversation object.
    pub(crate) fn view(&self, user: &Id) -> Value {
        let noted = |it: &Noted| json!({ "value": it.value, "creator": it.by, "last_set": it.at });
        let mut view = json!({
            "id": self.id.as_str(),
            "context_team_id": self.team.as_str(),
            "created": self.created,
            "creator": self.creator.as_str(),
            "updated": self.created * 1000,
            "is_archived": self.is_archived,
            "is_channel": self.shape == Shape::Public,
            "is_group": self.shape == Shape::Private,
            "is_im": self.shape == Shape::Direct,
            "is_mpim": self.shape == Shape::Group,
            "is_private": self.shape != Shape::Public,
            "is_general": self.is_general,
            "is_shared": false,
            "is_ext_shared": false,
            "is_org_shared": false,
            "is_member": self.is_member(),
            "num_members": self.members,
        });
        let more = match self.shape {
            Shape::Direct => json!({
                "user": self.other(user),
                "is_open": self.membership.is_some_and(|it| it.is_open),
            }),
            Shape::Public | Shape::Private | Shape::Group => json!({
                "name": self.name,
                "name_normalized": self.name,
                "topic": noted(&self.topic),
                "purpose": noted(&self.purpose),
            }),
        };
        let fields = view.as_object_mut().into_iter();
        for fields in fields {
            fields.extend(more.as_object().cloned().unwrap_or_default());
            if self.shape == Shape::Group {
                let users = self.direct_key.as_deref().unwrap_or_default().split(',');
                let users: Vec<&str> = users.collect();
                fields.insert(
                    "name".to_owned(),
                    format!("mpdm-{}", users.join("--")).into(),
                );
                fields.insert("users".to_owned(), users.clone().into());
                fields.insert("members".to_owned(), users.into());
                let is_open = self.membership.is_some_and(|it| it.is_open);
                fields.insert("is_open".to_owned(), is_open.into());
            }
            if let Some(membership) = &self.membership {
                fields.insert("last_read".to_owned(), membership.last_read.into());
            }
        }
        view
    }
}

impl Chat {
    /// A conversation that the caller may know of: a public channel of the workspace, or one that it is a member of.
    ///
    /// # Errors
    /// `channel_not_found`, whether or not there is one that it may not know of.
    pub(crate) async fn conversation(
        &self,
        caller: &Caller,
        id: &Id,
    ) -> Result<Conversation, Failure> {
        let rows = self
            .engine
            .query(SELECT, vec![id.into(), (&caller.user).into()])
            .await?;
        let conversation = rows.first().map(Conversation::read).transpose()?;
        let may = |it: &Conversation| {
            it.team == caller.team && (it.shape == Shape::Public || it.is_member())
        };
        conversation
            .filter(may)
            .ok_or_else(|| Failure::new("channel_not_found"))
    }

    /// A conversation that the caller is a member of.
    ///
    /// # Errors
    /// `channel_not_found`, `not_in_channel`.
    pub(crate) async fn own_conversation(
        &self,
        caller: &Caller,
        id: &Id,
    ) -> Result<Conversation, Failure> {
        let conversation = self.conversation(caller, id).await?;
        match conversation.is_member() {
            true => Ok(conversation),
            false => Err(Failure::new("not_in_channel")),
        }
    }
}
