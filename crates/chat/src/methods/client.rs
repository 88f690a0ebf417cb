//! What a page needs beside Slack's methods: `client.token`, `conversations.typing`.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::state::Bucket;
use fanfare_gateway::token::ConnectionClaims;
use fanfare_wire::{News, NewsBody};
use serde_json::json;

use crate::{
    Chat,
    change::json_of,
    failure::Failure,
    method::{Answer, Call, Method, method},
    unix_seconds,
};

pub(crate) const METHODS: &[Method] = &[
    method!("client.token", User, Three, token),
    method!("conversations.typing", User, Own, typing),
];

/// How long a token for a connection holds; clients fetch another one in time.
const TOKEN_SECONDS: i64 = 600;

async fn token(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let signer = chat.config.signer.as_ref();
    let signer = signer.ok_or_else(|| Failure::new("not_configured"))?;
    let now = unix_seconds();
    let claims = ConnectionClaims {
        sub: caller.user.to_string(),
        iat: Some(now),
        exp: Some(now + TOKEN_SECONDS),
        // What is revoked when the session or the token is taken back.
        jti: Some(caller.session()),
        ..ConnectionClaims::default()
    };
    let token = signer.sign_connection(&claims).map_err(Failure::internal)?;
    Ok(Answer::ok()
        .with("token", token)
        .with("expires_in", TOKEN_SECONDS))
}

/// It is news: whoever is not there just then does not hear of it.
async fn typing(chat: Arc<Chat>, call: Call) -> Result<Answer, Failure> {
    let caller = call.caller()?;
    let id = call.args.conversation()?;
    let bucket = Bucket {
        capacity: 30_u32.saturating_mul(chat.config.ease()),
        refill: 30_u32.saturating_mul(chat.config.ease()),
        period: Duration::from_secs(60),
    };
    chat.limit("typing", caller.user.as_str(), bucket).await?;
    let conversation = chat.own_conversation(caller, &id).await?;
    if conversation.is_archived {
        return Err(Failure::new("is_archived"));
    }
    let event =
        json!({ "type": "user_typing", "channel": id.as_str(), "user": caller.user.as_str() });
    chat.engine.tell(News {
        channel: id.channel(crate::CONVERSATIONS)?,
        body: NewsBody::Message {
            data: json_of(&event)?,
            info: None,
            tags: None,
        },
    });
    Ok(Answer::ok())
}
