//! `POST /api/history_remove`: a channel's publications go, its numbers go on.
//!
//! They go from the log first, then from the memory of the nodes. A subscriber that has not seen them is told that they are gone, wherever it is.

use fanfare_wire::centrifuge::errors;
use serde::Deserialize;

use super::{Answered, ApiResult, commit, nothing, parse_channel, understood};
use crate::{Gateway, commands::Command};

#[derive(Deserialize)]
struct RemoveRequest {
    channel: String,
}

/// `POST /api/history_remove`.
pub(super) async fn history_remove(gateway: &Gateway, body: &[u8]) -> Answered {
    Some(remove(gateway, understood(body)?).await)
}

async fn remove(gateway: &Gateway, request: RemoveRequest) -> ApiResult {
    let channel = parse_channel(gateway, &request.channel)?;
    // What is published meanwhile stays.
    let head = gateway.engine.head(&channel).await;
    let (_, head) = head.map_err(|_| errors::INTERNAL)?;
    let removed = gateway.engine.remove(&channel, head.seq).await;
    let (epoch, head) = removed.map_err(|_| errors::INTERNAL)?;
    if head.trimmed.0 == 0 {
        return nothing();
    }
    gateway.engine.forget(&channel, &epoch, head.trimmed);
    let forget = Command::Forget {
        channel: channel.as_str().to_owned(),
        epoch: epoch.as_str().to_owned(),
        up_to: head.trimmed.0,
    };
    commit(gateway, forget.draft().map_err(|_| errors::INTERNAL)?).await
}
