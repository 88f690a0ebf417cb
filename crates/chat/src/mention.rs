//! Mentions: whom a text calls. Slack's marks: `<@U…>` one user, `<!channel>`, `<!everyone>` and `<!here>` all members.

use std::collections::BTreeSet;

use fanfare_engine::port::tables::{Step, Value as Sql};

use crate::{
    id::{Id, Kind},
    ts::Ts,
};

/// Users that one message calls by name at most; the others are not told.
const USERS_MAX: usize = 40;

/// Not if it is read already, and nobody calls oneself. `$3` is the message, or none for the one that is being posted.
const MENTION_ONE: &str = "INSERT INTO chat_mentions (conversation, user_id, ts) SELECT c.id, m.user_id, x.ts \
    FROM chat_conversations c JOIN chat_members m ON m.conversation = c.id AND m.user_id = $2 \
    JOIN chat_messages x ON x.conversation = c.id AND x.ts = COALESCE(CAST($3 AS BIGINT), c.last_ts) \
    WHERE c.id = $1 AND x.user_id <> m.user_id AND x.ts > m.last_read";

/// One row for all of them, however many there are.
const MENTION_ALL: &str = "INSERT INTO chat_mentions (conversation, user_id, ts) \
    SELECT id, '', COALESCE(CAST($2 AS BIGINT), last_ts) FROM chat_conversations WHERE id = $1";

const FORGET: &str = "DELETE FROM chat_mentions WHERE conversation = $1 AND ts = $2";

/// Whom a text calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    /// By name.
    pub(crate) users: BTreeSet<Id>,
    /// Everybody in the conversation.
    pub(crate) everybody: bool,
}

impl Mentions {
    /// Looks for marks.
    pub(crate) fn of(text: &str) -> Self {
        let mut mentions = Self::default();
        for part in text.split('<').skip(1) {
            let Some((mark, _)) = part.split_once('>') else {
                continue;
            };
            let name = mark.split('|').next().unwrap_or_default();
            if let Some(user) = name.strip_prefix('@') {
                if mentions.users.len() < USERS_MAX {
                    mentions.users.extend(Id::parse(Kind::User, user));
                }
            } else if matches!(name, "!channel" | "!everyone" | "!here") {
                mentions.everybody = true;
            }
        }
        mentions
    }

    /// The statements that note them for a message: `edited`, or the one at the conversation's `last_ts`. Who is no member is not called.
    pub(crate) fn steps(&self, conversation: &Id, edited: Option<Ts>) -> Vec<Step> {
        let ts = || Sql::from(edited.map(|ts| ts.0));
        if self.everybody {
            return vec![Step::new(MENTION_ALL, vec![conversation.into(), ts()])];
        }
        let users = self.users.iter();
        users
            .map(|user| Step::new(MENTION_ONE, vec![conversation.into(), user.into(), ts()]))
            .collect()
    }

    /// The statement that forgets whom a message called.
    pub(crate) fn forget(conversation: &Id, message: Ts) -> Step {
        Step::new(FORGET, vec![conversation.into(), message.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_and_nothing_else_is() {
        let of = |text| {
            let mentions = Mentions::of(text);
            let users: Vec<String> = mentions.users.iter().map(ToString::to_string).collect();
            (users.join(" "), mentions.everybody)
        };
        assert_eq!(
            of("hi <@U0ALICE0000> and <@U0BOB000000|bob>"),
            ("U0ALICE0000 U0BOB000000".to_owned(), false)
        );
        assert_eq!(of("<!channel> <!here|here>"), (String::new(), true));
        assert_eq!(
            of("<@C0GENERAL00> <@u0alice0000> @U0ALICE0000 &lt;@U0ALICE0000&gt; <@U0ALICE0000"),
            (String::new(), false)
        );
    }
}
