//! Who may follow which channel of the log: asked of the rows each time, so that it holds from the commit on that makes it so.

use std::sync::Arc;

use fanfare_engine::port::BoxFuture;
use fanfare_gateway::judge::{Asked, Judge, Verdict};
use fanfare_wire::ChannelName;

use crate::{
    Chat,
    failure::Failure,
    id::{Id, Kind},
};

/// After how long it is asked again, in seconds. What ends before is ended by the change itself.
const ASK_AGAIN_SECONDS: u32 = 3600;

const IS_MEMBER: &str = "SELECT 1 FROM chat_members m JOIN chat_users u ON u.id = m.user_id \
    WHERE m.conversation = $1 AND m.user_id = $2 AND u.deleted = 0";

const IS_USER: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND deleted = 0";

const IS_OF_TEAM: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND team = $2 AND deleted = 0";

/// The judge of the app's channels.
pub(crate) struct ChatJudge(pub(crate) Arc<Chat>);

impl Judge for ChatJudge {
    fn namespaces(&self) -> &[&str] {
        &crate::CHANNEL_NAMESPACES
    }

    fn may_subscribe(&self, asked: Asked) -> BoxFuture<'static, Verdict> {
        let chat = Arc::clone(&self.0);
        Box::pin(async move {
            match chat.may_follow(&asked.user, &asked.channel).await {
                Ok(true) => Verdict::Yes {
                    seconds: ASK_AGAIN_SECONDS,
                },
                Ok(false) => Verdict::No,
                Err(_) => Verdict::Away,
            }
        })
    }
}

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
        self.check_ready()?;
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
