-- One step of retention in one namespace: looks at the next channels after p_after by id, and removes at most about
-- p_rows publications. Runs under the trimmer's advisory lock, so nobody else removes publications.
--
-- p_age        milliseconds; older publications go. NULL: no bound.
-- p_count      all but so many of the newest go. NULL: no bound.
--
-- removed      publications removed
-- reached      where the next step begins; NULL when the namespace is done
CREATE FUNCTION fanfare.trim_step(
    p_namespace text,
    p_age bigint,
    p_count bigint,
    p_after bigint,
    p_channels int,
    p_rows int,
    OUT removed bigint,
    OUT reached bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_cutoff bigint := fanfare.now_ms() - p_age;
    v_looked int := 0;
    v_bound bigint;
    v_rows bigint;
    v_ids bigint[] := '{}';
    v_bounds bigint[] := '{}';
    v_channel record;
BEGIN
    removed := 0;
    FOR v_channel IN
        SELECT page.id, page.head, page.trimmed, oldest.time AS oldest
        FROM (
            SELECT id, head, trimmed FROM fanfare.channels
            WHERE namespace = p_namespace AND id > p_after ORDER BY id LIMIT p_channels
        ) AS page
        LEFT JOIN fanfare.publications oldest
            ON oldest.channel = page.id AND oldest.seq = page.trimmed + 1
        ORDER BY page.id
    LOOP
        v_looked := v_looked + 1;
        reached := v_channel.id;
        v_bound := greatest(v_channel.trimmed, coalesce(v_channel.head - p_count, 0));
        v_bound := least(v_bound, v_channel.trimmed + p_rows - removed);
        IF v_channel.oldest < v_cutoff THEN
            -- Time never goes back in a channel, so what is too old is at its beginning.
            SELECT greatest(v_bound, max(old.seq)) INTO v_bound
            FROM (
                SELECT seq, time FROM fanfare.publications
                WHERE channel = v_channel.id AND seq > v_channel.trimmed
                ORDER BY seq LIMIT p_rows - removed
            ) AS old
            WHERE old.time < v_cutoff;
        END IF;
        IF v_bound > v_channel.trimmed THEN
            DELETE FROM fanfare.publications
            WHERE channel = v_channel.id AND seq > v_channel.trimmed AND seq <= v_bound;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            removed := removed + v_rows;
            v_ids := v_ids || v_channel.id;
            v_bounds := v_bounds || v_bound;
        END IF;
        IF removed >= p_rows THEN
            -- There may be more in this channel.
            reached := v_channel.id - 1;
            EXIT;
        END IF;
    END LOOP;

    -- Channels are locked in the order of all writers, and only now that the slow part is over.
    IF cardinality(v_ids) > 0 THEN
        PERFORM FROM fanfare.channels WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
        UPDATE fanfare.channels SET trimmed = step.bound
        FROM unnest(v_ids, v_bounds) AS step (id, bound) WHERE channels.id = step.id;
    END IF;
    IF removed < p_rows AND v_looked < p_channels THEN
        reached := NULL;
    END IF;
END
$$;

-- Removes old idempotency keys, at most p_rows.
CREATE FUNCTION fanfare.trim_keys(p_age bigint, p_rows int) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM fanfare.idempotency_keys WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM fanfare.idempotency_keys
            WHERE time < fanfare.now_ms() - p_age ORDER BY time LIMIT p_rows
        )) RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- Removes old entries of the lane log, at most p_rows of each lane. The last entry of a lane that is in use stays: it
-- says where the lane stands.
CREATE FUNCTION fanfare.trim_lane_log(p_age bigint, p_rows int) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM fanfare.lane_log USING (
            SELECT old.lane, max(old.n) AS n
            FROM fanfare.lanes
            CROSS JOIN LATERAL (
                SELECT lane, n, time FROM fanfare.lane_log
                WHERE lane = lanes.id ORDER BY n LIMIT p_rows
            ) AS old
            WHERE old.time < fanfare.now_ms() - p_age
              AND (lanes.retired OR old.n < (SELECT max(n) FROM fanfare.lane_log WHERE lane = lanes.id))
            GROUP BY old.lane
        ) AS bound
        WHERE lane_log.lane = bound.lane AND lane_log.n <= bound.n
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- Retires lanes that have been silent for longer than p_silence milliseconds, one at a time and without waiting for
-- one that is committing, and forgets retired lanes whose log is empty. Returns how many were retired.
CREATE FUNCTION fanfare.trim_lanes(p_silence bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_retired bigint;
BEGIN
    WITH silent AS (
        SELECT id FROM fanfare.lanes
        WHERE NOT retired AND coalesce(heartbeat_at, opened_at) < fanfare.now_ms() - p_silence
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE fanfare.lanes SET retired = true FROM silent WHERE lanes.id = silent.id;
    GET DIAGNOSTICS v_retired = ROW_COUNT;
    DELETE FROM fanfare.lanes
    WHERE retired AND coalesce(heartbeat_at, opened_at) < fanfare.now_ms() - p_silence
      AND NOT EXISTS (SELECT FROM fanfare.lane_log WHERE lane_log.lane = lanes.id);
    RETURN v_retired;
END
$$;
