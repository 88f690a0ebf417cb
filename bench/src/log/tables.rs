//! How large the tables of the log are, and how many dead rows they carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::local::{LocalError, Postgres};
use crate::mode::servers::DATABASE;

/// What PostgreSQL knows of one table. The counts only go up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableUse {
    /// Size of the table with what is stored out of line, in bytes.
    pub(crate) table_bytes: u64,
    /// Size of its indexes, in bytes.
    pub(crate) index_bytes: u64,
    /// Rows, as far as the server has counted.
    pub(crate) live: u64,
    /// Rows that are dead and not yet removed.
    pub(crate) dead: u64,
    /// Rows inserted.
    pub(crate) inserted: u64,
    /// Rows updated.
    pub(crate) updated: u64,
    /// Of those, without a new entry in any index.
    pub(crate) hot_updated: u64,
    /// Rows deleted.
    pub(crate) deleted: u64,
    /// Times that it was vacuumed.
    pub(crate) autovacuums: u64,
}

/// All tables of the log, by name.
pub(crate) type Tables = BTreeMap<String, TableUse>;

const SQL: &str = "SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, n_tup_ins, \
                   n_tup_upd, n_tup_hot_upd, n_tup_del, autovacuum_count \
                   FROM pg_stat_user_tables WHERE schemaname = 'fanfare'";

/// Asks `postgres`.
///
/// # Errors
/// When it does not answer.
pub(super) fn read(postgres: &Postgres) -> Result<Tables, LocalError> {
    Ok(parse(&postgres.execute(DATABASE, SQL)?))
}

fn parse(rows: &str) -> Tables {
    let row = |line: &str| {
        let (name, columns) = line.trim().split_once('|')?;
        let mut columns = columns.split('|').map(|it| it.parse().unwrap_or_default());
        let mut next = || columns.next().unwrap_or_default();
        let table = TableUse {
            table_bytes: next(),
            index_bytes: next(),
            live: next(),
            dead: next(),
            inserted: next(),
            updated: next(),
            hot_updated: next(),
            deleted: next(),
            autovacuums: next(),
        };
        Some((name.to_owned(), table))
    };
    rows.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_statistics_is_read() {
        let tables = parse("channels|8192|16384|10|2|10|90|88|0|1\n\nlane_log|1|2|3|4|5|6|7|8|9\n");
        let expected = TableUse {
            table_bytes: 8_192,
            index_bytes: 16_384,
            live: 10,
            dead: 2,
            inserted: 10,
            updated: 90,
            hot_updated: 88,
            deleted: 0,
            autovacuums: 1,
        };
        assert_eq!(tables["channels"], expected);
        assert_eq!((tables.len(), tables["lane_log"].autovacuums), (2, 9));
    }
}
