//! Token buckets: one step for all nodes, and honest about the time.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Node, StateNetwork, new_key, succeed};
use crate::port::state::{Bucket, StateKey, Taken};

/// A bucket that does not fill while a check looks.
const SLOW: Bucket = Bucket {
    capacity: 20,
    refill: 1,
    period: Duration::from_secs(3600),
};

async fn take(node: &Node, key: &StateKey, bucket: Bucket, tokens: u32) -> Taken {
    succeed("take", node.state.take(key, bucket, tokens)).await
}

/// It begins full; all the tokens that are wished for are taken, or none.
pub async fn it_begins_full_and_refuses_beyond(network: &dyn StateNetwork) {
    let (node, other) = (Node::join(network).await, Node::join(network).await);
    let (key, _) = new_key("bucket");
    assert_eq!(
        take(&node, &key, SLOW, 15).await,
        Taken::Granted { left: 5 }
    );
    let refused = take(&other, &key, SLOW, 6).await;
    assert!(matches!(refused, Taken::Refused { .. }), "{refused:?}");
    let rest = take(&other, &key, SLOW, 5).await;
    assert_eq!(rest, Taken::Granted { left: 0 }, "a refusal takes nothing");
    let (another, _) = new_key("bucket");
    let fresh = take(&node, &another, SLOW, 20).await;
    assert_eq!(fresh, Taken::Granted { left: 0 }, "each key is a bucket");
}

/// Many at once on several nodes get exactly what was in it.
pub async fn nodes_together_never_take_more_than_there_is(network: &dyn StateNetwork) {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(network).await);
    }
    let (key, _) = new_key("bucket");
    let mut takers = Vec::new();
    for number in 0..150 {
        let state = Arc::clone(&nodes[number % nodes.len()].state);
        let key = key.clone();
        takers.push(tokio::spawn(async move {
            let taken = state.take(&key, SLOW, 1).await;
            matches!(taken, Ok(Taken::Granted { .. }))
        }));
    }
    let mut granted = 0;
    for taker in takers {
        granted += u32::from(taker.await.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_eq!(granted, SLOW.capacity);
}

/// Over time no more is taken than was in it and was added since, and what is added can be taken.
pub async fn it_fills_evenly(network: &dyn StateNetwork) {
    let bucket = Bucket {
        capacity: 10,
        refill: 20,
        period: Duration::from_secs(1),
    };
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (key, _) = new_key("bucket");
    let started = Instant::now();
    let mut granted = 0;
    for round in 0.. {
        let node = if round % 2 == 0 { &first } else { &second };
        let taken = take(node, &key, bucket, 1).await;
        granted += u32::from(matches!(taken, Taken::Granted { .. }));
        let added = started.elapsed().as_secs_f64() * 20.0;
        assert!(
            f64::from(granted) <= 10.0 + added + 1.0,
            "{granted} tokens of a bucket of 10 to which {added} were added"
        );
        if granted == 30 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(started.elapsed() < super::PATIENCE, "it does not fill");
    }
}

/// Who comes back when it was told to gets its tokens, if nobody else took them.
pub async fn a_refusal_says_when_to_come_back(network: &dyn StateNetwork) {
    let bucket = Bucket {
        capacity: 4,
        refill: 10,
        period: Duration::from_secs(1),
    };
    let node = Node::join(network).await;
    let (key, _) = new_key("bucket");
    loop {
        // What was in it may be gone late: then some of it has been added again, and nothing is refused.
        let emptied = take(&node, &key, bucket, 4).await;
        let Taken::Refused { retry_after } = take(&node, &key, bucket, 3).await else {
            continue;
        };
        assert!(!retry_after.is_zero(), "not now, but at once?");
        if matches!(emptied, Taken::Granted { .. }) {
            let longest = Duration::from_millis(301);
            assert!(retry_after <= longest, "three tokens need {retry_after:?}");
        }
        tokio::time::sleep(retry_after).await;
        let taken = take(&node, &key, bucket, 3).await;
        assert!(matches!(taken, Taken::Granted { .. }), "{taken:?}");
        return;
    }
}

/// A wish for more than fits into the bucket is refused, however full it is, and takes nothing.
pub async fn more_than_fits_is_never_granted(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (key, _) = new_key("bucket");
    let refused = take(&node, &key, SLOW, 21).await;
    assert!(matches!(refused, Taken::Refused { .. }), "{refused:?}");
    assert_eq!(
        take(&node, &key, SLOW, 20).await,
        Taken::Granted { left: 0 }
    );
}
