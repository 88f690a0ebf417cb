//! The log in PostgreSQL, shared by any number of nodes.
//!
//! One session is the node's lane: it appends, one server-side call per batch (`migrations/postgres/0002_append.sql`
//! explains the call). A small pool of other sessions reads. Sessions that break are replaced when they are next needed;
//! until then every call fails at once, and after it they work again.
//!
//! It never keeps a transaction open across a round trip, so a node that pauses or dies holds no lock. It does not
//! speak TLS.

mod batch;
mod database;
mod epoch;
mod error;
mod heartbeat;
mod lane;
mod migrate;
mod outcome;
mod pool;
mod rows;
mod tables;
mod transact;
mod trim;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use fanfare_engine::port::{
    AppendError, BoxFuture, Committed, Direction, Head, LaneBatch, LaneCursors, LaneId, Log,
    LogError, NodeRecord, ReadRange, Retention, Trimmed,
};
use fanfare_wire::{ChannelName, Draft, Epoch, Json, Millis, Publication, Seq};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use self::{
    database::{Database, Session},
    error::malformed,
    lane::Lanes,
    pool::{Call, Pool},
    tables::AppLanes,
};

pub(crate) use self::{database::MAJOR_VERSION_MIN, error::describe};
pub use self::{error::OpenError, tables::APP_LANES};

/// Sessions that read. Reads beyond it wait for one of them.
pub const READERS: usize = 4;

/// Sessions for the sweep and the heartbeat: neither waits behind a read, nor behind the other.
const PULSES: usize = 2;

/// Sessions that a node may have at once: its lane, those of apps, those that read, the pulse, and one that trims.
pub(crate) const SESSIONS_MAX: usize = 1 + APP_LANES + READERS + PULSES + 1;

const PEERS_SECRET: &str = "SELECT value FROM fanfare.meta WHERE key = 'peers'";

/// The log in a PostgreSQL database.
pub struct PostgresLog {
    database: Arc<Database>,
    lanes: Lanes,
    app_lanes: AppLanes,
    readers: Pool,
    pulse: Pool,
    /// There is a lane of `fanfare.publish`.
    has_sql: AtomicBool,
}

impl PostgresLog {
    /// Connects, brings the schema `fanfare` up to date, and opens the log. `url` is a connection string as `psql` takes
    /// it; `node_name` is what an operator finds in `fanfare.lanes`. Any number of nodes may do this at once. Sessions
    /// are set up and keep prepared statements, so a pooler in between must not share them (PgBouncer: session mode).
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] if the server does not answer now and may do so later; every other error needs the
    /// operator, and says what to do.
    pub async fn connect(url: &str, node_name: &str) -> Result<Self, OpenError> {
        let database = Arc::new(Database::open(url).await?);
        let readers = Pool::new(database.clone(), READERS);
        let pulse = Pool::new(database.clone(), PULSES);
        let lanes = Lanes::new(database.clone(), node_name.to_owned());
        let app_lanes = AppLanes::new(&database, node_name);
        lanes
            .open_first()
            .await
            .map_err(|error| OpenError::Unavailable(error.0))?;
        Ok(Self {
            database,
            lanes,
            app_lanes,
            readers,
            pulse,
            has_sql: AtomicBool::new(false),
        })
    }

    /// Keeps in mind what a sweep has shown, so that a database that lost it is noticed.
    fn remember(&self, session: &Session, rows: &[Row]) -> Result<(), LogError> {
        let entry = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(5)?));
        let entries: Vec<(i64, i64, Millis)> = collect(rows, entry)?;
        self.database.remember(session, |memory| {
            for (lane, n, time) in entries {
                memory.saw(lane, n, time);
            }
        });
        Ok(())
    }

    /// What the nodes of this database know, and nobody else: by it they believe each other. `None` where there is none.
    ///
    /// # Errors
    /// [`LogError`] if the database does not answer.
    pub async fn peers_secret(&self) -> Result<Option<String>, LogError> {
        let session = self.database.session(&[PEERS_SECRET]).await?;
        let row = session
            .client
            .query_opt(&session.statements[0], &[])
            .await
            .map_err(|error| error::unavailable(&error))?;
        row.map(|row| row.try_get(0).map_err(malformed)).transpose()
    }

    /// The first epoch of this log. It stays when others follow, so it can stand in names that outlive them.
    #[must_use]
    pub fn origin(&self) -> Epoch {
        self.database.origin()
    }
}

impl Log for PostgresLog {
    fn epoch(&self) -> Epoch {
        self.database.epoch()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        Box::pin(self.lanes.append(batch))
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        Box::pin(async move {
            let (call, from) = match range.direction {
                Direction::Forward => (Call::ReadForward, bigint(range.from.0)),
                Direction::Backward if range.from == Seq::ZERO => (Call::ReadBackward, i64::MAX),
                Direction::Backward => (Call::ReadBackward, bigint(range.from.0)),
            };
            let limit = row_limit(range.limit);
            let params: &[&(dyn ToSql + Sync)] = &[&channel.as_str(), &from, &limit];
            let asking = self
                .readers
                .query(call, params, |_, rows| collect(&rows, publication));
            asking.await
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        Box::pin(async move {
            let names: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
            let params: &[&(dyn ToSql + Sync)] = &[&names];
            let asking = self
                .readers
                .query(Call::Heads, params, |_, rows| collect(&rows, head));
            asking.await
        })
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        Box::pin(async {
            let lane = |row: &Row| {
                self.has_sql.fetch_or(row.try_get(2)?, Ordering::Relaxed);
                Ok((LaneId(row.try_get(0)?), unsigned(row.try_get(1)?)))
            };
            let asking = self
                .pulse
                .query(Call::Lanes, &[], |_, rows| collect(&rows, lane));
            asking.await
        })
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        Box::pin(async move {
            let lanes: Vec<_> = cursors.keys().map(|lane| lane.0).collect();
            let read: Vec<_> = cursors.values().map(|n| bigint(*n)).collect();
            let limit = row_limit(limit);
            let params: &[&(dyn ToSql + Sync)] = &[&lanes, &read, &limit];
            let asking = self.pulse.query(Call::Sweep, params, |session, rows| {
                self.remember(session, &rows)?;
                rows.iter().map(lane_batch).collect()
            });
            let batches: Vec<LaneBatch> = asking.await?;
            if batches.iter().any(|batch| batch.unannounced) {
                self.has_sql.store(true, Ordering::Relaxed);
            }
            Ok(batches)
        })
    }

    fn expects_unannounced(&self) -> bool {
        self.has_sql.load(Ordering::Relaxed)
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        Box::pin(trim::trim(&self.database, rules))
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        Box::pin(async move {
            loop {
                let params: &[&(dyn ToSql + Sync)] =
                    &[&channel.as_str(), &bigint(up_to.0), &trim::STEP_ROWS];
                let asking = self
                    .readers
                    .query(Call::Remove, params, |_, rows| collect(&rows, head));
                let heads: Vec<Head> = asking.await?;
                let head = heads.first().copied().unwrap_or_default();
                if head.trimmed >= up_to.min(head.seq) {
                    return Ok(head);
                }
            }
        })
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        Box::pin(async move {
            let records = self.lanes.heartbeat(&self.pulse, about).await?;
            self.app_lanes.keep(&self.pulse).await?;
            Ok(records)
        })
    }
}

/// PostgreSQL's integers are signed; no channel comes near the end of either.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn row_limit(limit: usize) -> i64 {
    i64::from(i32::try_from(limit).unwrap_or(i32::MAX))
}

fn collect<T, C: FromIterator<T>>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<C, LogError> {
    rows.iter()
        .map(read)
        .collect::<Result<C, _>>()
        .map_err(malformed)
}

fn publication(row: &Row) -> Result<Publication, tokio_postgres::Error> {
    let json = |bytes: &[u8]| Json::trusted(Bytes::copy_from_slice(bytes));
    Ok(Publication {
        seq: Seq(unsigned(row.try_get(0)?)),
        id: row.try_get::<_, Uuid>(1)?,
        time: row.try_get(2)?,
        data: json(row.try_get(3)?),
        info: row.try_get::<_, Option<&[u8]>>(4)?.map(json),
        tags: row.try_get::<_, Option<&[u8]>>(5)?.map(json),
    })
}

fn head(row: &Row) -> Result<Head, tokio_postgres::Error> {
    let (seq, trimmed) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Head {
        seq: Seq(unsigned(seq)),
        trimmed: Seq(unsigned(trimmed)),
    })
}

fn lane_batch(row: &Row) -> Result<LaneBatch, LogError> {
    let names: Vec<&str> = row.try_get(2).map_err(malformed)?;
    let firsts: Vec<i64> = row.try_get(3).map_err(malformed)?;
    let lasts: Vec<i64> = row.try_get(4).map_err(malformed)?;
    let channel = |((name, first), last): ((&str, i64), i64)| {
        let name = ChannelName::parse(name)
            .map_err(|error| LogError(format!("the lane log has the channel {name:?}: {error}")))?;
        Ok((name, Seq(unsigned(first)), Seq(unsigned(last))))
    };
    Ok(LaneBatch {
        lane: LaneId(row.try_get(0).map_err(malformed)?),
        n: unsigned(row.try_get(1).map_err(malformed)?),
        channels: names
            .into_iter()
            .zip(firsts)
            .zip(lasts)
            .map(channel)
            .collect::<Result<_, _>>()?,
        unannounced: row.try_get(6).map_err(malformed)?,
    })
}
