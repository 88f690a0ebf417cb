//! The tables of apps: each app's in a schema of its name, their transactions in lanes of their own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_engine::port::{
    BoxFuture, LogError, Tables, TablesError, TransactError, Transacted, Transaction,
    tables::{Dialect, Migration, Row, Value, check_query},
};
use tokio::sync::Semaphore;
use tokio_postgres::types::ToSql;

use super::{
    PostgresLog,
    batch::Plan,
    database::{Database, Session},
    error::{Fault, describe},
    lane::{Lanes, Work},
    pool::{Call, Pool},
};
use crate::apps;

/// Lanes of a node for transactions of apps: so many run at once, and more wait. Each has a session, made when it is first
/// needed.
pub const APP_LANES: usize = 4;

/// How long a transaction waits for one of them.
const LANE_PATIENCE: Duration = Duration::from_secs(10);

/// Held by the one session that migrates; any number will do that nobody else uses.
const MIGRATION_LOCK: i64 = 0x6661_6e66_6172_0002;

/// The lanes of a node for transactions of apps.
pub(super) struct AppLanes {
    lanes: Vec<Lanes>,
    permits: Semaphore,
    /// The places of lanes that do nothing; the one that was used last is used first.
    idle: Mutex<Vec<usize>>,
}

impl AppLanes {
    pub(super) fn new(database: &Arc<Database>, node: &str) -> Self {
        let lane = |_| Lanes::new(Arc::clone(database), node.to_owned());
        Self {
            lanes: (0..APP_LANES).map(lane).collect(),
            permits: Semaphore::new(APP_LANES),
            idle: Mutex::new((0..APP_LANES).rev().collect()),
        }
    }

    async fn commit(&self, work: &Work<'_>) -> Result<Transacted, TransactError> {
        let closed = || TransactError::Unavailable("the log is closed".to_owned());
        let waiting = tokio::time::timeout(LANE_PATIENCE, self.permits.acquire());
        let _permit = match waiting.await {
            Ok(permit) => permit.map_err(|_| closed())?,
            Err(_) => {
                return Err(TransactError::Unavailable(format!(
                    "no lane was free within {LANE_PATIENCE:?}: other transactions take long, or wait for rows"
                )));
            }
        };
        // There is one for every permit.
        let place = self.idle().pop().ok_or_else(closed)?;
        let place = Place { lanes: self, place };
        self.lanes[place.place].commit(work).await
    }

    /// Says that those that were opened are alive.
    pub(super) async fn keep(&self, pool: &Pool) -> Result<(), LogError> {
        let ids = self.lanes.iter().map(|lanes| lanes.current().0);
        let ids: Vec<i64> = ids.filter(|id| *id > 0).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let params: &[&(dyn ToSql + Sync)] = &[&ids];
        pool.query(Call::KeepLanes, params, |_, _| Ok(())).await
    }

    fn idle(&self) -> MutexGuard<'_, Vec<usize>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane in use, given back in whatever way its user ends, before the permit is.
struct Place<'a> {
    lanes: &'a AppLanes,
    place: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lanes.idle().push(self.place);
    }
}

impl Tables for PostgresLog {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn migrate(
        &self,
        app: &'static str,
        migrations: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>> {
        Box::pin(async move {
            apps::check(app, migrations)?;
            migrate(&self.database, app, migrations).await?;
            self.database.add_app(app);
            Ok(())
        })
    }

    fn query(
        &self,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>> {
        Box::pin(async move {
            check_query(sql, &params)?;
            self.readers.select(sql, &params).await
        })
    }

    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>> {
        Box::pin(async move {
            transaction.check()?;
            let work = Work {
                plan: Plan::new(&transaction.drafts),
                transaction: Some(transaction),
            };
            self.app_lanes.commit(&work).await
        })
    }
}

/// Applies what is missing of an app's migrations, whoever else tries at the same moment. Nothing is created when they are
/// up to date, so that a node may run as a user without the right to.
async fn migrate(
    database: &Database,
    app: &'static str,
    migrations: &[Migration],
) -> Result<(), TablesError> {
    let unavailable = |error: LogError| TablesError::Unavailable(error.0);
    let mut session = database.session(&[]).await.map_err(unavailable)?;
    if missing(&session, app, migrations).await?.is_empty() {
        return Ok(());
    }
    // Another node may be at a long migration; it is waited for. The lock is gone with the session.
    let lock = format!(
        "SET statement_timeout = 0; SET lock_timeout = '60s'; SET enable_seqscan = on;
         SET enable_hashjoin = on; SET enable_mergejoin = on; SELECT pg_advisory_lock({MIGRATION_LOCK})"
    );
    let locking = session.client.batch_execute(&lock).await;
    locking.map_err(|error| TablesError::Unavailable(describe(&error)))?;
    for migration in missing(&session, app, migrations).await? {
        apply(&mut session, app, migration).await?;
        tracing::info!(app, version = migration.version, "tables migrated");
    }
    Ok(())
}

async fn missing<'a>(
    session: &Session,
    app: &str,
    migrations: &'a [Migration],
) -> Result<&'a [Migration], TablesError> {
    let sql = "SELECT version, sum FROM fanfare.app_migrations WHERE app = $1 ORDER BY version";
    let failed = |error| TablesError::Unavailable(describe(&error));
    let rows = session.client.query(sql, &[&app]).await.map_err(failed)?;
    let entry = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let applied: Result<Vec<_>, _> = rows.iter().map(entry).collect();
    let applied = applied.map_err(failed)?;
    let count = apps::applied(app, migrations, &applied, |migration| migration.postgres)?;
    Ok(&migrations[count..])
}

async fn apply(session: &mut Session, app: &str, migration: &Migration) -> Result<(), TablesError> {
    let version = migration.version;
    let failed = |error: tokio_postgres::Error| match Fault::of(&error) {
        Fault::Statement | Fault::Exists => TablesError::Schema(format!(
            "version {version} of {app}: {} (the user needs CREATE on the database, or let an administrator start \
             Fanfare once)",
            describe(&error)
        )),
        _ => TablesError::Unavailable(describe(&error)),
    };
    let transaction = session.client.transaction().await.map_err(failed)?;
    // An administrator may have made the schema for a user who may not.
    let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    let exists = transaction.query_one(exists, &[&app]).await;
    let exists: bool = exists.and_then(|row| row.try_get(0)).map_err(failed)?;
    if !exists {
        let create = format!("CREATE SCHEMA \"{app}\"");
        transaction.batch_execute(&create).await.map_err(failed)?;
    }
    let look = format!("SET LOCAL search_path = \"{app}\"");
    transaction.batch_execute(&look).await.map_err(failed)?;
    transaction
        .batch_execute(migration.postgres)
        .await
        .map_err(failed)?;
    let note = "INSERT INTO fanfare.app_migrations (app, version, sum) VALUES ($1, $2, $3)";
    let sum = apps::checksum(migration.postgres);
    transaction
        .execute(note, &[&app, &i64::from(version), &sum])
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
