//! Whether the log has exactly what it acknowledged: one subscription to each channel asks for its head.

use crate::args::ClientArgs;
use crate::error::BenchError;
use crate::mode::Setup;

/// What publishers were told, by channel.
#[derive(Debug)]
pub(crate) struct Books {
    /// Messages acknowledged.
    pub(crate) acknowledged: Vec<u64>,
    /// Messages of which nobody knows.
    pub(crate) unknown: Vec<u64>,
}

impl Books {
    /// Empty ones.
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            acknowledged: vec![0; channels],
            unknown: vec![0; channels],
        }
    }

    /// How many channels have another head than was acknowledged, and the versions that the servers told.
    fn compare(&self, setup: &Setup) -> Result<(usize, Vec<String>), BenchError> {
        let channels = self.acknowledged.len();
        let clients = ClientArgs {
            clients: channels,
            threads: 1,
            connect_rate: 2_000.0,
            source_addresses: None,
            connect_patience: 30,
        };
        let fleet = setup.fleet(&clients, false)?;
        setup.connect(&fleet, clients.clients, &clients)?;
        let findings = fleet.finish()?;
        let wrong = (0..channels).filter(|&channel| {
            let head = findings.contents.base(channel).unwrap_or(0);
            let least = self.acknowledged[channel];
            head < least || head > least + self.unknown[channel]
        });
        Ok((wrong.count(), findings.versions.clone()))
    }

    /// Reasons why the log does not have what was acknowledged, and the versions that the servers told.
    pub(crate) fn judge(&self, setup: &Setup) -> (Vec<String>, Vec<String>) {
        match self.compare(setup) {
            Ok((0, versions)) => (Vec::new(), versions),
            Ok((wrong, versions)) => {
                let reason = format!(
                    "{wrong} of {} channels have another head than was acknowledged",
                    self.acknowledged.len()
                );
                (vec![reason], versions)
            }
            Err(error) => {
                let reason = format!("the heads of the channels could not be read: {error}");
                (vec![reason], Vec::new())
            }
        }
    }
}
