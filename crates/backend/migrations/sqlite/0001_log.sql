-- The log: channels, their publications, idempotency keys, and what each lane committed in its order.
-- Times are milliseconds since the Unix epoch.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- `head` is the last number given out, `trimmed` the last one removed by retention. Rows are never deleted: a channel
-- that lost its head would number from 1 again.
CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    head INTEGER NOT NULL DEFAULT 0,
    trimmed INTEGER NOT NULL DEFAULT 0,
    last_time INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX channels_namespace ON channels (namespace, id);

-- Payloads lie in the order of commit and are written at the end; only the small index is written in many places.
CREATE TABLE publications (
    pos INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    time INTEGER NOT NULL,
    data BLOB NOT NULL,
    info BLOB,
    tags BLOB,
    UNIQUE (channel, seq)
);

CREATE TABLE idempotency_keys (
    channel INTEGER NOT NULL,
    key BLOB NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (channel, key)
) WITHOUT ROWID;

CREATE INDEX idempotency_keys_time ON idempotency_keys (time);

-- Each time the log is opened is a lane. AUTOINCREMENT: no lane ever has the id of an earlier one.
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    opened_at INTEGER NOT NULL
);

-- `entries` has a line `first last name` for each channel of the batch; names have no spaces.
CREATE TABLE lane_log (
    lane INTEGER NOT NULL,
    n INTEGER NOT NULL,
    time INTEGER NOT NULL,
    entries TEXT NOT NULL,
    PRIMARY KEY (lane, n)
) WITHOUT ROWID;
