//! The engine: one node's data path, and the interface that gateways and apps are built on.

mod shards;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fanfare_wire::{ChannelName, Draft, Epoch, FORMS_MAX, Form, News, Seq};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    channels::Channels,
    epoch::{Epochs, in_one_epoch, was_replaced},
    follow::{self, Follower},
    heads::Heads,
    hub::{
        Common, HistoryQuery, Hub,
        session::{HistoryError, HistoryPage},
    },
    metrics::Metrics,
    pages::Pages,
    port::{
        AppendError, Bus, BusHealth, Direction, Head, Log, LogError, NodeRecord, Peers, ReadRange,
        Retention, State, Tables, TablesError, TransactError, Transaction,
        state::{StateEvents, StateHealth},
        tables::{Dialect, Migration, Row, Value},
    },
    presence::Presence,
    publish::{PublishError, Published, Publisher, Reply},
    spread::Spread,
    state::{Limiter, WhenAway},
    sweep::Sweeper,
    tail::{self, Tail},
    task,
    transact::{Done, Transactor},
};

/// Most publications that one history query returns.
pub const HISTORY_LIMIT_MAX: usize = 1000;

/// Reads of history that run at the same time on a node.
pub const HISTORY_READS_MAX: usize = 16;
/// What one history query returns, in bytes; at least one publication.
pub const HISTORY_BYTES_MAX: usize = 4 << 20;

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How a node runs.
pub struct EngineConfig {
    /// Threads that serve connections.
    pub shards: usize,
    /// What namespaces keep.
    pub retention: Vec<Retention>,
    /// How often retention is applied.
    pub retention_interval: Duration,
    /// A connection whose peer takes nothing for so many seconds is closed; at least 1.
    pub stall_seconds: u32,
    /// What the node tells about itself to the others: a JSON object.
    pub about: Arc<dyn Fn() -> Bytes + Send + Sync>,
    /// Where the engine counts.
    pub metrics: Arc<Metrics>,
}

/// One node's data path.
pub struct Engine {
    core: Arc<Core>,
    hub: Hub,
}

/// How the parts of a node are, asked just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The log answers.
    pub log: bool,
    /// How the bus is. A node without its bus is ready: the sweep delivers.
    pub bus: BusHealth,
    /// How the shared state is. A node without it is ready: it goes on with what it knows itself.
    pub state: StateHealth,
}

struct Core {
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
    state: Arc<dyn State>,
    channels: Arc<Channels>,
    presence: Arc<Presence>,
    publisher: Arc<Publisher>,
    transactor: Transactor,
    heads: Heads,
    pages: Arc<Pages>,
    epochs: Arc<Epochs>,
    metrics: Arc<Metrics>,
    nodes: Mutex<Vec<NodeRecord>>,
    history_reads: Semaphore,
}

impl Engine {
    /// Starts a node on its log and bus, on the tables that its apps keep beside the log, and on the shared state. `forms`
    /// are the wire forms that gateways name by their index. Must be called
    /// within a tokio runtime; the node ends with it.
    ///
    /// # Errors
    /// If the threads of the hub or their epoll instances cannot be made, or there are more than [`FORMS_MAX`] forms.
    pub fn start(
        config: EngineConfig,
        log: Arc<dyn Log>,
        bus: Arc<dyn Bus>,
        tables: Arc<dyn Tables>,
        state: Arc<dyn State>,
        forms: Vec<Box<dyn Form>>,
    ) -> io::Result<Arc<Self>> {
        if forms.len() > FORMS_MAX {
            let reason = format!("{} wire forms, and {FORMS_MAX} are served", forms.len());
            return Err(io::Error::other(reason));
        }
        let EngineConfig {
            shards,
            retention,
            retention_interval,
            stall_seconds,
            about,
            metrics,
        } = config;
        let channels = Channels::start(&log, &bus, &metrics);
        let pages = Pages::new(Arc::clone(&log), Arc::clone(&metrics));
        let epochs = Epochs::new(
            Arc::clone(&log),
            Arc::clone(&channels),
            Arc::clone(&pages),
            Arc::clone(&metrics),
        );
        let spread = Arc::new(Spread {
            bus: Arc::clone(&bus),
            channels: Arc::clone(&channels),
            epochs: Arc::clone(&epochs),
            metrics: Arc::clone(&metrics),
        });
        let transactor = Transactor::new(tables, Arc::clone(&spread), Arc::clone(&metrics));
        let publisher = Arc::new(Publisher::start(
            Arc::clone(&log),
            spread,
            Arc::clone(&metrics),
        ));
        Sweeper::start(
            Arc::clone(&log),
            Arc::clone(&bus),
            Arc::clone(&channels),
            Arc::clone(&epochs),
            Arc::clone(&metrics),
        );
        let presence = Presence::start(
            Arc::clone(&state),
            bus.health() == BusHealth::Local,
            Arc::clone(&metrics),
        );
        state.start(Arc::new(StateReports {
            channels: Arc::clone(&channels),
            presence: Arc::clone(&presence),
        }));
        let core = Arc::new(Core {
            heads: Heads::start(Arc::clone(&log), Arc::clone(&metrics)),
            log,
            bus,
            state,
            channels,
            presence,
            publisher,
            transactor,
            pages,
            epochs,
            metrics: Arc::clone(&metrics),
            nodes: Mutex::default(),
            history_reads: Semaphore::new(HISTORY_READS_MAX),
        });
        let upstream = Arc::new(shards::Shards(Arc::clone(&core)));
        let common = Arc::new(Common {
            upstream,
            forms: forms.into(),
            metrics,
            stall_seconds: stall_seconds.max(1),
        });
        let hub = Hub::start(shards.max(1), &common)?;
        core.epochs.tell(hub.inboxes());
        task::spawn(Arc::clone(&core).beat(about));
        task::spawn(Arc::clone(&core).trim(retention, retention_interval));
        Ok(Arc::new(Self { core, hub }))
    }

    /// Hands what is published into contended channels to the nodes that own them, and takes what others hand to this one. Once,
    /// at the start; a node that never joins commits all that it takes, and so do the others then.
    pub fn join(&self, peers: Arc<dyn Peers>) {
        self.core.publisher.join(peers);
        self.core.publisher.meet(&self.nodes());
    }

    /// Takes nothing more from other nodes: they commit it themselves.
    pub fn part(&self) {
        self.core.publisher.part();
    }

    /// The log's epoch now. It changes when the database was restored or replaced.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.core.log.epoch()
    }

    /// The node's subscribers.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Commits a message; returns after its commit is flushed.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was taken, or the log failed.
    pub async fn publish(&self, draft: Draft) -> Result<Published, PublishError> {
        let (sender, answer) = oneshot::channel();
        self.core.publisher.publish(draft, Reply::Waiting(sender));
        answer.await.unwrap_or_else(unanswered)
    }

    /// Commits messages together, as far as they fit into one batch; one result for each.
    pub async fn publish_all(&self, drafts: Vec<Draft>) -> Vec<Result<Published, PublishError>> {
        let mut answers = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let (sender, answer) = oneshot::channel();
            self.core.publisher.publish(draft, Reply::Waiting(sender));
            answers.push(answer);
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(answer.await.unwrap_or_else(unanswered));
        }
        results
    }

    /// Commits an app's rows and publications together; returns after the commit is flushed. What was taken runs to its
    /// end even if this future is dropped.
    ///
    /// # Errors
    /// [`TransactError`]: nothing was committed, unless it says that the outcome is not known.
    pub async fn transact(&self, transaction: Transaction) -> Result<Done, TransactError> {
        self.core.transactor.transact(transaction).await
    }

    /// Which database the apps' tables are in, for what the common subset of both has no words for.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.core.transactor.tables().dialect()
    }

    /// Reads an app's rows with a `SELECT`, as committed when the call was made or later.
    ///
    /// # Errors
    /// [`TablesError`]: the database does not answer, or refuses the statement.
    pub async fn query(
        &self,
        sql: &'static str,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, TablesError> {
        self.core.transactor.tables().query(sql, params).await
    }

    /// Brings an app's tables to their newest form. Every node calls it before anything else of the app.
    ///
    /// # Errors
    /// [`TablesError`]: the database does not answer, or the tables cannot be brought up to date.
    pub async fn migrate(
        &self,
        app: &'static str,
        migrations: &'static [Migration],
    ) -> Result<(), TablesError> {
        self.core.transactor.tables().migrate(app, migrations).await
    }

    /// Tells the subscribers of a channel, on all nodes, something of the moment: it has no number and is kept nowhere.
    /// Those who lag are not told. Never waits.
    pub fn tell(&self, news: News) {
        self.core.channels.tell(&news);
        self.core.bus.tell(news);
    }

    /// Who is in which channel.
    #[must_use]
    pub fn presence(&self) -> &Arc<Presence> {
        &self.core.presence
    }

    /// The shared state.
    #[must_use]
    pub fn state(&self) -> &Arc<dyn State> {
        &self.core.state
    }

    /// Limits of rate in the shared state, for all nodes together.
    #[must_use]
    pub fn limiter(&self, when_away: WhenAway) -> Limiter {
        let core = Arc::downgrade(&self.core);
        let nodes = move || core.upgrade().map_or(1, |core| core.living_nodes().len());
        let (state, metrics) = (Arc::clone(&self.core.state), Arc::clone(&self.core.metrics));
        Limiter::new(state, when_away, Arc::new(nodes), metrics)
    }

    /// Reads a channel's history.
    ///
    /// # Errors
    /// [`HistoryError`]: the log does not answer, or the position is of another epoch.
    pub async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, HistoryError> {
        self.core.history(query).await
    }

    /// Removes a channel's publications from the log, up to and including a number; numbers go on behind them. The other nodes, and
    /// subscribers that are behind, do not know yet: have every node [`forget`](Self::forget) what is gone.
    ///
    /// # Errors
    /// [`LogError`] if the log does not answer, or has another epoch by now. The beginning may be gone all the same; try again.
    pub async fn remove(
        &self,
        channel: &ChannelName,
        up_to: Seq,
    ) -> Result<(Epoch, Head), LogError> {
        in_one_epoch(&*self.core.log, |log| log.remove(channel, up_to)).await
    }

    /// Where a channel stands in the log.
    ///
    /// # Errors
    /// [`LogError`] if the log does not answer.
    pub async fn head(&self, channel: &ChannelName) -> Result<(Epoch, Head), LogError> {
        self.core.head(channel).await
    }

    /// Forgets what this node has in memory of a channel's publications up to a number of an epoch, because they were removed from the log.
    /// Subscribers that have not seen them are told that they are gone.
    pub fn forget(&self, channel: &ChannelName, epoch: &Epoch, trimmed: Seq) {
        self.core.pages.forget(channel);
        self.core.channels.forget(channel, epoch, trimmed);
    }

    /// How many connections of this node are subscribed to each channel; in no order. Does not count those whose subscription is
    /// under way.
    pub async fn subscribers(&self) -> Vec<(ChannelName, usize)> {
        self.hub.subscribers().await
    }

    /// The heads of some channels in an epoch, for readers that have seen up to the given numbers of it: what this node
    /// knows where that suffices to go on from there, otherwise what the log says. A reader ahead of a returned head does
    /// not belong to this log.
    ///
    /// # Errors
    /// [`LogError`] if the log has to be asked and does not answer, or has another epoch by now.
    pub async fn heads(
        &self,
        epoch: &Epoch,
        readers: &[(ChannelName, Option<Seq>)],
    ) -> Result<Vec<Head>, LogError> {
        self.core.heads(epoch, readers).await
    }

    /// Gives a channel's publications to `follower`, from the oldest that the log has, in order and without a hole, for as
    /// long as the node lives.
    pub fn follow(&self, channel: ChannelName, follower: Follower) {
        let core = &self.core;
        let (log, channels) = (Arc::clone(&core.log), Arc::clone(&core.channels));
        follow::spawn(log, channels, &core.epochs, channel, follower);
    }

    /// A bell for a reader of a channel: rings whenever there may be something new in it.
    #[must_use]
    pub fn tail(&self, channel: ChannelName) -> Tail {
        tail::spawn(Arc::clone(&self.core.channels), channel)
    }

    /// The nodes that were heard of lately.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.core.living_nodes().clone()
    }

    /// How many channels have, or lately had, subscribers on this node.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.core.channels.count()
    }

    /// How the bus is.
    #[must_use]
    pub fn bus_health(&self) -> BusHealth {
        self.core.bus.health()
    }

    /// Asks the parts of the node how they are.
    pub async fn readiness(&self) -> Readiness {
        let log = matches!(
            timeout(READY_TIMEOUT, self.core.log.lanes()).await,
            Ok(Ok(_))
        );
        Readiness {
            log,
            bus: self.core.bus.health(),
            state: self.core.state.health(),
        }
    }

    /// How many publishes wait for their batch, and what they weigh in bytes.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        let publisher = &self.core.publisher;
        (publisher.waiting(), publisher.waiting_bytes())
    }

    /// Waits until every publish and every transaction that was taken is committed or refused.
    pub async fn flushed(&self) {
        self.core.publisher.flushed().await;
        self.core.transactor.flushed().await;
    }
}

/// A publish that was taken, and whose lane ended without a word.
fn unanswered<T>(_: oneshot::error::RecvError) -> Result<T, PublishError> {
    let reason = "the node stopped before the answer".to_owned();
    Err(AppendError::Unknown(reason).into())
}

impl Core {
    fn living_nodes(&self) -> MutexGuard<'_, Vec<NodeRecord>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, HistoryError> {
        let HistoryQuery {
            channel,
            since,
            limit,
            direction,
        } = query;
        let asked_in = since.as_ref().and_then(|(epoch, _)| epoch.clone());
        let is_other = |epoch: &Epoch| asked_in.as_ref().is_some_and(|asked| asked != epoch);
        let epoch = self.log.epoch();
        if is_other(&epoch) {
            return Err(HistoryError::OtherEpoch(epoch));
        }
        let closed = |_| LogError("the node is shutting down".to_owned());
        let _permit = self.history_reads.acquire().await.map_err(closed)?;
        let limit = limit.min(HISTORY_LIMIT_MAX);
        let from = match (&since, direction) {
            (Some((_, seq)), _) => *seq,
            (None, Direction::Forward | Direction::Backward) => Seq::ZERO,
        };
        // Nothing is before the first; the port would take 0 for "from the head".
        let nothing =
            limit == 0 || (since.is_some() && direction == Direction::Backward && from.0 <= 1);
        let range = ReadRange {
            from,
            limit,
            direction,
        };
        let asking = in_one_epoch(&*self.log, |log| {
            let channel = &channel;
            Box::pin(async move {
                let head = head_of(log, channel).await?;
                let publications = match nothing {
                    true => Vec::new(),
                    false => log.read(channel, range).await?,
                };
                Ok((head, publications))
            })
        });
        let (epoch, (head, mut publications)) = asking.await?;
        if is_other(&epoch) {
            return Err(HistoryError::OtherEpoch(epoch));
        }
        let mut bytes = 0;
        let fitting = publications.iter().take_while(|publication| {
            let fits = bytes <= HISTORY_BYTES_MAX;
            bytes += publication.weight();
            fits
        });
        publications.truncate(fitting.count());
        let seen = publications
            .iter()
            .map(|publication| publication.seq)
            .max()
            .unwrap_or_default();
        Ok(HistoryPage {
            publications,
            head: head.seq.max(seen),
            trimmed: head.trimmed,
            epoch,
        })
    }

    async fn heads(
        &self,
        epoch: &Epoch,
        readers: &[(ChannelName, Option<Seq>)],
    ) -> Result<Vec<Head>, LogError> {
        let known = |(name, seq): &(ChannelName, Option<Seq>)| {
            let channel = self.channels.get(name).filter(|it| it.epoch() == epoch)?;
            let head = channel.head()?;
            // What retention has removed lately only the log knows.
            let suffices = seq.is_none_or(|seq| channel.reaches(seq));
            suffices.then_some(head)
        };
        let mut heads: Vec<Option<Head>> = readers.iter().map(known).collect();
        let unknown: Vec<usize> = (0..heads.len()).filter(|at| heads[*at].is_none()).collect();
        let names: Vec<ChannelName> = unknown.iter().map(|at| readers[*at].0.clone()).collect();
        if !names.is_empty() {
            let (answered_in, found) = self.heads.read(names).await?;
            if answered_in != *epoch {
                return Err(was_replaced());
            }
            for (at, head) in unknown.into_iter().zip(found) {
                heads[at] = Some(head);
            }
        }
        Ok(heads.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn head(&self, channel: &ChannelName) -> Result<(Epoch, Head), LogError> {
        let (epoch, heads) = self.heads.read(vec![channel.clone()]).await?;
        Ok((epoch, heads.first().copied().unwrap_or_default()))
    }

    async fn beat(self: Arc<Self>, about: Arc<dyn Fn() -> Bytes + Send + Sync>) {
        let mut ticks = interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let answer = self.log.heartbeat(about()).await;
            // Whatever it is: the log may have become another one.
            self.epochs.check();
            match answer {
                Ok(nodes) => {
                    self.publisher.meet(&nodes);
                    *self.living_nodes() = nodes;
                }
                Err(error) => debug!(%error, "no heartbeat"),
            }
        }
    }

    async fn trim(self: Arc<Self>, rules: Vec<Retention>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.log.trim(&rules).await {
                Ok(trimmed) => debug!(?trimmed, "retention applied"),
                Err(error) => warn!(%error, "retention cannot be applied"),
            }
        }
    }
}

async fn head_of(log: &dyn Log, channel: &ChannelName) -> Result<Head, LogError> {
    let heads = log.heads(std::slice::from_ref(channel)).await?;
    heads
        .first()
        .copied()
        .ok_or_else(|| LogError("it returned no head".to_owned()))
}

/// What the shared state reports. Its news go to this node's own subscribers: the other nodes hear them from it too.
struct StateReports {
    channels: Arc<Channels>,
    presence: Arc<Presence>,
}

impl StateEvents for StateReports {
    fn on_news(&self, news: News) {
        self.channels.tell(&news);
    }

    fn on_up(&self) {
        info!("the shared state is up");
        self.presence.up();
    }

    fn on_down(&self) {
        warn!("the shared state is down: presence is what this node knows");
        self.presence.down();
    }
}
