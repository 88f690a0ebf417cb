//! `conversations.create`, `list`, `info`, `members`, `users.conversations`: which conversations there are, as far as the caller may know.

use std::sync::Arc;

use fanfare_engine::port::tables::{Step, Value as Sql};
use serde_json::{Value, json};

use crate::{
    Chat,
    caller::Caller,
    change::Change,
    channel_name,
    conversation::{Conversation, Membership, Noted, Shape, conversation_columns},
    failure::{EXISTS, Failure},
    id::{Id, Kind},
    method::{Answer, Call, Method, method},
    notice,
    page::Page,
    system::SystemMessage,
    ts::Ts,
    unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.create", User, Two, create),
    method!("conversations.list", User, Two, list),
    method!("conversations.info", User, Three, info),
    method!("conversations.members", User, Four, members),
    method!("users.conversations", User, Three, of_user),
];

pub(crate) const INSERT_CHANNEL: &str = "INSERT INTO chat_conversations (id, team, kind, name, direct_key, topic, topic_by, topic_at, \
    purpose, purpose_by, purpose_at, creator, created, archived, is_general, members, last_ts, last_message) \
    VALUES ($1, $2, $3, $4, NULL, '', '', 0, '', '', 0, $5, $6, 0, $7, 1, 0, 0)";

const INSERT_CREATOR: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) \
    SELECT id, creator, created, last_ts, 1 FROM chat_conversations WHERE id = $1";

const SELECT_LIST: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM chat_conversations c LEFT JOIN chat_members m ON m.conversation = c.id AND m.user_id = $2 \
     WHERE c.team = $1 AND c.id > $3 AND (c.kind = 'public' OR m.user_id IS NOT NULL) AND c.archived <= $4 \
     AND ((c.kind = 'public' AND $5 = 1) OR (c.kind = 'private' AND $6 = 1) OR (c.kind = 'im' AND $7 = 1) OR (c.kind = 'mpim' AND $8 = 1)) \
     ORDER BY c.id LIMIT $9"
);

const SELECT_OF_USER: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM chat_members t JOIN chat_conversations c ON c.id = t.conversation \
     LEFT JOIN chat_members m ON m.conversation = c.id AND m.user_id = $2 \
     WHERE t.user_id = $10 AND c.team = $1 AND c.id > $3 AND (c.kind = 'public' OR m.user_id IS NOT NULL) AND c.archived <= $4 \
     AND ((c.kind = 'public' AND $5 = 1) OR (c.kind = 'private' AND $6 = 1) OR (c.kind = 'im' AND $7 = 1) OR (c.kind = 'mpim' AND $8 = 1)) \
     ORDER BY c.id LIMIT $9"
);

const SELECT_MEMBERS: &str = "SELECT user_id FROM chat_members WHERE conversation = $1 AND user_id > $2 ORDER BY user_id LIMIT $3";

/// The kinds of conversations, as `types` names them.
const SHAPES: [Shape; 4] = [Shape::Public, Shape::Private, Shape::Direct, Shape::Group];

async fn create(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let name = channel_name::check(call.args.text("name"))?;
    let shape = match call.args.flag("is_private") {
        true => Shape::Private,
        false => Shape::Public,
    };
    let id = chat
        .make_channel((&caller.team, &caller.user), &name, shape, false)
        .await?;
    let conversation = chat.conversation(caller, &id).await?;
    Ok(Answer::ok().with("channel", conversation.view(&caller.user)))
}

async fn list(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let (page, params) = asked(&call, caller)?;
    let rows = chat.engine.query(SELECT_LIST, params).await?;
    answer(caller, &page, &rows)
}

async fn of_user(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let user = match call.args.text("user") {
        Some(_) => chat.user(&caller.team, &call.args.user()?).await?.id,
        None => caller.user.clone(),
    };
    let (page, mut params) = asked(&call, caller)?;
    params.push((&user).into());
    let rows = chat.engine.query(SELECT_OF_USER, params).await?;
    answer(caller, &page, &rows)
}

/// What is asked for: the page, and the parameters of [`SELECT_LIST`].
fn asked(call: &Call, caller: &Caller) -> Result<(Page, Vec<Sql>), Failure> {
    let page = Page::read(&call.args)?;
    let types = call.args.list("types");
    let is_known = |kind: &String| SHAPES.iter().any(|shape| shape.list_type() == kind);
    if !types.iter().all(is_known) {
        return Err(Failure::new("invalid_types"));
    }
    let wants = |shape: Shape| match types.is_empty() {
        true => shape == Shape::Public,
        false => types.iter().any(|kind| kind == shape.list_type()),
    };
    let archived = !call.args.flag("exclude_archived");
    let mut params: Vec<Sql> = vec![
        (&caller.team).into(),
        (&caller.user).into(),
        page.after.as_str().into(),
        archived.into(),
    ];
    params.extend(SHAPES.map(|shape| Sql::from(wants(shape))));
    params.push(page.rows().into());
    Ok((page, params))
}

fn answer(
    caller: &Caller,
    page: &Page,
    rows: &[fanfare_engine::port::tables::Row],
) -> Result<Answer, Failure> {
    let found = rows.iter().map(Conversation::read);
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let (found, answer) = page.cut(found, |it| it.id.as_str(), Answer::ok());
    let views = found.iter().map(|it| it.view(&caller.user));
    Ok(answer.with("channels", views.collect::<Vec<Value>>()))
}

async fn info(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    // Whether one may know of it is asked before anything of it is read, and what is shown is read behind the position.
    chat.conversation(caller, &id).await?;
    let position = chat.position(&id).await?;
    let conversation = chat.conversation(caller, &id).await?;
    let mut view = conversation.view(&caller.user);
    if conversation.is_member() {
        view["latest"] = json!({ "ts": conversation.last_message.to_string() });
        view["position"] = position;
        let unread = chat.unread(&conversation, &caller.user).await?;
        if let Some(fields) = view.as_object_mut() {
            unread.extend(fields);
        }
    }
    Ok(Answer::ok().with("channel", view))
}

async fn members(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let page = Page::read(&call.args)?;
    chat.conversation(caller, &id).await?;
    let params: Vec<Sql> = vec![(&id).into(), page.after.as_str().into(), page.rows().into()];
    let rows = chat.engine.query(SELECT_MEMBERS, params).await?;
    let users = rows.iter().filter_map(|row| row.text(0));
    let (users, answer) = page.cut(users.collect(), |user: &&str| user, Answer::ok());
    Ok(answer.with("members", users))
}

impl Chat {
    /// Makes a channel with its creator in it.
    ///
    /// # Errors
    /// `name_taken`.
    pub(crate) async fn make_channel(
        &self,
        (team, creator): (&Id, &Id),
        name: &str,
        shape: Shape,
        is_general: bool,
    ) -> Result<Id, Failure> {
        let id = Id::random(Kind::Channel)?;
        let change = making((&id, team, creator), name, shape, is_general)?;
        match self.change(change).await {
            Ok(_) => Ok(id),
            Err(failure) if failure.is(EXISTS) => Err(Failure::new("name_taken")),
            Err(failure) => Err(failure),
        }
    }
}

/// The change that makes a channel.
pub(crate) fn making(
    (id, team, creator): (&Id, &Id, &Id),
    name: &str,
    shape: Shape,
    is_general: bool,
) -> Result<Change, Failure> {
    let now = unix_seconds();
    let insert: Vec<Sql> = vec![
        id.into(),
        team.into(),
        shape.name().into(),
        name.into(),
        creator.into(),
        now.into(),
        is_general.into(),
    ];
    let made = new_channel((id, team, creator), name, shape, is_general);
    let mut change = Change::of(id)
        .before(Step::some(INSERT_CHANNEL, insert), "name_taken")
        .step(
            Step::some(INSERT_CREATOR, vec![id.into()]),
            "channel_not_found",
        );
    if shape == Shape::Public {
        let channel = json!({
            "id": id.as_str(), "name": name, "is_channel": true, "created": now, "creator": creator.as_str(), "context_team_id": team.as_str(),
        });
        let event = json!({ "type": "channel_created", "channel": channel, "event_ts": Ts::now().to_string() });
        change = change.also(notice::to_team(team, &event)?);
    }
    let creator = creator.clone();
    let message = SystemMessage::new(&creator, "channel_join", "has joined the channel");
    let change = change.says(id, message)?;
    Ok(change.notice(move |_, ts| {
        let mut made = made.clone();
        made.membership = Some(Membership {
            last_read: ts,
            is_open: true,
        });
        Ok(vec![notice::came(&made, &creator, ts)?])
    }))
}

/// A channel as its creator sees it first.
fn new_channel(
    (id, team, creator): (&Id, &Id, &Id),
    name: &str,
    shape: Shape,
    is_general: bool,
) -> Conversation {
    let nothing = || Noted {
        value: String::new(),
        by: String::new(),
        at: 0,
    };
    Conversation {
        id: id.clone(),
        team: team.clone(),
        shape,
        name: Some(name.to_owned()),
        direct_key: None,
        topic: nothing(),
        purpose: nothing(),
        creator: creator.clone(),
        created: unix_seconds(),
        is_archived: false,
        is_general,
        members: 1,
        last_ts: Ts::ZERO,
        last_message: Ts::ZERO,
        membership: None,
    }
}
