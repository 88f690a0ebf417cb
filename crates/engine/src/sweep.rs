//! The sweep of the lane log: the guarantee behind the bus.
//!
//! Every committed batch leaves an entry in its lane's log. Reading all lanes past the cursors costs one statement,
//! whatever the number of channels, and shows everything that the bus did not bring: a lost hint, a lost tail, a crash
//! between commit and publish, a bus that is down or hangs.

use std::{sync::Arc, time::Duration};

use fanfare_wire::Epoch;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tracing::{info, warn};

use crate::{
    channels::{ATTACH_BATCH_MAX, Channels},
    epoch::{Epochs, in_one_epoch},
    heal::Cause,
    metrics::Metrics,
    port::{Bus, BusEvent, BusEvents, BusHealth, Head, LaneCursors, Log, LogError},
    task,
};

/// Between two sweeps while hints travel.
const INTERVAL: Duration = Duration::from_millis(200);
/// Between two sweeps while they do not: the sweep is the way of delivery then.
const INTERVAL_WITHOUT_BUS: Duration = Duration::from_millis(25);
/// Between two sweeps where others than nodes publish, which no hint tells of.
const INTERVAL_UNANNOUNCED: Duration = Duration::from_millis(50);
/// The same while they do so.
const INTERVAL_UNANNOUNCED_BUSY: Duration = Duration::from_millis(25);
/// For how long after the last of their publications they count as doing so.
const UNANNOUNCED_SPAN: Duration = Duration::from_secs(10);
/// Lane-log entries read at once; after a full read the next one follows immediately.
const ENTRIES_MAX: usize = 1000;

/// Hears what the bus brings, and sweeps for what it does not.
pub(crate) struct Sweeper {
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
    channels: Arc<Channels>,
    epochs: Arc<Epochs>,
    metrics: Arc<Metrics>,
    at_once: Notify,
}

/// How far the lanes of one epoch have been read.
struct Cursors {
    epoch: Epoch,
    lanes: LaneCursors,
    /// When the question was asked to which they are the answer.
    asked: Instant,
}

impl Sweeper {
    /// Starts the bus and, if there are other nodes, the sweep.
    pub(crate) fn start(
        log: Arc<dyn Log>,
        bus: Arc<dyn Bus>,
        channels: Arc<Channels>,
        epochs: Arc<Epochs>,
        metrics: Arc<Metrics>,
    ) {
        let sweeper = Arc::new(Self {
            log,
            bus,
            channels,
            epochs,
            metrics,
            at_once: Notify::new(),
        });
        sweeper
            .bus
            .start(Arc::clone(&sweeper) as Arc<dyn BusEvents>);
        if sweeper.bus.health() != BusHealth::Local {
            task::spawn(sweeper.run());
        }
    }

    async fn run(self: Arc<Self>) {
        let mut cursors = None;
        let mut looked = Instant::now();
        let mut unannounced = None;
        loop {
            self.count_down(&mut looked);
            let swept = self.sweep(&mut cursors, &mut unannounced).await;
            // Whatever the answer: the log may have become another one.
            self.epochs.check();
            let more = match swept {
                Ok(more) => more,
                Err(error) => {
                    self.metrics.sweep_errors.add(1);
                    warn!(%error, "the lane log cannot be swept");
                    time::sleep(INTERVAL).await;
                    false
                }
            };
            if more {
                continue;
            }
            // Either way it is time to sweep again.
            let _ = time::timeout(self.interval(unannounced), self.at_once.notified()).await;
        }
    }

    /// How long to wait for the next sweep, when something was last found that no node announces.
    fn interval(&self, unannounced: Option<Instant>) -> Duration {
        if self.bus.health() == BusHealth::Down {
            return INTERVAL_WITHOUT_BUS;
        }
        match unannounced {
            Some(at) if at.elapsed() < UNANNOUNCED_SPAN => INTERVAL_UNANNOUNCED_BUSY,
            _ if self.log.expects_unannounced() => INTERVAL_UNANNOUNCED,
            _ => INTERVAL,
        }
    }

    /// Counts the time since it was last looked at as down, if the bus is.
    fn count_down(&self, looked: &mut Instant) {
        let now = Instant::now();
        if self.bus.health() != BusHealth::Down {
            *looked = now;
            return;
        }
        let since = now.saturating_duration_since(*looked);
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.metrics.bus_down_ms.add(ms);
        // What is left of a millisecond counts the next time.
        *looked += Duration::from_millis(ms);
    }

    /// One sweep. Returns whether there may be more to read at once, and notes when it found what no node announces.
    async fn sweep(
        &self,
        cursors: &mut Option<Cursors>,
        unannounced: &mut Option<Instant>,
    ) -> Result<bool, LogError> {
        let Some(Cursors {
            epoch,
            lanes: known,
            asked,
        }) = cursors
        else {
            let asked = Instant::now();
            let (epoch, lanes) = in_one_epoch(&*self.log, Log::lanes).await?;
            // Channels that became live before this moment may have missed what the lane log no longer will show.
            self.audit().await?;
            *cursors = Some(Cursors {
                epoch,
                lanes,
                asked,
            });
            return Ok(false);
        };
        let cause = match self.bus.health() {
            BusHealth::Down => Cause::Down,
            BusHealth::Up | BusHealth::Local => Cause::Sweep,
        };
        let read: &LaneCursors = known;
        let asks = Instant::now();
        let asking = in_one_epoch(&*self.log, |log| log.sweep(read, ENTRIES_MAX));
        let (answered_in, batches) = asking.await?;
        if answered_in != *epoch {
            // The lanes of another log.
            *cursors = None;
            return Ok(true);
        }
        self.metrics.sweeps.add(1);
        let more = batches.len() >= ENTRIES_MAX;
        // Entries that went meanwhile leave no trace if they were the last of their lane.
        let mut slept = asked.elapsed() > self.log.lane_log_kept() / 2;
        *asked = asks;
        for batch in &batches {
            // A jump in a lane, or a new one without its first, says the same for clocks that stand still while a machine sleeps.
            let cursor = known.insert(batch.lane, batch.n).unwrap_or(0);
            slept |= cursor + 1 != batch.n;
            let cause = match batch.unannounced {
                true => Cause::Unannounced,
                false => cause,
            };
            if batch.unannounced {
                *unannounced = Some(asks);
            }
            for (name, _, last) in &batch.channels {
                let head = Head {
                    seq: *last,
                    ..Head::default()
                };
                self.channels.hear(name, epoch, head, cause);
            }
        }
        if slept {
            warn!(
                "this node has not read the lane log for longer than it reaches: all its channels are checked"
            );
            // From the beginning: as long as the log does not answer, that is tried again.
            *cursors = None;
            return Ok(true);
        }
        Ok(more)
    }

    /// Compares all live channels with their heads in the log.
    async fn audit(&self) -> Result<(), LogError> {
        for names in self.channels.names().chunks(ATTACH_BATCH_MAX) {
            let (epoch, heads) = in_one_epoch(&*self.log, |log| log.heads(names)).await?;
            for (name, head) in names.iter().zip(heads) {
                self.channels.hear(name, &epoch, head, Cause::Audit);
            }
        }
        Ok(())
    }
}

impl BusEvents for Sweeper {
    fn on_event(&self, event: BusEvent) {
        match event {
            BusEvent::Hint(hint) => {
                self.metrics.hints.add(1);
                self.channels.offer(&hint.run);
            }
            BusEvent::News(news) => self.channels.tell(&news),
            BusEvent::Gap => self.at_once.notify_one(),
            BusEvent::Down => {
                self.metrics.bus_downs.add(1);
                warn!("the bus is down: the sweep of the lane log delivers");
                self.at_once.notify_one();
            }
            BusEvent::Up => {
                self.metrics.bus_ups.add(1);
                info!("the bus is up");
                self.at_once.notify_one();
            }
        }
    }
}
