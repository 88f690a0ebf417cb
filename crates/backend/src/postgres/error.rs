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

/// The statement failed, the session goes on: nothing of it was committed, and nothing ever will be.
pub(super) fn was_rolled_back(error: &tokio_postgres::Error) -> bool {
    let severity = error
        .as_db_error()
        .and_then(|error| error.parsed_severity());
    severity == Some(Severity::Error)
}
