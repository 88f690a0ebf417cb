//! Spread: from a commit to those who want to see it. The lane's batches and the apps' transactions go the same way.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_wire::{ChannelName, Draft, Publication, Run, hint::Hint};

use crate::{
    channels::Channels,
    epoch::Epochs,
    metrics::Metrics,
    port::{Bus, BusHealth, Committed},
};

/// Shows what was committed to the node's own subscribers, and hints it to the other nodes.
pub(crate) struct Spread {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Spread {
    /// Looks whether the log has another epoch. Called whenever it has answered, before anything is shown: what was
    /// committed may be of another epoch than what came before.
    pub(crate) fn check_epoch(&self) {
        self.epochs.check();
    }

    /// Shows the publications of a commit to the node's own subscribers, and counts them. The runs are for
    /// [`hint`](Self::hint).
    pub(crate) fn show(&self, drafts: Vec<Draft>, committed: &Committed) -> Vec<Arc<Run>> {
        let runs = runs(drafts, committed);
        for run in &runs {
            self.channels.offer(run);
        }
        let all = committed.outcomes.len() as u64;
        let duplicates = committed.outcomes.iter().filter(|it| it.duplicate).count() as u64;
        self.metrics.duplicates.add(duplicates);
        self.metrics.publications.add(all - duplicates);
        runs
    }

    /// Tells the other nodes.
    pub(crate) fn hint(&self, committed: &Committed, runs: Vec<Arc<Run>>) {
        if self.bus.health() == BusHealth::Local || runs.is_empty() {
            return;
        }
        let hint = |run| Hint {
            lane: committed.lane.0,
            n: committed.n,
            run,
        };
        self.bus.publish(runs.into_iter().map(hint).collect());
    }
}

/// The publications that a batch added, a run per channel.
fn runs(drafts: Vec<Draft>, committed: &Committed) -> Vec<Arc<Run>> {
    let mut by_channel: BTreeMap<ChannelName, Vec<Publication>> = BTreeMap::new();
    for (draft, outcome) in drafts.into_iter().zip(&committed.outcomes) {
        if outcome.duplicate {
            continue;
        }
        let publication = Publication {
            seq: outcome.seq,
            id: draft.id,
            time: outcome.time,
            data: draft.data,
            info: draft.info,
            tags: draft.tags,
        };
        by_channel
            .entry(draft.channel)
            .or_default()
            .push(publication);
    }
    // Numbers of one batch in one channel follow each other: the log held its lock.
    by_channel
        .into_iter()
        .filter_map(|(channel, publications)| {
            Run::new(channel, committed.epoch.clone(), publications)
        })
        .collect()
}
