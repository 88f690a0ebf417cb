//! Presence, for all gateways: whose subscriptions count, who may ask who is there, and who is told.

use std::sync::Arc;

use fanfare_engine::{Attendance, Attendee};
use fanfare_wire::{
    ChannelName, Json,
    centrifuge::{ErrorCode, PresenceResult, errors},
};
use uuid::Uuid;

use crate::{
    Gateway,
    access::{Circle, Standing},
};

impl Gateway {
    /// Counts a client as there, if the channel keeps presence, for as long as what is returned lives.
    pub(crate) fn attend(
        &self,
        channel: &ChannelName,
        who: impl FnOnce() -> Arc<Attendee>,
    ) -> Option<Attendance> {
        let options = self.config.rules.of(channel)?;
        options.presence?;
        let presence = self.engine.presence();
        Some(presence.enter(channel, &who(), options.join_leave))
    }

    /// Whether a client may ask who is there.
    pub(crate) fn may_see_presence(
        &self,
        channel: &ChannelName,
        client: Standing,
    ) -> Result<(), ErrorCode> {
        let options = self.config.rules.of(channel);
        let options = options.ok_or(errors::UNKNOWN_CHANNEL)?;
        match options.presence {
            None => Err(errors::NOT_AVAILABLE),
            Some(access) if access.permits(client) => Ok(()),
            Some(_) => Err(errors::PERMISSION_DENIED),
        }
    }

    /// Whether a subscriber is told who joins and leaves, if it asks to be.
    pub(crate) fn may_see_joins(&self, channel: &ChannelName, authenticated: bool) -> bool {
        let standing = Standing {
            authenticated,
            subscribed: true,
            circle: Circle::Open,
        };
        let options = self.config.rules.of(channel);
        options.is_some_and(|options| options.join_leave)
            && self.may_see_presence(channel, standing).is_ok()
    }
}

/// What is told to others about a client.
pub(crate) fn client_info(user: &str, client: Uuid, conn_info: Option<&Json>) -> Json {
    let user = serde_json::Value::from(user);
    let mut text = format!("{{\"user\":{user},\"client\":\"{client}\"").into_bytes();
    if let Some(conn_info) = conn_info {
        text.extend_from_slice(b",\"conn_info\":");
        text.extend_from_slice(conn_info.as_bytes());
    }
    text.push(b'}');
    Json::trusted(text.into())
}

/// What is said about members beside who they are.
pub(crate) fn remarks(members: &fanfare_engine::Members) -> PresenceResult {
    PresenceResult {
        total: members.total,
        degraded: members.degraded,
    }
}
