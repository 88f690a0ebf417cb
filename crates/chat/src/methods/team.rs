//! `team.info`, `bots.info`, `emoji.list`: the workspace, and what belongs to it.

use std::sync::Arc;

use serde_json::json;

use crate::{
    Chat,
    failure::Failure,
    id::{Id, Kind},
    method::{Answer, Call, Method, method},
    user::{User, user_columns},
};

pub(crate) const METHODS: &[Method] = &[
    method!("team.info", User, Three, team_info),
    method!("bots.info", User, Three, bots_info),
    method!("emoji.list", User, Two, emoji_list),
];

const SELECT_BOT: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM chat_users u WHERE u.team = $1 AND u.bot = $2"
);

async fn team_info(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let asked = call.args.text("team");
    if asked.is_some_and(|team| team != caller.team.as_str()) {
        return Err(Failure::new("team_not_found"));
    }
    let team = chat.team(&caller.team).await?;
    let view = json!({
        "id": caller.team.as_str(), "name": team.name, "domain": team.domain, "url": chat.page_url(), "email_domain": "", "icon": {},
    });
    Ok(Answer::ok().with("team", view))
}

async fn bots_info(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let not_found = || Failure::new("bot_not_found");
    let bot = call.args.need("bot")?;
    let bot = Id::parse(Kind::Bot, &bot).ok_or_else(not_found)?;
    let params = vec![(&caller.team).into(), (&bot).into()];
    let rows = chat.engine.query(SELECT_BOT, params).await?;
    let user = rows.first().map(User::read).transpose()?;
    let user = user.ok_or_else(not_found)?;
    let view = json!({
        "id": bot.as_str(), "deleted": user.is_deleted, "name": user.real_name, "updated": user.updated,
        "app_id": user.app.as_ref().map(Id::as_str), "user_id": user.id.as_str(), "icons": {},
    });
    Ok(Answer::ok().with("bot", view))
}

/// There are none of one's own.
async fn emoji_list(_: Arc<Chat>, _: Call) -> Result<Answer, Failure> {
    Ok(Answer::ok().with("emoji", json!({})))
}
