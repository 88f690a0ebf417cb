//! The tables: what an app keeps in the same database as the log, so that its rows and its publications commit together.

mod finish;

use bytes::Bytes;
use fanfare_wire::{Draft, Epoch, Millis};
use thiserror::Error;

use super::{BoxFuture, Committed, KEY_BYTES_MAX, Outcome};

pub use self::finish::Finish;

/// Most steps of one transaction.
pub const STEPS_MAX: usize = 64;
/// Most drafts of one transaction.
pub const DRAFTS_MAX: usize = 64;
/// Most parameters of one statement.
pub const PARAMS_MAX: usize = 100;
/// What the parameters of one transaction or query, and the drafts with them, may weigh, in bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// Most rows that one statement may return; one that returns more is refused.
pub const ROWS_MAX: usize = 10_000;
/// What the rows that one statement returns may weigh, in bytes; one that returns more is refused.
pub const ROWS_BYTES_MAX: usize = 8 << 20;

/// An app's rows, in the database of the log.
///
/// What every implementation promises, checked by `contract::tables`:
/// 1. **Together.** The steps and drafts of a [`Transaction`] commit in one database transaction or not at all, and everything
///    that the log promises of an append holds for the drafts.
/// 2. **In order.** Steps run one after the other and see what those before them did. Drafts are completed ([`Finish`]) and
///    numbered after the last step. Two transactions that change the same row happen one after the other, and the guards of the later one see what
///    the earlier one did. A guard that counts rows needs such a row: change the row of the whole first, then count.
/// 3. **Once.** If the idempotency key of a draft was committed before in its channel, nothing of the transaction is
///    committed, and the answer is [`Transacted::Before`], whatever its guards came to. So a command that is sent again has no
///    second effect and is not told that it conflicts with itself. A key that stands twice in one transaction makes the second
///    draft a duplicate of the first, as in an append.
/// 4. **No guess.** If the connection is lost during the commit, the outcome is found out; [`TransactError::Unknown`] only if
///    it cannot be.
/// 5. A node that is paused in the middle of a transaction holds locks on no more than the rows that it changed, for
///    seconds at most, and, for the one round trip that numbers and commits, on the drafts' channels.
///
/// Statements are of the common subset of SQLite and PostgreSQL, with parameters `$1`, `$2`, …; times are milliseconds in
/// `BIGINT`; whole numbers, text and bytes are all that goes in and out (`CAST` the rest). A statement changes or returns the
/// same rows on both.
pub trait Tables: Send + Sync + 'static {
    /// Which database it is, for what the common subset has no words for: full text, above all. An app that asks has to have a
    /// statement for each.
    fn dialect(&self) -> Dialect;

    /// Brings an app's tables to their newest form; each migration runs once, in order, on one node at a time. On
    /// PostgreSQL they live in a schema of the app's name, which the statements of the app find without naming it; on SQLite
    /// beside the others, so that their names begin with the app's name. Every node calls it before anything else of the app.
    fn migrate(
        &self,
        app: &'static str,
        migrations: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>>;

    /// Reads rows with a `SELECT`, as committed when the call was made or later; at most [`ROWS_MAX`] and [`ROWS_BYTES_MAX`].
    fn query(
        &self,
        sql: &'static str,
        params: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>>;

    /// Runs a transaction. If the future is dropped, it may be committed nevertheless.
    ///
    /// Apps go through [`Engine::transact`](crate::Engine::transact), which shows the publications to their subscribers.
    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>>;
}

/// The SQL that a database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, with FTS5.
    Sqlite,
    /// PostgreSQL, without extensions.
    Postgres,
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
    /// What completes them with what the steps returned.
    pub finish: Option<Finish>,
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

/// Rows as an implementation gathers them, within [`ROWS_MAX`] and [`ROWS_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    /// Adds one.
    ///
    /// # Errors
    /// If they are too many, or too large; the words say so.
    pub fn push(&mut self, row: Row) -> Result<(), String> {
        self.bytes += row.0.iter().map(Value::weight).sum::<usize>();
        if self.rows.len() == ROWS_MAX {
            return Err(format!("it returns more than {ROWS_MAX} rows"));
        }
        if self.bytes > ROWS_BYTES_MAX {
            return Err(format!("it returns more than {ROWS_BYTES_MAX} bytes"));
        }
        self.rows.push(row);
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub fn take(self) -> Vec<Row> {
        self.rows
    }
}

/// What a transaction became.
#[derive(Debug, Clone)]
pub enum Transacted {
    /// It is committed.
    Now {
        /// What each step returned.
        rows: Vec<Vec<Row>>,
        /// The drafts as they were committed, if they were completed; otherwise they are those of the transaction.
        completed: Option<Vec<Draft>>,
        /// What the drafts became, those that were added included; no outcomes if there were none.
        committed: Committed,
        /// When, by the database's clock.
        time: Millis,
    },
    /// Nothing was committed, because the key of at least one of its drafts was before.
    Before {
        /// The epoch in which the numbers below count.
        epoch: Epoch,
        /// For each draft of the transaction, the publication that had its key before; `None` for one without a key, or with a
        /// new one.
        firsts: Vec<Option<Outcome>>,
    },
}

/// Why a read was not answered.
#[derive(Debug, Clone, Error)]
pub enum TablesError {
    /// The database did not answer.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The statement is not one that can be run: a mistake in the app.
    #[error("a statement of the app cannot be run: {0}")]
    Statement(String),
    /// The app's tables are not, and cannot be made, what this version of it needs.
    #[error("the tables of the app cannot be brought up to date: {0}")]
    Schema(String),
}

/// Why a transaction was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum TransactError {
    /// Too many transactions wait on this node. Nothing was taken; try again a little later, or through another node.
    #[error("the node is busy; try again in {retry_ms} ms")]
    Busy {
        /// In how many milliseconds what waits now is likely to be gone.
        retry_ms: u32,
    },
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
    /// The drafts could not be completed: [`Finish`] refused, or did what it may not. Nothing was committed.
    #[error("the drafts of the transaction cannot be completed: {0}")]
    Finish(String),
    /// Nothing was committed, nor ever will be.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// It may have been committed.
    #[error("the outcome of the commit is not known: {0}")]
    Unknown(String),
    /// The transaction is not one that can be run: a mistake in the app, or more than the limits allow. Nothing was
    /// committed.
    #[error("a transaction of the app cannot be run: {0}")]
    Statement(String),
}

impl Transaction {
    /// Checks the limits and what both databases demand. Implementations call it before anything else.
    ///
    /// # Errors
    /// [`TransactError::Statement`] says which step, and why.
    pub fn check(&self) -> Result<(), TransactError> {
        let refused = |words: String| Err(TransactError::Statement(words));
        if self.steps.len() > STEPS_MAX {
            return refused(format!("it has more than {STEPS_MAX} steps"));
        }
        if self.drafts.len() > DRAFTS_MAX {
            return refused(format!("it has more than {DRAFTS_MAX} drafts"));
        }
        self.check_weight(&self.drafts).or_else(refused)?;
        let key = |draft: &Draft| draft.idempotency_key.as_ref().map_or(0, String::len);
        if self.drafts.iter().any(|draft| key(draft) > KEY_BYTES_MAX) {
            return refused(format!("a key is longer than {KEY_BYTES_MAX} bytes"));
        }
        for (at, step) in self.steps.iter().enumerate() {
            let checked = check_statement(step.sql, &step.params, STEP_VERBS);
            checked.or_else(|words| refused(format!("step {at}: {words} (in `{}`)", step.sql)))?;
        }
        Ok(())
    }

    /// What it weighs, in bytes: its parameters and its drafts, as far as they are known before it runs.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight_with(&self.drafts)
    }

    fn weight_with(&self, drafts: &[Draft]) -> usize {
        let params = self.steps.iter().flat_map(|step| &step.params);
        params.map(Value::weight).sum::<usize>() + drafts.iter().map(Draft::weight).sum::<usize>()
    }

    fn check_weight(&self, drafts: &[Draft]) -> Result<(), String> {
        match self.weight_with(drafts) > BYTES_MAX {
            true => Err(format!("it is larger than {BYTES_MAX} bytes")),
            false => Ok(()),
        }
    }
}

/// Checks a query as [`Transaction::check`] does the steps. Implementations call it before anything else.
///
/// # Errors
/// [`TablesError::Statement`] says why.
pub fn check_query(sql: &str, params: &[Value]) -> Result<(), TablesError> {
    let refused = |words| TablesError::Statement(format!("{words} (in `{sql}`)"));
    if params.iter().map(Value::weight).sum::<usize>() > BYTES_MAX {
        return Err(refused(format!("it is larger than {BYTES_MAX} bytes")));
    }
    check_statement(sql, params, &["SELECT"]).map_err(refused)
}

/// What a step may begin with. What begins or ends transactions is not among it.
const STEP_VERBS: &[&str] = &["INSERT", "UPDATE", "DELETE", "SELECT"];

fn check_statement(sql: &str, params: &[Value], verbs: &[&str]) -> Result<(), String> {
    let verb = sql.split_whitespace().next().unwrap_or_default();
    if !verbs.iter().any(|known| known.eq_ignore_ascii_case(verb)) {
        return Err(format!("it must begin with one of {}", verbs.join(", ")));
    }
    if params.len() > PARAMS_MAX {
        return Err(format!("it has more than {PARAMS_MAX} parameters"));
    }
    let has_nul = |value: &Value| value.as_text().is_some_and(|text| text.contains('\0'));
    match params.iter().position(has_nul) {
        Some(at) => Err(format!("parameter ${} is a text with a NUL", at + 1)),
        None => Ok(()),
    }
}

impl Step {
    /// A statement that may come to whatever it likes.
    #[must_use]
    pub fn new(sql: &'static str, params: Vec<Value>) -> Self {
        Self {
            sql,
            params,
            guard: Guard::Any,
        }
    }

    /// A statement that must change or return a row.
    #[must_use]
    pub fn some(sql: &'static str, params: Vec<Value>) -> Self {
        Self {
            guard: Guard::Some,
            ..Self::new(sql, params)
        }
    }

    /// A statement that must neither change nor return a row.
    #[must_use]
    pub fn none(sql: &'static str, params: Vec<Value>) -> Self {
        Self {
            guard: Guard::None,
            ..Self::new(sql, params)
        }
    }
}

impl Guard {
    /// Whether it holds for a statement that changed or returned so many rows.
    #[must_use]
    pub fn holds(self, rows: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Some => rows > 0,
            Self::None => rows == 0,
        }
    }
}

impl Row {
    /// The number in a column, from 0; `None` if it is none.
    #[must_use]
    pub fn int(&self, column: usize) -> Option<i64> {
        self.0.get(column)?.as_int()
    }

    /// The text in a column, from 0; `None` if it is none.
    #[must_use]
    pub fn text(&self, column: usize) -> Option<&str> {
        self.0.get(column)?.as_text()
    }
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

    /// What it weighs, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => size_of::<i64>(),
            Self::Text(value) => value.len(),
            Self::Bytes(value) => value.len(),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Bytes(value)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(steps: Vec<Step>) -> Transaction {
        Transaction {
            steps,
            ..Transaction::default()
        }
    }

    #[test]
    fn what_could_not_run_on_both_is_refused_before_it_is_sent() {
        let one = |sql, params| transaction(vec![Step::new(sql, params)]).check();
        assert!(one("  insert INTO a VALUES ($1)", vec!["x".into()]).is_ok());
        for sql in [
            "COMMIT",
            "",
            "PRAGMA x",
            "BEGIN",
            "WITH a AS (SELECT 1) SELECT 1",
        ] {
            assert!(one(sql, Vec::new()).is_err(), "{sql}");
            assert!(check_query(sql, &[]).is_err(), "{sql}");
        }
        assert!(check_query("DELETE FROM a", &[]).is_err());
        assert!(check_query("SELECT 1", &["a\0".into()]).is_err());
        assert!(one("SELECT $1", vec!["a\0".into()]).is_err());
        assert!(one("SELECT 1", vec![Value::Null; PARAMS_MAX + 1]).is_err());
        let large = Value::Bytes(vec![0; BYTES_MAX].into());
        assert!(one("SELECT $1", vec![large.clone()]).is_ok());
        assert!(one("SELECT $1, $2", vec![large.clone(), 1.into()]).is_err());
        assert!(check_query("SELECT $1, $2", &[large, 1.into()]).is_err());
        let many = |count| transaction(vec![Step::new("SELECT 1", Vec::new()); count]).check();
        assert!(many(STEPS_MAX).is_ok() && many(STEPS_MAX + 1).is_err());
    }

    #[test]
    fn guards_count() {
        let holds = |guard: Guard| (guard.holds(0), guard.holds(1));
        assert_eq!(holds(Guard::Any), (true, true));
        assert_eq!(holds(Guard::Some), (false, true));
        assert_eq!(holds(Guard::None), (true, false));
    }
}
