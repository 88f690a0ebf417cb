//! A row of the fault matrix: what is done to which servers under which load, and what must hold.

use crate::error::BenchError;
use crate::faults::scene::Layout;
use crate::faults::stage::Stage;
use crate::local::LocalError;

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Its number in the matrix.
    pub(crate) number: &'static str,
    /// The fault.
    pub(crate) name: &'static str,
    /// How it is brought about.
    pub(crate) how: &'static str,
    /// What is promised beside the rules that every row must keep.
    pub(crate) promise: &'static str,
    /// The servers.
    pub(crate) layout: Layout,
    /// The load.
    pub(crate) load: Load,
    /// What is done while the load is on.
    pub(crate) during: Act,
    /// What is done after it, when nothing else is published.
    pub(crate) after: Act,
    /// Bounds for what the history shows, beside those that the acts set.
    pub(crate) bounds: Bounds,
}

/// Something that is done to the servers of a row.
pub(crate) type Act = fn(&mut Stage<'_>) -> Result<(), RowError>;

/// Nothing is done.
pub(crate) fn nothing(_: &mut Stage<'_>) -> Result<(), RowError> {
    Ok(())
}

impl Row {
    /// A row in which nothing is done yet.
    pub(crate) const fn new(
        number: &'static str,
        name: &'static str,
        how: &'static str,
        promise: &'static str,
    ) -> Self {
        Self {
            number,
            name,
            how,
            promise,
            layout: Layout::DEFAULT,
            load: Load::DEFAULT,
            during: nothing,
            after: nothing,
            bounds: Bounds::NONE,
        }
    }
}

/// A value of the full form and one of the short form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scaled<T> {
    /// In the full form.
    pub(crate) full: T,
    /// In the short form.
    pub(crate) short: T,
}

/// Shorthand for a [`Scaled`].
pub(crate) const fn scaled<T>(full: T, short: T) -> Scaled<T> {
    Scaled { full, short }
}

impl<T: Copy> Scaled<T> {
    /// The one that is asked for.
    pub(crate) fn of(&self, short: bool) -> T {
        if short { self.short } else { self.full }
    }
}

/// The load of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Verifying clients.
    pub(crate) clients: Scaled<usize>,
    /// Channels that the schedule publishes to.
    pub(crate) channels: usize,
    /// Further channels, with clients, that only acts publish to.
    pub(crate) probe_channels: usize,
    /// Messages a second.
    pub(crate) rate: Scaled<f64>,
    /// How long they are published, in seconds; the fault comes after the first of them.
    pub(crate) seconds: Scaled<f64>,
    /// Connections to publish on.
    pub(crate) publishers: usize,
    /// Seconds of load before the fault.
    pub(crate) warmup: f64,
}

impl Load {
    /// 500 messages a second to 300 clients.
    pub(crate) const DEFAULT: Self = Self {
        clients: scaled(300, 40),
        channels: 20,
        probe_channels: 2,
        rate: scaled(500.0, 80.0),
        seconds: scaled(20.0, 8.0),
        publishers: 48,
        warmup: 2.0,
    };

    /// That for so many seconds.
    pub(crate) const fn seconds(full: f64, short: f64) -> Self {
        Self {
            seconds: scaled(full, short),
            ..Self::DEFAULT
        }
    }
}

/// What the history must show, in seconds. Judged only where the machine was not overloaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// From the end of each fault until deliveries are as quick as before.
    pub(crate) heal: Option<f64>,
    /// 99th percentile from acknowledgement to delivery, within fault windows.
    pub(crate) p99_in_window: Option<f64>,
    /// The longest time from acknowledgement to delivery, within fault windows.
    pub(crate) max_in_window: Option<f64>,
}

impl Bounds {
    /// None.
    pub(crate) const NONE: Self = Self {
        heal: None,
        p99_in_window: None,
        max_in_window: None,
    };
}

/// Why a row could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// This machine cannot do what the row needs.
    #[error("{0}")]
    Skip(String),
    /// The fault had no effect, so that the row would prove nothing.
    #[error("the fault did not take: {0}")]
    NoEffect(String),
    /// A condition that must come did not.
    #[error("{what} did not come within {seconds} s")]
    Late {
        /// The condition.
        what: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// The generator failed.
    #[error("{0}")]
    Bench(#[from] BenchError),
    /// A server could not be started or told something.
    #[error("{0}")]
    Local(#[from] LocalError),
    /// A question to a node was not answered.
    #[error("a node did not answer: {0}")]
    Io(#[from] std::io::Error),
}
