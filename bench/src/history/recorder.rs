//! Writes a history: many threads hand over events, one thread writes them.
//!
//! Nothing is ever left out. The queue is bounded: when the file cannot keep up, whoever records waits, and how long that
//! was stands in the last line. When the file cannot be written, the run fails.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::error::BenchError;
use crate::history::{Event, HISTORY_VERSION, HistoryError};

/// Events that may wait for the file; recording waits beyond them.
const QUEUE_EVENTS_MAX: usize = 65_536;

/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 256 << 10;

/// Takes the events of a run. Clones write to the same file.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: SyncSender<Order>,
    writer: Mutex<Option<JoinHandle<io::Result<u64>>>>,
    stalled: AtomicU64,
}

enum Order {
    Write(Event<'static>),
    Finish,
}

impl Recorder {
    /// Makes the file, replacing one of that name, and writes the header.
    ///
    /// # Errors
    /// [`HistoryError::Write`] when the file cannot be made.
    pub(crate) fn create(path: &Path, run: &str, channels: &[String]) -> Result<Self, BenchError> {
        let file = File::create(path).map_err(|source| HistoryError::Write {
            path: path.to_owned(),
            source,
        })?;
        let (queue, events) = sync_channel(QUEUE_EVENTS_MAX);
        let header = Event::Header {
            version: HISTORY_VERSION,
            run: run.to_owned(),
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
            t: clock::now(),
            channels: channels.to_vec(),
        };
        let writer = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write_all(file, &header, &events))
            .map_err(|source| BenchError::system("start a thread", source))?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                queue,
                writer: Mutex::new(Some(writer)),
                stalled: AtomicU64::new(0),
            }),
        })
    }

    /// Records an event; waits when the file cannot keep up. Events of one thread keep their order in the file.
    ///
    /// When the file can no longer be written this does nothing: [`finish`](Self::finish) fails then, and with it the run.
    pub(crate) fn record(&self, event: Event<'static>) {
        let order = match self.shared.queue.try_send(Order::Write(event)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            Err(TrySendError::Full(order)) => order,
        };
        let begun = clock::now();
        // The writer has ended if this fails; it tells why when it is joined.
        let _ = self.shared.queue.send(order);
        let waited = clock::now().saturating_sub(begun);
        self.shared.stalled.fetch_add(waited, Ordering::Relaxed);
    }

    /// A fault begins now.
    pub(crate) fn fault_begin(&self, name: &str) {
        self.record(Event::FaultBegin {
            t: clock::now(),
            name: name.to_owned().into(),
            new_epoch: false,
        });
    }

    /// A fault begins now by which the log becomes another one: what is acknowledged until its end may be lost with the
    /// epoch. To be ended when only the new log can be reached.
    pub(crate) fn epoch_fault_begin(&self, name: &str) {
        self.record(Event::FaultBegin {
            t: clock::now(),
            name: name.to_owned().into(),
            new_epoch: true,
        });
    }

    /// A fault ends now.
    pub(crate) fn fault_end(&self, name: &str) {
        self.record(Event::FaultEnd {
            t: clock::now(),
            name: name.to_owned().into(),
        });
    }

    /// Writes the last line and waits until everything is in the file. What other threads record after this is lost,
    /// so they must have ended.
    ///
    /// # Errors
    /// [`HistoryError::Write`] when anything could not be written.
    pub(crate) fn finish(&self) -> Result<(), BenchError> {
        let writer = self
            .shared
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else {
            return Ok(());
        };
        // Fails only when the writer has ended, which the join tells.
        let _ = self.shared.queue.send(Order::Write(Event::End {
            t: clock::now(),
            lines: 0,
            stalled: self.shared.stalled.load(Ordering::Relaxed),
        }));
        let _ = self.shared.queue.send(Order::Finish);
        let written = writer.join().map_err(|_| BenchError::Thread("history"))?;
        written.map_err(|source| HistoryError::Write {
            path: self.shared.path.clone(),
            source,
        })?;
        Ok(())
    }
}

/// Writes until told to finish, or until nobody can record any more; returns how many lines.
fn write_all(file: File, header: &Event<'_>, events: &Receiver<Order>) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut lines = 0;
    write_line(&mut out, header, &mut lines)?;
    while let Ok(Order::Write(mut event)) = events.recv() {
        if let Event::End { lines: count, .. } = &mut event {
            *count = lines + 1;
        }
        write_line(&mut out, &event, &mut lines)?;
    }
    out.flush()?;
    Ok(lines)
}

fn write_line(out: &mut impl Write, event: &Event<'_>, lines: &mut u64) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    *lines += 1;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::local::TempDir;

    fn event(c: u32, s: u64) -> Event<'static> {
        Event::Receive {
            t: 1,
            c,
            k: 0,
            s,
            n: None,
            h: 0,
        }
    }

    #[test]
    fn nothing_is_left_out_and_the_order_of_each_thread_is_kept() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("history");
        let recorder = Recorder::create(&path, "r", &["a".to_owned()]).unwrap();
        // More than fit into the queue.
        let each = QUEUE_EVENTS_MAX as u64 / 2;
        thread::scope(|scope| {
            for c in 0..4 {
                let recorder = recorder.clone();
                scope.spawn(move || (1..=each).for_each(|s| recorder.record(event(c, s))));
            }
        });
        recorder.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut next = [1; 4];
        let mut last = String::new();
        for line in text.lines() {
            match serde_json::from_str(line).unwrap() {
                Event::Receive { c, s, .. } => {
                    assert_eq!(s, next[c as usize]);
                    next[c as usize] += 1;
                }
                other => last = format!("{other:?}"),
            }
        }
        assert_eq!(next, [each + 1; 4]);
        let expected = format!("lines: {},", 4 * each + 2);
        assert!(
            last.contains("End { ") && last.contains(&expected),
            "{last}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_fails_the_run() {
        let full = Path::new("/dev/full");
        let recorder = Recorder::create(full, "r", &[]).unwrap();
        for s in 0..200_000 {
            recorder.record(event(0, s));
        }
        let error = recorder.finish().unwrap_err().to_string();
        assert!(error.contains("/dev/full"), "{error}");
        let missing = Path::new("/no/such/folder/history");
        assert!(Recorder::create(missing, "r", &[]).is_err());
    }
}
