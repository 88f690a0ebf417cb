//! Whether the Redis behind a URL keeps state for this user.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_engine::port::{
    State,
    state::{
        Announce, Bucket, Change, Expected, Held, Lease, Per, StateError, StateEvents, StateHealth,
        StateKey, Tell,
    },
};
use fanfare_wire::{ChannelName, Epoch, Json, News, NewsBody};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Finding;
use crate::redis::{PREFIX_DEFAULT, state::RedisState};

/// How long a state may take to come up.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what is left behind lives.
const TTL: Duration = Duration::from_secs(1);

/// Starts a state of its own, on keys that no server uses, does everything with it once, and takes it away again. A server
/// that is refused for its eviction was told of already.
pub(super) async fn examine_state(url: &str) -> Option<Finding> {
    let name = Uuid::new_v4().simple().to_string();
    let state = Epoch::parse(&name).map(|epoch| RedisState::connect(url, &epoch, PREFIX_DEFAULT));
    let Some(Ok(state)) = state else {
        return Some(Finding::fail("a state cannot be made from this URL"));
    };
    state.start(Arc::new(Deaf));
    let up = async {
        while state.health() != StateHealth::Up {
            if let Some(StateError::Unfit(_)) = state.trouble() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    // What is in the way then is told by the first call.
    let _ = timeout(STATE_TIMEOUT, up).await;
    match use_all(&state).await {
        Ok(time) => Some(Finding::ok(format!(
            "state works; a change takes {:.2} ms",
            time.as_secs_f64() * 1e3
        ))),
        Err(StateError::Unfit(_)) => None,
        Err(StateError::Unavailable(why)) => Some(Finding::fail(format!(
            "state cannot be kept, so presence and rooms are those of each server alone: {why}; allow the user the keys \
             {PREFIX_DEFAULT}:* and the commands of docs/redis.md"
        ))),
    }
}

/// Every call of the port once. Returns how long a change took.
async fn use_all(state: &RedisState) -> Result<Duration, StateError> {
    let unusable = |_| StateError::Unavailable("its own key is no key".to_owned());
    let channel = ChannelName::parse("doctor")
        .map_err(|_| StateError::Unavailable("its own channel is no channel".to_owned()))?;
    let key = StateKey::of("doctor", &channel).map_err(unusable)?;
    let null = Json::trusted(b"null".as_slice().into());
    let change = |value: Option<Json>| Change {
        expected: Expected::Anything,
        value,
        ttl: TTL,
        tell: Some(Tell { tags: None }),
    };
    state.change(&key, change(Some(null.clone()))).await?;
    let begin = Instant::now();
    state.change(&key, change(None)).await?;
    let time = begin.elapsed();
    state.object(&key).await?;
    let held = Held {
        scope: key.clone(),
        holder: Uuid::new_v4(),
    };
    let lease = Lease {
        held: held.clone(),
        member: "doctor".to_owned(),
        info: null.clone(),
        ttl: Some(TTL),
        capacity: Some(1),
        announce: Some(Announce {
            per: Per::Member,
            joined: None,
            left: NewsBody::Leave { info: null },
        }),
    };
    state.enter(&[lease]).await?;
    let held = [held];
    state.renew(&held).await?;
    state.leases(&key, 1).await?;
    state.count(&key).await?;
    state.leave(&held).await?;
    let bucket = Bucket {
        capacity: 1,
        refill: 1,
        period: TTL,
    };
    state.take(&key, bucket, 1).await?;
    state.erase().await?;
    Ok(time)
}

/// Hears nothing.
struct Deaf;

impl StateEvents for Deaf {
    fn on_news(&self, _: News) {}

    fn on_up(&self) {}

    fn on_down(&self) {}
}
