//! What is counted of the calls to Google.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::metrics::Histogram;
use fanfare_gateway::metrics::{Family, Samples};

use super::error::GoogleError;

/// What Google is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Exchange,
    Refresh,
    Revoke,
    Profile,
    History,
    List,
    Message,
    Labels,
    Watch,
    Stop,
}

impl Call {
    const ALL: [Self; 10] = [
        Self::Exchange,
        Self::Refresh,
        Self::Revoke,
        Self::Profile,
        Self::History,
        Self::List,
        Self::Message,
        Self::Labels,
        Self::Watch,
        Self::Stop,
    ];

    /// The value of the label `call`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Profile => "profile",
            Self::History => "history",
            Self::List => "list",
            Self::Message => "message",
            Self::Labels => "labels",
            Self::Watch => "watch",
            Self::Stop => "stop",
        }
    }

    /// What it costs of Gmail's quota, in Gmail's units.
    pub(super) fn units(self) -> u32 {
        match self {
            Self::Exchange | Self::Refresh | Self::Revoke => 0,
            Self::Profile | Self::Labels => 1,
            Self::History => 2,
            Self::List => 5,
            Self::Message => 20,
            Self::Stop => 50,
            Self::Watch => 100,
        }
    }
}

/// Values of the label `outcome`: done, there is no such thing, and those of [`GoogleError::name`].
const OUTCOMES: [&str; 9] = [
    DONE,
    MISSING,
    "unauthorised",
    "gone",
    "slow",
    "unavailable",
    "misconfigured",
    "sign_in",
    "unexpected",
];
const DONE: &str = "ok";
const MISSING: &str = "missing";

/// What is counted of the calls to Google.
#[derive(Default)]
pub(super) struct Metrics {
    requests: [[AtomicU64; OUTCOMES.len()]; Call::ALL.len()],
    units: AtomicU64,
    seconds: Arc<Histogram>,
}

impl Metrics {
    /// Counts a request that was sent, and what came of it: something, nothing (there is no such thing), or an error.
    pub(super) fn count<T>(
        &self,
        call: Call,
        took: Duration,
        outcome: &Result<Option<T>, GoogleError>,
    ) {
        let name = match outcome {
            Ok(Some(_)) => DONE,
            Ok(None) => MISSING,
            Err(error) => error.name(),
        };
        if let Some(at) = OUTCOMES.iter().position(|&outcome| outcome == name) {
            self.requests[call as usize][at].fetch_add(1, Relaxed);
        }
        self.units.fetch_add(call.units().into(), Relaxed);
        self.seconds.record(took);
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let mut requests = Vec::new();
        for call in Call::ALL {
            for (at, outcome) in OUTCOMES.into_iter().enumerate() {
                let count = self.requests[call as usize][at].load(Relaxed);
                // Most of them never happen.
                if count > 0 || outcome == DONE {
                    let labels = vec![
                        ("call", call.name().to_owned()),
                        ("outcome", outcome.to_owned()),
                    ];
                    requests.push((labels, count));
                }
            }
        }
        vec![
            Family {
                name: "mail_google_requests",
                help: "Requests to Google, by what was asked and what came of it",
                samples: Samples::Counter(requests),
            },
            Family {
                name: "mail_google_units",
                help: "Units of Gmail's quota that were used",
                samples: Samples::Counter(vec![(Vec::new(), self.units.load(Relaxed))]),
            },
            Family {
                name: "mail_google_seconds",
                help: "How long Google took to answer",
                samples: Samples::Histogram(Arc::clone(&self.seconds)),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_and_outcome_has_a_counter_of_its_own() {
        for (at, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, at, "{call:?}");
        }
        let metrics = Metrics::default();
        let took = Duration::from_millis(1);
        metrics.count::<()>(Call::Message, took, &Ok(None));
        for error in [
            GoogleError::Unauthorised(""),
            GoogleError::Gone,
            GoogleError::Slow { after: None },
            GoogleError::Unavailable(String::new()),
            GoogleError::Misconfigured(String::new()),
            GoogleError::SignIn(super::super::error::SignInError::Code),
            GoogleError::Unexpected(String::new()),
        ] {
            metrics.count::<()>(Call::Message, took, &Err(error));
        }
        let Samples::Counter(requests) = &metrics.families()[0].samples else {
            panic!("it counts");
        };
        let of_message = requests
            .iter()
            .filter(|(labels, count)| labels[0].1 == "message" && *count == 1);
        assert_eq!(of_message.count(), OUTCOMES.len() - 1);
    }
}
