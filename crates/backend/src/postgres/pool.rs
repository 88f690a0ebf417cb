//! The sessions that read, and those that keep a node in touch with the others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_engine::port::{
    LogError, TablesError,
    tables::{self, Value},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Row, types::ToSql};

use super::{
    database::{Database, Session},
    error::{Fault, describe, is_read_only, unavailable, was_replaced, was_rolled_back},
    rows::{self, Ran, RunError},
};

/// How long the server may take to answer; longer than its own statement timeout.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// What is asked, prepared once per session. Each is one statement that may be asked again without harm.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    /// Channel name, number, limit.
    ReadForward,
    /// Channel name, number, limit.
    ReadBackward,
    /// Channel names.
    Heads,
    /// Nothing.
    Lanes,
    /// Lanes, their n, limit.
    Sweep,
    /// Lane, about, milliseconds of silence.
    Heartbeat,
    /// Lanes.
    KeepLanes,
    /// Channel name, number, rows.
    Remove,
}

const STATEMENTS: [&str; 8] = [
    "SELECT seq, id, time, data, info, tags FROM fanfare.publications
     WHERE channel = (SELECT id FROM fanfare.channels WHERE name = $1) AND seq > $2
     ORDER BY seq LIMIT $3",
    "SELECT seq, id, time, data, info, tags FROM fanfare.publications
     WHERE channel = (SELECT id FROM fanfare.channels WHERE name = $1) AND seq < $2
     ORDER BY seq DESC LIMIT $3",
    "SELECT coalesce(head, 0), coalesce(trimmed, 0)
     FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, place)
     LEFT JOIN fanfare.channels ON channels.name = asked.name
     ORDER BY asked.place",
    "SELECT id, coalesce((SELECT max(n) FROM fanfare.lane_log WHERE lane = id), 0), of_sql AND NOT retired
     FROM fanfare.lanes",
    "SELECT news.lane, news.n, news.channels, news.firsts, news.lasts, news.time, lanes.of_sql
     FROM fanfare.lanes
     LEFT JOIN unnest($1::bigint[], $2::bigint[]) AS reader (lane, n) ON reader.lane = lanes.id
     CROSS JOIN LATERAL (
         SELECT lane, n, channels, firsts, lasts, time FROM fanfare.lane_log
         WHERE lane = lanes.id AND n > coalesce(reader.n, 0)
         ORDER BY n LIMIT $3
     ) AS news
     ORDER BY news.lane, news.n LIMIT $3",
    // The columns behind the first two say what the log is now, as of this commit.
    "SELECT beat.lane, beat.words, (SELECT value FROM fanfare.meta WHERE key = 'epoch'), here.lsn
     FROM fanfare.heartbeat($1, $2, $3) AS beat CROSS JOIN fanfare.identity() AS here",
    "SELECT fanfare.keep_lanes($1)",
    "SELECT head, trimmed FROM fanfare.remove_step($1, $2, $3)",
];

/// A few sessions, made when they are needed and kept while they work.
pub(super) struct Pool {
    database: Arc<Database>,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    pub(super) fn new(database: Arc<Database>, sessions: usize) -> Self {
        let permits = Semaphore::new(sessions);
        Self {
            database,
            permits,
            idle: Mutex::default(),
        }
    }

    /// Asks. A session that broke while it lay idle is not the caller's problem: the next one is tried, the last
    /// of them new. `read` makes something of the rows while the log is known to be in the epoch that they are of.
    pub(super) async fn query<T>(
        &self,
        call: Call,
        params: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Session, Vec<Row>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let _permit = self.permit().await?;
        loop {
            let (session, was_idle) = self.session().await?;
            let asking = session
                .client
                .query(&session.statements[call as usize], params);
            match tokio::time::timeout(CALL_PATIENCE, asking).await {
                Ok(Ok(_)) if !self.database.is_current(&session) => return Err(was_replaced()),
                Ok(Ok(rows)) => {
                    let answer = read(&session, rows);
                    self.idle().push(session);
                    return answer;
                }
                Ok(Err(error)) if is_read_only(&error) && was_idle => {}
                Ok(Err(error)) if was_rolled_back(&error) && !is_read_only(&error) => {
                    self.idle().push(session);
                    return Err(unavailable(&error));
                }
                Ok(Err(_)) if was_idle => {}
                Ok(Err(error)) => return Err(unavailable(&error)),
                Err(_) => return Err(LogError(format!("no answer within {CALL_PATIENCE:?}"))),
            }
        }
    }

    /// Reads rows of an app, in the same way.
    pub(super) async fn select(
        &self,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Vec<tables::Row>, TablesError> {
        let unavailable = |error: LogError| TablesError::Unavailable(error.0);
        let malformed = |words| TablesError::Statement(format!("{words} (in `{sql}`)"));
        let _permit = self.permit().await.map_err(unavailable)?;
        loop {
            let (session, was_idle) = self.session().await.map_err(unavailable)?;
            let asking = self.ask(&session, sql, params);
            let error = match tokio::time::timeout(CALL_PATIENCE, asking).await {
                Ok(Ok(_)) if !self.database.is_current(&session) => {
                    return Err(unavailable(was_replaced()));
                }
                Ok(Ok(ran)) => {
                    self.idle().push(session);
                    return Ok(ran.rows);
                }
                Ok(Err(RunError::Malformed(words))) => {
                    self.idle().push(session);
                    return Err(malformed(words));
                }
                Ok(Err(RunError::Failed(error))) => error,
                Err(_) => {
                    let words = format!("no answer within {CALL_PATIENCE:?}");
                    return Err(TablesError::Unavailable(words));
                }
            };
            match Fault::of(&error) {
                Fault::Broken | Fault::Fenced if was_idle => {}
                Fault::Broken | Fault::Fenced => {
                    return Err(TablesError::Unavailable(describe(&error)));
                }
                // Prepared anew, in a session that has seen nothing else.
                Fault::Stale if was_idle => {}
                Fault::Statement | Fault::Exists | Fault::KnownKey | Fault::Stale => {
                    self.idle().push(session);
                    return Err(malformed(describe(&error)));
                }
                Fault::Again | Fault::Unavailable => {
                    self.idle().push(session);
                    return Err(TablesError::Unavailable(describe(&error)));
                }
            }
        }
    }

    async fn ask(
        &self,
        session: &Session,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Ran, RunError> {
        self.database.find_apps(session).await?;
        let statement = session.prepared(sql).await?;
        rows::check(&statement, params).map_err(RunError::Malformed)?;
        rows::run(&session.client, &statement, params).await
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, LogError> {
        let closed = |_| LogError("the log is closed".to_owned());
        self.permits.acquire().await.map_err(closed)
    }

    /// A session, and whether it has lain idle: then it may have broken without a word.
    async fn session(&self) -> Result<(Session, bool), LogError> {
        let kept = self.idle().pop();
        let was_idle = kept.is_some();
        let session = match kept.filter(|session| self.database.is_current(session)) {
            Some(session) => session,
            None => self.database.session(&STATEMENTS).await?,
        };
        Ok((session, was_idle))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
