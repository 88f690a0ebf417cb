//! The log as it stands after a run, written into the history: what all that clients saw is compared with.

use std::thread;
use std::time::Duration;

use crate::clock;
use crate::error::BenchError;
use crate::history::log_client::{self, PAGE, Page};
use crate::history::{Event, HistoryError, Recorder};
use crate::target::Target;

/// How often a page is asked for in all, each time from the next server, before the dump is given up.
const ATTEMPTS_MAX: usize = 60;

/// Between two rounds over all servers.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads every channel from its beginning to its head through the first server that answers, and records all rows.
///
/// # Errors
/// [`HistoryError::Dump`] when no server answers although each was asked many times.
pub(crate) fn dump(
    recorder: &Recorder,
    targets: &[Target],
    api_key: Option<&str>,
    channels: &[String],
) -> Result<(), BenchError> {
    let mut reader = Reader {
        targets,
        api_key,
        next: 0,
    };
    for (k, channel) in (0..).zip(channels) {
        let mut page = reader.read(channel, 0)?;
        recorder.record(Event::Dump {
            t: clock::now(),
            k,
            g: page.epoch.clone().into(),
            head: page.head,
            oldest: page.oldest,
        });
        // A server that gives numbers that do not grow could keep this going for ever.
        let mut position = 0;
        while let Some(&(last, ..)) = page.rows.last()
            && last > position
        {
            for (s, n, h) in page.rows {
                recorder.record(Event::Row { k, s, n, h });
            }
            position = last;
            page = reader.read(channel, position)?;
        }
    }
    Ok(())
}

struct Reader<'a> {
    targets: &'a [Target],
    api_key: Option<&'a str>,
    /// The server that answered last.
    next: usize,
}

impl Reader<'_> {
    fn read(&mut self, channel: &str, after: u64) -> Result<Page, BenchError> {
        let mut reason = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            let target = &self.targets[self.next % self.targets.len()];
            match log_client::read(target, self.api_key, channel, after, PAGE) {
                Ok(page) => return Ok(page),
                Err(error) => reason = format!("{}: {error}", target.host),
            }
            self.next += 1;
            if attempt % self.targets.len() == 0 {
                thread::sleep(PAUSE);
            }
        }
        Err(HistoryError::Dump {
            channel: channel.to_owned(),
            reason,
        }
        .into())
    }
}
