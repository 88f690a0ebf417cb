//! `auth.test`, `api.test`: who one is, and whether anybody listens.

use std::sync::Arc;

use crate::{
    Chat,
    failure::Failure,
    method::{Answer, Call, Method, method},
};

pub(crate) const METHODS: &[Method] = &[
    method!("api.test", Anyone, Four, api_test),
    method!("auth.test", User, Four, auth_test),
];

async fn api_test(_: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    match call.args.text("error") {
        Some(error) => Err(Failure {
            code: error.into(),
            ..Failure::new("")
        }),
        None => Ok(Answer::ok()),
    }
}

async fn auth_test(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let team = chat.team(&caller.team).await?;
    let mut answer = Answer::ok()
        .with("url", chat.page_url())
        .with("team", team.name)
        .with("user", caller.name.as_str())
        .with("team_id", &caller.team)
        .with("user_id", &caller.user)
        .with("is_enterprise_install", false);
    if let Some(bot) = &caller.bot {
        answer = answer.with("bot_id", bot);
    }
    Ok(answer)
}
