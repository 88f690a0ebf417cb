//! What a row works with while it runs: its servers, its clients, a probe, and the figures that it finds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::outcome::Figure;
use crate::faults::probe::{self, Message, Probe, Told};
use crate::faults::row::{RowError, Scaled};
use crate::faults::scene::Scene;
use crate::fleet::Fleet;
use crate::history::Recorder;
use crate::publish::Publisher;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long a condition that must come may take before the row is broken off.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one publish of a probe may take.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// A row at work.
pub(crate) struct Stage<'a> {
    /// Its servers.
    pub(crate) scene: &'a mut Scene,
    /// Its clients.
    pub(crate) fleet: &'a Fleet,
    /// Publishes the load.
    pub(crate) publisher: &'a Publisher,
    /// Publishes single messages.
    pub(crate) probe: &'a mut Probe,
    /// Where faults are marked.
    pub(crate) recorder: &'a Recorder,
    /// Names of all channels.
    pub(crate) channels: Arc<Vec<String>>,
    /// How many clients there are.
    pub(crate) clients: usize,
    /// The first of the channels that only acts publish to.
    pub(crate) probe_channel: usize,
    /// Whether the log was replaced by another one.
    pub(crate) replaced: &'a mut bool,
    /// Whether this is the short form.
    pub(crate) short: bool,
    /// What was found.
    pub(crate) figures: &'a mut Vec<Figure>,
    /// What is worth saying beside it.
    pub(crate) notes: &'a mut Vec<String>,
}

impl Stage<'_> {
    /// The value for this form.
    pub(crate) fn pick<T: Copy>(&self, full: T, short: T) -> T {
        Scaled { full, short }.of(self.short)
    }

    /// Lets the load go on.
    pub(crate) fn rest(&self, seconds: f64) {
        thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// Does something while the history says that there is a fault.
    pub(crate) fn fault<T>(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Self) -> Result<T, RowError>,
    ) -> Result<T, RowError> {
        self.recorder.fault_begin(name);
        let done = act(self);
        self.recorder.fault_end(name);
        done
    }

    /// The same for a fault that replaces the log by another one.
    pub(crate) fn epoch_fault(
        &mut self,
        name: &str,
        act: impl FnOnce(&mut Self) -> Result<(), RowError>,
    ) -> Result<(), RowError> {
        *self.replaced = true;
        self.recorder.epoch_fault_begin(name);
        let done = act(self);
        self.recorder.fault_end(name);
        done
    }

    /// Waits for a condition; how long it took, in seconds.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<f64, RowError> {
        self.wait_for(PATIENCE, what, holds)
    }

    /// The same with a patience of one's own.
    pub(crate) fn wait_for(
        &mut self,
        patience: Duration,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<f64, RowError> {
        let begun = Instant::now();
        while !holds(self) {
            if begun.elapsed() > patience {
                return Err(RowError::Late {
                    what: what.to_owned(),
                    seconds: patience.as_secs(),
                });
            }
            thread::sleep(LOOK);
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Waits until every client is subscribed after connections were lost; how long it took, in seconds.
    ///
    /// Clients notice a lost connection at once; it is waited for that a little, so that it is not missed.
    pub(crate) fn wait_back(&mut self) -> Result<f64, RowError> {
        let begun = Instant::now();
        while self.fleet.live() >= self.clients && begun.elapsed() < 30 * LOOK {
            thread::sleep(LOOK / 10);
        }
        self.wait("every client is subscribed again", |stage| {
            stage.fleet.live() >= stage.clients
        })?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Writes down a figure that must not be above `bound`; of several of one name the worst is kept.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, unit: &'static str, bound: f64) {
        self.figure(name, value, unit, Some(bound));
    }

    /// Writes down a figure that nothing is promised about.
    pub(crate) fn tell(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figure(name, value, unit, None);
    }

    fn figure(&mut self, name: &str, value: f64, unit: &'static str, bound: Option<f64>) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.value = figure.value.max(value),
            None => self.figures.push(Figure {
                name: name.to_owned(),
                value,
                unit,
                bound,
            }),
        }
    }

    /// Something that is not a matter of time was not as it must be.
    pub(crate) fn violated(&mut self, what: impl Into<String>) {
        self.figures.push(Figure::violation(what.into()));
    }

    /// Says something beside the figures.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The value of a metric of a node, asked past any proxy.
    pub(crate) fn metric(&self, node: usize, name: &str) -> Result<f64, RowError> {
        Ok(probe::metric(self.scene.address(node), name)?)
    }

    /// The sum of a metric over all nodes.
    pub(crate) fn metric_sum(&self, name: &str) -> Result<f64, RowError> {
        (0..self.scene.nodes.len())
            .map(|node| self.metric(node, name))
            .sum()
    }

    /// Waits until all nodes say of their bus what is expected; how long it took, in seconds.
    pub(crate) fn wait_bus(&mut self, up: bool) -> Result<f64, RowError> {
        let (what, value) = match up {
            true => ("every node calls its bus up", 1.0),
            false => ("every node calls its bus down", 0.0),
        };
        self.wait(what, |stage| {
            (0..stage.scene.nodes.len()).all(|node| {
                stage
                    .metric(node, "fanfare_bus_up")
                    .is_ok_and(|up| up == value)
            })
        })
    }

    /// Publishes a message to one of the channels that only acts publish to.
    pub(crate) fn publish(&mut self, node: usize) -> (Message, Told) {
        let address = self.scene.address(node);
        self.probe
            .publish(address, self.probe_channel, PROBE_PATIENCE)
    }

    /// Publishes a message through a node until it is acknowledged, always with the same key; how long that took, in
    /// seconds.
    pub(crate) fn publish_until_acknowledged(
        &mut self,
        node: usize,
        channel: usize,
    ) -> Result<f64, RowError> {
        let address = self.scene.address(node);
        let begun = Instant::now();
        let (message, told) = self.probe.publish(address, channel, PROBE_PATIENCE);
        self.finish_publish(&message, told, address)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Sends a message again until it is acknowledged.
    pub(crate) fn finish_publish(
        &mut self,
        message: &Message,
        mut told: Told,
        address: SocketAddr,
    ) -> Result<Told, RowError> {
        let begun = Instant::now();
        while !matches!(told, Told::Acknowledged { .. }) {
            if begun.elapsed() > PATIENCE {
                self.probe.give_up(message, "never answered");
                return Err(RowError::Late {
                    what: "an acknowledgement".to_owned(),
                    seconds: PATIENCE.as_secs(),
                });
            }
            thread::sleep(5 * LOOK);
            told = self.probe.again(address, message, PROBE_PATIENCE);
        }
        Ok(told)
    }
}
