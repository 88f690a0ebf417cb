//! Clients that come while a row is running, to a server of its choice. They verify what they get, but are no part of the
//! history: what they are put through is not promised to end well in time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::faults::row::RowError;
use crate::faults::stage::Stage;
use crate::fleet::{Credentials, Fleet, FleetOptions};
use crate::target::Target;

/// New connections a second.
const CONNECT_RATE: f64 = 500.0;

/// How long they may take to connect, and to get everything in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Some clients in the first of the channels that only acts publish to.
#[derive(Debug)]
pub(crate) struct Guests {
    fleet: Fleet,
    count: usize,
    /// Messages of their channel that had been acknowledged when they came.
    before: u64,
}

impl Guests {
    /// Connects `count` of them, in turn to `addresses`.
    pub(crate) fn join(
        stage: &Stage<'_>,
        addresses: &[SocketAddr],
        count: usize,
    ) -> Result<Self, RowError> {
        let urls: Vec<String> = addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        let fleet = Fleet::start(FleetOptions {
            targets: Target::parse_all("--url", &urls)?,
            sources: Vec::new(),
            per_source: 1,
            channels: vec![stage.channels[stage.probe_channel].clone()],
            dialect: Dialect::Centrifuge,
            credentials: Credentials::None,
            threads: 1,
            numbers: (0, 1),
            connect_rate: CONNECT_RATE,
            reconnect: true,
            recorder: None,
        })?;
        fleet.connect_to(count, PATIENCE, |_| {})?;
        Ok(Self {
            fleet,
            count,
            before: acknowledged(stage),
        })
    }

    /// Waits until each of them has everything that was acknowledged since, and sends them away. What they lack, or got
    /// twice or out of order, is a violation.
    pub(crate) fn leave_complete(self, stage: &mut Stage<'_>) -> Result<(), RowError> {
        let expected = acknowledged(stage) - self.before;
        let incomplete = self.fleet.wait_complete(vec![expected], PATIENCE, |_| {})?;
        let findings = self.fleet.finish()?;
        if incomplete > 0 {
            let count = self.count;
            stage.violated(format!("{incomplete} of {count} guests lack something"));
        }
        if let Some((_, what)) = findings.first_violation {
            stage.violated(format!("guest: {what}"));
        }
        Ok(())
    }
}

fn acknowledged(stage: &Stage<'_>) -> u64 {
    let mut counts = vec![0; stage.channels.len()];
    stage.probe.add_to_channels(&mut counts);
    counts[stage.probe_channel]
}
