//! Spread: from a commit to those who want to see it. The lane's batches and the apps' transactions go the same way.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_wire::{ChannelName, Draft, Epoch, Publication, Run, hint::Hint};

use crate::{
    channels::Channels,
    epoch::Epochs,
    metrics::Metrics,
    port::{Bus, BusHealth, Committed, Outcome, peers::Taken},
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
        let runs = runs(drafts, &committed.epoch, &committed.outcomes);
        for run in &runs {
            self.channels.offer(run);
        }
        let all = committed.outcomes.len() as u64;
        let duplicates = committed.outcomes.iter().filter(|it| it.duplicate).count() as u64;
        self.metrics.duplicates.add(duplicates);
        self.metrics.publications.add(all - duplicates);
        runs
    }

    /// Shows this node's own subscribers what another node has committed for it. The others hear of it from there.
    pub(crate) fn show_taken(&self, drafts: Vec<Draft>, taken: &Taken) {
        for run in runs(drafts, &taken.epoch, &taken.outcomes) {
            self.channels.offer(&run);
        }
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

/// The publications that were added, in runs of numbers that follow each other: in a batch that is one per channel, since the
/// log held its lock; what another node has committed may have that of others between.
fn runs(drafts: Vec<Draft>, epoch: &Epoch, outcomes: &[Outcome]) -> Vec<Arc<Run>> {
    let mut by_channel: BTreeMap<ChannelName, Vec<Vec<Publication>>> = BTreeMap::new();
    for (draft, outcome) in drafts.into_iter().zip(outcomes) {
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
        let runs = by_channel.entry(draft.channel).or_default();
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|it| it.seq.next() == outcome.seq) => {
                run.push(publication);
            }
            _ => runs.push(vec![publication]),
        }
    }
    let of_channel = |(channel, runs): (ChannelName, Vec<Vec<Publication>>)| {
        runs.into_iter()
            .filter_map(move |run| Run::new(channel.clone(), epoch.clone(), run))
    };
    by_channel.into_iter().flat_map(of_channel).collect()
}
