//! Reading: bytes, ranges, heads.

use std::sync::Arc;

use fanfare_wire::{Draft, Json, Publication, Seq};

use super::{Names, Nodes, backward, draft, drafts, forward, publish, seqs};
use crate::port::{Head, Log};

pub(super) async fn publications_come_back_byte_for_byte(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let large = format!("\"{}\"", "x€".repeat(300_000));
    let texts = [
        "null",
        " {\"order\" :1,\"order\":2, \"Äüß\":\"\\u0000 \\ud83d\\ude00 😀 '';--\"} ",
        "[1.0,1e400,-0]",
        large.as_str(),
    ];
    let mut batch: Vec<_> = texts.iter().map(|text| draft(&channel, text)).collect();
    batch[1].info = Some(json("{\"user\":\"Zoë\",\"client\":\"1\"}"));
    batch[2].tags = Some(json("{\"lang\":\"日本語\"}"));
    batch[3].info = Some(json("{\"user\":\"u\"}"));
    batch[3].tags = Some(json("{\"a\":\"b\"}"));
    let committed = nodes.a.append(&batch).await.unwrap();
    for log in nodes.both() {
        let read = log.read(&channel, forward(0, 100)).await.unwrap();
        let expected: Vec<_> = batch
            .iter()
            .zip(&committed.outcomes)
            .map(|(draft, outcome)| expected(draft, outcome.seq, outcome.time))
            .collect();
        assert!(read == expected, "publications differ from their drafts");
    }
}

fn expected(draft: &Draft, seq: Seq, time: i64) -> Publication {
    Publication {
        seq,
        id: draft.id,
        time,
        data: draft.data.clone(),
        info: draft.info.clone(),
        tags: draft.tags.clone(),
    }
}

pub(super) async fn ranges_forward(nodes: &Nodes) {
    let names = Names::new();
    let channel = names.channel("c");
    nodes.a.append(&drafts(&channel, 10)).await.unwrap();
    // A neighbour whose rows must never show up.
    nodes
        .a
        .append(&drafts(&names.channel("d"), 10))
        .await
        .unwrap();
    let check = async |from, limit, expected: &[u64]| {
        let read = nodes.b.read(&channel, forward(from, limit)).await.unwrap();
        assert_eq!(seqs(&read), expected, "after {from}, {limit}");
    };
    check(0, 3, &[1, 2, 3]).await;
    check(7, 100, &[8, 9, 10]).await;
    check(4, 1, &[5]).await;
    check(0, 0, &[]).await;
    check(10, 5, &[]).await;
    check(11, 5, &[]).await;
    check(u64::MAX, 5, &[]).await;
    check(0, usize::MAX, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).await;
    let unknown = nodes
        .a
        .read(&names.channel("unknown"), forward(0, 5))
        .await
        .unwrap();
    assert!(unknown.is_empty());
}

pub(super) async fn ranges_backward(nodes: &Nodes) {
    let names = Names::new();
    let channel = names.channel("c");
    nodes.a.append(&drafts(&channel, 10)).await.unwrap();
    let check = async |from, limit, expected: &[u64]| {
        let read = nodes.b.read(&channel, backward(from, limit)).await.unwrap();
        assert_eq!(seqs(&read), expected, "before {from}, {limit}");
    };
    check(0, 3, &[10, 9, 8]).await;
    check(4, 100, &[3, 2, 1]).await;
    check(1, 100, &[]).await;
    check(10, 1, &[9]).await;
    check(11, 2, &[10, 9]).await;
    check(u64::MAX, 2, &[10, 9]).await;
    check(5, 0, &[]).await;
    let unknown = nodes
        .a
        .read(&names.channel("unknown"), backward(0, 5))
        .await
        .unwrap();
    assert!(unknown.is_empty());
}

pub(super) async fn heads_in_the_order_asked(nodes: &Nodes) {
    let names = Names::new();
    let [x, y, none] = ["x", "y", "none"].map(|name| names.channel(name));
    nodes.a.append(&drafts(&x, 3)).await.unwrap();
    nodes.b.append(&drafts(&y, 5)).await.unwrap();
    let asked = [y.clone(), none, x, y];
    let heads = nodes.a.heads(&asked).await.unwrap();
    let head = |seq| Head {
        seq: Seq(seq),
        trimmed: Seq::ZERO,
    };
    assert_eq!(heads, [head(5), head(0), head(3), head(5)]);
    assert!(nodes.a.heads(&[]).await.unwrap().is_empty());
    let many: Vec<_> = (0..5000).map(|number| names.channel(number)).collect();
    assert_eq!(
        nodes.a.heads(&many).await.unwrap(),
        vec![Head::default(); many.len()]
    );
}

pub(super) async fn both_nodes_are_one_log(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    assert_eq!(nodes.a.epoch(), nodes.b.epoch());
    publish(&nodes.a, &channel, 1).await;
    // Readers start where a commit was acknowledged, many at once.
    let mut readers = tokio::task::JoinSet::new();
    for log in nodes.both().into_iter().cycle().take(40) {
        let (log, channel): (Arc<dyn Log>, _) = (log.clone(), channel.clone());
        readers.spawn(async move { log.read(&channel, forward(0, 10)).await.unwrap().len() });
    }
    assert_eq!(readers.join_all().await, [1; 40]);
}
