//! The tables of apps: what both databases demand of an app's name and of its migrations.

use fanfare_engine::port::{TablesError, tables::Migration};

/// Longest name of an app, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// Names that databases or Fanfare itself use.
const NAMES_TAKEN: [&str; 4] = ["fanfare", "public", "information_schema", "sqlite"];

const OFFSET_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01B3;

/// Checks the name of an app, and that its migrations are numbered from 1 without holes.
pub(crate) fn check(app: &str, migrations: &[Migration]) -> Result<(), TablesError> {
    let starts_well = app.starts_with(|first: char| first.is_ascii_lowercase());
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = starts_well && app.len() <= NAME_BYTES_MAX && app.bytes().all(is_plain);
    if !is_name || NAMES_TAKEN.contains(&app) || app.starts_with("pg_") {
        return Err(TablesError::Schema(format!(
            "`{app}` is not a name for an app: up to {NAME_BYTES_MAX} lower case letters, digits and underscores, from a letter on"
        )));
    }
    for (migration, expected) in migrations.iter().zip(1..) {
        if migration.version != expected {
            return Err(TablesError::Schema(format!(
                "migration {expected} of {app} has the number {}",
                migration.version
            )));
        }
        // What is checked at the commit would take back what others commit with it.
        let defers = |sql: &str| sql.to_ascii_uppercase().contains("INITIALLY DEFERRED");
        if defers(migration.sqlite) || defers(migration.postgres) {
            return Err(TablesError::Schema(format!(
                "migration {expected} of {app} has a deferred constraint; only immediate ones are served"
            )));
        }
    }
    Ok(())
}

/// Compares what was applied, version and checksum in order, with what this program knows; gives how many of the
/// migrations were. `text` is the one that counts for the database.
pub(crate) fn applied(
    app: &str,
    migrations: &[Migration],
    applied: &[(i64, i64)],
    text: impl Fn(&Migration) -> &'static str,
) -> Result<usize, TablesError> {
    if applied.len() > migrations.len() {
        return Err(TablesError::Schema(format!(
            "they were set up by a newer {app} (version {}, this one knows {}): start that one, or a newer one",
            applied.len(),
            migrations.len()
        )));
    }
    for (migration, (version, sum)) in migrations.iter().zip(applied) {
        if i64::from(migration.version) != *version || checksum(text(migration)) != *sum {
            return Err(TablesError::Schema(format!(
                "version {} of the tables of {app} is not the one of this Fanfare: they were set up by an unreleased \
                 build; use an empty database",
                migration.version
            )));
        }
    }
    Ok(applied.len())
}

/// FNV-1a of a text: tells whether a migration is the one that was applied.
pub(crate) fn checksum(text: &str) -> i64 {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    text.bytes().fold(OFFSET_BASIS, add).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(version: u32, sqlite: &'static str) -> Migration {
        Migration {
            version,
            sqlite,
            postgres: "",
        }
    }

    #[test]
    fn names_and_numbers_are_checked() {
        for app in ["watch", "a", "chat_2"] {
            assert!(
                check(app, &[migration(1, ""), migration(2, "")]).is_ok(),
                "{app}"
            );
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for app in [
            "",
            "Watch",
            "2a",
            "a-b",
            "pg_a",
            "fanfare",
            "a\"b",
            long.as_str(),
        ] {
            assert!(check(app, &[]).is_err(), "{app}");
        }
        assert!(check("a", &[migration(2, "")]).is_err());
        assert!(check("a", &[migration(1, ""), migration(3, "")]).is_err());
        let deferred = "CREATE TABLE a (b INT REFERENCES c DEFERRABLE initially deferred)";
        assert!(check("a", &[migration(1, deferred)]).is_err());
    }

    #[test]
    fn what_was_applied_must_be_what_is_known() {
        let known = [migration(1, "one"), migration(2, "two")];
        let text = |migration: &Migration| migration.sqlite;
        let count = |applied: &[(i64, i64)]| super::applied("a", &known, applied, text).ok();
        let (one, two) = ((1, checksum("one")), (2, checksum("two")));
        assert_eq!(count(&[]), Some(0));
        assert_eq!(count(&[one]), Some(1));
        assert_eq!(count(&[one, two]), Some(2));
        assert_eq!(count(&[one, two, (3, 3)]), None);
        assert_eq!(count(&[(1, two.1)]), None);
    }
}
