//! The channels that have subscribers on this node: how they become live, and how news reach their shards.
//!
//! Everything that reports publications (the node's lane, the bus, the log) meets here. Accepting them and handing them
//! to the shards happens under the channel's own short lock, so that every shard hears of them in one order.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_wire::{ChannelName, Epoch, News, Run, Seq};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    epoch::in_one_epoch,
    heal::{Cause, Healer},
    hub::{Inbox, Message, Told},
    intake::Intake,
    metrics::Metrics,
    port::{Bus, Head, Log, LogError},
    ring::Recent,
    task,
};

/// Independently locked parts of the table of channels.
const STRIPES: usize = 64;
/// Channels that are made live with one subscribe on the bus and one read of heads.
pub(crate) const ATTACH_BATCH_MAX: usize = 512;
/// How long a channel stays live after its last subscriber left.
const LINGER: Duration = Duration::from_secs(30);
/// How often unused channels and old ring entries are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(5);

/// The channels of a node.
pub(crate) struct Channels {
    stripes: [Mutex<HashMap<ChannelName, Arc<Channel>>>; STRIPES],
    hasher: RandomState,
    /// The epoch of channels that are made from now on. Read under the lock of the stripe that they are put into.
    epoch: Mutex<Epoch>,
    commands: mpsc::UnboundedSender<Command>,
    healer: Arc<Healer>,
    metrics: Arc<Metrics>,
}

/// One channel that has, or lately had, subscribers on this node.
#[derive(Debug)]
pub(crate) struct Channel {
    name: ChannelName,
    /// What is of another epoch is not let in.
    epoch: Epoch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` while the channel is being made live.
    intake: Option<Intake>,
    /// What arrived before the head was known.
    before: Vec<Arc<Run>>,
    /// How far the channel was said to reach before the head was known.
    heard: Head,
    /// The shards with subscribers, or waiting for the channel to become live.
    shards: Vec<Arc<Inbox>>,
    unused_since: Option<Instant>,
    healing: bool,
}

/// A shard's hold of a live channel.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    channel: Arc<Channel>,
    head: Seq,
}

/// What the task that talks to bus and log for the channels is told.
enum Command {
    Attach(ChannelName),
    Release(ChannelName),
}

impl Channels {
    /// Starts the tasks that make channels live and let them go.
    pub(crate) fn start(
        log: &Arc<dyn Log>,
        bus: &Arc<dyn Bus>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let (commands, queue) = mpsc::unbounded_channel();
        let channels = Arc::new(Self {
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            epoch: Mutex::new(log.epoch()),
            commands,
            healer: Healer::new(log, metrics),
            metrics: Arc::clone(metrics),
        });
        task::spawn(attach_all(
            Arc::clone(&channels),
            queue,
            Arc::clone(log),
            Arc::clone(bus),
        ));
        task::spawn(reap(Arc::clone(&channels)));
        channels
    }

    /// A shard wants a channel's news. Answers with [`Message::Attached`] at once if the channel is live already.
    pub(crate) fn attach(&self, name: ChannelName, inbox: &Arc<Inbox>) {
        let mut stripe = self.stripe(&name);
        let channel = stripe.entry(name.clone()).or_insert_with(|| {
            self.metrics.channels.add(1);
            // The receiver lives as long as the node.
            let _ = self.commands.send(Command::Attach(name.clone()));
            Channel::new(name, self.epoch())
        });
        channel.attach(inbox);
    }

    /// A shard no longer wants a channel's news.
    pub(crate) fn detach(&self, attachment: &Attachment, inbox: &Arc<Inbox>) {
        let mut state = attachment.channel.lock();
        state.shards.retain(|known| known.shard() != inbox.shard());
        if state.shards.is_empty() {
            state.unused_since = Some(Instant::now());
        }
    }

    /// Takes publications from anywhere. A hole that they leave is fetched.
    pub(crate) fn offer(&self, run: &Arc<Run>) {
        if let Some(channel) = self.get(run.channel())
            && channel.offer(run)
        {
            self.healer.heal(channel, Cause::Gap);
        }
    }

    /// Tells the subscribers of a channel on this node something that has no number.
    pub(crate) fn tell(&self, news: &News) {
        if let Some(channel) = self.get(&news.channel) {
            self.metrics.news.add(1);
            self.metrics.news_dropped.add(channel.tell(news));
        }
    }

    /// Forgets publications of a channel that were removed from the log, up to a number of an epoch. Subscribers that have not seen them are told
    /// that they are gone.
    pub(crate) fn forget(&self, name: &ChannelName, epoch: &Epoch, trimmed: Seq) {
        if let Some(channel) = self.get(name).filter(|it| it.epoch == *epoch) {
            channel.begin_behind(trimmed, Intake::forget);
        }
    }

    /// Hears how far a channel reaches in an epoch. What is missing up to there is fetched, and counted under `cause`.
    pub(crate) fn hear(&self, name: &ChannelName, epoch: &Epoch, head: Head, cause: Cause) {
        if let Some(channel) = self.get(name)
            && channel.epoch == *epoch
            && channel.hear(head)
        {
            self.healer.heal(channel, cause);
        }
    }

    /// The epoch of channels that are made now.
    pub(crate) fn epoch(&self) -> Epoch {
        lock(&self.epoch).clone()
    }

    /// Forgets the channels of all other epochs. Shards that want one of them have to ask again.
    pub(crate) fn begin_epoch(&self, epoch: &Epoch) {
        *lock(&self.epoch) = epoch.clone();
        for stripe in &self.stripes {
            lock(stripe).retain(|name, channel| {
                let stays = channel.epoch == *epoch;
                if !stays {
                    self.metrics.channels.add(-1);
                    let _ = self.commands.send(Command::Release(name.clone()));
                }
                stays
            });
        }
    }

    /// The names of all of them, sorted.
    pub(crate) fn names(&self) -> Vec<ChannelName> {
        let mut names: Vec<ChannelName> = self
            .stripes
            .iter()
            .flat_map(|stripe| lock(stripe).keys().cloned().collect::<Vec<_>>())
            .collect();
        names.sort_unstable();
        names
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).len()).sum()
    }

    /// The channel, if this node has it.
    pub(crate) fn get(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.stripe(name).get(name).cloned()
    }

    fn stripe(&self, name: &ChannelName) -> MutexGuard<'_, HashMap<ChannelName, Arc<Channel>>> {
        // The remainder is below STRIPES.
        lock(&self.stripes[(self.hasher.hash_one(name) % STRIPES as u64) as usize])
    }

    fn remove_unused(&self, now: Instant) {
        for stripe in &self.stripes {
            lock(stripe).retain(|name, channel| {
                let mut state = channel.lock();
                if let Some(intake) = &mut state.intake {
                    intake.expire(now);
                }
                let unused = state.unused_since.is_some_and(|since| now - since > LINGER);
                if unused {
                    self.metrics.channels.add(-1);
                    let _ = self.commands.send(Command::Release(name.clone()));
                }
                !unused
            });
        }
    }

    /// A failed attach: everybody who waits is told, and the next one who asks begins anew.
    fn give_up(&self, name: &ChannelName, error: &LogError) {
        let Some(channel) = self.stripe(name).remove(name) else {
            return;
        };
        self.metrics.channels.add(-1);
        // The bus may have subscribed already.
        let _ = self.commands.send(Command::Release(name.clone()));
        let shards = std::mem::take(&mut channel.lock().shards);
        for inbox in shards {
            let error = error.clone();
            inbox.send(Message::AttachFailed {
                channel: name.clone(),
                error,
            });
        }
    }
}

impl Channel {
    fn new(name: ChannelName, epoch: Epoch) -> Arc<Self> {
        let state = State {
            intake: None,
            before: Vec::new(),
            heard: Head::default(),
            shards: Vec::new(),
            unused_since: None,
            healing: false,
        };
        Arc::new(Self {
            name,
            epoch,
            state: Mutex::new(state),
        })
    }

    /// A channel that is live, and empty.
    #[cfg(any(test, feature = "scenes"))]
    pub(crate) fn live(name: ChannelName, epoch: Epoch) -> Arc<Self> {
        let channel = Self::new(name, epoch);
        channel.begin(Head::default());
        channel
    }

    /// A shard wants its news. Answers with [`Message::Attached`] at once if the channel is live already.
    pub(crate) fn attach(self: &Arc<Self>, inbox: &Arc<Inbox>) {
        let mut state = self.lock();
        if !state
            .shards
            .iter()
            .any(|known| known.shard() == inbox.shard())
        {
            state.shards.push(Arc::clone(inbox));
        }
        state.unused_since = None;
        if let Some(intake) = &state.intake {
            let head = intake.head().seq;
            inbox.send(Message::Attached(Attachment {
                channel: Arc::clone(self),
                head,
            }));
        }
    }

    /// The epoch that its numbers count in.
    pub(crate) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Its name.
    pub(crate) fn name(&self) -> &ChannelName {
        &self.name
    }

    /// How far the channel reaches, once it is live.
    pub(crate) fn head(&self) -> Option<Head> {
        self.lock().intake.as_ref().map(Intake::head)
    }

    /// Whether a reader at `seq` can go on from memory.
    pub(crate) fn reaches(&self, seq: Seq) -> bool {
        let state = self.lock();
        state.intake.as_ref().is_some_and(|it| it.reaches(seq))
    }

    /// What the ring has after `seq`.
    pub(crate) fn recent(&self, seq: Seq, bytes_max: usize) -> Recent {
        self.lock()
            .intake
            .as_ref()
            .map_or(Recent::Nothing, |intake| intake.recent(seq, bytes_max))
    }

    /// Delivers what may pass, if it is of the channel's epoch. Returns whether the caller has to fetch a hole.
    pub(crate) fn offer(&self, run: &Arc<Run>) -> bool {
        if *run.epoch() != self.epoch {
            return false;
        }
        let mut state = self.lock();
        let Some(intake) = &mut state.intake else {
            state.keep_before(run);
            return false;
        };
        for passed in intake.offer(run, Instant::now()) {
            for inbox in &state.shards {
                inbox.send(Message::Run(Arc::clone(&passed)));
            }
        }
        state.begin_healing()
    }

    /// Hands news to the shards. Returns how many of these have too many waiting to take them.
    fn tell(&self, news: &News) -> u64 {
        let told = Told::new(news.clone());
        let state = self.lock();
        let refusing = state.shards.iter().filter(|inbox| !inbox.send_news(&told));
        refusing.count() as u64
    }

    /// Hears how far the channel reaches. Returns whether the caller has to fetch a hole.
    pub(crate) fn hear(&self, head: Head) -> bool {
        let mut state = self.lock();
        let Some(intake) = &mut state.intake else {
            state.heard.seq = state.heard.seq.max(head.seq);
            return false;
        };
        intake.hear(head) && state.begin_healing()
    }

    /// The hole to be fetched now. `None` ends the healing.
    pub(crate) fn hole(&self) -> Option<(Seq, Seq)> {
        let mut state = self.lock();
        let hole = state.intake.as_ref().and_then(Intake::hole);
        state.healing = hole.is_some();
        hole
    }

    /// Gives up what retention removed before it could be fetched, and tells the shards.
    pub(crate) fn skip_trimmed(&self, trimmed: Seq) {
        self.begin_behind(trimmed, Intake::skip_trimmed);
    }

    fn begin_behind(
        &self,
        trimmed: Seq,
        skip: impl FnOnce(&mut Intake, Seq, Instant) -> Vec<Arc<Run>>,
    ) {
        let mut state = self.lock();
        let Some(intake) = &mut state.intake else {
            return;
        };
        let passed = skip(intake, trimmed, Instant::now());
        for inbox in &state.shards {
            inbox.send(Message::Trimmed {
                channel: self.name.clone(),
                epoch: self.epoch.clone(),
                trimmed,
            });
            for run in &passed {
                inbox.send(Message::Run(Arc::clone(run)));
            }
        }
    }

    /// The head is known: the channel is live. Returns whether the caller has to fetch a hole.
    fn begin(self: &Arc<Self>, head: Head) -> bool {
        let mut state = self.lock();
        if state.intake.is_some() {
            // The answer to somebody who wanted it in the epoch before was already one of this epoch.
            return false;
        }
        let mut intake = Intake::new(head);
        for run in std::mem::take(&mut state.before) {
            intake.offer(&run, Instant::now());
        }
        intake.hear(state.heard);
        let head = intake.head().seq;
        state.intake = Some(intake);
        for inbox in &state.shards {
            inbox.send(Message::Attached(Attachment {
                channel: Arc::clone(self),
                head,
            }));
        }
        state.begin_healing()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn begin_healing(&mut self) -> bool {
        let hole = self.intake.as_ref().and_then(Intake::hole);
        hole.is_some() && !std::mem::replace(&mut self.healing, true)
    }

    fn keep_before(&mut self, run: &Arc<Run>) {
        // What does not fit is fetched as a hole.
        self.heard.seq = self.heard.seq.max(run.last());
        if self.before.len() < crate::intake::EARLY_RUNS_MAX {
            self.before.push(Arc::clone(run));
        }
    }
}

impl Attachment {
    /// The channel's name.
    pub(crate) fn name(&self) -> &ChannelName {
        &self.channel.name
    }

    /// The epoch that the channel's numbers count in.
    pub(crate) fn epoch(&self) -> &Epoch {
        &self.channel.epoch
    }

    /// The head at the moment from which the shard gets all news.
    pub(crate) fn head_when_attached(&self) -> Seq {
        self.head
    }

    /// The channel.
    pub(crate) fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }

    /// Whether the ring reaches a reader at `seq`, or it has seen everything.
    pub(crate) fn reaches(&self, seq: Seq) -> bool {
        self.channel.reaches(seq)
    }
}

/// Makes channels live: first the bus, confirmed, then the head, so that nothing falls between. One task does both ways
/// in order, so that a release never undoes a later attach.
async fn attach_all(
    channels: Arc<Channels>,
    mut queue: mpsc::UnboundedReceiver<Command>,
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
) {
    let mut commands = Vec::new();
    while queue.recv_many(&mut commands, ATTACH_BATCH_MAX).await > 0 {
        let mut names = Vec::new();
        let mut released = Vec::new();
        for command in commands.drain(..) {
            match command {
                Command::Attach(name) => names.push(name),
                Command::Release(name) if channels.get(&name).is_none() => released.push(name),
                Command::Release(_) => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        released.sort_unstable();
        released.retain(|name| names.binary_search(name).is_err());
        if !released.is_empty() {
            bus.unsubscribe(released);
        }
        if !names.is_empty() {
            attach(&channels, names, &log, &bus).await;
        }
    }
}

async fn attach(
    channels: &Arc<Channels>,
    names: Vec<ChannelName>,
    log: &Arc<dyn Log>,
    bus: &Arc<dyn Bus>,
) {
    // Without the bus the channel is live all the same: the sweep of the lane log brings its news.
    bus.subscribe(names.clone()).await;
    match in_one_epoch(&**log, |log| log.heads(&names)).await {
        Ok((epoch, heads)) => {
            for (name, head) in names.iter().zip(heads) {
                // One of another epoch has gone, or will at once: its shards ask again when they are told.
                let Some(channel) = channels.get(name).filter(|it| it.epoch == epoch) else {
                    continue;
                };
                if channel.begin(head) {
                    channels.healer.heal(channel, Cause::Gap);
                }
            }
        }
        Err(error) => {
            for name in &names {
                channels.give_up(name, &error);
            }
        }
    }
}

async fn reap(channels: Arc<Channels>) {
    let mut interval = tokio::time::interval(REAP_INTERVAL);
    loop {
        interval.tick().await;
        channels.remove_unused(Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{channel, run};

    #[test]
    fn a_live_channel_does_not_begin_again() {
        let run = run(1..=2);
        let channel = Channel::new(channel("c"), run.epoch().clone());
        assert!(!channel.begin(Head::default()));
        assert!(!channel.offer(&run));
        assert!(!channel.begin(Head::default()));
        assert_eq!(channel.head().map(|head| head.seq), Some(Seq(2)));
    }
}
