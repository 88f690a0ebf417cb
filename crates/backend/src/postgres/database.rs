//! Makes sessions: connects, sets them up, and knows when not to try.
//!
//! After a failure further attempts are refused for a moment that doubles up to [`BACKOFF_MAX`], so that a database that
//! is down or just coming up is not flooded. Every session says of which epoch of the log it is; one that is not of the
//! current epoch is of no use any more, see `epoch`.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare_engine::port::LogError;
use fanfare_wire::Epoch;
use futures_util::future::try_join_all;
use tokio_postgres::{
    AsyncMessage, Client, Config, NoTls, Statement,
    config::{SslMode, TargetSessionAttrs},
    error::{DbError, Severity},
};

use super::{
    epoch::{MeetError, Memory, meet},
    error::{OpenError, describe, refused, unavailable, was_replaced},
    migrate,
};
use crate::epoch;

/// How long connecting and setting up a session may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one TCP connect may take.
const TCP_CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Sent bytes that are not confirmed for so long break the connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is probed after so long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// Statements of apps that a session keeps prepared; beyond it they are prepared anew.
const APP_STATEMENTS_MAX: usize = 256;

const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The oldest major version of PostgreSQL that will do.
pub(crate) const MAJOR_VERSION_MIN: i32 = 13;

/// What every session is set to. The planner is held to indexes: our statements touch few rows of large tables, and a
/// plan made while a table was small must not scan it when it has grown. `local` and higher levels of
/// `synchronous_commit` are the operator's choice; `off` would acknowledge what a crash takes back.
const SETTINGS: &str = "
    SET statement_timeout = '8s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '1s';
    SET default_transaction_isolation = 'read committed';
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off';
";

/// One database, and the way to it.
pub(super) struct Database {
    config: Config,
    origin: Epoch,
    memory: Mutex<Memory>,
    backoff: Mutex<Backoff>,
    /// The apps of this node, in the order in which their tables are looked for. None ever goes.
    apps: Mutex<Vec<&'static str>>,
}

/// A connection with its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    /// The epoch of everything that it answers.
    pub(super) epoch: Epoch,
    /// See [`has_warned`](Self::has_warned).
    warned: Arc<AtomicBool>,
    pub(super) statements: Vec<Statement>,
    apps: Mutex<ForApps>,
}

/// What a session has learned of apps.
#[derive(Default)]
struct ForApps {
    /// How many of the node's apps the session finds the tables of.
    found: usize,
    statements: HashMap<&'static str, Statement>,
}

impl Session {
    /// Forgets the warnings of before: they say nothing about what is sent next, which waits for the standbys anew.
    pub(super) fn forget_warnings(&self) {
        self.warned.store(false, Ordering::Release);
    }

    /// Whether the server has warned since. A commit warns when its wait for a synchronous standby was broken off.
    pub(super) fn has_warned(&self) -> bool {
        self.warned.load(Ordering::Acquire)
    }

    /// A statement of an app, prepared when it is first needed.
    pub(super) async fn prepared(
        &self,
        sql: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.apps().statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut apps = self.apps();
        if apps.statements.len() >= APP_STATEMENTS_MAX {
            apps.statements.clear();
        }
        apps.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// The tables have changed: what was prepared for them is of no use.
    pub(super) fn forget_statements(&self) {
        self.apps().statements.clear();
    }

    fn apps(&self) -> MutexGuard<'_, ForApps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    /// Connects for the first time, and migrates.
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let config = configure(url)?;
        let connecting = tokio::time::timeout(CONNECT_PATIENCE, connect(&config));
        let (mut client, _) = match connecting.await {
            Ok(connected) => connected.map_err(|error| refused(&error))?,
            Err(_) => return Err(OpenError::Unavailable(no_answer())),
        };
        check_version(&client).await?;
        migrate::migrate(&mut client).await?;
        let met = meet(&client, None).await.map_err(|error| match error {
            MeetError::Failed(error) => refused(&error),
            MeetError::Refused(words) => OpenError::Unavailable(words),
        })?;
        Ok(Self {
            config,
            origin: epoch::parse(&met.origin).map_err(OpenError::Unavailable)?,
            memory: Mutex::new(met.memory),
            backoff: Mutex::default(),
            apps: Mutex::default(),
        })
    }

    /// From now on sessions look for the tables of this app too.
    pub(super) fn add_app(&self, app: &'static str) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if !apps.contains(&app) {
            apps.push(app);
        }
    }

    /// Has a session look for the tables of all apps of this node. Names of apps were checked: they need no quotes but for
    /// those that are words of SQL.
    pub(super) async fn find_apps(&self, session: &Session) -> Result<(), tokio_postgres::Error> {
        let (count, path) = {
            let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
            if session.apps().found == apps.len() {
                return Ok(());
            }
            let quoted: Vec<_> = apps.iter().map(|app| format!("\"{app}\"")).collect();
            (apps.len(), quoted.join(", "))
        };
        let set = format!("SET search_path = {path}");
        session.client.batch_execute(&set).await?;
        let mut found = session.apps();
        found.found = count;
        found.statements.clear();
        Ok(())
    }

    /// The epoch that the log was in when this node last made a session, or was told.
    pub(super) fn epoch(&self) -> Epoch {
        self.memory().epoch.clone()
    }

    /// The first epoch of the log; it stays when others follow.
    pub(super) fn origin(&self) -> Epoch {
        self.origin.clone()
    }

    /// Whether a session is of the current epoch.
    pub(super) fn is_current(&self, session: &Session) -> bool {
        self.memory().epoch == session.epoch
    }

    /// Remembers something that a session has seen, if it is of the current epoch.
    pub(super) fn remember(&self, session: &Session, note: impl FnOnce(&mut Memory)) {
        let mut memory = self.memory();
        if memory.epoch == session.epoch {
            note(&mut memory);
        }
    }

    /// A session has read that the log has this epoch now. Another one than its own was agreed on by other nodes.
    pub(super) fn told(&self, session: &Session, epoch: &str) -> Result<(), LogError> {
        let epoch = epoch::parse(epoch).map_err(LogError)?;
        if epoch == session.epoch {
            return Ok(());
        }
        self.remember(session, |memory| memory.follow(epoch));
        Err(was_replaced())
    }

    /// A new session with some statements prepared; an error at once while the last failure is fresh.
    pub(super) async fn session(&self, statements: &[&str]) -> Result<Session, LogError> {
        if let Some(error) = self.backoff().refusal() {
            return Err(error);
        }
        let connecting = self.connect(statements);
        let session = match tokio::time::timeout(CONNECT_PATIENCE, connecting).await {
            Ok(session) => session,
            Err(_) => Err(LogError(no_answer())),
        };
        let mut backoff = self.backoff();
        match &session {
            Ok(_) => backoff.end(),
            Err(error) => backoff.note(error),
        }
        session
    }

    async fn connect(&self, statements: &[&str]) -> Result<Session, LogError> {
        let (client, warned) = connect(&self.config)
            .await
            .map_err(|error| unavailable(&error))?;
        client
            .batch_execute(SETTINGS)
            .await
            .map_err(|error| unavailable(&error))?;
        let epoch = self.meet(&client).await?;
        let preparing = statements.iter().map(|sql| client.prepare(sql));
        let statements = try_join_all(preparing)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(Session {
            client,
            epoch,
            warned,
            statements,
            apps: Mutex::default(),
        })
    }

    /// Finds out of which epoch a new session is, which becomes that of the node.
    async fn meet(&self, client: &Client) -> Result<Epoch, LogError> {
        loop {
            let before = self.memory().clone();
            let met = meet(client, Some(&before)).await;
            let met = met.map_err(|error| match error {
                MeetError::Failed(error) => unavailable(&error),
                MeetError::Refused(words) => LogError(words),
            })?;
            let mut memory = self.memory();
            if memory.epoch != before.epoch {
                // Another session was quicker, and what was compared is out of date.
                continue;
            }
            if met.memory.epoch != before.epoch {
                tracing::warn!(
                    before = %before.epoch,
                    now = %met.memory.epoch,
                    "the database was restored, promoted or replaced: the log begins a new epoch"
                );
            }
            memory.learn(met.memory);
            return Ok(memory.epoch.clone());
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Backoff {
    pause: Duration,
    last: Option<(Instant, LogError)>,
}

impl Backoff {
    fn refusal(&self) -> Option<LogError> {
        let (failed, error) = self.last.as_ref()?;
        (failed.elapsed() < self.pause).then(|| error.clone())
    }

    fn end(&mut self) {
        if self.last.is_some() {
            tracing::info!("PostgreSQL is back");
        }
        *self = Self::default();
    }

    fn note(&mut self, error: &LogError) {
        if self.last.is_none() {
            tracing::warn!(%error, "PostgreSQL is away");
        }
        self.pause = (self.pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.last = Some((Instant::now(), error.clone()));
    }
}

fn configure(url: &str) -> Result<Config, OpenError> {
    let mut config: Config = url
        .parse()
        .map_err(|error| OpenError::Url(describe(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(OpenError::Url("it names no host".to_owned()));
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(OpenError::TlsRequired);
    }
    if config.get_application_name().is_none() {
        config.application_name("fanfare");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(TCP_CONNECT_PATIENCE);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    config
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        // A standby, or a primary that was demoted, cannot take commits.
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    Ok(config)
}

/// Connects; what the server says beside its answers comes before the answer it belongs to.
async fn connect(config: &Config) -> Result<(Client, Arc<AtomicBool>), tokio_postgres::Error> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let warned = Arc::new(AtomicBool::new(false));
    let warning = warned.clone();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) if is_warning(&notice) => {
                    tracing::warn!(
                        message = notice.message(),
                        detail = notice.detail(),
                        "PostgreSQL warns"
                    );
                    warning.store(true, Ordering::Release);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = describe(&error), "a PostgreSQL session broke");
                    return;
                }
            }
        }
    });
    Ok((client, warned))
}

fn is_warning(notice: &DbError) -> bool {
    notice.parsed_severity() == Some(Severity::Warning)
}

async fn check_version(client: &Client) -> Result<(), OpenError> {
    let sql = "SELECT current_setting('server_version_num')::int / 10000";
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(|error| refused(&error))?;
    let found: i32 = row.try_get(0).map_err(|error| refused(&error))?;
    if found < MAJOR_VERSION_MIN {
        return Err(OpenError::TooOld {
            found,
            needed: MAJOR_VERSION_MIN,
        });
    }
    Ok(())
}

fn no_answer() -> String {
    format!("no answer within {CONNECT_PATIENCE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_before_anything_is_sent() {
        assert_eq!(
            configure("postgres://h/d?sslmode=require").map(drop),
            Err(OpenError::TlsRequired)
        );
        assert!(matches!(
            configure("postgres://h/d?no=such"),
            Err(OpenError::Url(_))
        ));
        let config = configure("postgres://u:secret@h/d?connect_timeout=9").unwrap();
        assert_eq!(config.get_application_name(), Some("fanfare"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
    }

    #[test]
    fn failures_close_the_way_for_a_moment() {
        let mut backoff = Backoff::default();
        assert!(backoff.refusal().is_none());
        for _ in 0..20 {
            backoff.note(&LogError("away".to_owned()));
        }
        assert_eq!(backoff.pause, BACKOFF_MAX);
        assert_eq!(
            backoff.refusal().map(|error| error.0),
            Some("away".to_owned())
        );
    }
}
