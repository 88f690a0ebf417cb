//! Commands as drafts: whoever commits one has it carried out on all nodes. An app puts them among the drafts of its transaction, so that
//! "no longer a member" and the end of the subscription are committed together.

use fanfare_wire::{ChannelName, Draft, Json, JsonError, NameError};
use thiserror::Error;
use uuid::Uuid;

use super::{Act, COMMANDS, Command, Whose};
use crate::{
    proxy::{DISCONNECT_CODES, REASON_BYTES_MAX},
    token::USER_BYTES_MAX,
};

/// Why there is no such command.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It would be for nobody, or for all anonymous clients at once.
    #[error("a command is for a user, whose name has 1 to {USER_BYTES_MAX} bytes")]
    User,
    /// SDKs would not understand it, or it does not fit into a frame.
    #[error(
        "a disconnect has a code from {} to {} and a reason of at most {REASON_BYTES_MAX} bytes",
        DISCONNECT_CODES.start(),
        DISCONNECT_CODES.end()
    )]
    Disconnect,
    /// The channel of the commands cannot be named.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It cannot be written down.
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    /// What was written is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// Ends the subscriptions of a user's connections to a channel, on all nodes, whoever has begun them. Clients of the Centrifuge protocol are
/// told so with code 2000, so SDKs do not subscribe again by themselves. A subscribe that is with a [judge](crate::judge) just then is
/// asked about again.
///
/// # Errors
/// [`CommandError::User`].
pub fn unsubscribe_draft(user: &str, channel: &ChannelName) -> Result<Draft, CommandError> {
    let channel = channel.as_str().to_owned();
    for_user(user, Act::Unsubscribe { channel })
}

/// Closes a user's connections, on all nodes. `code` and `reason` are what clients are told; 3500 to 3999 and 4500 to 4999 tell Centrifuge SDKs
/// not to come back.
///
/// # Errors
/// [`CommandError::User`] and [`CommandError::Disconnect`].
pub fn disconnect_draft(user: &str, code: u16, reason: &str) -> Result<Draft, CommandError> {
    if !DISCONNECT_CODES.contains(&code) || reason.len() > REASON_BYTES_MAX {
        return Err(CommandError::Disconnect);
    }
    let act = Act::Disconnect {
        code,
        reason: reason.to_owned(),
        whitelist: Vec::new(),
    };
    for_user(user, act)
}

fn for_user(user: &str, act: Act) -> Result<Draft, CommandError> {
    if user.is_empty() || user.len() > USER_BYTES_MAX {
        return Err(CommandError::User);
    }
    let whose = Whose {
        user: user.to_owned(),
        ..Whose::default()
    };
    Command::Clients { whose, act }.draft()
}

impl Command {
    /// The message that has it carried out everywhere once it is committed.
    ///
    /// # Errors
    /// [`CommandError`] if it cannot be written down.
    pub(crate) fn draft(&self) -> Result<Draft, CommandError> {
        let channel = ChannelName::parse(COMMANDS)?;
        let data = Json::parse(&serde_json::to_vec(self)?)?;
        Ok(Draft::new(channel, Uuid::now_v7(), data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(draft: Result<Draft, CommandError>) -> String {
        let draft = draft.unwrap();
        assert_eq!(draft.channel.as_str(), COMMANDS);
        assert_eq!(draft.idempotency_key, None);
        String::from_utf8(draft.data.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn commands_for_a_user_are_those_of_the_server_api() {
        let channel = ChannelName::parse("chat:1").unwrap();
        assert_eq!(
            written(unsubscribe_draft("ann", &channel)),
            r#"{"clients":{"whose":{"user":"ann"},"act":{"unsubscribe":{"channel":"chat:1"}}}}"#
        );
        assert_eq!(
            written(disconnect_draft("ann", 3503, "gone")),
            r#"{"clients":{"whose":{"user":"ann"},"act":{"disconnect":{"code":3503,"reason":"gone"}}}}"#
        );
    }

    #[test]
    fn somebody_is_meant_who_understands_it() {
        let channel = ChannelName::parse("chat:1").unwrap();
        for nobody in [String::new(), "u".repeat(USER_BYTES_MAX + 1)] {
            let drafts = [
                unsubscribe_draft(&nobody, &channel),
                disconnect_draft(&nobody, 3503, ""),
            ];
            for draft in drafts {
                assert!(matches!(draft, Err(CommandError::User)));
            }
        }
        let long = "r".repeat(REASON_BYTES_MAX + 1);
        for (code, reason) in [(2999, ""), (5000, ""), (3503, &*long)] {
            let draft = disconnect_draft("ann", code, reason);
            assert!(matches!(draft, Err(CommandError::Disconnect)));
        }
    }
}
