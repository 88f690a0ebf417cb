//! Healing: what the bus did not bring is fetched from the log, once per node and channel.

use std::{sync::Arc, time::Duration};

use fanfare_wire::{Run, Seq};
use tokio::{sync::Semaphore, time::Instant};
use tracing::warn;

pub(crate) use crate::metrics::Cause;
use crate::{
    channels::Channel,
    epoch::in_one_epoch,
    metrics::{Counter, Metrics},
    port::{Direction, Head, Log, LogError, ReadRange},
    task,
};

/// How long a hint that is merely late may take before the log is asked.
const REORDER_WAIT: Duration = Duration::from_millis(20);
/// How long to wait after the log did not answer.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Publications fetched at once.
const FETCH_MAX: usize = 128;
/// Reads of the log for healing that run at the same time on a node: a thousand channels that miss something, after Redis
/// was away, must not become a thousand queries, nor their answers fill the memory.
pub(crate) const HEAL_READS_MAX: usize = 16;

/// Fetches what channels miss.
pub(crate) struct Healer {
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
    reads: Semaphore,
}

impl Healer {
    pub(crate) fn new(log: &Arc<dyn Log>, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            log: Arc::clone(log),
            metrics: Arc::clone(metrics),
            reads: Semaphore::new(HEAL_READS_MAX),
        })
    }

    /// Fetches the channel's holes until there are none. Called in the moment in which the first one was noticed.
    pub(crate) fn heal(self: &Arc<Self>, channel: Arc<Channel>, cause: Cause) {
        task::spawn(Arc::clone(self).run(channel, cause, Instant::now()));
    }

    async fn run(self: Arc<Self>, channel: Arc<Channel>, cause: Cause, mut known_since: Instant) {
        // There is no hint to wait for.
        let mut at_once = cause == Cause::Unannounced;
        loop {
            if !std::mem::take(&mut at_once) {
                tokio::time::sleep(REORDER_WAIT).await;
            }
            let looked = Instant::now();
            let Some((_, to)) = channel.hole() else {
                return;
            };
            let healed = self.metrics.healed(cause);
            match self.fetch(&channel, to, &healed.publications).await {
                Ok(Fetched::All) => {
                    healed.seconds.record(known_since.elapsed());
                    // What has become known since was not part of it.
                    known_since = looked;
                }
                Ok(Fetched::Gone) => return,
                Err(error) => {
                    warn!(channel = %channel.name(), %error, "a hole cannot be fetched yet");
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    /// Fetches what the channel has not let pass yet, up to a number. All of it in one go, holes and what is here already
    /// alike: when much is lost, a wait for each hole would be overtaken by new ones.
    async fn fetch(
        &self,
        channel: &Channel,
        to: Seq,
        fetched: &Counter,
    ) -> Result<Fetched, LogError> {
        while let Some(Head { seq: after, .. }) = channel.head()
            && after < to
        {
            let missing = usize::try_from(to.0 - after.0).unwrap_or(usize::MAX);
            let range = ReadRange {
                from: after,
                limit: missing.min(FETCH_MAX),
                direction: Direction::Forward,
            };
            let closed = |_| LogError("the node is shutting down".to_owned());
            let _permit = self.reads.acquire().await.map_err(closed)?;
            let (epoch, publications) =
                in_one_epoch(&*self.log, |log| log.read(channel.name(), range)).await?;
            if epoch != *channel.epoch() {
                return Ok(Fetched::Gone);
            }
            if publications
                .first()
                .is_none_or(|first| first.seq > after.next())
            {
                skip_trimmed(channel, after, &*self.log).await?;
            }
            fetched.add(publications.len() as u64);
            if let Some(run) = Run::new(channel.name().clone(), epoch, publications) {
                channel.offer(&run);
            }
            if channel.head().is_some_and(|head| head.seq <= after) {
                return Err(LogError(format!(
                    "it has a hole in {} after {after}",
                    channel.name()
                )));
            }
        }
        Ok(Fetched::All)
    }
}

enum Fetched {
    /// Everything up to the number that was asked for.
    All,
    /// The log has another epoch: what is missing is gone, and so is the channel as this node knew it.
    Gone,
}

/// Retention was faster than healing: what it removed is given up.
async fn skip_trimmed(channel: &Channel, after: Seq, log: &dyn Log) -> Result<(), LogError> {
    let name = channel.name();
    let names = std::slice::from_ref(name);
    let (epoch, heads) = in_one_epoch(log, |log| log.heads(names)).await?;
    let Head { trimmed, .. } = heads.first().copied().unwrap_or_default();
    if epoch != *channel.epoch() || trimmed <= after {
        return Err(LogError(format!(
            "{name} has nothing at {}, which it said it had",
            after.next()
        )));
    }
    channel.skip_trimmed(trimmed);
    Ok(())
}
