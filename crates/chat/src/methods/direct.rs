//! `conversations.open`, `close`: conversations of two or a few.

use std::{collections::BTreeSet, sync::Arc};

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Step, Value as Sql},
};

use crate::{
    Chat,
    caller::Caller,
    conversation::{Conversation, Membership, Noted, Shape},
    failure::Failure,
    id::{Id, Kind},
    method::{Answer, Call, Method, method},
    notice,
    ts::Ts,
    unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("conversations.open", User, Three, open),
    method!("conversations.close", User, Three, close),
];

/// Users of a group, whoever opens it included.
const USERS_MAX: usize = 9;

const SELECT_BY_KEY: &str = "SELECT id FROM chat_conversations WHERE team = $1 AND direct_key = $2";

const INSERT: &str = "INSERT INTO chat_conversations (id, team, kind, name, direct_key, topic, topic_by, topic_at, \
    purpose, purpose_by, purpose_at, creator, created, archived, is_general, members, last_ts, last_message) \
    VALUES ($1, $2, $3, NULL, $4, '', '', 0, '', '', 0, $5, $6, 0, 0, $7, 0, 0)";

const INSERT_MEMBER: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) \
    SELECT CAST($1 AS TEXT), id, CAST($3 AS BIGINT), 0, 1 FROM chat_users WHERE id = $2 AND team = $4 AND deleted = 0";

const SET_OPEN: &str = "UPDATE chat_members SET is_open = $3 WHERE conversation = $1 AND user_id = $2 AND is_open <> $3";

async fn open(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let (id, is_new) = match call.args.text("channel") {
        Some(_) => (call.args.conversation()?, false),
        None => {
            let users = chat.parties(caller, &call).await?;
            chat.direct(caller, &users, call.args.flag("prevent_creation"))
                .await?
        }
    };
    let conversation = chat.own_direct(caller, &id).await?;
    let was_open = conversation.membership.is_some_and(|it| it.is_open);
    if !was_open {
        chat.set_open(caller, &id, true).await?;
    }
    let mut answer = Answer::ok();
    if was_open && !is_new {
        answer = answer.with("no_op", true).with("already_open", true);
    }
    let view = match call.args.flag("return_im") {
        true => chat.conversation(caller, &id).await?.view(&caller.user),
        false => serde_json::json!({ "id": id.as_str() }),
    };
    Ok(answer.with("channel", view))
}

async fn close(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    chat.own_direct(caller, &id).await?;
    let answer = Answer::ok();
    Ok(match chat.set_open(caller, &id, false).await? {
        true => answer,
        false => answer.with("no_op", true).with("already_closed", true),
    })
}

impl Chat {
    async fn own_direct(&self, caller: &Caller, id: &Id) -> Result<Conversation, Failure> {
        let conversation = self.conversation(caller, id).await?;
        match conversation.shape.is_channel() {
            true => Err(Failure::new("method_not_supported_for_channel_type")),
            false => Ok(conversation),
        }
    }

    /// Who is to be in a direct conversation: those whom a call names, and the caller.
    async fn parties(&self, caller: &Caller, call: &Call) -> Result<BTreeSet<Id>, Failure> {
        let named: BTreeSet<String> = call.args.list("users").into_iter().collect();
        if named.is_empty() {
            return Err(Failure::new("users_list_not_supplied"));
        }
        if named.len() > USERS_MAX {
            return Err(Failure::new("too_many_users"));
        }
        let mut users = BTreeSet::from([caller.user.clone()]);
        for user in named {
            let not_found = || Failure::new("user_not_found");
            let id = Id::parse(Kind::User, &user).ok_or_else(not_found)?;
            let user = self.user(&caller.team, &id).await?;
            if user.is_deleted {
                return Err(Failure::new("user_disabled"));
            }
            users.insert(id);
        }
        match users.len() > USERS_MAX {
            true => Err(Failure::new("too_many_users")),
            false => Ok(users),
        }
    }

    /// The conversation of some users, made if there is none. Whether it was.
    async fn direct(
        &self,
        caller: &Caller,
        users: &BTreeSet<Id>,
        only_old: bool,
    ) -> Result<(Id, bool), Failure> {
        let key: Vec<&str> = users.iter().map(Id::as_str).collect();
        let key = key.join(",");
        if let Some(id) = self.direct_of(&caller.team, &key).await? {
            return Ok((id, false));
        }
        if only_old {
            return Err(Failure::new("channel_not_found"));
        }
        let (id, transaction) = making(caller, users, &key)?;
        match self.engine.transact(transaction).await {
            Ok(_) => Ok((id, true)),
            // Somebody else has made it just now.
            Err(TransactError::Exists { .. }) => {
                let id = self.direct_of(&caller.team, &key).await?;
                let id =
                    id.ok_or_else(|| Failure::internal("a conversation is there and is not"))?;
                Ok((id, false))
            }
            Err(TransactError::Refused { .. }) => Err(Failure::new("user_not_found")),
            Err(error) => Err(error.into()),
        }
    }

    async fn direct_of(&self, team: &Id, key: &str) -> Result<Option<Id>, Failure> {
        let rows = self
            .engine
            .query(SELECT_BY_KEY, vec![team.into(), key.into()])
            .await?;
        Ok(rows.first().and_then(|row| row.text(0)).map(Id::known))
    }

    /// Puts it into the caller's list, or takes it out. Whether that is something new. It is the caller's own matter: the conversation does
    /// not change.
    async fn set_open(&self, caller: &Caller, id: &Id, is_open: bool) -> Result<bool, Failure> {
        let params: Vec<Sql> = vec![id.into(), (&caller.user).into(), is_open.into()];
        let transaction = Transaction {
            steps: vec![Step::some(SET_OPEN, params)],
            drafts: vec![notice::opened(id, &caller.user, is_open)?],
            ..Transaction::default()
        };
        match self.engine.transact(transaction).await {
            Ok(_) => Ok(true),
            Err(TransactError::Refused { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes a conversation. Nothing has happened in it yet, so there is nothing to be told but to those who are in it.
fn making(caller: &Caller, users: &BTreeSet<Id>, key: &str) -> Result<(Id, Transaction), Failure> {
    let (shape, kind) = match users.len() {
        0..=2 => (Shape::Direct, Kind::Direct),
        _ => (Shape::Group, Kind::Group),
    };
    let (id, now) = (Id::random(kind)?, unix_seconds());
    let count = i64::try_from(users.len()).unwrap_or(i64::MAX);
    let insert: Vec<Sql> = vec![
        (&id).into(),
        (&caller.team).into(),
        shape.name().into(),
        key.into(),
        (&caller.user).into(),
        now.into(),
        count.into(),
    ];
    let mut transaction = Transaction {
        steps: vec![Step::some(INSERT, insert)],
        ..Transaction::default()
    };
    let nothing = || Noted {
        value: String::new(),
        by: String::new(),
        at: 0,
    };
    let conversation = Conversation {
        id: id.clone(),
        team: caller.team.clone(),
        shape,
        name: None,
        direct_key: Some(key.to_owned()),
        topic: nothing(),
        purpose: nothing(),
        creator: caller.user.clone(),
        created: now,
        is_archived: false,
        is_general: false,
        members: count,
        last_ts: Ts::ZERO,
        last_message: Ts::ZERO,
        membership: Some(Membership {
            last_read: Ts::ZERO,
            is_open: true,
        }),
    };
    for user in users {
        let member: Vec<Sql> = vec![(&id).into(), user.into(), now.into(), (&caller.team).into()];
        transaction.steps.push(Step::some(INSERT_MEMBER, member));
        let draft = notice::came(&conversation, user, Ts::now())?;
        transaction.drafts.push(draft);
    }
    Ok((id, transaction))
}
