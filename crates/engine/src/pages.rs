//! Shared reads of the log.
//!
//! Numbers are dense, so history can be cut into aligned pages: page p of a channel holds the numbers
//! `p * PAGE + 1 ..= (p + 1) * PAGE`. Readers that stand anywhere within a page share one read of it and one copy in
//! memory, and ten thousand returning clients become a handful of queries under a fixed ceiling.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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
/// Reads of the log for catching up that run at the same time, if their pages are small.
pub(crate) const PAGE_READS_MAX: u32 = 32;
/// What the pages that are being read at the same time may weigh, in bytes, going by what pages weighed lately. A driver
/// may hold as much again while it decodes them.
pub(crate) const PAGE_READ_BYTES_MAX: usize = 32 << 20;
/// What the cached pages may weigh, in bytes, on a node, with the forms in which they have been encoded.
pub(crate) const PAGE_CACHE_BYTES_MAX: usize = 32 << 20;

/// What one of the permits to read stands for.
const PERMIT_BYTES: usize = PAGE_READ_BYTES_MAX / PAGE_READS_MAX as usize;

/// The outcome of reading a page: what is in it, or `None` if nothing is. The run says of which epoch it is.
pub(crate) type PageResult = Result<Option<Arc<Run>>, LogError>;

type Key = (ChannelName, u64);

/// The page reader of a node.
pub(crate) struct Pages {
    log: Arc<dyn Log>,
    state: Mutex<State>,
    permits: Semaphore,
    /// What a page is taken to weigh: the heaviest one lately.
    expected_bytes: AtomicUsize,
    metrics: Arc<Metrics>,
}

struct State {
    /// The epoch of all that is cached.
    epoch: Epoch,
    cached: HashMap<Key, Arc<Run>>,
    /// The keys of `cached`, the oldest first.
    order: VecDeque<Key>,
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
            reading: HashMap::new(),
        };
        Arc::new(Self {
            log,
            state: Mutex::new(state),
            permits: Semaphore::new(PAGE_READS_MAX as usize),
            expected_bytes: AtomicUsize::new(0),
            metrics,
        })
    }

    /// Forgets the pages of all other epochs.
    pub(crate) fn begin_epoch(&self, epoch: &Epoch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.epoch = epoch.clone();
        state.cached.clear();
        state.order.clear();
    }

    /// Forgets the pages of a channel: something of it was removed from the log.
    pub(crate) fn forget(&self, channel: &ChannelName) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cached.retain(|(name, _), _| name != channel);
        state.order.retain(|(name, _)| name != channel);
    }

    /// The page for a reader at `seq`, if it is in memory and leads on from there.
    pub(crate) fn cached(&self, channel: &ChannelName, seq: Seq) -> Option<Arc<Run>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.leads_on(channel, seq)
    }

    /// Reads the page for a reader at `seq` and tells `inbox`; joins a read of the same page that is under way.
    pub(crate) fn request(self: &Arc<Self>, channel: ChannelName, seq: Seq, inbox: Arc<Inbox>) {
        let page = page_after(seq);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have come since the reader looked.
        if let Some(run) = state.leads_on(&channel, seq) {
            let result = Ok(Some(run));
            return inbox.send(Message::Page {
                channel,
                page,
                result,
            });
        }
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
        let permits = permits_for(self.expected_bytes.load(Relaxed));
        let _permit = self.permits.acquire_many(permits).await.map_err(closed)?;
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
        let run = Run::new(channel.clone(), epoch, publications);
        if let Some(run) = &run {
            // A heavy page is remembered for the next few dozen; a lost update would only be one of them.
            let expected = self.expected_bytes.load(Relaxed);
            let expected = run.weight().max(expected - expected / 16);
            self.expected_bytes.store(expected, Relaxed);
        }
        Ok(run)
    }
}

/// How many permits a read takes whose page is expected to weigh so many bytes.
fn permits_for(expected_bytes: usize) -> u32 {
    let permits = expected_bytes.div_ceil(PERMIT_BYTES);
    u32::try_from(permits).map_or(PAGE_READS_MAX, |permits| permits.clamp(1, PAGE_READS_MAX))
}

impl State {
    /// A cached page on which a reader at `seq` can go on.
    fn leads_on(&self, channel: &ChannelName, seq: Seq) -> Option<Arc<Run>> {
        let run = self.cached.get(&(channel.clone(), page_after(seq)))?;
        // A page from which retention took the beginning must not hide that it did.
        (run.last() > seq && run.first() <= seq.next()).then(|| Arc::clone(run))
    }

    fn put(&mut self, key: Key, run: Arc<Run>) {
        if *run.epoch() != self.epoch {
            return;
        }
        if self.cached.insert(key.clone(), run).is_none() {
            self.order.push_back(key);
        }
        // Pages grow when they are encoded, which nobody reports; so what they weigh is looked at anew. There are at most
        // some thousands of them, and a read of the log has just been paid for.
        let mut bytes: usize = self.cached.values().map(|run| run.footprint()).sum();
        while bytes > PAGE_CACHE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(run) = self.cached.remove(&oldest) {
                bytes -= run.footprint();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{ChannelName, Epoch, Form, FormId, Json, Publication};
    use uuid::Uuid;

    use super::*;

    struct Plain;
    impl Form for Plain {
        fn encode(&self, _: &ChannelName, _: &Epoch, publication: &Publication, out: &mut Vec<u8>) {
            out.extend_from_slice(publication.data.as_bytes());
        }
    }

    /// A page of one publication of a mebibyte.
    fn page(number: u64) -> (Key, Arc<Run>) {
        let channel = ChannelName::parse("room").unwrap();
        let data = format!("\"{}\"", "x".repeat((1 << 20) - 2));
        let publication = Publication {
            seq: Seq(number * PAGE + 1),
            id: Uuid::nil(),
            time: fanfare_wire::Millis::default(),
            data: Json::parse(data.as_bytes()).unwrap(),
            info: None,
            tags: None,
        };
        let epoch = Epoch::parse("e").unwrap();
        let run = Run::new(channel.clone(), epoch, vec![publication]).unwrap();
        ((channel, number), run)
    }

    #[test]
    fn encoded_pages_count_for_what_they_have_become() {
        let mut state = State {
            epoch: Epoch::parse("e").unwrap(),
            cached: HashMap::new(),
            order: VecDeque::new(),
            reading: HashMap::new(),
        };
        let pages: Vec<_> = (0..31).map(page).collect();
        for (key, run) in &pages {
            state.put(key.clone(), Arc::clone(run));
        }
        assert_eq!(state.cached.len(), 31, "plain pages fit");
        for (_, run) in &pages {
            run.encoded(FormId(0), &Plain);
        }
        let (key, run) = page(31);
        state.put(key.clone(), run);
        assert!(state.cached.contains_key(&key), "the newest stays");
        let bytes: usize = state.cached.values().map(|run| run.footprint()).sum();
        assert!(bytes <= PAGE_CACHE_BYTES_MAX, "{bytes}");
        assert!(bytes > PAGE_CACHE_BYTES_MAX / 2, "{bytes}");
        assert_eq!(state.order.len(), state.cached.len());
    }

    #[test]
    fn heavy_pages_are_read_a_few_at_a_time() {
        assert_eq!(permits_for(0), 1);
        assert_eq!(permits_for(PERMIT_BYTES), 1);
        assert_eq!(permits_for(8 * PERMIT_BYTES), 8);
        assert_eq!(permits_for(usize::MAX), PAGE_READS_MAX);
    }
}
