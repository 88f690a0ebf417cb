//! `apps.connections.open`: where an app is told what happens (see [`socket_mode`](crate::socket_mode)).

use std::sync::Arc;

use crate::{
    Chat,
    failure::Failure,
    method::{Answer, Call, Method, method},
};

pub(crate) const METHODS: &[Method] = &[method!("apps.connections.open", App, Two, open)];

async fn open(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let ticket = chat.draw_ticket(call.caller()?).await?;
    let url = chat.socket_url(call.host.as_deref(), &ticket)?;
    Ok(Answer::ok().with("url", url))
}
