//! Healing: what the bus did not bring is fetched from the log, once per node and channel.

use std::{sync::Arc, time::Duration};

use fanfare_wire::Run;
use tokio::time::Instant;
use tracing::warn;

pub(crate) use crate::metrics::Cause;
use crate::{
    channels::Channel,
    metrics::Metrics,
    port::{Direction, Head, Log, LogError, ReadRange},
};

/// How long a hint that is merely late may take before the log is asked.
const REORDER_WAIT: Duration = Duration::from_millis(20);
/// How long to wait after the log did not answer.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Publications fetched at once.
const FETCH_MAX: usize = 512;

/// Fetches the channel's holes until there are none. Called in the moment in which the first one was noticed.
pub(crate) fn spawn(
    channel: Arc<Channel>,
    log: &Arc<dyn Log>,
    metrics: &Arc<Metrics>,
    cause: Cause,
) {
    let (log, metrics) = (Arc::clone(log), Arc::clone(metrics));
    let mut known_since = Instant::now();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REORDER_WAIT).await;
            let looked = Instant::now();
            match heal_once(&channel, &*log).await {
                Ok(Some(0)) => {}
                Ok(Some(publications)) => {
                    let healed = metrics.healed(cause);
                    healed.publications.add(publications);
                    healed.seconds.record(known_since.elapsed());
                    if publications < FETCH_MAX as u64 {
                        // What this piece did not hold has become known after it was asked for.
                        known_since = looked;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(channel = %channel.name(), %error, "a hole cannot be fetched yet");
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    });
}

/// Fetches one piece of the first hole. Returns how many publications that brought; `None` if there was no hole.
async fn heal_once(channel: &Channel, log: &dyn Log) -> Result<Option<u64>, LogError> {
    let Some((after, to)) = channel.hole() else {
        return Ok(None);
    };
    let missing = usize::try_from(to.0 - after.0).unwrap_or(usize::MAX);
    let range = ReadRange {
        from: after,
        limit: missing.min(FETCH_MAX),
        direction: Direction::Forward,
    };
    let publications = log.read(channel.name(), range).await?;
    if publications
        .first()
        .is_none_or(|first| first.seq > after.next())
    {
        let name = channel.name().clone();
        let heads = log.heads(std::slice::from_ref(&name)).await?;
        let Head { trimmed, .. } = heads.first().copied().unwrap_or_default();
        channel.skip_trimmed(trimmed);
    }
    let count = publications.len() as u64;
    if let Some(run) = Run::new(channel.name().clone(), log.epoch(), publications) {
        channel.offer(&run);
    }
    Ok(Some(count))
}
