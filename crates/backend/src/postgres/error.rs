//! Errors of PostgreSQL, for the operator and for the engine.

use std::error::Error as _;

use fanfare_engine::port::LogError;
use thiserror::Error;
use tokio_postgres::error::{Severity, SqlState};

/// Why a log in PostgreSQL cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The URL does not parse.
    #[error("the PostgreSQL URL is not valid: {0}")]
    Url(String),
    /// The URL insists on TLS.
    #[error(
        "the PostgreSQL URL has sslmode=require, but this version does not speak TLS to PostgreSQL: \
         use sslmode=disable on a private network, or a TLS tunnel on this machine"
    )]
    TlsRequired,
    /// The server does not answer. Trying again later may help.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// The server does not let this user in, or does not have the database.
    #[error("PostgreSQL refused the connection: {0}")]
    Refused(String),
    /// The server is too old.
    #[error("PostgreSQL {found} is too old: Fanfare needs version {needed} or later")]
    TooOld {
        /// Its major version.
        found: i32,
        /// The oldest that will do.
        needed: i32,
    },
    /// A newer version of Fanfare has changed the schema.
    #[error(
        "the database was set up by a newer Fanfare (schema version {found}, this one knows {known}): \
         start that version, or a newer one"
    )]
    NewerSchema {
        /// The version of the schema in the database.
        found: i32,
        /// The newest that this program knows.
        known: i32,
    },
    /// The schema is not the one that this program would have made.
    #[error(
        "schema version {version} in the database is not the one of this Fanfare: it was set up by an \
         unreleased build; use an empty database"
    )]
    OtherSchema {
        /// The first version that differs.
        version: i32,
    },
    /// The schema could not be changed.
    #[error(
        "schema version {version} could not be set up: {reason} (the user needs CREATE on the database, \
         or let an administrator start Fanfare once)"
    )]
    Migration {
        /// The version that failed.
        version: i32,
        /// The words of PostgreSQL.
        reason: String,
    },
}

/// What the client library says of a server that is not what `target_session_attrs=read-write` asks for.
const NOT_WRITABLE: &str = "database does not allow writes";

/// Sorts an error of the first connection by who can help.
pub(super) fn refused(error: &tokio_postgres::Error) -> OpenError {
    let operator = [
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_CATALOG_NAME,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    match error.code() {
        Some(code) if operator.contains(code) => OpenError::Refused(describe(error)),
        _ => OpenError::Unavailable(describe(error)),
    }
}

/// The error with its causes, on one line.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    if cause.is_some_and(|cause| cause.to_string() == NOT_WRITABLE) {
        return format!(
            "{NOT_WRITABLE}: it is a standby, or set to read only; give the address of the primary, or of all servers \
             (postgres://user@one:5432,other:5432/database), so that the one that takes writes is found"
        );
    }
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

pub(super) fn unavailable(error: &tokio_postgres::Error) -> LogError {
    LogError(describe(error))
}

/// The server answered with something else than the schema says.
pub(super) fn malformed(error: tokio_postgres::Error) -> LogError {
    LogError(format!(
        "PostgreSQL gave an unexpected answer: {}",
        describe(&error)
    ))
}

/// What the answer of a session is worth once the log is in another epoch.
pub(super) fn was_replaced() -> LogError {
    LogError("the database was restored, promoted or replaced meanwhile: ask again".to_owned())
}

/// The session has become one that takes no commits: the server was fenced or demoted.
pub(super) fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// The SQLSTATE of a commit in a lane that was retired.
const RETIRED: &str = "FF001";
/// The SQLSTATE of a transaction whose draft has a key that was committed before.
const KNOWN_KEY: &str = "FF002";

/// The lane was retired, or its server takes no commits any more; another session may be let in.
pub(super) fn is_fence(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == RETIRED) || is_read_only(error)
}

/// What an error means for a statement of an app, and for the session that it ran in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The statement's own: a mistake in the app.
    Statement,
    /// The statement meets a row that is there already.
    Exists,
    /// The key of a draft was committed before.
    KnownKey,
    /// It may do better the next time.
    Again,
    /// The statement was prepared for tables that have changed since.
    Stale,
    /// The server cannot do it now.
    Unavailable,
    /// The lane is fenced.
    Fenced,
    /// The session is of no use any more.
    Broken,
}

impl Fault {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        if is_fence(error) {
            return Self::Fenced;
        }
        let Some(code) = error.code().filter(|_| was_rolled_back(error)) else {
            return Self::Broken;
        };
        let again = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        let stale = "cached plan must not change result type";
        let is_stale = || {
            let text = error.as_db_error().map(|error| error.message());
            text.is_some_and(|text| text == stale)
        };
        match code {
            code if *code == SqlState::UNIQUE_VIOLATION => Self::Exists,
            code if code.code() == KNOWN_KEY => Self::KnownKey,
            code if again.contains(code) => Self::Again,
            code if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Unavailable,
            code if *code == SqlState::FEATURE_NOT_SUPPORTED && is_stale() => Self::Stale,
            // Too little of something, an operator, the system, the server itself.
            code if ["53", "57", "58", "XX"].contains(&&code.code()[..2]) => Self::Unavailable,
            _ => Self::Statement,
        }
    }
}

/// The statement failed, the session goes on: nothing of it was committed, and nothing ever will be.
pub(super) fn was_rolled_back(error: &tokio_postgres::Error) -> bool {
    let severity = error
        .as_db_error()
        .and_then(|error| error.parsed_severity());
    severity == Some(Severity::Error)
}
