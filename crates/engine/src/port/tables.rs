//! The tables: what an app keeps in the same database as the log, so that its rows and its publications commit together.

use bytes::Bytes;
use fanfare_wire::{Draft, Millis};
use thiserror::Error;

use super::{BoxFuture, Committed};

/// Most steps of one transaction.
pub const STEPS_MAX: usize = 64;

/// An app's rows, in the database of the log.
///
/// What every implementation promises, checked by `contract::tables`:
/// 1. **Together.** The steps and drafts of a [`Transaction`] commit in one database transaction or not at all, and everything
///    that the log promises of an append holds for the drafts.
/// 2. **In order.** Steps run one after the other and see what those before them did. Drafts are numbered after the last
///    step. Two transactions that change the same row happen one after the other, and the guards of the later one see what
///    the earlier one did.
/// 3. **No guess.** If the connection is lost during the commit, the outcome is found out; [`TransactError::Unknown`] only if
///    it cannot be.
/// 4. A node that is paused in the middle of a transaction holds locks on no more than the rows that it changed and, for
///    the one round trip that numbers and commits, the drafts' channels.
///
/// Statements are of the common subset of SQLite and PostgreSQL, with parameters `$1`, `$2`, …; times are milliseconds in `BIGINT`.
pub trait Tables: Send + Sync + 'static {
    /// Brings an app's tables to their newest form; each migration runs once, in order, on one node at a time. On
    /// PostgreSQL they live in a schema of the app's name, which the statements of the app find without naming it; on SQLite
    /// beside the others, so that their names begin with the app's name.
    fn migrate(
        &self,
        app: &'static str,
        migrations: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>>;

    /// Reads rows, as committed when the call was made or later.
    fn query(
        &self,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>>;

    /// Runs a transaction.
    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>>;
}

/// One step of an app's schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number in the app, from 1 without holes.
    pub version: u32,
    /// Statements for SQLite.
    pub sqlite: &'static str,
    /// Statements for PostgreSQL.
    pub postgres: &'static str,
}

/// What is to be committed together.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// Statements, in order; at most [`STEPS_MAX`].
    pub steps: Vec<Step>,
    /// Publications, numbered in this order after the last step.
    pub drafts: Vec<Draft>,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Step {
    /// `INSERT`, `UPDATE`, `DELETE` (with `RETURNING` or not) or `SELECT`.
    pub sql: &'static str,
    /// Its parameters.
    pub params: Vec<Value>,
    /// What it must come to.
    pub guard: Guard,
}

/// What a statement must come to for the transaction to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Whatever.
    Any,
    /// At least one row changed or returned.
    Some,
    /// No row changed or returned.
    None,
}

/// A value of a row or a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// None.
    Null,
    /// `BIGINT`.
    Int(i64),
    /// `TEXT`; it holds no NUL.
    Text(String),
    /// `BYTEA`, `BLOB`.
    Bytes(Bytes),
}

/// One row that a statement returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Value>);

/// What a transaction became.
#[derive(Debug, Clone)]
pub struct Transacted {
    /// What each step returned.
    pub rows: Vec<Vec<Row>>,
    /// What the drafts became; `None` if there were none.
    pub committed: Option<Committed>,
    /// When, by the database's clock.
    pub time: Millis,
}

/// Why a read was not answered.
#[derive(Debug, Clone, Error)]
pub enum TablesError {
    /// The database did not answer.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database refused the statement: a mistake in the app.
    #[error("the database refuses a statement of the app: {0}")]
    Statement(String),
}

/// Why a transaction was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum TransactError {
    /// A guard did not hold; nothing was committed.
    #[error("step {step} of the transaction did not come to what it must")]
    Refused {
        /// The step, from 0.
        step: usize,
    },
    /// A row with this key is there already; nothing was committed.
    #[error("step {step} of the transaction meets a row that is there already")]
    Exists {
        /// The step, from 0.
        step: usize,
    },
    /// Nothing was committed, nor ever will be.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// It may have been committed.
    #[error("the outcome of the commit is not known: {0}")]
    Unknown(String),
    /// The database refused a statement: a mistake in the app. Nothing was committed.
    #[error("the database refuses a statement of the app: {0}")]
    Statement(String),
}

impl Value {
    /// The number, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
