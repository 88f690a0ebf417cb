//! `apps.create`, `chat.deactivate`, `chat.tokens.create`, `list`, `revoke`: bots, tokens of one's own, and the end of an account.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Step, Value as Sql},
};
use fanfare_gateway::{commands::disconnect_draft, sessions::Revocation};
use serde_json::{Value, json};

use crate::{
    Chat,
    account::{self, Proof},
    caller::{Caller, Credential, INSERT_TOKEN, digest_of, token_values},
    failure::Failure,
    id::{Id, Kind},
    method::{Answer, Call, Method, method},
    notice,
    ts::Ts,
    unix_seconds,
    user::User,
};

pub(crate) const METHODS: &[Method] = &[
    method!("apps.create", Admin, One, create_app),
    method!("chat.deactivate", Admin, Two, deactivate),
    method!("chat.tokens.create", User, One, create_token),
    method!("chat.tokens.list", User, Two, list_tokens),
    method!("chat.tokens.revoke", User, Two, revoke_token),
];

/// Tokens of one's own that somebody may have.
const TOKENS_MAX: i64 = 20;
/// How often a name that is taken is made another one.
const TRIES: usize = 4;
/// What a connection is told whose user is no user any more. SDKs do not come again after it.
const DEACTIVATED: (u16, &str) = (3503, "account deactivated");

const INSERT_APP: &str =
    "INSERT INTO chat_apps (id, team, name, bot_user, created) VALUES ($1, $2, $3, $4, $5)";
const DEACTIVATE: &str =
    "UPDATE chat_users SET deleted = 1, updated = $3 WHERE id = $1 AND team = $2 AND deleted = 0";
const DELETE_TOKENS: &str = "DELETE FROM chat_tokens WHERE user_id = $1";
/// Holds the user's row, so that those who count tokens do it one after the other.
const LOCK_USER: &str = "UPDATE chat_users SET updated = updated WHERE id = $1 AND deleted = 0";
const HAS_ROOM: &str = "SELECT 1 FROM chat_users WHERE id = $1 AND \
    (SELECT COUNT(*) FROM chat_tokens WHERE user_id = $1 AND kind = 'user') < $2";
const SELECT_TOKENS: &str = "SELECT digest, created FROM chat_tokens WHERE user_id = $1 AND kind = 'user' ORDER BY created, digest LIMIT 100";

async fn create_app(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let name = account::real_name(&call.args)?;
    for attempt in 0..TRIES {
        let (transaction, answer) = new_app(caller, &name, attempt > 0)?;
        match chat.engine.transact(transaction).await {
            Ok(_) => return Ok(answer),
            Err(TransactError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new("name_taken"))
}

/// An app, its bot and their tokens, which are shown once.
fn new_app(caller: &Caller, name: &str, is_taken: bool) -> Result<(Transaction, Answer), Failure> {
    let (app, now) = (Id::random(Kind::App)?, unix_seconds());
    let user = User {
        id: Id::random(Kind::User)?,
        team: caller.team.clone(),
        name: account::handle(name, is_taken)?,
        real_name: name.to_owned(),
        email: None,
        app: Some(app.clone()),
        bot: Some(Id::random(Kind::Bot)?),
        is_admin: false,
        is_deleted: false,
        is_away: false,
        updated: now,
    };
    let insert: Vec<Sql> = vec![
        (&app).into(),
        (&caller.team).into(),
        name.into(),
        (&user.id).into(),
        now.into(),
    ];
    let mut steps = vec![
        Step::some(INSERT_APP, insert),
        account::insert(&user, Proof::None),
    ];
    let mut answer = Answer::ok()
        .with("app_id", &app)
        .with("bot_user_id", &user.id)
        .with("bot_id", user.bot.as_ref().map(Id::as_str));
    for (field, credential) in [
        ("bot_token", Credential::Bot),
        ("app_token", Credential::App),
    ] {
        let token = credential.draw()?;
        let values = token_values(
            &token,
            credential,
            (&caller.team, &user.id, Some(&app)),
            None,
        );
        steps.push(Step::some(INSERT_TOKEN, values));
        answer = answer.with(field, token);
    }
    let event =
        json!({ "type": "team_join", "user": user.view(), "event_ts": Ts::now().to_string() });
    let transaction = Transaction {
        steps,
        drafts: vec![notice::to_team(&caller.team, &event)?],
        ..Transaction::default()
    };
    Ok((transaction, answer))
}

/// Tokens, sessions and connections end with the commit, on all nodes.
async fn deactivate(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let mut user = chat.user(&caller.team, &call.args.user()?).await?;
    if user.id == caller.user {
        return Err(Failure::new("cant_deactivate_self"));
    }
    let now = unix_seconds();
    (user.is_deleted, user.updated) = (true, now);
    let told =
        json!({ "type": "user_change", "user": user.view(), "event_ts": Ts::now().to_string() });
    let own = json!({ "type": "account_deactivated", "event_ts": Ts::now().to_string() });
    let revocation = Revocation::User {
        user: user.id.to_string(),
        until: now,
    };
    let (code, reason) = DEACTIVATED;
    let end = disconnect_draft(user.id.as_str(), code, reason).map_err(Failure::internal)?;
    let update: Vec<Sql> = vec![(&user.id).into(), (&caller.team).into(), now.into()];
    let transaction = Transaction {
        steps: vec![
            Step::some(DEACTIVATE, update),
            Step::new(DELETE_TOKENS, vec![(&user.id).into()]),
        ],
        drafts: vec![
            notice::to_user(&user.id, &own)?,
            notice::to_team(&caller.team, &told)?,
            revocation.draft().map_err(Failure::internal)?,
            end,
        ],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        Ok(_) => Ok(Answer::ok()),
        Err(TransactError::Refused { .. }) => Err(Failure::new("user_not_found")),
        Err(error) => Err(error.into()),
    }
}

/// The caller, if it is a person.
fn person(call: &Call) -> Result<&Caller, Failure> {
    let caller = call.caller()?;
    match caller.bot.is_none() {
        true => Ok(caller),
        false => Err(Failure::new("not_allowed_token_type")),
    }
}

async fn create_token(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = person(&call)?;
    let token = Credential::User.draw()?;
    let values = token_values(
        &token,
        Credential::User,
        (&caller.team, &caller.user, None),
        None,
    );
    let transaction = Transaction {
        steps: vec![
            Step::some(LOCK_USER, vec![(&caller.user).into()]),
            Step::some(HAS_ROOM, vec![(&caller.user).into(), TOKENS_MAX.into()]),
            Step::some(INSERT_TOKEN, values),
        ],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        Ok(_) => Ok(Answer::ok()
            .with("id", digest_of(&token))
            .with("token", token)),
        Err(TransactError::Refused { step: 1 }) => Err(Failure::new("too_many_tokens")),
        Err(TransactError::Refused { .. }) => Err(Failure::new("account_inactive")),
        Err(error) => Err(error.into()),
    }
}

async fn list_tokens(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = person(&call)?;
    let rows = chat
        .engine
        .query(SELECT_TOKENS, vec![(&caller.user).into()])
        .await?;
    let tokens = rows.iter().filter_map(|row| {
        let (id, created) = (row.text(0)?, row.int(1)?);
        Some(json!({ "id": id, "created": created, "is_current": id == caller.digest }))
    });
    Ok(Answer::ok().with("tokens", tokens.collect::<Vec<Value>>()))
}

async fn revoke_token(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = person(&call)?;
    let id = call.args.need("id")?;
    let rows = chat
        .engine
        .query(SELECT_TOKENS, vec![(&caller.user).into()])
        .await?;
    let is_own = rows.iter().any(|row| row.text(0) == Some(&*id));
    if !is_own {
        return Err(Failure::new("token_not_found"));
    }
    chat.end_token(&id, &caller.user).await?;
    Ok(Answer::ok())
}
