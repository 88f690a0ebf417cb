//! The namespace `/`, built in: channels for clients that have no app behind them. They subscribe, publish and look back
//! with the same rights, tokens and error codes as clients of the Centrifuge protocol.

mod called;
mod guest;
mod requests;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use fanfare_engine::port::BoxFuture;
use fanfare_wire::{
    Json,
    centrifuge::{ErrorCode, errors},
    socketio::MAIN,
};
use serde::Deserialize;
use serde_json::json;

use self::guest::Guest;
use super::{Client, Events, Namespace};
use crate::{
    Gateway,
    token::{ConnectionClaims, TokenError},
};

/// The namespace.
pub(super) struct Main {
    gateway: Weak<Gateway>,
}

/// What clients give as `auth`.
#[derive(Default, Deserialize)]
struct Auth {
    /// A connection token.
    #[serde(default)]
    token: String,
    /// Subscription tokens by channel, for the channels that the client comes back to.
    #[serde(default)]
    tokens: HashMap<String, String>,
}

/// Why a client is not let in.
enum Refusal {
    /// It would be no other the next time.
    Never(ErrorCode),
    /// It should come back.
    Later,
}

impl Main {
    pub(super) fn new(gateway: Weak<Gateway>) -> Self {
        Self { gateway }
    }
}

impl Namespace for Main {
    fn name(&self) -> &str {
        MAIN
    }

    fn serve(self: Arc<Self>, client: Client, events: Events) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Some(gateway) = self.gateway.upgrade() else {
                return;
            };
            let auth: Auth = client.handshake().auth_as().unwrap_or_default();
            let claims = match identify(&gateway, &auth.token).await {
                Ok(claims) => claims,
                Err(Refusal::Later) => return client.reconnect(),
                Err(Refusal::Never(error)) => {
                    let code = json!({ "code": error.code }).to_string();
                    return client.refuse(error.message, Some(Json::trusted(code.into())));
                }
            };
            let mut guest = Guest::new(Arc::clone(&gateway), client.clone(), claims);
            if !gateway.commands.are_heard() {
                // A command could pass it by.
                return client.reconnect();
            }
            if guest.enter(&auth.tokens).await.is_ok() {
                guest.attend_to(events).await;
            }
        })
    }
}

/// Who a client is; `None` for an anonymous one.
async fn identify(
    gateway: &Gateway,
    token: &str,
) -> Result<Option<Arc<ConnectionClaims>>, Refusal> {
    if token.is_empty() {
        return match gateway.takes_anonymous() {
            true => Ok(None),
            false => Err(Refusal::Never(errors::UNAUTHORIZED)),
        };
    }
    match gateway.sessions.connection_soon(token).await {
        Ok(claims) => Ok(Some(claims)),
        Err(TokenError::Expired) => Err(Refusal::Never(errors::TOKEN_EXPIRED)),
        Err(TokenError::NotYet) => Err(Refusal::Later),
        Err(TokenError::Invalid(_)) => Err(Refusal::Never(errors::UNAUTHORIZED)),
    }
}
