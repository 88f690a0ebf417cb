//! The way between the nodes and the log: slow, breaking at the worst moment, sometimes away.
//!
//! The log itself is the engine's exact twin in memory. What varies is when a call reaches it, when its answer comes back,
//! and whether either does: a call that was sent goes on without the node that sent it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::{
    memory::log::{MemoryLog, Snapshot},
    port::{
        AppendError, BoxFuture, Committed, Contention, Direction, Head, LaneBatch, LaneCursors,
        Log, LogError, NodeRecord, Outcome, ReadRange, Retention, Trimmed,
    },
};
use fanfare_wire::{ChannelName, Draft, Epoch, Millis, Publication, Seq};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    dice::Dice,
    judge::{Judge, Mark},
    links::Links,
    plan::{Breach, LogFaults, Plan},
};

/// The log that all nodes share.
#[derive(Clone)]
pub(crate) struct Database(Arc<Inner>);

struct Inner {
    log: MemoryLog,
    dice: Dice,
    judge: Judge,
    links: Links,
    channels: Vec<ChannelName>,
    breach: Option<Breach>,
    state: Mutex<State>,
}

struct State {
    faults: LogFaults,
    /// Until when it is away.
    away_until: Option<Instant>,
    /// The copy that it may be replaced by.
    copy: Option<(Snapshot, Mark)>,
    /// How often it was replaced.
    replaced: u64,
}

/// One node's way to it.
pub(crate) struct NodeLog {
    database: Database,
    lane: Mutex<Arc<Lane>>,
    /// The lane in which the node says that it is alive.
    pulse: MemoryLog,
    /// What the node has heard of the log's identity: how often it was replaced, and its epoch.
    known: Mutex<(u64, Epoch)>,
}

/// One database session that appends.
struct Lane {
    log: MemoryLog,
    /// Another one took its place: what it has not committed by now it never will.
    retired: AtomicBool,
    /// It is not known what became of its last batch.
    doubtful: AtomicBool,
    /// How often the log was replaced when it was opened: a log that has taken the place of another does not know it.
    replaced: u64,
}

impl Database {
    pub(crate) fn new(
        dice: Dice,
        (judge, links): (Judge, Links),
        channels: Vec<ChannelName>,
        plan: &Plan,
    ) -> Self {
        let started = Instant::now();
        let clock = move || Millis::try_from(started.elapsed().as_millis()).unwrap_or(Millis::MAX);
        let log = MemoryLog::new(epoch(0), clock);
        log.keep_lane_log(plan.lane_log_kept);
        Self(Arc::new(Inner {
            log,
            dice,
            judge,
            links,
            channels,
            breach: plan.breach,
            state: Mutex::new(State {
                faults: plan.log.clone(),
                away_until: None,
                copy: None,
                replaced: 0,
            }),
        }))
    }

    /// A way to it for a node that starts.
    pub(crate) fn join(&self) -> NodeLog {
        NodeLog {
            lane: Mutex::new(self.open_lane()),
            pulse: self.0.log.open_lane(),
            known: Mutex::new(self.identity()),
            database: self.clone(),
        }
    }

    /// What may happen in a tenth of a second.
    pub(crate) fn tick(&self) {
        let mut state = self.state();
        match state.away_until {
            Some(until) if until <= Instant::now() => {
                state.away_until = None;
                self.0.log.set_available(true);
            }
            None if self.0.dice.chance(state.faults.away) => {
                state.away_until = Some(Instant::now() + self.0.dice.millis(10, 3000));
                self.0.log.set_available(false);
            }
            _ => {}
        }
        if self.0.dice.chance(state.faults.restore) {
            match state.copy.take() {
                None => state.copy = Some((self.0.log.snapshot(), self.0.judge.mark())),
                Some((copy, _)) if self.0.breach == Some(Breach::KeepEpoch) => {
                    self.0.log.restore(copy, epoch(state.replaced));
                }
                Some((copy, mark)) => {
                    state.replaced += 1;
                    self.0.log.restore(copy, epoch(state.replaced));
                    self.0.judge.restored(mark, epoch(state.replaced).as_str());
                }
            }
        }
    }

    /// Compares what the log holds in the end with what it said it had committed.
    pub(crate) async fn compare(&self) {
        let log = &self.0.log;
        for (name, head) in self
            .0
            .channels
            .iter()
            .zip(log.heads(&self.0.channels).await.unwrap_or_default())
        {
            let all = ReadRange {
                from: Seq::ZERO,
                limit: usize::MAX,
                direction: Direction::Forward,
            };
            let rows = log.read(name, all).await.unwrap_or_default();
            let rows: Vec<(u64, String)> = rows
                .iter()
                .map(|row| (row.seq.0, crate::session::key(row.data.as_bytes())))
                .collect();
            self.0
                .judge
                .held(name.as_str(), head.seq.0, head.trimmed.0, &rows);
        }
    }

    /// Begins with faults.
    pub(crate) fn break_again(&self, faults: LogFaults) {
        self.state().faults = faults;
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults = LogFaults::default();
        state.away_until = None;
        self.0.log.set_available(true);
    }

    fn open_lane(&self) -> Arc<Lane> {
        Arc::new(Lane {
            log: self.0.log.open_lane(),
            retired: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            replaced: self.state().replaced,
        })
    }

    fn faults(&self) -> LogFaults {
        self.state().faults.clone()
    }

    fn one_way(&self) -> Duration {
        let dice = &self.0.dice;
        match dice.chance(self.faults().slow) {
            true => dice.millis(1, 500),
            false => dice.micros(50, 1500),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which log this is now.
    fn identity(&self) -> (u64, Epoch) {
        (self.state().replaced, self.0.log.epoch())
    }

    /// A batch arrives at the log.
    async fn commit(&self, lane: &Lane, batch: &[Draft]) -> Result<Committed, AppendError> {
        if lane.retired.load(SeqCst) || lane.replaced != self.state().replaced {
            lane.doubtful.store(true, SeqCst);
            return Err(AppendError::Unavailable("the lane is retired".to_owned()));
        }
        if self.0.breach == Some(Breach::Uncommitted) && self.0.dice.chance(0.05) {
            return self.pretend(lane, batch).await;
        }
        let stripped: Vec<Draft>;
        let batch = match self.0.breach {
            Some(Breach::ForgetKeys) => {
                stripped = batch.iter().cloned().map(without_key).collect();
                &stripped
            }
            _ => batch,
        };
        let mut committed = lane.log.append(batch).await?;
        committed.contention = self.0.links.contention().map(|waited| Contention {
            waited,
            channels: batch.iter().map(|draft| draft.channel.clone()).collect(),
        });
        for (draft, outcome) in batch.iter().zip(&committed.outcomes) {
            if !outcome.duplicate {
                let key = crate::session::key(draft.data.as_bytes());
                self.0
                    .judge
                    .committed(draft.channel.as_str(), outcome.seq.0, &key);
            }
        }
        Ok(committed)
    }

    /// Answers as if it had committed.
    async fn pretend(&self, lane: &Lane, batch: &[Draft]) -> Result<Committed, AppendError> {
        let mut committed = lane.log.append(&[]).await?;
        for draft in batch {
            let before = committed
                .outcomes
                .iter()
                .zip(batch)
                .filter(|(_, earlier)| earlier.channel == draft.channel)
                .count() as u64;
            let heads = lane.log.heads(std::slice::from_ref(&draft.channel)).await;
            let head = heads.ok().and_then(|heads| heads.first().copied());
            committed.outcomes.push(Outcome {
                seq: Seq(head.unwrap_or_default().seq.0 + before + 1),
                time: 0,
                duplicate: false,
            });
        }
        Ok(committed)
    }
}

impl NodeLog {
    /// Carries a question to the log and its answer back. Before an answer of another log is given, the node hears of its
    /// epoch; an answer of a log that is known to be gone is none.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(MemoryLog) -> BoxFuture<'static, Result<T, LogError>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, LogError>> {
        let (sender, answer) = oneshot::channel();
        let database = self.database.clone();
        let (there, back) = (database.one_way(), database.one_way());
        let fails = database.0.dice.chance(database.faults().fail);
        tokio::spawn(async move {
            sleep(there).await;
            let of = database.identity();
            let result = question(database.0.log.clone()).await;
            sleep(back).await;
            if !fails {
                // A node that has died does not wait.
                let _ = sender.send((of, result));
            }
        });
        Box::pin(async move {
            let Ok((of, result)) = answer.await else {
                return Err(broken());
            };
            self.hear(of).map_err(LogError)?;
            result
        })
    }

    /// Hears of which log an answer is.
    fn hear(&self, of: (u64, Epoch)) -> Result<(), String> {
        let mut known = self.known();
        if of.0 < known.0 {
            return Err("an answer of a log that is gone".to_owned());
        }
        *known = of;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, (u64, Epoch)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane for the next batch: a new one if it is not known what became of the last one. Only then can the old one
    /// no longer commit.
    fn lane(&self) -> Arc<Lane> {
        let mut lane = self.lane.lock().unwrap_or_else(PoisonError::into_inner);
        if lane.doubtful.load(SeqCst) {
            lane.retired.store(true, SeqCst);
            *lane = self.database.open_lane();
        }
        Arc::clone(&lane)
    }
}

impl Log for NodeLog {
    fn epoch(&self) -> Epoch {
        self.known().1.clone()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        let lane = self.lane();
        let database = self.database.clone();
        let batch = batch.to_vec();
        let (sender, answer) = oneshot::channel();
        let (there, back) = (database.one_way(), database.one_way());
        let dice = database.0.dice.clone();
        let lost = dice.chance(database.faults().lose_answer);
        let asked = Arc::clone(&lane);
        tokio::spawn(async move {
            sleep(there).await;
            // The node died before its request had left, or after.
            if sender.is_closed() && dice.chance(0.5) {
                return;
            }
            if !lost {
                let result = (database.identity(), database.commit(&asked, &batch).await);
                sleep(back).await;
                let _ = sender.send(result);
                return;
            }
            // The connection broke: the request may be on its way for a while, or have been lost as well.
            asked.doubtful.store(true, SeqCst);
            if dice.chance(0.5) {
                drop(sender);
                sleep(dice.millis(0, 1000)).await;
                if dice.chance(0.7) {
                    // What became of it only the log knows.
                    let _ = database.commit(&asked, &batch).await;
                }
                return;
            }
            // A new connection retires the lane and looks.
            let result = match dice.chance(0.5) {
                true => database.commit(&asked, &batch).await,
                false => Err(AppendError::Unavailable("the connection broke".to_owned())),
            };
            let result = (database.identity(), result);
            asked.retired.store(true, SeqCst);
            sleep(back).await;
            let _ = sender.send(result);
        });
        Box::pin(async move {
            let lost = AppendError::Unknown("the connection broke".to_owned());
            let (of, result) = answer.await.map_err(|_| lost)?;
            self.hear(of).map_err(AppendError::Unknown)?;
            result
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        let channel = channel.clone();
        self.ask(move |log| Box::pin(async move { log.read(&channel, range).await }))
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        let channels = channels.to_vec();
        self.ask(move |log| Box::pin(async move { log.heads(&channels).await }))
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        self.ask(|log| Box::pin(async move { log.lanes().await }))
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        let cursors = cursors.clone();
        let skips = self.database.0.breach == Some(Breach::SkipSweep);
        self.ask(move |log| {
            Box::pin(async move {
                let mut batches = log.sweep(&cursors, limit).await?;
                if skips {
                    batches.iter_mut().for_each(|batch| batch.channels.clear());
                }
                Ok(batches)
            })
        })
    }

    fn lane_log_kept(&self) -> Duration {
        self.database.0.log.lane_log_kept()
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        let rules = rules.to_vec();
        let judge = self.database.0.judge.clone();
        let channels = self.database.0.channels.clone();
        self.ask(move |log| {
            Box::pin(async move {
                let trimmed = log.trim(&rules).await?;
                for (channel, head) in channels.iter().zip(log.heads(&channels).await?) {
                    judge.trimmed(channel.as_str(), head.trimmed.0);
                }
                Ok(trimmed)
            })
        })
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        let channel = channel.clone();
        let judge = self.database.0.judge.clone();
        self.ask(move |log| {
            Box::pin(async move {
                let head = log.remove(&channel, up_to).await?;
                judge.trimmed(channel.as_str(), head.trimmed.0);
                Ok(head)
            })
        })
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        let pulse = self.pulse.clone();
        self.ask(|_| Box::pin(async move { pulse.heartbeat(about).await }))
    }
}

fn epoch(replaced: u64) -> Epoch {
    // `named` refuses the empty word only.
    Epoch::named(&format!("e{replaced}")).unwrap_or_else(|| unreachable!())
}

fn without_key(mut draft: Draft) -> Draft {
    draft.idempotency_key = None;
    draft
}

fn broken() -> LogError {
    LogError("the connection broke".to_owned())
}
