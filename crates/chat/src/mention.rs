//! Mentions: whom a text calls. Slack's marks: `<@U…>` one user, `<!channel>`, `<!everyone>` and `<!here>` all members.

use std::collections::BTreeSet;

use fanfare_engine::port::tables::Value as Sql;

use crate::id::{Id, Kind};

/// Users that one message calls by name at most; the others are not told.
const USERS_MAX: usize = 40;

const MENTION_ONE: &str = "INSERT INTO chat_mentions (conversation, user_id, ts) SELECT c.id, m.user_id, c.last_ts \
    FROM chat_conversations c JOIN chat_members m ON m.conversation = c.id AND m.user_id = $2 WHERE c.id = $1";

const MENTION_ALL: &str = "INSERT INTO chat_mentions (conversation, user_id, ts) SELECT c.id, m.user_id, c.last_ts \
    FROM chat_conversations c JOIN chat_members m ON m.conversation = c.id WHERE c.id = $1";

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

    /// The statements that note them for a message at the conversation's `last_ts`. Who is no member is not called.
    pub(crate) fn steps(&self, conversation: &Id) -> Vec<(&'static str, Vec<Sql>)> {
        if self.everybody {
            return vec![(MENTION_ALL, vec![conversation.into()])];
        }
        let users = self.users.iter();
        users
            .map(|user| (MENTION_ONE, vec![conversation.into(), user.into()]))
            .collect()
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
