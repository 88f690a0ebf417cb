//! A batch of a few drafts goes a way of its own through the server; what comes of it is what comes of them among many.

use std::{sync::Arc, time::Duration};

use fanfare_engine::port::{LaneCursors, Log};
use fanfare_wire::{Draft, Json, Seq};

use super::{TestDatabase, WAITING, channel, count, draft, read_all, wait_for};

/// A draft with everything that one can have.
fn full(name: &str, key: &str) -> Draft {
    let mut draft = draft(name, Some(key));
    draft.info = Some(Json::parse(br#"{"user":"u"}"#).unwrap());
    draft.tags = Some(Json::parse(br#"{"t":"1"}"#).unwrap());
    draft
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_alone_is_kept_as_what_comes_among_others() {
    let database = TestDatabase::new();
    let log = database.open().await;
    // The first one makes the channel, and goes the way of all.
    log.append(&[draft("c", None)]).await.unwrap();
    let (alone, among) = (full("c", "k2"), full("c", "k3"));
    let first = log.append(std::slice::from_ref(&alone)).await.unwrap();
    let second = log
        .append(&[among.clone(), draft("d", None)])
        .await
        .unwrap();
    let third = log.append(&[draft("c", None)]).await.unwrap();
    let seqs = [&first, &second, &third].map(|it| it.outcomes[0].seq);
    assert_eq!(seqs, [Seq(2), Seq(3), Seq(4)]);
    assert_eq!((second.n, third.n), (first.n + 1, first.n + 2));
    assert!(first.outcomes[0].time <= second.outcomes[0].time);

    let kept = read_all(&log, "c").await;
    let numbers: Vec<u64> = kept.iter().map(|it| it.seq.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for (publication, draft, committed) in [(&kept[1], &alone, &first), (&kept[2], &among, &second)]
    {
        assert_eq!((publication.id, &publication.data), (draft.id, &draft.data));
        assert_eq!(
            (&publication.info, &publication.tags),
            (&draft.info, &draft.tags)
        );
        assert_eq!(publication.time, committed.outcomes[0].time);
    }
    assert_eq!((&kept[3].info, &kept[3].tags), (&None, &None));

    // The sweep of other nodes sees it.
    let cursors = LaneCursors::from_iter([(first.lane, first.n - 1)]);
    let swept = log.sweep(&cursors, 10).await.unwrap();
    assert_eq!(swept[0].n, first.n);
    assert_eq!(swept[0].channels, [(channel("c"), Seq(2), Seq(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_whichever_way_it_came() {
    let database = TestDatabase::new();
    let log = database.open().await;
    let many = (0..9).map(|_| draft("d", None));
    let many: Vec<_> = [draft("c", Some("k1"))].into_iter().chain(many).collect();
    log.append(&many).await.unwrap();
    let alone = log.append(&[draft("c", Some("k2"))]).await.unwrap();
    assert!(!alone.outcomes[0].duplicate);

    for (key, seq) in [("k1", 1), ("k2", 2)] {
        let again = log.append(&[draft("c", Some(key))]).await.unwrap();
        assert_eq!((again.outcomes[0].seq, again.n), (Seq(seq), 0), "{key}");
        assert!(again.outcomes[0].duplicate);
    }
    let batch = [draft("c", Some("k2")), draft("c", None)];
    let among = log.append(&batch).await.unwrap();
    let told = among.outcomes.iter().map(|it| (it.seq.0, it.duplicate));
    assert_eq!(told.collect::<Vec<_>>(), [(2, true), (3, false)]);
    assert_eq!(among.n, alone.n + 1, "a duplicate alone leaves no entry");
    assert_eq!(read_all(&log, "c").await.len(), 3);
    // The same key elsewhere is another one.
    let elsewhere = log.append(&[draft("d", Some("k1"))]).await.unwrap();
    assert!(!elsewhere.outcomes[0].duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_all_sizes_number_alike() {
    let database = TestDatabase::new();
    let log = database.open().await;
    let mut expected = [0_u64; 3];
    let mut firsts = Vec::new();
    for size in (1..=12).chain([30, 8, 9, 1, 2]) {
        // In turns into three channels, every other one with a key; the last of a batch repeats the key of an earlier one.
        let place = |at: usize| (at * 7 + size) % 3;
        let mut batch: Vec<_> = (0..size)
            .map(|at| {
                let key = format!("{}:{at}", firsts.len());
                let key = at.is_multiple_of(2).then_some(key);
                draft(&format!("c:{}", place(at)), key.as_deref())
            })
            .collect();
        let fresh = batch.len();
        if let Some((again, _)) = firsts.last() {
            batch.push(Draft::clone(again));
        }
        let committed = log.append(&batch).await.unwrap();
        for (at, outcome) in committed.outcomes[..fresh].iter().enumerate() {
            expected[place(at)] += 1;
            let told = (outcome.seq.0, outcome.duplicate);
            assert_eq!(told, (expected[place(at)], false), "{at} of {size}");
        }
        if let (Some((_, first)), Some(last)) = (firsts.last(), committed.outcomes.get(fresh)) {
            assert_eq!((last.seq, last.duplicate), (*first, true), "{size}");
        }
        firsts.push((batch[0].clone(), committed.outcomes[0].seq));
    }
    for (number, count) in expected.into_iter().enumerate() {
        let kept = read_all(&log, &format!("c:{number}")).await;
        assert!(kept.iter().map(|it| it.seq.0).eq(1..=count), "c:{number}");
    }
    let cursors = LaneCursors::new();
    let swept = log.sweep(&cursors, 1000).await.unwrap();
    let mut ends = [0; 3];
    for (name, first, last) in swept.iter().flat_map(|it| &it.channels) {
        let number = name.as_str().as_bytes()[2] - b'0';
        let end = &mut ends[usize::from(number)];
        assert_eq!(first.0, *end + 1, "{name}");
        *end = last.0;
    }
    assert_eq!(ends, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_who_holds_the_channel_and_says_so() {
    let database = TestDatabase::new();
    let log = Arc::new(database.open().await);
    log.append(&[draft("c", None)]).await.unwrap();
    let other = database.client().await;
    let sql = "BEGIN; UPDATE fanfare.channels SET head = head + 1 WHERE name = 'c'";
    other.batch_execute(sql).await.unwrap();
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.append(&[draft("c", Some("k"))]).await.unwrap() }
    });
    let client = database.client().await;
    wait_for(&client, WAITING).await;
    other.batch_execute("COMMIT").await.unwrap();
    let committed = waiting.await.unwrap();
    assert_eq!(committed.outcomes[0].seq, Seq(3));
    let contention = committed.contention.unwrap();
    assert_eq!(contention.channels, [channel("c")]);
    assert!(contention.waited > Duration::ZERO);

    let alone = log.append(&[draft("c", None)]).await.unwrap();
    assert_eq!(
        (alone.outcomes[0].seq, alone.contention),
        (Seq(4), None),
        "nobody was there"
    );
    let head = "SELECT head FROM fanfare.channels WHERE name = 'c'";
    assert_eq!(count(&client, head).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_lone_drafts_number_without_holes() {
    let database = TestDatabase::new();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let log = database.open().await;
        writers.spawn(async move {
            for _ in 0..50 {
                log.append(&[draft("c", None)]).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let kept = read_all(&database.open().await, "c").await;
    let numbers = kept.iter().map(|it| it.seq.0);
    assert!(numbers.eq(1..=200), "{} are there", kept.len());
    assert!(kept.is_sorted_by_key(|it| it.time));
}
