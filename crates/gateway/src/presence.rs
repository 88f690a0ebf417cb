//! Presence, for all gateways: whose subscriptions count, who may ask who is there, and who is told.

use std::sync::Arc;

use fanfare_engine::{Announced, Attendance, Attendee};
use fanfare_wire::{ChannelName, Json, centrifuge::PresenceResult};
use uuid::Uuid;

use crate::{
    Gateway,
    access::{JoinLeavePer, Overrides, Right, Terms},
    rights::Asker,
    token::ConnectionClaims,
};

impl Gateway {
    /// Counts a client as there, if the channel keeps presence and the terms of its subscription do not say otherwise, for as long
    /// as what is returned lives.
    pub(crate) fn attend(
        &self,
        channel: &ChannelName,
        terms: Option<&Terms>,
        who: impl FnOnce() -> Arc<Attendee>,
    ) -> Option<Attendance> {
        let options = self.config.rules.of(channel)?;
        options.presence?;
        let overrides = terms.map_or_else(Overrides::default, |terms| terms.overrides);
        if !overrides.counts() {
            return None;
        }
        let announced = match options.join_leave_per {
            _ if !options.join_leave || !overrides.is_announced() => Announced::Never,
            JoinLeavePer::Client => Announced::PerClient,
            JoinLeavePer::User => Announced::PerUser,
        };
        let presence = self.engine.presence();
        Some(presence.enter(channel, &who(), announced))
    }

    /// Whether a subscriber on these terms is told who joins and leaves; `asks` for it or not.
    pub(crate) fn may_see_joins(
        &self,
        claims: Option<&ConnectionClaims>,
        channel: &ChannelName,
        terms: Option<&Terms>,
        asks: bool,
    ) -> bool {
        let Ok(options) = self.options(channel) else {
            return false;
        };
        let forced = terms.and_then(|terms| terms.overrides.is_told_of_joins());
        let told = match forced {
            Some(told) => told,
            None if options.force_push_join_leave => true,
            None => {
                let asker = Asker::subscriber(claims, terms);
                asks && self.may(Right::Presence, channel, asker).is_ok()
            }
        };
        options.join_leave && told
    }
}

/// What is told to others about a client; `chan_info` is what its subscription says beside.
pub(crate) fn client_info(
    user: &str,
    client: Uuid,
    conn_info: Option<&Json>,
    chan_info: Option<&Json>,
) -> Json {
    let user = serde_json::Value::from(user);
    let mut text = format!("{{\"user\":{user},\"client\":\"{client}\"").into_bytes();
    for (name, info) in [("conn_info", conn_info), ("chan_info", chan_info)] {
        if let Some(info) = info {
            text.extend_from_slice(format!(",\"{name}\":").as_bytes());
            text.extend_from_slice(info.as_bytes());
        }
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
