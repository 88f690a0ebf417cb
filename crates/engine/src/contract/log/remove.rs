//! Removal on demand: it goes like retention, one channel at a time.

use fanfare_wire::{ChannelName, Seq};

use super::{Names, Nodes, backward, draft, forward, keyed, numbers, publish, seqs};
use crate::port::{Head, Retention};

fn head(seq: u64, trimmed: u64) -> Head {
    Head {
        seq: Seq(seq),
        trimmed: Seq(trimmed),
    }
}

pub(super) async fn what_is_named_goes_and_numbers_go_on(nodes: &Nodes) {
    let names = Names::new();
    let (gone, kept) = (names.channel("gone"), names.channel("kept"));
    for channel in [&gone, &kept] {
        nodes.a.append(&[keyed(channel, "k")]).await.unwrap();
        publish(&nodes.a, channel, 9).await;
    }
    assert_eq!(nodes.b.remove(&gone, Seq(4)).await.unwrap(), head(10, 4));
    assert_eq!(nodes.a.remove(&gone, Seq(3)).await.unwrap(), head(10, 4));
    for log in nodes.both() {
        assert_eq!(
            seqs(&log.read(&gone, forward(0, 3)).await.unwrap()),
            [5, 6, 7]
        );
        assert_eq!(
            seqs(&log.read(&gone, backward(7, 9)).await.unwrap()),
            [6, 5]
        );
        let heads = log.heads(&[gone.clone(), kept.clone()]).await.unwrap();
        assert_eq!(heads, [head(10, 4), head(10, 0)]);
    }
    // No number beyond the head is ever taken away.
    assert_eq!(
        nodes.a.remove(&gone, Seq(u64::MAX)).await.unwrap(),
        head(10, 10)
    );
    assert!(nodes.b.read(&gone, forward(0, 9)).await.unwrap().is_empty());
    let batch = [draft(&gone, 1), keyed(&gone, "k")];
    let next = nodes.b.append(&batch).await.unwrap();
    assert_eq!(
        numbers(&next),
        [11, 1],
        "numbers go on, and keys outlive their publication"
    );
    assert!(next.outcomes[1].duplicate);
    assert_eq!(
        seqs(&nodes.a.read(&gone, forward(0, 9)).await.unwrap()),
        [11]
    );
    let never = ChannelName::parse(&format!("{}:never", names.namespace)).unwrap();
    assert_eq!(
        nodes.a.remove(&never, Seq(7)).await.unwrap(),
        Head::default()
    );
    assert_eq!(nodes.a.heads(&[never]).await.unwrap(), [Head::default()]);
}

pub(super) async fn in_many_steps(nodes: &Nodes) {
    let channel = Names::new().channel("deep");
    publish(&nodes.a, &channel, 5_500).await;
    let reached = nodes.b.remove(&channel, Seq(5_400)).await.unwrap();
    assert_eq!(reached, head(5_500, 5_400));
    let left = nodes.a.read(&channel, forward(0, 1_000)).await.unwrap();
    assert!(seqs(&left).into_iter().eq(5_401..=5_500));
}

pub(super) async fn beside_retention(nodes: &Nodes) {
    let names = Names::new();
    let channel = names.channel("c");
    publish(&nodes.a, &channel, 400).await;
    let rule = [Retention {
        namespace: names.namespace.clone(),
        age_max: None,
        count_max: Some(200),
    }];
    let (trimmed, removed, again) = tokio::join!(
        nodes.a.trim(&rule),
        nodes.b.remove(&channel, Seq(300)),
        nodes.a.remove(&channel, Seq(250)),
    );
    trimmed.unwrap();
    again.unwrap();
    assert_eq!(removed.unwrap(), head(400, 300));
    nodes.b.trim(&rule).await.unwrap();
    let reached = nodes.a.heads(std::slice::from_ref(&channel)).await.unwrap();
    assert_eq!(
        reached,
        [head(400, 300)],
        "nothing that was removed is said to be there"
    );
    let left = nodes.b.read(&channel, forward(0, 500)).await.unwrap();
    assert!(seqs(&left).into_iter().eq(301..=400));
}
