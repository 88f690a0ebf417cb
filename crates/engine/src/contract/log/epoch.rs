//! The epoch: one for all nodes, and another one when commits may have been lost.

use std::time::{Duration, Instant};

use super::{Names, Nodes, PATIENCE, drafts, forward, publish, seqs};

pub(super) async fn is_one_for_all_nodes(nodes: &Nodes) {
    let channel = Names::new().channel("c");
    let epoch = nodes.a.epoch();
    assert_eq!(epoch, nodes.b.epoch());
    for log in nodes.both() {
        let committed = log.append(&drafts(&channel, 2)).await.unwrap();
        assert_eq!(committed.epoch, epoch);
        assert_eq!(log.append(&[]).await.unwrap().epoch, epoch);
    }
}

/// `change` has made the log one that may have lost commits, though it has lost none.
pub(super) async fn changes_for_all_nodes<C: Future<Output = ()>>(
    nodes: &Nodes,
    change: impl FnOnce() -> C,
) {
    let channel = Names::new().channel("c");
    let before = nodes.a.epoch();
    publish(&nodes.a, &channel, 3).await;
    publish(&nodes.b, &channel, 3).await;
    change().await;
    let deadline = Instant::now() + PATIENCE;
    for log in nodes.both() {
        // A node hears of it when it uses the log; until then nothing of the other epoch is called one of this.
        while log.epoch() == before {
            assert!(Instant::now() < deadline, "the epoch did not change");
            let _ = log.heartbeat("{}".into()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let after = nodes.a.epoch();
    assert_eq!(after, nodes.b.epoch(), "one epoch for all nodes");
    let mut expected: Vec<u64> = (1..=6).collect();
    for log in nodes.both() {
        let committed = log.append(&drafts(&channel, 1)).await.unwrap();
        assert_eq!(committed.epoch, after);
        expected.push(committed.outcomes[0].seq.0);
        assert_eq!(expected.last().copied(), Some(expected.len() as u64));
        let read = log.read(&channel, forward(0, 100)).await.unwrap();
        assert_eq!(seqs(&read), expected);
        let entries = log.sweep(&log.lanes().await.unwrap(), 100).await.unwrap();
        assert!(entries.is_empty());
    }
    assert_eq!(nodes.both().map(|log| log.epoch()), [after.clone(), after]);
}
