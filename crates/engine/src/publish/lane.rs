//! The node's lane: one batch in flight, the next one gathers; what belongs to other nodes is handed to them meanwhile.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
};

use fanfare_wire::{ChannelName, Draft, Epoch, Publication, Seq};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    BATCH_BYTES_MAX, BATCH_DRAFTS_MAX, Published,
    abroad::{Abroad, Answer, News},
    pending::{Parcel, Pending, Reply, Sender, Way},
};
use crate::{
    load::Load,
    metrics::Metrics,
    port::{
        AppendError, Committed, Direction, Log, Outcome, ReadRange,
        peers::{Line, Members, NotTaken, Peers, Taken},
    },
    spread::Spread,
    task,
};

/// What stands in the lane's queue.
pub(super) enum Item {
    Publish(Pending),
    /// Drafts that another node handed on.
    Parcel {
        line: Arc<Line>,
        drafts: Vec<Draft>,
        sender: oneshot::Sender<Result<Taken, NotTaken>>,
    },
    /// There are other nodes.
    Join(Arc<dyn Peers>),
    /// These are alive.
    Members(Members),
    /// Somebody wants to know when everything that was taken is committed or refused.
    Flush(oneshot::Sender<()>),
}

/// A batch that has come back from the log.
type Landed = (Vec<Sender>, Vec<Draft>, Result<Committed, AppendError>);
type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

pub(super) struct Lane {
    log: Arc<dyn Log>,
    spread: Arc<Spread>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    /// To be committed here, in the order in which it was taken.
    waiting: VecDeque<Pending>,
    abroad: Abroad,
    flushes: Vec<oneshot::Sender<()>>,
    closed: bool,
}

/// What happens next.
enum Event {
    Landed(Landed),
    Answer(Answer),
    Late,
    Item(Option<Item>),
}

impl Lane {
    /// Commits what comes out of the queue until its end.
    pub(super) async fn run(
        log: Arc<dyn Log>,
        spread: Arc<Spread>,
        load: Arc<Load>,
        metrics: Arc<Metrics>,
        mut queue: mpsc::Receiver<Item>,
    ) {
        let (abroad, mut answers) = Abroad::new(Arc::clone(&metrics));
        let mut lane = Self {
            log,
            spread,
            load,
            metrics,
            waiting: VecDeque::new(),
            abroad,
            flushes: Vec::new(),
            closed: false,
        };
        let mut flight: Option<Flight> = None;
        loop {
            if flight.is_none() {
                flight = lane.take_off();
            }
            if flight.is_none() && lane.closed {
                return;
            }
            // While a batch is in flight the next one gathers in the queue, unless some of it goes elsewhere.
            let listens = !lane.closed && (flight.is_none() || lane.abroad.is_watchful());
            let due = lane.abroad.due();
            let event = tokio::select! {
                biased;
                landed = landing(&mut flight), if flight.is_some() => Event::Landed(landed),
                Some(answer) = answers.recv() => Event::Answer(answer),
                () = late(due), if due.is_some() => Event::Late,
                item = queue.recv(), if listens => Event::Item(item),
            };
            let now = Instant::now();
            match event {
                Event::Landed(landed) => {
                    flight = None;
                    lane.landed(landed, now);
                    lane.abroad.settle(&mut lane.waiting, now);
                }
                Event::Answer(answer) => lane.answered(answer, now),
                Event::Late => {
                    let home = lane.abroad.late(now);
                    lane.waiting.extend(home);
                }
                Event::Item(None) => lane.closed = true,
                Event::Item(Some(item)) => lane.take_all(item, &mut queue, now),
            }
            lane.abroad.dispatch(2 * lane.load.batch_time(), now);
        }
    }

    /// Takes an item and what has gathered behind it, no more than a batch at a time.
    fn take_all(&mut self, first: Item, queue: &mut mpsc::Receiver<Item>, now: Instant) {
        self.take(first, now);
        for _ in 1..BATCH_DRAFTS_MAX {
            let Ok(item) = queue.try_recv() else { break };
            self.take(item, now);
        }
    }

    fn take(&mut self, item: Item, now: Instant) {
        match item {
            Item::Publish(pending) => {
                if !self.abroad.crowds.is_empty()
                    && let Some(own) = self.abroad.own()
                {
                    self.abroad.crowds.own(&pending.draft.channel, own, now);
                }
                self.waiting.extend(self.abroad.take(pending, now));
            }
            Item::Parcel {
                line,
                drafts,
                sender,
            } => {
                let mut crowded = false;
                for draft in &drafts {
                    crowded |= self.abroad.crowds.hand(&draft.channel, line.from(), now);
                }
                let parcel = Parcel::new(line, drafts.len(), crowded, sender);
                let foreign = |draft| Pending::foreign(draft, &parcel);
                self.waiting.extend(drafts.into_iter().map(foreign));
            }
            Item::Join(peers) => self.abroad.join(peers),
            Item::Members(members) => {
                let home = self.abroad.meet(members, now);
                self.waiting.extend(home);
            }
            Item::Flush(sender) => self.flushes.push(sender),
        }
    }

    /// Hands the next batch to the log.
    fn take_off(&mut self) -> Option<Flight> {
        let mut bytes = 0;
        let (mut drafts, mut senders) = (Vec::new(), Vec::new());
        while drafts.len() < BATCH_DRAFTS_MAX
            && let Some(next) = self.waiting.front()
            && (drafts.is_empty() || bytes + next.draft.weight() <= BATCH_BYTES_MAX)
            && let Some(next) = self.waiting.pop_front()
        {
            let weight = next.draft.weight();
            self.load.give_room(weight);
            if next.is_void() {
                next.sender
                    .failed(AppendError::Unavailable("the line is broken".to_owned()));
                continue;
            }
            bytes += weight;
            drafts.push(next.draft);
            senders.push(next.sender);
        }
        if drafts.is_empty() {
            if self.abroad.is_idle() {
                for sender in self.flushes.drain(..) {
                    // Who no longer waits does not want to know.
                    let _ = sender.send(());
                }
            }
            return None;
        }
        let log = Arc::clone(&self.log);
        self.load.batch_begins(Instant::now());
        let started = Instant::now();
        let metrics = Arc::clone(&self.metrics);
        Some(Box::pin(async move {
            let result = log.append(&drafts).await;
            metrics.commit_seconds.record(started.elapsed());
            (senders, drafts, result)
        }))
    }

    /// The log has answered.
    fn landed(&mut self, (senders, drafts, result): Landed, now: Instant) {
        self.load.batch_ends(now);
        self.metrics.batches.add(1);
        // Before anything is shown: what was committed may be of another epoch than the one before.
        self.spread.check_epoch();
        let committed = match result {
            Ok(committed) => committed,
            Err(error) => {
                self.metrics.append_errors.add(drafts.len() as u64);
                if matches!(error, AppendError::Unknown(_)) {
                    self.metrics.unknown_outcomes.add(drafts.len() as u64);
                }
                for sender in senders {
                    sender.failed(error.clone());
                }
                return;
            }
        };
        if let Some(contention) = &committed.contention {
            self.metrics.lock_wait_seconds.record(contention.waited);
            self.abroad.heat.learn(contention, now);
        }
        let runs = self.spread.show(drafts, &committed);
        self.tell_all(senders, &committed.epoch, &committed.outcomes);
        self.spread.hint(&committed, runs);
    }

    /// Another node has answered.
    fn answered(&mut self, answer: Answer, now: Instant) {
        match self.abroad.answered(answer, now) {
            News::Nothing => {}
            News::Home(home) => self.waiting.extend(home),
            News::Done(batch, taken) => {
                self.spread.check_epoch();
                let weights = batch.iter().map(|pending| pending.draft.weight());
                weights.for_each(|weight| self.load.give_room(weight));
                let both = batch.into_iter().map(|it| (it.draft, it.sender));
                let (drafts, senders): (_, Vec<_>) = both.unzip();
                self.spread.show_taken(drafts, &taken);
                self.tell_all(senders, &taken.epoch, &taken.outcomes);
            }
        }
    }

    /// Tells publishers what became of their drafts. One that was handed on may have met itself in the log: then it is no
    /// duplicate of anything.
    fn tell_all(&self, senders: Vec<Sender>, epoch: &Epoch, outcomes: &[Outcome]) {
        let mut doubtful: BTreeMap<ChannelName, Vec<Doubtful>> = BTreeMap::new();
        for (sender, outcome) in senders.into_iter().zip(outcomes) {
            let mut published = Published::new(epoch, outcome);
            published.duplicate &= !sender.key_is_made;
            match sender.way {
                Way::Back(channel, id) if published.duplicate => {
                    let of_channel = doubtful.entry(channel).or_default();
                    of_channel.push((id, published, sender.reply));
                }
                _ => sender.reply.send(Ok(published)),
            }
        }
        for (channel, doubtful) in doubtful {
            task::spawn(tell_apart(Arc::clone(&self.log), channel, doubtful));
        }
    }
}

/// A draft that was handed on, where a draft with its key is, and whom to tell.
type Doubtful = (Uuid, Published, Reply);

/// Tells publishers whether what has the key of their draft is the draft itself, or an earlier one.
async fn tell_apart(log: Arc<dyn Log>, channel: ChannelName, doubtful: Vec<Doubtful>) {
    let numbers = || doubtful.iter().map(|(_, published, _)| published.seq.0);
    let (first, last) = (numbers().min(), numbers().max());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    // An earlier one may be far back. Then all but the first are likely to be themselves, or not worth a long read.
    let range = ReadRange {
        from: Seq(first.saturating_sub(1)),
        limit: usize::try_from(last - first + 1)
            .map_or(BATCH_DRAFTS_MAX, |it| it.min(2 * BATCH_DRAFTS_MAX)),
        direction: Direction::Forward,
    };
    let found = log.read(&channel, range).await.unwrap_or_default();
    for (id, mut published, reply) in doubtful {
        let is_itself = |it: &Publication| it.seq == published.seq && it.id == id;
        published.duplicate = !found.iter().any(is_itself);
        reply.send(Ok(published));
    }
}

async fn landing(flight: &mut Option<Flight>) -> Landed {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

async fn late(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
