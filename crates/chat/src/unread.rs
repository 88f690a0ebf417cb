//! What one has not read yet: how much, and how much of it calls one.
//!
//! Counted are messages that somebody else has said in the conversation itself, replies in threads not. Notices of who came and went are not
//! counted, nor is what was deleted. A mention is a message, a reply included, that names the user or calls everybody; in direct conversations every
//! message is one. Where one has taken part in a thread, a reply without such a mark is none. The counts end at [`COUNT_MAX`].

use std::collections::HashMap;

use fanfare_engine::port::tables::{Row, Step};
use serde_json::{Map, Value};

use crate::{
    Chat,
    conversation::{Conversation, Shape},
    failure::Failure,
    id::Id,
};

/// Where counting ends. The number stands in the statements as well.
#[cfg(test)]
pub(crate) const COUNT_MAX: i64 = 1_000;

/// How much one has not read of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Messages, at most [`COUNT_MAX`].
    pub(crate) count: i64,
    /// Those that call one, at most [`COUNT_MAX`].
    pub(crate) mentions: i64,
}

/// The columns of which an [`Unread`] is read, of `chat_members m`. Both look at the newest thousand only, whatever they are.
macro_rules! unread_columns {
    () => {
        concat!(
            "(SELECT COUNT(*) FROM (SELECT x.user_id, x.subtype FROM chat_messages x WHERE x.conversation = m.conversation \
             AND x.shown = 1 AND x.deleted = 0 AND x.ts > m.last_read ORDER BY x.ts DESC LIMIT 1000) s \
             WHERE s.user_id <> m.user_id AND ",
            $crate::message::said!("s.subtype"),
            "), (SELECT COUNT(*) FROM (SELECT n.ts FROM chat_mentions n WHERE n.conversation = m.conversation \
             AND n.user_id IN (m.user_id, '') AND n.ts > m.last_read ORDER BY n.ts DESC LIMIT 1000) s \
             JOIN chat_messages y ON y.conversation = m.conversation AND y.ts = s.ts \
             WHERE y.user_id <> m.user_id AND y.deleted = 0)"
        )
    };
}

const SELECT: &str = concat!(
    "SELECT ",
    unread_columns!(),
    " FROM chat_members m WHERE m.conversation = $1 AND m.user_id = $2"
);

/// [`ALL_AT_ONCE`] of them.
const SELECT_ALL: &str = concat!(
    "SELECT ",
    unread_columns!(),
    ", m.conversation, c.kind FROM chat_members m JOIN chat_conversations c ON c.id = m.conversation \
     WHERE m.user_id = $1 AND m.conversation > $2 ORDER BY m.conversation LIMIT 1000"
);
const ALL_AT_ONCE: usize = 1_000;

/// Forgets what called a user and is read.
pub(crate) const FORGET_READ: &str = "DELETE FROM chat_mentions WHERE conversation = $1 AND user_id = $2 \
    AND ts <= (SELECT last_read FROM chat_members WHERE conversation = $1 AND user_id = $2)";

/// Forgets whatever called a user who is gone.
pub(crate) const FORGET_ALL: &str =
    "DELETE FROM chat_mentions WHERE conversation = $1 AND user_id = $2";

impl Unread {
    /// Reads the first columns of a row.
    fn read(row: &Row, shape: Shape) -> Option<Self> {
        let (count, mentions) = (row.int(0)?, row.int(1)?);
        let is_direct = matches!(shape, Shape::Direct | Shape::Group);
        Some(Self {
            count,
            mentions: if is_direct { count } else { mentions },
        })
    }

    /// Reads what [`select`] returned; nothing for who is no member.
    pub(crate) fn of(rows: &[Row], shape: Shape) -> Self {
        let first = rows.first().and_then(|row| Self::read(row, shape));
        first.unwrap_or_default()
    }

    /// Adds it to a conversation object, or to an event.
    pub(crate) fn extend(self, fields: &mut Map<String, Value>) {
        for (name, value) in [
            ("unread_count", self.count),
            ("unread_count_display", self.count),
            ("mention_count_display", self.mentions),
        ] {
            fields.insert(name.to_owned(), value.into());
        }
    }
}

/// The statement that counts for [`Unread::of`].
pub(crate) fn select(conversation: &Id, user: &Id) -> Step {
    Step::new(SELECT, vec![conversation.into(), user.into()])
}

impl Chat {
    /// How much a user has not read of a conversation.
    pub(crate) async fn unread(
        &self,
        conversation: &Conversation,
        user: &Id,
    ) -> Result<Unread, Failure> {
        let Step { sql, params, .. } = select(&conversation.id, user);
        let rows = self.engine.query(sql, params).await?;
        Ok(Unread::of(&rows, conversation.shape))
    }

    /// How much a user has not read, of each conversation that the user is in.
    pub(crate) async fn all_unread(&self, user: &Id) -> Result<HashMap<Id, Unread>, Failure> {
        let mut all = HashMap::new();
        let mut after = String::new();
        loop {
            let params = vec![user.into(), after.as_str().into()];
            let rows = self.engine.query(SELECT_ALL, params).await?;
            for row in &rows {
                let (Some(id), Some(shape)) = (row.text(2), row.text(3).and_then(Shape::named))
                else {
                    continue;
                };
                let unread = Unread::read(row, shape).unwrap_or_default();
                all.insert(Id::known(id), unread);
            }
            match rows.last().and_then(|row| row.text(2)) {
                Some(last) if rows.len() == ALL_AT_ONCE => after = last.to_owned(),
                _ => return Ok(all),
            }
        }
    }
}
