//! Appending: numbers, idempotency keys, time.

use std::collections::BTreeSet;

use fanfare_wire::{ChannelName, Seq};

use super::{
    Acknowledged, Names, Nodes, draft, drafts, forward, keyed, note, numbers, seqs,
    write_from_everywhere,
};

pub(super) async fn numbers_are_dense_under_concurrent_writers(nodes: &Nodes) {
    let names = Names::new();
    let channels: Vec<_> = (0..7).map(|number| names.channel(number)).collect();
    let written = write_from_everywhere(nodes, &channels, 25).await;
    let mut acknowledged = Acknowledged::new();
    let mut batches = BTreeSet::new();
    for (batch, committed) in &written {
        note(&mut acknowledged, batch, committed);
        let fresh = batches.insert((committed.lane, committed.n));
        assert!(fresh && committed.n > 0, "batch numbers are used once");
    }
    for (channel, told) in &acknowledged {
        let last = told.len() as u64;
        assert!(
            told.keys().copied().eq(1..=last),
            "{channel} has holes: {:?}",
            told.keys()
        );
        for log in nodes.both() {
            let head = log.heads(std::slice::from_ref(channel)).await.unwrap()[0];
            assert_eq!((head.seq, head.trimmed), (Seq(last), Seq::ZERO));
            let read = log.read(channel, forward(0, usize::MAX)).await.unwrap();
            let read: Vec<_> = read.iter().map(|read| (read.seq.0, read.id)).collect();
            let told: Vec<_> = told.iter().map(|(seq, id)| (*seq, *id)).collect();
            assert_eq!(read, told, "what is read is what was acknowledged");
        }
    }
}

pub(super) async fn a_batch_is_numbered_in_its_order(nodes: &Nodes) {
    let names = Names::new();
    let [x, y, z] = ["x", "y", "z"].map(|name| names.channel(name));
    let batch: Vec<_> = [&z, &x, &z, &y, &x, &z]
        .map(|channel| draft(channel, 1))
        .into();
    let first = nodes.a.append(&batch).await.unwrap();
    assert_eq!(numbers(&first), [1, 1, 2, 1, 2, 3]);
    let second = nodes.b.append(&batch).await.unwrap();
    assert_eq!(numbers(&second), [4, 3, 5, 2, 4, 6]);
    assert!(
        first
            .outcomes
            .iter()
            .all(|outcome| !outcome.duplicate && outcome.time > 0)
    );
}

pub(super) async fn a_batch_over_many_new_channels(nodes: &Nodes) {
    let names = Names::new();
    let channels: Vec<ChannelName> = (0..700).map(|number| names.channel(number)).collect();
    let batch: Vec<_> = channels
        .iter()
        .rev()
        .map(|channel| draft(channel, 1))
        .collect();
    let there: Vec<_> = channels.iter().map(|channel| draft(channel, 2)).collect();
    // Both nodes meet the channels for the first time, in opposite orders.
    let (first, second) = tokio::join!(nodes.a.append(&batch), nodes.b.append(&there));
    let (first, second) = (numbers(&first.unwrap()), numbers(&second.unwrap()));
    for (mine, theirs) in first.iter().rev().zip(&second) {
        assert_eq!(mine + theirs, 3);
    }
}

pub(super) async fn an_empty_batch_commits_nothing(nodes: &Nodes) {
    let before = nodes.a.lanes().await.unwrap();
    let committed = nodes.a.append(&[]).await.unwrap();
    assert_eq!((committed.n, committed.outcomes.len()), (0, 0));
    assert_eq!(nodes.a.lanes().await.unwrap(), before);
}

pub(super) async fn a_key_commits_once_within_a_batch(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let batch = [
        keyed(&channel, "k"),
        draft(&channel, 1),
        keyed(&channel, "k"),
        keyed(&channel, "other"),
    ];
    let committed = nodes.a.append(&batch).await.unwrap();
    assert_eq!(numbers(&committed), [1, 2, 1, 3]);
    let duplicates: Vec<_> = committed.outcomes.iter().map(|it| it.duplicate).collect();
    assert_eq!(duplicates, [false, false, true, false]);
    assert_eq!(committed.outcomes[0].time, committed.outcomes[2].time);
    let read = nodes.b.read(&channel, forward(0, 10)).await.unwrap();
    assert_eq!(seqs(&read), [1, 2, 3]);
    assert_eq!(read[0].id, batch[0].id, "the first one is kept");
}

pub(super) async fn a_key_commits_once_across_batches_and_nodes(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let first = nodes
        .a
        .append(&[draft(&channel, 1), keyed(&channel, "k")])
        .await
        .unwrap();
    nodes.b.append(&drafts(&channel, 3)).await.unwrap();
    for log in nodes.both() {
        let before = log.heads(std::slice::from_ref(&channel)).await.unwrap()[0]
            .seq
            .0;
        // Fresh ones before, between and after the duplicates: no number may be lost to a duplicate.
        let batch = [
            draft(&channel, 1),
            keyed(&channel, "k"),
            draft(&channel, 2),
            keyed(&channel, "k"),
            draft(&channel, 3),
        ];
        let again = log.append(&batch).await.unwrap();
        assert_eq!(numbers(&again), [before + 1, 2, before + 2, 2, before + 3]);
        for at in [1, 3] {
            assert!(again.outcomes[at].duplicate);
            assert_eq!(again.outcomes[at].time, first.outcomes[1].time);
        }
        for at in [0, 2, 4] {
            assert!(!again.outcomes[at].duplicate);
        }
    }
}

pub(super) async fn a_key_raced_by_all_nodes_commits_once(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    for round in 0..20 {
        let key = format!("round {round}");
        let mut racers = tokio::task::JoinSet::new();
        for log in nodes.both().into_iter().cycle().take(6) {
            let (log, batch) = (log.clone(), [keyed(&channel, &key)]);
            racers.spawn(async move { log.append(&batch).await.unwrap().outcomes[0] });
        }
        let outcomes = racers.join_all().await;
        let first = outcomes.iter().filter(|outcome| !outcome.duplicate).count();
        assert_eq!(first, 1, "exactly one is not a duplicate: {outcomes:?}");
        let expected = (Seq(round + 1), outcomes[0].time);
        assert!(
            outcomes
                .iter()
                .all(|outcome| (outcome.seq, outcome.time) == expected)
        );
    }
    let read = nodes.a.read(&channel, forward(0, 100)).await.unwrap();
    assert_eq!(read.len(), 20);
}

pub(super) async fn a_key_counts_in_its_channel_only(nodes: &Nodes) {
    let names = Names::new();
    let (x, y) = (names.channel("x"), names.channel("y"));
    let odd = "schlüssel\0 \"'\\";
    let first = nodes
        .a
        .append(&[keyed(&x, odd), keyed(&y, odd)])
        .await
        .unwrap();
    assert_eq!(numbers(&first), [1, 1]);
    assert!(first.outcomes.iter().all(|outcome| !outcome.duplicate));
    let second = nodes
        .b
        .append(&[keyed(&y, odd), keyed(&y, "schlüssel")])
        .await
        .unwrap();
    assert_eq!(numbers(&second), [1, 2]);
    assert!(second.outcomes[0].duplicate && !second.outcomes[1].duplicate);
}

pub(super) async fn a_batch_of_duplicates_has_no_number(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let batch = [keyed(&channel, "1"), keyed(&channel, "2")];
    let first = nodes.a.append(&batch).await.unwrap();
    let lanes = nodes.a.lanes().await.unwrap();
    for log in nodes.both() {
        let again = log.append(&batch).await.unwrap();
        assert_eq!(again.n, 0);
        assert_eq!(numbers(&again), [1, 2]);
        assert!(again.outcomes.iter().all(|outcome| outcome.duplicate));
    }
    assert_eq!(
        nodes.a.lanes().await.unwrap(),
        lanes,
        "and no entry in the lane log"
    );
    let next = nodes.a.append(&[draft(&channel, 3)]).await.unwrap();
    assert_eq!((next.n, numbers(&next)), (first.n + 1, vec![3]));
}

pub(super) async fn time_never_goes_back_in_a_channel(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    for _ in 0..10 {
        for log in nodes.both() {
            let committed = log.append(&drafts(&channel, 2)).await.unwrap();
            assert!(committed.outcomes[0].time <= committed.outcomes[1].time);
        }
    }
    let read = nodes.a.read(&channel, forward(0, 100)).await.unwrap();
    assert_eq!(read.len(), 40);
    assert!(read.is_sorted_by_key(|publication| publication.time));
}
