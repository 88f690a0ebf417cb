//! What the ingress counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::metrics::Histogram;
use fanfare_gateway::metrics::{Family, Samples};
use fanfare_wire::Millis;

use crate::{refusal::Refusal, source::SourceName, store::Load};

/// What is counted where no source is known.
const NO_SOURCE: &str = "";

/// How a turn, or one delivery of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worked {
    /// A delivery's effect and end were committed.
    Done,
    /// It was put off.
    Retried,
    /// It became a dead letter.
    Dead,
    /// It was replayed.
    Replayed,
    /// The claim ended before the delivery did.
    Lost,
    /// Another node was faster to claim a key.
    Outrun,
}

impl Worked {
    const ALL: [Self; 6] = [
        Self::Done,
        Self::Retried,
        Self::Dead,
        Self::Replayed,
        Self::Lost,
        Self::Outrun,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Dead => "dead",
            Self::Replayed => "replayed",
            Self::Lost => "lost",
            Self::Outrun => "outrun",
        }
    }
}

/// What is counted of one source.
#[derive(Default)]
struct OfSource {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    worked: [AtomicU64; Worked::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    waiting: AtomicU64,
    oldest_seconds: AtomicU64,
    dead: AtomicU64,
}

/// What the ingress counts.
pub(crate) struct Metrics {
    sources: BTreeMap<String, OfSource>,
    /// From the arrival of a request to its acknowledgement, of those that were acknowledged.
    pub(crate) acknowledged: Arc<Histogram>,
}

impl Metrics {
    pub(crate) fn new<'a>(sources: impl Iterator<Item = &'a SourceName>) -> Self {
        let names: BTreeSet<String> = sources.map(|name| name.as_str().to_owned()).collect();
        let all = std::iter::once(NO_SOURCE.to_owned()).chain(names);
        Self {
            sources: all.map(|name| (name, OfSource::default())).collect(),
            acknowledged: Arc::default(),
        }
    }

    pub(crate) fn kept(&self, source: &SourceName, took: Duration, duplicate: bool) {
        self.acknowledged.record(took);
        self.submitted(source, duplicate);
    }

    /// A delivery of this system itself was kept: nobody waits for an acknowledgement.
    pub(crate) fn submitted(&self, source: &SourceName, duplicate: bool) {
        if let Some(of) = self.sources.get(source.as_str()) {
            let counter = match duplicate {
                true => &of.duplicates,
                false => &of.accepted,
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn refused(&self, source: Option<&SourceName>, refusal: Refusal) {
        let name = source.map_or(NO_SOURCE, SourceName::as_str);
        if let Some(of) = self.sources.get(name) {
            of.refused[refusal as usize].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn count(&self, source: &SourceName, how: Worked) {
        if let Some(of) = self.sources.get(source.as_str()) {
            of.worked[how as usize].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn set_load(&self, source: &SourceName, load: Load, now: Millis) {
        if let Some(of) = self.sources.get(source.as_str()) {
            of.waiting.store(load.waiting, Relaxed);
            of.dead.store(load.dead, Relaxed);
            let age = load.oldest.map_or(0, |oldest| (now - oldest).max(0) / 1000);
            of.oldest_seconds.store(age.unsigned_abs(), Relaxed);
        }
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let named = || self.sources.iter().filter(|(name, _)| !name.is_empty());
        let each = |value: fn(&OfSource) -> &AtomicU64| {
            let sample = |(name, of): (&String, &OfSource)| {
                (vec![("source", name.clone())], value(of).load(Relaxed))
            };
            named().map(sample).collect::<Vec<_>>()
        };
        vec![
            Family {
                name: "webhooks_accepted",
                help: "Deliveries that were kept",
                samples: Samples::Counter(each(|of| &of.accepted)),
            },
            Family {
                name: "webhooks_duplicates",
                help: "Deliveries that had been kept before",
                samples: Samples::Counter(each(|of| &of.duplicates)),
            },
            Family {
                name: "webhooks_refused",
                help: "Requests to webhooks that were not kept, by reason",
                samples: Samples::Counter(self.refusals()),
            },
            Family {
                name: "webhooks_worked",
                help: "Ends of attempts to work off deliveries",
                samples: Samples::Counter(self.worked()),
            },
            Family {
                name: "webhooks_waiting",
                help: "Deliveries that wait, in the database",
                samples: Samples::Gauge(each(|of| &of.waiting)),
            },
            Family {
                name: "webhooks_oldest_seconds",
                help: "How long the oldest of them has waited",
                samples: Samples::Gauge(each(|of| &of.oldest_seconds)),
            },
            Family {
                name: "webhooks_dead",
                help: "Dead letters, in the database",
                samples: Samples::Gauge(each(|of| &of.dead)),
            },
            Family {
                name: "webhook_acknowledge_seconds",
                help: "From the arrival of a delivery to its acknowledgement",
                samples: Samples::Histogram(Arc::clone(&self.acknowledged)),
            },
        ]
    }

    fn refusals(&self) -> Vec<(Vec<(&'static str, String)>, u64)> {
        let mut samples = Vec::new();
        for (name, of) in &self.sources {
            for refusal in Refusal::ALL {
                let labels = vec![
                    ("source", name.clone()),
                    ("reason", refusal.name().to_owned()),
                ];
                let count = of.refused[refusal as usize].load(Relaxed);
                // Most of them never happen.
                if count > 0 {
                    samples.push((labels, count));
                }
            }
        }
        samples
    }

    fn worked(&self) -> Vec<(Vec<(&'static str, String)>, u64)> {
        let mut samples = Vec::new();
        for (name, of) in self.sources.iter().filter(|(name, _)| !name.is_empty()) {
            for how in Worked::ALL {
                let labels = vec![("source", name.clone()), ("end", how.name().to_owned())];
                samples.push((labels, of.worked[how as usize].load(Relaxed)));
            }
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_and_end_has_a_counter_of_its_own() {
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at, "{refusal:?}");
        }
        for (at, how) in Worked::ALL.into_iter().enumerate() {
            assert_eq!(how as usize, at, "{how:?}");
        }
    }
}
