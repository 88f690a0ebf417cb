//! `reactions.add`, `reactions.remove`, `reactions.get`, `reactions.list`.

use std::sync::Arc;

use fanfare_engine::port::tables::{Row, Step, Value as Sql};
use serde_json::{Map, Value, json};

use crate::{
    Chat,
    change::{Change, Event},
    cursor,
    failure::{EXISTS, Failure},
    id::Id,
    message::{MESSAGE_COLUMNS, Message, REACTIONS_MAX, message_columns},
    method::{Answer, Call, Method, method},
    methods::post::IS_MEMBER,
    ts::Ts,
};

pub(crate) const METHODS: &[Method] = &[
    method!("reactions.add", User, Three, add),
    method!("reactions.remove", User, Three, remove),
    method!("reactions.get", User, Three, get),
    method!("reactions.list", User, Two, list),
];

/// Reactions of one user to one message at most, as Slack has it.
const OWN_MAX: i64 = 23;
/// Different names of reactions to one message at most.
const NAMES_MAX: i64 = 50;
const NAME_CHARS_MAX: usize = 100;
/// What follows a name for one of five colours of skin, 2 to 6.
const SKIN: &str = "::skin-tone-";

const NOT_FOUND: &str = "message_not_found";

const COUNT_MORE: &str = "UPDATE chat_messages SET reactions = reactions + 1 WHERE conversation = $1 AND ts = $2 AND reactions < $3";

const COUNT_LESS: &str =
    "UPDATE chat_messages SET reactions = reactions - 1 WHERE conversation = $1 AND ts = $2";

const SELECT_WHOSE: &str = "SELECT user_id FROM chat_messages WHERE conversation = $1 AND ts = $2 AND deleted = 0 \
    AND (subtype IS NULL OR subtype <> 'tombstone')";

const SELECT_TOO_MANY: &str = "SELECT COUNT(*) FROM chat_reactions WHERE conversation = $1 AND ts = $2 AND user_id = $3 HAVING COUNT(*) > $4";

const SELECT_TOO_MANY_NAMES: &str = "SELECT COUNT(DISTINCT name) FROM chat_reactions WHERE conversation = $1 AND ts = $2 \
    HAVING COUNT(DISTINCT name) > $3";

const INSERT: &str = "INSERT INTO chat_reactions (conversation, ts, name, user_id, event_ts) \
    SELECT id, CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT), last_ts FROM chat_conversations WHERE id = $1";

const DELETE: &str =
    "DELETE FROM chat_reactions WHERE conversation = $1 AND ts = $2 AND name = $3 AND user_id = $4";

/// The messages to which `$1` has reacted, as far as `$2` may read them.
const SELECT_REACTED: &str = concat!(
    "SELECT ",
    message_columns!(),
    ", m.conversation FROM (SELECT DISTINCT conversation, ts FROM chat_reactions WHERE user_id = $1 \
     AND (conversation < $3 OR (conversation = $3 AND ts < $4))) r \
     JOIN chat_conversations c ON c.id = r.conversation AND c.team = $5 \
     LEFT JOIN chat_members b ON b.conversation = r.conversation AND b.user_id = $2 \
     JOIN chat_messages m ON m.conversation = r.conversation AND m.ts = r.ts AND m.deleted = 0 \
     WHERE c.kind = 'public' OR b.user_id IS NOT NULL ORDER BY r.conversation DESC, r.ts DESC LIMIT $6"
);
/// Greater than every id of a conversation.
const BEHIND_ALL: &str = "Z";
/// Messages of [`SELECT_REACTED`] at most: so many of the largest fit into what a statement may return.
const LIST_MAX: i64 = 25;
const CURSOR: &str = "reacted";

/// A reaction that is to be there, or not.
struct Wish {
    channel: Id,
    ts: Ts,
    name: String,
}

impl Wish {
    fn read(call: &Call) -> Result<Self, Failure> {
        let (channel, ts) = item(call)?;
        let name = call.args.need("name")?;
        match is_name(&name) {
            true => Ok(Self { channel, ts, name }),
            false => Err(Failure::new("invalid_name")),
        }
    }

    fn message(&self) -> Vec<Sql> {
        vec![(&self.channel).into(), self.ts.into()]
    }

    fn with(&self, more: impl IntoIterator<Item = Sql>) -> Vec<Sql> {
        self.message().into_iter().chain(more).collect()
    }

    /// A change by a member, of a message that is there.
    fn change(&self, user: &Id) -> Change {
        let member = vec![(&self.channel).into(), user.into()];
        Change::of(&self.channel)
            .step(Step::some(IS_MEMBER, member), "not_in_channel")
            .step(Step::some(SELECT_WHOSE, self.message()), NOT_FOUND)
    }

    fn event(
        &self,
        kind: &'static str,
        user: &Id,
    ) -> impl Fn(&[Vec<Row>], Ts) -> Result<Event, Failure> + Send + Sync + 'static {
        let item = json!({ "type": "message", "channel": self.channel.as_str(), "ts": self.ts.to_string() });
        let fixed =
            json!({ "type": kind, "user": user.as_str(), "reaction": self.name, "item": item });
        move |rows, _| {
            let whose = rows.get(WHOSE_STEP).and_then(|rows| rows.first()?.text(0));
            let mut event = fixed.as_object().cloned().unwrap_or_default();
            event.insert("item_user".to_owned(), whose.into());
            Ok(event)
        }
    }
}

/// Where the author of the message stands among what the steps returned.
const WHOSE_STEP: usize = 1;

/// The message that a call is about.
fn item(call: &Call) -> Result<(Id, Ts), Failure> {
    let missing = ["channel", "timestamp"];
    if missing.iter().any(|name| call.args.text(name).is_none()) {
        return Err(Failure::new("no_item_specified"));
    }
    let ts = call.args.ts("timestamp", "bad_timestamp")?;
    Ok((call.args.conversation()?, ts))
}

/// Whether it may be the name of an emoji. Which there are, clients know.
fn is_name(name: &str) -> bool {
    let (plain, skin) = match name.split_once(SKIN) {
        Some((plain, tone)) => (plain, Some(tone)),
        None => (name, None),
    };
    let fits = |letter: u8| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"_+'-".contains(&letter)
    };
    (1..=NAME_CHARS_MAX).contains(&plain.len())
        && plain.bytes().all(fits)
        && skin.is_none_or(|tone| matches!(tone, "2" | "3" | "4" | "5" | "6"))
}

async fn add(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let user = &call.caller()?.user;
    let wish = Wish::read(&call)?;
    chat.own_conversation(call.caller()?, &wish.channel).await?;
    let insert = wish.with([wish.name.as_str().into(), user.into()]);
    let change = wish
        .change(user)
        .step(Step::some(INSERT, insert), NOT_FOUND)
        .step(
            Step::none(SELECT_TOO_MANY, wish.with([user.into(), OWN_MAX.into()])),
            "too_many_reactions",
        )
        .step(
            Step::none(SELECT_TOO_MANY_NAMES, wish.with([NAMES_MAX.into()])),
            "too_many_emoji",
        )
        .step(
            Step::some(COUNT_MORE, wish.with([REACTIONS_MAX.into()])),
            "too_many_reactions",
        )
        .event(wish.event("reaction_added", user));
    match chat.change(change).await {
        Err(failure) if failure.is(EXISTS) => Err(Failure::new("already_reacted")),
        added => added.map(|_| Answer::ok()),
    }
}

async fn remove(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let user = &call.caller()?.user;
    let wish = Wish::read(&call)?;
    chat.own_conversation(call.caller()?, &wish.channel).await?;
    let delete = wish.with([wish.name.as_str().into(), user.into()]);
    let change = wish
        .change(user)
        .step(Step::some(DELETE, delete), "no_reaction")
        .step(Step::new(COUNT_LESS, wish.message()), NOT_FOUND)
        .event(wish.event("reaction_removed", user));
    chat.change(change).await.map(|_| Answer::ok())
}

async fn get(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let (id, ts) = item(&call)?;
    let conversation = chat.conversation(call.caller()?, &id).await?;
    let mut messages = [chat.message(&id, ts).await?];
    chat.complete(&id, &mut messages).await?;
    let [message] = messages;
    Ok(Answer::ok()
        .with("type", "message")
        .with("channel", &id)
        .with("message", message.view(&conversation.team)))
}

async fn list(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let user = match call.args.text("user") {
        Some(_) => call.args.user()?,
        None => caller.user.clone(),
    };
    let limit = cursor::limit(&call, (LIST_MAX, LIST_MAX))?;
    let after = cursor::read(&call, CURSOR)?;
    let after = after.unwrap_or_else(|| format!("{BEHIND_ALL}/0"));
    let wrong = || Failure::new("invalid_cursor");
    let (id, ts) = after.split_once('/').ok_or_else(wrong)?;
    let ts: i64 = ts.parse().map_err(|_| wrong())?;
    let params = vec![
        (&user).into(),
        (&caller.user).into(),
        id.into(),
        ts.into(),
        (&caller.team).into(),
        (limit + 1).into(),
    ];
    let rows = chat.engine.query(SELECT_REACTED, params).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut last = None;
    for row in rows.iter().take(limit) {
        let id = row.text(MESSAGE_COLUMNS).map(Id::known);
        let id = id.ok_or_else(|| Failure::internal("a message without a conversation"))?;
        let mut messages = [Message::read(row)?];
        chat.complete(&id, &mut messages).await?;
        let [message] = messages;
        last = Some(format!("{id}/{}", message.ts.0));
        let view: Map<String, Value> = message.view(&caller.team);
        items.push(json!({ "type": "message", "channel": id.as_str(), "message": view }));
    }
    let next = last.filter(|_| rows.len() > limit);
    let next = next.map_or_else(String::new, |next| cursor::write(CURSOR, &next));
    Ok(Answer::ok()
        .with("items", items)
        .with("response_metadata", json!({ "next_cursor": next })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_shape() {
        let long = "a".repeat(NAME_CHARS_MAX);
        for good in [
            "thumbsup",
            "+1",
            "-1",
            "man's_shoe",
            "wave::skin-tone-4",
            &long,
        ] {
            assert!(is_name(good), "{good}");
        }
        let longer = "a".repeat(NAME_CHARS_MAX + 1);
        let bad = [
            "",
            "Smile",
            ":smile:",
            "a b",
            "a<b",
            "é",
            "wave::skin-tone-1",
            "wave::skin-tone-",
            "::skin-tone-2",
            "a::skin-tone-2::skin-tone-3",
            "a::b",
            "a\n",
            &longer,
        ];
        for bad in bad {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(Id::parse_conversation(BEHIND_ALL), None);
        assert!(Id::random(crate::id::Kind::Group).unwrap().as_str() < BEHIND_ALL);
    }
}
