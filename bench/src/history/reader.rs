//! Reads random stretches of the log while the run is on, so that the history can show whether what was acknowledged
//! can be read at once, on every server, and stays as it was read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::error::BenchError;
use crate::history::{Event, Recorder, log_client};
use crate::random::Random;
use crate::target::Target;

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(50);

/// How far behind the head a read begins at most.
const BEHIND_MAX: u64 = 100;

/// The most publications of one read.
const LIMIT_MAX: u64 = 200;

/// Reads until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts a thread that reads from `targets` at random.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(
        recorder: Recorder,
        targets: Vec<Target>,
        api_key: Option<String>,
        channels: Arc<Vec<String>>,
    ) -> Result<Self, BenchError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut walk = Walk {
            heads: vec![0; channels.len()],
            recorder,
            targets,
            api_key,
            channels,
            random: Random::new(2),
            reads: 0,
        };
        let thread = thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    walk.step();
                    thread::sleep(PAUSE);
                }
            })
            .map_err(|source| BenchError::system("start a thread", source))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has recorded all it saw before.
            let _ = thread.join();
        }
    }
}

struct Walk {
    recorder: Recorder,
    targets: Vec<Target>,
    api_key: Option<String>,
    channels: Arc<Vec<String>>,
    random: Random,
    /// The head of each channel, as far as it was told.
    heads: Vec<u64>,
    reads: u64,
}

impl Walk {
    fn step(&mut self) {
        let target = self.random.below(self.targets.len() as u64) as usize;
        let channel = self.random.below(self.channels.len() as u64) as usize;
        let mut s = self.heads[channel].saturating_sub(self.random.below(BEHIND_MAX));
        let mut limit = 1 + self.random.below(LIMIT_MAX);
        // An answer may be cut where it gets too long. What it left out must come then: an empty answer says that there
        // is nothing.
        while let Some((last, rows)) = self.read(target, channel, s, limit)
            && rows < limit
        {
            (s, limit) = (last, limit - rows);
        }
    }

    /// Reads and records. Returns the last number and how many there were, if the answer ends before the head.
    fn read(&mut self, target: usize, channel: usize, s: u64, limit: u64) -> Option<(u64, u64)> {
        let target = &self.targets[target];
        let r = self.reads;
        self.reads += 1;
        self.recorder.record(Event::Read {
            t: clock::now(),
            r,
            k: channel as u32,
            s,
            limit,
        });
        let name = &self.channels[channel];
        // Without an answer there is nothing to judge.
        let page = log_client::read(target, self.api_key.as_deref(), name, s, limit).ok()?;
        self.heads[channel] = page.head;
        let last = page.rows.last().map(|row| row.0);
        let ends = last
            .filter(|last| (s + 1..page.head).contains(last))
            .map(|last| (last, page.rows.len() as u64));
        self.recorder.record(Event::Result {
            t: clock::now(),
            r,
            g: page.epoch.into(),
            head: page.head,
            oldest: page.oldest,
            rows: page.rows,
        });
        ends
    }
}
