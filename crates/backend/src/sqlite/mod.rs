//! The log and the tables of apps in one SQLite file, for a server that runs alone.
//!
//! One thread writes, a few connections beside it read; with WAL neither waits for the other. A commit is flushed to the
//! disk before it is acknowledged (`synchronous=FULL`). The folder belongs to one process at a time: a second one is
//! refused.

mod batch;
mod checkpoint;
mod readers;
mod retention;
mod schema;
mod seen;
mod sum;
mod tables;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use fanfare_engine::port::{
    AppendError, BoxFuture, Committed, Head, LaneBatch, LaneCursors, LaneId, Log, LogError,
    NodeRecord, ReadRange, Retention, Tables, TablesError, TransactError, Transacted, Transaction,
    Trimmed,
    tables::{Dialect, Migration, Row, Value, check_query},
};
use fanfare_wire::{ChannelName, Draft, Epoch, Millis, Publication, Seq};
use tokio::sync::{mpsc, oneshot};

use self::{
    readers::Readers,
    retention::{Reached, Step},
    writer::{Command, Job, Writer},
};

pub use self::schema::OpenError;

/// Connections that read. Reads beyond it wait for one of them.
pub const READERS: usize = 4;

/// Commands that wait for the writer; more wait for a place.
const QUEUE: usize = 64;

/// The log in an SQLite file. Dropping it waits for the commit in flight, then closes the file.
pub struct SqliteLog {
    epoch: Epoch,
    lane: LaneId,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    about: Mutex<Bytes>,
}

impl SqliteLog {
    /// Opens the log in a folder, which is made if it is not there. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it; [`OpenError::InUse`] if another process has the folder.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = schema::open(dir)?;
        let readers = Arc::new(Readers::open(&opened.path)?);
        let (commands, queue) = mpsc::channel(QUEUE);
        let (epoch, lane) = (opened.epoch.clone(), opened.lane);
        let writer = Writer::new(opened);
        let writer = std::thread::Builder::new()
            .name("fanfare-log".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|source| OpenError::Folder {
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            epoch,
            lane,
            commands: Some(commands),
            writer: Some(writer),
            readers,
            about: Mutex::default(),
        })
    }

    async fn commit(&self, batch: Vec<Draft>) -> Result<Committed, AppendError> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .send(Command::Commit(Job::Append { batch, reply }))
            .await;
        sent.map_err(AppendError::Unavailable)?;
        answer.await.map_err(|_| AppendError::Unknown(stopped()))?
    }

    /// Does a step and all that follow from it. The queue lets appends in between two of them.
    async fn steps(&self, first: Step) -> Result<Trimmed, LogError> {
        let mut removed = Trimmed::default();
        let mut next = Some(first);
        while let Some(step) = next {
            let reached = self.step(step).await?;
            removed.publications += reached.removed.publications;
            removed.keys += reached.removed.keys;
            removed.lane_batches += reached.removed.lane_batches;
            next = reached.next;
        }
        Ok(removed)
    }

    async fn step(&self, step: Step) -> Result<Reached, LogError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.send(Command::Trim { step, reply }).await;
        sent.map_err(LogError)?;
        answer.await.map_err(|_| LogError(stopped()))?
    }

    async fn send(&self, command: Command) -> Result<(), String> {
        let commands = self.commands.as_ref().ok_or_else(stopped)?;
        commands.send(command).await.map_err(|_| stopped())
    }
}

impl Log for SqliteLog {
    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        Box::pin(self.commit(batch.to_vec()))
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        let channel = channel.clone();
        Box::pin(
            self.readers
                .ask(move |connection| readers::read(connection, &channel, range)),
        )
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        let channels = channels.to_vec();
        Box::pin(
            self.readers
                .ask(move |connection| readers::heads(connection, &channels)),
        )
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        Box::pin(self.readers.ask(readers::lanes))
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        let cursors = cursors.clone();
        Box::pin(
            self.readers
                .ask(move |connection| readers::sweep(connection, &cursors, limit)),
        )
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        Box::pin(async move {
            let mut trimmed = Trimmed::default();
            for step in retention::first_steps(rules) {
                let removed = self.steps(step).await?;
                trimmed.publications += removed.publications;
                trimmed.keys += removed.keys;
                trimmed.lane_batches += removed.lane_batches;
            }
            Ok(trimmed)
        })
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        Box::pin(async move {
            self.steps(Step::Channel(channel.clone(), up_to)).await?;
            let heads = self.heads(std::slice::from_ref(channel)).await?;
            Ok(heads.first().copied().unwrap_or_default())
        })
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        // There is no other node to hear of.
        let mut own = self.about.lock().unwrap_or_else(PoisonError::into_inner);
        *own = about.clone();
        let record = NodeRecord {
            lane: self.lane,
            about,
        };
        Box::pin(std::future::ready(Ok(vec![record])))
    }
}

impl Tables for SqliteLog {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn migrate(
        &self,
        app: &'static str,
        migrations: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Migrate {
                app,
                migrations,
                reply,
            };
            let sent = self.send(command).await;
            sent.map_err(TablesError::Unavailable)?;
            let stopped = |_| TablesError::Unavailable(stopped());
            answer.await.map_err(stopped)?
        })
    }

    fn query(
        &self,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>> {
        Box::pin(async move {
            check_query(sql, &params)?;
            let query = move |connection: &_| Ok(tables::query(connection, sql, &params));
            let asked = self.readers.ask(query).await;
            asked.map_err(|error| TablesError::Unavailable(error.0))?
        })
    }

    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>> {
        Box::pin(async move {
            transaction.check()?;
            let (reply, answer) = oneshot::channel();
            let transaction = transaction.clone();
            let job = Job::Transact { transaction, reply };
            let sent = self.send(Command::Commit(job)).await;
            sent.map_err(TransactError::Unavailable)?;
            let stopped = |_| TransactError::Unknown(stopped());
            answer.await.map_err(stopped)?
        })
    }
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            // It ends with its queue. If it panicked, that was told to whoever waited for it.
            let _ = writer.join();
        }
    }
}

fn stopped() -> String {
    "the writer has stopped: restart the server".to_owned()
}

fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// SQLite's integers are signed; no channel comes near the end of either.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn unavailable(error: &rusqlite::Error) -> LogError {
    LogError(format!("SQLite: {error}"))
}
