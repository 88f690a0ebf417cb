//! `users.info`, `list`, `getPresence`, `setPresence`, `profile.get`, `lookupByEmail`: who is in the workspace, and who is here.

use std::sync::Arc;

use fanfare_engine::port::{
    TransactError, Transaction,
    tables::{Step, Value as Sql},
};
use serde_json::{Value, json};

use crate::{
    Chat,
    failure::Failure,
    id::Id,
    method::{Answer, Call, Method, method},
    notice,
    page::Page,
    ts::Ts,
    unix_seconds,
    user::{User, user_columns},
};

pub(crate) const METHODS: &[Method] = &[
    method!("users.info", User, Four, info),
    method!("users.list", User, Two, list),
    method!("users.getPresence", User, Three, get_presence),
    method!("users.setPresence", User, Two, set_presence),
    method!("users.profile.get", User, Four, profile),
    method!("users.lookupByEmail", User, Three, by_email),
];

const SELECT_LIST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM chat_users u WHERE u.team = $1 AND u.id > $2 ORDER BY u.id LIMIT $3"
);

const SELECT_BY_EMAIL: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM chat_users u WHERE u.team = $1 AND u.email = $2 AND u.deleted = 0"
);

const SET_AWAY: &str = "UPDATE chat_users SET away = $2, updated = $3 WHERE id = $1 AND away <> $2";

async fn info(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let user = chat.user(&call.caller()?.team, &call.args.user()?).await?;
    Ok(Answer::ok().with("user", user.view()))
}

async fn list(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let page = Page::read(&call.args)?;
    let params: Vec<Sql> = vec![
        (&caller.team).into(),
        page.after.as_str().into(),
        page.rows().into(),
    ];
    let rows = chat.engine.query(SELECT_LIST, params).await?;
    let users = rows.iter().map(User::read).collect::<Result<Vec<_>, _>>()?;
    let (users, answer) = page.cut(users, |user| user.id.as_str(), Answer::ok());
    let views = users.iter().map(User::view);
    Ok(answer
        .with("members", views.collect::<Vec<Value>>())
        .with("cache_ts", unix_seconds()))
}

/// The user of a call, or the caller.
async fn asked(chat: &Chat, call: &Call) -> Result<User, Failure> {
    let caller = call.caller()?;
    let id = match call.args.text("user") {
        Some(_) => call.args.user()?,
        None => caller.user.clone(),
    };
    chat.user(&caller.team, &id).await
}

async fn get_presence(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let user = asked(&chat, &call).await?;
    let count = chat.connections(&user).await?;
    let answer = Answer::ok().with("presence", user.presence(count > 0));
    Ok(match user.id == call.caller()?.user {
        // The rest is the user's own business.
        true => answer
            .with("online", count > 0)
            .with("auto_away", false)
            .with("manual_away", user.is_away)
            .with("connection_count", count),
        false => answer,
    })
}

async fn set_presence(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let is_away = match call.args.need("presence")?.as_str() {
        "away" => true,
        "auto" | "active" => false,
        _ => return Err(Failure::new("invalid_presence")),
    };
    let presence = if is_away { "away" } else { "active" };
    let event = json!({
        "type": "presence_change", "user": caller.user.as_str(), "presence": presence, "event_ts": Ts::now().to_string(),
    });
    let params: Vec<Sql> = vec![(&caller.user).into(), is_away.into(), unix_seconds().into()];
    let transaction = Transaction {
        steps: vec![Step::some(SET_AWAY, params)],
        drafts: vec![notice::to_team(&caller.team, &event)?],
        ..Transaction::default()
    };
    match chat.engine.transact(transaction).await {
        // It was so before.
        Ok(_) | Err(TransactError::Refused { .. }) => Ok(Answer::ok()),
        Err(error) => Err(error.into()),
    }
}

async fn profile(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let user = asked(&chat, &call).await?;
    Ok(Answer::ok().with("profile", user.profile()))
}

async fn by_email(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let email = call.args.need("email")?.trim().to_lowercase();
    let params = vec![(&call.caller()?.team).into(), email.into()];
    let rows = chat.engine.query(SELECT_BY_EMAIL, params).await?;
    let user = rows.first().map(User::read).transpose()?;
    let user = user.ok_or_else(|| Failure::new("users_not_found"))?;
    Ok(Answer::ok().with("user", user.view()))
}

impl Chat {
    /// How many connections a user has, as far as presence lists them.
    async fn connections(&self, user: &User) -> Result<usize, Failure> {
        let channel = user.team.channel(crate::TEAMS)?;
        let members = self.engine.presence().members(&channel).await;
        let of_user = members.holders.iter();
        let id: &Id = &user.id;
        Ok(of_user.filter(|it| it.member == id.as_str()).count())
    }
}
