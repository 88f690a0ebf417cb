//! What the sync counts.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::metrics::Histogram;
use fanfare_gateway::metrics::{Family, Samples};

use crate::{account::AccountState, event::Event, store::Census};

/// What became of a notification of Google, or of a look that this server asked itself for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The history was walked to its end.
    Walked,
    /// All that it says was known.
    Known,
    /// Nobody has connected a mailbox of this address.
    Unknown,
    /// The mailbox must be connected again first.
    Parked,
    /// It is tried again a little later.
    Retried,
    /// It is left to a later look, because Google has not answered for a while, or because there is much to read.
    Postponed,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// At the end of the history.
    Complete,
    /// At the end of the history, which lags behind what was notified.
    Behind,
    /// Google asked for a pause.
    Slow,
    /// Google did not answer, or not in a way that is understood.
    Failed,
    /// Google does not let us in any more.
    Unauthorised,
    /// Somebody else was faster; nothing was committed twice.
    Outrun,
    /// The database did not answer.
    Storage,
    /// It takes long, and goes on later so that others have their turn.
    Paused,
}

/// What happened with a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// It was set up or renewed.
    Renewed,
    /// It was not; it is tried again.
    Failed,
}

/// Changes by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally([u64; KINDS.len()]);

/// The kinds of changes, by the names of their events.
const KINDS: [&str; 3] = ["new_email", "email_update", "email_delete"];

impl Outcome {
    const NAMES: [&str; 6] = [
        "walked",
        "known",
        "unknown",
        "parked",
        "retried",
        "postponed",
    ];
}

impl WalkEnd {
    const NAMES: [&str; 8] = [
        "complete",
        "behind",
        "slow",
        "failed",
        "unauthorised",
        "outrun",
        "storage",
        "paused",
    ];
}

impl Watched {
    const NAMES: [&str; 2] = ["renewed", "failed"];
}

/// What the sync counts.
#[derive(Default)]
pub(crate) struct Metrics {
    notifications: [AtomicU64; Outcome::NAMES.len()],
    walks: [AtomicU64; WalkEnd::NAMES.len()],
    resyncs: AtomicU64,
    changes: [AtomicU64; KINDS.len()],
    watches: [AtomicU64; Watched::NAMES.len()],
    looks: AtomicU64,
    census: Mutex<Census>,
    change_seconds: Arc<Histogram>,
}

impl Tally {
    pub(crate) fn count(&mut self, event: &Event) {
        if let Some(kind) = KINDS.iter().position(|kind| *kind == event.name()) {
            self.0[kind] += 1;
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.0.iter().sum()
    }
}

impl Metrics {
    pub(crate) fn notified(&self, outcome: Outcome) {
        self.notifications[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn walked(&self, end: WalkEnd) {
        self.walks[end as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn resynced(&self) {
        self.resyncs.fetch_add(1, Relaxed);
    }

    pub(crate) fn changed(&self, tally: Tally) {
        for (sum, more) in self.changes.iter().zip(tally.0) {
            sum.fetch_add(more, Relaxed);
        }
    }

    /// Changes that a notification brought are on their way to be committed with its end.
    pub(crate) fn took(&self, since_notified: Duration) {
        self.change_seconds.record(since_notified);
    }

    pub(crate) fn watched(&self, watched: Watched) {
        self.watches[watched as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn submitted(&self) {
        self.looks.fetch_add(1, Relaxed);
    }

    pub(crate) fn set_census(&self, census: Census) {
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let census = *self.census.lock().unwrap_or_else(PoisonError::into_inner);
        let states = AccountState::ALL.map(AccountState::name);
        let accounts = states.iter().zip(census.accounts);
        let accounts = accounts.map(|(state, count)| (vec![("state", (*state).to_owned())], count));
        let one = |value: u64| vec![(Vec::new(), value)];
        vec![
            Family {
                name: "mail_notifications",
                help: "Notifications of Gmail, and looks of this server, that were worked on",
                samples: labelled("outcome", &Outcome::NAMES, &self.notifications),
            },
            Family {
                name: "mail_walks",
                help: "Walks of Gmail's history",
                samples: labelled("end", &WalkEnd::NAMES, &self.walks),
            },
            Family {
                name: "mail_resyncs",
                help: "Full syncs of mailboxes that were completed",
                samples: Samples::Counter(one(self.resyncs.load(Relaxed))),
            },
            Family {
                name: "mail_changes",
                help: "Changes of mailboxes that were told, by event",
                samples: labelled("kind", &KINDS, &self.changes),
            },
            Family {
                name: "mail_watches",
                help: "Watches at Gmail that were set up or renewed, and attempts that failed",
                samples: labelled("outcome", &Watched::NAMES, &self.watches),
            },
            Family {
                name: "mail_looks",
                help: "Looks that this server asked itself for: after silence, or because somebody asked",
                samples: Samples::Counter(one(self.looks.load(Relaxed))),
            },
            Family {
                name: "mail_accounts",
                help: "Connected mailboxes, in the database",
                samples: Samples::Gauge(accounts.collect()),
            },
            Family {
                name: "mail_accounts_unwatched",
                help: "Mailboxes of which Google does not tell changes: they are polled only",
                samples: Samples::Gauge(one(census.unwatched)),
            },
            Family {
                name: "mail_change_seconds",
                help: "From the arrival of a notification to the hand-over of its last changes to their commit",
                samples: Samples::Histogram(Arc::clone(&self.change_seconds)),
            },
        ]
    }
}

fn labelled(label: &'static str, names: &[&str], counts: &[AtomicU64]) -> Samples {
    let samples = names.iter().zip(counts);
    let sample = |(name, count): (&&str, &AtomicU64)| {
        (vec![(label, (*name).to_owned())], count.load(Relaxed))
    };
    Samples::Counter(samples.map(sample).collect())
}
