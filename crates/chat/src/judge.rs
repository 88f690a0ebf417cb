//! Who may follow which channel of the log: asked of the rows each time, so that it holds from the commit on that makes it so.

use fanfare_wire::ChannelName;

use crate::{
    Chat,
    failure::Failure,
    id::{Id, Kind},
};

const IS_MEMBER: &str = "SELECT 1 FROM chat_members m JOIN chat_users u ON u.id = m.user_id \
    WHERE m.conversation = $1 AND m.user_id = $2 AND u.deleted = 0";

const IS_USER: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND deleted = 0";

const IS_OF_TEAM: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND team = $2 AND deleted = 0";

impl Chat {
    /// Whether a user may follow a channel: a conversation as a member, what happens to the user itself, and what happens in its workspace.
    /// What apps are told nobody follows.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn may_follow(
        &self,
        user: &str,
        channel: &ChannelName,
    ) -> Result<bool, Failure> {
        let Some(user) = Id::parse(Kind::User, user) else {
            return Ok(false);
        };
        let id = channel.as_str().split_once(':').map(|(_, id)| id);
        let id = id.unwrap_or_default();
        let rows = match channel.namespace() {
            crate::CONVERSATIONS => {
                let Some(id) = Id::parse_conversation(id) else {
                    return Ok(false);
                };
                let params = vec![(&id).into(), (&user).into()];
                self.engine.query(IS_MEMBER, params).await?
            }
            crate::USERS if id == user.as_str() => {
                self.engine.query(IS_USER, vec![(&user).into()]).await?
            }
            crate::TEAMS => {
                let Some(team) = Id::parse(Kind::Team, id) else {
                    return Ok(false);
                };
                let params = vec![(&user).into(), (&team).into()];
                self.engine.query(IS_OF_TEAM, params).await?
            }
            _ => return Ok(false),
        };
        Ok(!rows.is_empty())
    }
}
