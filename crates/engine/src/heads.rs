//! Shared reads of heads.
//!
//! A client that comes back ahead of what this node has heard, before what its ring holds, or to a channel that is not
//! live here, has to be compared with the log. Ten thousand that come back together must not become ten thousand
//! queries: one read is under way at a time, and takes along everybody who has asked since the last one began.

use std::{collections::HashMap, sync::Arc};

use fanfare_wire::{ChannelName, Epoch};
use tokio::sync::{mpsc, oneshot};

use crate::{
    epoch::{in_one_epoch, was_replaced},
    metrics::Metrics,
    port::{Head, Log, LogError},
    task,
};

/// Askers that may wait to be taken along; more wait to be let in.
const ASKS_MAX: usize = 1024;
/// Channels in one statement.
const NAMES_MAX: usize = 512;

type Answer = Result<(Epoch, Vec<Head>), LogError>;

struct Ask {
    names: Vec<ChannelName>,
    answer: oneshot::Sender<Answer>,
}

/// The reader of heads of a node.
pub(crate) struct Heads {
    asks: mpsc::Sender<Ask>,
}

impl Heads {
    /// Starts the reader. It ends when the `Heads` is dropped.
    pub(crate) fn start(log: Arc<dyn Log>, metrics: Arc<Metrics>) -> Self {
        let (asks, queue) = mpsc::channel(ASKS_MAX);
        task::spawn(run(queue, log, metrics));
        Self { asks }
    }

    /// The heads of some channels, in the order asked, as committed when this was called or later, and their epoch.
    pub(crate) async fn read(&self, names: Vec<ChannelName>) -> Answer {
        let closed = || LogError("the node is shutting down".to_owned());
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.send(Ask { names, answer }).await;
        asked.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn run(mut queue: mpsc::Receiver<Ask>, log: Arc<dyn Log>, metrics: Arc<Metrics>) {
    let mut asks = Vec::new();
    while queue.recv_many(&mut asks, ASKS_MAX).await > 0 {
        let read = read_all(&asks, &*log, &metrics).await;
        for Ask { names, answer } in asks.drain(..) {
            let heads = match &read {
                Ok((epoch, known)) => {
                    let heads = names.iter().map(|name| head(known, name));
                    Ok((epoch.clone(), heads.collect()))
                }
                Err(error) => Err(error.clone()),
            };
            // Who no longer waits does not want to know.
            let _ = answer.send(heads);
        }
    }
}

async fn read_all(
    asks: &[Ask],
    log: &dyn Log,
    metrics: &Metrics,
) -> Result<(Epoch, HashMap<ChannelName, Head>), LogError> {
    let mut names: Vec<ChannelName> = asks.iter().flat_map(|ask| ask.names.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let mut known = HashMap::with_capacity(names.len());
    let mut read_in = log.epoch();
    for (number, names) in names.chunks(NAMES_MAX).enumerate() {
        metrics.head_reads.add(1);
        let (epoch, heads) = in_one_epoch(log, |log| log.heads(names)).await?;
        if number > 0 && epoch != read_in {
            return Err(was_replaced());
        }
        read_in = epoch;
        known.extend(names.iter().cloned().zip(heads));
    }
    Ok((read_in, known))
}

fn head(known: &HashMap<ChannelName, Head>, name: &ChannelName) -> Head {
    known.get(name).copied().unwrap_or_default()
}
