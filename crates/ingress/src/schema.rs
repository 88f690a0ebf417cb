//! The tables of the ingress, and all statements on them.
//!
//! Whoever changes what belongs to a key changes the row of the key first: it is the lock under which its deliveries are
//! numbered, claimed and ended.

use fanfare_engine::port::tables::Migration;

/// The name under which the tables are kept.
pub(crate) const APP: &str = "ingress";

/// What the tables have become, step by step.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: "
        -- One row for each key that has deliveries waiting.
        CREATE TABLE ingress_keys (
            source TEXT NOT NULL,
            work_key TEXT NOT NULL,
            last_number BIGINT NOT NULL,
            ready_at BIGINT NOT NULL,
            claim TEXT NOT NULL DEFAULT '',
            attempts BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (source, work_key)
        );
        CREATE INDEX ingress_keys_ready ON ingress_keys (source, ready_at);
        CREATE TABLE ingress_deliveries (
            source TEXT NOT NULL,
            work_key TEXT NOT NULL,
            number BIGINT NOT NULL,
            rank BIGINT NOT NULL,
            id TEXT NOT NULL,
            attributes TEXT NOT NULL,
            body BLOB NOT NULL,
            received_at BIGINT NOT NULL,
            PRIMARY KEY (source, work_key, number)
        );
        CREATE INDEX ingress_deliveries_age ON ingress_deliveries (source, received_at);
        CREATE TABLE ingress_seen (
            source TEXT NOT NULL,
            dedup TEXT NOT NULL,
            received_at BIGINT NOT NULL,
            PRIMARY KEY (source, dedup)
        );
        CREATE INDEX ingress_seen_age ON ingress_seen (received_at);
        CREATE TABLE ingress_dead (
            id TEXT PRIMARY KEY,
            source TEXT NOT NULL,
            work_key TEXT NOT NULL,
            rank BIGINT NOT NULL,
            attributes TEXT NOT NULL,
            body BLOB NOT NULL,
            received_at BIGINT NOT NULL,
            died_at BIGINT NOT NULL,
            attempts BIGINT NOT NULL,
            reason TEXT NOT NULL
        );
        CREATE INDEX ingress_dead_age ON ingress_dead (died_at, id);",
    postgres: "
        CREATE TABLE ingress_keys (
            source TEXT COLLATE \"C\" NOT NULL,
            work_key TEXT COLLATE \"C\" NOT NULL,
            last_number BIGINT NOT NULL,
            ready_at BIGINT NOT NULL,
            claim TEXT NOT NULL DEFAULT '',
            attempts BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (source, work_key)
        );
        CREATE INDEX ingress_keys_ready ON ingress_keys (source, ready_at);
        CREATE TABLE ingress_deliveries (
            source TEXT COLLATE \"C\" NOT NULL,
            work_key TEXT COLLATE \"C\" NOT NULL,
            number BIGINT NOT NULL,
            rank BIGINT NOT NULL,
            id TEXT NOT NULL,
            attributes TEXT NOT NULL,
            body BYTEA NOT NULL,
            received_at BIGINT NOT NULL,
            PRIMARY KEY (source, work_key, number)
        );
        CREATE INDEX ingress_deliveries_age ON ingress_deliveries (source, received_at);
        CREATE TABLE ingress_seen (
            source TEXT COLLATE \"C\" NOT NULL,
            dedup TEXT COLLATE \"C\" NOT NULL,
            received_at BIGINT NOT NULL,
            PRIMARY KEY (source, dedup)
        );
        CREATE INDEX ingress_seen_age ON ingress_seen (received_at);
        CREATE TABLE ingress_dead (
            id TEXT COLLATE \"C\" PRIMARY KEY,
            source TEXT COLLATE \"C\" NOT NULL,
            work_key TEXT COLLATE \"C\" NOT NULL,
            rank BIGINT NOT NULL,
            attributes TEXT NOT NULL,
            body BYTEA NOT NULL,
            received_at BIGINT NOT NULL,
            died_at BIGINT NOT NULL,
            attempts BIGINT NOT NULL,
            reason TEXT NOT NULL
        );
        CREATE INDEX ingress_dead_age ON ingress_dead (died_at, id);",
}];

// === Keep ===

/// Source, key, time. No row: it was there before.
pub(crate) const SEE: &str = "INSERT INTO ingress_seen (source, dedup, received_at)
    VALUES ($1, $2, $3) ON CONFLICT (source, dedup) DO NOTHING";

/// Source, key, time.
pub(crate) const NUMBER: &str = "INSERT INTO ingress_keys (source, work_key, last_number, ready_at)
    VALUES ($1, $2, 1, $3)
    ON CONFLICT (source, work_key) DO UPDATE SET last_number = ingress_keys.last_number + 1";

/// Source, key, rank, id, attributes, body, time.
pub(crate) const KEEP: &str = "INSERT INTO ingress_deliveries
    (source, work_key, number, rank, id, attributes, body, received_at)
    VALUES ($1, $2,
        (SELECT last_number FROM ingress_keys WHERE source = $1 AND work_key = $2),
        $3, $4, $5, $6, $7)";

// === Work ===

/// Source.
pub(crate) const READY: &str = "SELECT work_key, ready_at FROM ingress_keys
    WHERE source = $1 ORDER BY ready_at LIMIT 32";

/// Source, key, claim, until, now.
pub(crate) const CLAIM: &str = "UPDATE ingress_keys
    SET claim = $3, ready_at = $4, attempts = attempts + 1
    WHERE source = $1 AND work_key = $2 AND ready_at <= $5";

/// Source, key. The first delivery, the attempt, and up to which number it ends the deliveries.
pub(crate) const FIRST: &str =
    "SELECT d.id, d.attributes, d.body, d.received_at, d.rank, k.attempts, d.number
    FROM ingress_deliveries d
    JOIN ingress_keys k ON k.source = d.source AND k.work_key = d.work_key
    WHERE d.source = $1 AND d.work_key = $2 ORDER BY d.number LIMIT 1";

/// As [`FIRST`], of the newest delivery, which ends all.
pub(crate) const NEWEST: &str =
    "SELECT d.id, d.attributes, d.body, d.received_at, d.rank, k.attempts, k.last_number
    FROM ingress_deliveries d
    JOIN ingress_keys k ON k.source = d.source AND k.work_key = d.work_key
    WHERE d.source = $1 AND d.work_key = $2 ORDER BY d.rank DESC, d.number DESC LIMIT 1";

/// Source, key, claim, until.
pub(crate) const RENEW: &str = "UPDATE ingress_keys SET ready_at = $4
    WHERE source = $1 AND work_key = $2 AND claim = $3";

/// Source, key, claim, until: as [`RENEW`], and the next delivery's first attempt has begun.
pub(crate) const ADVANCE: &str = "UPDATE ingress_keys SET ready_at = $4, attempts = 1
    WHERE source = $1 AND work_key = $2 AND claim = $3";

/// Source, key, claim, when to go on, attempts so far.
pub(crate) const RELEASE: &str = "UPDATE ingress_keys SET ready_at = $4, claim = '', attempts = $5
    WHERE source = $1 AND work_key = $2 AND claim = $3";

/// Source, key, number.
pub(crate) const END: &str = "DELETE FROM ingress_deliveries
    WHERE source = $1 AND work_key = $2 AND number <= $3";

/// Source, key.
pub(crate) const FORGET_KEY: &str = "DELETE FROM ingress_keys WHERE source = $1 AND work_key = $2
    AND NOT EXISTS (SELECT 1 FROM ingress_deliveries WHERE source = $1 AND work_key = $2)";

// === Dead letters ===

/// Id, source, key, rank, attributes, body, received, died, attempts, reason.
pub(crate) const BURY: &str = "INSERT INTO ingress_dead
    (id, source, work_key, rank, attributes, body, received_at, died_at, attempts, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Time and id of the last one seen.
pub(crate) const DEAD: &str =
    "SELECT id, source, work_key, rank, attributes, body, received_at, died_at, attempts, reason
    FROM ingress_dead WHERE died_at > $1 OR (died_at = $1 AND id > $2)
    ORDER BY died_at, id LIMIT 100";

/// As [`DEAD`], of one source: $3.
pub(crate) const DEAD_OF: &str =
    "SELECT id, source, work_key, rank, attributes, body, received_at, died_at, attempts, reason
    FROM ingress_dead WHERE (died_at > $1 OR (died_at = $1 AND id > $2)) AND source = $3
    ORDER BY died_at, id LIMIT 100";

/// Id.
pub(crate) const DEAD_ONE: &str =
    "SELECT id, source, work_key, rank, attributes, body, received_at, died_at, attempts, reason
    FROM ingress_dead WHERE id = $1";

/// Id.
pub(crate) const RAISE: &str = "DELETE FROM ingress_dead WHERE id = $1";

// === Housekeeping ===

/// Before which time.
pub(crate) const FORGET_SEEN: &str = "DELETE FROM ingress_seen WHERE (source, dedup) IN
    (SELECT source, dedup FROM ingress_seen WHERE received_at < $1 ORDER BY received_at LIMIT 1000)
    RETURNING received_at";

/// Before which time.
pub(crate) const FORGET_DEAD: &str = "DELETE FROM ingress_dead WHERE id IN
    (SELECT id FROM ingress_dead WHERE died_at < $1 ORDER BY died_at LIMIT 1000)
    RETURNING died_at";

/// Source, how many at most. Counted no further than that.
pub(crate) const WAITING: &str = "SELECT
    (SELECT count(*) FROM (SELECT 1 FROM ingress_deliveries WHERE source = $1 LIMIT $2) AS w),
    (SELECT min(received_at) FROM ingress_deliveries WHERE source = $1),
    (SELECT count(*) FROM (SELECT 1 FROM ingress_dead WHERE source = $1 LIMIT $2) AS d)";
