-- The tables of apps, each in a schema of its app's name, and transactions that change them and publish.

-- Which steps of the schema of each app were applied.
CREATE TABLE fanfare.app_migrations (
    app text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    sum bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, version)
);

-- The last statement of an app's transaction, before its COMMIT: what `append` does with a batch, all of it or nothing.
-- There is always an entry in the lane log, an empty one if there is nothing to number: by it the outcome of the COMMIT is
-- found if its answer is lost.
--
-- Fails with FF001 when the lane was retired, and with FF002 when the key of a draft was committed before.
CREATE FUNCTION fanfare.append_all(
    p_lane bigint,
    p_n bigint,
    p_names text[],
    p_counts int[],
    p_channels int[],
    p_ids uuid[],
    p_data bytea[],
    p_infos bytea[],
    p_tags bytea[],
    p_keys bytea[],
    OUT heads bigint[],
    OUT batch_time bigint,
    OUT key_seqs bigint[],
    OUT key_times bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_batch record;
BEGIN
    IF cardinality(p_names) = 0 THEN
        PERFORM FROM fanfare.lanes WHERE id = p_lane AND NOT retired FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'lane % was retired', p_lane USING ERRCODE = 'FF001';
        END IF;
        heads := '{}';
        batch_time := fanfare.now_ms();
        INSERT INTO fanfare.lane_log (lane, n, time, channels, firsts, lasts)
        VALUES (p_lane, p_n, batch_time, '{}', '{}', '{}');
        RETURN;
    END IF;
    SELECT * INTO v_batch FROM fanfare.append(
        p_lane, p_n, p_names, p_counts, p_channels, p_ids, p_data, p_infos, p_tags, p_keys
    );
    IF EXISTS (SELECT FROM unnest(v_batch.key_seqs) AS known (seq) WHERE seq IS NOT NULL) THEN
        RAISE EXCEPTION 'a key was committed before' USING ERRCODE = 'FF002';
    END IF;
    heads := v_batch.heads;
    batch_time := v_batch.batch_time;
END
$$;

-- Says that lanes are alive that have no words about themselves.
CREATE FUNCTION fanfare.keep_lanes(p_lanes bigint[]) RETURNS void LANGUAGE sql AS $$
    UPDATE fanfare.lanes SET heartbeat_at = fanfare.now_ms()
    FROM (
        SELECT id FROM fanfare.lanes
        WHERE id = ANY (p_lanes) AND NOT retired ORDER BY id FOR NO KEY UPDATE
    ) AS alive
    WHERE lanes.id = alive.id
$$;
