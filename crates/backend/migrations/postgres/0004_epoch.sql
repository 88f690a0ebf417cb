-- The epoch follows the database: one that was restored, promoted or copied is another log. `meta` keeps beside the epoch
-- the database that it was given to; a session that finds itself elsewhere has it replaced. `origin` is the first epoch:
-- the name under which the nodes of this log meet elsewhere, whatever the epoch is.

-- Where this session is. `database` is the cluster, the database and the log in it: a dump that is restored makes another
-- one, and so does a clone. `timeline` is another one after each promotion and each recovery to a point in time; the control file
-- hears of it late, the name of the segment being written has it at once. `lsn` only grows in a timeline. The last two
-- are NULL where the server does not tell (some managed ones). Fails on a standby.
CREATE FUNCTION fanfare.identity(OUT database text, OUT timeline bigint, OUT lsn bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_log text := (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'fanfare.meta'::regclass::oid;
    v_lsn pg_lsn;
BEGIN
    database := v_log;
    BEGIN
        SELECT system_identifier || '/' || v_log INTO database FROM pg_control_system();
        v_lsn := pg_current_wal_insert_lsn();
        timeline := ('x' || left(pg_walfile_name(v_lsn), 8))::bit(32)::bigint;
        lsn := v_lsn - '0/0'::pg_lsn;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
        timeline := NULL;
        lsn := NULL;
    END;
END
$$;

-- The identity as it stands in meta.
CREATE FUNCTION fanfare.identity_text() RETURNS text LANGUAGE sql AS $$
    SELECT database || '/' || coalesce(timeline::text, '?') FROM fanfare.identity()
$$;

-- Gives the epoch of this database; p_new becomes it if there is none, if the one there is was given to another
-- database, or if it is p_lost: then the caller misses what it has seen in that epoch. Every lane is retired with it, so
-- that no node commits another batch before it has heard of the new epoch; a batch in flight is waited for.
--
-- Runs with the rights of who set up the schema, so that a node needs no right to change meta.
CREATE FUNCTION fanfare.claim_epoch(p_new text, p_lost text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_here text := fanfare.identity_text();
    v_epoch text;
    v_given_to text;
BEGIN
    -- One at a time: the others find what the first one has decided.
    LOCK TABLE fanfare.meta IN SHARE ROW EXCLUSIVE MODE;
    SELECT value INTO v_epoch FROM fanfare.meta WHERE key = 'epoch';
    SELECT value INTO v_given_to FROM fanfare.meta WHERE key = 'database';
    IF v_epoch IS NOT NULL AND v_given_to = v_here AND v_epoch IS DISTINCT FROM p_lost THEN
        RETURN v_epoch;
    END IF;
    PERFORM FROM fanfare.lanes WHERE NOT retired ORDER BY id FOR UPDATE;
    UPDATE fanfare.lanes SET retired = true WHERE NOT retired;
    INSERT INTO fanfare.meta (key, value) VALUES ('epoch', p_new), ('database', v_here)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
    INSERT INTO fanfare.meta (key, value) VALUES ('origin', p_new) ON CONFLICT (key) DO NOTHING;
    RETURN p_new;
END
$$;

-- A log from before this file keeps its epoch.
INSERT INTO fanfare.meta (key, value)
SELECT known.key, known.value
FROM fanfare.meta epoch
CROSS JOIN LATERAL (VALUES ('database', fanfare.identity_text()), ('origin', epoch.value)) AS known (key, value)
WHERE epoch.key = 'epoch';

-- Says that a lane is alive, retires those that have been silent for longer than p_silence milliseconds (without waiting
-- for one that is committing), and lists the others. A node that was stopped for so long finds itself fenced.
CREATE OR REPLACE FUNCTION fanfare.heartbeat(p_lane bigint, p_about bytea, p_silence bigint)
RETURNS TABLE (lane bigint, words bytea) LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := fanfare.now_ms();
BEGIN
    UPDATE fanfare.lanes SET about = p_about, heartbeat_at = v_now
    WHERE id = p_lane AND NOT retired;
    WITH silent AS (
        SELECT id FROM fanfare.lanes
        WHERE NOT retired AND coalesce(heartbeat_at, opened_at) < v_now - p_silence
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE fanfare.lanes SET retired = true FROM silent WHERE lanes.id = silent.id;
    RETURN QUERY
        SELECT id, about FROM fanfare.lanes
        WHERE NOT retired AND about IS NOT NULL AND heartbeat_at >= v_now - p_silence
        ORDER BY id;
END
$$;
