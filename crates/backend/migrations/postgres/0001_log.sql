-- The log: channels, their publications, idempotency keys, and what each lane committed in its order.
-- Times are milliseconds since the Unix epoch by this server's clock. Names and keys compare by bytes.

CREATE TABLE fanfare.meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- `head` is the last number given out, `trimmed` the last one removed by retention. Rows are never deleted: a channel
-- that lost its head would number from 1 again. Half of each page is left free, so that heads move without touching
-- the indexes.
CREATE TABLE fanfare.channels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    namespace text COLLATE "C" NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    trimmed bigint NOT NULL DEFAULT 0,
    last_time bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX channels_namespace ON fanfare.channels (namespace, id);

-- No foreign key to channels: its check would lock the channel's row once more for every publication.
CREATE TABLE fanfare.publications (
    channel bigint NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    time bigint NOT NULL,
    data bytea NOT NULL,
    info bytea,
    tags bytea,
    PRIMARY KEY (channel, seq)
);

CREATE TABLE fanfare.idempotency_keys (
    channel bigint NOT NULL,
    key bytea NOT NULL,
    seq bigint NOT NULL,
    time bigint NOT NULL,
    PRIMARY KEY (channel, key)
);

CREATE INDEX idempotency_keys_time ON fanfare.idempotency_keys (time);

-- A lane is one session of one node. Its row is the fence: a batch holds it FOR KEY SHARE to its commit, so whoever
-- takes it FOR UPDATE to retire the lane waits for the batch in flight, and every later batch fails. A heartbeat
-- changes no key, so it waits for nobody.
CREATE TABLE fanfare.lanes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node text NOT NULL,
    retired boolean NOT NULL DEFAULT false,
    about bytea,
    heartbeat_at bigint,
    opened_at bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE fanfare.lane_log (
    lane bigint NOT NULL,
    n bigint NOT NULL,
    time bigint NOT NULL,
    channels text[] COLLATE "C" NOT NULL,
    firsts bigint[] NOT NULL,
    lasts bigint[] NOT NULL,
    PRIMARY KEY (lane, n)
);

CREATE FUNCTION fanfare.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;
