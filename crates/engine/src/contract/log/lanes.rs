//! The lane log, its sweep, and the nodes that keep lanes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use fanfare_wire::{ChannelName, Draft, Seq};

use super::{Names, Nodes, draft, drafts, keyed, write_from_everywhere};
use crate::port::{Committed, LaneBatch, LaneCursors, LaneId, Log};

pub(super) async fn entries_say_what_was_committed(nodes: &Nodes) {
    let names = Names::new();
    let (x, y) = (names.channel("x"), names.channel("y"));
    let cursors = nodes.b.lanes().await.unwrap();
    nodes.a.append(&drafts(&x, 3)).await.unwrap();
    let batch = [
        draft(&y, 1),
        keyed(&x, "k"),
        keyed(&x, "k"),
        draft(&x, 2),
        keyed(&x, "k"),
        draft(&y, 2),
    ];
    nodes.a.append(&batch).await.unwrap();
    let last = nodes
        .a
        .append(&[keyed(&x, "k"), draft(&y, 3)])
        .await
        .unwrap();
    let entries = nodes.b.sweep(&cursors, usize::MAX).await.unwrap();
    let entry = |n, channels: &[(&ChannelName, u64, u64)]| {
        let range = |(name, first, last): &(&ChannelName, u64, u64)| {
            ((*name).clone(), Seq(*first), Seq(*last))
        };
        LaneBatch {
            lane: last.lane,
            n,
            channels: channels.iter().map(range).collect(),
            unannounced: false,
        }
    };
    let expected = [
        entry(last.n - 2, &[(&x, 1, 3)]),
        entry(last.n - 1, &[(&x, 4, 5), (&y, 1, 2)]),
        entry(last.n, &[(&y, 3, 3)]),
    ];
    assert_eq!(sorted(entries), expected);
    let after = nodes.b.lanes().await.unwrap();
    assert_eq!(after[&last.lane], last.n);
    assert!(nodes.b.sweep(&after, usize::MAX).await.unwrap().is_empty());
}

/// The order of the channels in an entry is not promised.
fn sorted(mut entries: Vec<LaneBatch>) -> Vec<LaneBatch> {
    for entry in &mut entries {
        entry.channels.sort();
    }
    entries
}

pub(super) async fn a_limit_keeps_the_order(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let mut cursors = nodes.a.lanes().await.unwrap();
    for _ in 0..5 {
        for log in nodes.both() {
            log.append(&drafts(&channel, 1)).await.unwrap();
        }
    }
    let all = nodes.a.sweep(&cursors, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 10);
    assert!(all.is_sorted_by_key(|entry| (entry.lane, entry.n)));
    assert!(nodes.a.sweep(&cursors, 0).await.unwrap().is_empty());
    let mut paged = Vec::new();
    for _ in 0..4 {
        let page = nodes.a.sweep(&cursors, 3).await.unwrap();
        advance(&mut cursors, &page);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// Moves the cursors, and proves that no n was skipped.
fn advance(cursors: &mut LaneCursors, entries: &[LaneBatch]) {
    for entry in entries {
        let cursor = cursors.entry(entry.lane).or_default();
        assert_eq!(
            entry.n,
            *cursor + 1,
            "lane {:?} skipped a batch",
            entry.lane
        );
        *cursor = entry.n;
    }
}

pub(super) async fn a_sweep_beside_writers_skips_nothing(nodes: &Nodes) {
    let names = Names::new();
    let channels: Vec<_> = (0..20).map(|number| names.channel(number)).collect();
    let cursors = nodes.b.lanes().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let sweeper = tokio::spawn(sweep_until(nodes.b.clone(), cursors, done.clone()));
    let written = write_from_everywhere(nodes, &channels, 40).await;
    done.store(true, Ordering::Release);
    let seen = sweeper.await.unwrap();
    assert_eq!(seen.len(), written.len(), "every batch has one entry");
    for (batch, committed) in &written {
        let entry = seen
            .get(&(committed.lane, committed.n))
            .expect("an entry for every batch");
        assert_eq!(*entry, ranges(batch, committed));
    }
}

type Ranges = BTreeMap<ChannelName, (u64, u64)>;

/// Sweeps until the writers are done and nothing is left, following each channel's numbers on the way.
async fn sweep_until(
    log: Arc<dyn Log>,
    mut cursors: LaneCursors,
    done: Arc<AtomicBool>,
) -> BTreeMap<(LaneId, u64), Ranges> {
    let mut seen = BTreeMap::new();
    let mut reached: BTreeMap<ChannelName, u64> = BTreeMap::new();
    loop {
        let last_round = done.load(Ordering::Acquire);
        let entries = log.sweep(&cursors, usize::MAX).await.unwrap();
        advance(&mut cursors, &entries);
        let mut news = Vec::new();
        for entry in entries {
            let ranges: Ranges = entry
                .channels
                .into_iter()
                .map(|(name, first, last)| (name, (first.0, last.0)))
                .collect();
            news.extend(ranges.clone());
            seen.insert((entry.lane, entry.n), ranges);
        }
        // One snapshot: whoever sees a number sees all before it, whatever lane they came through.
        news.sort();
        for (name, (first, last)) in news {
            let head = reached.entry(name.clone()).or_default();
            assert_eq!(
                first,
                *head + 1,
                "{name}: a sweep saw a number without the one before"
            );
            *head = last;
        }
        if last_round {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

fn ranges(batch: &[Draft], committed: &Committed) -> Ranges {
    let mut ranges = Ranges::new();
    for (draft, outcome) in batch.iter().zip(&committed.outcomes) {
        let seq = outcome.seq.0;
        ranges.entry(draft.channel.clone()).or_insert((seq, seq)).1 = seq;
    }
    ranges
}

pub(super) async fn nodes_hear_of_each_other(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    for _ in 0..2 {
        let about = |name: &str| Bytes::from(format!("{{\"name\":\"{name} Ü\"}}"));
        nodes.a.heartbeat(about("a")).await.unwrap();
        nodes.b.heartbeat(about("b")).await.unwrap();
        let records = nodes.a.heartbeat(about("a")).await.unwrap();
        let lanes = [
            nodes.a.append(&drafts(&channel, 1)).await.unwrap().lane,
            nodes.b.append(&drafts(&channel, 1)).await.unwrap().lane,
        ];
        let record = |lane| {
            let mut found = records.iter().filter(|record| record.lane == lane);
            let record = found.next().expect("every living node has a record");
            assert!(found.next().is_none());
            record.about.clone()
        };
        assert_eq!(record(lanes[0]), about("a"));
        let theirs = if lanes[0] == lanes[1] { "a" } else { "b" };
        assert_eq!(record(lanes[1]), about(theirs));
    }
}
