//! No tables, for nodes that serve no app. SQL has no twin in memory: where tests need tables, SQLite is the twin.

use crate::port::{
    BoxFuture, Tables, TablesError, TransactError, Transacted, Transaction,
    tables::{Dialect, Migration, Row, Value},
};

/// Refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTables;

const REASON: &str = "this node keeps no tables";

impl Tables for NoTables {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn migrate(
        &self,
        _: &'static str,
        _: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>> {
        Box::pin(async { Err(TablesError::Unavailable(REASON.to_owned())) })
    }

    fn query(
        &self,
        _: &'static str,
        _: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>> {
        Box::pin(async { Err(TablesError::Unavailable(REASON.to_owned())) })
    }

    fn transact<'a>(
        &'a self,
        _: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>> {
        Box::pin(async { Err(TransactError::Unavailable(REASON.to_owned())) })
    }
}
