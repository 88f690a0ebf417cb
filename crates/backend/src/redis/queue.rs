//! Hints and news that wait for Redis to take them: bounded, in order, hints kept until Redis has answered.
//!
//! Each of them waits in the lane of the master that serves its partition; when partitions change hands, what waits changes
//! lanes with them, in order. A hint leaves when its master has replied, when it has become too old to be of use (the sweep
//! has told the others long ago), or when newer ones need its place. News are sent at most once, and soon or not at all.
//! No IO and no clock in here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::parcel::Parcel;

/// Bytes of publications and news that may wait, for all masters together.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Hints and news that may wait, for all masters together.
pub const QUEUE_HINTS_MAX: usize = 100_000;

/// A hint that waited longer than this is given up.
pub const HINT_AGE_MAX: Duration = Duration::from_secs(60);

/// News that waited longer than this are of no use any more.
pub const NEWS_AGE_MAX: Duration = Duration::from_secs(2);

/// Bytes after which a batch is closed, so that a heartbeat never waits behind a mountain.
const BATCH_BYTES: usize = 1 << 20;

/// Hints and news after which a batch is closed.
const BATCH_PARCELS: usize = 1024;

/// The queue of one node.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
}

/// The oldest of one lane, taken to be sent. The hints are not yet gone.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) parcels: Vec<Parcel>,
    lane: usize,
    /// The ticket behind the last of them.
    end: u64,
    /// The routes that it was taken under.
    routes: u64,
}

#[derive(Debug)]
struct Waiting {
    lanes: Vec<Lane>,
    /// The lane of each partition.
    owners: Vec<usize>,
    /// Counts the changes of `owners`.
    routes: u64,
    bytes: usize,
    parcels: usize,
    /// The ticket of the next one. Tickets count up over all lanes: they are the order of arrival.
    next: u64,
}

#[derive(Debug, Default)]
struct Lane {
    parcels: VecDeque<Queued>,
    /// Rung after every push; only the lane's publisher waits for it.
    news: Arc<Notify>,
}

#[derive(Debug)]
struct Queued {
    /// `None` once it was sent and is not to be sent again.
    parcel: Option<Parcel>,
    ticket: u64,
    partition: usize,
    weight: usize,
    since: Instant,
}

impl Queue {
    /// A queue with one lane.
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lanes: vec![Lane::default()],
                owners: Vec::new(),
                routes: 0,
                bytes: 0,
                parcels: 0,
                next: 0,
            }),
        }
    }

    /// Sets the lane of each partition, and moves what waits. Batches that were taken before can no longer be
    /// [confirmed](Queue::confirm), so their hints are sent again.
    pub(super) fn route(&self, owners: Vec<usize>, lanes: usize) {
        let mut waiting = self.lock();
        let old = std::mem::take(&mut waiting.lanes);
        let mut parcels: Vec<_> = old.into_iter().flat_map(|lane| lane.parcels).collect();
        parcels.sort_unstable_by_key(|queued| queued.ticket);
        waiting.lanes.resize_with(lanes.max(1), Lane::default);
        waiting.owners = owners;
        waiting.routes += 1;
        for queued in parcels {
            waiting.place(queued);
        }
    }

    /// Adds hints and news, each with its partition. Returns how many old ones had to go for them.
    pub(super) fn push(
        &self,
        parcels: impl IntoIterator<Item = (usize, Parcel)>,
        now: Instant,
    ) -> usize {
        let mut waiting = self.lock();
        for (partition, parcel) in parcels {
            let weight = parcel.weight();
            let ticket = waiting.next;
            waiting.next += 1;
            waiting.bytes += weight;
            waiting.parcels += 1;
            waiting.place(Queued {
                parcel: Some(parcel),
                ticket,
                partition,
                weight,
                since: now,
            });
        }
        let lanes = 0..waiting.lanes.len();
        waiting.drop_excess() + lanes.map(|lane| waiting.drop_old(lane, now)).sum::<usize>()
    }

    /// The next of a lane, and how many were too old. Hints stay until they are [confirmed](Queue::confirm), and are given
    /// again if they are not; news are given once.
    pub(super) fn batch(&self, lane: usize, now: Instant) -> (Batch, usize) {
        let mut waiting = self.lock();
        let mut dropped = waiting.drop_old(lane, now);
        let mut bytes = 0;
        let mut batch = Batch {
            parcels: Vec::new(),
            lane,
            end: 0,
            routes: waiting.routes,
        };
        let queued = waiting
            .lanes
            .get_mut(lane)
            .map(|lane| lane.parcels.iter_mut());
        for queued in queued.into_iter().flatten().take(BATCH_PARCELS) {
            let age = now.saturating_duration_since(queued.since);
            match queued.parcel.take() {
                Some(Parcel::News(_)) if age > NEWS_AGE_MAX => dropped += 1,
                Some(Parcel::News(news)) => batch.parcels.push(Parcel::News(news)),
                Some(hint) => {
                    batch.parcels.push(hint.clone());
                    queued.parcel = Some(hint);
                }
                None => {}
            }
            batch.end = queued.ticket + 1;
            bytes += queued.weight;
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        (batch, dropped)
    }

    /// The master has taken the whole batch.
    pub(super) fn confirm(&self, batch: &Batch) {
        let mut waiting = self.lock();
        if waiting.routes != batch.routes {
            return;
        }
        while waiting.first(batch.lane) < Some(batch.end) && waiting.pop(batch.lane) {}
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().parcels == 0
    }

    /// Waits until there is something to send in a lane; for ever, if there is no such lane.
    pub(super) async fn ready(&self, lane: usize) {
        loop {
            let news = {
                let waiting = self.lock();
                match waiting.lanes.get(lane) {
                    Some(lane) if !lane.parcels.is_empty() => return,
                    Some(lane) => Some(Arc::clone(&lane.news)),
                    None => None,
                }
            };
            match news {
                Some(news) => news.notified().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Nothing panics while this lock is held, so a poisoned one holds whole data.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Puts one at the end of the lane of its partition.
    fn place(&mut self, queued: Queued) {
        let owner = self.owners.get(queued.partition).copied();
        let last = self.lanes.len().saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(owner.unwrap_or_default().min(last)) {
            lane.parcels.push_back(queued);
            lane.news.notify_one();
        }
    }

    fn drop_excess(&mut self) -> usize {
        let mut dropped = 0;
        while self.bytes > QUEUE_BYTES_MAX || self.parcels > QUEUE_HINTS_MAX {
            let lanes = 0..self.lanes.len();
            let oldest = lanes
                .filter_map(|lane| Some((self.first(lane)?, lane)))
                .min();
            match oldest {
                Some((_, lane)) => dropped += usize::from(self.pop(lane)),
                None => break,
            }
        }
        dropped
    }

    fn drop_old(&mut self, lane: usize, now: Instant) -> usize {
        let mut dropped = 0;
        while self
            .since(lane)
            .is_some_and(|since| now.saturating_duration_since(since) > HINT_AGE_MAX)
            && self.pop(lane)
        {
            dropped += 1;
        }
        dropped
    }

    /// The ticket of the oldest of a lane.
    fn first(&self, lane: usize) -> Option<u64> {
        Some(self.lanes.get(lane)?.parcels.front()?.ticket)
    }

    /// Since when the oldest of a lane waits.
    fn since(&self, lane: usize) -> Option<Instant> {
        Some(self.lanes.get(lane)?.parcels.front()?.since)
    }

    /// Removes the oldest of a lane.
    fn pop(&mut self, lane: usize) -> bool {
        let lane = self.lanes.get_mut(lane);
        let Some(queued) = lane.and_then(|lane| lane.parcels.pop_front()) else {
            return false;
        };
        self.bytes -= queued.weight;
        self.parcels -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{
        ChannelName, Epoch, Json, News, NewsBody, Publication, Run, Seq, hint::Hint,
    };
    use uuid::Uuid;

    use super::*;

    fn hint(n: u64, bytes: usize) -> Parcel {
        let publication = Publication {
            seq: Seq(n),
            id: Uuid::nil(),
            time: 0,
            data: Json::trusted(vec![b'1'; bytes].into()),
            info: None,
            tags: None,
        };
        let channel = ChannelName::parse("c").unwrap();
        let run = Run::new(channel, Epoch::parse("e").unwrap(), vec![publication]).unwrap();
        Parcel::Hint(Hint { lane: 1, n, run })
    }

    fn news(number: u64) -> Parcel {
        Parcel::News(News {
            channel: ChannelName::parse("c").unwrap(),
            body: NewsBody::Message {
                data: Json::parse(number.to_string().as_bytes()).unwrap(),
                info: None,
                tags: None,
            },
        })
    }

    fn numbers(batch: &Batch) -> Vec<u64> {
        let number = |parcel: &Parcel| match parcel {
            Parcel::Hint(hint) => hint.n,
            Parcel::News(news) => match &news.body {
                NewsBody::Message { data, .. } => {
                    let text = std::str::from_utf8(data.as_bytes()).unwrap();
                    text.parse().unwrap()
                }
                other => panic!("{other:?}"),
            },
        };
        batch.parcels.iter().map(number).collect()
    }

    #[test]
    fn hints_stay_until_they_are_confirmed() {
        let (queue, now) = (Queue::new(), Instant::now());
        assert_eq!(queue.push((1..=3).map(|n| (0, hint(n, 1))), now), 0);
        let (batch, _) = queue.batch(0, now);
        assert_eq!(numbers(&batch), [1, 2, 3]);
        queue.push([(0, hint(4, 1))], now);
        assert_eq!(
            numbers(&queue.batch(0, now).0),
            [1, 2, 3, 4],
            "not confirmed, so sent again"
        );
        queue.confirm(&batch);
        assert_eq!(numbers(&queue.batch(0, now).0), [4]);
    }

    #[test]
    fn news_are_given_once_and_soon() {
        let (queue, now) = (Queue::new(), Instant::now());
        queue.push([(0, news(1)), (0, hint(2, 1)), (0, news(3))], now);
        let (first, _) = queue.batch(0, now);
        assert_eq!(numbers(&first), [1, 2, 3]);
        queue.push([(0, news(4))], now);
        let late = now + NEWS_AGE_MAX + Duration::from_millis(1);
        queue.push([(0, news(5))], late);
        let (second, dropped) = queue.batch(0, late);
        assert_eq!(numbers(&second), [2, 5], "4 is too old, 1 and 3 were given");
        assert_eq!(dropped, 1);
        assert!(!queue.is_empty());
        queue.confirm(&second);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let (queue, now) = (Queue::new(), Instant::now());
        let (batch, _) = {
            queue.push([(0, hint(1, 1)), (0, hint(2, 1))], now);
            queue.batch(0, now)
        };
        let more = 3..=QUEUE_HINTS_MAX as u64 + 1;
        assert_eq!(queue.push(more.map(|n| (0, hint(n, 1))), now), 1);
        // The first of the batch was dropped meanwhile; confirming takes the second and no other.
        queue.confirm(&batch);
        assert_eq!(numbers(&queue.batch(0, now).0)[0], 3);
    }

    #[test]
    fn bytes_are_bounded_too_and_a_batch_is_small() {
        let (queue, now) = (Queue::new(), Instant::now());
        let quarter = QUEUE_BYTES_MAX / 4;
        assert_eq!(queue.push((1..=5).map(|n| (0, hint(n, quarter))), now), 2);
        assert_eq!(
            numbers(&queue.batch(0, now).0),
            [3],
            "one of these fills a batch"
        );
    }

    #[test]
    fn what_waited_too_long_is_given_up() {
        let (queue, start) = (Queue::new(), Instant::now());
        queue.push([(0, hint(1, 1))], start);
        let later = start + HINT_AGE_MAX;
        queue.push([(0, hint(2, 1))], later);
        assert_eq!(numbers(&queue.batch(0, later).0), [1, 2]);
        let (batch, dropped) = queue.batch(0, later + Duration::from_millis(1));
        assert_eq!((numbers(&batch), dropped), (vec![2], 1));
    }

    #[test]
    fn hints_follow_their_partition_to_another_master() {
        let (queue, now) = (Queue::new(), Instant::now());
        queue.push((1..=6).map(|n| (n as usize % 3, hint(n, 1))), now);
        let (early, _) = queue.batch(0, now);
        queue.route(vec![0, 1, 1], 2);
        assert_eq!(numbers(&queue.batch(0, now).0), [3, 6]);
        let (batch, _) = queue.batch(1, now);
        assert_eq!(numbers(&batch), [1, 2, 4, 5]);
        queue.confirm(&early);
        assert_eq!(
            numbers(&queue.batch(0, now).0),
            [3, 6],
            "taken under other routes"
        );
        queue.push([(2, hint(7, 1))], now);
        queue.confirm(&batch);
        assert_eq!(numbers(&queue.batch(1, now).0), [7]);
        queue.route(vec![0, 0, 0], 1);
        assert_eq!(numbers(&queue.batch(0, now).0), [3, 6, 7]);
    }

    #[test]
    fn the_bound_is_one_for_all_masters() {
        let (queue, now) = (Queue::new(), Instant::now());
        queue.route(vec![0, 1], 2);
        // Little less than half, as more than the data is weighed.
        let half = QUEUE_BYTES_MAX / 2 - 1000;
        let two = (1..=2).map(|n| (n as usize % 2, hint(n, half)));
        assert_eq!(queue.push(two, now), 0);
        let dropped = queue.push([(0, hint(3, 4000))], now);
        assert_eq!(dropped, 1);
        assert!(
            numbers(&queue.batch(1, now).0).is_empty(),
            "1 was the oldest"
        );
        assert_eq!(numbers(&queue.batch(0, now).0)[0], 2);
    }
}
