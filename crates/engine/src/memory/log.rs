//! The log in memory: exact and deterministic, for tests and simulations.
//!
//! It keeps every promise of [`Log`] but the first: nothing outlives the process. The clock is given, so that nothing
//! here depends on when it runs. It never waits: every future is ready at once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fanfare_wire::{ChannelName, Draft, Epoch, Millis, Publication, Seq};

use crate::port::{
    AppendError, BoxFuture, Committed, Direction, Head, LaneBatch, LaneCursors, LaneId, Log,
    LogError, NodeRecord, Outcome, ReadRange, Retention, Trimmed,
    log::{KEYS_KEPT, LANE_LOG_KEPT, NODE_SILENCE_MAX},
};

/// One node's handle on a log in memory; the others come from [`open_lane`](MemoryLog::open_lane). A clone has the same
/// lane.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    lane: LaneId,
}

impl MemoryLog {
    /// An empty log with one lane. `clock` gives the time of each commit.
    pub fn new(epoch: Epoch, clock: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        let state = State {
            epoch,
            available: true,
            lane_log_kept: LANE_LOG_KEPT,
            channels: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            clock: Box::new(clock),
            state: Mutex::new(state),
        });
        let lane = shared.state().open_lane();
        Self { shared, lane }
    }

    /// Another node's handle on the same log, with a lane of its own.
    #[must_use]
    pub fn open_lane(&self) -> Self {
        let lane = self.shared.state().open_lane();
        Self {
            shared: self.shared.clone(),
            lane,
        }
    }

    /// Takes the log away from all nodes (`false`), or brings it back. While it is away every call fails, and nothing
    /// is changed.
    pub fn set_available(&self, available: bool) {
        self.shared.state().available = available;
    }

    /// Keeps entries of the lane log for so long.
    pub fn keep_lane_log(&self, kept: Duration) {
        self.shared.state().lane_log_kept = kept;
    }

    /// Everything that is in the log now, for [`restore`](MemoryLog::restore).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.shared.state();
        Snapshot {
            channels: state.channels.clone(),
            lanes: state.lanes.clone(),
        }
    }

    /// Puts the log back to what it was, as a backup does, or a replica that lagged. What was committed since is lost,
    /// so the log takes a new epoch.
    pub fn restore(&self, snapshot: Snapshot, epoch: Epoch) {
        let mut state = self.shared.state();
        state.channels = snapshot.channels;
        // Lanes that were opened since belong to nodes that go on.
        for lane in state.lanes.values_mut() {
            *lane = Lane::default();
        }
        state.lanes.extend(snapshot.lanes);
        state.epoch = epoch;
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State, Millis) -> T,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let now = (self.shared.clock)();
        let mut state = self.shared.state();
        let result = if state.available {
            Ok(act(&mut state, now))
        } else {
            Err(away())
        };
        Box::pin(std::future::ready(result))
    }
}

impl Log for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.shared.state().epoch.clone()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        let committed = self.with(|state, now| state.append(self.lane, batch, now));
        Box::pin(async {
            committed
                .await
                .map_err(|error| AppendError::Unavailable(error.0))
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        self.with(|state, _| {
            state
                .channels
                .get(channel)
                .map_or_else(Vec::new, |channel| channel.read(range))
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        self.with(|state, _| {
            let head = |name| {
                state
                    .channels
                    .get(name)
                    .map_or(Head::default(), Channel::head)
            };
            channels.iter().map(head).collect()
        })
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        self.with(|state, _| state.lanes.iter().map(|(id, lane)| (*id, lane.n)).collect())
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        self.with(|state, _| {
            let after = |id| cursors.get(id).copied().unwrap_or(0);
            let news = state.lanes.iter().flat_map(|(id, lane)| {
                lane.batches
                    .iter()
                    .filter(move |(_, batch)| batch.n > after(id))
            });
            news.take(limit).map(|(_, batch)| batch.clone()).collect()
        })
    }

    fn lane_log_kept(&self) -> Duration {
        self.shared.state().lane_log_kept
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        self.with(|state, now| state.trim(rules, now))
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        self.with(|state, _| match state.channels.get_mut(channel) {
            Some(channel) => {
                channel.remove(up_to);
                channel.head()
            }
            None => Head::default(),
        })
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        self.with(|state, now| state.heartbeat(self.lane, about, now))
    }
}

/// A log in memory as it was at one moment.
#[derive(Clone)]
pub struct Snapshot {
    channels: BTreeMap<ChannelName, Channel>,
    lanes: BTreeMap<LaneId, Lane>,
}

struct Shared {
    clock: Box<dyn Fn() -> Millis + Send + Sync>,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    epoch: Epoch,
    available: bool,
    lane_log_kept: Duration,
    channels: BTreeMap<ChannelName, Channel>,
    lanes: BTreeMap<LaneId, Lane>,
}

impl State {
    fn open_lane(&mut self) -> LaneId {
        let id = LaneId(self.lanes.last_key_value().map_or(1, |(id, _)| id.0 + 1));
        self.lanes.insert(id, Lane::default());
        id
    }

    fn append(&mut self, lane: LaneId, batch: &[Draft], now: Millis) -> Committed {
        let mut added: BTreeMap<ChannelName, (Seq, Seq)> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for draft in batch {
            let outcome = self
                .channels
                .entry(draft.channel.clone())
                .or_default()
                .add(draft, now);
            if !outcome.duplicate {
                let range = (outcome.seq, outcome.seq);
                added.entry(draft.channel.clone()).or_insert(range).1 = outcome.seq;
            }
            outcomes.push(outcome);
        }
        if added.is_empty() {
            return Committed {
                epoch: self.epoch.clone(),
                lane,
                n: 0,
                outcomes,
                contention: None,
            };
        }
        let channels = added
            .into_iter()
            .map(|(name, (first, last))| (name, first, last))
            .collect();
        let own = self.lanes.entry(lane).or_default();
        own.n += 1;
        own.batches.push_back((
            now,
            LaneBatch {
                lane,
                n: own.n,
                channels,
                unannounced: false,
            },
        ));
        Committed {
            epoch: self.epoch.clone(),
            lane,
            n: own.n,
            outcomes,
            contention: None,
        }
    }

    fn trim(&mut self, rules: &[Retention], now: Millis) -> Trimmed {
        let mut trimmed = Trimmed::default();
        for (name, channel) in &mut self.channels {
            for rule in rules
                .iter()
                .filter(|rule| rule.namespace == name.namespace())
            {
                trimmed.publications += channel.trim(rule, now);
            }
            let before = channel.keys.len();
            channel
                .keys
                .retain(|_, (_, time)| *time >= now - millis(KEYS_KEPT));
            trimmed.keys += (before - channel.keys.len()) as u64;
        }
        for lane in self.lanes.values_mut() {
            let before = lane.batches.len();
            lane.batches
                .retain(|(time, _)| *time >= now - millis(self.lane_log_kept));
            trimmed.lane_batches += (before - lane.batches.len()) as u64;
        }
        trimmed
    }

    fn heartbeat(&mut self, lane: LaneId, about: Bytes, now: Millis) -> Vec<NodeRecord> {
        self.lanes.entry(lane).or_default().about = Some((now, about));
        let alive = |(id, lane): (&LaneId, &Lane)| {
            let (time, about) = lane.about.as_ref()?;
            let heard = *time >= now - millis(NODE_SILENCE_MAX);
            heard.then(|| NodeRecord {
                lane: *id,
                about: about.clone(),
            })
        };
        self.lanes.iter().filter_map(alive).collect()
    }
}

#[derive(Default, Clone)]
struct Channel {
    trimmed: u64,
    last_time: Millis,
    publications: VecDeque<Publication>,
    keys: HashMap<String, (Seq, Millis)>,
}

impl Channel {
    fn head(&self) -> Head {
        let seq = Seq(self.trimmed + self.publications.len() as u64);
        Head {
            seq,
            trimmed: Seq(self.trimmed),
        }
    }

    fn add(&mut self, draft: &Draft, now: Millis) -> Outcome {
        if let Some(key) = &draft.idempotency_key
            && let Some((seq, time)) = self.keys.get(key)
        {
            return Outcome {
                seq: *seq,
                time: *time,
                duplicate: true,
            };
        }
        let seq = self.head().seq.next();
        let time = now.max(self.last_time);
        self.last_time = time;
        if let Some(key) = &draft.idempotency_key {
            self.keys.insert(key.clone(), (seq, time));
        }
        self.publications.push_back(Publication {
            seq,
            id: draft.id,
            time,
            data: draft.data.clone(),
            info: draft.info.clone(),
            tags: draft.tags.clone(),
        });
        Outcome {
            seq,
            time,
            duplicate: false,
        }
    }

    fn read(&self, range: ReadRange) -> Vec<Publication> {
        let len = self.publications.len();
        // How many lie at or before a number, within what is kept.
        let up_to = |seq: u64| {
            usize::try_from(seq.saturating_sub(self.trimmed)).map_or(len, |count| count.min(len))
        };
        match range.direction {
            Direction::Forward => {
                let from = up_to(range.from.0);
                self.publications
                    .range(from..)
                    .take(range.limit)
                    .cloned()
                    .collect()
            }
            Direction::Backward => {
                let end = if range.from == Seq::ZERO {
                    len
                } else {
                    up_to(range.from.0 - 1)
                };
                self.publications
                    .range(..end)
                    .rev()
                    .take(range.limit)
                    .cloned()
                    .collect()
            }
        }
    }

    fn trim(&mut self, rule: &Retention, now: Millis) -> u64 {
        let before = self.trimmed;
        let too_many = |len: usize| rule.count_max.is_some_and(|max| len as u64 > max);
        let too_old = |time: Millis| rule.age_max.is_some_and(|age| time < now - millis(age));
        while let Some(oldest) = self.publications.front()
            && (too_many(self.publications.len()) || too_old(oldest.time))
        {
            self.publications.pop_front();
            self.trimmed += 1;
        }
        self.trimmed - before
    }

    fn remove(&mut self, up_to: Seq) {
        while self.trimmed < up_to.0 && self.publications.pop_front().is_some() {
            self.trimmed += 1;
        }
    }
}

#[derive(Default, Clone)]
struct Lane {
    n: u64,
    batches: VecDeque<(Millis, LaneBatch)>,
    about: Option<(Millis, Bytes)>,
}

fn away() -> LogError {
    LogError("it was taken away".to_owned())
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use fanfare_wire::Json;
    use uuid::Uuid;

    use super::*;

    fn log() -> (MemoryLog, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1_000_000));
        let clock = time.clone();
        let epoch = Epoch::parse("memory").unwrap();
        // Each look at the clock moves it, so that no two commits have the same time.
        (
            MemoryLog::new(epoch, move || clock.fetch_add(1, Ordering::Relaxed)),
            time,
        )
    }

    fn draft(channel: &str, key: Option<&str>) -> Draft {
        let channel = ChannelName::parse(channel).unwrap();
        let mut draft = Draft::new(channel, Uuid::now_v7(), Json::parse(b"1").unwrap());
        draft.idempotency_key = key.map(str::to_owned);
        draft
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let (log, _) = log();
        let log = Arc::new(log);
        crate::contract::log::all(|| {
            let node: Arc<dyn Log> = Arc::new(log.open_lane());
            async { node }
        })
        .await;
    }

    #[tokio::test]
    async fn its_epoch_changes_for_all_nodes() {
        let (log, _) = log();
        let open = || {
            let node: Arc<dyn Log> = Arc::new(log.open_lane());
            async { node }
        };
        let change = async || log.restore(log.snapshot(), Epoch::parse("another").unwrap());
        crate::contract::log::epoch_change(open, change).await;
    }

    #[tokio::test]
    async fn what_was_committed_since_a_snapshot_is_lost_by_a_restore() {
        let (log, _) = log();
        log.append(&[draft("a", Some("k"))]).await.unwrap();
        let snapshot = log.snapshot();
        let lost = [draft("a", Some("lost")), draft("b", None)];
        assert_eq!(log.append(&lost).await.unwrap().n, 2);
        log.restore(snapshot, Epoch::parse("another").unwrap());
        let channel = ChannelName::parse("b").unwrap();
        assert_eq!(log.heads(&[channel]).await.unwrap(), [Head::default()]);
        let batch = [draft("a", Some("k")), draft("a", Some("lost"))];
        let again = log.append(&batch).await.unwrap();
        assert_eq!((again.n, again.epoch.as_str()), (2, "another"));
        assert!(again.outcomes[0].duplicate && !again.outcomes[1].duplicate);
    }

    #[tokio::test]
    async fn age_removes_what_is_old_and_nothing_else() {
        let (log, time) = log();
        let rule = |seconds| {
            let age_max = Some(Duration::from_secs(seconds));
            [Retention {
                namespace: "a".to_owned(),
                age_max,
                count_max: None,
            }]
        };
        log.append(&[draft("a:1", None), draft("a:1", Some("k"))])
            .await
            .unwrap();
        time.fetch_add(60_000, Ordering::Relaxed);
        log.append(&[draft("a:1", None), draft("b:1", None)])
            .await
            .unwrap();
        assert_eq!(log.trim(&rule(61)).await.unwrap().publications, 0);
        assert_eq!(log.trim(&rule(30)).await.unwrap().publications, 2);
        let channels = ["a:1", "b:1"].map(|name| ChannelName::parse(name).unwrap());
        let heads = log.heads(&channels).await.unwrap();
        assert_eq!(
            heads[0],
            Head {
                seq: Seq(3),
                trimmed: Seq(2)
            }
        );
        assert_eq!(
            heads[1],
            Head {
                seq: Seq(1),
                trimmed: Seq(0)
            }
        );
        let again = log.append(&[draft("a:1", Some("k"))]).await.unwrap();
        assert_eq!((again.n, again.outcomes[0].seq), (0, Seq(2)));
        time.fetch_add(millis(KEYS_KEPT) + 1, Ordering::Relaxed);
        let trimmed = log.trim(&[]).await.unwrap();
        assert_eq!(
            (trimmed.publications, trimmed.keys, trimmed.lane_batches),
            (0, 1, 2)
        );
        let later = log.append(&[draft("a:1", Some("k"))]).await.unwrap();
        assert_eq!((later.n, later.outcomes[0].seq), (3, Seq(4)));
    }

    #[tokio::test]
    async fn while_it_is_away_nothing_changes() {
        let (log, _) = log();
        log.set_available(false);
        let refused = log.append(&[draft("a", None)]).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))));
        assert!(log.lanes().await.is_err());
        log.set_available(true);
        let committed = log.append(&[draft("a", None)]).await.unwrap();
        assert_eq!(committed.outcomes[0].seq, Seq(1));
    }
}
