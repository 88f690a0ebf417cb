//! Who, and how many, are in a channel.

use fanfare_wire::{
    ChannelName,
    centrifuge::{ErrorCode, errors, put_presence},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answered, ApiResult, parse_channel, to_json, understood};
use crate::{Gateway, presence::remarks};

#[derive(Deserialize)]
struct PresenceRequest {
    channel: String,
}

#[derive(Serialize)]
struct StatsResult {
    num_clients: u64,
    num_users: u64,
    /// Present when the shared state does not answer, so that only this node's own clients are counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
}

/// `POST /api/presence`.
pub(super) async fn presence(gateway: &Gateway, body: &[u8]) -> Answered {
    Some(match channel_of(gateway, body)? {
        Ok(channel) => members_of(gateway, &channel).await,
        Err(error) => Err(error.into()),
    })
}

/// `POST /api/presence_stats`.
pub(super) async fn presence_stats(gateway: &Gateway, body: &[u8]) -> Answered {
    Some(match channel_of(gateway, body)? {
        Ok(channel) => count_of(gateway, &channel).await,
        Err(error) => Err(error.into()),
    })
}

/// The channel of a request, if it keeps presence; `None` if the request cannot be understood.
fn channel_of(gateway: &Gateway, body: &[u8]) -> Option<Result<ChannelName, ErrorCode>> {
    let request: PresenceRequest = understood(body)?;
    let channel = parse_channel(gateway, &request.channel);
    let keeps = |channel: ChannelName| {
        let options = gateway.config.rules.of(&channel);
        match options.is_some_and(|options| options.presence.is_some()) {
            true => Ok(channel),
            false => Err(errors::NOT_AVAILABLE),
        }
    };
    Some(channel.and_then(keeps))
}

/// How many are in a channel.
pub(crate) async fn count_of(gateway: &Gateway, channel: &ChannelName) -> ApiResult {
    let counted = gateway.engine.presence().count(channel).await;
    to_json(&StatsResult {
        num_clients: counted.count.holders,
        num_users: counted.count.members,
        degraded: counted.degraded,
    })
}

/// Who is in a channel.
pub(crate) async fn members_of(gateway: &Gateway, channel: &ChannelName) -> ApiResult {
    let members = gateway.engine.presence().members(channel).await;
    let infos = members.holders.iter().map(|it| (it.holder, &it.info));
    let mut out = Vec::new();
    put_presence(infos, &remarks(&members), &mut out);
    let out = String::from_utf8(out).map_err(|_| errors::INTERNAL)?;
    RawValue::from_string(out).map_err(|_| errors::INTERNAL.into())
}
