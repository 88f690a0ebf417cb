//! Healing: what the bus did not bring is fetched from the log, once per node and channel.

use std::{sync::Arc, time::Duration};

use fanfare_wire::Run;
use tracing::warn;

use crate::{
    channels::Channel,
    epoch::in_one_epoch,
    metrics::Metrics,
    port::{Direction, Head, Log, LogError, ReadRange},
    task,
};

/// How long a hint that is merely late may take before the log is asked.
const REORDER_WAIT: Duration = Duration::from_millis(20);
/// How long to wait after the log did not answer.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Publications fetched at once.
const FETCH_MAX: usize = 512;

/// What showed that something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A later publication came first.
    Gap,
    /// The lane log knows more.
    Sweep,
}

/// Fetches the channel's holes until there are none.
pub(crate) fn spawn(
    channel: Arc<Channel>,
    log: &Arc<dyn Log>,
    metrics: &Arc<Metrics>,
    cause: Cause,
) {
    let (log, metrics) = (Arc::clone(log), Arc::clone(metrics));
    task::spawn(async move {
        loop {
            tokio::time::sleep(REORDER_WAIT).await;
            match heal_once(&channel, &*log, &metrics, cause).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    warn!(channel = %channel.name(), %error, "a hole cannot be fetched yet");
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    });
}

/// Fetches one piece of the first hole. Returns whether there was one.
async fn heal_once(
    channel: &Channel,
    log: &dyn Log,
    metrics: &Metrics,
    cause: Cause,
) -> Result<bool, LogError> {
    let Some((after, to)) = channel.hole() else {
        return Ok(false);
    };
    let missing = usize::try_from(to.0 - after.0).unwrap_or(usize::MAX);
    let range = ReadRange {
        from: after,
        limit: missing.min(FETCH_MAX),
        direction: Direction::Forward,
    };
    let (epoch, publications) = in_one_epoch(log, |log| log.read(channel.name(), range)).await?;
    if epoch != *channel.epoch() {
        // What is missing is gone, and so is the channel as this node knew it.
        return Ok(false);
    }
    if publications
        .first()
        .is_none_or(|first| first.seq > after.next())
    {
        let name = channel.name().clone();
        let names = std::slice::from_ref(&name);
        let (epoch, heads) = in_one_epoch(log, |log| log.heads(names)).await?;
        if epoch != *channel.epoch() {
            return Ok(false);
        }
        let Head { trimmed, .. } = heads.first().copied().unwrap_or_default();
        channel.skip_trimmed(trimmed);
    }
    let healed = match cause {
        Cause::Gap => &metrics.healed_gaps,
        Cause::Sweep => &metrics.healed_by_sweep,
    };
    healed.add(publications.len() as u64);
    if let Some(run) = Run::new(channel.name().clone(), epoch, publications) {
        channel.offer(&run);
    }
    Ok(true)
}
