-- Publish from SQL: `fanfare.publish`, which an application calls inside its own transaction.
--
-- The call only queues. At commit, after all other deferred triggers, the transaction takes a lane that is free, numbers all
-- that it has queued with one call of `append`, and writes the lane's entry. So locks of channels are held for the commit
-- alone, are taken in the order of all writers, and nothing is waited for while they are held: no deadlock.

-- Lanes of this kind belong to no session and no node: each commit takes one that is free, or makes one, so there are as many
-- as were ever needed at once. Its row is locked to the commit, so that entries appear in the order of n.
ALTER TABLE fanfare.lanes ADD COLUMN of_sql boolean NOT NULL DEFAULT false;

CREATE INDEX lanes_of_sql ON fanfare.lanes (id) WHERE of_sql AND NOT retired;

-- What transactions in progress have queued. A row never outlives its transaction, so a crash may empty the table. `bytes` is the
-- sum so far. Rows with a place below 1 carry no publication, see `number_queue`.
CREATE UNLOGGED TABLE fanfare.queue (
    xact xid8 NOT NULL,
    place int NOT NULL,
    channel text COLLATE "C",
    id uuid,
    data bytea,
    info bytea,
    tags bytea,
    key bytea,
    bytes bigint,
    PRIMARY KEY (xact, place)
) WITH (
    autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.vacuum_truncate = false
);

-- Compressed once, where it stays.
ALTER TABLE fanfare.queue ALTER COLUMN data SET STORAGE EXTERNAL;

-- Whether tags are an object of strings.
CREATE FUNCTION fanfare.are_tags(p_tags jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_typeof(p_tags) = 'object'
        AND NOT EXISTS (SELECT FROM jsonb_each(p_tags) WHERE jsonb_typeof(value) <> 'string');
END
$$;

-- Whether info says who publishes: an object of `user` and `client`, which are strings, `conn_info` and `chan_info`.
CREATE FUNCTION fanfare.is_info(p_info jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_typeof(p_info) = 'object'
        AND p_info - ARRAY['user', 'client', 'conn_info', 'chan_info'] = '{}'
        AND coalesce(jsonb_typeof(p_info -> 'user'), 'string') = 'string'
        AND coalesce(jsonb_typeof(p_info -> 'client'), 'string') = 'string';
END
$$;

-- Fails, with words for the developer, if this cannot be published.
CREATE FUNCTION fanfare.check_publish(p_channel text, p_data jsonb, p_key text, p_tags jsonb, p_info jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Anything stricter fails as soon as somebody else has published in the channel since the transaction began.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'fanfare.publish needs a transaction at READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Begin it with BEGIN ISOLATION LEVEL READ COMMITTED; lock the rows that it depends on.';
    END IF;
    IF coalesce(p_channel, '') = '' OR octet_length(p_channel) > 255
        OR p_channel COLLATE "C" !~ '^[!-~]*$' OR p_channel ~ '["\\]' THEN
        RAISE EXCEPTION 'a channel name has 1 to 255 printable ASCII characters without space, quote and backslash'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF split_part(p_channel, ':', 1) = '_fanfare' THEN
        RAISE EXCEPTION 'the namespace _fanfare is the server''s own' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_data IS NULL THEN
        RAISE EXCEPTION 'data is NULL; to publish the JSON value null, give ''null''::jsonb'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF octet_length(p_key) > 128 THEN
        RAISE EXCEPTION 'an idempotency key has at most 128 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT fanfare.are_tags(p_tags) THEN
        RAISE EXCEPTION 'tags are a JSON object of strings' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT fanfare.is_info(p_info) THEN
        RAISE EXCEPTION 'info is a JSON object of the strings user and client, and of conn_info and chan_info'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- Fails if a publication is larger than allowed: 64 KiB of data, or what the row `sql_message_bytes_max` of `meta` says,
-- up to 1 MiB; 4 KiB of tags, and as much of info.
CREATE FUNCTION fanfare.check_size(p_data bytea, p_tags bytea, p_info bytea) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_max int := 65536;
BEGIN
    IF octet_length(p_data) > v_max THEN
        SELECT least(value::bigint, 1048576) INTO v_max FROM fanfare.meta WHERE key = 'sql_message_bytes_max';
        IF octet_length(p_data) > coalesce(v_max, 65536) THEN
            RAISE EXCEPTION 'data has % bytes as JSON text, more than %', octet_length(p_data), coalesce(v_max, 65536)
                USING ERRCODE = 'program_limit_exceeded';
        END IF;
    END IF;
    IF octet_length(p_tags) > 4096 OR octet_length(p_info) > 4096 THEN
        RAISE EXCEPTION 'tags and info have at most 4096 bytes each as JSON text' USING ERRCODE = 'program_limit_exceeded';
    END IF;
END
$$;

-- Queues a publication: it is committed with the transaction, or not at all, and is delivered after that.
--
-- idempotency_key  at most 128 bytes; the same one again in the same channel, within 24 hours, publishes nothing
-- tags             labels, an object of strings
-- info             who publishes, an object of user, client, conn_info, chan_info
--
-- id               of the publication, or of the first one with the key while the log has it
-- seq, epoch       the position of the first one with the key, if it is committed; else NULL: numbers are given at commit
-- duplicate        a publication with the key is there, committed or queued in this transaction
--
-- It runs with the rights of who set up the schema, and EXECUTE on it is all that an application needs.
CREATE FUNCTION fanfare.publish(
    channel text,
    data jsonb,
    idempotency_key text DEFAULT NULL,
    tags jsonb DEFAULT NULL,
    info jsonb DEFAULT NULL,
    OUT id uuid,
    OUT seq bigint,
    OUT epoch text,
    OUT duplicate boolean
) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    v_xact xid8 := pg_current_xact_id();
    v_key bytea := convert_to(nullif(idempotency_key, ''), 'UTF8');
    v_data bytea;
    v_tags bytea := convert_to(publish.tags::text, 'UTF8');
    v_info bytea := convert_to(publish.info::text, 'UTF8');
    v_last record;
    v_known record;
BEGIN
    PERFORM fanfare.check_publish(publish.channel, publish.data, idempotency_key, publish.tags, publish.info);
    v_data := convert_to(publish.data::text, 'UTF8');
    PERFORM fanfare.check_size(v_data, v_tags, v_info);

    duplicate := false;
    IF v_key IS NOT NULL THEN
        SELECT known.seq, first.id, (SELECT value FROM fanfare.meta WHERE key = 'epoch') AS epoch INTO v_known
        FROM fanfare.channels
        JOIN fanfare.idempotency_keys known ON known.channel = channels.id AND known.key = v_key
        LEFT JOIN fanfare.publications first ON first.channel = channels.id AND first.seq = known.seq
        WHERE channels.name = publish.channel;
        IF FOUND THEN
            publish.id := v_known.id;
            publish.seq := v_known.seq;
            publish.epoch := v_known.epoch;
            duplicate := true;
            RETURN;
        END IF;
        SELECT queue.id INTO publish.id FROM fanfare.queue
        WHERE queue.xact = v_xact AND queue.channel = publish.channel AND queue.key = v_key;
        IF FOUND THEN
            duplicate := true;
            RETURN;
        END IF;
    END IF;

    SELECT queue.place, queue.bytes INTO v_last FROM fanfare.queue
    WHERE queue.xact = v_xact AND queue.place > 0 ORDER BY queue.place DESC LIMIT 1;
    v_last.place := coalesce(v_last.place, 0) + 1;
    v_last.bytes := coalesce(v_last.bytes, 0)
        + octet_length(v_data) + coalesce(octet_length(v_tags), 0) + coalesce(octet_length(v_info), 0);
    IF v_last.place > 10000 OR v_last.bytes > 16777216 THEN
        RAISE EXCEPTION 'a transaction publishes at most 10000 publications and 16 MiB'
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Commit in smaller pieces.';
    END IF;
    publish.id := gen_random_uuid();
    INSERT INTO fanfare.queue (xact, place, channel, id, data, info, tags, key, bytes)
    VALUES (v_xact, v_last.place, publish.channel, publish.id, v_data, v_info, v_tags, v_key, v_last.bytes);
END
$$;

-- Numbers what the transaction has queued, in a lane that is free.
CREATE FUNCTION fanfare.commit_queue(p_xact xid8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_lane bigint;
    v_n bigint;
    v_names text[];
    v_counts int[];
    v_drafts record;
BEGIN
    -- What is delivered must be flushed, and nobody is waited for longer than by a node.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF current_setting('lock_timeout') = '0' THEN
        PERFORM set_config('lock_timeout', '5s', true);
    END IF;

    -- Never waits, so it stands outside of the order of locks. Lanes that are just being retired are passed over as well.
    SELECT id INTO v_lane FROM fanfare.lanes
    WHERE of_sql AND NOT retired ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO fanfare.lanes (node, of_sql, opened_at) VALUES ('sql', true, fanfare.now_ms())
        RETURNING id INTO v_lane;
    END IF;
    -- In a statement of its own: its snapshot has what the last holder of the lane committed.
    SELECT coalesce(max(n), 0) + 1 INTO v_n FROM fanfare.lane_log WHERE lane = v_lane;

    SELECT array_agg(name ORDER BY name), array_agg(drafts ORDER BY name) INTO v_names, v_counts
    FROM (
        SELECT channel AS name, count(*)::int AS drafts FROM fanfare.queue
        WHERE xact = p_xact AND place > 0 GROUP BY channel
    ) AS channels;
    SELECT array_agg(rank ORDER BY place) AS channels, array_agg(id ORDER BY place) AS ids,
           array_agg(data ORDER BY place) AS data, array_agg(info ORDER BY place) AS infos,
           array_agg(tags ORDER BY place) AS tags,
           CASE WHEN count(key) > 0 THEN array_agg(key ORDER BY place) END AS keys
    INTO v_drafts
    FROM (
        SELECT queue.*, dense_rank() OVER (ORDER BY channel)::int AS rank FROM fanfare.queue
        WHERE xact = p_xact AND place > 0
    ) AS drafts;
    PERFORM fanfare.append(
        v_lane, v_n, v_names, v_counts, v_drafts.channels, v_drafts.ids, v_drafts.data, v_drafts.infos,
        v_drafts.tags, v_drafts.keys
    );
    DELETE FROM fanfare.queue WHERE xact = p_xact;
END
$$;

-- Runs at commit, once for the first publication of a transaction (place 1), which asks to be called again behind all other
-- deferred triggers: those that came until then may wait for rows of the application or publish more. The row with place 0
-- is what it is called again for.
--
-- SET CONSTRAINTS … IMMEDIATE is meant for others, and takes effect on that row before the INSERT of it is over: then it waits
-- for the commit after all (place -1).
CREATE FUNCTION fanfare.number_queue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF NEW.place <> 0 THEN
        DELETE FROM fanfare.queue WHERE xact = NEW.xact AND place < 0;
        INSERT INTO fanfare.queue (xact, place) VALUES (NEW.xact, 0);
    ELSIF pg_trigger_depth() > 1 THEN
        DELETE FROM fanfare.queue WHERE xact = NEW.xact AND place = 0;
        SET CONSTRAINTS fanfare.number_queue DEFERRED;
        INSERT INTO fanfare.queue (xact, place) VALUES (NEW.xact, -1);
    ELSE
        PERFORM fanfare.commit_queue(NEW.xact);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER number_queue AFTER INSERT ON fanfare.queue
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.place <= 1) EXECUTE FUNCTION fanfare.number_queue();

-- Nothing that is queued may be committed without a number.
ALTER TABLE fanfare.queue ENABLE ALWAYS TRIGGER number_queue;

-- Says that a lane is alive, retires those that have been silent for longer than p_silence milliseconds (without waiting
-- for one that is committing), and lists the others. A node that was stopped for so long finds itself fenced. Lanes of
-- SQL belong to nobody who could be silent.
CREATE OR REPLACE FUNCTION fanfare.heartbeat(p_lane bigint, p_about bytea, p_silence bigint)
RETURNS TABLE (lane bigint, words bytea) LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := fanfare.now_ms();
BEGIN
    UPDATE fanfare.lanes SET about = p_about, heartbeat_at = v_now
    WHERE id = p_lane AND NOT retired;
    WITH silent AS (
        SELECT id FROM fanfare.lanes
        WHERE NOT retired AND NOT of_sql AND coalesce(heartbeat_at, opened_at) < v_now - p_silence
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE fanfare.lanes SET retired = true FROM silent WHERE lanes.id = silent.id;
    RETURN QUERY
        SELECT id, about FROM fanfare.lanes
        WHERE NOT retired AND about IS NOT NULL AND heartbeat_at >= v_now - p_silence
        ORDER BY id;
END
$$;

-- As it was, and besides retires lanes of SQL that were not needed for as long, all but the first: that stays, so that
-- nodes which start know that there are publications which no node announces.
CREATE OR REPLACE FUNCTION fanfare.trim_lanes(p_silence bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_before bigint := fanfare.now_ms() - p_silence;
    v_retired bigint;
BEGIN
    WITH silent AS (
        SELECT id FROM fanfare.lanes
        WHERE NOT retired AND CASE WHEN of_sql
            THEN id > (SELECT min(first.id) FROM fanfare.lanes first WHERE first.of_sql AND NOT first.retired)
                AND greatest(opened_at, (SELECT max(time) FROM fanfare.lane_log WHERE lane = lanes.id)) < v_before
            ELSE coalesce(heartbeat_at, opened_at) < v_before
        END
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE fanfare.lanes SET retired = true FROM silent WHERE lanes.id = silent.id;
    GET DIAGNOSTICS v_retired = ROW_COUNT;
    DELETE FROM fanfare.lanes
    WHERE retired AND coalesce(heartbeat_at, opened_at) < v_before
      AND NOT EXISTS (SELECT FROM fanfare.lane_log WHERE lane_log.lane = lanes.id);
    RETURN v_retired;
END
$$;

-- USAGE on the schema is now given to applications too. What runs with the rights of who set up the schema is for those
-- who are told so; the nodes' roles go on as they were.
DO $$
DECLARE
    v_role record;
BEGIN
    FOR v_role IN
        SELECT DISTINCT grantee.rolname FROM pg_class
        CROSS JOIN LATERAL aclexplode(relacl) AS given
        JOIN pg_roles grantee ON grantee.oid = given.grantee
        WHERE pg_class.oid = 'fanfare.lanes'::regclass AND given.privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION fanfare.claim_epoch(text, text) TO %I', v_role.rolname);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION fanfare.claim_epoch(text, text), fanfare.publish(text, jsonb, text, jsonb, jsonb),
    fanfare.number_queue() FROM PUBLIC;
