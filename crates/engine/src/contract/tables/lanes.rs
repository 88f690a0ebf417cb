//! The lane log, and the epoch.

use std::{collections::BTreeMap, future::Future};

use tokio::task::JoinSet;

use crate::port::{LaneBatch, TransactError};

use super::{Nodes, Room, VERSION};

pub(super) async fn entries_say_what_was_committed(nodes: &Nodes) {
    let before = nodes.a.log.lanes().await.unwrap();
    let room = Room::made(&nodes.a).await;
    let mut writers = JoinSet::new();
    for number in 0..10 {
        let node = nodes.both()[number % 2].clone();
        let drafts: Vec<_> = (0..8).map(|it| room.draft(it)).collect();
        let member = room.member(&number.to_string());
        writers.spawn(async move {
            let mut told = Vec::new();
            for (at, draft) in drafts.into_iter().enumerate() {
                // Some are refused, some have only rows, some only publications.
                let committed = match at {
                    0 => node.commit(vec![member.clone()], vec![draft]).await.1,
                    1 => {
                        let steps = vec![member.clone()];
                        let refusal = node.refusal(steps, vec![draft]).await;
                        assert!(matches!(refusal, TransactError::Exists { step: 0 }));
                        continue;
                    }
                    2..4 => node.commit(Vec::new(), vec![draft]).await.1,
                    _ => node.log.append(&[draft]).await.unwrap(),
                };
                told.push((committed.lane, committed.n, committed.outcomes[0].seq));
            }
            told
        });
    }
    let told = writers.join_all().await.concat();
    // Asked of the other node: what it would hear if no hint reached it.
    let entries = nodes.b.log.sweep(&before, 10_000).await.unwrap();
    let mut reached = before;
    let mut shown = BTreeMap::new();
    for entry in entries {
        let LaneBatch {
            lane, n, channels, ..
        } = entry;
        let last = reached.entry(lane).or_default();
        assert_eq!(n, *last + 1, "the log of {lane:?} has no hole");
        *last = n;
        for (channel, first, last) in channels {
            if channel == room.channel {
                assert_eq!(first, last);
                shown.insert((lane, n), first);
            }
        }
    }
    let told: BTreeMap<_, _> = told
        .into_iter()
        .map(|(lane, n, seq)| ((lane, n), seq))
        .collect();
    assert_eq!(shown, told);
    assert_eq!(told.len(), 70);
    let lanes = nodes.b.log.lanes().await.unwrap();
    assert!(reached.iter().all(|(lane, n)| lanes.get(lane) >= Some(n)));
}

pub(super) async fn epoch_changes<C>(nodes: &Nodes, change: impl FnOnce() -> C)
where
    C: Future<Output = ()>,
{
    let room = Room::made(&nodes.a).await;
    let (first, second) = (room.step_from(0), room.step_from(1));
    let (_, before) = nodes.a.commit(vec![first], vec![room.draft(0)]).await;
    nodes.b.commit(vec![second], vec![room.draft(1)]).await;
    change().await;
    for (node, version) in nodes.both().into_iter().zip(2..) {
        // The old lane is fenced: what is committed now says in which epoch.
        let steps = vec![room.step_from(version)];
        let (_, after) = node.commit(steps, vec![room.draft(version)]).await;
        assert_ne!(after.epoch, before.epoch);
        assert_eq!(after.epoch, node.log.epoch());
        assert_eq!(after.outcomes[0].seq.0, version as u64 + 1);
    }
    assert_eq!(nodes.a.number(VERSION, &room.id).await, 4);
}
