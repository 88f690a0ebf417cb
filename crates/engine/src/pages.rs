//! Shared reads of the log.
//!
//! Numbers are dense, so history can be cut into aligned pages: page p of a channel holds the numbers
//! `p * PAGE + 1 ..= (p + 1) * PAGE`. Readers that stand anywhere within a page share one read of it and one copy in
//! memory, and ten thousand returning clients become a handful of queries under a fixed ceiling.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use fanfare_wire::{ChannelName, Epoch, Run, Seq};
use tokio::sync::Semaphore;

use crate::{
    epoch::in_one_epoch,
    hub::{Inbox, Message},
    metrics::Metrics,
    port::{Direction, Log, LogError, ReadRange},
    task,
};

/// Publications in a page.
pub(crate) const PAGE: u64 = 128;
/// Reads of the log for catching up that run at the same time.
pub(crate) const PAGE_READS_MAX: usize = 32;
/// What the cached pages may weigh, in bytes, on a node. Their encoded forms and what the allocator keeps come on top: a
/// node that serves many readers from far back was seen to level off at three to four times as much.
pub(crate) const PAGE_CACHE_BYTES_MAX: usize = 32 << 20;

/// The outcome of reading a page: what is in it, or `None` if nothing is. The run says of which epoch it is.
pub(crate) type PageResult = Result<Option<Arc<Run>>, LogError>;

type Key = (ChannelName, u64);

/// The page reader of a node.
pub(crate) struct Pages {
    log: Arc<dyn Log>,
    state: Mutex<State>,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

struct State {
    /// The epoch of all that is cached.
    epoch: Epoch,
    cached: HashMap<Key, Arc<Run>>,
    /// The keys of `cached`, the oldest first.
    order: VecDeque<Key>,
    bytes: usize,
    reading: HashMap<Key, Vec<Arc<Inbox>>>,
}

/// The page that holds the number after `seq`.
pub(crate) fn page_after(seq: Seq) -> u64 {
    seq.0 / PAGE
}

impl Pages {
    pub(crate) fn new(log: Arc<dyn Log>, metrics: Arc<Metrics>) -> Arc<Self> {
        let state = State {
            epoch: log.epoch(),
            cached: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            reading: HashMap::new(),
        };
        Arc::new(Self {
            log,
            state: Mutex::new(state),
            permits: Semaphore::new(PAGE_READS_MAX),
            metrics,
        })
    }

    /// Forgets the pages of all other epochs.
    pub(crate) fn begin_epoch(&self, epoch: &Epoch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.epoch = epoch.clone();
        state.cached.clear();
        state.order.clear();
        state.bytes = 0;
    }

    /// The page for a reader at `seq`, if it is in memory and leads on from there.
    pub(crate) fn cached(&self, channel: &ChannelName, seq: Seq) -> Option<Arc<Run>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let run = state.cached.get(&(channel.clone(), page_after(seq)))?;
        // A page from which retention took the beginning must not hide that it did.
        (run.last() > seq && run.first() <= seq.next()).then(|| Arc::clone(run))
    }

    /// Reads a page and tells `inbox`; joins a read of the same page that is under way.
    pub(crate) fn request(self: &Arc<Self>, channel: ChannelName, page: u64, inbox: Arc<Inbox>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.reading.entry((channel.clone(), page)) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push(inbox),
            Entry::Vacant(nobody) => {
                nobody.insert(vec![inbox]);
                task::spawn(Arc::clone(self).read(channel, page));
            }
        }
    }

    async fn read(self: Arc<Self>, channel: ChannelName, page: u64) {
        let result = self.read_log(&channel, page).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some(run)) = &result {
            state.put((channel.clone(), page), Arc::clone(run));
        }
        let waiting = state
            .reading
            .remove(&(channel.clone(), page))
            .unwrap_or_default();
        drop(state);
        for inbox in waiting {
            inbox.send(Message::Page {
                channel: channel.clone(),
                page,
                result: result.clone(),
            });
        }
    }

    async fn read_log(&self, channel: &ChannelName, page: u64) -> PageResult {
        let closed = |_| LogError("the node is shutting down".to_owned());
        let _permit = self.permits.acquire().await.map_err(closed)?;
        self.metrics.page_reads.add(1);
        let range = ReadRange {
            from: Seq(page * PAGE),
            // PAGE fits any usize.
            limit: PAGE as usize,
            direction: Direction::Forward,
        };
        let (epoch, mut publications) =
            in_one_epoch(&*self.log, |log| log.read(channel, range)).await?;
        // When retention has removed the beginning of a page, a read "after" it runs over its end.
        publications.retain(|publication| publication.seq.0 <= (page + 1) * PAGE);
        Ok(Run::new(channel.clone(), epoch, publications))
    }
}

impl State {
    fn put(&mut self, key: Key, run: Arc<Run>) {
        if *run.epoch() != self.epoch {
            return;
        }
        self.bytes += run.weight();
        match self.cached.insert(key.clone(), run) {
            Some(before) => self.bytes -= before.weight(),
            None => self.order.push_back(key),
        }
        while self.bytes > PAGE_CACHE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(run) = self.cached.remove(&oldest) {
                self.bytes -= run.weight();
            }
        }
    }
}
