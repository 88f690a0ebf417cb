//! Checkpoints: what stands in SQLite's write-ahead log goes to where it belongs in the file.
//!
//! SQLite does that within a commit, as soon as the log is long enough, and whoever waits for the commit waits for tens of megabytes to be
//! written and flushed. Here a thread of its own does it, beside the writer, which goes on adding to the log. What it has added meanwhile the writer
//! brings over itself afterwards: that is little, and only when nothing is left does the log begin at its start again. If the thread does not
//! keep up, or readers hold it back, the writer does all of it, as SQLite would.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, hooks::Wal};
use tracing::debug;

use super::schema::configure;

/// How much is written to the log before its pages go to where they belong: each page that many batches touched is then written once.
const BEGIN_BYTES: u32 = 32 << 20;

/// How long the log may become before the writer does not wait for the thread any more, in times of [`BEGIN_BYTES`].
const PATIENCE: u32 = 4;

/// Copies what no reader needs where it is, without making anybody wait.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The checkpoints of a file with one writer.
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicU32>,
    /// With how many of them a checkpoint begins.
    begin: u32,
    /// How often the writer has done what the thread had left.
    #[cfg(test)]
    finished: u32,
    thread: Option<Thread>,
}

struct Thread {
    wake: SyncSender<()>,
    /// It has done what it could, and the writer not yet the rest.
    done: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl Checkpoints {
    /// Takes the checkpoints over from SQLite, for the connection that writes.
    ///
    /// # Errors
    /// SQLite's, if the file cannot be opened once more; or the system has no thread.
    pub(super) fn begin(writer: &mut Connection, path: &Path) -> rusqlite::Result<Self> {
        let page: u32 = writer.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Self::begin_at(writer, path, BEGIN_BYTES / page.max(512))
    }

    fn begin_at(writer: &mut Connection, path: &Path, begin: u32) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&pages);
        // In the place of SQLite's own, which makes checkpoints within commits.
        writer.wal_hook(Some(move |_: &mut Wal, pages| {
            count.store(u32::try_from(pages).unwrap_or(0), Relaxed);
            Ok(())
        }))?;
        let connection = Connection::open(path)?;
        configure(&connection)?;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        Ok(Self {
            pages,
            begin,
            #[cfg(test)]
            finished: 0,
            // Without a thread the writer does all of it.
            thread: Thread::start(connection).ok(),
        })
    }

    /// To be called after each commit.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = self.pages.load(Relaxed);
        if pages < self.begin {
            return;
        }
        let patience = self.begin.saturating_mul(PATIENCE);
        let is_ours = match &self.thread {
            Some(thread) if pages < patience => thread.done.swap(false, Relaxed) || !thread.wake(),
            _ => true,
        };
        if is_ours {
            run(writer);
            #[cfg(test)]
            {
                self.finished += 1;
            }
        }
    }
}

impl Thread {
    fn start(connection: Connection) -> std::io::Result<Self> {
        let (wake, calls) = sync_channel(0);
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let work = move || {
            while calls.recv().is_ok() {
                run(&connection);
                told.store(true, Relaxed);
            }
        };
        let handle = std::thread::Builder::new()
            .name("fanfare-checkpoint".to_owned())
            .spawn(work)?;
        Ok(Self { wake, done, handle })
    }

    /// Has it begin, if it is not at work already. False if it is gone.
    fn wake(&self) -> bool {
        !matches!(self.wake.try_send(()), Err(TrySendError::Disconnected(())))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(Thread { wake, handle, .. }) = self.thread.take() {
            drop(wake);
            // It ends with its queue; if it panicked, the writer has done its work.
            let _ = handle.join();
        }
    }
}

/// Does what can be done now. What cannot is done by the next one: nothing that is committed depends on it.
fn run(connection: &Connection) {
    let result = connection.query_row(PASSIVE, [], |_| Ok(()));
    if let Err(error) = result {
        debug!(%error, "a checkpoint of the write-ahead log failed");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread::sleep, time::Duration};

    use fanfare_bench::local::TempDir;

    use super::*;

    struct File {
        dir: TempDir,
        writer: Connection,
        checkpoints: Checkpoints,
    }

    fn open(begin: u32) -> File {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("f.db");
        let mut writer = Connection::open(&path).unwrap();
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)";
        writer.execute_batch(settings).unwrap();
        let checkpoints = Checkpoints::begin_at(&mut writer, &path, begin).unwrap();
        File {
            dir,
            writer,
            checkpoints,
        }
    }

    impl File {
        fn commit(&mut self) {
            let insert = "INSERT INTO t (x) VALUES (hex(randomblob(4000)))";
            self.writer.execute(insert, []).unwrap();
            self.checkpoints.after_commit(&self.writer);
        }

        fn pages(&self) -> u32 {
            self.checkpoints.pages.load(Relaxed)
        }

        fn count(&self) -> u32 {
            let path = self.dir.path().join("f.db");
            let other = Connection::open(path).unwrap();
            other
                .query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))
                .unwrap()
        }
    }

    #[test]
    fn the_thread_does_the_most_and_the_writer_the_rest_so_that_the_log_begins_again() {
        let mut file = open(50);
        let mut longest = 0;
        for _ in 0..800 {
            file.commit();
            longest = longest.max(file.pages());
            // Slow enough for the thread on any machine: it is not to be outrun here.
            if file.pages() >= 50 {
                sleep(Duration::from_millis(1));
            }
        }
        assert!(
            file.checkpoints.finished > 1,
            "{}",
            file.checkpoints.finished
        );
        let bound = 50 * PATIENCE + 10;
        assert!(longest <= bound, "{longest} pages stood in the log");
        assert_eq!(file.count(), 800);
    }

    #[test]
    fn a_reader_that_stays_holds_the_log_and_nobody_else() {
        let mut file = open(20);
        let reader = Connection::open(file.dir.path().join("f.db")).unwrap();
        reader
            .execute_batch("BEGIN; SELECT COUNT(*) FROM t")
            .unwrap();
        let seen = |reader: &Connection| -> u32 {
            reader
                .query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))
                .unwrap()
        };
        let before = seen(&reader);
        for _ in 0..200 {
            file.commit();
        }
        assert_eq!(seen(&reader), before);
        let held = file.pages();
        assert!(held >= 200, "{held}");
        reader.execute_batch("COMMIT").unwrap();
        file.commit();
        file.commit();
        assert!(file.pages() < held, "{} of {held}", file.pages());
        assert_eq!(file.count(), 202);
    }

    #[test]
    fn it_ends_with_the_writer_and_leaves_everything_in_the_file() {
        let mut file = open(20);
        for _ in 0..100 {
            file.commit();
        }
        let File {
            dir,
            writer,
            checkpoints,
        } = file;
        drop(checkpoints);
        drop(writer);
        // The last connection takes the log away.
        assert!(!fs::exists(dir.path().join("f.db-wal")).unwrap());
        let again = Connection::open(dir.path().join("f.db")).unwrap();
        let count: u32 = again
            .query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 100);
    }
}
