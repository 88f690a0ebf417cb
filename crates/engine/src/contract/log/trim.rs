//! Retention: what goes, what stays, and how it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_wire::{ChannelName, Seq};

use super::{
    Names, Nodes, PATIENCE, backward, draft, drafts, forward, keyed, numbers, publish, seqs,
};
use crate::port::{Head, Log, Retention};

fn rule(names: &Names, age_max: Option<Duration>, count_max: Option<u64>) -> [Retention; 1] {
    [Retention {
        namespace: names.namespace.clone(),
        age_max,
        count_max,
    }]
}

async fn head(log: &Arc<dyn Log>, channel: &ChannelName) -> Head {
    log.heads(std::slice::from_ref(channel)).await.unwrap()[0]
}

pub(super) async fn by_count(nodes: &Nodes) {
    let names = Names::new();
    let (long, short) = (names.channel("long"), names.channel("short"));
    nodes.a.append(&[keyed(&long, "k")]).await.unwrap();
    publish(&nodes.a, &long, 19).await;
    publish(&nodes.a, &short, 3).await;
    let rule = rule(&names, None, Some(5));
    assert_eq!(nodes.b.trim(&rule).await.unwrap().publications, 15);
    assert_eq!(nodes.b.trim(&rule).await.unwrap().publications, 0);
    for log in nodes.both() {
        assert_eq!(
            head(log, &long).await,
            Head {
                seq: Seq(20),
                trimmed: Seq(15)
            }
        );
        assert_eq!(
            head(log, &short).await,
            Head {
                seq: Seq(3),
                trimmed: Seq(0)
            }
        );
        let kept = log.read(&long, forward(0, 100)).await.unwrap();
        assert_eq!(seqs(&kept), [16, 17, 18, 19, 20]);
        let kept = log.read(&long, backward(18, 100)).await.unwrap();
        assert_eq!(seqs(&kept), [17, 16]);
        assert!(log.read(&long, backward(16, 100)).await.unwrap().is_empty());
    }
    let next = nodes
        .b
        .append(&[draft(&long, 1), keyed(&long, "k")])
        .await
        .unwrap();
    assert_eq!(
        numbers(&next),
        [21, 1],
        "numbers go on, and keys outlive their publication"
    );
    assert!(next.outcomes[1].duplicate);
    assert_eq!(nodes.a.trim(&rule).await.unwrap().publications, 1);
}

pub(super) async fn by_age(nodes: &Nodes) {
    let names = Names::new();
    let (x, y) = (names.channel("x"), names.channel("y"));
    publish(&nodes.a, &x, 4).await;
    publish(&nodes.a, &y, 2).await;
    let hour = rule(&names, Some(Duration::from_secs(3600)), None);
    assert_eq!(nodes.a.trim(&hour).await.unwrap().publications, 0);
    // Everything committed before the present millisecond is older than nothing at all.
    let nothing = rule(&names, Some(Duration::ZERO), None);
    let patience = Instant::now() + PATIENCE;
    let mut removed = 0;
    while removed < 6 {
        assert!(
            Instant::now() < patience,
            "only {removed} of 6 were removed"
        );
        removed += nodes.a.trim(&nothing).await.unwrap().publications;
        tokio::task::yield_now().await;
    }
    assert_eq!(
        head(&nodes.b, &x).await,
        Head {
            seq: Seq(4),
            trimmed: Seq(4)
        }
    );
    assert_eq!(
        head(&nodes.b, &y).await,
        Head {
            seq: Seq(2),
            trimmed: Seq(2)
        }
    );
    assert!(nodes.b.read(&x, forward(0, 10)).await.unwrap().is_empty());
    assert!(nodes.b.read(&x, backward(0, 10)).await.unwrap().is_empty());
    let next = nodes.b.append(&drafts(&x, 1)).await.unwrap();
    assert_eq!(numbers(&next), [5]);
}

pub(super) async fn in_many_steps(nodes: &Nodes) {
    let names = Names::new();
    let (deep, wide) = (names.channel("deep"), Names::new());
    publish(&nodes.a, &deep, 7_500).await;
    for round in 0..3 {
        let batch: Vec<_> = (0..1_500)
            .map(|it| draft(&wide.channel(it), round))
            .collect();
        nodes.a.append(&batch).await.unwrap();
    }
    let rules = [rule(&names, None, Some(10)), rule(&wide, None, Some(1))].concat();
    assert_eq!(
        nodes.b.trim(&rules).await.unwrap().publications,
        7_490 + 3_000
    );
    assert_eq!(
        head(&nodes.a, &deep).await,
        Head {
            seq: Seq(7_500),
            trimmed: Seq(7_490)
        }
    );
    let channels: Vec<_> = (0..1_500).map(|it| wide.channel(it)).collect();
    let heads = nodes.a.heads(&channels).await.unwrap();
    assert!(heads.iter().all(|head| *head
        == Head {
            seq: Seq(3),
            trimmed: Seq(2)
        }));
}

pub(super) async fn what_no_rule_names_is_kept(nodes: &Nodes) {
    let (ruled, free) = (Names::new(), Names::new());
    let outside = ChannelName::parse(&free.namespace).unwrap();
    let longer = ChannelName::parse(&format!("{}x:c", ruled.namespace)).unwrap();
    let deeper = ruled.channel("c:d");
    let kept = [free.channel("c"), outside.clone(), longer];
    for channel in kept.iter().chain([&deeper]) {
        publish(&nodes.a, channel, 5).await;
    }
    nodes.a.trim(&rule(&ruled, None, Some(2))).await.unwrap();
    for channel in &kept {
        assert_eq!(
            head(&nodes.b, channel).await.trimmed,
            Seq::ZERO,
            "{channel}"
        );
        assert_eq!(
            nodes.b.read(channel, forward(0, 10)).await.unwrap().len(),
            5
        );
    }
    assert_eq!(head(&nodes.b, &deeper).await.trimmed, Seq(3));
    // A rule that sets no bound removes nothing; the empty namespace is the channels without one.
    nodes.a.trim(&rule(&free, None, None)).await.unwrap();
    assert_eq!(head(&nodes.b, &kept[0]).await.trimmed, Seq::ZERO);
    let namespace = String::new();
    let bare = [Retention {
        namespace,
        age_max: None,
        count_max: Some(5),
    }];
    publish(&nodes.a, &outside, 2).await;
    nodes.a.trim(&bare).await.unwrap();
    assert_eq!(
        head(&nodes.b, &outside).await,
        Head {
            seq: Seq(7),
            trimmed: Seq(2)
        }
    );
    assert_eq!(head(&nodes.b, &kept[0]).await.trimmed, Seq::ZERO);
}

pub(super) async fn at_once_on_both_nodes(nodes: &Nodes) {
    let names = Names::new();
    let channel = names.channel("c");
    publish(&nodes.a, &channel, 300).await;
    let rule = rule(&names, None, Some(100));
    let patience = Instant::now() + PATIENCE;
    let mut removed = 0;
    while removed < 200 {
        assert!(
            Instant::now() < patience,
            "only {removed} of 200 were removed"
        );
        let (one, other) = tokio::join!(nodes.a.trim(&rule), nodes.b.trim(&rule));
        removed += one.unwrap().publications + other.unwrap().publications;
    }
    assert_eq!(removed, 200, "nothing is removed or counted twice");
    assert_eq!(
        head(&nodes.a, &channel).await,
        Head {
            seq: Seq(300),
            trimmed: Seq(200)
        }
    );
}

pub(super) async fn beside_writers(nodes: &Nodes) {
    let names = Names::new();
    let channel = names.channel("c");
    let rule = rule(&names, None, Some(20));
    let done = Arc::new(AtomicBool::new(false));
    let (log, writing, name) = (nodes.a.clone(), done.clone(), channel.clone());
    let writer = tokio::spawn(async move {
        for round in 0..50 {
            let committed = log.append(&drafts(&name, 10)).await.unwrap();
            assert_eq!(committed.outcomes[0].seq, Seq(round * 10 + 1));
        }
        writing.store(true, Ordering::Release);
    });
    let mut removed = 0;
    while !done.load(Ordering::Acquire) && !writer.is_finished() {
        removed += nodes.b.trim(&rule).await.unwrap().publications;
        let head = head(&nodes.b, &channel).await;
        let read = nodes
            .b
            .read(&channel, forward(head.seq.0.saturating_sub(20), 5))
            .await
            .unwrap();
        assert!(read.is_sorted_by_key(|publication| publication.seq));
        // A log in memory is always ready; the writer must have its turn.
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    removed += nodes.b.trim(&rule).await.unwrap().publications;
    assert_eq!(removed, 480);
    assert_eq!(
        head(&nodes.a, &channel).await,
        Head {
            seq: Seq(500),
            trimmed: Seq(480)
        }
    );
    let read = nodes.a.read(&channel, forward(0, 100)).await.unwrap();
    assert!(seqs(&read).into_iter().eq(481..=500));
}
