//! Faults on purpose, chosen with `FANFARE_SABOTAGE`, to prove that the checker of `fanfare bench` sees them. Compiled
//! only with the feature `sabotage`, into the program `fanfare-sabotaged`.
//!
//! | `FANFARE_SABOTAGE` | what goes wrong |
//! |---|---|
//! | `drop:N` | one of N publications is delivered to nobody |
//! | `drop-number:N` | publication N of each channel is delivered to nobody |
//! | `swap:N` | after N publications, two neighbours are delivered in the wrong order |
//! | `repeat:N` | one of N publications is delivered twice |
//! | `ack-before-commit:MS` | publications are shown and acknowledged, and committed so many milliseconds later |

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fanfare_engine::port::{
    AppendError, BoxFuture, Committed, Head, LaneBatch, LaneCursors, LaneId, Log, LogError,
    NodeRecord, Outcome, ReadRange, Retention, Trimmed,
};
use fanfare_wire::{
    ChannelName, Draft, Epoch, Publication, Seq,
    sabotage::{Mutation, choose},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};
use tracing::warn;

use crate::wiring::ServeError;

const VARIABLE: &str = "FANFARE_SABOTAGE";

/// Makes wrong what the environment asks for; nothing when it asks for nothing.
///
/// # Errors
/// When it asks for something that is not known.
pub(crate) fn apply(log: Arc<dyn Log>) -> Result<Arc<dyn Log>, ServeError> {
    let Ok(wanted) = env::var(VARIABLE) else {
        return Ok(log);
    };
    warn!("{VARIABLE}={wanted}: this server breaks its promises on purpose");
    let unknown = || ServeError::System(std::io::Error::other(format!("{VARIABLE}={wanted}")));
    let (kind, number) = wanted.split_once(':').ok_or_else(unknown)?;
    let number: u64 = number.parse().map_err(|_| unknown())?;
    match kind {
        "drop" => choose(Mutation::DropEach(number)),
        "drop-number" => choose(Mutation::DropNumber(number)),
        "swap" => choose(Mutation::SwapEach(number)),
        "repeat" => choose(Mutation::RepeatEach(number)),
        "ack-before-commit" => {
            return Ok(Arc::new(Hasty::new(log, Duration::from_millis(number))));
        }
        _ => return Err(unknown()),
    }
    Ok(log)
}

/// A log that answers before it has committed. It guesses the numbers, rightly as long as it is the only writer.
struct Hasty {
    log: Arc<dyn Log>,
    guess: Mutex<Guess>,
    later: UnboundedSender<(Instant, Vec<Draft>)>,
}

#[derive(Default)]
struct Guess {
    lane: Option<LaneId>,
    n: u64,
    heads: HashMap<ChannelName, Seq>,
}

impl Hasty {
    fn new(log: Arc<dyn Log>, delay: Duration) -> Self {
        let (later, mut batches) = unbounded_channel::<(Instant, Vec<Draft>)>();
        let real = Arc::clone(&log);
        tokio::spawn(async move {
            while let Some((taken, batch)) = batches.recv().await {
                sleep_until(taken + delay).await;
                if let Err(error) = real.append(&batch).await {
                    warn!("acknowledged and lost: {error}");
                }
            }
        });
        Self {
            log,
            guess: Mutex::default(),
            later,
        }
    }

    /// What would come of the batch; `None` when there is nothing to guess from.
    fn guess(&self, batch: &[Draft]) -> Option<Committed> {
        let mut guess = self.guess.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = guess.lane?;
        if !batch
            .iter()
            .all(|draft| guess.heads.contains_key(&draft.channel))
        {
            return None;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = i64::try_from(since.map_or(0, |since| since.as_millis())).ok()?;
        let outcomes = batch
            .iter()
            .filter_map(|draft| {
                let head = guess.heads.get_mut(&draft.channel)?;
                *head = head.next();
                Some(Outcome {
                    seq: *head,
                    time,
                    duplicate: false,
                })
            })
            .collect();
        guess.n += 1;
        Some(Committed {
            epoch: self.log.epoch(),
            lane,
            n: guess.n,
            outcomes,
            contention: None,
        })
    }

    /// Learns from a batch that was committed as it should be.
    fn learn(&self, batch: &[Draft], committed: &Committed) {
        let mut guess = self.guess.lock().unwrap_or_else(PoisonError::into_inner);
        guess.lane = Some(committed.lane);
        guess.n = committed.n.max(guess.n);
        for (draft, outcome) in batch.iter().zip(&committed.outcomes) {
            let head = guess.heads.entry(draft.channel.clone()).or_default();
            *head = outcome.seq.max(*head);
        }
    }
}

impl Log for Hasty {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        Box::pin(async move {
            if let Some(committed) = self.guess(batch) {
                // The other end lives as long as the server.
                let _ = self.later.send((Instant::now(), batch.to_vec()));
                return Ok(committed);
            }
            let committed = self.log.append(batch).await?;
            self.learn(batch, &committed);
            Ok(committed)
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        self.log.read(channel, range)
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        self.log.heads(channels)
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        self.log.lanes()
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        self.log.sweep(cursors, limit)
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        self.log.trim(rules)
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        self.log.remove(channel, up_to)
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        self.log.heartbeat(about)
    }
}
