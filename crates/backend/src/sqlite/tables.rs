//! The tables of apps in the file: steps of transactions, queries, migrations.

use bytes::Bytes;
use fanfare_engine::port::{
    TablesError, TransactError,
    tables::{Migration, Row, Rows, Step, Value},
};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi, params, types::ValueRef};

use super::{now, unavailable};
use crate::apps;

/// Why the steps of a transaction came to an end.
pub(super) enum StepError {
    /// A guard does not hold.
    Refused { step: usize },
    /// SQLite's answer.
    Failed { step: usize, error: rusqlite::Error },
    /// The statement is not one that can be run.
    Malformed { step: usize, words: String },
}

/// Why one statement failed.
enum StatementError {
    Failed(rusqlite::Error),
    Malformed(String),
}

/// Runs the steps in order; gives what each returned.
pub(super) fn run_steps(
    connection: &Connection,
    steps: &[Step],
) -> Result<Vec<Vec<Row>>, StepError> {
    let mut returned = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let (rows, count) =
            run(connection, step.sql, &step.params).map_err(|error| match error {
                StatementError::Failed(error) => StepError::Failed { step: at, error },
                StatementError::Malformed(words) => StepError::Malformed { step: at, words },
            })?;
        if !step.guard.holds(count) {
            return Err(StepError::Refused { step: at });
        }
        returned.push(rows);
    }
    Ok(returned)
}

/// Reads rows.
pub(super) fn query(
    connection: &Connection,
    sql: &str,
    params: &[Value],
) -> Result<Vec<Row>, TablesError> {
    match run(connection, sql, params) {
        Ok((rows, _)) => Ok(rows),
        Err(StatementError::Failed(error)) if is_of_the_statement(&error) => {
            Err(TablesError::Statement(format!("{error} (in `{sql}`)")))
        }
        Err(StatementError::Failed(error)) => Err(TablesError::Unavailable(unavailable(&error).0)),
        Err(StatementError::Malformed(words)) => {
            Err(TablesError::Statement(format!("{words} (in `{sql}`)")))
        }
    }
}

/// Applies what is missing of an app's migrations.
pub(super) fn migrate(
    connection: &mut Connection,
    app: &str,
    migrations: &[Migration],
) -> Result<(), TablesError> {
    apps::check(app, migrations)?;
    let failed = |error: rusqlite::Error| TablesError::Unavailable(unavailable(&error).0);
    let applied = applied(connection, app).map_err(failed)?;
    let count = apps::applied(app, migrations, &applied, |migration| migration.sqlite)?;
    for migration in &migrations[count..] {
        apply(connection, app, migration)?;
        tracing::info!(app, version = migration.version, "tables migrated");
    }
    Ok(())
}

fn applied(connection: &Connection, app: &str) -> rusqlite::Result<Vec<(i64, i64)>> {
    connection
        .prepare("SELECT version, sum FROM app_migrations WHERE app = ?1 ORDER BY version")?
        .query_map(params![app], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn apply(connection: &mut Connection, app: &str, migration: &Migration) -> Result<(), TablesError> {
    let version = migration.version;
    let failed = |error: rusqlite::Error| match is_of_the_statement(&error) {
        true => TablesError::Schema(format!("version {version} of {app}: {error}")),
        false => TablesError::Unavailable(unavailable(&error).0),
    };
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    transaction
        .execute_batch(migration.sqlite)
        .map_err(failed)?;
    if let Some(name) = stranger(&transaction, app).map_err(failed)? {
        return Err(TablesError::Schema(format!(
            "version {version} of {app} makes `{name}`, whose name does not begin with `{app}`"
        )));
    }
    let note = "INSERT INTO app_migrations (app, version, sum, applied_at) VALUES (?1, ?2, ?3, ?4)";
    let sum = apps::checksum(migration.sqlite);
    transaction
        .execute(note, params![app, version, sum, now()])
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Something new whose name belongs to nobody. The tables of all apps lie beside each other and beside those of the log.
fn stranger(connection: &Connection, app: &str) -> rusqlite::Result<Option<String>> {
    let known = [
        "meta",
        "channels",
        "publications",
        "idempotency_keys",
        "lanes",
        "lane_log",
        "app_migrations",
    ];
    let apps: Vec<String> = connection
        .prepare("SELECT DISTINCT app FROM app_migrations")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let is_of = |table: &str, app: &str| {
        let rest = table.strip_prefix(app);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    Ok(tables.into_iter().find(|table| {
        let of_an_app = is_of(table, app) || apps.iter().any(|app| is_of(table, app));
        !of_an_app && !table.starts_with("sqlite_") && !known.contains(&table.as_str())
    }))
}

/// Runs one statement to its end: what it returned, and how many rows it changed or returned.
fn run(
    connection: &Connection,
    sql: &str,
    params: &[Value],
) -> Result<(Vec<Row>, u64), StatementError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut highest = 0;
    for index in 1..=statement.parameter_count() {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let Some((number, value)) =
            number.and_then(|it| Some((it, params.get(it.checked_sub(1)?)?)))
        else {
            return Err(StatementError::Malformed(format!(
                "its parameters are not $1 to ${}",
                params.len()
            )));
        };
        highest = highest.max(number);
        match value {
            Value::Null => statement.raw_bind_parameter(index, rusqlite::types::Null)?,
            Value::Int(value) => statement.raw_bind_parameter(index, value)?,
            Value::Text(value) => statement.raw_bind_parameter(index, value)?,
            Value::Bytes(value) => statement.raw_bind_parameter(index, value.as_ref())?,
        }
    }
    if highest != params.len() {
        let words = format!("it has {} parameters for ${highest}", params.len());
        return Err(StatementError::Malformed(words));
    }
    let columns = statement.column_count();
    if columns == 0 {
        let changed = statement.raw_execute()?;
        return Ok((Vec::new(), changed as u64));
    }
    let mut rows = Rows::default();
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        let values = (0..columns).map(|column| value(row.get_ref(column)?, column));
        rows.push(Row(values.collect::<Result<_, _>>()?))
            .map_err(StatementError::Malformed)?;
    }
    let rows = rows.take();
    let count = rows.len() as u64;
    Ok((rows, count))
}

fn value(value: ValueRef<'_>, column: usize) -> Result<Value, StatementError> {
    let malformed = |what| StatementError::Malformed(format!("column {column} is {what}"));
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Int(value)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(malformed("not UTF-8")),
        },
        ValueRef::Blob(bytes) => Ok(Value::Bytes(Bytes::copy_from_slice(bytes))),
        ValueRef::Real(_) => Err(malformed("a fraction: cast it to BIGINT or TEXT")),
    }
}

/// Whether a failure is the statement's own, and not that of the file or the machine.
fn is_of_the_statement(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

fn is_of_a_key(error: &rusqlite::Error) -> bool {
    let codes = [
        ffi::SQLITE_CONSTRAINT_UNIQUE,
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ffi::SQLITE_CONSTRAINT_ROWID,
    ];
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.is_some_and(|code| codes.contains(&code))
}

impl StepError {
    /// What the whole group failed with.
    pub(super) fn into_sqlite(self) -> rusqlite::Error {
        match self {
            Self::Failed { error, .. } => error,
            // Not by these: SQLite was well.
            Self::Refused { .. } | Self::Malformed { .. } => rusqlite::Error::QueryReturnedNoRows,
        }
    }
}

impl From<StepError> for TransactError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Refused { step } => Self::Refused { step },
            StepError::Failed { step, error } if is_of_a_key(&error) => Self::Exists { step },
            StepError::Failed { step, error } if is_of_the_statement(&error) => {
                Self::Statement(format!("step {step}: {error}"))
            }
            StepError::Failed { error, .. } => Self::Unavailable(unavailable(&error).0),
            StepError::Malformed { step, words } => {
                Self::Statement(format!("step {step}: {words}"))
            }
        }
    }
}

impl From<rusqlite::Error> for StatementError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}
