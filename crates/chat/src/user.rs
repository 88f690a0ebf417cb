//! Users: people and bots, and what others see of them.

use std::collections::BTreeSet;

use fanfare_engine::port::tables::Row;
use serde_json::{Value, json};

use crate::{Chat, failure::Failure, id::Id};

/// The columns of which a [`User`] is read, of `chat_users u`.
macro_rules! user_columns {
    () => {
        "u.id, u.team, u.name, u.real_name, u.email, u.app, u.bot, u.is_admin, u.deleted, u.away, u.updated"
    };
}
pub(crate) use user_columns;

const SELECT: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM chat_users u WHERE u.id = $1"
);

/// A person or a bot.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: Id,
    pub(crate) team: Id,
    /// Unique in the workspace: what is typed behind an `@`.
    pub(crate) name: String,
    pub(crate) real_name: String,
    pub(crate) email: Option<String>,
    /// The app of which it is the bot.
    pub(crate) app: Option<Id>,
    pub(crate) bot: Option<Id>,
    pub(crate) is_admin: bool,
    pub(crate) is_deleted: bool,
    /// Wants to count as away, connected or not.
    pub(crate) is_away: bool,
    pub(crate) updated: i64,
}

impl User {
    /// Reads a row of [`user_columns`].
    pub(crate) fn read(row: &Row) -> Result<Self, Failure> {
        Self::try_read(row).ok_or_else(|| Failure::internal("a row of a user cannot be read"))
    }

    fn try_read(row: &Row) -> Option<Self> {
        Some(Self {
            id: Id::known(row.text(0)?),
            team: Id::known(row.text(1)?),
            name: row.text(2)?.to_owned(),
            real_name: row.text(3)?.to_owned(),
            email: row.text(4).map(str::to_owned),
            app: row.text(5).map(Id::known),
            bot: row.text(6).map(Id::known),
            is_admin: row.int(7)? != 0,
            is_deleted: row.int(8)? != 0,
            is_away: row.int(9)? != 0,
            updated: row.int(10)?,
        })
    }

    /// As everybody in the workspace sees it: Slack's user object.
    pub(crate) fn view(&self) -> Value {
        json!({
            "id": self.id.as_str(),
            "team_id": self.team.as_str(),
            "name": self.name,
            "real_name": self.real_name,
            "deleted": self.is_deleted,
            "is_bot": self.bot.is_some(),
            "is_app_user": false,
            "is_admin": self.is_admin,
            "is_owner": self.is_admin,
            "is_primary_owner": false,
            "is_restricted": false,
            "is_ultra_restricted": false,
            "tz": "Etc/UTC",
            "tz_label": "Coordinated Universal Time",
            "tz_offset": 0,
            "updated": self.updated,
            "profile": self.profile(),
        })
    }

    /// Slack's profile object.
    pub(crate) fn profile(&self) -> Value {
        let (first, last) = self
            .real_name
            .split_once(' ')
            .unwrap_or((&self.real_name, ""));
        let mut profile = json!({
            "real_name": self.real_name,
            "real_name_normalized": self.real_name,
            "display_name": self.name,
            "display_name_normalized": self.name,
            "first_name": first,
            "last_name": last,
            "status_text": "",
            "status_emoji": "",
            "team": self.team.as_str(),
        });
        let more = [
            ("email", self.email.as_deref()),
            ("bot_id", self.bot.as_ref().map(Id::as_str)),
            ("api_app_id", self.app.as_ref().map(Id::as_str)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                profile[name] = value.into();
            }
        }
        profile
    }

    /// `active`, if it is here and does not want to count as away.
    pub(crate) fn presence(&self, is_here: bool) -> &'static str {
        match is_here && !self.is_away {
            true => "active",
            false => "away",
        }
    }
}

impl Chat {
    /// A user of a workspace, deactivated ones included.
    ///
    /// # Errors
    /// `user_not_found`, whether or not it is one of another workspace.
    pub(crate) async fn user(&self, team: &Id, id: &Id) -> Result<User, Failure> {
        let rows = self.engine.query(SELECT, vec![id.into()]).await?;
        let user = rows.first().map(User::read).transpose()?;
        user.filter(|user| user.team == *team)
            .ok_or_else(|| Failure::new("user_not_found"))
    }

    /// Who is connected: the users in the channel of the workspace, as far as presence lists them.
    pub(crate) async fn here(&self, team: &Id) -> Result<BTreeSet<String>, Failure> {
        let channel = team.channel(crate::TEAMS)?;
        let members = self.engine.presence().members(&channel).await;
        Ok(members.holders.into_iter().map(|it| it.member).collect())
    }
}
